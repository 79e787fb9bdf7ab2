internal import CRdkafka

/// librdkafka's mock cluster: one broker in this process that any client on this machine can reach. For trials and fast tests: it keeps
/// 5 MiB or 100,000 batches per partition and drops the oldest, has no compaction, no admin API and no isolation of transactions.
public final class EmbeddedCluster: @unchecked Sendable {
    private let handle: OpaquePointer
    private let cluster: OpaquePointer

    /// Topics must exist before a client asks for them: an unknown one springs up with 4 partitions.
    public init(topics: [(name: String, partitions: Int)]) throws(KafkaError) {
        let configuration: OpaquePointer = rd_kafka_conf_new()
        // This handle only carries the cluster: that it has no brokers itself is no news.
        rd_kafka_conf_set(configuration, "log_level", "0", nil, 0)
        handle = try KafkaSettings.makeHandle(RD_KAFKA_PRODUCER, configuration)
        guard let made = rd_kafka_mock_cluster_new(handle, 1) else {
            rd_kafka_destroy(handle)
            throw KafkaError(.configuration, "the embedded cluster can't listen on loopback")
        }
        cluster = made
        for topic in topics { rd_kafka_mock_topic_create(cluster, topic.name, Int32(topic.partitions), 1) }
    }

    deinit {
        rd_kafka_mock_cluster_destroy(cluster)
        rd_kafka_destroy(handle)
    }

    public var brokers: String { String(cString: rd_kafka_mock_cluster_bootstraps(cluster)) }

    public var settings: KafkaSettings {
        var settings = KafkaSettings(brokers: brokers)
        settings.fetchWaitMilliseconds = 10
        return settings
    }

    /// Takes the broker away or brings it back.
    public func setReachable(_ reachable: Bool) {
        if reachable { rd_kafka_mock_broker_set_up(cluster, 1) } else { rd_kafka_mock_broker_set_down(cluster, 1) }
    }
}
