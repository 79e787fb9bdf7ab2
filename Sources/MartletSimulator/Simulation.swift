internal import HTTPDelivery
internal import Martlet

/// The delivery lane's state machine in a world of models with one seed: log, group, acknowledgements, receivers, clock. Workers crash,
/// are suspended and lose partitions at any step; then faults stop, and everything must come to an end.
public struct Simulation {
    public struct Options: Sendable {
        public var partitions: Int32 = 3
        public var workers = 2
        public var endpoints = 6
        public var deliveries = 120
        public var steps = 600
        /// Chance of a fault per step.
        public var faults = 0.01
        public init() {}
    }

    public struct Report: Sendable, Equatable {
        public var seed: UInt64
        /// What broke, with the step; empty: all invariants held.
        public var violations: [String] = []
        /// Of every command, in order: one seed gives one hash.
        public var traceHash: UInt64 = 0xcbf2_9ce4_8422_2325
        public var delivered = 0
        public var duplicates = 0
        public var crashes = 0
        public var rewrites = 0
    }

    static let tiers = ["1s", "5s", "30s"].compactMap { RetryTier(name: $0) }
    static let sessionMilliseconds: Int64 = 15_000
    static let leaseMarginMilliseconds: Int64 = 10_000

    private let options: Options
    private var generator: SeededGenerator
    private var log = SimulatedLog()
    private var workers: [Int: SimulatedWorker] = [:]
    private var nextWorker = 0
    private var generation = 0
    private var owner: [Int32: Int] = [:]
    private var arrivals: [(at: Int64, worker: Int, arrival: SimulatedArrival)] = []
    private var now: Int64 = 1_000_000
    private var step = 0
    private var report: Report
    private var endpoints: [(entry: Registry.Entry, id: String, partition: Int32, receiver: SimulatedReceiver)] = []
    private var succeeded: [Int: Int] = [:]
    /// Crashes, suspensions and rebalances so far: what may explain a duplicate.
    private var disturbances = 0

    public init(seed: UInt64, options: Options = Options()) {
        self.options = options
        generator = SeededGenerator(seed: seed)
        report = Report(seed: seed)
    }

    public mutating func run() -> Report {
        makeEndpoints()
        for delivery in 0..<options.deliveries { publish(delivery) }
        for _ in 0..<options.workers { addWorker() }
        rebalance()
        while step < options.steps, report.violations.isEmpty {
            step += 1
            if Double.random(in: 0..<1, using: &generator) < options.faults { disturb() }
            tick(by: Int64.random(in: 1...200, using: &generator))
        }
        settle()
        return report
    }

    // MARK: the world

    private mutating func makeEndpoints() {
        for number in 0..<options.endpoints {
            let id = "ep_\(number)"
            var endpoint = Endpoint(id: id, url: "https://receiver.martlet.dev/\(number)")
            endpoint.secrets = [.init(id: "s", createdMilliseconds: 0, plain: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
            endpoint.schedule = RetrySchedule(delaysMilliseconds: [500, 2_000, 8_000, 20_000]) ?? .standard
            endpoint.maxAgeMilliseconds = 600_000
            if number % 3 == 1 { endpoint.rate = RateLimit(n: 20, perMilliseconds: 1_000, burst: 5) }
            endpoint.maxConcurrency = 8
            let prepared = PreparedEndpoint(endpoint, rules: .init(), nowMilliseconds: now)
            let receiver = SimulatedReceiver.allCases[Int.random(in: 0..<SimulatedReceiver.allCases.count, using: &generator)]
            endpoints.append((.readable(prepared), id, Int32(number) % options.partitions, receiver))
        }
    }

    private mutating func publish(_ delivery: Int) {
        let target = endpoints[delivery % endpoints.count]
        let facts = DeliveryFacts(endpointID: target.id, dueMilliseconds: now, ageFromMilliseconds: now, registryOffset: 1, bytes: 100)
        // Some lie outside their home partition, as after growth.
        let isAstray = Int.random(in: 0..<40, using: &generator) == 0
        let partition = isAstray ? (target.partition + 1) % options.partitions : target.partition
        log.append(
            SimulatedRecord(facts: facts, delivery: delivery, appendWall: now), to: StreamID(topic: 0, partition: partition), gap: gap())
    }

    private mutating func gap() -> Int64 { Int.random(in: 0..<10, using: &generator) == 0 ? Int64.random(in: 1...3, using: &generator) : 0 }

    private mutating func addWorker() {
        var settings = LaneSettings()
        settings.tiers = Self.tiers
        settings.unfinishedLimit = 20
        settings.writer = "w\(nextWorker)"
        var core = LaneStateMachine(settings, topicDelays: [0, 0] + Self.tiers.map(\.delayMilliseconds), seed: generator.next())
        core.advance(to: LaneTime(monotonic: now, wall: now))
        for endpoint in endpoints { core.registryChanged(.set(endpoint.entry)) }
        core.registryAt(position: 10, freshAsOf: now)
        workers[nextWorker] = SimulatedWorker(core: core)
        nextWorker += 1
    }

    private func streams(_ partitions: Set<Int32>) -> [StreamID] {
        partitions.sorted().flatMap { partition in (0..<2 + Self.tiers.count).map { StreamID(topic: $0, partition: partition) } }
    }

    /// Eager: all give everything up, then the partitions are dealt out. Suspended members are left out and notice later.
    private mutating func rebalance() {
        disturbances += 1
        generation += 1
        let members = workers.keys.sorted().filter { (workers[$0]?.suspendedUntil ?? 0) <= now }
        for id in members { release(id, isLost: false) }
        owner = [:]
        guard !members.isEmpty else { return }
        for partition in 0..<options.partitions { owner[partition] = members[Int.random(in: 0..<members.count, using: &generator)] }
        for id in members { acquire(id, Set(owner.filter { $0.value == id }.keys)) }
    }

    private mutating func release(_ id: Int, isLost: Bool) {
        guard var worker = workers[id] else { return }
        worker.core.advance(to: LaneTime(monotonic: now, wall: now))
        let leaving = worker.core.ownedStreams
        worker.core.beginRevoke(leaving)
        if !isLost {
            for commit in worker.core.commits(of: leaving, onlyChanged: true) { commitChecked(commit) }
        } else {
            worker.core.loseLease()
        }
        worker.core.disown(leaving)
        worker.partitions = []
        workers[id] = worker
        execute(id)
    }

    private mutating func acquire(_ id: Int, _ partitions: Set<Int32>) {
        guard var worker = workers[id] else { return }
        worker.partitions = partitions
        worker.generation = generation
        for stream in streams(partitions) {
            let start = log.committed[stream]
            do { try worker.core.own(stream, committed: start?.offset, metadata: start?.metadata ?? "") } catch {
                report.violations.append("step \(step): own metadata can't be read: \(error)")
            }
            worker.positions[stream] = start?.offset ?? 0
        }
        for partition in partitions.sorted() {
            for record in log.health[partition] ?? [] { worker.core.healthRead(record, partition: partition, isRestoring: true) }
        }
        workers[id] = worker
    }

    private mutating func disturb() {
        let ids = workers.keys.sorted()
        guard let victim = ids.randomElement(using: &generator) else { return }
        switch Int.random(in: 0..<4, using: &generator) {
        case 0:
            // kill -9: what it knew is gone, requests under way may still arrive at the receiver.
            report.crashes += 1
            workers[victim] = nil
            addWorker()
            rebalance()
        case 1:
            disturbances += 1
            workers[victim]?.suspendedUntil = now + Int64.random(in: 1_000...60_000, using: &generator)
        case 2: rebalance()
        default: release(victim, isLost: true); rebalance()
        }
    }

    // MARK: time

    private mutating func tick(by milliseconds: Int64) {
        now += milliseconds
        expelSuspended()
        for id in workers.keys.sorted() { turn(id) }
    }

    /// A member that is silent for the session is replaced without its knowledge.
    private mutating func expelSuspended() {
        for id in workers.keys.sorted() {
            guard let worker = workers[id] else { continue }
            if worker.suspendedUntil > now, !worker.partitions.isEmpty, worker.generation == generation, worker.suspendedUntil - now > 0,
                silentSince[id] == nil
            {
                silentSince[id] = now
            }
            if worker.suspendedUntil <= now { silentSince[id] = nil }
            if let since = silentSince[id], now - since > Self.sessionMilliseconds, owner.values.contains(id) { rebalance() }
        }
    }
    private var silentSince: [Int: Int64] = [:]

    private mutating func turn(_ id: Int) {
        guard var worker = workers[id], worker.suspendedUntil <= now else { return }
        worker.core.advance(to: LaneTime(monotonic: now, wall: now))
        workers[id] = worker
        arrive(id)
        execute(id)
        read(id)
        execute(id)
        commit(id)
        // One that slept through its replacement learns it from the brokers.
        if let worker = workers[id], worker.generation != generation, !worker.partitions.isEmpty {
            release(id, isLost: true)
            rebalance()
        }
    }

    private mutating func arrive(_ id: Int) {
        let due = arrivals.indices.filter { arrivals[$0].worker == id && arrivals[$0].at <= now }
        let taken = due.map { arrivals[$0] }
        for index in due.reversed() { arrivals.remove(at: index) }
        for item in taken {
            switch item.arrival {
            case .attempt(let token, _, let outcome, let signal): workers[id]?.core.attemptEnded(token, outcome, signal)
            case .acknowledgement(let token, let result): workers[id]?.core.produced(token, result)
            }
        }
    }

    private mutating func read(_ id: Int) {
        guard let worker = workers[id] else { return }
        for stream in streams(worker.partitions) {
            var budget = min(workers[id]?.core.readBudget(stream) ?? 0, Int.random(in: 0...12, using: &generator))
            while budget > 0 {
                budget -= 1
                let position = workers[id]?.positions[stream] ?? 0
                guard let (offset, record) = log.read(stream, from: position) else {
                    workers[id]?.core.endReached(stream, offset: log.end(stream))
                    break
                }
                workers[id]?.positions[stream] = offset + 1
                var facts = record.facts
                facts.isHome = endpoints.first { $0.id == facts.endpointID }?.partition == stream.partition
                if let token = workers[id]?.core.received(stream, offset: offset, appendWall: record.appendWall, facts) {
                    workers[id]?.items[token] = record
                }
                if workers[id]?.core.readBudget(stream) == 0 { break }
            }
        }
    }

    // MARK: commands

    private mutating func execute(_ id: Int) {
        while let commands = workers[id]?.core.takeCommands(), !commands.isEmpty {
            for command in commands {
                note(command)
                switch command {
                case .start(let token): start(id, token)
                case .produce(let token, let successor): produce(id, token, successor)
                case .publishHealth(let record):
                    if let target = endpoints.first(where: { $0.id == record.endpointID }) { log.write(record, target.partition) }
                case .logAttempt: break
                case .release(let token): workers[id]?.items[token] = nil
                }
            }
        }
    }

    private mutating func start(_ id: Int, _ token: RecordToken) {
        guard let worker = workers[id], let record = worker.items[token], let place = worker.core.place(of: token) else {
            return report.violations.append("step \(step): a start without a record")
        }
        if record.facts.dueMilliseconds > now {
            report.violations.append("step \(step): delivery \(record.delivery) started \(record.facts.dueMilliseconds - now) ms early")
        }
        if owner[place.stream.partition] != id, worker.generation == generation {
            report.violations.append("step \(step): worker \(id) started what it doesn't own")
        }
        if owner[place.stream.partition] != id, !worker.core.hasLease {
            report.violations.append("step \(step): worker \(id) started without a lease")
        }
        guard let target = endpoints.first(where: { $0.id == record.facts.endpointID }) else { return }
        let (outcome, signal, delay) = target.receiver.answer(now: now, recoversAt: 1_060_000, using: &generator)
        if outcome == .delivered {
            if succeeded[record.delivery] != nil {
                report.duplicates += 1
                if disturbances <= 1, report.crashes == 0 {
                    report.violations.append("step \(step): delivery \(record.delivery) was delivered twice without a reason")
                }
            }
            succeeded[record.delivery, default: 0] += 1
        }
        arrivals.append((now + delay, id, .attempt(token, delivery: record.delivery, outcome, signal)))
    }

    private mutating func produce(_ id: Int, _ token: RecordToken, _ successor: Successor) {
        guard let worker = workers[id], var record = worker.items[token], let place = worker.core.place(of: token) else {
            return report.violations.append("step \(step): a successor without a record")
        }
        // Sometimes it isn't written, sometimes it is written and the answer is lost: the lane must go on either way.
        let fate = Int.random(in: 0..<50, using: &generator)
        let isAnswered = fate > 1
        if fate != 0 {
            switch successor {
            case .dead(let reason, _): log.bury(record.delivery, reason)
            case .retry(let tier, let due, let attempts):
                report.rewrites += 1
                record.facts.attempts = attempts
                record.facts.dueMilliseconds = due
                record.appendWall = now
                let topic = 2 + (Self.tiers.firstIndex(of: tier) ?? 0)
                log.append(record, to: StreamID(topic: topic, partition: place.stream.partition), gap: gap())
            case .home:
                guard let target = endpoints.first(where: { $0.id == record.facts.endpointID }) else { return }
                record.appendWall = now
                log.append(record, to: StreamID(topic: place.stream.topic, partition: target.partition), gap: gap())
            }
        }
        if !isAnswered { disturbances += 1 }
        arrivals.append(
            (now + Int64.random(in: 1...30, using: &generator), id, .acknowledgement(token, isAnswered ? .acknowledged : .transient)))
    }

    private mutating func commit(_ id: Int) {
        guard let worker = workers[id] else { return }
        let due = workers[id]?.core.commitsDue() ?? []
        guard !due.isEmpty else { return }
        // The brokers check the generation, and nothing else.
        guard worker.generation == generation else { return }
        for commit in due { commitChecked(commit) }
        workers[id]?.core.committed(due)
        workers[id]?.core.setLease(untilMonotonic: now + Self.sessionMilliseconds - Self.leaseMarginMilliseconds)
    }

    // MARK: checks

    /// Nothing that a commit calls done may be unresolved: delivered, dead, or carried on by a later record.
    private mutating func commitChecked(_ commit: LaneStateMachine.Commit) {
        let before = log.committed[commit.stream]?.offset ?? 0
        log.commit(commit.stream, commit.offset, commit.metadata)
        guard let decoded = try? CommitMetadata.decode(commit.metadata, committed: commit.offset).metadata else {
            return report.violations.append("step \(step): metadata that can't be read back")
        }
        if commit.metadata.utf8.count > CommitMetadata.lengthLimit { report.violations.append("step \(step): metadata over its limit") }
        // What lies below the last commit was checked then.
        for (offset, record) in log.records(commit.stream, from: min(before, commit.offset)) {
            if offset >= commit.offset {
                guard let done = decoded.completed, offset <= done.highestCompleted else { break }
                guard offset > commit.offset, !done.incomplete.contains(offset) else { continue }
            }
            let isResolved =
                succeeded[record.delivery] != nil || log.deadLetters[record.delivery] != nil
                || (log.lastSequence[record.delivery] ?? 0) > record.sequence
            if !isResolved {
                report.violations.append(
                    "step \(step): \(commit.stream) commit \(commit.offset) calls delivery \(record.delivery) at \(offset) done")
            }
        }
    }

    /// Faults have stopped: everything must end, in bounded time.
    private mutating func settle() {
        for id in workers.keys.sorted() { workers[id]?.suspendedUntil = 0 }
        rebalance()
        for _ in 0..<6_000 where report.violations.isEmpty {
            step += 1
            if (0..<options.deliveries).allSatisfy({ succeeded[$0] != nil || log.deadLetters[$0] != nil }), arrivals.isEmpty { break }
            tick(by: 500)
        }
        for delivery in 0..<options.deliveries
        where succeeded[delivery] == nil && log.deadLetters[delivery] == nil && report.violations.isEmpty {
            report.violations.append(
                "after faults stopped, delivery \(delivery) of \(endpoints[delivery % endpoints.count].id) never ended")
        }
        report.delivered = succeeded.count
    }

    /// FNV-1a over what the lane decided.
    private mutating func note(_ command: LaneCommand) {
        for byte in "\(now) \(command)".utf8 { report.traceHash = (report.traceHash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
    }
}
