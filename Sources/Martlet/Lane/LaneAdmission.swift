// What may start, when, and what has to wait elsewhere.
extension LaneStateMachine {
    /// A record whose turn to be looked at has come: start it, hold it, move it on, or end it.
    mutating func examine(_ token: RecordToken) {
        guard let record = record(token) else { return }
        guard record.facts.isHome else {
            counters.moved += 1
            return move(token, .home)
        }
        guard !record.facts.endpointID.isEmpty else { return move(token, .dead(.poison, attempts: record.facts.attempts)) }
        let remaining = record.facts.dueMilliseconds - now.wall
        if remaining <= 0 {
            admit(token)
        } else if remaining < settings.residencyLimitMilliseconds {
            setPhase(token, .held)
            held.insert((record.facts.dueMilliseconds, token))
        } else {
            postpone(token, until: record.facts.dueMilliseconds)
        }
    }

    /// A due record: what its endpoint says of it.
    mutating func admit(_ token: RecordToken) {
        guard let record = record(token) else { return }
        // Unknown is not deleted: only a view that was complete after the record was read may say so.
        if record.facts.registryOffset > registryPosition, registryFreshAsOf <= record.waitingSinceMonotonic ?? now.monotonic {
            if record.phase != .unregistered { limitResidency(token) }
            setPhase(token, .unregistered)
            unregistered.append(token)
            return
        }
        let slot = endpointSlot(record.facts.endpointID, record.stream.partition)
        records[Int(token.slot)]?.endpoint = slot
        if let end = verdictWithoutAttempt(record, endpoints[slot]) { return move(token, .dead(end, attempts: record.facts.attempts)) }
        sequence += 1
        let waiter = Waiter(ageFrom: record.facts.ageFromMilliseconds, sequence: sequence, token: token)
        if record.facts.attempts == 0 { endpoints[slot].first.insert(waiter) } else { endpoints[slot].retried.insert(waiter) }
        endpoints[slot].waiting += 1
        setPhase(token, .waiting)
        limitResidency(token)
        makeReady(slot)
        if let stream = streams[record.stream], stream.unfinished * 2 >= settings.unfinishedLimit { spillCrowd(slot) }
    }

    private mutating func limitResidency(_ token: RecordToken) {
        let since = record(token)?.waitingSinceMonotonic ?? now.monotonic
        records[Int(token.slot)]?.waitingSinceMonotonic = since
        residency.insert((since + settings.residencyLimitMilliseconds, token))
    }

    /// Why a due delivery ends without another attempt; nil: it may be tried.
    private func verdictWithoutAttempt(_ record: LaneRecord, _ endpoint: LaneEndpoint) -> DeadReason? {
        guard let entry = endpoint.entry else { return .endpointDeleted }
        guard let prepared = entry.prepared else { return .parked }
        if endpoint.isParked { return .parked }
        if prepared.url == nil || prepared.refusal != nil { return .refused }
        let expiry = record.facts.ageFromMilliseconds + prepared.endpoint.maxAgeMilliseconds
        // What was deferred to its very expiry is tried once, if it is admitted then.
        if now.wall > expiry, record.facts.dueMilliseconds < expiry { return .expired }
        return nil
    }

    mutating func releaseHeld() {
        while let next = held.first, next.wall <= now.wall {
            _ = held.popFirst()
            if record(next.token)?.phase == .held { admit(next.token) }
        }
    }

    // MARK: starting

    mutating func makeReady(_ slot: Int) {
        guard !endpoints[slot].isReady, endpoints[slot].waiting > 0 else { return }
        endpoints[slot].isReady = true
        ready.append(slot)
    }

    /// Round robin over the endpoints that have something to start.
    mutating func startReady() {
        guard hasLease, !isDraining else { return }
        var turns = ready.count
        while inFlight < settings.inFlightLimit, turns > 0, let slot = ready.popFirst() {
            turns -= 1
            endpoints[slot].isReady = false
            if startNext(slot) {
                makeReady(slot)
                turns = max(turns, ready.count)
            }
        }
    }

    /// The earliest start that breaker and limiter allow, monotonic; nil: not before a probe has ended.
    private func earliestStart(_ endpoint: LaneEndpoint) -> Int64? {
        guard let breaker = endpoint.breaker.earliestStart(now: now.monotonic) else { return nil }
        return max(breaker, endpoint.limiter?.earliestStartMilliseconds(now: now.monotonic) ?? breaker)
    }

    /// Starts one delivery of the endpoint; false when it has none that may start now.
    private mutating func startNext(_ slot: Int) -> Bool {
        guard endpoints[slot].waiting > 0, endpoints[slot].inFlight < endpoints[slot].concurrency.limit else { return false }
        guard let earliest = earliestStart(endpoints[slot]) else { return false }
        guard earliest <= now.monotonic else {
            // What can't start within the residency limit waits in a retry topic.
            if earliest - now.monotonic > settings.residencyLimitMilliseconds {
                deferAll(slot, until: earliest)
            } else {
                wake(slot, at: earliest)
            }
            return false
        }
        guard let token = nextWaiter(slot) else { return false }
        endpoints[slot].waiting -= 1
        endpoints[slot].inFlight += 1
        endpoints[slot].limiter?.charge(now: now.monotonic)
        endpoints[slot].breaker.started(now: now.monotonic)
        records[Int(token.slot)]?.isProbe = endpoints[slot].breaker.isHalfOpen
        countInFlight(1)
        setPhase(token, .inFlight)
        commands.append(.start(token))
        return true
    }

    /// First attempts before attempted ones, each by age; while both wait, every fifth is an attempted one.
    private mutating func nextWaiter(_ slot: Int) -> RecordToken? {
        if endpoints[slot].startsSinceRetried + 1 >= settings.retriedTurn, let token = popWaiter(slot, retried: true) {
            endpoints[slot].startsSinceRetried = 0
            return token
        }
        if let token = popWaiter(slot, retried: false) {
            endpoints[slot].startsSinceRetried += 1
            return token
        }
        endpoints[slot].startsSinceRetried = 0
        return popWaiter(slot, retried: true)
    }

    /// The next one that still waits: what was moved or dropped meanwhile is passed over.
    private mutating func popWaiter(_ slot: Int, retried: Bool) -> RecordToken? {
        while let waiter = retried ? endpoints[slot].retried.popFirst() : endpoints[slot].first.popFirst() {
            if record(waiter.token)?.phase == .waiting { return waiter.token }
        }
        return nil
    }

    private mutating func wake(_ slot: Int, at monotonic: Int64) {
        guard monotonic < endpoints[slot].wakeMonotonic else { return }
        endpoints[slot].wakeMonotonic = monotonic
        wakes.insert((monotonic, slot))
    }

    mutating func wakeEndpoints() {
        while let next = wakes.first, next.monotonic <= now.monotonic {
            _ = wakes.popFirst()
            if endpoints[next.endpoint].wakeMonotonic <= now.monotonic { endpoints[next.endpoint].wakeMonotonic = .max }
            makeReady(next.endpoint)
        }
    }

    // MARK: waiting elsewhere

    /// To a retry topic with its due time unchanged: it isn't due yet.
    private mutating func postpone(_ token: RecordToken, until due: Int64) {
        guard let record = record(token), let tier = RetryTier.choose(settings.tiers, remainingMilliseconds: due - now.wall) else { return }
        counters.deferred += 1
        move(token, .retry(tier: tier, dueMilliseconds: due, attempts: record.facts.attempts))
    }

    /// To a retry topic, because breaker, limiter or concurrency leave no room: due at the computed start, but not before a quarter of
    /// its age from now (so that a backlog isn't rewritten at each probe), and at the latest at its expiry.
    private mutating func deferDelivery(_ token: RecordToken, until monotonic: Int64) {
        guard let record = record(token) else { return }
        let age = max(0, now.wall - record.facts.ageFromMilliseconds)
        var due = max(now.wall + max(0, monotonic - now.monotonic), now.wall + age / 4)
        if record.endpoint >= 0, let endpoint = endpoints[record.endpoint].entry?.prepared?.endpoint {
            let expiry = record.facts.ageFromMilliseconds + endpoint.maxAgeMilliseconds
            if now.wall >= expiry { return move(token, .dead(.expired, attempts: record.facts.attempts)) }
            due = min(due, expiry)
        }
        postpone(token, until: due)
    }

    /// Everything of the endpoint that waits.
    mutating func deferAll(_ slot: Int, until monotonic: Int64) {
        for token in takeWaiting(slot) { deferDelivery(token, until: monotonic) }
    }

    /// All that waits for an endpoint, in order, removed from its queues.
    mutating func takeWaiting(_ slot: Int) -> [RecordToken] {
        var tokens: [RecordToken] = []
        while let waiter = endpoints[slot].first.popFirst() { tokens.append(waiter.token) }
        while let waiter = endpoints[slot].retried.popFirst() { tokens.append(waiter.token) }
        tokens = tokens.filter { record($0)?.phase == .waiting }
        endpoints[slot].waiting = 0
        return tokens
    }

    /// After a change of the registry: what waits may now be parked, refused or expired.
    mutating func settleWaiting(_ slot: Int) {
        for token in takeWaiting(slot) { admit(token) }
    }

    /// What waited as long as memory allows.
    mutating func spillOverdue() {
        while !isDraining, let next = residency.first, next.deadline <= now.monotonic {
            _ = residency.popFirst()
            guard let record = record(next.token), record.phase == .waiting || record.phase == .unregistered else { continue }
            if record.phase == .waiting { endpoints[record.endpoint].waiting -= 1 }
            let earliest = record.endpoint >= 0 ? earliestStart(endpoints[record.endpoint]) : nil
            deferDelivery(next.token, until: earliest ?? now.monotonic)
        }
    }

    /// The partition is half full: of an endpoint that holds more than an eighth of it, what waited for long makes room at once.
    private mutating func spillCrowd(_ slot: Int) {
        while endpoints[slot].waiting > settings.unfinishedLimit / 8 {
            let oldest = [endpoints[slot].first.first, endpoints[slot].retried.first].compactMap(\.self).min(by: Waiter.precedes)
            guard let oldest else { return }
            let record = record(oldest.token)
            if let record, record.phase == .waiting {
                guard now.monotonic - (record.waitingSinceMonotonic ?? now.monotonic) >= settings.crowdedWaitMilliseconds else { return }
                endpoints[slot].waiting -= 1
            }
            if endpoints[slot].first.first?.token == oldest.token {
                _ = endpoints[slot].first.popFirst()
            } else {
                _ = endpoints[slot].retried.popFirst()
            }
            if record?.phase == .waiting { deferDelivery(oldest.token, until: now.monotonic) }
        }
    }
}
