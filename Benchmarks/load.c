// Writes what a benchmark delivers.
//
//   load deliveries --brokers B --topic T --partitions N --endpoints N --count N [--bytes N]
//        records as fan-out writes them; endpoint i is ep_i
//   load events --brokers B --topic T --types N --count N [--bytes N]
//        events e0, e1, ... of the types kind0.made, kind1.made, ...
//   load delete --brokers B --topic PREFIX
//        deletes all topics whose names begin so
//   The first two: [--rate N] [--first N] [--linger-ms N (20; with --rate 0)] [--compression TYPE (none)]
//        as fast as the brokers take them; with --rate an open loop: each at its time, whatever comes back. Prints the Unix time, in
//        seconds, that the first one was due at.
#include "common.h"

static void delete_topics(rd_kafka_t *client, const char *prefix) {
    const rd_kafka_metadata_t *all;
    if (rd_kafka_metadata(client, 1, NULL, &all, 30000)) fail("the topics can't be listed");
    rd_kafka_queue_t *answers = rd_kafka_queue_new(client);
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DELETETOPICS);
    char error[512];
    rd_kafka_AdminOptions_set_operation_timeout(options, 30000, error, sizeof error);
    for (int i = 0; i < all->topic_cnt; i++) {
        if (strncmp(all->topics[i].topic, prefix, strlen(prefix))) continue;
        rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(all->topics[i].topic);
        rd_kafka_DeleteTopics(client, &topic, 1, options, answers);
        rd_kafka_DeleteTopic_destroy(topic);
        rd_kafka_event_t *answer = rd_kafka_queue_poll(answers, 60000);
        if (!answer || rd_kafka_event_error(answer)) fail(answer ? rd_kafka_event_error_string(answer) : "a topic isn't deleted in a minute");
        size_t count;
        const rd_kafka_topic_result_t **results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(answer), &count);
        if (count && rd_kafka_topic_result_error(results[0])) fail(rd_kafka_topic_result_error_string(results[0]));
        rd_kafka_event_destroy(answer);
    }
}

static void on_report(rd_kafka_t *k, const rd_kafka_message_t *m, void *me) {
    (void)k, (void)me;
    if (m->err) fail(rd_kafka_err2str(m->err));
}

int main(int count, char **words) {
    const char *brokers = NULL, *topic = NULL;
    int partitions = 24, endpoints = 1, bytes = 1024;
    long wanted = 0, rate = 0, first = 0;
    const char *linger = NULL, *compression = "none";
    if (count < 2) fail("deliveries, events or delete?");
    int is_events = !strcmp(words[1], "events");
    for (int i = 2; i + 1 < count; i += 2) {
        char *name = words[i], *value = words[i + 1];
        if (!strcmp(name, "--brokers")) brokers = value;
        else if (!strcmp(name, "--topic")) topic = value;
        else if (!strcmp(name, "--partitions")) partitions = atoi(value);
        else if (!strcmp(name, "--endpoints") || !strcmp(name, "--types")) endpoints = atoi(value);
        else if (!strcmp(name, "--count")) wanted = atol(value);
        else if (!strcmp(name, "--bytes")) bytes = atoi(value);
        else if (!strcmp(name, "--rate")) rate = atol(value);
        else if (!strcmp(name, "--first")) first = atol(value);
        else if (!strcmp(name, "--linger-ms")) linger = value;
        else if (!strcmp(name, "--compression")) compression = value;
        else fail("unknown argument; see the top of load.c");
    }
    int is_delete = !strcmp(words[1], "delete");
    if (!brokers || !topic || (!wanted && !is_delete)) fail("arguments are missing; see the top of load.c");
    char error[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, NULL, 0);
    if (!linger) linger = rate ? "0" : "20";
    if (rd_kafka_conf_set(conf, "linger.ms", linger, error, sizeof error)) fail(error);
    if (rd_kafka_conf_set(conf, "compression.type", compression, error, sizeof error)) fail(error);
    rd_kafka_conf_set(conf, "queue.buffering.max.messages", "200000", NULL, 0);
    rd_kafka_conf_set(conf, "socket.nagle.disable", "true", NULL, 0);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (!producer) fail(error);
    if (is_delete) return delete_topics(producer, topic), 0;
    // The first produce to a cold topic waits for metadata.
    const rd_kafka_metadata_t *metadata;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(producer, topic, NULL);
    if (!rd_kafka_metadata(producer, 0, handle, &metadata, 10000)) rd_kafka_metadata_destroy(metadata);
    char *text = malloc(bytes + 1), *body = malloc(bytes + 1024);
    memset(text, 'x', bytes);
    text[bytes] = 0;
    double start = unix_seconds() + (rate ? 0.2 : 0);
    printf("%.6f\n", start), fflush(stdout);
    for (long n = 0; n < wanted; n++) {
        if (rate) {
            double due = start + (double)n / rate;
            if (due > unix_seconds()) sleep_until(CLOCK_REALTIME, due);
        }
        long number = first + n;
        rd_kafka_resp_err_t result;
        do {
            if (is_events) {
                int size = snprintf(body, bytes + 1024,
                    "{\"specversion\":\"1.0\",\"id\":\"e%ld\",\"source\":\"/bench\",\"type\":\"kind%ld.made\",\"datacontenttype\":\"application/json\",\"data\":{\"number\":%ld,\"text\":\"%.*s\"}}",
                    number, number % endpoints, number, bytes > 180 ? bytes - 180 : 0, text);
                result = rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_VALUE(body, size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                    RD_KAFKA_V_HEADER("content-type", "application/cloudevents+json", -1), RD_KAFKA_V_END);
            } else {
                char endpoint[32], id[40], due[24], event[24], origin[64];
                sprintf(endpoint, "ep_%ld", number % endpoints);
                sprintf(id, "dlv_%026ld", number);
                sprintf(due, "%.0f", unix_seconds() * 1e3);
                sprintf(event, "e%ld", number);
                sprintf(origin, "martlet.events/%ld/%ld", number % 24, number / 24);
                int size = snprintf(body, bytes + 1024, "{\"type\":\"bench.made\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"data\":{\"number\":%ld,\"text\":\"%.*s\"}}", number,
                    bytes > 100 ? bytes - 100 : 0, text);
                result = rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition_of(endpoint, partitions)),
                    RD_KAFKA_V_KEY(endpoint, strlen(endpoint)), RD_KAFKA_V_VALUE(body, size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                    RD_KAFKA_V_HEADER("martlet-delivery-id", id, -1), RD_KAFKA_V_HEADER("martlet-endpoint-id", endpoint, -1),
                    RD_KAFKA_V_HEADER("martlet-attempt", "0", -1), RD_KAFKA_V_HEADER("martlet-due-ms", due, -1),
                    RD_KAFKA_V_HEADER("martlet-first-ms", due, -1), RD_KAFKA_V_HEADER("martlet-age-from-ms", due, -1),
                    RD_KAFKA_V_HEADER("martlet-origin", origin, -1), RD_KAFKA_V_HEADER("martlet-registry-offset", "0", -1),
                    RD_KAFKA_V_HEADER("martlet-rewrites", "0", -1), RD_KAFKA_V_HEADER("ce_specversion", "1.0", -1),
                    RD_KAFKA_V_HEADER("ce_id", event, -1), RD_KAFKA_V_HEADER("ce_source", "/bench", -1), RD_KAFKA_V_HEADER("ce_type", "bench.made", -1),
                    RD_KAFKA_V_HEADER("ce_tenant", "default", -1), RD_KAFKA_V_HEADER("content-type", "application/json", -1), RD_KAFKA_V_END);
            }
            rd_kafka_poll(producer, result == RD_KAFKA_RESP_ERR__QUEUE_FULL ? 50 : 0);
        } while (result == RD_KAFKA_RESP_ERR__QUEUE_FULL);
        if (result) fail(rd_kafka_err2str(result));
    }
    if (rd_kafka_flush(producer, 60000)) fail("not all was written in a minute");
    return 0;
}
