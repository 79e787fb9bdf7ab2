// The floor under the latency of an open loop: the same two hops through Kafka, and nothing else. Every record is published at its time, whatever
// comes back, read and written again (idempotent, as it is), and read again; its latency counts from when it should have been published.
//
//   hops --brokers B --first TOPIC --second TOPIC --rate N --seconds N [--bytes N] [--partitions N] [--linger-ms N]
//        The publisher waits so long (0) for a request to fill, the copier for none, through two producers, as fan-out does. The first five seconds
//        aren't counted: clients ask for ids and leaders then.
//
// Prints {"p50_ms": ..., "p99_ms": ..., "p999_ms": ...}. What is in the topics before isn't read; they have that many partitions.
#include "common.h"
#include <pthread.h>

#define WARMING_SECONDS 5

static const char *brokers, *first, *second, *linger = "0";
static rd_kafka_t *events;
static long rate, seconds, partitions = 24, bytes = 1024;

static rd_kafka_t *producer(const char *linger_ms, const char *in_flight) {
    return client(RD_KAFKA_PRODUCER, brokers, 0, (const char *[][2]){
        {"enable.idempotence", "true"}, {"linger.ms", linger_ms}, {"max.in.flight", in_flight}, {"socket.nagle.disable", "true"}, {NULL, NULL}});
}

// Like the worker's publishers: to any partition for events, to the endpoint's for deliveries.
static void produce(rd_kafka_t *to, const char *topic, int32_t partition, const void *value, size_t size) {
    while (1) {
        rd_kafka_resp_err_t error = rd_kafka_producev(to, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_VALUE((void *)value, size),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        rd_kafka_poll(to, error ? 10 : 0);
        if (!error) return;
        if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL) fail(rd_kafka_err2str(error));
    }
}

static rd_kafka_message_t *next(rd_kafka_t *from) {
    for (int tries = 0; tries < 300; tries++) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(from, 100);
        if (!m) continue;
        if (!m->err) return m;
        rd_kafka_message_destroy(m);
    }
    fail("nothing comes any more");
    return NULL;
}

static void *publish(void *_) {
    (void)_;
    rd_kafka_t *to = producer(linger, "5");
    char *value = malloc(bytes);
    memset(value, 'x', bytes);
    double start = now_seconds() + 1;
    for (long n = 0; n < rate * seconds; n++) {
        double due = start + (double)n / rate;
        if (due > now_seconds()) sleep_until(CLOCK_MONOTONIC, due);
        memcpy(value, &due, sizeof due);
        produce(to, first, RD_KAFKA_PARTITION_UA, value, bytes);
    }
    rd_kafka_flush(to, 10000);
    return NULL;
}

static void *forward(void *_) {
    (void)_;
    rd_kafka_t *to[] = {producer("0", "2"), producer("0", "2")};
    for (long n = 0; n < rate * seconds; n++) {
        rd_kafka_message_t *m = next(events);
        produce(to[n % partitions % 2], second, n % partitions, m->payload, m->len);
        rd_kafka_message_destroy(m);
    }
    for (int i = 0; i < 2; i++) rd_kafka_flush(to[i], 10000);
    return NULL;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int count, char **words) {
    for (int i = 1; i + 1 < count; i += 2) {
        char *name = words[i], *value = words[i + 1];
        if (!strcmp(name, "--brokers")) brokers = value;
        else if (!strcmp(name, "--first")) first = value;
        else if (!strcmp(name, "--second")) second = value;
        else if (!strcmp(name, "--rate")) rate = atol(value);
        else if (!strcmp(name, "--seconds")) seconds = atol(value);
        else if (!strcmp(name, "--bytes")) bytes = atol(value);
        else if (!strcmp(name, "--partitions")) partitions = atol(value);
        else if (!strcmp(name, "--linger-ms")) linger = value;
        else fail("unknown argument; see the top of hops.c");
    }
    if (!brokers || !first || !second || rate < 1 || seconds <= WARMING_SECONDS || bytes < 8 || partitions < 1) fail("arguments are missing; see the top of hops.c");
    pthread_t threads[2];
    events = reader(brokers, first, partitions, 1);
    rd_kafka_t *from = reader(brokers, second, partitions, 1);
    pthread_create(&threads[0], NULL, forward, NULL);
    pthread_create(&threads[1], NULL, publish, NULL);
    long all = rate * seconds, taken = 0;
    double *took = malloc(all * sizeof *took), begun = 0;
    for (long n = 0; n < all; n++) {
        rd_kafka_message_t *m = next(from);
        double due;
        memcpy(&due, m->payload, sizeof due);
        rd_kafka_message_destroy(m);
        if (!begun) begun = due;
        if (due > begun + WARMING_SECONDS) took[taken++] = now_seconds() - due;
    }
    qsort(took, taken, sizeof *took, compare);
    printf("{\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f}\n", took[taken / 2] * 1e3, took[taken * 99 / 100] * 1e3, took[taken * 999 / 1000] * 1e3);
    // The clients' ends aren't waited for.
    fflush(stdout);
    _exit(0);
}
