internal import CRdkafka
internal import EventLoop
internal import Glibc

/// An idempotent producer for one thread. Reports of the brokers' answers come in batches through `drainReports`; `reportsReady` becomes
/// readable when there are some.
public final class Producer {
    public struct Options: Sendable {
        /// 0: never give up (keeps order); else a record that isn't acknowledged by then is reported as failed.
        public var messageTimeoutMilliseconds = 120_000
        public var lingerMilliseconds = 2.0
        /// To each broker: what comes meanwhile waits for the next one. 5 is the most that keeps the order.
        public var requestsInFlight = 5
        public var bufferKilobytes = 65_536
        public var bufferRecords = 100_000
        /// Values given as arrays aren't copied, but kept until the brokers have answered.
        public var keepsValues = false
        /// Nobody is woken when a report arrives: it is found at the next `drainReports`.
        public var areReportsSilent = false
        public var transactionalID: String?
        public var transactionTimeoutMilliseconds = 10_000
        public init() {}
    }

    public enum Queued: Equatable {
        case queued
        /// The local queue is full: drain reports and try again.
        case full
        case failed(KafkaError)
    }

    /// The brokers' answer for the record that was produced with `token`.
    public struct Report {
        public var token: UInt64
        public var at: TopicPartition
        /// The record's offset, when there is no error.
        public var offset: Int64
        /// The brokers' time of the append, for topics that stamp it; Unix milliseconds.
        public var appendedMilliseconds: Int64?
        public var error: KafkaError?
    }

    private let settings: KafkaSettings
    private let options: Options
    private var handle: OpaquePointer
    private var queue: OpaquePointer
    private var topics: [String: OpaquePointer] = [:]
    private let wakeUp = WakeUp()
    /// How many times a fatal error made a new handle necessary.
    public private(set) var rebuilds = 0
    private var fatal = false

    public init(_ settings: KafkaSettings, _ options: Options = Options()) throws(KafkaError) {
        self.settings = settings
        self.options = options
        (handle, queue) = try Self.open(settings, options, wakeUp)
    }

    deinit { close() }

    private static func open(
        _ settings: KafkaSettings, _ options: Options, _ wakeUp: WakeUp
    ) throws(KafkaError) -> (OpaquePointer, OpaquePointer) {
        var own: [(String, String)] = [
            ("enable.idempotence", "true"), ("acks", "all"), ("compression.type", "lz4"), ("partitioner", "murmur2_random"),
            ("linger.ms", String(options.lingerMilliseconds)), ("message.timeout.ms", String(options.messageTimeoutMilliseconds)),
            ("queue.buffering.max.kbytes", String(options.bufferKilobytes)),
            ("queue.buffering.max.messages", String(options.bufferRecords)),
            ("message.max.bytes", "4194304"), ("max.in.flight", String(options.requestsInFlight)),
        ]
        if let id = options.transactionalID {
            own += [("transactional.id", id), ("transaction.timeout.ms", String(options.transactionTimeoutMilliseconds))]
            own = own.map { $0.0 == "message.timeout.ms" ? ($0.0, String(options.transactionTimeoutMilliseconds)) : $0 }
        }
        let configuration = try settings.makeConfiguration(own)
        rd_kafka_conf_set_events(configuration, Int32(RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR))
        let handle = try KafkaSettings.makeHandle(RD_KAFKA_PRODUCER, configuration)
        let queue: OpaquePointer = rd_kafka_queue_get_main(handle)
        var one: UInt64 = 1
        if !options.areReportsSilent { rd_kafka_queue_io_event_enable(queue, wakeUp.descriptor, &one, 8) }
        return (handle, queue)
    }

    /// To be watched for readability, unless `Options.areReportsSilent`.
    public var reportsReady: Int32 { wakeUp.descriptor }

    /// Records that are not reported yet.
    public var outstanding: Int { Int(rd_kafka_outq_len(handle)) }

    /// Queues a record; never blocks. `token` comes back in its report.
    public func produce(_ record: OutgoingRecord, token: UInt64) -> Queued {
        produce(record, record.value.map { .array($0) }, record.headers.isEmpty ? nil : Self.headers(of: record), token)
    }

    /// The same with a value that lies elsewhere (a fetch buffer); it is copied before this returns. `record.value` is ignored.
    public func produce(_ record: OutgoingRecord, value: UnsafeRawBufferPointer?, token: UInt64) -> Queued {
        produce(record, value.map { .lies($0) }, record.headers.isEmpty ? nil : Self.headers(of: record), token)
    }

    /// The same of a record with nothing but a key and a value, to the key's partition.
    public func produce(topic: String, key: Span<UInt8>, value: UnsafeRawBufferPointer, token: UInt64) -> Queued {
        key.withUnsafeBytes { produce(topic, nil, $0.baseAddress, $0.count, .lies(value), nil, nil, token) }
    }

    /// Takes a record's headers one by one.
    public struct HeaderWriter {
        fileprivate let headers: OpaquePointer?
        public func add(_ name: StaticString, _ value: UnsafeRawBufferPointer) {
            rd_kafka_header_add(
                headers, UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self), name.utf8CodeUnitCount, value.baseAddress,
                value.count)
        }
    }

    /// The same with headers that `write` adds: without a string and an array for each. `record.headers` is ignored.
    public func produce(_ record: OutgoingRecord, value: UnsafeRawBufferPointer?, token: UInt64, headers write: (HeaderWriter) -> Void)
        -> Queued
    {
        produce(record, value.map { .lies($0) }, Self.headers(write), token)
    }

    /// The same of a record without an array for its key, and with a value that is kept (`keepsValues`).
    public func produce(
        topic: String, partition: Int32, key: Span<UInt8>, keeping value: [UInt8], token: UInt64, headers write: (HeaderWriter) -> Void
    ) -> Queued {
        let headers = Self.headers(write)
        return key.withUnsafeBytes { produce(topic, partition, $0.baseAddress, $0.count, .array(value), headers, nil, token) }
    }

    private static func headers(of record: OutgoingRecord) -> OpaquePointer? {
        headers { writer in
            for header in record.headers { rd_kafka_header_add(writer.headers, header.name, -1, header.value, header.value.count) }
        }
    }

    private static func headers(_ write: (HeaderWriter) -> Void) -> OpaquePointer? {
        let headers = rd_kafka_headers_new(24)
        write(HeaderWriter(headers: headers))
        return headers
    }

    private enum Value {
        case array([UInt8])
        case lies(UnsafeRawBufferPointer)
    }

    private func produce(_ record: OutgoingRecord, _ value: Value?, _ headers: OpaquePointer?, _ token: UInt64) -> Queued {
        produce(
            record.topic, record.partition, record.key, record.key?.count ?? 0, value, headers, record.timestampMilliseconds, token)
    }

    /// Takes the headers.
    private func produce(
        _ name: String, _ partition: Int32?, _ key: UnsafeRawPointer?, _ keyCount: Int, _ value: Value?, _ headers: OpaquePointer?,
        _ timestampMilliseconds: Int64?, _ token: UInt64
    ) -> Queued {
        guard !fatal, let topic = topic(name) else {
            if let headers { rd_kafka_headers_destroy(headers) }
            return fatal ? .full : .failed(KafkaError(rd_kafka_last_error(), "topic \(name)"))
        }
        var opaque = token
        var isKept = false
        if options.keepsValues {
            if case .array? = value { isKept = true }
            opaque = keep(value, token)
        }
        let result = Self.withBytes(of: value) { bytes in
            martlet_produce(
                handle, topic, partition ?? -1, key, keyCount, bytes?.baseAddress, bytes?.count ?? 0, isKept ? 1 : 0, headers,
                timestampMilliseconds ?? 0, UnsafeMutableRawPointer(bitPattern: UInt(opaque) &+ 1))
        }
        if result == RD_KAFKA_RESP_ERR_NO_ERROR { return .queued }
        if options.keepsValues { _ = letGo(opaque) }
        if let headers { rd_kafka_headers_destroy(headers) }
        if result == RD_KAFKA_RESP_ERR__QUEUE_FULL { return .full }
        if result == RD_KAFKA_RESP_ERR__FATAL {
            fatal = true
            return .full
        }
        return .failed(KafkaError(result, "produce to \(name)"))
    }

    /// An empty value isn't a tombstone: it needs an address.
    private static func withBytes<Result>(of value: Value?, _ body: (UnsafeRawBufferPointer?) -> Result) -> Result {
        func some(_ bytes: UnsafeRawBufferPointer) -> Result {
            if bytes.baseAddress != nil { return body(bytes) }
            var nothing: UInt8 = 0
            return withUnsafePointer(to: &nothing) { body(UnsafeRawBufferPointer(start: $0, count: 0)) }
        }
        switch value {
        case nil: return body(nil)
        case .array(let array)?: return array.withUnsafeBytes(some)
        case .lies(let bytes)?: return some(bytes)
        }
    }

    // MARK: kept values

    /// Until they are reported, or the handle is gone: librdkafka reads them from where they lie, which an array that nobody changes stays at.
    private var kept: [(token: UInt64, value: [UInt8]?)] = []
    private var free: [Int] = []

    private func keep(_ value: Value?, _ token: UInt64) -> UInt64 {
        var array: [UInt8]?
        if case .array(let given)? = value { array = given }
        guard let place = free.popLast() else {
            kept.append((token, array))
            return UInt64(kept.count - 1)
        }
        kept[place] = (token, array)
        return UInt64(place)
    }

    private func letGo(_ opaque: UInt64) -> UInt64 {
        let place = Int(opaque)
        kept[place].value = nil
        free.append(place)
        return kept[place].token
    }

    /// Hands over every report that has arrived. After a fatal error all that is outstanding is reported as failed and the handle is made
    /// anew: the caller produces again what was not acknowledged.
    /// `isReady`: false when `reportsReady` is known not to be readable, which saves a system call.
    public func drainReports(waitMilliseconds: Int = 0, isReady: Bool = true, _ body: (Report) -> Void) {
        if isReady, !options.areReportsSilent { wakeUp.clear() }
        var wait = Int32(clamping: waitMilliseconds)
        while let event = rd_kafka_queue_poll(queue, wait) {
            wait = 0
            deliver(event, body)
        }
        // The error event may come late, or not at all.
        var reason: CChar = 0
        if fatal || rd_kafka_fatal_error(handle, &reason, 1) != RD_KAFKA_RESP_ERR_NO_ERROR {
            // A transaction can't go on in another handle: its owner starts again.
            if options.transactionalID == nil { rebuild(body) }
        }
    }

    private func deliver(_ event: OpaquePointer, _ body: (Report) -> Void) {
        defer { rd_kafka_event_destroy(event) }
        if rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR {
            if rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__FATAL { fatal = true }
            return
        }
        while let message = rd_kafka_event_message_next(event) {
            let error = message.pointee.err
            let topic = name(of: message.pointee.rkt)
            var kind = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
            let stamp = rd_kafka_message_timestamp(message, &kind)
            let opaque = UInt64(UInt(bitPattern: message.pointee._private)) &- 1
            let at = TopicPartition(topic, message.pointee.partition)
            if options.transactionalID != nil { ends[at] = max(ends[at] ?? 0, message.pointee.offset + 1) }
            body(
                Report(
                    token: options.keepsValues ? letGo(opaque) : opaque, at: at,
                    offset: message.pointee.offset,
                    appendedMilliseconds: kind == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME && stamp > 0 ? stamp : nil,
                    error: error == RD_KAFKA_RESP_ERR_NO_ERROR ? nil : KafkaError(error, "produce to \(topic)")))
        }
    }

    /// Reports come in runs of one topic.
    private func name(of topic: OpaquePointer?) -> String {
        if let lastTopic, lastTopic.topic == topic { return lastTopic.name }
        let name = String(cString: rd_kafka_topic_name(topic))
        lastTopic = (topic, name)
        return name
    }
    private var lastTopic: (topic: OpaquePointer?, name: String)?

    private func rebuild(_ body: (Report) -> Void) {
        rd_kafka_purge(handle, Int32(RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT))
        while rd_kafka_outq_len(handle) > 0 {
            if let event = rd_kafka_queue_poll(queue, 100) { deliver(event, body) }
        }
        close()
        // The configuration was accepted once: refused now are a file that has gone (CA, key) and a lack of memory or threads. Nothing
        // unacknowledged counts as done, so ending here loses nothing.
        do { (handle, queue) = try Self.open(settings, options, wakeUp) } catch {
            fatalError("librdkafka: no new producer handle: \(error)")
        }
        isClosed = false
        fatal = false
        rebuilds += 1
    }

    /// Waits until everything is acknowledged or the time is over, and hands over the reports; true when nothing is outstanding.
    public func flush(milliseconds: Int, _ body: (Report) -> Void) -> Bool {
        let deadline = SystemClock.monotonicMilliseconds() + Int64(milliseconds)
        drainReports(body)
        while outstanding > 0, SystemClock.monotonicMilliseconds() < deadline { drainReports(waitMilliseconds: 20, body) }
        return outstanding == 0
    }

    private func topic(_ name: String) -> OpaquePointer? {
        // Most records are for the topic of the one before.
        if let latest, latest.name == name { return latest.topic }
        guard let topic = topics[name] ?? rd_kafka_topic_new(handle, name, nil) else { return nil }
        topics[name] = topic
        latest = (name, topic)
        return topic
    }
    private var latest: (name: String, topic: OpaquePointer)?

    /// For tests: what librdkafka would do after an error that it can't recover from.
    func injectFatalError() { rd_kafka_test_fatal_error(handle, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "test") }

    private var isClosed = false

    private func close() {
        guard !isClosed else { return }
        isClosed = true
        rd_kafka_queue_io_event_enable(queue, -1, nil, 0)
        for topic in topics.values { rd_kafka_topic_destroy(topic) }
        (lastTopic, latest) = (nil, nil)
        topics = [:]
        rd_kafka_queue_destroy(queue)
        rd_kafka_purge(handle, Int32(RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT))
        rd_kafka_destroy(handle)
    }

    // MARK: transactions (blocking: never on the cooperative pool or a lane)

    public func initTransactions(timeoutMilliseconds: Int = 30_000) throws(KafkaError) {
        try check(rd_kafka_init_transactions(handle, Int32(timeoutMilliseconds)), "init transactions")
    }
    public func beginTransaction() throws(KafkaError) { try check(rd_kafka_begin_transaction(handle), "begin transaction") }
    public func commitTransaction(timeoutMilliseconds: Int = 10_000) throws(KafkaError) {
        try check(rd_kafka_commit_transaction(handle, Int32(timeoutMilliseconds)), "commit transaction")
    }
    /// Waits until all that was committed can be read: a commit is answered before the brokers have marked it in every partition. False: it took
    /// too long; it can be read a little later then.
    @discardableResult
    public func waitUntilReadable(timeoutMilliseconds: Int = 10_000) -> Bool {
        TopicReader.waitUntilReadable(settings, ends, timeoutMilliseconds: timeoutMilliseconds)
    }
    /// Behind the last record of each partition that was written in transactions.
    private var ends: [TopicPartition: Int64] = [:]

    /// These offsets of a group that has no members become committed with the transaction.
    public func commitOffsets(_ offsets: [PartitionOffset], group: String, timeoutMilliseconds: Int = 10_000) throws(KafkaError) {
        let list = PartitionList.make(offsets) { $0 ?? 0 }
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let metadata = rd_kafka_consumer_group_metadata_new(group)
        defer { rd_kafka_consumer_group_metadata_destroy(metadata) }
        try check(rd_kafka_send_offsets_to_transaction(handle, list, metadata, Int32(timeoutMilliseconds)), "commit offsets of \(group)")
    }
    public func abortTransaction(timeoutMilliseconds: Int = 10_000) throws(KafkaError) {
        try check(rd_kafka_abort_transaction(handle, Int32(timeoutMilliseconds)), "abort transaction")
    }

    private func check(_ error: OpaquePointer?, _ doing: String) throws(KafkaError) {
        if let error { throw KafkaError(consuming: error, doing) }
    }
}
