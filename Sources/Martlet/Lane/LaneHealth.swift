internal import HTTPDelivery

// What is known of an endpoint's health, and how it outlives this owner.
//
// | what happens | is published |
// |---|---|
// | the breaker opens | health; `failing` when it was closed |
// | the breaker closes | health; `recovered` |
// | it has failed for over an hour | health, once an hour, though no breaker tells |
// | a success when the changelog says that it fails | health |
// | 410; failing for 120 h with 100 attempts; stuck at the limit of holds | health with `disabled`; `disabled` |
// | a record of it is restored on assignment | nothing |
// | another writer's record about it is read | its health again: the other doesn't own it any more |
// | the brokers didn't take its health | its health again, as it is by then |
extension LaneStateMachine {
    // MARK: the endpoint slab

    mutating func endpointSlot(_ id: String, _ partition: Int32) -> Int {
        if let slot = endpointSlots[id] { return slot }
        var endpoint = LaneEndpoint(id: id, partition: partition, breaker: settings.breaker)
        endpoint.entry = registry[id]
        let slot: Int
        if let free = freeEndpoints.popLast() {
            slot = free
            endpoints[slot] = endpoint
        } else {
            slot = endpoints.count
            endpoints.append(endpoint)
        }
        endpointSlots[id] = slot
        linkHold(slot)
        configure(slot)
        return slot
    }

    /// Takes over what the registry says of limits.
    mutating func configure(_ slot: Int) {
        let holds = streams[StreamID(topic: 0, partition: endpoints[slot].partition)]?.holds
        endpoints[slot].isOrdered = holds?[endpoints[slot].hash] != nil
        guard let prepared = endpoints[slot].entry?.prepared else { return }
        let endpoint = prepared.endpoint
        if endpoint.isStrict { endpoints[slot].isOrdered = true }
        endpoints[slot].concurrency.setCeiling(endpoints[slot].isOrdered ? 1 : endpoint.maxConcurrency)
        endpoints[slot].hostHash = prepared.hostHash
        if endpoints[slot].limiterSettings != endpoint.rate {
            endpoints[slot].limiterSettings = endpoint.rate
            let emptyAt = has(.fullBucketAtATakeover) ? now.monotonic - 1_000_000 : now.monotonic
            endpoints[slot].limiter = endpoint.rate.map { RateLimiter($0, emptyAtMilliseconds: emptyAt) }
        }
    }

    /// As every owner's rate limit begins: what another one started meanwhile isn't known.
    mutating func emptyBucket(_ slot: Int) {
        endpoints[slot].limiter = endpoints[slot].limiterSettings.map { RateLimiter($0, emptyAtMilliseconds: now.monotonic) }
    }

    /// Its partition went away. One with requests in flight stays until they end.
    mutating func forgetEndpoint(_ slot: Int) {
        guard endpointSlots[endpoints[slot].id] == slot, endpoints[slot].inFlight == 0 else { return }
        endpointSlots[endpoints[slot].id] = nil
        endpoints[slot].entry = nil
        freeEndpoints.append(slot)
    }

    func ownsPartition(_ partition: Int32) -> Bool {
        topicDelays.indices.contains { streams.has(StreamID(topic: $0, partition: partition)) }
    }

    // MARK: verdicts

    /// Of a half-open breaker only the probe tells: a request that started before it opened must not let a second probe out.
    mutating func takeSignal(_ slot: Int, _ signal: AttemptOutcome.BreakerSignal, isProbe: Bool) {
        let tells = isProbe || !endpoints[slot].breaker.isHalfOpen
        switch signal {
        case .success:
            endpoints[slot].concurrency.succeeded()
            if tells, endpoints[slot].breaker.succeeded(now: now.monotonic) {
                publishEvent(slot, .recovered)
                noteSuccess(slot)
                publishHealth(slot)
            }
        case .failure, .unreachable:
            endpoints[slot].concurrency.failed()
            let wasClosed = endpoints[slot].breaker.state == .closed
            if tells, endpoints[slot].breaker.failed(now: now.monotonic, using: &generator) {
                publishHealth(slot)
                if wasClosed { publishEvent(slot, .failing) }
            }
        case .none: if tells { endpoints[slot].breaker.endedWithoutVerdict() }
        }
    }

    mutating func noteSuccess(_ slot: Int) {
        endpoints[slot].failingSinceMilliseconds = nil
        endpoints[slot].attemptsSinceSuccess = 0
        if endpoints[slot].isKnownToFail { publishHealth(slot) }
    }

    mutating func noteFailure(_ slot: Int) {
        endpoints[slot].attemptsSinceSuccess += 1
        let since = endpoints[slot].failingSinceMilliseconds ?? now.wall
        endpoints[slot].failingSinceMilliseconds = since
        if now.wall - since >= settings.failingLimitMilliseconds, endpoints[slot].attemptsSinceSuccess >= settings.failingLimitAttempts {
            disable(slot, reason: "failing")
        } else if now.wall - since >= settings.healthRenewalMilliseconds,
            now.monotonic - endpoints[slot].healthMonotonic >= settings.healthRenewalMilliseconds, !has(.forgetWhatHealthSays)
        {
            // One that answers, but never well, has no breaker that would tell: a restart must not forget for how long.
            publishHealth(slot)
        }
    }

    /// Disables through health, never through the registry; a later edit by an operator cancels it.
    mutating func disable(_ slot: Int, reason: String) {
        guard let endpoint = endpoints[slot].entry?.prepared?.endpoint, !endpoints[slot].isParked else { return }
        // Judged after it was created, whatever the clocks say.
        let at = max(now.wall, endpoint.createdMilliseconds)
        endpoints[slot].disabled = .init(reason: reason, atMilliseconds: at, endpointVersion: endpoint.version)
        publishHealth(slot)
        publishEvent(slot, .disabled, reason: reason)
        settleWaiting(slot)
    }

    /// Tells the endpoint's tenant.
    private mutating func publishEvent(_ slot: Int, _ kind: OperationalEvent.Kind, reason: String? = nil) {
        guard let prepared = endpoints[slot].entry?.prepared else { return }
        commands.append(
            .publishEvent(
                OperationalEvent(
                    kind: kind, endpointID: endpoints[slot].id, tenant: prepared.endpoint.tenant, url: prepared.redactedURL,
                    reason: reason, atMilliseconds: now.wall, failingSinceMilliseconds: endpoints[slot].failingSinceMilliseconds,
                    attemptsSinceSuccess: endpoints[slot].attemptsSinceSuccess)))
    }

    // MARK: the changelog

    private mutating func publishHealth(_ slot: Int) {
        // Before the changelog was read, what is known here is less than what stands there.
        guard !restoring.contains(endpoints[slot].partition) else { return healthNotWritten(endpoints[slot].id) }
        endpoints[slot].healthMonotonic = now.monotonic
        endpoints[slot].isKnownToFail = endpoints[slot].failingSinceMilliseconds != nil
        commands.append(.publishHealth(healthRecord(endpoints[slot])))
    }

    /// The brokers didn't take an endpoint's health: written again as it is by then, as long as the endpoint is ours.
    public mutating func healthNotWritten(_ endpointID: String) {
        guard !has(.forgetUnwrittenHealth), !unwrittenHealth.contains(endpointID) else { return }
        unwrittenHealth.append(endpointID)
        if healthAgainMonotonic == .max { healthAgainMonotonic = now.monotonic + settings.produceRetryMilliseconds }
    }

    /// What the brokers didn't take, at once.
    public mutating func publishHealthAgain() {
        healthAgainMonotonic = .max
        let ids = unwrittenHealth
        unwrittenHealth.removeAll(keepingCapacity: true)
        for id in ids { if let slot = endpointSlots[id] { publishHealth(slot) } }
    }

    private func healthRecord(_ endpoint: LaneEndpoint) -> HealthRecord {
        var record = HealthRecord(endpointID: endpoint.id, writer: settings.writer, updatedMilliseconds: now.wall)
        switch endpoint.breaker.state {
        case .closed: record.breaker = .closed
        case .halfOpen: record.breaker = .halfOpen
        case .open(let until):
            record.breaker = .open
            record.openUntilMilliseconds = now.wall + until - now.monotonic
        }
        record.opens = endpoint.breaker.opens
        record.failingSinceMilliseconds = endpoint.failingSinceMilliseconds
        record.attemptsSinceSuccess = endpoint.attemptsSinceSuccess
        record.disabled = endpoint.disabled
        return record
    }

    /// A record of the changelog, in its order: on assignment the whole partition, later what others wrote. What another worker writes
    /// about an endpoint of ours comes from one that doesn't know it lost the partition: it is answered with our own.
    public mutating func healthRead(_ record: HealthRecord, partition: Int32, isRestoring: Bool) {
        guard isRestoring else {
            guard record.writer != settings.writer, let slot = endpointSlots[record.endpointID] else { return }
            publishHealth(slot)
            return
        }
        if has(.forgetWhatHealthSays) { return }
        let slot = endpointSlot(record.endpointID, partition)
        endpoints[slot].failingSinceMilliseconds = record.failingSinceMilliseconds
        endpoints[slot].attemptsSinceSuccess = record.attemptsSinceSuccess
        endpoints[slot].isKnownToFail = record.failingSinceMilliseconds != nil
        // Of the latest version that was judged: an answer that came while the changelog was being read may be newer than what stands there,
        // and a late record of somebody who doesn't know of it takes nothing back.
        if let theirs = record.disabled, theirs.endpointVersion >= endpoints[slot].disabled?.endpointVersion ?? 0 {
            endpoints[slot].disabled = theirs
        }
        // A probe that is under way since an earlier ownership decides.
        if let probe = endpoints[slot].probe, phase(probe) == .inFlight { return settleWaiting(slot) }
        endpoints[slot].probe = nil
        switch record.breaker {
        case .closed: endpoints[slot].breaker = CircuitBreaker(settings.breaker)
        case .open, .halfOpen:
            let until = now.monotonic + max(0, record.openUntilMilliseconds - now.wall)
            endpoints[slot].breaker = CircuitBreaker(settings.breaker, openUntilMilliseconds: until, opens: record.opens)
        }
        settleWaiting(slot)
    }

    public struct BreakerCounts: Sendable, Equatable {
        public var closed = 0
        public var open = 0
        public var halfOpen = 0
        public var disabled = 0
    }

    /// The endpoints with traffic here, by the state of their breakers.
    public var breakerCounts: BreakerCounts {
        var counts = BreakerCounts()
        for slot in endpointSlots.values {
            switch endpoints[slot].breaker.state {
            case .closed: counts.closed += 1
            case .open: counts.open += 1
            case .halfOpen: counts.halfOpen += 1
            }
            if endpoints[slot].disabled != nil, endpoints[slot].isParked { counts.disabled += 1 }
        }
        return counts
    }
}
