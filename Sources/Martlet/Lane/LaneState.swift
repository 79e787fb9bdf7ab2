/// A record between being read and being done.
///
/// | phase | waits for | becomes |
/// |---|---|---|
/// | aside | its tier's delay after the append | any below |
/// | held | its due time, less than the residency limit away | waiting |
/// | unregistered | the registry to catch up with the record's writer | waiting, moving |
/// | waiting | its endpoint's turn | inFlight, moving |
/// | inFlight | the attempt's end | done, moving |
/// | moving | the acknowledgement of its successor | done |
enum RecordPhase: Sendable, Equatable { case aside, held, unregistered, waiting, inFlight, moving }

struct LaneRecord {
    var stream: StreamID
    var offset: Int64
    var facts: DeliveryFacts
    /// Index in the lane's endpoint slab; -1 until it is looked up.
    var endpoint = -1
    var phase = RecordPhase.aside
    /// Since when it could have been started.
    var waitingSinceMonotonic: Int64?
    /// When the record may be looked at (tier) or started (held), wall time.
    var lookWall: Int64 = 0
    var successor: Successor?
    /// Started while the breaker was half-open: its end alone is the breaker's verdict.
    var isProbe = false
    /// Its topic was made anew while it was under way: its offset means nothing any more.
    var isDetached = false
    /// The successor as it was first decided, before a permanent failure to write it.
    var isCut = false
}

/// One partition of one topic.
struct LaneStream {
    /// nil until the first offset is known: a partition without a committed offset starts where its first event says.
    var tracker: OffsetTracker?
    var unfinished = 0
    var unfinishedBytes = 0
    /// Heads of a retry topic whose look is still to come, in their order.
    var aside: [RecordToken] = []
    var isRevoking = false
    var committed: Int64?
    var committedMetadata = ""
    /// Completed by an earlier ownership before this one read them.
    var completedEarly: Set<Int64> = []
}

/// What the lane knows of an endpoint that has traffic here.
struct LaneEndpoint {
    let id: String
    let partition: Int32
    var entry: Registry.Entry?
    var breaker: CircuitBreaker
    var limiter: RateLimiter?
    var limiterSettings: RateLimit?
    var concurrency = ConcurrencyLimit(ceiling: ConcurrencyLimit.defaultCeiling)
    var inFlight = 0
    var waiting = 0
    var first = Heap<Waiter>(Waiter.precedes)
    var retried = Heap<Waiter>(Waiter.precedes)
    var startsSinceRetried = 0
    var isReady = false
    var wakeMonotonic: Int64 = .max
    var failingSinceMilliseconds: Int64?
    var attemptsSinceSuccess = 0
    var disabled: HealthRecord.Disabled?

    init(id: String, partition: Int32, breaker: CircuitBreaker.Settings) {
        (self.id, self.partition) = (id, partition)
        self.breaker = CircuitBreaker(breaker)
    }

    /// Not to be sent to: its deliveries are parked.
    var isParked: Bool {
        guard let endpoint = entry?.prepared?.endpoint else { return true }
        // A later edit cancels it, and so does a later creation under the same id.
        let isDisabled =
            disabled.map { $0.endpointVersion >= endpoint.version && $0.atMilliseconds >= endpoint.createdMilliseconds } ?? false
        return endpoint.state != .enabled || isDisabled
    }
}

/// Order within a class: oldest first, then as read.
struct Waiter {
    var ageFrom: Int64
    var sequence: UInt64
    var token: RecordToken
    static func precedes(_ left: Waiter, _ right: Waiter) -> Bool { (left.ageFrom, left.sequence) < (right.ageFrom, right.sequence) }
}
