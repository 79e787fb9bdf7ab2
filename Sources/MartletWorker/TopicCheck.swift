public import Kafka
public import Martlet

/// Compares the topics on the brokers with what Martlet needs.
public struct TopicCheck: Sendable {
    public struct Finding: Sendable, Equatable {
        public var topic: String
        /// What is wrong and what to do.
        public var problem: String
        /// Without it nothing works; else it is a risk.
        public var isFatal: Bool
    }

    public var findings: [Finding] = []
    /// N: the partition count of the deliveries topic; nil when it doesn't exist.
    public var partitions: Int?
    /// Retry topics that exist, whatever the configuration writes to.
    public var tiers: [RetryTier] = []
    /// Why settings went unchecked: they may not be read, or the brokers have no admin API (the embedded cluster).
    public var settingsProblem: KafkaError?
    public var settingsWereChecked: Bool { settingsProblem == nil }

    /// `expected`: the tiers that are written to. `withSettings`: also compare the topics' settings.
    public static func run(_ kafka: KafkaSettings, _ topics: Topics, expected tiers: [RetryTier], inputs: [String] = [], withSettings: Bool)
        throws(KafkaError)
        -> TopicCheck
    {
        let admin = try TopicAdmin(kafka)
        let there = try admin.describe()
        let (counts, brokers) = (there.partitions, there.brokers)
        var check = TopicCheck()
        check.partitions = counts[topics.deliveries]
        check.tiers = counts.keys.filter { $0.hasPrefix(topics.retryPrefix) }
            .compactMap { RetryTier(name: String($0.dropFirst(topics.retryPrefix.count))) }.sorted()
        let wanted = topics.specifications(
            partitions: check.partitions ?? 24, replicationFactor: min(3, brokers), tiers: Set(tiers + check.tiers).sorted())
        for topic in wanted { check.compareCount(topic, counts[topic.name], topics) }
        for input in inputs where !input.hasPrefix("^") && counts[input] == nil {
            check.findings.append(Finding(topic: input, problem: "is missing; create it, or correct --input-topics", isFatal: true))
        }
        for input in inputs where input.hasPrefix("^") {
            let own = wanted.map(\.name).filter { $0 != topics.events }
            for name in try EventReplayJob.named([input], among: own) {
                check.findings.append(
                    Finding(
                        topic: name, problem: "is matched by --input-topics '\(input)', and holds no events; make the expression narrower",
                        isFatal: true))
            }
        }
        guard withSettings, check.findings.allSatisfy({ !$0.isFatal }) else { return check }
        do throws(KafkaError) {
            let settings = try admin.settings(of: wanted.map(\.name))
            for topic in wanted { check.compareSettings(topic, settings[topic.name] ?? [:], replicas: there.replicas[topic.name] ?? 1) }
        } catch { check.settingsProblem = error }
        return check
    }

    private mutating func compareCount(_ topic: Topics.Specification, _ count: Int?, _ topics: Topics) {
        guard let count else {
            findings.append(Finding(topic: topic.name, problem: "is missing; run 'martlet topics create'", isFatal: true))
            return
        }
        let mustAgree =
            topic.name == topics.replay || topic.name == topics.health || topic.name.hasPrefix(topics.retryPrefix)
            || topic.name == topics.endpoints
        guard count != topic.partitions else { return }
        guard mustAgree else {
            // Any count works for these; reports and jobs expect an endpoint's records in the partition of its key.
            guard topic.name == topics.attempts || topic.name == topics.deadLetters else { return }
            findings.append(
                Finding(
                    topic: topic.name,
                    problem:
                        "has \(count) partitions, and \(topics.deliveries) \(topic.partitions); it works, but grow them together ('martlet topics grow')",
                    isFatal: false))
            return
        }
        let what =
            topic.name == topics.endpoints
            ? "must have 1 partition (delete and create it)"
            : "must have as many as \(topics.deliveries), \(topic.partitions); stop the workers and run 'martlet topics grow'"
        findings.append(Finding(topic: topic.name, problem: "has \(count) partitions; it \(what)", isFatal: true))
    }

    private mutating func compareSettings(_ topic: Topics.Specification, _ actual: [String: String], replicas: Int) {
        for name in topic.settings.keys.sorted() {
            // Of the replicas that this topic has, all but one must have a record.
            let wanted = name == "min.insync.replicas" ? String(max(1, replicas - 1)) : topic.settings[name] ?? ""
            guard let found = actual[name], found != wanted else { continue }
            // Keeping records longer, or allowing larger ones, harms nothing.
            if ["retention.ms", "max.message.bytes"].contains(name), let number = Int64(found), let least = Int64(wanted) {
                if number >= least || number == -1 { continue }
            }
            // Live records are deleted, or records of a size that occurs can't be written.
            let deletes = name == "cleanup.policy" && (found.contains("delete") != wanted.contains("delete")) || name == "retention.bytes"
            let isFatal = deletes || name == "max.message.bytes"
            findings.append(
                Finding(
                    topic: topic.name,
                    problem: "has \(name)=\(found); set it to \(wanted) (kafka-configs.sh --alter --add-config \(name)=\(wanted))",
                    isFatal: isFatal))
        }
    }
}
