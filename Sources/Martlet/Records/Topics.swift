/// The topics, their names under a prefix, and the settings that they need.
public struct Topics: Sendable, Equatable {
    public var prefix: String
    public init(prefix: String = "martlet.") { self.prefix = prefix }

    public var events: String { prefix + "events" }
    public var deliveries: String { prefix + "deliveries" }
    public var replay: String { prefix + "replay" }
    public var health: String { prefix + "health" }
    public var attempts: String { prefix + "attempts" }
    public var deadLetters: String { prefix + "dlq" }
    public var endpoints: String { prefix + "endpoints" }
    public var retryPrefix: String { prefix + "retry." }
    public func retry(_ tier: RetryTier) -> String { retryPrefix + tier.name }

    /// Of Martlet's, and no input of events but `events`.
    public func isOwn(_ name: String) -> Bool {
        [events, deliveries, replay, health, attempts, deadLetters, endpoints].contains(name) || name.hasPrefix(retryPrefix)
    }

    /// Of whoever replays or removes dead letters: one at a time.
    public var deadLetterTransactionalID: String { prefix.hasSuffix(".") ? prefix.dropLast() + "-dlq" : prefix + "-dlq" }

    public var fanOutGroup: String { prefix + "fanout" }
    public var deliveryGroup: String { prefix + "delivery" }

    /// Whose offsets say how far the event replay `job` has come.
    public func replayGroup(job: String) -> String { prefix + "replay-" + job }

    /// What `topics create` makes and `topics check` verifies.
    public struct Specification: Sendable, Equatable {
        public var name: String
        public var partitions: Int
        /// Kafka's own names.
        public var settings: [String: String]
    }

    public static let laneRetentionMilliseconds: Int64 = 14 * 86_400_000

    /// All topics for N = `partitions`.
    public func specifications(partitions: Int, replicationFactor: Int, tiers: [RetryTier]) -> [Specification] {
        let replicas = String(max(1, replicationFactor - 1))
        func topic(_ name: String, _ count: Int, _ settings: [String: String]) -> Specification {
            var all = ["max.message.bytes": "2097152", "min.insync.replicas": replicas]
            for (key, value) in settings { all[key] = value }
            return Specification(name: name, partitions: count, settings: all)
        }
        let lane = [
            "cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime",
            "retention.ms": String(Self.laneRetentionMilliseconds), "retention.bytes": "-1",
        ]
        return [
            topic(events, partitions, ["cleanup.policy": "delete", "retention.ms": "604800000", "max.message.bytes": "4194304"]),
            topic(deliveries, partitions, lane), topic(replay, partitions, lane),
        ] + tiers.map { topic(retry($0), partitions, lane) } + [
            topic(attempts, partitions, ["cleanup.policy": "delete", "retention.ms": "259200000"]),
            topic(deadLetters, partitions, ["cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"]),
            topic(endpoints, 1, ["cleanup.policy": "compact"]), topic(health, partitions, ["cleanup.policy": "compact"]),
        ]
    }
}
