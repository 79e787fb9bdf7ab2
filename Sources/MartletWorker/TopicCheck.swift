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
        let (counts, brokers) = try admin.describe()
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
        guard withSettings, check.findings.allSatisfy({ !$0.isFatal }) else { return check }
        do throws(KafkaError) {
            let settings = try admin.settings(of: wanted.map(\.name))
            for topic in wanted { check.compareSettings(topic, settings[topic.name] ?? [:]) }
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
        guard mustAgree, count != topic.partitions else { return }
        let what =
            topic.name == topics.endpoints
            ? "must have 1 partition (delete and create it)"
            : "must have as many as \(topics.deliveries), \(topic.partitions); stop the workers and run 'martlet topics grow'"
        findings.append(Finding(topic: topic.name, problem: "has \(count) partitions; it \(what)", isFatal: true))
    }

    private mutating func compareSettings(_ topic: Topics.Specification, _ actual: [String: String]) {
        for name in topic.settings.keys.sorted() {
            guard let wanted = topic.settings[name], let found = actual[name], found != wanted else { continue }
            // Keeping records longer, or allowing larger ones, harms nothing.
            if ["retention.ms", "max.message.bytes", "min.insync.replicas"].contains(name), let number = Int64(found),
                let least = Int64(wanted)
            {
                if number >= least || number == -1 { continue }
            }
            let isFatal = name == "cleanup.policy" && (found.contains("delete") != wanted.contains("delete"))
            findings.append(
                Finding(
                    topic: topic.name,
                    problem: "has \(name)=\(found); set it to \(wanted) (kafka-configs.sh --alter --add-config \(name)=\(wanted))",
                    isFatal: isFatal))
        }
    }
}
