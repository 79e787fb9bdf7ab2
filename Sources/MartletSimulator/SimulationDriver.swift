internal import Martlet

// What the drivers of a worker do: read, carry out commands, produce, commit.
extension Simulation {
    mutating func turn(_ id: Int) {
        guard let worker = workers[id], worker.suspendedUntil <= now else { return }
        with(id) { worker, now in worker.core.advance(to: worker.time(now)) }
        takeArrivals()
        execute(id)
        if worker.cutOffUntil <= now {
            readRegistry(id)
            readHealth(id)
            read(id)
            readAgain(id)
            fanOut(id)
        }
        execute(id)
        guard workers[id] != nil, worker.cutOffUntil <= now else { return }
        checkHealthIsWritten(id)
        commit(id)
        // One that slept through its replacement learns it from the brokers.
        if let worker = workers[id], worker.generation != generation, !worker.partitions.isEmpty {
            disturbed("worker \(id) learns that it was replaced")
            release(id, isLost: true)
            rebalance()
        }
    }

    mutating func send(_ id: Int, after milliseconds: Int64, _ arrival: SimulatedArrival) {
        arrivalNumber += 1
        arrivals.insert((now + milliseconds, arrivalNumber, id, arrival))
    }

    private mutating func takeArrivals() {
        var later: [(at: Int64, number: Int, worker: Int, arrival: SimulatedArrival)] = []
        while let next = arrivals.first, next.at <= now {
            _ = arrivals.popFirst()
            guard let worker = workers[next.worker] else { continue }
            // Nothing arrives at one that sleeps; without brokers only answers of receivers do.
            var isReachable = worker.suspendedUntil <= now
            if case .attempt = next.arrival {} else { isReachable = isReachable && worker.cutOffUntil <= now }
            guard isReachable else {
                later.append((max(now + 1, worker.suspendedUntil, worker.cutOffUntil), next.number, next.worker, next.arrival))
                continue
            }
            with(next.worker) { worker, now in worker.core.advance(to: worker.time(now)) }
            take(next.worker, next.arrival)
            execute(next.worker)
        }
        for item in later { arrivals.insert(item) }
    }

    private mutating func take(_ id: Int, _ arrival: SimulatedArrival) {
        switch arrival {
        case .attempt(let token, let endpoint, let answer):
            let isKnown = workers[id]?.core.place(of: token) != nil
            let name = endpoints[endpoint].id
            note("worker \(id) hears from \(name): \(answer.outcome), \(answer.signal)\(isKnown ? "" : ", too late")")
            attemptEnds(id, token, endpoint, answer)
            with(id) { worker, _ in worker.core.attemptEnded(token, answer.outcome, answer.signal) }
            if isKnown { attemptEnded(id, endpoint, answer) }
        case .acknowledgement(let token, let result, let sent, let appended):
            with(id) { worker, now in
                if let appended, result == .acknowledged {
                    worker.clock.acknowledged(appended: appended, sent: sent, acknowledged: now + worker.skew)
                }
                worker.core.produced(token, result)
            }
        case .fanOutAcknowledgement(let token, let index):
            with(id) { worker, _ in worker.progress.acknowledged(token, index: index) }
        case .healthNotWritten(let endpointID): with(id) { worker, _ in worker.core.healthNotWritten(endpointID) }
        case .commitFailed(let generation):
            with(id) { worker, _ in if worker.generation == generation { worker.isCommitting = false } }
        case .committed(let commits, let events, let sent, let generation):
            with(id) { worker, _ in
                worker.isCommitting = false
                guard worker.generation == generation, !worker.partitions.isEmpty else { return }
                worker.core.committed(commits)
                worker.progress.committed(events)
                let until = sent + Self.sessionMilliseconds - Self.leaseMarginMilliseconds
                worker.core.setLease(untilMonotonic: until + worker.monotonicBase)
                worker.leaseUntil = max(worker.leaseUntil, until)
            }
        }
    }

    // MARK: reading

    private mutating func readRegistry(_ id: Int) {
        with(id) { [registry, endpoints] worker, now in
            let asOf = now - worker.registryLag
            while worker.registryIndex < registry.count, registry[worker.registryIndex].at <= asOf {
                let change = registry[worker.registryIndex]
                worker.core.registryChanged(change.entry.map { .set($0) } ?? .deleted(id: endpoints[change.endpoint].id))
                worker.registryIndex += 1
            }
            worker.core.registryAt(position: Int64(worker.registryIndex), freshAsOf: asOf + worker.monotonicBase)
        }
    }

    private mutating func readHealth(_ id: Int) {
        for partition in workers[id]?.partitions ?? [] {
            let records = log.health[Int(partition)]
            let from = workers[id]?.healthPositions[partition] ?? records.count
            // A few at a time; the end is met when nothing more is there.
            let to = isSettling || scenario.isCalm ? records.count : min(records.count, from + Int.random(in: 0...20, using: &generator))
            if from < to { note("worker \(id) reads \(to - from) health records of partition \(partition)") }
            with(id) { worker, _ in
                let isRestoring = worker.core.isRestoring(partition)
                for record in records[min(from, to)..<to] { worker.core.healthRead(record, partition: partition, isRestoring: isRestoring) }
                if isRestoring {
                    // What a predecessor wrote meanwhile counts as well.
                    for record in records[min(from, to)..<to] { watch(worker, record) }
                }
                worker.healthPositions[partition] = to
                if to == records.count { worker.core.restored(partition) }
            }
        }
    }

    private mutating func read(_ id: Int) {
        for partition in workers[id]?.partitions ?? [] {
            for topic in 0..<2 + Self.tiers.count { read(id, StreamID(topic: topic, partition: partition)) }
        }
    }

    private mutating func read(_ id: Int, _ stream: StreamID) {
        var budget = min(workers[id]?.core.readBudget(stream) ?? 0, 12)
        guard budget > 0 else { return }
        if !isSettling { budget = Int.random(in: 0...budget, using: &generator) }
        while budget > 0, workers[id] != nil {
            budget -= 1
            let position = workers[id]?.positions[stream] ?? 0
            if position < log[stream].start { return goOnAfterLoss(id, stream, position) }
            guard let record = log.read(stream, from: position) else {
                let end = log[stream].stableEnd
                with(id) { worker, _ in worker.core.endReached(stream, offset: end) }
                workers[id]?.positions[stream] = max(position, end)
                return
            }
            workers[id]?.positions[stream] = record.offset + 1
            received(id, stream, record, isAgain: false)
            checkMemory(id, stream)
            if workers[id]?.core.readBudget(stream) ?? 0 == 0 { return }
        }
    }

    private mutating func received(_ id: Int, _ stream: StreamID, _ record: SimulatedRecord, isAgain: Bool) {
        var facts = record.facts
        facts.isHome = record.delivery < 0 || endpoints[record.delivery % 100].partition == stream.partition
        note(
            "worker \(id) reads delivery \(record.delivery) at \(stream.topic)/\(stream.partition)/\(record.offset)\(isAgain ? " again" : "")"
        )
        let (now, count) = (now, disturbances)
        let place = RecordPlace(stream: stream, offset: record.offset)
        if ends[place] == nil { ends[place] = (0, disturbances) }
        // One that was replaced, and doesn't know it yet.
        if workers[id]?.generation != generation { ends[place]?.disturbances -= 1 }
        with(id) { worker, _ in
            let token: RecordToken?
            if isAgain {
                if record.delivery < 0 {
                    worker.core.readAgainReached(stream, offset: record.offset + 1)
                    token = nil
                } else {
                    token = worker.core.receivedAgain(stream, offset: record.offset, facts)
                }
            } else if record.delivery < 0 {
                token = worker.core.receivedPoison(stream, offset: record.offset, bytes: facts.bytes)
            } else {
                token = worker.core.received(stream, offset: record.offset, appendWall: record.appendWall, facts)
            }
            guard let token else { return }
            let delay = stream.topic < 2 ? 0 : Self.tiers[stream.topic - 2].delayMilliseconds
            let look = max(now, isAgain ? now : record.appendWall + delay - worker.clockError)
            let due = stream.topic == 0 ? 0 : facts.dueMilliseconds - worker.clockError
            worker.items[token] = .init(
                record: record, stream: stream, ready: due - look < 5_500 ? max(look, due) : look, isRetried: facts.attempts > 0,
                disturbances: count)
        }
    }

    private mutating func goOnAfterLoss(_ id: Int, _ stream: StreamID, _ position: Int64) {
        let start = log[stream].start
        workers[id]?.positions[stream] = start
        for record in log.lanesRemoved(stream) where record.offset >= position && record.offset < start {
            countedLost.insert(record.delivery)
        }
        var lost: Int64 = 0
        // What starts without a committed offset starts where the log does.
        let isNew = workers[id]?.core.position(stream) == nil
        let isSilent = has(.resetSilently)
        with(id) { worker, _ in
            if isSilent { worker.core.endReached(stream, offset: start) } else { lost = worker.core.restart(stream, at: start) }
        }
        note("worker \(id) lost \(lost) offsets of \(stream)")
        if lost < start - position, !isNew { violate("\(start - position) offsets of \(stream) are lost, and \(lost) are counted") }
    }

    private mutating func readAgain(_ id: Int) {
        guard let reading = workers[id]?.readingAgain else { return }
        if reading.position < log[reading.stream].start {
            let start = log[reading.stream].start
            var lost: (holds: Int, records: Int64) = (0, 0)
            let gone = lostUnderHolds(id, reading.stream, below: start)
            with(id) { worker, _ in lost = worker.core.readAgainLost(reading.stream, below: start) }
            if lost.records < gone { violate("\(gone) records of \(reading.stream) are lost under holds, and \(lost.records) are counted") }
            return execute(id)
        }
        var budget = 8
        while budget > 0, let reading = workers[id]?.readingAgain {
            budget -= 1
            guard workers[id]?.core.readAgainBudget(reading.stream) ?? 0 > 0 else {
                with(id) { worker, _ in worker.core.readAgainFailed() }
                return execute(id)
            }
            guard let record = log.read(reading.stream, from: reading.position) else {
                let end = log[reading.stream].end
                with(id) { worker, _ in worker.core.readAgainReached(reading.stream, offset: end) }
                return execute(id)
            }
            workers[id]?.readingAgain?.position = record.offset + 1
            received(id, reading.stream, record, isAgain: true)
            execute(id)
        }
    }

    // MARK: fan-out

    private mutating func fanOut(_ id: Int) {
        guard let partitions = workers[id]?.partitions, workers[id]?.generation == generation else { return }
        if workers[id]?.wire.isEmpty == true {
            for partition in partitions { readEvents(id, Int(partition)) }
        }
        // The producer keeps order: what is with the brokers is a beginning of what was handed to it.
        var count = min(workers[id]?.wire.count ?? 0, Int.random(in: 0...12, using: &generator))
        while count > 0, let next = workers[id]?.wire.first {
            count -= 1
            workers[id]?.wire.removeFirst()
            let isAstray = scenario.partitions > 1 && !endpoints[next.delivery % 100].definition.isStrict && chance(0.01)
            let stream = StreamID(topic: 0, partition: isAstray ? (next.partition + 1) % Int32(scenario.partitions) : next.partition)
            if isAstray { astray.insert(next.delivery) }
            log.append(SimulatedRecord(facts: next.facts, delivery: next.delivery, appendWall: now), to: stream, gap: gap(), at: now)
            send(id, after: Int64.random(in: 1...30, using: &generator), .fanOutAcknowledgement(next.token, index: next.index))
        }
    }

    private mutating func readEvents(_ id: Int, _ partition: Int) {
        // Held back when the view of the registry is old: here it never is, a worker reads it before.
        let stream = StreamID(topic: 0, partition: Int32(partition))
        let start = log.events[partition].start
        if workers[id]?.eventPositions[partition] ?? 0 < start {
            with(id) { worker, _ in
                worker.progress.restart(stream, at: start)
                worker.eventPositions[partition] = start
            }
        }
        let position = workers[id]?.eventPositions[partition] ?? 0
        guard let event = log.events[partition].records.first(where: { $0.offset >= position }) else {
            let end = log.events[partition].end
            with(id) { worker, _ in worker.progress.endReached(stream, offset: end) }
            return
        }
        workers[id]?.eventPositions[partition] = event.offset + 1
        let known = registry.prefix(workers[id]?.registryIndex ?? 0)
        var matched: Set<Int> = []
        for change in known { if change.entry == nil { matched.remove(change.endpoint) } else { matched.insert(change.endpoint) } }
        let numbers = matched.sorted { endpoints[$0].id < endpoints[$1].id }
        let wall = now + (workers[id]?.clockError ?? 0)
        with(id) { [endpoints] worker, _ in
            guard let (token, from) = worker.progress.begin(stream, offset: event.offset, endpointIDs: numbers.map { endpoints[$0].id })
            else { return }
            for index in from..<numbers.count {
                let facts = DeliveryFacts(
                    endpointID: endpoints[numbers[index]].id, dueMilliseconds: wall, ageFromMilliseconds: wall,
                    registryOffset: Int64(worker.registryIndex), bytes: 100)
                worker.wire.append((token, index, event.number * 100 + numbers[index], endpoints[numbers[index]].partition, facts))
            }
        }
    }

    // MARK: commands

    /// Carries out what the lane decided. A worker may die between any two commands.
    mutating func execute(_ id: Int) {
        while workers[id] != nil {
            var commands: [LaneCommand] = []
            with(id) { worker, _ in commands = worker.core.takeCommands() }
            if commands.isEmpty { return }
            for command in commands {
                guard workers[id] != nil else { return }
                if let left = workers[id]?.dooms, !isRebalancing {
                    guard left > 0 else { return crash(id) }
                    workers[id]?.dooms = left - 1
                }
                carryOut(id, command)
            }
        }
    }

    private mutating func carryOut(_ id: Int, _ command: LaneCommand) {
        if isTracing {
            let text = describe(id, command)
            note("worker \(id) \(text)")
        }
        switch command {
        case .start(let token):
            hash(1 ^ token.bits << 8)
            start(id, token)
        case .produce(let token, let successor):
            hash(2 ^ token.bits << 8)
            produce(id, token, successor)
        case .publishHealth(let record):
            hash(3 ^ UInt64(record.opens) << 8)
            healthPublished(id, record)
        case .publishEvent(let event):
            hash(4 ^ UInt64(truncatingIfNeeded: event.atMilliseconds) << 8)
            disabled(id, event)
        case .logAttempt(let token, let attempt, let verdict):
            hash(5 ^ token.bits << 8 ^ UInt64(attempt) << 40)
            attemptLogged(id, token, verdict)
        case .readAgain(let stream, let from):
            hash(6 ^ UInt64(truncatingIfNeeded: from) << 8)
            workers[id]?.readingAgain = (stream, from)
        case .stopReadingAgain:
            hash(7)
            workers[id]?.readingAgain = nil
        case .release(let token):
            hash(8 ^ token.bits << 8)
            workers[id]?.items[token] = nil
        }
    }

    /// For the trace: deliveries by their number (event * 100 + endpoint).
    private func describe(_ id: Int, _ command: LaneCommand) -> String {
        func delivery(_ token: RecordToken) -> String {
            guard let worker = workers[id], let item = worker.items[token] else { return "a record that is gone" }
            let place = worker.core.place(of: token).map { "\($0.stream.topic)/\($0.stream.partition)/\($0.offset)" } ?? "?"
            return "delivery \(item.record.delivery) at \(place)"
        }
        switch command {
        case .start(let token): return "starts \(delivery(token))"
        case .logAttempt(let token, let attempt, let verdict): return "attempt \(attempt) of \(delivery(token)): \(verdict)"
        case .produce(let token, .retry(let tier, let due, let attempts)):
            return "writes \(delivery(token)) to \(tier.name), due \(due - 10_000_000), attempts \(attempts)"
        case .produce(let token, .dead(let reason, let attempts)): return "buries \(delivery(token)): \(reason), attempts \(attempts)"
        case .produce(let token, .home): return "moves \(delivery(token)) home"
        case .publishHealth(let record):
            return
                "health of \(record.endpointID): \(record.breaker), until \(record.openUntilMilliseconds - 10_000_000), disabled \(record.disabled.map { "\($0.reason) v\($0.endpointVersion)" } ?? "no")"
        case .publishEvent(let event): return "event \(event.type) of \(event.endpointID)"
        case .readAgain(let stream, let from): return "reads \(stream.topic)/\(stream.partition) again from \(from)"
        case .stopReadingAgain: return "stops reading again"
        case .release(let token): return "forgets \(delivery(token))"
        }
    }

    private mutating func start(_ id: Int, _ token: RecordToken) {
        guard let worker = workers[id], let item = worker.items[token], let place = worker.core.place(of: token) else {
            return violate("a start without a record")
        }
        let number = item.record.delivery % 100
        checkStart(id, token, item, place, number)
        var answer = endpoints[number].receiver.answer(now: now, recoversAt: recoversAt, using: &generator)
        if worker.egressBrokenUntil > now {
            answer = .init(outcome: .retry(hintMilliseconds: nil), signal: .unreachable, delay: answer.delay % 50, isReceived: false)
        }
        if answer.isReceived { received(item.record.delivery) }
        if answer.outcome == .delivered { noteEnd(item) }
        send(id, after: max(1, answer.delay), .attempt(token, endpoint: number, answer))
    }

    private mutating func produce(_ id: Int, _ token: RecordToken, _ successor: Successor) {
        guard let worker = workers[id], let item = worker.items[token] else { return violate("a successor without a record") }
        let place = (stream: item.stream, offset: item.record.offset)
        checkMove(id, item, successor, place)
        workers[id]?.items[token]?.isBusy = true
        workers[id]?.items[token]?.hasMoved = true
        // Sometimes it isn't written, sometimes it is written and the answer is lost, late or comes twice: the lane must go on.
        let fate = scenario.isCalm || isSettling ? 9 : Int.random(in: 0..<60, using: &generator)
        let isWritten = fate != 0 && worker.cutOffUntil <= now && !has(.acknowledgeEarly)
        var result = isWritten && fate != 1 ? LaneStateMachine.ProduceResult.acknowledged : .transient
        if has(.acknowledgeEarly), fate != 0 { pendingWrites.append((id, now + 40, item, successor, place)); result = .acknowledged }
        if case .dead(let reason, _) = successor, letterKey(item, reason, place).isEmpty {
            // A compacted topic takes no record without a key.
            result = .refused
        } else if isWritten {
            noteEnd(item)
            write(item, successor, place)
        }
        if fate == 1 { disturbed("an acknowledgement is lost") }
        let sent = now + worker.skew
        let delay = fate == 2 ? Int64.random(in: 500...4_000, using: &generator) : Int64.random(in: 1...30, using: &generator)
        let appended: Int64? = isWritten ? now : nil
        send(id, after: result == .transient ? delay + 300 : delay, .acknowledgement(token, result, sent: sent, appended: appended))
        if fate == 3 { send(id, after: delay + 5, .acknowledgement(token, result, sent: sent, appended: appended)) }
    }

    /// The key of the letter that the real code composes.
    private func letterKey(_ item: SimulatedWorker.Item, _ reason: DeadReason, _ place: (stream: StreamID, offset: Int64)) -> String {
        let source = (topic: "topic-\(place.stream.topic)", partition: place.stream.partition, offset: place.offset)
        guard item.record.delivery < 0 else {
            var headers = DeliveryHeaders()
            headers.deliveryID = "dlv_\(item.record.delivery)"
            return DeadLetter.letter(headers, reason: reason, body: nil, source: source).key
        }
        let letter = DeadLetter.poison("not a delivery", headers: [], body: nil, source: source, nowMilliseconds: now)
        return has(.poisonWithoutAKey) ? "" : letter.key
    }

    mutating func write(_ item: SimulatedWorker.Item, _ successor: Successor, _ place: (stream: StreamID, offset: Int64)) {
        var record = item.record
        switch successor {
        case .dead(let reason, _): log.bury(record.delivery, reason)
        case .retry(let tier, let due, let attempts):
            report.rewrites += 1
            record.rewrites += 1
            record.facts.attempts = attempts
            record.facts.dueMilliseconds = due
            let topic = 2 + (Self.tiers.firstIndex(of: tier) ?? 0)
            log.append(record, to: StreamID(topic: topic, partition: place.stream.partition), gap: gap(), at: now)
        case .home:
            let home = endpoints[record.delivery % 100].partition
            log.append(record, to: StreamID(topic: place.stream.topic, partition: home), gap: gap(), at: now)
        }
    }

    // MARK: commits

    private mutating func commit(_ id: Int) {
        flushPendingWrites(id)
        guard let worker = workers[id], !worker.isCommitting, !worker.partitions.isEmpty else { return }
        var due: [LaneStateMachine.Commit] = []
        with(id) { worker, _ in due = worker.core.commitsDue() }
        let events = workers[id]?.progress.commits(onlyChanged: true) ?? []
        if has(.commitWhatIsNotOwned), chance(0.05), let other = owner.indices.first(where: { owner[$0] != id && owner[$0] >= 0 }) {
            // A partition that it once had: with the offsets that it remembers.
            let stream = StreamID(topic: 0, partition: Int32(other))
            if let position = worker.positions[stream] { due.append(.init(stream: stream, offset: position, metadata: "")) }
        }
        guard !due.isEmpty || !events.isEmpty else { return }
        // The brokers check the generation, and nothing else.
        guard worker.generation == generation else { return }
        workers[id]?.isCommitting = true
        if isCommitPartLost() {
            // Some partitions have it, others don't, and the answer is an error.
            for commit in due where chance(0.5) { commitChecked(id, commit) }
            for commit in events where chance(0.5) { commitChecked(commit) }
            return send(id, after: Int64.random(in: 1...40, using: &generator), .commitFailed(generation: generation))
        }
        for commit in due { commitChecked(id, commit) }
        for commit in events { commitChecked(commit) }
        send(
            id, after: Int64.random(in: 1...(chance(0.05) && !isSettling && !scenario.isCalm ? 6_000 : 40), using: &generator),
            .committed(due, events, sent: now, generation: generation))
    }

    private mutating func flushPendingWrites(_ id: Int) {
        guard has(.acknowledgeEarly) else { return }
        let due = pendingWrites.filter { $0.worker == id && $0.at <= now }
        pendingWrites.removeAll { $0.worker == id && $0.at <= now || workers[$0.worker] == nil }
        for pending in due { write(pending.item, pending.successor, pending.place) }
    }
}
