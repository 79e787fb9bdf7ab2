internal import HTTPDelivery
internal import Martlet

/// The real state machines of fan-out and delivery in a world of models with one seed: log, group, acknowledgements, receivers, registry,
/// clocks. Workers crash between any two commands, are suspended, lose their brokers, their network and their partitions; then faults stop,
/// and everything must come to an end. What must hold at each step is in `Checker`; what workers do to the world in `SimulationDriver`.
public struct Simulation {
    public struct Report: Sendable, Equatable {
        public var seed: UInt64
        /// What broke, with the step; empty: all invariants held.
        public var violations: [String] = []
        /// Of every command, in order: one seed gives one hash.
        public var traceHash: UInt64 = 0xcbf2_9ce4_8422_2325
        public var deliveries = 0
        public var delivered = 0
        public var duplicates = 0
        public var crashes = 0
        public var otherFaults = 0
        public var rewrites = 0
        public var holds = 0
        public var egressFailures = 0
        public var lost = 0
        public var replays = 0

        public init(seed: UInt64) { self.seed = seed }

        /// Adds another run's counts.
        public mutating func add(_ other: Self) {
            for count: WritableKeyPath<Self, Int> in [
                \.deliveries, \.delivered, \.duplicates, \.crashes, \.otherFaults, \.rewrites, \.holds, \.egressFailures, \.lost, \.replays,
            ] { self[keyPath: count] += other[keyPath: count] }
        }
    }

    struct SimulatedEndpoint {
        var id: String
        var hash: UInt64
        var partition: Int32
        var receiver: SimulatedReceiver
        var definition: Endpoint
        var created: Int64
        var deletedAt: Int64?
        /// From when on every worker knows that nothing may be sent to it.
        var parkedSince: Int64?
        var lastPaused: Int64?
    }

    static let tiers = ["1s", "5s", "30s"].compactMap { RetryTier(name: $0) }
    static let sessionMilliseconds: Int64 = 15_000
    static let leaseMarginMilliseconds: Int64 = 10_000
    static let maxAgeMilliseconds: Int64 = 240_000
    /// Small, so that bounds are met; where nothing but a rate is to hold anything back, out of the way.
    var unfinishedLimit: Int { scenario.isCalm ? 400 : 16 }
    static let concurrencyLimit = 4
    static let viewAgeLimitMilliseconds: Int64 = 1_000

    let scenario: Scenario
    var generator: SeededGenerator
    var log: SimulatedLog
    var workers: [Int: SimulatedWorker] = [:]
    var workerIDs: [Int] = []
    private var nextWorker = 0
    var generation = 0
    /// By partition; -1: nobody.
    var owner: [Int]
    var arrivals = Heap<(at: Int64, number: Int, worker: Int, arrival: SimulatedArrival)> { ($0.at, $0.number) < ($1.at, $1.number) }
    var arrivalNumber = 0
    var now: Int64 = 10_000_000
    var step = 0
    public internal(set) var report: Report
    var endpoints: [SimulatedEndpoint] = []
    /// The registry's log: the state of an endpoint, or its deletion.
    var registry: [(at: Int64, endpoint: Int, entry: Registry.Entry?)] = []
    var published = 0
    /// By delivery.
    var succeeded: [Int: Int] = [:]
    var expected: [Int] = []
    /// Of these retention removed a record; of the first, the only one that could still be delivered.
    var expired: Set<Int> = []
    var removed: Set<Int> = []
    var lastOrdered: [Int: Int] = [:]
    var lastDisturbance: Int64 = .min
    var disturbances = 0
    var isSettling = false
    var isRebalancing = false
    /// Events come close together while some workers don't know a new endpoint yet.
    var newcomerUntil: Int64 = 0
    /// Postponed for a silent member.
    var mustRebalance = false
    var poisonExpected = 0
    /// Of each event.
    var publishedAt: [(at: Int64, partition: Int)] = []
    var job: ReplayJob?
    /// Which worker committed each partition last.
    var committedBy: [StreamID: Int] = [:]
    /// Deliveries whose loss was noticed.
    var countedLost: Set<Int> = []
    /// Deliveries that an operator sent again: they promise no order.
    var replayed: Set<Int> = []
    /// How often each record was delivered or carried on, and how many disturbances there had been when it was first read.
    var ends: [RecordPlace: (count: Int, disturbances: Int)] = [:]
    /// Starts of each rate-limited endpoint, whoever made them.
    var starts: [Int: [Int64]] = [:]
    struct RecordPlace: Hashable {
        var stream: StreamID
        var offset: Int64
    }
    /// Endpoints whose ordering was changed: nothing is promised for them.
    var toggled: Set<Int> = []
    /// When a failed delivery may be tried again, unless something is disturbed.
    var notBefore: [Int: Int64] = [:]
    struct Flight: Hashable {
        var worker: Int
        var stream: StreamID
        var offset: Int64
    }
    struct FlightToken: Hashable {
        var worker: Int
        var token: RecordToken
    }
    var flying: Set<Flight> = []
    var flights: [FlightToken: Flight] = [:]
    /// Of deliveries that were written to a partition which isn't their endpoint's.
    var astray: Set<Int> = []
    /// Written after they were acknowledged: what one of the deliberate mistakes does.
    var pendingWrites:
        [(worker: Int, at: Int64, item: SimulatedWorker.Item, successor: Successor, place: (stream: StreamID, offset: Int64))] = []
    /// The holds of a partition's last commit, for one of the deliberate mistakes.
    var lateHolds: [StreamID: [UInt64: Hold]] = [:]
    let recoversAt: Int64
    let isTracing: Bool
    public private(set) var trace: [String] = []

    public init(seed: UInt64, scenario: Scenario? = nil, trace: Bool = false) {
        let scenario = scenario ?? Scenario(seed: seed)
        self.scenario = scenario
        generator = SeededGenerator(seed: seed)
        log = SimulatedLog(topics: 2 + Self.tiers.count, partitions: scenario.partitions)
        owner = Array(repeating: -1, count: scenario.partitions)
        recoversAt = 10_000_000 + 45_000
        isTracing = trace
        report = Report(seed: seed)
    }

    public mutating func run() -> Report {
        for number in 0..<scenario.endpoints { create(number) }
        for _ in 0..<scenario.workers { addWorker() }
        now += 2_000
        rebalance()
        while step < scenario.steps, report.violations.isEmpty {
            step += 1
            if published < scenario.events,
                scenario.isCalm || now < newcomerUntil || chance(0.25) || published * scenario.steps < scenario.events * step
            {
                publish()
            }
            if chance(scenario.faults) { disturb() }
            if scenario.edits, chance(0.03) { edit() }
            if scenario.egress, step % 120 == 60 { breakEgress() }
            if scenario.retention, chance(0.02) { expire() }
            if scenario.replays { replay() }
            tick(by: Int64.random(in: 1...(scenario.isCalm ? 40 : 200), using: &generator))
        }
        settle()
        if !report.violations.isEmpty { noteState() }
        for worker in workers.values {
            report.holds += worker.core.counters.holds
            report.egressFailures += worker.core.counters.egressFailures
        }
        report.deliveries = expected.count
        report.delivered = succeeded.count
        report.lost = expired.count
        return report
    }

    mutating func chance(_ probability: Double) -> Bool { Double.random(in: 0..<1, using: &generator) < probability }
    func has(_ defect: Defect.DriverDefect) -> Bool { scenario.defect == .driver(defect) }
    mutating func violate(_ text: String) { report.violations.append("step \(step), \(now - 10_000_000) ms: \(text)") }
    mutating func note(_ text: @autoclosure () -> String) { if isTracing { trace.append("\(step) \(now - 10_000_000) ms  \(text())") } }
    mutating func hash(_ value: UInt64) { report.traceHash = (report.traceHash ^ value) &* 0x0000_0100_0000_01b3 }

    /// What may explain a repetition from now on.
    mutating func disturbed(_ what: @autoclosure () -> String) {
        lastDisturbance = now
        disturbances += 1
        note("FAULT \(what())")
    }

    private mutating func noteState() {
        for id in workerIDs {
            let text = isTracing ? workers[id]?.core.unfinishedText ?? "" : ""
            note("worker \(id): \(text)")
        }
    }

    // MARK: the group

    mutating func addWorker() {
        var settings = LaneSettings()
        settings.tiers = Self.tiers
        (settings.unfinishedLimit, settings.laneUnfinishedLimit) = (unfinishedLimit, unfinishedLimit * 2)
        settings.breaker.openMilliseconds = 3_000
        settings.breaker.openLimitMilliseconds = 20_000
        settings.catchUpLimit = 4
        settings.writer = "w\(nextWorker)"
        #if DEBUG
            if case .lane(let defect)? = scenario.defect { settings.defect = defect }
        #endif
        let skew = scenario.skewMilliseconds
        let core = LaneStateMachine(settings, topicDelays: [0, 0] + Self.tiers.map(\.delayMilliseconds), seed: generator.next())
        let worker = SimulatedWorker(
            core: core, skew: .random(in: -skew...skew, using: &generator),
            monotonicBase: .random(in: -9_000_000...9_000_000, using: &generator),
            registryLag: .random(in: 0...800, using: &generator))
        worker.core.advance(to: worker.time(now))
        // Nobody joins before the registry is read to its end.
        for change in registry { worker.core.registryChanged(change.entry.map { .set($0) } ?? .deleted(id: endpoints[change.endpoint].id)) }
        worker.registryIndex = registry.count
        worker.core.registryAt(position: Int64(registry.count), freshAsOf: worker.time(now).monotonic)
        workers[nextWorker] = worker
        workerIDs.append(nextWorker)
        nextWorker += 1
    }

    private func streams(_ partitions: [Int32]) -> [StreamID] {
        partitions.flatMap { partition in (0..<2 + Self.tiers.count).map { StreamID(topic: $0, partition: partition) } }
    }

    /// Eager: all who can be reached give everything up, then the partitions are dealt out. Others notice later.
    /// It waits for a silent member until its session is over.
    mutating func rebalance() {
        mustRebalance = false
        for id in workerIDs {
            guard let worker = workers[id], worker.suspendedUntil > now || worker.cutOffUntil > now, worker.generation == generation else {
                continue
            }
            if now - (worker.silentSince ?? now) <= Self.sessionMilliseconds {
                mustRebalance = true
                return
            }
        }
        disturbed("rebalance")
        isRebalancing = true
        defer { isRebalancing = false }
        generation += 1
        let members = workerIDs.filter { workers[$0].map { $0.suspendedUntil <= now && $0.cutOffUntil <= now } ?? false }
        for id in members { release(id, isLost: false) }
        owner = Array(repeating: -1, count: scenario.partitions)
        guard !members.isEmpty else { return }
        for partition in owner.indices { owner[partition] = members[Int.random(in: 0..<members.count, using: &generator)] }
        for id in members { acquire(id, owner.indices.filter { owner[$0] == id }.map(Int32.init)) }
    }

    mutating func release(_ id: Int, isLost: Bool) {
        guard workers[id] != nil else { return }
        with(id) { worker, now in
            worker.core.advance(to: worker.time(now))
            worker.core.beginRevoke(worker.core.ownedStreams)
            if isLost { worker.core.loseLease() }
        }
        execute(id)
        guard let leaving = workers[id]?.core.ownedStreams else { return }
        let isFenced = workers[id]?.generation != generation - (isLost ? 0 : 1)
        if !isLost, !isFenced {
            for commit in workers[id]?.core.commits(of: leaving, onlyChanged: true) ?? [] where !isCommitPartLost() {
                commitChecked(id, commit)
            }
            for commit in workers[id]?.progress.commits(onlyChanged: true) ?? [] where !isCommitPartLost() { commitChecked(commit) }
        }
        guard !keepsWhatIsLost else { return }
        with(id) { worker, now in
            worker.core.disown(leaving)
            worker.progress.disown(worker.progress.owned)
            worker.partitions = []
            worker.isCommitting = false
            worker.endpoints = [:]
        }
        execute(id)
    }

    /// The brokers answer for each partition of a commit alone: some may be refused.
    mutating func isCommitPartLost() -> Bool { !isSettling && !scenario.isCalm && chance(0.02) }

    private var keepsWhatIsLost: Bool {
        scenario.defect == .lane(.keepWhatIsLost)
    }

    private mutating func acquire(_ id: Int, _ partitions: [Int32]) {
        guard let worker = workers[id] else { return }
        note("worker \(id) owns \(partitions)")
        worker.partitions = partitions
        worker.generation = generation
        worker.silentSince = nil
        // With requests of an earlier ownership under way the watch goes on.
        for stream in streams(partitions) {
            let start = log[stream].committed
            do { try worker.core.own(stream, committed: start?.offset, metadata: start?.metadata ?? "") } catch {
                violate("own metadata can't be read: \(error)")
            }
            worker.positions[stream] = start?.offset ?? log[stream].start
        }
        // What it said of them as their last owner, late, isn't written.
        for number in worker.endpoints.keys where partitions.contains(endpoints[number].partition) {
            worker.endpoints[number]?.health = nil
        }
        for partition in partitions {
            let start = log.events[Int(partition)].committed
            do {
                try worker.progress.own(StreamID(topic: 0, partition: partition), committed: start?.offset, metadata: start?.metadata ?? "")
            } catch {
                violate("own metadata can't be read: \(error)")
            }
            worker.eventPositions[Int(partition)] = start?.offset ?? log.events[Int(partition)].start
            // What stands there counts from now on, whenever it is read.
            for record in log.health[Int(partition)] { watch(worker, record) }
            worker.healthPositions[partition] = 0
        }
        worker.core.beginRestoring(partitions)
    }

    /// What the changelog says of an endpoint holds for its owner.
    func watch(_ worker: SimulatedWorker, _ record: HealthRecord) {
        guard let number = endpoints.firstIndex(where: { $0.id == record.endpointID }) else { return }
        worker.endpoints[number, default: EndpointWatch()].openUntil =
            record.breaker == .closed ? nil : record.openUntilMilliseconds - worker.clockError
        if let disabled = record.disabled {
            let known = worker.endpoints[number]?.disabledVersion ?? 0
            worker.endpoints[number]?.disabledVersion = max(disabled.endpointVersion, known)
        }
        worker.endpoints[number]?.failuresInARow = 0
    }

    func with(_ id: Int, _ body: (SimulatedWorker, Int64) -> Void) { if let worker = workers[id] { body(worker, now) } }

    // MARK: faults

    /// The network of all of them, for a while.
    private mutating func breakEgress() {
        note("all egress breaks")
        for id in workerIDs { workers[id]?.egressBrokenUntil = now + 12_000 }
    }

    private mutating func disturb() {
        guard let victim = workerIDs.randomElement(using: &generator) else { return }
        report.otherFaults += 1
        switch Int.random(in: 0..<8, using: &generator) {
        case 0: workers[victim]?.dooms = Int.random(in: 0...6, using: &generator)
        case 1:
            disturbed("worker \(victim) is suspended")
            workers[victim]?.suspendedUntil = now + Int64.random(in: 1_000...60_000, using: &generator)
        case 2:
            disturbed("worker \(victim) loses its brokers")
            workers[victim]?.cutOffUntil = now + Int64.random(in: 1_000...40_000, using: &generator)
        case 3: rebalance()
        case 4:
            disturbed("worker \(victim) loses its assignment")
            release(victim, isLost: true)
            rebalance()
        case 5 where scenario.skewMilliseconds > 0:
            let skew = Int64.random(in: -scenario.skewMilliseconds...scenario.skewMilliseconds, using: &generator)
            workers[victim]?.skew = skew
            disturbed("worker \(victim)'s clock is stepped to \(skew)")
        case 6...7 where scenario.egress:
            note("worker \(victim)'s egress breaks")
            workers[victim]?.egressBrokenUntil = now + Int64.random(in: 5_000...40_000, using: &generator)
        default: crash(victim)
        }
    }

    /// kill -9: what it knew is gone; requests under way may still be answered, to nobody.
    mutating func crash(_ id: Int) {
        disturbed("worker \(id) is killed")
        report.crashes += 1
        if let counters = workers[id]?.core.counters { report.holds += counters.holds }
        workers[id] = nil
        workerIDs.removeAll { $0 == id }
        addWorker()
        rebalance()
    }

    // MARK: time

    private mutating func tick(by milliseconds: Int64) {
        now += milliseconds
        expelSilent()
        for id in workerIDs { turn(id) }
    }

    /// A member that is silent for the session is replaced without its knowledge.
    private mutating func expelSilent() {
        for id in workerIDs {
            guard let worker = workers[id] else { continue }
            guard worker.suspendedUntil > now || worker.cutOffUntil > now else {
                workers[id]?.silentSince = nil
                continue
            }
            let since = worker.silentSince ?? now
            workers[id]?.silentSince = since
            if now - since > Self.sessionMilliseconds, owner.contains(id) { mustRebalance = true }
        }
        if mustRebalance { rebalance() }
    }

    /// Faults have stopped: everything must end, in bounded time, and be committed.
    private mutating func settle() {
        guard report.violations.isEmpty else { return }
        isSettling = true
        for id in workerIDs {
            with(id) { worker, _ in (worker.suspendedUntil, worker.cutOffUntil, worker.egressBrokenUntil, worker.dooms) = (0, 0, 0, nil) }
        }
        // Transaction markers end every partition: offsets without a record.
        for topic in 0..<2 + Self.tiers.count {
            for partition in 0..<scenario.partitions { log.appendMarker(StreamID(topic: topic, partition: Int32(partition))) }
        }
        rebalance()
        let started = now
        var isDone = false
        while report.violations.isEmpty, now - started < 900_000 {
            step += 1
            if job != nil { replay() }
            isDone = job == nil && allEnded && arrivals.isEmpty && allCommitted
            if isDone { break }
            if now - started > Self.healthyLimitMilliseconds { checkHealthyHaveAll() }
            tick(by: nextTick())
        }
        if report.violations.isEmpty, !isDone { explainUnfinished() }
    }

    /// To the next moment at which something can happen.
    private mutating func nextTick() -> Int64 {
        var next = now + 700
        if let arrival = arrivals.first { next = min(next, arrival.at) }
        for id in workerIDs {
            guard let worker = workers[id] else { continue }
            if let deadline = worker.core.nextDeadlineMonotonic { next = min(next, deadline - worker.monotonicBase) }
            if worker.readingAgain != nil || !worker.wire.isEmpty { next = min(next, now + 20) }
        }
        return max(next - now, 20)
    }
}
