internal import EventLoop
public import Kafka
public import Martlet

/// How far a job has come.
public struct JobProgress: Sendable {
    public var acted: Int
    /// Of what is to be read, 0...1.
    public var fraction: Double
    public var elapsedMilliseconds: Int64
}

/// Replays or removes dead letters. A replayed delivery and the letter's tombstone are written in one transaction, under one fixed
/// transactional id: whoever starts fences an earlier job and ends what that left open before it reads, so a crash at any point neither
/// loses a letter nor replays it twice, and running it again goes on where it ended. Blocks.
public final class DeadLetterJob {
    /// An endpoint whose parked letters were to be replayed takes no deliveries any more: they would be parked again, and again.
    public struct NotEnabled: Error, CustomStringConvertible {
        public var endpoints: [String]
        public var description: String {
            "\(endpoints.map { "'\($0)'" }.joined(separator: ", ")) isn't enabled any more: paused, deleted, or disabled by its answers; see 'martlet endpoint health'"
        }
    }

    /// A letter with what is to be written for it.
    private struct Pending {
        var letter: StoredLetter
        var records: [OutgoingRecord]
        var bytes: Int
    }

    private let kafka: KafkaSettings
    private let topics: Topics
    private let action: LetterPlan.Action
    private let filter: LetterFilter
    private let limit: Int?
    /// Of letters; nil: as fast as it goes.
    private let rate: JobRate?
    public var onProgress: (JobProgress) -> Void = { _ in }

    private var plan: LetterPlan
    private var pending: [Pending] = []
    private var pendingBytes = 0
    /// Of the replay topic.
    private var partitions = 1
    private var startedMilliseconds = SystemClock.monotonicMilliseconds()

    public init(
        _ kafka: KafkaSettings, _ topics: Topics, _ action: LetterPlan.Action, _ filter: LetterFilter, limit: Int? = nil,
        rate: JobRate? = nil
    ) {
        (self.kafka, self.topics, self.action, self.filter, self.limit, self.rate) = (kafka, topics, action, filter, limit, rate)
        plan = LetterPlan(action, filter, limit: limit, targets: [:])
    }

    /// What `run` would do, without doing it.
    public func count() throws -> LetterPlan.Counts {
        var plan = LetterPlan(action, filter, limit: limit, targets: try targets())
        let reader = try DeadLetterReader(kafka, topics)
        _ = try reader.forEachLive { letter, _ in
            report(reader, plan.counts.total)
            if case .stop = plan.decide(letter, nowMilliseconds: 0) { return false }
            return true
        }
        return plan.counts
    }

    /// All matching letters, once. `settleMilliseconds`: goes on, pass after pass, until for so long no new one has come.
    public func run(settleMilliseconds: Int64? = nil) throws -> LetterPlan.Counts {
        startedMilliseconds = SystemClock.monotonicMilliseconds()
        plan = LetterPlan(action, filter, limit: limit, targets: try targets())
        guard let count = try TopicAdmin(kafka).describe().partitions[topics.replay] else {
            throw KafkaError(.unknownTopic, "the topic \(topics.replay) doesn't exist")
        }
        partitions = count
        let writer = try TransactionalWriter(kafka, transactionalID: topics.deadLetterTransactionalID, rate: rate)
        // Only now: what an earlier job left open has ended, and nothing else replays.
        let reader = try DeadLetterReader(kafka, topics)
        var ends = try pass(reader, writer, from: [:])
        guard let settleMilliseconds else {
            writer.waitUntilReadable()
            return plan.counts
        }
        var quietSince = SystemClock.monotonicMilliseconds()
        while SystemClock.monotonicMilliseconds() - quietSince < settleMilliseconds {
            _ = WakeUp.sleep(milliseconds: Int(min(500, settleMilliseconds)))
            guard try reader.currentEnds() != ends else { continue }
            plan.targets = try targets()
            let gone = filter.endpoints.filter { plan.targets[$0]?.isEnabled != true }
            guard gone.isEmpty else { throw NotEnabled(endpoints: gone.sorted()) }
            let before = plan.counts.total
            // Earlier letters don't come back: what is new lies behind where the last pass ended.
            ends = try pass(reader, writer, from: ends)
            if plan.counts.total > before { quietSince = SystemClock.monotonicMilliseconds() }
        }
        writer.waitUntilReadable()
        return plan.counts
    }

    private func pass(_ reader: DeadLetterReader, _ writer: TransactionalWriter, from starts: [Int32: Int64]) throws -> [Int32: Int64] {
        let tail = try LetterTail(kafka, topics)
        let ends = try reader.forEachLive(from: starts) { letter, message in
            switch plan.decide(letter, nowMilliseconds: SystemClock.wallMilliseconds()) {
            case .ignore, .skip: break
            case .stop: return false
            case .remove: add(Pending(letter: letter, records: [tombstone(letter)], bytes: 256))
            case .replay(let delivery):
                let body = message.value.map { Array($0) } ?? []
                let home = Murmur2.partition(of: Array(delivery.endpointID.utf8), count: partitions)
                let record = OutgoingRecord(
                    topic: topics.replay, partition: home, key: Array(delivery.endpointID.utf8), value: body, headers: delivery.encoded)
                add(Pending(letter: letter, records: [record, tombstone(letter)], bytes: body.count + 2_048))
            }
            if writer.isFull(units: pending.count, bytes: pendingBytes) { try write(reader, writer, tail) }
            report(reader, writer.done)
            return true
        }
        try write(reader, writer, tail)
        return ends
    }

    private func add(_ item: Pending) {
        pending.append(item)
        pendingBytes += item.bytes
    }

    /// What is pending, in one transaction; but not the tombstone of a letter that a newer one has replaced since the reading began.
    private func write(_ reader: DeadLetterReader, _ writer: TransactionalWriter, _ tail: LetterTail) throws {
        writer.waitForTurn(units: pending.count)
        for partition in Set(pending.map(\.letter.partition)) { try tail.look(partition, from: reader.ends[partition] ?? 0) }
        for item in pending {
            if tail.hasNewer(item.letter) { plan.revoke(item.letter) } else { writer.add(item.records, bytes: item.bytes) }
        }
        pending.removeAll(keepingCapacity: true)
        pendingBytes = 0
        try writer.commit()
    }

    private func tombstone(_ letter: StoredLetter) -> OutgoingRecord {
        OutgoingRecord(topic: topics.deadLetters, partition: letter.partition, key: Array(letter.id.utf8), value: nil)
    }

    private func targets() throws -> [String: LetterPlan.Target] {
        guard action != .purge else { return [:] }
        var targets: [String: LetterPlan.Target] = [:]
        for report in try EndpointReports.read(kafka, topics, withBacklog: false) {
            guard let endpoint = report.endpoint else { continue }
            targets[report.id] = LetterPlan.Target(
                tenant: endpoint.tenant, isEnabled: report.isEnabled, registryOffset: report.registryOffset)
        }
        return targets
    }

    private func report(_ reader: DeadLetterReader, _ acted: Int) {
        onProgress(
            JobProgress(
                acted: acted, fraction: reader.toRead > 0 ? Double(reader.read) / Double(reader.toRead) : 1,
                elapsedMilliseconds: SystemClock.monotonicMilliseconds() - startedMilliseconds))
    }
}
