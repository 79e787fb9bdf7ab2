internal import CRdkafka
internal import EventLoop

/// Reads partitions from chosen offsets without a group and without commits: the registry, reports, tails. For one thread.
public final class TopicReader {
    public enum Start: Sendable, Equatable { case beginning, end, offset(Int64) }
    /// When retention has removed the offset that reading should go on at: the rest is read as if nothing had been, or it is told
    /// (`PartitionEvent.outOfRange`) and reading ends there.
    public enum Loss: Sendable { case readOn, tell }

    private let owner: ConsumerHandle
    private var handle: OpaquePointer { owner.pointer }
    private let queue: OpaquePointer
    private var topics: [TopicPartition: OpaquePointer] = [:]
    private var prefetch: Prefetch
    private var waker: FetchWaker?

    /// `prefetchKilobytes`, `prefetchMessages`: fetched ahead, of all partitions together; librdkafka takes some 300 bytes more for each message.
    /// `group`: whose `committed` offsets are asked for.
    public init(
        _ settings: KafkaSettings, prefetchKilobytes: Int = 16_384, prefetchMessages: Int = 100_000, group: String = "martlet-reader",
        onLoss: Loss = .readOn
    ) throws(KafkaError) {
        prefetch = Prefetch(kilobytes: prefetchKilobytes, messages: prefetchMessages)
        let configuration = try settings.makeConfiguration([
            ("enable.partition.eof", "true"), ("auto.offset.reset", onLoss == .tell ? "error" : "earliest"),
            ("fetch.wait.max.ms", String(settings.fetchWaitMilliseconds)),
            ("queued.min.messages", String(prefetchMessages)), ("queued.max.messages.kbytes", String(prefetchKilobytes)),
            ("enable.auto.offset.store", "false"), ("group.id", group),
        ])
        rd_kafka_conf_set_events(configuration, Int32(RD_KAFKA_EVENT_ERROR))
        owner = ConsumerHandle(try KafkaSettings.makeHandle(RD_KAFKA_CONSUMER, configuration))
        queue = rd_kafka_queue_new(owner.pointer)
    }

    deinit {
        waker?.stop()
        for (at, topic) in topics { rd_kafka_consume_stop(topic, at.partition) }
        for topic in topics.values { rd_kafka_topic_destroy(topic) }
        rd_kafka_queue_destroy(queue)
    }

    public func start(_ at: TopicPartition, from start: Start) throws(KafkaError) {
        guard let topic = rd_kafka_topic_new(handle, at.topic, nil) else { throw KafkaError(rd_kafka_last_error(), "read \(at)") }
        let offset: Int64 =
            switch start {
            case .beginning: Int64(RD_KAFKA_OFFSET_BEGINNING)
            case .end: Int64(RD_KAFKA_OFFSET_END)
            case .offset(let offset): offset
            }
        guard rd_kafka_consume_start_queue(topic, at.partition, offset, queue) == 0 else {
            rd_kafka_topic_destroy(topic)
            throw KafkaError(rd_kafka_last_error(), "read \(at)")
        }
        topics[at] = topic
    }

    /// Nothing more of this partition; what was fetched is dropped.
    public func stop(_ at: TopicPartition) {
        guard let topic = topics.removeValue(forKey: at) else { return }
        rd_kafka_consume_stop(topic, at.partition)
        rd_kafka_topic_destroy(topic)
    }

    /// Waits up to `waitMilliseconds` for the next event of any started partition; nil when nothing came.
    public func next(waitMilliseconds: Int) -> (at: TopicPartition, event: PartitionEvent)? {
        var message: UnsafeMutablePointer<rd_kafka_message_t>?
        guard rd_kafka_consume_batch_queue(queue, Int32(waitMilliseconds), &message, 1) > 0, let message else { return nil }
        let topic = message.pointee.rkt.map { String(cString: rd_kafka_topic_name($0)) } ?? ""
        let at = TopicPartition(topic, message.pointee.partition)
        if prefetch.isHalfRead(messages: 1, bytes: message.pointee.len + message.pointee.key_len) { wakeFetcher() }
        return (at, PartitionEvent(consuming: message, of: owner))
    }

    private func wakeFetcher() {
        let waker = waker ?? FetchWaker(owner)
        self.waker = waker
        for at in topics.keys { waker.wake(at) }
    }

    /// First and next offset of a partition. Blocks; waits for a leader that is being elected.
    public func watermarks(_ at: TopicPartition, timeoutMilliseconds: Int = 5_000) throws(KafkaError) -> (low: Int64, high: Int64) {
        let deadline = SystemClock.monotonicMilliseconds() + Int64(timeoutMilliseconds)
        while true {
            var (low, high): (Int64, Int64) = (-1, -1)
            let error = rd_kafka_query_watermark_offsets(handle, at.topic, at.partition, &low, &high, Int32(timeoutMilliseconds))
            if error == RD_KAFKA_RESP_ERR_NO_ERROR { return (low, high) }
            let failure = KafkaError(error, "log bounds of \(at)")
            guard failure.isLeaderChange, SystemClock.monotonicMilliseconds() < deadline else { throw failure }
            _ = WakeUp.sleep(milliseconds: 50)
        }
    }

    /// Waits until all below `ends` can be read; false: the time is over. Blocks.
    static func waitUntilReadable(_ settings: KafkaSettings, _ ends: [TopicPartition: Int64], timeoutMilliseconds: Int) -> Bool {
        if ends.isEmpty { return true }
        guard let reader = try? TopicReader(settings) else { return false }
        let deadline = SystemClock.monotonicMilliseconds() + Int64(timeoutMilliseconds)
        for (at, end) in ends {
            while true {
                let left = Int(deadline - SystemClock.monotonicMilliseconds())
                guard left > 0 else { return false }
                if let high = try? reader.watermarks(at, timeoutMilliseconds: left).high, high >= end { break }
                _ = WakeUp.sleep(milliseconds: 5)
            }
        }
        return true
    }

    /// What the brokers say of one topic when it is asked for by name; nil: it is there. A topic that may not be described is left out of
    /// the list of all topics. Blocks.
    public func problem(ofTopic name: String, timeoutMilliseconds: Int = 10_000) throws(KafkaError) -> KafkaError? {
        guard let topic = rd_kafka_topic_new(handle, name, nil) else { throw KafkaError(rd_kafka_last_error(), name) }
        defer { rd_kafka_topic_destroy(topic) }
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let error = rd_kafka_metadata(handle, 0, topic, &metadata, Int32(timeoutMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else { throw KafkaError(error, "no broker answered") }
        defer { rd_kafka_metadata_destroy(metadata) }
        guard metadata.pointee.topic_cnt == 1, metadata.pointee.topics[0].err != RD_KAFKA_RESP_ERR_NO_ERROR else { return nil }
        return KafkaError(metadata.pointee.topics[0].err, name)
    }

    /// What the group has committed, with its metadata; a nil offset where it has nothing. Blocks.
    public func committed(_ partitions: [TopicPartition], timeoutMilliseconds: Int = 10_000) throws(KafkaError) -> [PartitionOffset] {
        try owner.committed(partitions, timeoutMilliseconds: timeoutMilliseconds)
    }

    /// Where each partition's first record at or after a time lies; its end where there is none. Blocks.
    public func offsets(
        _ partitions: [TopicPartition], atMilliseconds time: Int64, timeoutMilliseconds: Int = 10_000
    ) throws(KafkaError) -> [TopicPartition: Int64] {
        let list = rd_kafka_topic_partition_list_new(Int32(partitions.count))
        defer { rd_kafka_topic_partition_list_destroy(list) }
        for at in partitions { rd_kafka_topic_partition_list_add(list, at.topic, at.partition)?.pointee.offset = max(0, time) }
        let error = rd_kafka_offsets_for_times(handle, list, Int32(timeoutMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw KafkaError(error, "offsets by time") }
        var offsets: [TopicPartition: Int64] = [:]
        var knowsTimes: Bool?
        for (index, at) in partitions.enumerated() {
            let found = list?.pointee.elems[index].offset ?? -1
            let (low, high) = try watermarks(at)
            offsets[at] = found >= 0 ? min(found, high) : high
            // The embedded cluster takes every time for the end: a last record that is later shows it.
            if offsets[at] == high, high > low, knowsTimes != true {
                if knowsTimes == nil, let last = try lastTimestamp(at, low, high) { knowsTimes = last < time }
                if knowsTimes == false { offsets[at] = low }
            }
        }
        return offsets
    }

    /// nil: the last offset is no record.
    private func lastTimestamp(_ at: TopicPartition, _ low: Int64, _ high: Int64) throws(KafkaError) -> Int64? {
        var last: Int64?
        do {
            try read(at, from: high - 1, below: high) { message in
                last = message.timestampMilliseconds
                return false
            }
        } catch { throw error as? KafkaError ?? KafkaError(.timedOut, "\(error)") }
        return last
    }

    /// Reads one partition from `start` up to `end`, calling `body` for every record until it returns false. Blocks. With a transaction open
    /// below `end` it waits for that to end.
    public func read(
        _ at: TopicPartition, from start: Int64, below end: Int64, stallMilliseconds: Int = 60_000, _ body: (KafkaMessage) throws -> Bool
    ) throws {
        guard end > start else { return }
        try self.start(at, from: .offset(start))
        defer { stop(at) }
        var heard = SystemClock.monotonicMilliseconds()
        while true {
            let now = SystemClock.monotonicMilliseconds()
            guard now - heard < Int64(stallMilliseconds) else { throw KafkaError(.timedOut, "reading \(at) stalled") }
            guard let (from, event) = next(waitMilliseconds: 10) else {
                // The queue may have been filled by what isn't counted: other partitions' records, markers of transactions.
                wakeFetcher()
                continue
            }
            guard from == at else { continue }
            switch event {
            case .message(let message):
                heard = now
                guard message.offset < end, try body(message), message.offset + 1 < end else { return }
            // Transaction markers and compaction may leave nothing to read below the end.
            case .end(let offset): if offset >= end { return }
            // Retention has moved on since the bounds were asked for.
            case .outOfRange: return
            case .failed(let error): if !error.isUnreachable { throw error }
            }
        }
    }

    /// Reads `topics` from `start` to their ends as they are now, calling `body` for every record. Blocks.
    public static func scan(
        _ settings: KafkaSettings, _ partitions: [TopicPartition], stallMilliseconds: Int = 30_000, _ body: (KafkaMessage) throws -> Void
    ) throws {
        let reader = try TopicReader(settings)
        var remaining: [TopicPartition: Int64] = [:]
        for at in partitions {
            let (low, high) = try reader.watermarks(at, timeoutMilliseconds: stallMilliseconds)
            if high > low { remaining[at] = high }
        }
        for at in remaining.keys.sorted() { try reader.start(at, from: .beginning) }
        while !remaining.isEmpty {
            guard let (at, event) = reader.next(waitMilliseconds: stallMilliseconds) else {
                throw KafkaError(.timedOut, "reading \(remaining.keys.sorted().first.map(String.init(describing:)) ?? "a topic") stalled")
            }
            switch event {
            case .message(let message):
                guard let end = remaining[at] else { continue }
                if message.offset < end { try body(message) }
                if message.offset + 1 >= end { remaining[at] = nil }
            // Transaction markers and compaction may leave nothing to read below the end.
            case .end(let offset): if let end = remaining[at], offset >= end { remaining[at] = nil }
            case .outOfRange: remaining[at] = nil
            case .failed(let error): if !error.isUnreachable { throw error }
            }
        }
    }
}
