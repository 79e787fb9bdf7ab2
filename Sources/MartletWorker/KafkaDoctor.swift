internal import EventLoop
public import Kafka
public import Martlet

/// What a check found.
public struct Finding: Sendable, Equatable {
    public enum Level: String, Sendable, CaseIterable {
        case ok
        /// Not looked at, or it can't be.
        case unchecked
        /// It works, but will hurt one day.
        case risk
        /// It doesn't work.
        case wrong
    }
    public var level: Level
    public var area: String
    public var text: String
    /// What to do about it.
    public var advice: String?
    public init(_ level: Level, _ area: String, _ text: String, advice: String? = nil) {
        (self.level, self.area, self.text, self.advice) = (level, area, text, advice)
    }
}

/// Checks what workers need of the brokers: topics, settings, access rights, time. Blocks. Reads only, but for `probeWrites`.
public struct KafkaDoctor {
    static let transactionalID = "martlet-doctor"
    /// Signatures' timestamps and due times are compared with others' clocks.
    static let clockLimitMilliseconds: Int64 = 1_000
    static let retentionMarginMilliseconds: Int64 = 86_400_000

    private let kafka: KafkaSettings
    private let topics: Topics
    private let tiers: [RetryTier]
    public private(set) var findings: [Finding] = []

    public init(_ kafka: KafkaSettings, _ topics: Topics, tiers: [RetryTier]) {
        (self.kafka, self.topics, self.tiers) = (kafka, topics, tiers)
    }

    /// `inputs`: topics beside the events topic. `probeWrites`: also writes a record to every topic, in transactions that are aborted:
    /// nobody sees them.
    public mutating func examine(inputs: [String] = [], probeWrites: Bool = false) throws(KafkaError) {
        let admin = try TopicAdmin(kafka)
        let brokers = try admin.brokers()
        add(.ok, "brokers", "\(brokers.count) up: \(brokers.map(\.address).joined(separator: ", "))")
        if brokers.count < 3 {
            add(
                .risk, "brokers", "with \(brokers.count) a broker's loss stops deliveries, or loses what it holds",
                "run at least three, and topics with three replicas")
        }
        let check = try TopicCheck.run(kafka, topics, expected: tiers, inputs: inputs, withSettings: true)
        let names = topics.specifications(partitions: 1, replicationFactor: 1, tiers: Set(tiers + check.tiers).sorted()).map(\.name)
        // A topic that may not be described looks as if it were missing.
        let reader = try TopicReader(kafka, prefetchKilobytes: 64)
        let missing = Set(check.findings.filter { $0.problem.hasPrefix("is missing") }.map(\.topic))
        var hidden: [String] = []
        for name in missing.sorted() {
            if let problem = try reader.problem(ofTopic: name), problem.isAuthorization { hidden.append(name) }
        }
        for name in hidden {
            add(
                .wrong, "access", "\(name) may not be described by this principal, so nothing is known of it",
                "grant Describe and Read on it")
        }
        examine(check, hidden: Set(hidden))
        if check.settingsWereChecked { examineOffsetRetention(admin, brokers.map(\.id), longestTier: check.tiers.last, missing) }
        examineReading(names.filter { !missing.contains($0) }, isAllKnown: missing.isEmpty)
        guard probeWrites else {
            return add(.unchecked, "access", "writing", "'--probe-writes' writes to every topic in transactions that it aborts")
        }
        guard check.settingsProblem?.isAuthorization ?? true else {
            return add(.unchecked, "access", "writing: the embedded cluster would show what was aborted")
        }
        examineWriting(names.filter { !missing.contains($0) })
    }

    private mutating func add(_ level: Finding.Level, _ area: String, _ text: String, _ advice: String? = nil) {
        findings.append(Finding(level, area, text, advice: advice))
    }

    private mutating func examine(_ check: TopicCheck, hidden: Set<String>) {
        for finding in check.findings where !hidden.contains(finding.topic) {
            let parts = finding.problem.split(separator: "; ", maxSplits: 1).map(String.init)
            add(finding.isFatal ? .wrong : .risk, "topics", "\(finding.topic) \(parts[0])", parts.count > 1 ? parts[1] : nil)
        }
        if let problem = check.settingsProblem {
            if check.findings.isEmpty { add(.ok, "topics", "all are there, with \(check.partitions ?? 0) partitions") }
            add(
                .unchecked, "topics",
                problem.isAuthorization ? "\(problem)" : "settings: the brokers have no admin API (the embedded cluster)",
                problem.isAuthorization ? "to have them checked, grant DescribeConfigs on the topics and the cluster" : nil)
        } else if check.findings.isEmpty {
            add(.ok, "topics", "all are there, with \(check.partitions ?? 0) partitions and the settings that they need")
        }
    }

    /// A group whose offsets have expired begins again with the oldest record that is left.
    private mutating func examineOffsetRetention(_ admin: TopicAdmin, _ brokers: [Int32], longestTier: RetryTier?, _ missing: Set<String>) {
        let lanes = ([topics.deliveries, topics.replay] + tiers.map { topics.retry($0) }).filter { !missing.contains($0) }
        guard !lanes.isEmpty else { return }
        do throws(KafkaError) {
            let retentions = try admin.settings(of: lanes).compactMap { name, settings in
                settings["retention.ms"].flatMap { Int64($0) }.map { (name: name, milliseconds: $0 < 0 ? .max : $0) }
            }
            let needed = (longestTier?.delayMilliseconds ?? 0) + Self.retentionMarginMilliseconds
            for topic in retentions.sorted(by: { $0.name < $1.name }) where topic.milliseconds < needed {
                add(
                    .wrong, "retention",
                    "\(topic.name) keeps records for \(topic.milliseconds / 3_600_000) h, less than the longest delay and a day",
                    "set its retention.ms to at least \(needed)")
            }
            var kept: Int64?
            for id in brokers {
                guard let minutes = try admin.settings(ofBroker: id)["offsets.retention.minutes"].flatMap({ Int64($0) }) else { continue }
                kept = min(kept ?? .max, minutes)
            }
            guard let kept, let longest = retentions.map(\.milliseconds).filter({ $0 < .max }).max() else {
                return add(.unchecked, "retention", "offsets.retention.minutes: the brokers don't tell it")
            }
            if kept * 60_000 >= longest {
                add(.ok, "retention", "offsets are kept for \(kept / 60) h, records of lane topics for \(longest / 3_600_000) h")
            } else {
                add(
                    .risk, "retention",
                    "offsets are kept for \(kept / 60) h, records of lane topics for \(longest / 3_600_000) h: workers that were stopped for longer than the former deliver again what the latter still has",
                    "set offsets.retention.minutes=\(longest / 60_000) on every broker")
            }
        } catch { add(.unchecked, "retention", "settings: \(error)", "allow DescribeConfigs on topics and on the cluster") }
    }

    private mutating func examineReading(_ names: [String], isAllKnown: Bool) {
        var forbidden = 0
        do throws(KafkaError) {
            let reader = try TopicReader(kafka, prefetchKilobytes: 64, group: topics.deliveryGroup)
            for name in names {
                do throws(KafkaError) {
                    let newest = try Self.newest(reader, name)
                    if let newest, newest - SystemClock.wallMilliseconds() > Self.clockLimitMilliseconds {
                        add(
                            .wrong, "clock",
                            "the newest record of \(name) lies \(newest - SystemClock.wallMilliseconds()) ms in this machine's future",
                            "set this machine's clock, or the brokers': run NTP (chrony, systemd-timesyncd) on all")
                    }
                } catch {
                    // Workers only write these; who looks at dead letters and attempts reads them.
                    if error.isAuthorization, name == topics.deadLetters || name == topics.attempts {
                        add(.unchecked, "access", "\(name) may not be read by this principal; only operators need that")
                        continue
                    }
                    forbidden += 1
                    add(.wrong, "access", "\(name): \(error)", Self.advice(error, "Read and Describe on it"))
                }
            }
            for group in [topics.deliveryGroup, topics.fanOutGroup] {
                let asker = try TopicReader(kafka, prefetchKilobytes: 64, group: group)
                do throws(KafkaError) { _ = try asker.committed([TopicPartition(topics.deliveries, 0)]) } catch {
                    forbidden += 1
                    add(
                        .wrong, "access", "the group \(group): \(error)",
                        "grant this principal Read on the group; if it has it: is the group's coordinator up?")
                }
            }
        } catch { add(.wrong, "access", "\(error)", "check the --kafka settings: no reader could be made") }
        if forbidden == 0, isAllKnown { add(.ok, "access", "all topics that workers read and both groups can be read") }
    }

    private static func advice(_ error: KafkaError, _ rights: String) -> String {
        error.isAuthorization ? "grant this principal \(rights)" : "is its leader up? see the brokers' logs"
    }

    /// Reads the end of a topic's first partition; the time of the last record there. An empty one is fetched from, too.
    private static func newest(_ reader: TopicReader, _ name: String) throws(KafkaError) -> Int64? {
        let at = TopicPartition(name, 0)
        let (low, high) = try reader.watermarks(at)
        try reader.start(at, from: .offset(max(low, high - 1)))
        defer { reader.stop(at) }
        let deadline = SystemClock.monotonicMilliseconds() + 10_000
        while SystemClock.monotonicMilliseconds() < deadline {
            guard let (_, event) = reader.next(waitMilliseconds: 100) else { continue }
            switch event {
            case .message(let message): return message.timestampMilliseconds
            case .end, .outOfRange: return nil
            case .failed(let error): if !error.isUnreachable { throw error }
            }
        }
        throw KafkaError(.timedOut, "nothing could be read in 10 s")
    }

    /// A record per topic in a transaction of its own, which is aborted.
    private mutating func examineWriting(_ names: [String]) {
        var forbidden = 0
        var offset: Int64?
        do throws(KafkaError) { _ = try Self.openProducer(kafka) } catch {
            return add(
                .unchecked, "access", "writing: \(error)",
                error.isAuthorization
                    ? "to have it checked, grant Write and Describe on the transactional id '\(Self.transactionalID)'" : nil)
        }
        // The registry is written by whoever edits endpoints, never by workers.
        for name in names where name != topics.endpoints {
            do throws(KafkaError) {
                let sent = SystemClock.wallMilliseconds()
                let appended = try Self.writeInVain(kafka, name)
                // The brokers' stamp lies between sending and the answer.
                if let appended {
                    let answered = SystemClock.wallMilliseconds()
                    let ahead = appended > answered ? appended - answered : appended < sent ? appended - sent : 0
                    if abs(ahead) >= abs(offset ?? 0) { offset = ahead }
                }
            } catch {
                forbidden += 1
                // librdkafka drops the record when its partition may not become part of a transaction, and doesn't say more.
                let why = [.purged, .purgedInFlight].contains(error.code) ? "is refused" : "fails: \(error)"
                add(
                    .wrong, "access", "writing to \(name) \(why)",
                    "grant this principal Write on it")
            }
        }
        if forbidden == 0 { add(.ok, "access", "all topics that workers write can be written to") }
        guard let offset else { return }
        if abs(offset) <= Self.clockLimitMilliseconds {
            add(.ok, "clock", "the brokers' clocks and this one agree within \(abs(offset) + 1) ms and the time of a request")
        } else {
            add(
                .wrong, "clock", "the brokers' clock is \(abs(offset)) ms \(offset > 0 ? "ahead of" : "behind") this machine's",
                "run NTP (chrony, systemd-timesyncd) on all")
        }
    }

    private static func openProducer(_ kafka: KafkaSettings) throws(KafkaError) -> Producer {
        var options = Producer.Options()
        options.transactionalID = transactionalID
        options.lingerMilliseconds = 0
        var quiet = kafka
        quiet.log = { _, _ in }
        let producer = try Producer(quiet, options)
        try producer.initTransactions()
        return producer
    }

    private static func writeInVain(_ kafka: KafkaSettings, _ topic: String) throws(KafkaError) -> Int64? {
        let producer = try openProducer(kafka)
        try producer.beginTransaction()
        var failure: KafkaError?
        var appended: Int64?
        let record = OutgoingRecord(topic: topic, partition: 0, key: Array("martlet-doctor".utf8), value: Array("{}".utf8))
        if case .failed(let error) = producer.produce(record, token: 0) { failure = error }
        let isFlushed = producer.flush(milliseconds: 9_000) { report in
            failure = failure ?? report.error
            appended = report.appendedMilliseconds
        }
        do throws(KafkaError) { try producer.abortTransaction() } catch { failure = failure ?? error }
        if let failure { throw failure }
        guard isFlushed else { throw KafkaError(.timedOut, "no acknowledgement in 9 s") }
        return appended
    }
}
