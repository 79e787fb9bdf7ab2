// What the programs beside the worker share.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
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

static inline double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
static inline double now_seconds(void) { return seconds_of(CLOCK_MONOTONIC); }
// Unix time.
static inline double unix_seconds(void) { return seconds_of(CLOCK_REALTIME); }

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
