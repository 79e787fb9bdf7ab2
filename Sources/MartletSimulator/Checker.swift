internal import Martlet

// What must hold at every step, and at the end. It judges by what the world sees: starts, writes, commits.
extension Simulation {
    /// Due times are written by one worker's clock and read by another's, each as wrong as the last step or the first guess left it.
    private var clockTolerance: Int64 { scenario.skewMilliseconds * 4 }
    private static let residencyMilliseconds: Int64 = 5_000 + 1_500
    /// Pauses, deletions and edits reach a worker within its registry lag, unless it sleeps; and then its lease is over.
    private static let parkedMilliseconds: Int64 = 8_000
    /// Deferrals (each at least a quarter of the age, at most ten hops) and four retries.
    static let rewriteLimit = 100
    private static let schedule = 4
    private static let rateIntervalMilliseconds: Int64 = 200
    private static let rateBurst = 2

    /// Records that retention removed below `start` and that the committed holds of the partition say aren't delivered.
    mutating func lostUnderHolds(_ id: Int, _ stream: StreamID, below start: Int64) -> Int64 {
        guard let committed = log[stream].committed,
            let holds = try? CommitMetadata.decode(committed.metadata, committed: committed.offset).metadata.holds
        else { return 0 }
        // What the main reading hasn't come to is counted when it does.
        let end = min(start, workers[id]?.positions[stream] ?? start)
        let gone = log.lanesRemoved(stream).filter { record in
            guard record.delivery >= 0, record.offset < end, succeeded[record.delivery] == nil, log.deadLetters[record.delivery] == nil,
                log.lastSequence[record.delivery] == record.sequence, let hold = holds[endpoints[record.delivery % 100].hash]
            else { return false }
            return record.offset >= hold.offset && countedLost.insert(record.delivery).inserted
        }
        return Int64(gone.count)
    }

    // MARK: starts

    mutating func checkStart(
        _ id: Int, _ token: RecordToken, _ item: SimulatedWorker.Item, _ place: (stream: StreamID, offset: Int64), _ number: Int
    ) {
        guard let worker = workers[id] else { return }
        let delivery = item.record.delivery
        let early = max(
            place.stream.topic == 0 ? 0 : item.record.facts.dueMilliseconds - now,
            notBefore[delivery].map { lastDisturbance < publishedAt[delivery / 100].at ? $0 - now : 0 } ?? 0)
        if early > clockTolerance, !toggled.contains(number), endpoints[number].lastPaused ?? .min < now - Self.parkedMilliseconds {
            violate("delivery \(delivery) starts \(early) ms before it is due")
        }
        if owner[Int(place.stream.partition)] != id { violate("worker \(id) starts what isn't its own") }
        if now >= worker.leaseUntil { violate("worker \(id) starts without a lease") }
        let flight = Flight(worker: id, stream: place.stream, offset: place.offset)
        if !flying.insert(flight).inserted { violate("\(place.stream) \(place.offset) is started while it is in flight") }
        flights[FlightToken(worker: id, token: token)] = flight
        if !removed.contains(delivery) { checkNotDone(id, place, number) }
        checkRegistry(worker, number)
        checkResidency(worker, item, "starts")
        var watch = worker.endpoints[number] ?? EndpointWatch()
        checkBreaker(worker, token, number, &watch)
        checkLimits(worker, item, number, &watch)
        checkTurns(worker, item, number, &watch)
        watch.inFlight += 1
        with(id) { worker, _ in
            worker.endpoints[number] = watch
            worker.items[token]?.isBusy = true
            worker.items[token]?.wasStarted = true
        }
    }

    /// What the last commit calls done isn't started again.
    private mutating func checkNotDone(_ id: Int, _ place: (stream: StreamID, offset: Int64), _ number: Int) {
        guard !toggled.contains(number), let committed = log[place.stream].committed,
            let known = try? CommitMetadata.decode(committed.metadata, committed: committed.offset).metadata
        else { return }
        if let hold = known.holds[endpoints[number].hash], place.offset >= hold.offset {
            checkInheritedHold(hold, id, place, number)
            return
        }
        // A sequence that is repeated from one of its records on is repeated whole.
        let read = ends[RecordPlace(stream: place.stream, offset: place.offset)]
        if endpoints[number].definition.isStrict, disturbances > read?.disturbances ?? 0 { return }
        var isDone = place.offset < committed.offset
        if let done = known.completed, !isDone, place.offset > committed.offset, place.offset <= done.highestCompleted {
            isDone = !done.incomplete.contains(place.offset)
        }
        if isDone { violate("\(place.stream) \(place.offset) is started, and the last commit calls it done") }
    }

    /// What a predecessor committed as held until then doesn't start before; metadata keeps whole seconds, rounded up.
    private mutating func checkInheritedHold(_ hold: Hold, _ id: Int, _ place: (stream: StreamID, offset: Int64), _ number: Int) {
        guard committedBy[place.stream] != id, hold.offset == place.offset, hold.attempts > 0,
            endpoints[number].lastPaused ?? .min < now - Self.parkedMilliseconds
        else { return }
        let early = hold.dueMilliseconds - 1_000 - now
        if early > clockTolerance { violate("\(place.stream) \(place.offset) starts \(early) ms before its hold, taken over, is due") }
    }

    private mutating func checkRegistry(_ worker: SimulatedWorker, _ number: Int) {
        if let since = endpoints[number].parkedSince, now - since > Self.parkedMilliseconds {
            violate("\(endpoints[number].id) is sent to \(now - since) ms after it was paused or deleted")
        }
        let known = registry.prefix(worker.registryIndex).last { $0.endpoint == number }?.entry?.prepared?.endpoint.version ?? 0
        if let version = worker.endpoints[number]?.disabledVersion, known <= version {
            violate("\(endpoints[number].id) is disabled and sent to")
        }
    }

    private mutating func checkBreaker(_ worker: SimulatedWorker, _ token: RecordToken, _ number: Int, _ watch: inout EndpointWatch) {
        guard let until = watch.openUntil else {
            if watch.failuresInARow >= 5 { violate("\(endpoints[number].id): 5 failures in a row, and the breaker is closed") }
            return
        }
        if now < until - clockTolerance {
            violate("\(endpoints[number].id) is sent to \(until - now) ms before its breaker lets a probe through")
        }
        if !watch.probes.isEmpty { violate("\(endpoints[number].id): a second probe") }
        watch.probes.insert(token)
    }

    private mutating func checkLimits(_ worker: SimulatedWorker, _ item: SimulatedWorker.Item, _ number: Int, _ watch: inout EndpointWatch)
    {
        let isAlwaysStrict = endpoints[number].definition.isStrict && !toggled.contains(number)
        let limit = isAlwaysStrict ? 1 : Self.concurrencyLimit
        if watch.inFlight >= limit { violate("\(endpoints[number].id): more than \(limit) in flight") }
        guard number % 3 == 1 else { return }
        // Of all owners together: a new one begins with an empty bucket.
        var starts = self.starts[number] ?? []
        starts.append(now)
        if starts.count > 12 { starts.removeFirst() }
        self.starts[number] = starts
        for (index, start) in starts.enumerated()
        where starts.count - index > Self.rateBurst + Int((now - start) / Self.rateIntervalMilliseconds) {
            return violate("\(endpoints[number].id): \(starts.count - index) starts in \(now - start) ms")
        }
        guard scenario.isCalm, !isAlwaysStrict else { return }
        // Nothing but the limit holds it back: it must come at the limit's rate.
        if let last = starts.dropLast().last, item.ready <= last { watch.run += 1 } else { (watch.run, watch.runSince) = (0, now) }
        if watch.run >= 8, now - watch.runSince > Int64(watch.run) * Self.rateIntervalMilliseconds * 3 / 2 {
            violate("\(endpoints[number].id) gets only \(watch.run) starts in \(now - watch.runSince) ms")
        }
    }

    /// While both kinds wait, every fifth start is an attempted delivery.
    private mutating func checkTurns(_ worker: SimulatedWorker, _ item: SimulatedWorker.Item, _ number: Int, _ watch: inout EndpointWatch) {
        guard !endpoints[number].definition.isStrict, !toggled.contains(number) else { return }
        let waits =
            !item.isRetried
            && worker.items.values.contains {
                $0.isRetried && !$0.isBusy && $0.record.delivery % 100 == number && $0.ready + 400 + scenario.skewMilliseconds * 4 < now
                    && $0.disturbances == disturbances
            }
        watch.firstsWhileRetriedWait = waits ? watch.firstsWhileRetriedWait + 1 : 0
        if watch.firstsWhileRetriedWait > 8 { violate("\(endpoints[number].id): first attempts starve the attempted ones") }
    }

    private mutating func checkResidency(_ worker: SimulatedWorker, _ item: SimulatedWorker.Item, _ what: String) {
        guard item.disturbances == disturbances, !scenario.egress, !item.isBusy, item.record.delivery >= 0, worker.cutOffUntil <= now else {
            return
        }
        if now - item.ready > Self.residencyMilliseconds + scenario.skewMilliseconds * 2 {
            violate("delivery \(item.record.delivery) \(what) after \(now - item.ready) ms in memory")
        }
    }

    mutating func attemptEnds(_ id: Int, _ token: RecordToken, _ number: Int, _ answer: SimulatedReceiver.Answer) {
        if let flight = flights.removeValue(forKey: FlightToken(worker: id, token: token)) { flying.remove(flight) }
        with(id) { worker, now in
            let inFlight = worker.endpoints[number]?.inFlight ?? 0
            worker.endpoints[number]?.inFlight = max(0, inFlight - 1)
            worker.endpoints[number]?.probes.remove(token)
            worker.items[token]?.isUnreachable = answer.signal == .unreachable
            if worker.core.isEgressBroken, answer.signal == .unreachable {
                // Not an attempt: the record waits again.
                worker.items[token]?.wasStarted = false
                worker.items[token]?.isBusy = false
                return
            }
            switch answer.signal {
            case .success: worker.endpoints[number]?.failuresInARow = 0
            case .failure, .unreachable: worker.endpoints[number]?.failuresInARow += 1
            case .none: break
            }
        }
    }

    mutating func attemptEnded(_ id: Int, _ number: Int, _ answer: SimulatedReceiver.Answer) {
        guard scenario.egress else { return }
        with(id) { worker, now in
            worker.unreachable.removeAll { now - $0.at > 12_000 }
            // To an endpoint whose breaker isn't closed: says nothing new.
            if answer.signal == .unreachable, worker.endpoints[number]?.openUntil != nil { return }
            worker.unreachable.append((now, number, answer.signal == .unreachable))
        }
    }

    mutating func attemptLogged(_ id: Int, _ token: RecordToken, _ verdict: AttemptVerdict) {
        guard let worker = workers[id], let item = worker.items[token] else { return }
        let isOwn = owner[Int(endpoints[item.record.delivery % 100].partition)] == id
        if case .retry(let at) = verdict, isOwn { notBefore[item.record.delivery] = at - worker.clockError }
        // Surely broken: enough of them lately, and not one that got further for longer than that.
        let before = worker.unreachable
        let recent = before.filter { now - $0.at <= 9_000 && endpoints[$0.endpoint].deletedAt == nil }
        if item.isUnreachable, recent.count >= 25, before.allSatisfy(\.failed), Set(recent.map(\.endpoint)).count >= 5 {
            violate("worker \(id) spends an attempt while its egress is broken")
        }
    }

    /// Judged, though its record may wait for the changelog to be read.
    mutating func disabled(_ id: Int, _ event: OperationalEvent) {
        guard event.kind == .disabled, let worker = workers[id], let number = endpoints.firstIndex(where: { $0.id == event.endpointID })
        else { return }
        let known = registry.prefix(worker.registryIndex).last { $0.endpoint == number }?.entry?.prepared?.endpoint.version
        worker.endpoints[number, default: EndpointWatch()].disabledVersion = known
    }

    mutating func healthPublished(_ id: Int, _ record: HealthRecord) {
        guard let number = endpoints.firstIndex(where: { $0.id == record.endpointID }) else { return }
        // Sometimes it isn't written, sometimes it is and the answer says otherwise.
        let fate = isSettling || scenario.isCalm ? 9 : Int.random(in: 0..<12, using: &generator)
        let isWritten = fate != 0 && workers[id]?.cutOffUntil ?? 0 <= now
        if isWritten { log.write(record, Int(endpoints[number].partition)) }
        if !isWritten || fate == 1 { send(id, after: 300, .healthNotWritten(endpointID: record.endpointID)) }
        with(id) { worker, now in
            worker.endpoints[number, default: EndpointWatch()].health = record
            worker.endpoints[number]?.healthAt = now
            worker.endpoints[number, default: EndpointWatch()].openUntil =
                record.breaker == .closed ? nil : record.openUntilMilliseconds - worker.clockError
            worker.endpoints[number]?.disabledVersion = record.disabled?.endpointVersion
            worker.endpoints[number]?.failuresInARow = 0
        }
    }

    // MARK: what the receivers get

    mutating func received(_ delivery: Int) {
        let (event, number) = (delivery / 100, delivery % 100)
        if succeeded[delivery] != nil {
            report.duplicates += 1
            let isExplained =
                lastDisturbance >= publishedAt[event].at || endpoints[number].receiver == .loses || toggled.contains(number)
                || replayed.contains(delivery)
            if !isExplained { violate("delivery \(delivery) is received twice without a reason") }
        } else if endpoints[number].definition.isStrict, !toggled.contains(number), !astray.contains(delivery), !removed.contains(delivery),
            !replayed.contains(delivery),
            endpoints[number].created + 1_000 <= publishedAt[event].at, log.deadLetters[delivery] == nil
        {
            let key = number * 100 + publishedAt[event].partition
            if let last = lastOrdered[key], last > event { violate("\(endpoints[number].id) gets event \(event) after \(last)") }
            lastOrdered[key] = max(event, lastOrdered[key] ?? 0)
        }
        succeeded[delivery, default: 0] += 1
    }

    /// A record is delivered or carried on once, and once more for each thing that went wrong since.
    mutating func noteEnd(_ item: SimulatedWorker.Item) {
        let delivery = item.record.delivery
        guard delivery >= 0, !toggled.contains(delivery % 100) else { return }
        let place = RecordPlace(stream: item.stream, offset: item.record.offset)
        guard let known = ends[place] else { return violate("\(place.stream) \(place.offset) ends, and nobody has read it") }
        ends[place] = (known.count + 1, known.disturbances)
        if known.count > disturbances - known.disturbances {
            violate("\(place.stream) \(place.offset) ended \(known.count + 1) times with \(disturbances - known.disturbances) disturbances")
        }
    }

    // MARK: what is written instead

    mutating func checkMove(_ id: Int, _ item: SimulatedWorker.Item, _ successor: Successor, _ place: (stream: StreamID, offset: Int64)) {
        // What wasn't acknowledged is produced again as it was.
        guard let worker = workers[id], item.record.delivery >= 0, !item.hasMoved else { return }
        let (delivery, number) = (item.record.delivery, item.record.delivery % 100)
        checkResidency(worker, item, "moves on")
        let age = now - (item.record.facts.ageFromMilliseconds - worker.clockError)
        switch successor {
        case .retry(_, let due, let attempts):
            if item.record.rewrites + 1 > Self.rewriteLimit {
                violate("delivery \(delivery) is rewritten more than \(Self.rewriteLimit) times")
            }
            // A hold knows of more attempts than the record that is read again; it matters here once an endpoint is no longer ordered.
            if attempts != item.record.facts.attempts + (item.wasStarted ? 1 : 0), !toggled.contains(number) {
                violate("delivery \(delivery) had \(item.record.facts.attempts) attempts, and now \(attempts)")
            }
            let world = due - worker.clockError
            let isDeferral = attempts == item.record.facts.attempts && due != item.record.facts.dueMilliseconds
            let isAtExpiry = due >= item.record.facts.ageFromMilliseconds + Self.maxAgeMilliseconds
            if isDeferral, !isAtExpiry, world - now + 2 < age / 4 - clockTolerance {
                violate("delivery \(delivery) of age \(age) is deferred by \(world - now) ms")
            }
            if endpoints[number].definition.isStrict, !toggled.contains(number), !replayed.contains(delivery) {
                violate("delivery \(delivery) of an ordered endpoint goes to a retry topic")
            }
        case .dead(.endpointDeleted, _):
            if endpoints[number].deletedAt == nil { violate("\(endpoints[number].id) is taken for deleted") }
        case .dead(.exhausted, let attempts):
            if attempts <= Self.schedule { violate("delivery \(delivery) is given up after \(attempts) attempts") }
        case .dead(.expired, _):
            if age < Self.maxAgeMilliseconds - 30_000 - clockTolerance { violate("delivery \(delivery) expires at the age of \(age) ms") }
        case .dead(.parked, _):
            let known = registry.prefix(worker.registryIndex).last { $0.endpoint == number }?.entry?.prepared?.endpoint
            let isDisabled = worker.endpoints[number]?.disabledVersion.map { $0 >= known?.version ?? 0 } ?? false
            // One that slept learns of a pause late, and of its end in the same moment.
            let slept = max(worker.suspendedUntil, worker.cutOffUntil) > now - Self.parkedMilliseconds
            if known?.state == .enabled, !isDisabled, !slept, endpoints[number].lastPaused ?? .min < now - Self.parkedMilliseconds {
                violate("delivery \(delivery) is parked, and its endpoint is enabled")
            }
        case .dead(.gone, _):
            if endpoints[number].receiver != .gone { violate("delivery \(delivery) is called gone by nobody") }
        case .dead(.refused, _), .dead(.poison, _), .dead(.oversize, _):
            violate("delivery \(delivery) is buried as \(successor), and there is nothing wrong with it")
        case .home: if !astray.contains(delivery) { violate("delivery \(delivery) is moved home from home") }
        }
    }

    mutating func checkMemory(_ id: Int, _ stream: StreamID) {
        guard let worker = workers[id], worker.items.count > unfinishedLimit else { return }
        let count = worker.items.keys.reduce(0) { $0 + (worker.core.place(of: $1)?.stream == stream ? 1 : 0) }
        // Beside them: what is still moving since an earlier ownership, and a few per ordered endpoint that are read again.
        if count > 2 * unfinishedLimit + scenario.endpoints * 5 { violate("worker \(id) has \(count) records of \(stream) in memory") }
    }
}
