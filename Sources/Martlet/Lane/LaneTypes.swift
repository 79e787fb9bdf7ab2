/// The moment of an input. Monotonic time for waits, wall time for what records carry; both in milliseconds.
public struct LaneTime: Sendable, Equatable {
    public var monotonic: Int64
    public var wall: Int64
    public init(monotonic: Int64, wall: Int64) { (self.monotonic, self.wall) = (monotonic, wall) }
}

/// A record in the lane's slab: slot and generation, so that a late completion is a miss and not a mix-up.
public struct RecordToken: Hashable, Sendable {
    public let slot: UInt32
    public let generation: UInt32
    public init(slot: UInt32, generation: UInt32) { (self.slot, self.generation) = (slot, generation) }
    public init(bits: UInt64) { self.init(slot: UInt32(truncatingIfNeeded: bits), generation: UInt32(truncatingIfNeeded: bits >> 32)) }
    public var bits: UInt64 { UInt64(generation) << 32 | UInt64(slot) }
}

/// A topic that the lane reads, by its place in the lane's list; and one of its partitions.
public struct StreamID: Hashable, Sendable, Comparable {
    public var topic: Int
    public var partition: Int32
    public init(topic: Int, partition: Int32) { (self.topic, self.partition) = (topic, partition) }
    public static func < (left: Self, right: Self) -> Bool { (left.topic, left.partition) < (right.topic, right.partition) }
    // One word: the lane looks its streams up several times per record.
    public func hash(into hasher: inout Hasher) { hasher.combine(topic << 32 | Int(partition)) }
}

/// What the lane needs to know of a delivery record to decide about it.
public struct DeliveryFacts: Sendable, Equatable {
    public var endpointID: String
    /// Attempts already made.
    public var attempts: Int
    public var dueMilliseconds: Int64
    public var ageFromMilliseconds: Int64
    public var registryOffset: Int64
    public var bytes: Int
    /// Whether the record lies in its endpoint's partition.
    public var isHome: Bool

    public init(
        endpointID: String, attempts: Int = 0, dueMilliseconds: Int64 = 0, ageFromMilliseconds: Int64 = 0, registryOffset: Int64 = 0,
        bytes: Int = 0, isHome: Bool = true
    ) {
        (self.endpointID, self.attempts, self.dueMilliseconds) = (endpointID, attempts, dueMilliseconds)
        (self.ageFromMilliseconds, self.registryOffset, self.bytes, self.isHome) = (ageFromMilliseconds, registryOffset, bytes, isHome)
    }
}

/// The record that takes over from one that isn't delivered. Its acknowledgement completes the one that it follows.
public enum Successor: Sendable, Equatable {
    case retry(tier: RetryTier, dueMilliseconds: Int64, attempts: Int)
    case dead(DeadReason, attempts: Int)
    /// Found outside its home partition: the same again, to the same topic, at home.
    case home
}

public enum AttemptVerdict: Sendable, Equatable {
    case delivered
    case retry(atMilliseconds: Int64)
    case dead(DeadReason)
}

/// What the driver has to do. Commands of one turn are carried out in their order.
public enum LaneCommand: Sendable, Equatable {
    case start(RecordToken)
    /// Writes the attempt that just ended, the `attempt`th of its delivery, to the attempts topic.
    case logAttempt(RecordToken, attempt: Int, AttemptVerdict)
    case produce(RecordToken, Successor)
    case publishHealth(HealthRecord)
    /// To be published like any event.
    case publishEvent(OperationalEvent)
    /// An ordered endpoint's hold is due: read this partition again from there, beside the main reading, and hand over its records with
    /// `receivedAgain` until `stopReadingAgain`.
    case readAgain(StreamID, from: Int64)
    case stopReadingAgain
    /// The record's bytes aren't needed any more.
    case release(RecordToken)
}

public struct LaneSettings: Sendable {
    /// Where retries are written.
    public var tiers = RetryTier.defaults
    /// No record waits longer in memory before its attempt starts.
    public var residencyLimitMilliseconds: Int64 = 5_000
    /// Per partition of a topic: unfinished records, and their bytes.
    public var unfinishedLimit = 1_000
    public var unfinishedLimitBytes = 10 << 20
    /// All unfinished records of the lane: from so many on the bound of a partition is half of `unfinishedLimit`.
    public var laneUnfinishedLimit = 12_000
    /// Bytes of all unfinished records of the lane.
    public var memoryLimitBytes = 128 << 20
    public var inFlightLimit = 4_096
    /// At half of `unfinishedLimit`, what waited longer than this is moved at once.
    public var crowdedWaitMilliseconds: Int64 = 500
    public var commitIntervalMilliseconds: Int64 = 1_000
    /// Every owned partition is committed this often, changed or not.
    public var leaseRenewalMilliseconds: Int64 = 10_000
    public var produceRetryMilliseconds: Int64 = 500
    public var breaker = CircuitBreaker.Settings()
    /// Failing for so long, with so many attempts and no success, disables an endpoint.
    public var failingLimitMilliseconds: Int64 = 120 * 3_600_000
    public var failingLimitAttempts = 100
    /// How often the health of a failing endpoint is published though its breaker doesn't change.
    public var healthRenewalMilliseconds: Int64 = 3_600_000
    /// Every n-th start is an attempted delivery while both kinds wait.
    public var retriedTurn = 5
    /// Of all endpoints of this lane together: inexact, as every lane and worker has its own.
    public var rate: RateLimit?
    /// Of each tenant's endpoints of this lane together: inexact like `rate`.
    public var tenantRate: RateLimit?
    public var egress = EgressMonitor.Settings()
    /// Records of one held endpoint in memory while it catches up, and their bytes (one is always taken).
    public var catchUpLimit = 64
    public var catchUpLimitBytes = 256 << 10
    /// At the limit of holds of a partition, an endpoint whose head has failed for longer is disabled.
    public var heldLimitMilliseconds: Int64 = 3_600_000
    /// This worker's name in health records.
    public var writer = "worker"
    #if DEBUG
        /// For tests of the simulator.
        public var defect: LaneDefect?
    #endif
    public init() {}

    /// What one endpoint may take of a bound.
    static let share = 8
    /// What all held endpoints that catch up may take of the lane's memory.
    static let heldShare = 4
}

/// What happened so far, for metrics.
public struct LaneCounters: Sendable, Equatable {
    public var delivered = 0
    public var retried = 0
    public var dead: [DeadReason: Int] = [:]
    /// Moves to a retry topic that spent no attempt: waiting for breaker, limiter, concurrency, or a due time beyond memory.
    public var deferred = 0
    public var moved = 0
    public var produceFailures = 0
    public var unreadableMetadata = 0
    /// Ordered endpoints that came to wait, and times their backlog was read again.
    public var holds = 0
    public var catchUps = 0
    public var egressFailures = 0
    public init() {}
}

/// A seeded generator (SplitMix64): the lane's only randomness.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64
    public init(seed: UInt64) { state = seed }
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
