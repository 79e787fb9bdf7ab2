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
    /// The brokers didn't take its successor: to be produced again.
    var isUnproduced = false
    /// Its topic was made anew while it was under way: its offset means nothing any more.
    var isDetached = false
    /// The successor as it was first decided, before a permanent failure to write it.
    var isCut = false
    /// One of an ordered endpoint's sequence.
    var isOrdered = false
    /// Under its endpoint's hold: read again, and complete as far as the partition's tracker is concerned.
    var isCovered = false
    /// The `HeldEndpoint.epoch` in which it was read again.
    var epoch: UInt64 = 0
}

/// One partition of one topic.
struct LaneStream: Sendable {
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
    /// Ordered endpoints that wait, by `Hold.hash`. Of `martlet.deliveries` only.
    var holds: [UInt64: HeldEndpoint] = [:]

    /// What is asked before each reading: nothing that counts references, so that none is copied for it.
    struct Reading {
        var unfinished, unfinishedBytes, holds: Int
        var span: Int64
        var hasHeadsAside, isRevoking: Bool
    }
    @inline(__always) var reading: Reading {
        Reading(
            unfinished: unfinished, unfinishedBytes: unfinishedBytes, holds: holds.count, span: tracker?.span ?? 0,
            hasHeadsAside: !aside.isEmpty, isRevoking: isRevoking)
    }

    /// A predecessor has read further than this owner under some hold.
    var isBehindAPredecessor: Bool {
        let next = tracker?.next ?? 0
        return holds.values.contains { $0.coveredUpTo > next }
    }

    /// A record was read; false: it is done already, or the partition is about to go.
    mutating func begin(_ offset: Int64) -> Bool {
        guard !isRevoking else { return false }
        tracker.startIfNew(at: offset)
        guard tracker?.begin(offset) == .fresh else { return false }
        guard !completedEarly.isEmpty, completedEarly.remove(offset) != nil else { return true }
        tracker?.complete(offset)
        return false
    }

    /// A record is done, perhaps before this ownership has read it.
    mutating func complete(_ offset: Int64) {
        if offset < tracker?.next ?? .min { tracker?.complete(offset) } else { completedEarly.insert(offset) }
    }
}

/// An ordered endpoint that waits, as its owner knows it.
struct HeldEndpoint: Sendable {
    var hold: Hold
    /// Reading again has met the main reading: what the main reading brings from now on is taken as usual.
    var isMet = false
    /// Records under the hold that are in memory, and their bytes.
    var covered = 0
    var coveredBytes = 0
    /// Records under the hold, in memory or not, as far as this ownership has seen them.
    var backlog = 0
    /// A predecessor's list of completed offsets has some that were only covered: until the main reading has passed them, the hold stays.
    var coveredUpTo: Int64 = 0
    /// Anew with every holding: what was read again before must not be taken for a part of the sequence.
    var epoch: UInt64 = 0
    /// Since when its head fails, wall time.
    var failingSince: Int64?
    /// Taken over from a predecessor.
    var isInherited = false
    /// Known once a record of it was seen.
    var slot: Int?
}

/// What the lane knows of an endpoint that has traffic here.
struct LaneEndpoint {
    // What every delivery asks for, beside each other: of many endpoints most have left the processor's caches.

    var entry: Registry.Entry? { didSet { standing = Standing(entry, disabled) } }
    private(set) var standing = Standing(nil, nil)
    var inFlight = 0
    var inFlightBytes = 0
    var waiting = 0
    var waitingBytes = 0
    var concurrency = ConcurrencyLimit(ceiling: ConcurrencyLimit.defaultCeiling)
    /// By age; of an ordered endpoint by offset.
    var first = Heap<Waiter>(Waiter.precedes)
    var retried = Heap<Waiter>(Waiter.precedes)
    var startsSinceRetried = 0
    /// Its deliveries go one by one in the order of their partition.
    var isOrdered = false
    var isReady = false
    /// What waits for it is looked at when it has waited for long.
    var isCrowding = false
    /// Waits for its tenant's limit.
    var isBlocked = false
    /// An attempt of this ownership got as far as its host.
    var wasReached = false
    /// By the health changelog.
    var isKnownToFail = false
    let partition: Int32
    /// Of the host of its URL, for the count of distinct ones.
    var hostHash: UInt64 = 0
    var wakeMonotonic: Int64 = .max
    var failingSinceMilliseconds: Int64?
    var attemptsSinceSuccess = 0
    /// Of an ordered endpoint: the delivery that is in flight or being moved.
    var head: RecordToken?
    /// What was started last while the breaker was half-open: its end alone is the breaker's verdict.
    var probe: RecordToken?
    var limiter: RateLimiter?
    var breaker: CircuitBreaker

    // What few do.

    let id: String
    /// As its hold is named.
    let hash: UInt64
    var limiterSettings: RateLimit?
    /// When its health was last published by this owner.
    var healthMonotonic: Int64 = .min / 2
    var disabled: HealthRecord.Disabled? { didSet { standing = Standing(entry, disabled) } }

    init(id: String, partition: Int32, breaker: CircuitBreaker.Settings) {
        (self.id, self.partition, hash) = (id, partition, Hold.hash(id))
        self.breaker = CircuitBreaker(breaker)
    }

    var isParked: Bool { standing.isParked }

    /// Whether it may be sent to, in short: asked for every delivery.
    struct Standing {
        /// The registry has it.
        let isKnown: Bool
        /// By this worker.
        let isReadable: Bool
        /// Not to be sent to: its deliveries are parked.
        let isParked: Bool
        let isRefused: Bool
        let maxAgeMilliseconds: Int64

        init(_ entry: Registry.Entry?, _ disabled: HealthRecord.Disabled?) {
            isKnown = entry != nil
            guard let prepared = entry?.prepared else {
                (isReadable, isParked, isRefused, maxAgeMilliseconds) = (false, true, false, 0)
                return
            }
            let endpoint = prepared.endpoint
            // A later edit cancels it, and so does a later creation under the same id.
            let isDisabled =
                disabled.map { $0.endpointVersion >= endpoint.version && $0.atMilliseconds >= endpoint.createdMilliseconds } ?? false
            (isReadable, isParked) = (true, isDisabled || endpoint.state != .enabled)
            (isRefused, maxAgeMilliseconds) = (prepared.target == nil || prepared.refusal != nil, endpoint.maxAgeMilliseconds)
        }
    }
}

/// Order within a class: oldest first, then as read.
struct Waiter {
    var ageFrom: Int64
    var sequence: UInt64
    var token: RecordToken
    static func precedes(_ left: Waiter, _ right: Waiter) -> Bool { (left.ageFrom, left.sequence) < (right.ageFrom, right.sequence) }
}

extension LaneStateMachine {
    /// What is unfinished, for the simulator's trace.
    package var unfinishedText: String {
        let open = records.tokens { _ in true }.compactMap { records[$0] }.map {
            "\($0.stream.topic)/\($0.stream.partition)/\($0.offset) \($0.facts.endpointID) \($0.phase)\($0.isCovered ? " covered" : "")"
        }
        let holds = streams.keys.flatMap { stream in (streams[stream]?.holds ?? [:]).values.map { "\(stream.partition): \($0)" } }
        let waiting = endpointSlots.keys.sorted().compactMap { id in endpointSlots[id].map { endpoints[$0] } }.map {
            "\($0.id): \($0.waiting) wait, \($0.inFlight) in flight, \($0.breaker.state)\($0.isOrdered ? ", ordered" : "")\($0.isParked ? ", parked" : "")"
        }
        return "unfinished \(open), holds \(holds.sorted()), endpoints \(waiting)"
    }
}
