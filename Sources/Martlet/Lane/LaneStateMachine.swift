/// The decisions of a delivery lane: inputs are records, HTTP results, acknowledgements, assignments, registry changes and the clock;
/// outputs are commands. It isn't copied, not even for a call. No I/O, no clock, no randomness but the seeded generator; no order of a set or dictionary is observed.
///
/// The parts: streams and commits in `LaneStreams`, heads of retry topics in `LaneTiers`, what may start in `LaneAdmission`, limits above
/// the endpoints in `LaneLimits`, who leaves memory in `LaneResidency`, ordered endpoints in `LaneOrder`, what an attempt's end means in
/// `LaneOutcomes`, breaker and disabling across restarts in `LaneHealth`.
public struct LaneStateMachine: ~Copyable {
    // Of a type that has to lie somewhere, and so has all of it: else a call of a function that only reads would get the whole, over 1,000
    // bytes, on its stack.
    private let anchor: Any = ()
    public let settings: LaneSettings
    /// Delay of each topic that the lane reads: 0 for deliveries and replay.
    let topicDelays: [Int64]
    var generator: SeededGenerator

    var records = RecordTable()
    var streams = StreamTable(nothing: LaneStream())
    var endpoints: [LaneEndpoint] = []
    var endpointSlots: [String: Int] = [:]
    var freeEndpoints: [Int] = []
    var registry: [String: Registry.Entry] = [:]
    var registryPosition: Int64 = 0
    /// The view held all that was acknowledged by this monotonic moment.
    var registryFreshAsOf: Int64 = .min

    var ready = RingQueue<Int>()
    var residency = DeadlineQueue()
    var held = Heap<(wall: Int64, token: RecordToken)> { ($0.wall, $0.token.bits) < ($1.wall, $1.token.bits) }
    var looks = Heap<(wall: Int64, stream: StreamID)> { ($0.wall, $0.stream) < ($1.wall, $1.stream) }
    var wakes = Heap<(monotonic: Int64, endpoint: Int)> { ($0.monotonic, $0.endpoint) < ($1.monotonic, $1.endpoint) }
    var crowds = Heap<(monotonic: Int64, endpoint: Int, stream: StreamID)> { ($0.monotonic, $0.endpoint) < ($1.monotonic, $1.endpoint) }
    var unregistered: [RecordToken] = []
    /// How many of them each endpoint has.
    var unregisteredCounts: [String: Int] = [:]
    var unproduced: [RecordToken] = []
    var produceAgainMonotonic: Int64 = .max
    /// Partitions whose health is still being read: nothing of them is.
    var restoring: Set<Int32> = []
    /// Endpoints whose health the brokers didn't take.
    var unwrittenHealth: [String] = []
    var healthAgainMonotonic: Int64 = .max
    /// Tokens in flight or moving whose partition went away, by where their record lies.
    var orphans: [StreamID: [Int64: RecordToken]] = [:]

    var egress: EgressMonitor
    var limiter: RateLimiter?
    var tenants: [String: Tenant] = [:]
    var tenantWakes = Heap<(monotonic: Int64, tenant: String)> { ($0.monotonic, $0.tenant) < ($1.monotonic, $1.tenant) }
    var catchUp: CatchUp?
    var lastCatchUpPartition: Int32 = -1
    /// When a hold may be due, wall time.
    var nextHoldWall: Int64 = .max
    /// Endpoints by the hash that holds name them with: made when it is needed, void after a change of the registry.
    var holdNames: [UInt64: String]?

    var sequence: UInt64 = 0
    public private(set) var inFlight = 0
    var unfinishedBytes = 0
    /// Of those, what lies under holds.
    var coveredBytes = 0
    var now = LaneTime(monotonic: 0, wall: 0)
    var leaseUntilMonotonic: Int64 = .min
    var isDraining = false
    var lastCommitMonotonic: Int64 = .min / 2
    var lastRenewalMonotonic: Int64 = .min / 2
    public internal(set) var counters = LaneCounters()
    var commands: [LaneCommand] = []

    public init(_ settings: LaneSettings, topicDelays: [Int64], seed: UInt64) {
        self.settings = settings
        self.topicDelays = topicDelays
        generator = SeededGenerator(seed: seed)
        egress = EgressMonitor(settings.egress)
        limiter = settings.rate.map { RateLimiter($0, emptyAtMilliseconds: 0) }
    }

    /// Of a topic's records, from their append to the first look at them.
    public func delay(ofTopic topic: Int) -> Int64 { topicDelays[topic] }

    // MARK: clock

    /// To be called first in every turn: does what is due by time.
    public mutating func advance(to now: LaneTime) {
        self.now = now
        lookAtHeads()
        releaseHeld()
        spillOverdue()
        spillCrowds()
        wakeEndpoints()
        wakeTenants()
        if now.monotonic >= produceAgainMonotonic { produceAgain() }
        if now.monotonic >= healthAgainMonotonic { publishHealthAgain() }
    }

    /// The next moment at which `advance` has something to do, monotonic; nil: only an input can change anything.
    public var nextDeadlineMonotonic: Int64? {
        var deadline = min(produceAgainMonotonic, healthAgainMonotonic)
        if !isDraining, !egress.isBroken || egress.seeks, let next = residency.first { deadline = min(deadline, next.deadline) }
        if let next = tenantWakes.first { deadline = min(deadline, next.monotonic) }
        if !ready.isEmpty, hasLease, !isDraining {
            if let probe = egress.nextProbe { deadline = min(deadline, max(now.monotonic + 1, probe)) }
            if let limiter { deadline = min(deadline, max(now.monotonic + 1, limiter.earliestStartMilliseconds(now: now.monotonic))) }
        }
        if nextHoldWall != .max, catchUp == nil, hasLease, !isDraining, !egress.isBroken || egress.seeks {
            deadline = min(deadline, now.monotonic + nextHoldWall - now.wall)
        }
        if let next = wakes.first { deadline = min(deadline, next.monotonic) }
        if let next = crowds.first { deadline = min(deadline, next.monotonic) }
        if let next = held.first { deadline = min(deadline, now.monotonic + next.wall - now.wall) }
        if let next = looks.first { deadline = min(deadline, now.monotonic + next.wall - now.wall) }
        return deadline == .max ? nil : deadline
    }

    /// Starts are allowed until then: the last acknowledged commit's sending plus what the session leaves.
    public mutating func setLease(untilMonotonic: Int64) { leaseUntilMonotonic = max(leaseUntilMonotonic, untilMonotonic) }
    public mutating func loseLease() { leaseUntilMonotonic = .min }
    public var hasLease: Bool { now.monotonic < leaseUntilMonotonic }
    /// Our own egress seems broken: not ready.
    public var isEgressBroken: Bool { egress.isBroken }

    /// No further start; what is in flight ends.
    public mutating func drain() { isDraining = true }
    public var isDrained: Bool { inFlight == 0 && !records.contains { $0.phase == .moving } }

    /// Takes the commands so far, after starting what may start.
    public mutating func takeCommands() -> [LaneCommand] {
        var taken: [LaneCommand] = []
        takeCommands(into: &taken)
        return taken
    }

    /// The same into an array whose place is used again.
    public mutating func takeCommands(into taken: inout [LaneCommand]) {
        catchUpIfDue()
        startReady()
        taken.removeAll(keepingCapacity: true)
        swap(&taken, &commands)
    }

    // MARK: records

    func phase(_ token: RecordToken) -> RecordPhase? { records.look(token) { $0.phase } }

    /// What a request for the record needs; nil when it is not about to start.
    public func endpoint(of token: RecordToken) -> PreparedEndpoint? {
        guard let slot = records.look(token, { $0.endpoint }), slot >= 0 else { return nil }
        return endpoints[slot].entry?.prepared
    }

    /// Where the record lies; nil for one that is gone.
    public func place(of token: RecordToken) -> (stream: StreamID, offset: Int64)? { records.look(token) { ($0.stream, $0.offset) } }

    /// Whether the record waits for its retry topic's delay: for long, perhaps.
    public func isAside(_ token: RecordToken) -> Bool { phase(token) == .aside }

    mutating func setPhase(_ token: RecordToken, _ phase: RecordPhase) {
        let before = records.update(token) { record in
            defer { record.phase = phase }
            return record.phase
        }
        if before == .unregistered, phase != .unregistered, let id = records[token]?.facts.endpointID { countRegistered(id) }
    }

    /// One that waited for the registry doesn't any more.
    private mutating func countRegistered(_ id: String) {
        guard let count = unregisteredCounts[id] else { return }
        unregisteredCounts[id] = count > 1 ? count - 1 : nil
    }

    /// Forgets a record, whatever became of it.
    mutating func free(_ token: RecordToken) {
        guard let record = records.remove(token) else { return }
        let isOrphan = !orphans.isEmpty && orphans[record.stream]?[record.offset] == token
        letGoOfHead(token, record.isOrdered, record.endpoint)
        if record.phase == .unregistered { countRegistered(record.facts.endpointID) }
        unfinishedBytes -= record.facts.bytes
        if record.isCovered { coveredBytes -= record.facts.bytes }
        if isOrphan {
            forgetOrphan(record)
        } else if !record.isDetached, streams.has(record.stream) {
            count(record, -1)
            if record.isCovered { coveredLeaves(record) }
        }
        commands.append(.release(token))
    }

    mutating func countInFlight(_ change: Int) { inFlight += change }

    /// Among what is unfinished of its partition, or under its endpoint's hold: a slow ordered endpoint must not fill its partition's bound.
    mutating func count(_ record: LaneRecord, _ change: Int) {
        if record.isCovered {
            let hash = endpoints[record.endpoint].hash
            streams[record.stream]?.holds[hash]?.covered += change
            streams[record.stream]?.holds[hash]?.coveredBytes += change * record.facts.bytes
        } else {
            streams.update(record.stream) {
                $0.unfinished += change
                $0.unfinishedBytes += change * record.facts.bytes
            }
        }
    }

    // MARK: registry

    public mutating func registryChanged(_ change: Registry.Change) {
        switch change {
        case .set(let entry): register(entry.id, entry)
        case .unreadable(let id, _, let entry): if let entry { register(id, entry) }
        case .deleted(let id): register(id, nil)
        }
    }

    /// How far the registry has been read, and until when (monotonic) that is everything.
    public mutating func registryAt(position: Int64, freshAsOf: Int64) {
        (registryPosition, registryFreshAsOf) = (max(registryPosition, position), max(registryFreshAsOf, freshAsOf))
        // By offset: an ordered endpoint's records may have come here in another order.
        let waiting = unregistered.sorted {
            let (left, right) = (place(of: $0), place(of: $1))
            return (left?.stream.partition ?? 0, left?.offset ?? 0) < (right?.stream.partition ?? 0, right?.offset ?? 0)
        }
        unregistered.removeAll(keepingCapacity: true)
        unregisteredCounts.removeAll(keepingCapacity: true)
        for token in waiting where phase(token) == .unregistered { admit(token) }
    }

    private mutating func register(_ id: String, _ entry: Registry.Entry?) {
        registry[id] = entry
        holdNames = nil
        guard let slot = endpointSlots[id] else { return }
        endpoints[slot].entry = entry
        configure(slot)
        settleWaiting(slot)
    }
}
