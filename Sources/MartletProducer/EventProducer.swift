internal import EventLoop
internal import Kafka
internal import Martlet
private import Synchronization

/// How events are published.
public struct EventProducerConfiguration: Sendable {
    /// `host:port[,host:port]...`
    public var brokers: String
    public var topic = "martlet.events"
    /// For events that name none.
    public var source: String
    public var tenant = "default"
    /// How long a batch waits for more, in milliseconds.
    public var lingerMilliseconds = 2
    /// After that an event that isn't acknowledged fails with `timedOut`.
    public var timeoutMilliseconds = 30_000
    /// Memory for events that aren't acknowledged; publishing waits when it is full.
    public var bufferKilobytes = 65_536
    /// Any librdkafka property (SASL, TLS, ...), by its own name.
    public var kafkaProperties: [String: String] = [:]

    public init(brokers: String, source: String) { (self.brokers, self.source) = (brokers, source) }
}

/// Publishes events to Martlet's events topic: idempotent, acknowledged by all in-sync replicas, compressed, in batches.
///
/// ```swift
/// let producer = try EventProducer(EventProducerConfiguration(brokers: "localhost:9092", source: "/shop"))
/// let receipt = try await producer.publish(WebhookEvent(id: "order-1", type: "order.created", json: ["total": 42]))
/// await producer.close()
/// ```
///
/// One producer serves a whole process; all its calls may be made from any task. A task's cancellation does not withdraw an event.
public final class EventProducer: Sendable {
    private enum Request: Sendable {
        case publish([(record: OutgoingRecord, messageID: String)], CheckedContinuation<[Receipt], any Error>)
        case flush(CheckedContinuation<Void, Never>)
        case close
    }

    private let configuration: EventProducerConfiguration
    private let inbox: Inbox<Request>
    private let thread: WorkerThread
    private let isClosed = Mutex(false)

    /// Checks the settings; connects in the background.
    public init(_ configuration: EventProducerConfiguration) throws(PublishError) {
        self.configuration = configuration
        let settings = KafkaSettings(
            brokers: configuration.brokers, properties: configuration.kafkaProperties.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
        do { try settings.validate() } catch { throw PublishError(code: .configuration, message: error.message) }
        let inbox = Inbox<Request>()
        self.inbox = inbox
        thread = WorkerThread("publisher") { Self.run(settings, configuration, inbox) }
    }

    deinit { inbox.send(.close) }

    /// Returns when the brokers have acknowledged the event. Waits while the buffer is full.
    public func publish(_ event: WebhookEvent) async throws -> Receipt {
        try await publish([event])[0]
    }

    /// Publishes all, in their order, and returns when all are acknowledged. Throws the first failure, after all have ended; the other
    /// events may be written. All are checked before the first is sent.
    public func publish(_ events: [WebhookEvent]) async throws -> [Receipt] {
        guard !events.isEmpty else { return [] }
        let records = try events.map { try record(of: $0) }
        return try await withCheckedThrowingContinuation { send(.publish(records, $0)) }
    }

    /// Returns when nothing is left that isn't acknowledged or failed.
    public func flush() async { await withCheckedContinuation { send(.flush($0)) } }

    /// Flushes and ends; later events fail with `closed`. May be called more than once.
    public func close() async {
        await flush()
        let isFirst = isClosed.withLock { closed in
            defer { closed = true }
            return !closed
        }
        if isFirst { inbox.send(.close) }
    }

    private func send(_ request: Request) {
        let closed = isClosed.withLock { closed in
            if !closed { inbox.send(request) }
            return closed
        }
        guard closed else { return }
        switch request {
        case .publish(_, let continuation): continuation.resume(throwing: PublishError(code: .closed, message: "the producer is closed"))
        case .flush(let continuation): continuation.resume()
        case .close: break
        }
    }

    private func record(of given: WebhookEvent) throws(PublishError) -> (OutgoingRecord, messageID: String) {
        var event = Event(
            id: given.id, source: given.source ?? configuration.source, type: given.type, tenant: given.tenant ?? configuration.tenant,
            contentType: given.contentType, data: given.data)
        (event.time, event.subject) = (given.time, given.subject)
        (event.traceParent, event.traceState) = (given.traceParent, given.traceState)
        do { try event.validate() } catch { throw PublishError(code: .invalidEvent, message: error.description) }
        let messageID = event.messageID
        let key = (given.key ?? given.subject).map { "\(event.tenant)/\($0)" } ?? messageID
        return (
            OutgoingRecord(topic: configuration.topic, key: Array(key.utf8), value: event.data, headers: event.binaryHeaders), messageID
        )
    }

    // MARK: the thread

    private static func run(_ settings: KafkaSettings, _ configuration: EventProducerConfiguration, _ inbox: Inbox<Request>) {
        var options = Producer.Options()
        options.lingerMilliseconds = Double(configuration.lingerMilliseconds)
        options.messageTimeoutMilliseconds = configuration.timeoutMilliseconds
        options.bufferKilobytes = configuration.bufferKilobytes
        let loop = EventLoop()
        loop.watch(inbox, token: 1)
        var publisher: Publisher?
        do { publisher = Publisher(try Producer(settings, options)) } catch {
            // Settings were checked: only a lack of memory or threads is left.
            publisher = nil
        }
        if let publisher { loop.watch(publisher.producer.reportsReady, for: .readable, token: 2) }
        while true {
            loop.wait(milliseconds: 100) { _ in }
            for request in inbox.drain() {
                switch request {
                case .publish(let records, let continuation):
                    if let publisher {
                        publisher.add(Batch(records, continuation))
                    } else {
                        continuation.resume(
                            throwing: PublishError(code: .configuration, message: "no Kafka client could be made: out of threads or memory")
                        )
                    }
                case .flush(let continuation): if let publisher { publisher.flushers.append(continuation) } else { continuation.resume() }
                case .close:
                    publisher?.finish()
                    return
                }
            }
            publisher?.advance()
        }
    }
}

/// Events that were handed over in one call, and how far they are. For one thread.
private final class Batch {
    let records: [(record: OutgoingRecord, messageID: String)]
    private let continuation: CheckedContinuation<[Receipt], any Error>
    private var receipts: [Receipt?]
    private var remaining: Int
    private var failure: PublishError?

    init(_ records: [(record: OutgoingRecord, messageID: String)], _ continuation: CheckedContinuation<[Receipt], any Error>) {
        (self.records, self.continuation, remaining) = (records, continuation, records.count)
        receipts = Array(repeating: nil, count: records.count)
    }

    func ended(_ index: Int, _ result: Result<Receipt, PublishError>) {
        switch result {
        case .success(let receipt): receipts[index] = receipt
        case .failure(let error): failure = failure ?? error
        }
        remaining -= 1
        guard remaining == 0 else { return }
        if let failure { continuation.resume(throwing: failure) } else { continuation.resume(returning: receipts.compactMap(\.self)) }
    }
}

/// What the thread knows of events under way.
private final class Publisher {
    let producer: Producer
    var flushers: [CheckedContinuation<Void, Never>] = []
    private var waiting: [UInt64: (batch: Batch, index: Int)] = [:]
    /// Not in the producer's queue yet, in order.
    private var queue: [UInt64] = []
    private var next: UInt64 = 0

    init(_ producer: Producer) { self.producer = producer }

    func add(_ batch: Batch) {
        for index in batch.records.indices {
            next += 1
            waiting[next] = (batch, index)
            queue.append(next)
        }
    }

    func advance() {
        producer.drainReports { report($0) }
        var sent = 0
        while sent < queue.count, produce(queue[sent]) { sent += 1 }
        queue.removeFirst(sent)
        guard waiting.isEmpty else { return }
        for flusher in flushers { flusher.resume() }
        flushers = []
    }

    private func produce(_ token: UInt64) -> Bool {
        guard let (batch, index) = waiting[token] else { return true }
        switch producer.produce(batch.records[index].record, token: token) {
        case .queued: return true
        case .full: return false
        case .failed(let error):
            waiting[token] = nil
            batch.ended(index, .failure(PublishError(code: .refused, message: error.message)))
            return true
        }
    }

    private func report(_ report: Producer.Report) {
        guard let (batch, index) = waiting[report.token] else { return }
        // A handle that was made anew gives back what it had not sent for sure: it is sent again.
        if let error = report.error, error.code == .purged || error.code == .purgedInFlight { return queue.append(report.token) }
        waiting[report.token] = nil
        if let error = report.error {
            batch.ended(index, .failure(PublishError(code: error.isRefusedRecord ? .refused : .timedOut, message: error.message)))
        } else {
            let messageID = batch.records[index].messageID
            batch.ended(
                index,
                .success(Receipt(topic: report.at.topic, partition: report.at.partition, offset: report.offset, messageID: messageID)))
        }
    }

    /// Nobody can wait any more but those who do already.
    func finish() {
        while !waiting.isEmpty {
            advance()
            producer.drainReports(waitMilliseconds: 20) { report($0) }
        }
        advance()
    }
}
