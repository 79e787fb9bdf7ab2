// librdkafka's embedded cluster, for where there is no Kafka: one broker on loopback, until the standard input ends. It keeps 5 MiB per
// partition and has no admin API.
//
//   cluster TOPIC:PARTITIONS...
//
// Prints where it can be reached.
#include "common.h"
#include <librdkafka/rdkafka_mock.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words) {
    rd_kafka_t *handle = client(RD_KAFKA_PRODUCER, "", 0, (const char *[][2]){{"log_level", "0"}, {NULL, NULL}});
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(handle, 1);
    if (!cluster) fail("can't listen on loopback");
    for (int i = 1; i < count; i++) {
        char *colon = strrchr(words[i], ':');
        if (!colon) fail("TOPIC:PARTITIONS is missing its colon");
        *colon = 0;
        if (rd_kafka_mock_topic_create(cluster, words[i], atoi(colon + 1), 1)) fail("a topic can't be made");
    }
    puts(rd_kafka_mock_cluster_bootstraps(cluster));
    fflush(stdout);
    char rest[64];
    while (read(0, rest, sizeof rest) > 0) {}
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(handle);
}
