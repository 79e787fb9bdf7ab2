public import HTTPDelivery
public import Kafka
public import Logging
public import Martlet

/// Everything a worker needs to know. Defaults are those of the documentation.
public struct WorkerConfiguration: Sendable {
    public enum Role: String, Sendable, CaseIterable { case fanOut = "fanout", delivery }

    public var kafka: KafkaSettings
    public var topics = Topics()
    public var roles: Set<Role> = Set(Role.allCases)
    /// Threads that deliver; each is a member of the delivery group.
    public var lanes = 1
    /// Static membership of the groups: a restart within the session timeout moves nothing.
    public var instanceID: String?
    /// This worker's name in attempt and health records.
    public var name: String
    /// Topics to fan out, beside `martlet.events`; a name that starts with `^` is a regular expression.
    public var inputTopics: [String] = []
    public var urlRules = EndpointURL.Rules()
    /// What sealed secrets are opened with.
    public var keys = KeyRing()
    public var lane = LaneSettings()
    public var sessionTimeoutMilliseconds: Int64 = 45_000
    public var drainMilliseconds: Int64 = 25_000
    public var caBundlePath = "/etc/ssl/certs/ca-certificates.crt"
    /// Certificates that are trusted besides.
    public var extraAuthoritiesPath: String?
    public var egressProxy: EgressProxy?
    /// Instead of the system's, `ADDRESS:PORT`; for tests.
    var nameServers: String?
    /// Of endpoints that don't choose themselves.
    public var transport = TransportKind.direct
    /// All unfinished fan-out output of this worker, in bytes.
    public var fanOutBytesLimit = 32 << 20
    /// Partitions of the lane topics, as found by the start check.
    public var partitions = 24
    public var discoveredTiers: [RetryTier] = []
    public var log = Logger()

    public init(kafka: KafkaSettings, name: String) { (self.kafka, self.name) = (kafka, name) }

    /// Where nothing else is asked for: a thread per core, of which fan-out is one where both roles run. Each lane is a client of its own, which
    /// fetches for itself: on two cores, both roles did a quarter less with two lanes.
    public static func lanes(cores: Int, _ roles: Set<Role>) -> Int { max(1, roles == Set(Role.allCases) ? cores - 1 : cores) }

    /// librdkafka counts it per partition, and a lane may own all of them: 425 MiB together, or 512 KiB each where they are many. With 24 partitions
    /// and the default tiers it is more than a batch of a usual producer (1 MB), which comes as a whole, and than what a lane delivers of one
    /// partition in 15 ms (1,200 records last for 16 at 75,000 a second): a queue that is full is left out of the next fetch, which waits so long
    /// for the other partitions.
    func prefetchKilobytes(topicsPerPartition: Int) -> Int {
        Self.prefetchKilobytes(mebibytes: 425, of: partitions * topicsPerPartition)
    }

    /// Of a partition of events, for the same reason more than such a batch up to 96 partitions; 32 MiB together, 128 MiB at most, or 512 KiB each where
    /// they are very many (of one input topic). More brings nothing and takes memory.
    var fanOutPrefetchKilobytes: Int {
        max(Self.prefetchKilobytes(mebibytes: 32, of: partitions), min(1_365, Self.prefetchKilobytes(mebibytes: 128, of: partitions)))
    }

    private static func prefetchKilobytes(mebibytes: Int, of partitions: Int) -> Int {
        min(16_384, max(512, mebibytes * 1_024 / max(1, partitions)))
    }
}

/// Why a worker could not start, with the exit code that says so.
public struct StartFailure: Error, CustomStringConvertible, Sendable {
    public var exitCode: Int32
    public var description: String
    public init(exitCode: Int32, _ description: String) { (self.exitCode, self.description) = (exitCode, description) }

    public static func unreachable(_ brokers: String, _ error: KafkaError) -> StartFailure {
        StartFailure(
            exitCode: 3, "cannot reach Kafka at \(brokers): \(error)\n  check --brokers, the network, and --kafka settings for TLS or SASL")
    }
}
