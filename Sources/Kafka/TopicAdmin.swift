internal import CRdkafka
internal import EventLoop
internal import Glibc

/// Topic administration. Every call blocks: for the command line and start-up checks.
public final class TopicAdmin {
    public struct TopicSpecification: Sendable, Equatable {
        public var name: String
        public var partitions: Int
        public var settings: [(name: String, value: String)]
        public init(_ name: String, partitions: Int, settings: [(name: String, value: String)]) {
            (self.name, self.partitions, self.settings) = (name, partitions, settings)
        }
        public static func == (left: Self, right: Self) -> Bool {
            left.name == right.name && left.partitions == right.partitions
                && left.settings.elementsEqual(right.settings) { $0.name == $1.name && $0.value == $1.value }
        }
    }

    private let handle: OpaquePointer
    private let timeout: Int32

    public init(_ settings: KafkaSettings, timeoutMilliseconds: Int = 10_000) throws(KafkaError) {
        handle = try KafkaSettings.makeHandle(RD_KAFKA_PRODUCER, try settings.makeConfiguration([]))
        timeout = Int32(timeoutMilliseconds)
    }

    deinit { rd_kafka_destroy(handle) }

    public struct Description: Sendable {
        /// Of each topic that exists.
        public var partitions: [String: Int] = [:]
        /// Of the partition that has the fewest.
        public var replicas: [String: Int] = [:]
        /// How many partitions have a leader.
        var led: [String: Int] = [:]
        public var brokers = 0
    }

    /// What there is. Throws `transport` when no broker can be reached.
    public func describe() throws(KafkaError) -> Description {
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let error = rd_kafka_metadata(handle, 1, nil, &metadata, timeout)
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else { throw KafkaError(error, "no broker answered") }
        defer { rd_kafka_metadata_destroy(metadata) }
        var found = Description(brokers: Int(metadata.pointee.broker_cnt))
        for index in 0..<Int(metadata.pointee.topic_cnt) {
            let topic = metadata.pointee.topics[index]
            guard topic.err == RD_KAFKA_RESP_ERR_NO_ERROR else { continue }
            let name = String(cString: topic.topic)
            found.partitions[name] = Int(topic.partition_cnt)
            found.replicas[name] = (0..<Int(topic.partition_cnt)).map { Int(topic.partitions[$0].replica_cnt) }.min()
            found.led[name] = (0..<Int(topic.partition_cnt)).count { topic.partitions[$0].leader >= 0 }
        }
        return found
    }

    /// The brokers that are up: id and `host:port`.
    public func brokers() throws(KafkaError) -> [(id: Int32, address: String)] {
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let error = rd_kafka_metadata(handle, 0, nil, &metadata, timeout)
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else { throw KafkaError(error, "no broker answered") }
        defer { rd_kafka_metadata_destroy(metadata) }
        return (0..<Int(metadata.pointee.broker_cnt)).map { index in
            let broker = metadata.pointee.brokers[index]
            return (broker.id, "\(String(cString: broker.host)):\(broker.port)")
        }.sorted { $0.0 < $1.0 }
    }

    /// Creates topics; one that exists is left alone. Returns an error per topic that could not be made, when the others can be used.
    public func create(_ topics: [TopicSpecification], replicationFactor: Int) throws(KafkaError) -> [String: KafkaError] {
        var reason = [CChar](repeating: 0, count: 512)
        var requests: [OpaquePointer?] = []
        defer { for request in requests { rd_kafka_NewTopic_destroy(request) } }
        for topic in topics {
            let made = rd_kafka_NewTopic_new(topic.name, Int32(topic.partitions), Int32(replicationFactor), &reason, reason.count)
            guard let made else { throw KafkaError(.invalidArgument, "topic \(topic.name): invalid name or counts") }
            for setting in topic.settings { rd_kafka_NewTopic_set_config(made, setting.name, setting.value) }
            requests.append(made)
        }
        let failures = try run(RD_KAFKA_ADMIN_OP_CREATETOPICS, "create topics") { options, queue in
            rd_kafka_CreateTopics(handle, &requests, requests.count, options, queue)
        } results: { event in
            var count = 0
            let results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count)
            return Self.failures(results, count)
        }
        awaitLeaders(topics.filter { failures[$0.name] == nil }.map { ($0.name, $0.partitions) })
        return failures.filter { $0.value.code != .topicAlreadyExists }
    }

    /// Brokers answer before they tell of new partitions, by seconds where there are thousands. Waits for that as long as for an answer; what isn't
    /// told of by then is left to whoever needs it.
    private func awaitLeaders(_ topics: [(name: String, partitions: Int)]) {
        let deadline = SystemClock.monotonicMilliseconds() + Int64(timeout)
        while SystemClock.monotonicMilliseconds() < deadline {
            let led = (try? describe().led) ?? [:]
            if topics.allSatisfy({ led[$0.name, default: 0] >= $0.partitions }) { return }
            _ = WakeUp.sleep(milliseconds: 50)
        }
    }

    /// Raises topics to `partitions`. Returns an error per topic that could not be, when the others' new partitions can be used.
    public func grow(_ topics: [String], to partitions: Int) throws(KafkaError) -> [String: KafkaError] {
        var reason = [CChar](repeating: 0, count: 512)
        var requests: [OpaquePointer?] = topics.map { rd_kafka_NewPartitions_new($0, partitions, &reason, reason.count) }
        defer { for request in requests { rd_kafka_NewPartitions_destroy(request) } }
        let failures = try run(RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, "add partitions") { options, queue in
            rd_kafka_CreatePartitions(handle, &requests, requests.count, options, queue)
        } results: { event in
            var count = 0
            let results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &count)
            return Self.failures(results, count)
        }
        awaitLeaders(topics.filter { failures[$0] == nil }.map { ($0, partitions) })
        return failures
    }

    /// The settings in force per topic.
    public func settings(of topics: [String]) throws(KafkaError) -> [String: [String: String]] {
        try settings(RD_KAFKA_RESOURCE_TOPIC, topics)
    }

    /// The settings in force of one broker.
    public func settings(ofBroker id: Int32) throws(KafkaError) -> [String: String] {
        try settings(RD_KAFKA_RESOURCE_BROKER, [String(id)])[String(id)] ?? [:]
    }

    private func settings(_ kind: rd_kafka_ResourceType_t, _ names: [String]) throws(KafkaError) -> [String: [String: String]] {
        var requests: [OpaquePointer?] = names.map { rd_kafka_ConfigResource_new(kind, $0) }
        defer { for request in requests { rd_kafka_ConfigResource_destroy(request) } }
        return try run(RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, "read settings") { options, queue in
            rd_kafka_DescribeConfigs(handle, &requests, requests.count, options, queue)
        } results: { event throws(KafkaError) in
            var count = 0
            guard let resources = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &count) else {
                return [:]
            }
            var all: [String: [String: String]] = [:]
            for index in 0..<count {
                guard let resource = resources[index] else { continue }
                let error = rd_kafka_ConfigResource_error(resource)
                guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
                    throw KafkaError(error, "settings of \(String(cString: rd_kafka_ConfigResource_name(resource)))")
                }
                var entryCount = 0
                guard let entries = rd_kafka_ConfigResource_configs(resource, &entryCount) else { continue }
                var values: [String: String] = [:]
                for entry in 0..<entryCount {
                    guard let entry = entries[entry], let value = rd_kafka_ConfigEntry_value(entry) else { continue }
                    values[String(cString: rd_kafka_ConfigEntry_name(entry))] = String(cString: value)
                }
                all[String(cString: rd_kafka_ConfigResource_name(resource))] = values
            }
            return all
        }
    }

    private func run<Result>(
        _ operation: rd_kafka_admin_op_t, _ doing: String, _ start: (OpaquePointer?, OpaquePointer?) -> Void,
        results: (OpaquePointer) throws(KafkaError) -> Result
    ) throws(KafkaError) -> Result {
        var reason = [CChar](repeating: 0, count: 512)
        let options = rd_kafka_AdminOptions_new(handle, operation)
        defer { rd_kafka_AdminOptions_destroy(options) }
        rd_kafka_AdminOptions_set_request_timeout(options, timeout, &reason, reason.count)
        if operation != RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS {
            rd_kafka_AdminOptions_set_operation_timeout(options, timeout, &reason, reason.count)
        }
        let queue = rd_kafka_queue_new(handle)
        defer { rd_kafka_queue_destroy(queue) }
        start(options, queue)
        guard let event = rd_kafka_queue_poll(queue, timeout + 1_000) else { throw KafkaError(.timedOut, "\(doing): no answer") }
        defer { rd_kafka_event_destroy(event) }
        let error = rd_kafka_event_error(event)
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw KafkaError(KafkaError.Code(rawValue: error.rawValue), "\(doing): \(String(cString: rd_kafka_event_error_string(event)))")
        }
        return try results(event)
    }

    private static func failures(_ results: UnsafeMutablePointer<OpaquePointer?>?, _ count: Int) -> [String: KafkaError] {
        var failures: [String: KafkaError] = [:]
        for index in 0..<count {
            guard let result = results?[index] else { continue }
            let error = rd_kafka_topic_result_error(result)
            guard error != RD_KAFKA_RESP_ERR_NO_ERROR else { continue }
            let text = rd_kafka_topic_result_error_string(result).map { String(cString: $0) } ?? String(cString: rd_kafka_err2str(error))
            failures[String(cString: rd_kafka_topic_result_name(result))] = KafkaError(KafkaError.Code(rawValue: error.rawValue), text)
        }
        return failures
    }
}
