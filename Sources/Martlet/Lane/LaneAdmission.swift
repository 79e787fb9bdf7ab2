// What may start, and when. The questions in their order:
//
// | question | if not |
// |---|---|
// | in its endpoint's partition? | written home |
// | a delivery? | dead letter (poison) |
// | due? | held when less than 5 s are left, else to a retry topic |
// | endpoint known, in a view as new as the record? | waits for the registry |
// | enabled, deliverable, young enough? | dead letter (parked, refused, expired, endpoint-deleted) |
// | lease, own egress, room in flight, the lane's rate? | waits in memory, 5 s at most |
// | room for its endpoint: concurrency, bytes? | the same |
// | breaker and rate limit within 5 s? | all of its endpoint is deferred to then, or to a quarter of its age |
// | its tenant's rate? | the endpoint waits in its tenant's line |
// | its turn: first attempts by age, every fifth start an attempted one | the next one's |
extension LaneStateMachine {
    /// A record whose turn to be looked at has come: start it, hold it, move it on, or end it.
    mutating func examine(_ token: RecordToken) { if let record = records[token] { examine(token, record) } }

    mutating func examine(_ token: RecordToken, _ record: LaneRecord) {
        guard record.facts.isHome else {
            if has(.loseWhatIsAstray) { return complete(token) }
            counters.moved += 1
            return move(token, .home)
        }
        guard !record.facts.endpointID.isEmpty else { return move(token, .dead(.poison, attempts: record.facts.attempts)) }
        // A first delivery is due when it was accepted: only a clock that is wrong puts that into the future.
        let remaining = record.stream.topic == 0 ? 0 : record.facts.dueMilliseconds - now.wall
        if remaining <= 0 || has(.retryEarly) {
            admit(token, record)
        } else if remaining < settings.residencyLimitMilliseconds {
            setPhase(token, .held)
            held.insert((record.facts.dueMilliseconds, token))
        } else {
            postpone(token, until: record.facts.dueMilliseconds)
        }
    }

    /// A due record: what its endpoint says of it.
    mutating func admit(_ token: RecordToken) { if let record = records[token] { admit(token, record) } }

    private mutating func admit(_ token: RecordToken, _ record: LaneRecord) {
        if !isRegistered(record) {
            if record.phase != .unregistered { limitResidency(token) }
            setPhase(token, .unregistered)
            unregistered.append(token)
            unregisteredCounts[record.facts.endpointID, default: 0] += 1
            return
        }
        let slot = endpointSlot(record.facts.endpointID, record.stream.partition)
        let isOrdered = isOrdered(record, slot)
        records.update(token) { ($0.endpoint, $0.isOrdered) = (slot, isOrdered && $0.isOrdered) }
        if isOrdered { return queueOrdered(token, slot) }
        if let end = verdictWithoutAttempt(record, slot) { return move(token, .dead(end, attempts: record.facts.attempts)) }
        // Behind more than its rate lets start in time: it would only fill memory.
        if let start = limitedStart(slot), start - now.monotonic > settings.residencyLimitMilliseconds {
            return deferDelivery(token, until: start)
        }
        queue(
            token, slot, record.facts.bytes, key: record.facts.ageFromMilliseconds,
            isFirst: record.facts.attempts == 0 && !endpoints[slot].isOrdered)
        if isCrowded(record.stream) { crowd(slot, record.stream) }
    }

    /// When its rate lets one more start than those that wait already; nil: it has no rate, or nothing waits.
    private func limitedStart(_ slot: Int) -> Int64? {
        guard endpoints[slot].waiting > 0, let limiter = endpoints[slot].limiter else { return nil }
        return limiter.earliestStartMilliseconds(now: now.monotonic, behind: endpoints[slot].waiting)
    }

    /// Unknown is not deleted: only a view that was complete after the record was read may say so. What waits for that holds back the later
    /// records of its endpoint.
    private func isRegistered(_ record: LaneRecord) -> Bool {
        if has(.takeUnknownForDeleted) { return true }
        if record.facts.registryOffset > registryPosition, registryFreshAsOf <= record.waitingSinceMonotonic ?? now.monotonic {
            return false
        }
        return unregisteredCounts.isEmpty || unregisteredCounts[record.facts.endpointID] == nil
    }

    /// Behind its endpoint's others.
    mutating func queue(_ token: RecordToken, _ slot: Int, _ bytes: Int, key: Int64, isFirst: Bool) {
        sequence += 1
        let waiter = Waiter(ageFrom: key, sequence: sequence, token: token)
        if isFirst { endpoints[slot].first.insert(waiter) } else { endpoints[slot].retried.insert(waiter) }
        countWaiting(slot, 1, bytes)
        setPhase(token, .waiting)
        limitResidency(token)
        makeReady(slot)
    }

    mutating func countWaiting(_ slot: Int, _ change: Int, _ bytes: Int) {
        endpoints[slot].waiting += change
        endpoints[slot].waitingBytes += change * bytes
    }

    /// Why a due delivery ends without another attempt; nil: it may be tried.
    func verdictWithoutAttempt(_ record: LaneRecord, _ slot: Int) -> DeadReason? {
        let standing = endpoints[slot].standing
        guard standing.isKnown else { return .endpointDeleted }
        if !standing.isReadable || standing.isParked && !has(.startForADisabledEndpoint) { return .parked }
        if standing.isRefused { return .refused }
        let expiry = record.facts.ageFromMilliseconds + standing.maxAgeMilliseconds
        // What was deferred to its very expiry is tried once, if it is admitted then.
        if now.wall > expiry, record.facts.dueMilliseconds < expiry { return .expired }
        return nil
    }

    mutating func releaseHeld() {
        while let next = held.first, next.wall <= now.wall {
            _ = held.popFirst()
            guard phase(next.token) == .held else { continue }
            letGoOfHead(next.token)
            admit(next.token)
        }
    }

    // MARK: starting

    mutating func makeReady(_ slot: Int) {
        guard !endpoints[slot].isReady, !endpoints[slot].isBlocked, endpoints[slot].waiting > 0 else { return }
        endpoints[slot].isReady = true
        ready.append(slot)
    }

    /// Round robin over the endpoints that have something to start.
    mutating func startReady() {
        guard hasLease || has(.workWithoutALease), !isDraining else { return }
        if egress.isBroken { return probeEgress() }
        var turns = ready.count
        while inFlight < settings.inFlightLimit, turns > 0, !ready.isEmpty {
            if let limiter, limiter.earliestStartMilliseconds(now: now.monotonic) > now.monotonic { return }
            guard let slot = ready.popFirst() else { return }
            turns -= 1
            endpoints[slot].isReady = false
            if startNext(slot) {
                makeReady(slot)
                turns = max(turns, ready.count)
            }
        }
    }

    /// Of a broken egress a few deliveries every second, those first that may tell most (`EgressMonitor`).
    private mutating func probeEgress() {
        guard let probe = egress.nextProbe, now.monotonic >= probe else { return }
        let monitor = egress
        if startProbes(1, where: { $0.wasReached && monitor.isUntried($0.hostHash) }) > 0 {
            return egress.probed(1, now: now.monotonic, isKnown: true)
        }
        var count = startProbes(monitor.settings.probesAtOnce) { monitor.isUntried($0.hostHash) }
        if count == 0 { count = startProbes(1) { _ in true } }
        egress.probed(count, now: now.monotonic, isKnown: false)
    }

    /// One each of up to `limit` ready endpoints of different hosts; returns how many started.
    private mutating func startProbes(_ limit: Int, where isMeant: (LaneEndpoint) -> Bool) -> Int {
        var hosts: Set<UInt64> = []
        for _ in 0..<ready.count where hosts.count < limit {
            guard let slot = ready.popFirst() else { break }
            let host = endpoints[slot].hostHash
            guard !hosts.contains(host), isMeant(endpoints[slot]) else {
                ready.append(slot)
                continue
            }
            endpoints[slot].isReady = false
            if startNext(slot) {
                hosts.insert(host)
                makeReady(slot)
            }
        }
        return hosts.count
    }

    /// The earliest start that breaker and limiter allow, monotonic; nil: not before a probe has ended.
    func earliestStart(_ slot: Int) -> Int64? {
        if has(.twoProbes), endpoints[slot].breaker.isHalfOpen { return now.monotonic }
        guard let breaker = endpoints[slot].breaker.earliestStart(now: now.monotonic) else { return nil }
        return max(breaker, endpoints[slot].limiter?.earliestStartMilliseconds(now: now.monotonic) ?? breaker)
    }

    /// Deals with one delivery of the endpoint; false when it has none that may start now.
    private mutating func startNext(_ slot: Int) -> Bool {
        guard endpoints[slot].waiting > 0, !has(.starveAnEndpoint) || endpoints[slot].hash % 3 > 0 else { return false }
        if endpoints[slot].isOrdered {
            guard endpoints[slot].head == nil else { return false }
            if buryHead(slot) { return true }
        }
        guard endpoints[slot].inFlight < endpoints[slot].concurrency.limit || has(.ignoreConcurrency) else { return false }
        // Of a bound that is half used no endpoint gets more than its share, in flight or not.
        guard
            endpoints[slot].inFlight < unfinishedLimit / LaneSettings.share || endpoints[slot].inFlight == 0
                || !isCrowded(StreamID(topic: 0, partition: endpoints[slot].partition))
        else {
            wake(slot, at: now.monotonic + settings.crowdedWaitMilliseconds)
            return false
        }
        // Large bodies: no more than a share of the memory.
        guard endpoints[slot].inFlight == 0 || endpoints[slot].inFlightBytes < settings.memoryLimitBytes / LaneSettings.share else {
            return false
        }
        guard let earliest = earliestStart(slot) else { return false }
        guard earliest <= now.monotonic else {
            if has(.spendAnAttemptWhileOpen), endpoints[slot].breaker.earliestStart(now: now.monotonic) ?? 0 > now.monotonic {
                spendAll(slot)
                return false
            }
            // What can't start within the residency limit waits in a retry topic.
            if earliest - now.monotonic > settings.residencyLimitMilliseconds {
                deferAll(slot, until: earliest)
            } else {
                wake(slot, at: earliest)
            }
            return false
        }
        guard takeFromTenant(slot) else { return false }
        guard let token = nextWaiter(slot) else { return false }
        start(token, slot)
        return true
    }

    private mutating func start(_ token: RecordToken, _ slot: Int) {
        let (bytes, isOrdered) = records.look(token) { ($0.facts.bytes, $0.isOrdered) } ?? (0, false)
        countWaiting(slot, -1, bytes)
        endpoints[slot].inFlight += 1
        endpoints[slot].inFlightBytes += bytes
        if !has(.neverCharge) { endpoints[slot].limiter?.charge(now: now.monotonic) }
        if has(.chargeTwice) { endpoints[slot].limiter?.charge(now: now.monotonic) }
        limiter?.charge(now: now.monotonic)
        chargeTenant(slot)
        endpoints[slot].breaker.started(now: now.monotonic)
        if endpoints[slot].breaker.isHalfOpen { endpoints[slot].probe = token }
        if isOrdered { endpoints[slot].head = token }
        countInFlight(1)
        setPhase(token, .inFlight)
        commands.append(.start(token))
    }

    /// First attempts before attempted ones, each by age; while both wait, every fifth is an attempted one.
    private mutating func nextWaiter(_ slot: Int) -> RecordToken? {
        if !has(.starveRetries), endpoints[slot].startsSinceRetried + 1 >= settings.retriedTurn, let token = popWaiter(slot, retried: true)
        {
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
    mutating func popWaiter(_ slot: Int, retried: Bool) -> RecordToken? {
        while let waiter = retried ? endpoints[slot].retried.popFirst() : endpoints[slot].first.popFirst() {
            if phase(waiter.token) == .waiting { return waiter.token }
        }
        return nil
    }

    mutating func wake(_ slot: Int, at monotonic: Int64) {
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

    /// All that waits for an endpoint, in order, removed from its queues.
    mutating func takeWaiting(_ slot: Int) -> [RecordToken] {
        var tokens: [RecordToken] = []
        while let token = popWaiter(slot, retried: false) { tokens.append(token) }
        while let token = popWaiter(slot, retried: true) { tokens.append(token) }
        (endpoints[slot].waiting, endpoints[slot].waitingBytes) = (0, 0)
        return tokens
    }

    /// After a change of the registry: what waits may now be parked, refused or expired.
    mutating func settleWaiting(_ slot: Int) {
        for token in takeWaiting(slot) { admit(token) }
        hastenHold(slot)
    }
}
