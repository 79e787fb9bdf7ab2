// What the programs beside the worker share.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

// None of these programs runs for longer than this, 20 minutes unless told otherwise, whatever becomes of the one that started it.
__attribute__((constructor)) static inline void bound(void) {
    const char *text = getenv("BENCH_SECONDS_AT_MOST");
    int seconds = text ? atoi(text) : 0;
    alarm(seconds > 0 ? seconds : 1200);
}

static inline void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
    exit(1);
}

// Of `--from`.
static inline int is_end(const char *text) {
    if (strcmp(text, "end") && strcmp(text, "beginning")) fail("--from is beginning or end");
    return !strcmp(text, "end");
}

static inline double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
// Without what it has stood still.
static volatile double stood;
static inline double now_seconds(void) { return seconds_of(CLOCK_MONOTONIC) - stood; }

// Told to stand still (SIGTSTP), it does, and goes on when it is told to (SIGCONT). librdkafka's threads take no signals.
static inline void stand_still(int _) {
    double since = seconds_of(CLOCK_MONOTONIC);
    raise(SIGSTOP);
    stood += seconds_of(CLOCK_MONOTONIC) - since;
    (void)_;
}
__attribute__((constructor)) static inline void may_stand_still(void) { sigaction(SIGTSTP, &(struct sigaction){.sa_handler = stand_still, .sa_flags = SA_RESTART}, NULL); }
// Unix time.
static inline double unix_seconds(void) { return seconds_of(CLOCK_REALTIME); }

// Of a publisher: without turning round on a processor that others share, as a loop for the last microseconds would.
static inline void sleep_until(clockid_t clock, double due) {
    static int is_exact;
    if (!is_exact) is_exact = 1, prctl(PR_SET_TIMERSLACK, 1L);
    struct timespec at = {.tv_sec = (time_t)due, .tv_nsec = (long)((due - (time_t)due) * 1e9)};
    clock_nanosleep(clock, TIMER_ABSTIME, &at, NULL);
}

// `events`: what is reported through the client's queue; `pairs` end with a null.
static inline rd_kafka_t *client(rd_kafka_type_t type, const char *brokers, int events, const char *pairs[][2]) {
    char error[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, error, sizeof error)) fail(error);
    for (int i = 0; pairs[i][0]; i++)
        if (rd_kafka_conf_set(conf, pairs[i][0], pairs[i][1], error, sizeof error)) fail(error);
    if (events) rd_kafka_conf_set_events(conf, events);
    rd_kafka_t *made = rd_kafka_new(type, conf, error, sizeof error);
    if (!made) fail(error);
    return made;
}

// Fetched ahead, of all partitions together: enough for a fetch to come back in time, and no more, as what waits leaves the caches. While so much waits,
// none is fetched, and librdkafka looks again once a second, or when a broker answers something: a thread asks for a log's bounds when half has been read.
#define AHEAD_KILOBYTES 16384
#define TEXT_OF(number) #number
#define NUMBER_TEXT(number) TEXT_OF(number)
static struct { rd_kafka_t *client; const char *topic; long read; sem_t is_half_read; } ahead;

static inline void *fetch_again(void *_) {
    int64_t low, high;
    while (1) {
        while (sem_wait(&ahead.is_half_read)) {}
        rd_kafka_query_watermark_offsets(ahead.client, ahead.topic, 0, &low, &high, 200);
    }
    return _;
}

// Of each record of the last `reader` that is taken from its queue.
static inline void was_read(const rd_kafka_message_t *m) {
    if ((ahead.read += m->len + m->key_len) < AHEAD_KILOBYTES << 9) return;
    ahead.read = 0;
    sem_post(&ahead.is_half_read);
}

// Reads all partitions of a topic through one queue: from their beginnings, or what comes from now on.
static inline rd_kafka_t *reader(const char *brokers, const char *topic, int partitions, int is_from_end) {
    rd_kafka_t *made = client(RD_KAFKA_CONSUMER, brokers, 0, (const char *[][2]){
        {"group.id", "reference"}, {"enable.auto.commit", "false"}, {"auto.offset.reset", "earliest"}, {"queued.min.messages", "100000"},
        {"queued.max.messages.kbytes", NUMBER_TEXT(AHEAD_KILOBYTES)},
        {"fetch.wait.max.ms", "15"}, {"socket.nagle.disable", "true"}, {"check.crcs", "false"}, {NULL, NULL}});
    rd_kafka_poll_set_consumer(made);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int i = 0; i < partitions; i++) {
        int64_t low, high = RD_KAFKA_OFFSET_BEGINNING;
        // Asked for now: by itself it would do so once it knows the leader, when more may have come. New topics aren't known at once.
        for (int tries = 0; is_from_end && rd_kafka_query_watermark_offsets(made, topic, i, &low, &high, 5000); tries++) {
            if (tries == 100) fail("where a log ends can't be found");
            usleep(50000);
        }
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = high;
    }
    rd_kafka_assign(made, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (!ahead.client) {
        pthread_t thread;
        sem_init(&ahead.is_half_read, 0, 0);
        pthread_create(&thread, NULL, fetch_again, NULL);
    }
    ahead.client = made, ahead.topic = topic, ahead.read = 0;
    return made;
}

// Kafka's default partitioner (Java): murmur2 of the key.
static inline int partition_of(const char *key, int count) {
    int length = strlen(key);
    const unsigned m = 0x5bd1e995;
    unsigned h = 0x9747b28c ^ length;
    const unsigned char *d = (const unsigned char *)key;
    for (; length >= 4; d += 4, length -= 4) {
        unsigned k = d[0] | d[1] << 8 | d[2] << 16 | (unsigned)d[3] << 24;
        k *= m; k ^= k >> 24; k *= m;
        h *= m; h ^= k;
    }
    switch (length) {
    case 3: h ^= d[2] << 16; // fall through
    case 2: h ^= d[1] << 8; // fall through
    case 1: h ^= d[0]; h *= m;
    }
    h ^= h >> 13; h *= m; h ^= h >> 15;
    return (h & 0x7fffffff) % count;
}

static inline double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

// When a twentieth and seven tenths of them were done, as a worker is measured.
static struct { long done; double at; } marks[2];
static inline int is_mark(long done, long wanted) {
    return !marks[0].at ? done >= wanted / 20 : !marks[1].at && done >= wanted * 7 / 10;
}
static inline void mark(long done, double at) {
    int i = marks[0].at > 0;
    marks[i].done = done;
    marks[i].at = at;
}

// Not ru_maxrss, which what was there before exec counts in, too.
static inline double most_memory(void) {
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    long kilobytes = 0;
    while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &kilobytes);
    if (status) fclose(status);
    return kilobytes / 1024.0;
}

// One line of JSON, of so many deliveries: `ended` is when the last one was done, `cpu` what was used before the first; so many a second between the
// marks, if there are any; the memory is the most there was.
static inline void report(long wanted, double started, double ended, double cpu) {
    double seconds = ended - started, rate = marks[1].at ? (marks[1].done - marks[0].done) / (marks[1].at - marks[0].at) : wanted / seconds;
    printf("{\"deliveries\": %ld, \"seconds\": %.3f, \"per_second\": %.0f, \"cpu_us\": %.3f, \"rss_mb\": %.1f}\n", wanted, seconds, rate,
           (cpu_seconds() - cpu) / wanted * 1e6, most_memory());
}
