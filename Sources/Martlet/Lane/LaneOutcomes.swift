// What an attempt's end means, and the records that take over.
extension LaneStateMachine {
    /// An attempt ended. Late or unknown tokens are ignored.
    public mutating func attemptEnded(_ token: RecordToken, _ outcome: AttemptOutcome, _ signal: AttemptOutcome.BreakerSignal) {
        let part = records.look(token) { (phase: $0.phase, endpoint: $0.endpoint, bytes: $0.facts.bytes, attempts: $0.facts.attempts) }
        guard let part, part.phase == .inFlight else { return }
        countInFlight(-1)
        let slot = part.endpoint
        endpoints[slot].inFlight -= 1
        endpoints[slot].inFlightBytes -= part.bytes
        let isOurFault = takeEgress(slot, signal)
        takeSignal(slot, isOurFault ? .none : signal, isProbe: endpoints[slot].probe == token)
        let attempts = part.attempts + 1
        switch isOurFault ? .cancelled : outcome {
        case .delivered:
            counters.delivered += 1
            commands.append(.logAttempt(token, attempt: attempts, .delivered))
            noteSuccess(slot)
            if has(.deliverAgain), Bool.random(using: &generator) {
                restartOrDrop(token)
            } else {
                complete(token)
            }
        case .cancelled: restartOrDrop(token)
        case .gone:
            commands.append(.logAttempt(token, attempt: attempts, .dead(.gone)))
            disable(slot, reason: "gone")
            takeOver(token, .dead(.gone, attempts: attempts))
        case .retry(let hint): if let record = records[token] { failed(token, record, attempts, hint) }
        }
        makeReady(slot)
        if endpoints[slot].inFlight == 0, !ownsPartition(endpoints[slot].partition) { forgetEndpoint(slot) }
    }

    private mutating func failed(_ token: RecordToken, _ record: LaneRecord, _ attempts: Int, _ hint: Int64?) {
        var successor = retry(record, attempts, hint)
        if has(.giveUpOnFailure) { successor = .dead(.exhausted, attempts: attempts) }
        if has(.parkWhatFails) { successor = .dead(.parked, attempts: attempts) }
        switch successor {
        case .retry(_, let due, _):
            counters.retried += 1
            commands.append(.logAttempt(token, attempt: attempts, .retry(atMilliseconds: due)))
            noteFailure(record.endpoint)
            if record.isOrdered, !has(.passAFailedHead) {
                holdFailedHead(token, until: due, attempts: attempts)
            } else {
                takeOver(token, successor)
            }
        case .dead(let reason, _):
            commands.append(.logAttempt(token, attempt: attempts, .dead(reason)))
            noteFailure(record.endpoint)
            takeOver(token, successor)
        case .home: break
        }
    }

    /// Whether a failure is to be taken for our own. Any attempt that reaches its receiver ends such a state.
    private mutating func takeEgress(_ slot: Int, _ signal: AttemptOutcome.BreakerSignal) -> Bool {
        switch signal {
        case .none: break
        case .success, .failure:
            endpoints[slot].wasReached = true
            _ = egress.reached(host: endpoints[slot].hostHash, now: now.monotonic)
        case .unreachable:
            let wasBroken = egress.isBroken
            let isNews = !endpoints[slot].breaker.isHalfOpen
            if egress.failed(host: endpoints[slot].hostHash, now: now.monotonic, isNews: isNews) { counters.egressFailures += 1 }
            return wasBroken && !has(.blameReceiversForOurEgress)
        }
        return false
    }

    private mutating func retry(_ record: LaneRecord, _ attempts: Int, _ hint: Int64?) -> Successor {
        guard let endpoint = endpoints[record.endpoint].entry?.prepared?.endpoint else {
            return .dead(.endpointDeleted, attempts: attempts)
        }
        guard let delay = endpoint.schedule.delay(afterAttempts: attempts, hintMilliseconds: hint, using: &generator) else {
            return .dead(.exhausted, attempts: attempts)
        }
        let due = now.wall + delay
        guard due <= record.facts.ageFromMilliseconds + endpoint.maxAgeMilliseconds,
            let tier = RetryTier.choose(settings.tiers, remainingMilliseconds: delay)
        else { return .dead(.expired, attempts: attempts) }
        return .retry(tier: tier, dueMilliseconds: due, attempts: attempts)
    }

    /// The attempt was ended by us and isn't spent: wait again, unless the partition goes or the lane drains.
    private mutating func restartOrDrop(_ token: RecordToken) {
        // One of an earlier ownership that isn't met again yet will be read again.
        guard let record = records[token], let stream = streams[record.stream], !stream.isRevoking, !isDraining,
            orphans[record.stream]?[record.offset] != token
        else { return free(token) }
        letGoOfHead(token)
        setPhase(token, .aside)
        examine(token)
    }

    /// An attempt's successor, if its partition is (still, or again) ours; else whoever owns it delivers again.
    private mutating func takeOver(_ token: RecordToken, _ successor: Successor) {
        guard let record = records[token], streams.has(record.stream), !record.isDetached else { return free(token) }
        move(token, successor)
    }

    mutating func move(_ token: RecordToken, _ successor: Successor) {
        setPhase(token, .moving)
        records.update(token) { $0.successor = successor }
        if case .dead(let reason, _) = successor { counters.dead[reason, default: 0] += 1 }
        commands.append(.produce(token, successor))
        if has(.completeOnProduce), records[token]?.facts.endpointID.isEmpty == false { complete(token) }
    }

    public enum ProduceResult: Sendable, Equatable {
        case acknowledged
        /// Trying again may help.
        case transient
        /// This record will never be accepted as it is.
        case refused
    }

    /// The brokers' answer for a record's successor.
    public mutating func produced(_ token: RecordToken, _ result: ProduceResult) {
        guard let record = records[token], record.phase == .moving else { return }
        switch result {
        case .acknowledged: complete(token)
        case .refused where !record.isCut:
            counters.produceFailures += 1
            records.update(token) { $0.isCut = true }
            let attempts = record.successor.map(\.attempts) ?? record.facts.attempts
            move(token, .dead(.oversize, attempts: attempts ?? record.facts.attempts))
        case .refused, .transient:
            counters.produceFailures += 1
            guard streams.has(record.stream) else { return free(token) }
            if has(.giveUpOnTransientProduce) { return complete(token) }
            guard !record.isUnproduced else { return }
            records.update(token) { $0.isUnproduced = true }
            unproduced.append(token)
            if produceAgainMonotonic == .max { produceAgainMonotonic = now.monotonic + settings.produceRetryMilliseconds }
        }
    }

    mutating func produceAgain() {
        produceAgainMonotonic = .max
        let tokens = unproduced
        unproduced.removeAll(keepingCapacity: true)
        for token in tokens {
            guard let record = records[token], record.phase == .moving, let successor = record.successor else { continue }
            records.update(token) { $0.isUnproduced = false }
            // Whoever owns its partition by now reads it again.
            guard streams.has(record.stream) else {
                free(token)
                continue
            }
            commands.append(.produce(token, successor))
        }
    }
}

extension Successor {
    fileprivate var attempts: Int? {
        switch self {
        case .retry(_, _, let attempts), .dead(_, let attempts): attempts
        case .home: nil
        }
    }
}
