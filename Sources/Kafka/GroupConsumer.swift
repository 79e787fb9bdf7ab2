internal import CRdkafka
public import EventLoop

/// A member of a consumer group, for one thread. It subscribes; what it assigns to itself beyond the subscription is the caller's choice
/// (`assign`). Offsets are committed explicitly with metadata.
public final class GroupConsumer {
    public struct Options: Sendable {
        public var group: String
        /// Static membership.
        public var instanceID: String?
        public var sessionTimeoutMilliseconds = 45_000
        public var maxPollIntervalMilliseconds = 300_000
        /// Bytes of prefetched records, per partition.
        public var prefetchKilobytes = 16_384
        public init(group: String) { self.group = group }
    }

    public enum Event {
        case assigned([TopicPartition])
        /// `lost`: the group has already given the partitions to others; nothing may be committed.
        case revoked([TopicPartition], lost: Bool)
        /// The answer to `commit` number `id`.
        case committed(id: UInt64, error: KafkaError?)
        case failed(KafkaError)
    }

    private let owner: ConsumerHandle
    private var handle: OpaquePointer { owner.pointer }
    private let queue: OpaquePointer
    /// The numbers of partition queues that aren't empty any more, since the last look at it; `UInt32.max` of group events.
    public let ready = Inbox<UInt32>()
    private let bell: QueueBell
    private var nextCommit: UInt64 = 0
    private let prefetch: Prefetch
    private var waker: FetchWaker?
    /// Of what has been assigned so far.
    private var topics: [String: OpaquePointer] = [:]
    /// Lists whose commit is under way, by its opaque number. librdkafka answers each exactly once.
    private var commitsInFlight: Set<UInt64> = []

    public init(_ settings: KafkaSettings, _ options: Options) throws(KafkaError) {
        prefetch = Prefetch(kilobytes: options.prefetchKilobytes)
        var own: [(String, String)] = [
            ("group.id", options.group), ("enable.auto.commit", "false"), ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"), ("enable.partition.eof", "true"), ("partition.assignment.strategy", "range"),
            ("session.timeout.ms", String(options.sessionTimeoutMilliseconds)), ("heartbeat.interval.ms", "3000"),
            ("max.poll.interval.ms", String(max(options.maxPollIntervalMilliseconds, options.sessionTimeoutMilliseconds))),
            ("fetch.wait.max.ms", String(settings.fetchWaitMilliseconds)), ("queued.min.messages", String(prefetch.messages)),
            ("queued.max.messages.kbytes", String(prefetch.kilobytes)),
            // Counts compressed bytes: half of the bound brought a multiple of it. But for the first one with something, a broker gives no part of a
            // partition whose next batch is larger.
            ("max.partition.fetch.bytes", String(min(1 << 20, max(262_144, options.prefetchKilobytes << 7)))),
            ("topic.metadata.refresh.interval.ms", "30000"),
        ]
        if let id = options.instanceID { own.append(("group.instance.id", id)) }
        let configuration = try settings.makeConfiguration(own)
        rd_kafka_conf_set_events(
            configuration, Int32(RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_ERROR))
        owner = ConsumerHandle(try KafkaSettings.makeHandle(RD_KAFKA_CONSUMER, configuration))
        rd_kafka_poll_set_consumer(owner.pointer)
        queue = rd_kafka_queue_get_consumer(owner.pointer)
        bell = QueueBell(ready, .max)
        bell.hang(on: queue)
    }

    deinit {
        waker?.stop()
        for topic in topics.values { rd_kafka_topic_destroy(topic) }
        bell.remove(from: queue)
        rd_kafka_queue_destroy(queue)
    }

    /// Names that start with `^` are regular expressions.
    public func subscribe(_ topics: [String]) throws(KafkaError) {
        let list = rd_kafka_topic_partition_list_new(Int32(topics.count))
        defer { rd_kafka_topic_partition_list_destroy(list) }
        for topic in topics { rd_kafka_topic_partition_list_add(list, topic, -1) }
        let error = rd_kafka_subscribe(handle, list)
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw KafkaError(error, "subscribe") }
    }

    /// Serves the group protocol; call at every turn.
    public func poll(_ body: (Event) -> Void) {
        while let event = rd_kafka_queue_poll(queue, 0) {
            defer { rd_kafka_event_destroy(event) }
            switch rd_kafka_event_type(event) {
            case RD_KAFKA_EVENT_REBALANCE:
                let partitions = PartitionList.read(rd_kafka_event_topic_partition_list(event)).map(\.at)
                if rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
                    body(.assigned(partitions))
                } else {
                    body(.revoked(partitions, lost: rd_kafka_assignment_lost(handle) != 0))
                }
            case RD_KAFKA_EVENT_OFFSET_COMMIT:
                let error = rd_kafka_event_error(event)
                let id = UInt64(UInt(bitPattern: rd_kafka_event_opaque(event)))
                guard commitsInFlight.remove(id) != nil else { continue }
                // A list in which single partitions failed answers with the first such error.
                let partial = PartitionList.firstError(rd_kafka_event_topic_partition_list(event))
                let worst = error == RD_KAFKA_RESP_ERR_NO_ERROR ? partial : error
                body(.committed(id: id, error: worst == RD_KAFKA_RESP_ERR_NO_ERROR ? nil : KafkaError(worst, "commit")))
            case RD_KAFKA_EVENT_ERROR:
                let code = rd_kafka_event_error(event)
                var failure = KafkaError(code, String(cString: rd_kafka_event_error_string(event)))
                // A fencing comes under its own code: whether the handle is dead is asked for, not read off the event.
                var reason = [CChar](repeating: 0, count: 512)
                let fatal = rd_kafka_fatal_error(handle, &reason, reason.count)
                if fatal != RD_KAFKA_RESP_ERR_NO_ERROR {
                    failure = KafkaError(fatal, String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
                    failure.isFatal = true
                }
                body(.failed(failure))
            default: continue
            }
        }
    }

    /// Separates these partitions' queues (number = index in the list) and starts fetching. A nil offset starts at the log's beginning. Blocks
    /// when there are topics that weren't assigned before, until their leaders are known.
    public func assign(_ partitions: [PartitionOffset], numbering: (Int) -> UInt32) throws(KafkaError) -> [PartitionQueue] {
        let waker = waker ?? FetchWaker(owner)
        self.waker = waker
        learnLeaders(of: Set(partitions.map(\.at.topic)))
        let queues = partitions.enumerated().map {
            PartitionQueue(owner, $1.at, QueueBell(ready, numbering($0)), prefetch, waker)
        }
        let list = PartitionList.make(partitions) { $0 ?? Int64(RD_KAFKA_OFFSET_BEGINNING) }
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_assign(handle, list)
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw KafkaError(error, "assign") }
        return queues
    }

    /// A partition that is assigned before its leader is known waits for a second or longer: librdkafka looks every half a second whether it
    /// is, and asks for those of new topics once a second.
    private func learnLeaders(of names: Set<String>) {
        let new = names.subtracting(topics.keys).compactMap { name in rd_kafka_topic_new(handle, name, nil).map { (name, $0) } }
        guard !new.isEmpty else { return }
        var metadata: UnsafePointer<rd_kafka_metadata>?
        guard rd_kafka_metadata(handle, 0, nil, &metadata, 5_000) == RD_KAFKA_RESP_ERR_NO_ERROR else {
            // No broker answers: it goes on as said above, and asks again at the next assignment.
            for (_, topic) in new { rd_kafka_topic_destroy(topic) }
            return
        }
        rd_kafka_metadata_destroy(metadata)
        topics.merge(new) { old, _ in old }
    }

    /// The same partitions as before, from other offsets: also of those that librdkafka has given up as out of range, which a seek doesn't
    /// start again. Their queues stay.
    public func assignAgain(_ partitions: [PartitionOffset]) throws(KafkaError) {
        let list = PartitionList.make(partitions) { $0 ?? Int64(RD_KAFKA_OFFSET_BEGINNING) }
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_assign(handle, list)
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw KafkaError(error, "assign") }
    }

    /// These partitions aren't fetched until they are resumed, from these offsets then. Of no effect on those that aren't assigned.
    public func pause(_ partitions: [PartitionOffset]) {
        guard !partitions.isEmpty else { return }
        let list = PartitionList.make(partitions) { $0 ?? 0 }
        defer { rd_kafka_topic_partition_list_destroy(list) }
        rd_kafka_pause_partitions(handle, list)
        // Else it would go on behind the last record, before what the log has besides records: a transaction's marker, which retention
        // may have removed by then.
        if let error = rd_kafka_seek_partitions(handle, list, 0) { rd_kafka_error_destroy(error) }
    }

    public func resume(_ partitions: [TopicPartition]) {
        guard !partitions.isEmpty else { return }
        let list = PartitionList.make(partitions.map { PartitionOffset($0, offset: nil) }) { $0 ?? 0 }
        defer { rd_kafka_topic_partition_list_destroy(list) }
        rd_kafka_resume_partitions(handle, list)
    }

    /// Answers a revoke.
    public func unassign() { _ = rd_kafka_assign(handle, nil) }

    /// Committed offsets with metadata. Blocks up to `timeoutMilliseconds`.
    public func committed(_ partitions: [TopicPartition], timeoutMilliseconds: Int) throws(KafkaError) -> [PartitionOffset] {
        try owner.committed(partitions, timeoutMilliseconds: timeoutMilliseconds)
    }

    /// Starts a commit; the answer comes as an event with the number that this returns.
    public func commit(_ offsets: [PartitionOffset]) throws(KafkaError) -> UInt64 {
        nextCommit += 1
        let list = PartitionList.make(offsets) { $0 ?? 0 }
        defer { rd_kafka_topic_partition_list_destroy(list) }
        commitsInFlight.insert(nextCommit)
        let error = rd_kafka_commit_queue(handle, list, queue, nil, UnsafeMutableRawPointer(bitPattern: UInt(nextCommit)))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
            commitsInFlight.remove(nextCommit)
            throw KafkaError(error, "commit")
        }
        return nextCommit
    }

    /// The log's known bounds for a partition that is being fetched: first offset and next offset. nil before the first fetch.
    public func knownWatermarks(_ at: TopicPartition) -> (low: Int64, high: Int64)? {
        var (low, high): (Int64, Int64) = (-1, -1)
        guard rd_kafka_get_watermark_offsets(handle, at.topic, at.partition, &low, &high) == RD_KAFKA_RESP_ERR_NO_ERROR, high >= 0 else {
            return nil
        }
        return (low, high)
    }

    /// Asks the leader. Blocks up to `timeoutMilliseconds`.
    public func queryWatermarks(_ at: TopicPartition, timeoutMilliseconds: Int) throws(KafkaError) -> (low: Int64, high: Int64) {
        var (low, high): (Int64, Int64) = (-1, -1)
        let error = rd_kafka_query_watermark_offsets(handle, at.topic, at.partition, &low, &high, Int32(timeoutMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw KafkaError(error, "log bounds of \(at)") }
        return (low, high)
    }

    /// Starts to leave the group; go on with `poll` (answer the revoke with `unassign`) until `isClosed`.
    public func beginClose() {
        waker?.stop()
        waker = nil
        if let error = rd_kafka_consumer_close_queue(handle, queue) { rd_kafka_error_destroy(error) }
    }

    /// The group can't be left, as its brokers are gone: destroying the handle would wait for them for a whole session. It goes on by itself,
    /// and gives up after that; the process is about to end.
    public func abandon() { owner.isAbandoned = true }

    public var isClosed: Bool { rd_kafka_consumer_closed(handle) != 0 }
}
