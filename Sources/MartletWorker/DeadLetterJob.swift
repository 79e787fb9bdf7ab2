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
    public static let transactionalID = "martlet-dlq"

    private let kafka: KafkaSettings
    private let topics: Topics
    private let action: LetterPlan.Action
    private let filter: LetterFilter
    private let limit: Int?
    /// Letters a second; nil: as fast as it goes.
    private let rate: Int?
    public var onProgress: (JobProgress) -> Void = { _ in }

    private var plan: LetterPlan
    /// Of the replay topic.
    private var partitions = 1
    private var startedMilliseconds = SystemClock.monotonicMilliseconds()

    public init(
        _ kafka: KafkaSettings, _ topics: Topics, _ action: LetterPlan.Action, _ filter: LetterFilter, limit: Int? = nil, rate: Int? = nil
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
        let writer = try TransactionalWriter(kafka, transactionalID: Self.transactionalID, rate: rate)
        // Only now: what an earlier job left open has ended, and nothing else replays.
        let reader = try DeadLetterReader(kafka, topics)
        var ends = try pass(reader, writer, from: [:])
        guard let settleMilliseconds else { return plan.counts }
        var quietSince = SystemClock.monotonicMilliseconds()
        while SystemClock.monotonicMilliseconds() - quietSince < settleMilliseconds {
            _ = WakeUp.sleep(milliseconds: Int(min(500, settleMilliseconds)))
            guard try reader.ends() != ends else { continue }
            let before = plan.counts.total
            // Earlier letters don't come back: what is new lies behind where the last pass ended.
            ends = try pass(reader, writer, from: ends)
            if plan.counts.total > before { quietSince = SystemClock.monotonicMilliseconds() }
        }
        return plan.counts
    }

    private func pass(_ reader: DeadLetterReader, _ writer: TransactionalWriter, from starts: [Int32: Int64]) throws -> [Int32: Int64] {
        let ends = try reader.forEachLive(from: starts) { letter, message in
            switch plan.decide(letter, nowMilliseconds: SystemClock.wallMilliseconds()) {
            case .ignore, .skip: break
            case .stop: return false
            case .remove: writer.add([tombstone(letter)], bytes: 256)
            case .replay(let delivery):
                let body = message.value.map { Array($0) } ?? []
                let home = Murmur2.partition(of: Array(delivery.endpointID.utf8), count: partitions)
                let record = OutgoingRecord(
                    topic: topics.replay, partition: home, key: Array(delivery.endpointID.utf8), value: body, headers: delivery.encoded)
                writer.add([record, tombstone(letter)], bytes: body.count + 2_048)
            }
            if writer.isFull { try writer.commit() }
            report(reader, writer.done)
            return true
        }
        try writer.commit()
        return ends
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
