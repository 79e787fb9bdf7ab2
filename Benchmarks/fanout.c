// What fan-out costs at least: its work in C, on one thread, as tight as it goes. Consumes all partitions of the events through one queue,
// composes each body once, and writes a delivery with its ids and headers for each endpoint. No registry, no checks of an event beyond where its
// parts lie, no commits: a yardstick, not a worker.
//
//   fanout --brokers B --events T --deliveries T --count N [--partitions N] [--each N] [--from beginning|end] [--producers N]
//          Events as `load events` writes them; one of type kindK.made is for endpoint ep_K, with --each for ep_0, ep_1, ... so many.
//          --count: of deliveries. --producers: connections that share the partitions, with fewer requests under way each and without waiting for
//          these to fill; one takes the least CPU, two as the worker's are where latency is measured.
//
// Prints one line of JSON: deliveries, seconds from the first to the last, so many a second (from a twentieth of them until seven
// tenths are acknowledged), CPU in microseconds per delivery, the most memory.
#include "common.h"
#include <openssl/sha.h>

#define MOST_ENDPOINTS 1000

static const char *brokers, *events, *deliveries;
static int partitions = 24, each, is_from_end;
static long wanted;

struct text {
    const char *bytes;
    size_t size;
};

// What follows `name` up to a quote.
static struct text member(const char *json, size_t size, const char *name) {
    const char *at = memmem(json, size, name, strlen(name));
    if (!at) fail("an event that isn't expected");
    at += strlen(name);
    const char *end = memchr(at, '"', json + size - at);
    if (!end) fail("an event that isn't expected");
    return (struct text){at, end - at};
}

// `kind` and 26 characters of the hash of both, each behind its length.
static void identify(char *out, const char *kind, struct text first, struct text second) {
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char code[32];
    SHA256_CTX c;
    SHA256_Init(&c);
    for (int i = 0; i < 2; i++) {
        struct text t = i ? second : first;
        unsigned char length[4] = {t.size >> 24, t.size >> 16, t.size >> 8, t.size};
        SHA256_Update(&c, length, 4);
        SHA256_Update(&c, t.bytes, t.size);
    }
    SHA256_Final(code, &c);
    memcpy(out, kind, 4);
    unsigned bits = 0;
    int have = 0, at = 4;
    for (int i = 0; i < 16; i++) {
        bits = bits << 8 | code[i];
        for (have += 8; have >= 5; have -= 5) out[at++] = digits[bits >> (have - 5) & 31];
    }
    out[at++] = digits[bits << (5 - have) & 31];
}

static int written_at(char *out, long milliseconds) {
    static time_t second;
    static char text[32];
    static int size;
    if (milliseconds / 1000 != second) {
        struct tm t;
        second = milliseconds / 1000;
        size = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", gmtime_r(&second, &t));
    }
    memcpy(out, text, size);
    return size + sprintf(out + size, ".%03ldZ", milliseconds % 1000);
}

#define MOST_PRODUCERS 8
static rd_kafka_t *producers[MOST_PRODUCERS];
static rd_kafka_queue_t *written[MOST_PRODUCERS];
static int producers_count = 1;
static long made, acknowledged;

// `wait`: for a millisecond, where there is none.
static void reports(int wait) {
    for (int i = 0; i < producers_count; i++)
        for (rd_kafka_event_t *e; (e = rd_kafka_queue_poll(written[i], 0)); rd_kafka_event_destroy(e), wait = 0)
            if (rd_kafka_event_type(e) == RD_KAFKA_EVENT_DR) acknowledged += rd_kafka_event_message_count(e);
    if (wait) usleep(1000);
    if (is_mark(acknowledged, wanted)) mark(acknowledged, now_seconds());
}

static void fan_out(rd_kafka_message_t *m) {
    static char endpoints[MOST_ENDPOINTS][16];
    static int partition[MOST_ENDPOINTS];
    static char body[2 << 20];
    const char *json = m->payload;
    struct text id = member(json, m->len, "\"id\":\""), source = member(json, m->len, "\"source\":\""), type = member(json, m->len, "\"type\":\"");
    const char *data = memmem(json, m->len, "\"data\":", 7);
    if (!data || type.size < 10 || m->len > sizeof body / 2) fail("an event that isn't expected");
    data += 7;
    char message[32], delivery[32], time_[32], number[24], origin[128];
    int time_size = written_at(time_, rd_kafka_message_timestamp(m, NULL)), number_size = sprintf(number, "%ld", (long)rd_kafka_message_timestamp(m, NULL));
    int origin_size = sprintf(origin, "%s/%d/%ld", events, m->partition, (long)m->offset);
    char *p = body;
#define BYTES(b, n) (memcpy(p, b, n), p += n)
#define TEXT(s) BYTES(s, sizeof s - 1)
    TEXT("{\"type\":\"");
    BYTES(type.bytes, type.size);
    TEXT("\",\"timestamp\":\"");
    BYTES(time_, time_size);
    TEXT("\",\"data\":");
    // Up to the event's last brace, which is the body's.
    BYTES(data, json + m->len - data);
    size_t body_size = p - body;
    identify(message, "msg_", source, id);
    int first = each ? 0 : atoi(type.bytes + 4), last = each ? each - 1 : first;
    if (last >= MOST_ENDPOINTS) fail("an event that isn't expected");
    for (int i = first; i <= last; i++) {
        char *endpoint = endpoints[i];
        if (!*endpoint) sprintf(endpoint, "ep_%d", i), partition[i] = partition_of(endpoint, partitions);
        struct text key = {endpoint, strlen(endpoint)};
        identify(delivery, "dlv_", (struct text){message, 30}, key);
        rd_kafka_headers_t *headers = rd_kafka_headers_new(16);
#define HEADER(name, value, size) rd_kafka_header_add(headers, name, sizeof name - 1, value, size)
        HEADER("martlet-delivery-id", delivery, 30);
        HEADER("martlet-endpoint-id", key.bytes, key.size);
        HEADER("martlet-attempt", "0", 1);
        HEADER("martlet-due-ms", number, number_size);
        HEADER("martlet-first-ms", number, number_size);
        HEADER("martlet-age-from-ms", number, number_size);
        HEADER("martlet-origin", origin, origin_size);
        HEADER("martlet-registry-offset", "0", 1);
        HEADER("martlet-rewrites", "0", 1);
        HEADER("ce_specversion", "1.0", 3);
        HEADER("ce_id", id.bytes, id.size);
        HEADER("ce_source", source.bytes, source.size);
        HEADER("ce_type", type.bytes, type.size);
        HEADER("ce_tenant", "default", 7);
        HEADER("content-type", "application/json", 16);
        for (rd_kafka_resp_err_t error; (error = rd_kafka_producev(producers[partition[i] % producers_count], RD_KAFKA_V_TOPIC(deliveries), RD_KAFKA_V_PARTITION(partition[i]), RD_KAFKA_V_KEY(key.bytes, key.size),
                 RD_KAFKA_V_VALUE(body, body_size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END)); reports(1))
            if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL) fail(rd_kafka_err2str(error));
        made++;
    }
}

int main(int count, char **words) {
    for (int i = 1; i + 1 < count; i += 2) {
        char *name = words[i], *value = words[i + 1];
        if (!strcmp(name, "--brokers")) brokers = value;
        else if (!strcmp(name, "--events")) events = value;
        else if (!strcmp(name, "--deliveries")) deliveries = value;
        else if (!strcmp(name, "--count")) wanted = atol(value);
        else if (!strcmp(name, "--partitions")) partitions = atoi(value);
        else if (!strcmp(name, "--each")) each = atoi(value);
        else if (!strcmp(name, "--producers")) producers_count = atoi(value);
        else if (!strcmp(name, "--from")) is_from_end = is_end(value);
        else fail("unknown argument; see the top of fanout.c");
    }
    if (!brokers || !events || !deliveries || wanted < 1 || each < 0 || each > MOST_ENDPOINTS || producers_count < 1 || producers_count > MOST_PRODUCERS) fail("arguments are missing; see the top of fanout.c");
    rd_kafka_t *consumer = reader(brokers, events, partitions, is_from_end);
    for (int i = 0; i < producers_count; i++) {
        producers[i] = client(RD_KAFKA_PRODUCER, brokers, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR, (const char *[][2]){
            {"enable.idempotence", "true"}, {"linger.ms", producers_count > 1 ? "0" : "0.3"}, {"max.in.flight", producers_count > 1 ? "2" : "5"}, {"compression.type", "lz4"},
            {"queue.buffering.max.messages", "10000"}, {"socket.nagle.disable", "true"}, {NULL, NULL}});
        written[i] = rd_kafka_queue_get_main(producers[i]);
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);

    static rd_kafka_message_t *batch[256];
    double started = 0, cpu = 0;
    while (made < wanted) {
        // What is there, and else the next one: a batch that is waited for would wait until it is full.
        int have = rd_kafka_consume_batch_queue(queue, 0, batch, 256);
        if (have <= 0 && (batch[0] = rd_kafka_consume_queue(queue, 100))) have = 1;
        for (int i = 0; i < have; i++) {
            if (!batch[i]->err) {
                if (!started) started = now_seconds(), cpu = cpu_seconds();
                was_read(batch[i]);
                fan_out(batch[i]);
            }
            rd_kafka_message_destroy(batch[i]);
        }
        reports(0);
    }
    while (acknowledged < made) reports(1);
    report(made, started, now_seconds(), cpu);
    fflush(stdout);
    _exit(0);
}
