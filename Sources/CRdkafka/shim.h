#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

// rd_kafka_producev is variadic. Copies the key, and the value unless `keeps_value` says that it stays where it is until the record is
// reported; takes over `headers` (which may be NULL) on success only.
// partition < 0: the topic's partitioner decides. timestamp 0: now.
static inline rd_kafka_resp_err_t martlet_produce(rd_kafka_t *rk, rd_kafka_topic_t *topic, int32_t partition, const void *key,
                                                  size_t key_size, const void *value, size_t value_size, int keeps_value,
                                                  rd_kafka_headers_t *headers, int64_t timestamp, void *opaque) {
    return rd_kafka_producev(rk, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_MSGFLAGS(keeps_value ? 0 : RD_KAFKA_MSG_F_COPY),
                             RD_KAFKA_V_KEY((void *)key, key_size), RD_KAFKA_V_VALUE((void *)value, value_size),
                             RD_KAFKA_V_TIMESTAMP(timestamp), RD_KAFKA_V_OPAQUE(opaque),
                             headers ? RD_KAFKA_VTYPE_HEADERS : RD_KAFKA_VTYPE_END, headers, RD_KAFKA_V_END);
}
