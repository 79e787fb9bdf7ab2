internal import EventLoop
internal import Kafka

/// Writes what belongs together in transactions of bounded size, under a fixed transactional id: whoever opens one fences an earlier writer
/// of that id and ends what it left open. For jobs; blocks.
final class TransactionalWriter {
    /// Of one transaction.
    static let unitLimit = 500
    static let byteLimit = 8 << 20
    /// Least room that is kept for one more unit: a record's largest value.
    private static let unitBytes = 2 << 20

    private let producer: Producer
    /// nil: as fast as it goes.
    private let rate: JobRate?
    /// When the next batch may go, monotonic: what wasn't used isn't saved up.
    private var nextMilliseconds: Int64 = 0
    private var batch: [OutgoingRecord] = []
    private var units = 0
    private var bytes = 0
    /// Units that the brokers have taken.
    private(set) var done = 0

    init(_ kafka: KafkaSettings, transactionalID: String, rate: JobRate?) throws(KafkaError) {
        self.rate = rate
        var options = Producer.Options()
        options.transactionalID = transactionalID
        var quiet = kafka
        // Being fenced by another job is part of the protocol; it is told as the error that ends this one.
        quiet.log = { _, _ in }
        producer = try Producer(quiet, options)
        try producer.initTransactions()
    }

    /// Records that are written together or not at all. `bytes`: about their size.
    func add(_ unit: [OutgoingRecord], bytes size: Int) {
        batch += unit
        units += 1
        bytes += size
    }

    /// Whether it is time to commit, with so much more.
    func isFull(units more: Int = 0, bytes moreBytes: Int = 0) -> Bool {
        let (units, bytes) = (units + more, bytes + moreBytes)
        return units >= min(Self.unitLimit, rate?.batch ?? .max) || bytes >= Self.byteLimit - Self.unitBytes
    }

    /// What was added in one transaction, with `offsets` of `group`, if there are any.
    func commit(offsets: [PartitionOffset] = [], group: String = "") throws {
        guard !batch.isEmpty || !offsets.isEmpty else { return }
        waitForTurn(units: units)
        nextMilliseconds += rate.map { Int64(units) * $0.perMilliseconds / Int64($0.count) } ?? 0
        try producer.beginTransaction()
        do {
            for record in batch { try queue(record) }
            if !offsets.isEmpty { try producer.commitOffsets(offsets, group: group) }
            var refused: KafkaError?
            let isFlushed = producer.flush(milliseconds: 9_000) { refused = $0.error ?? refused }
            if let refused { throw refused }
            guard isFlushed else { throw KafkaError(.timedOut, "the brokers did not acknowledge a batch in time") }
            try producer.commitTransaction()
        } catch let error as KafkaError {
            try? producer.abortTransaction()
            guard error.isFenced else { throw error }
            throw KafkaError(
                error.code,
                "another job took over, or a transaction took longer than 10 s: \(done) done, nothing half done; run it again",
                isFatal: true)
        }
        done += units
        batch.removeAll(keepingCapacity: true)
        (units, bytes) = (0, 0)
    }

    private func queue(_ record: OutgoingRecord) throws {
        while true {
            switch producer.produce(record, token: 0) {
            case .queued: return
            case .failed(let error): throw error
            case .full:
                var refused: KafkaError?
                producer.drainReports(waitMilliseconds: 50) { refused = $0.error ?? refused }
                if let refused { throw refused }
            }
        }
    }

    /// Until all that was committed can be read.
    func waitUntilReadable() { producer.waitUntilReadable() }

    /// Until the rate lets so many go. Looking at what may still be written comes after it, as it may take long.
    func waitForTurn(units: Int) {
        guard rate != nil, units > 0 else { return }
        let wait = nextMilliseconds - SystemClock.monotonicMilliseconds()
        if wait > 0 { _ = WakeUp.sleep(milliseconds: Int(wait)) }
        nextMilliseconds = max(nextMilliseconds, SystemClock.monotonicMilliseconds())
    }
}

/// So many units in so many milliseconds, at most.
public struct JobRate: Sendable {
    public var count: Int
    public var perMilliseconds: Int64
    public init(count: Int, perMilliseconds: Int64) { (self.count, self.perMilliseconds) = (count, perMilliseconds) }

    /// Units that are written at once: a second's, one at least.
    var batch: Int { max(1, Int(Int64(count) * 1_000 / perMilliseconds)) }
}
