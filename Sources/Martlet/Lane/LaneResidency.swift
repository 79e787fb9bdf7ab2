// How long records stay in memory, how much of it one endpoint gets, and where the rest waits: in the retry topics.
//
// | what | bound |
// |---|---|
// | wait in memory before an attempt | 5 s, then deferred |
// | unfinished records, bytes of a partition of a topic | 1,000, 10 MiB: then it isn't read |
// | unfinished records of a lane | 12,000: then the bound of a partition is 500 |
// | bytes of a lane | 128 MiB: then nothing is read |
// | one endpoint, once a bound is half used | an eighth of it may wait for longer than 0.5 s |
// | times that one delivery is deferred | 52 in 7 days (each wait is at least a quarter of its age) |
extension LaneStateMachine {
    mutating func limitResidency(_ token: RecordToken) {
        var since = now.monotonic
        records.update(token) { record in
            since = record.waitingSinceMonotonic ?? since
            record.waitingSinceMonotonic = since
        }
        residency.insert((since + settings.residencyLimitMilliseconds, token))
    }

    /// To a retry topic with its due time unchanged: it isn't due yet.
    mutating func postpone(_ token: RecordToken, until due: Int64) {
        guard let record = records[token], let tier = RetryTier.choose(settings.tiers, remainingMilliseconds: due - now.wall) else {
            return
        }
        counters.deferred += 1
        move(token, .retry(tier: tier, dueMilliseconds: due, attempts: record.facts.attempts))
    }

    /// To a retry topic, because breaker, limiter or concurrency leave no room: due at the computed start, but not before a quarter of
    /// its age from now (so that a backlog isn't rewritten at each probe), rounded up to what few hops reach, and at the latest at its expiry.
    mutating func deferDelivery(_ token: RecordToken, until monotonic: Int64) {
        guard let record = records[token] else { return }
        let age = has(.deferWithoutAge) ? 0 : max(0, now.wall - record.facts.ageFromMilliseconds)
        var due = now.wall + RetryTier.roundUp(settings.tiers, milliseconds: max(0, monotonic - now.monotonic, age / 4))
        if record.endpoint >= 0, let endpoint = endpoints[record.endpoint].entry?.prepared?.endpoint {
            let expiry = record.facts.ageFromMilliseconds + endpoint.maxAgeMilliseconds
            if now.wall >= expiry { return move(token, .dead(.expired, attempts: record.facts.attempts)) }
            due = min(due, expiry)
        }
        postpone(token, until: due)
    }

    /// Everything of the endpoint that waits: ordered records under its hold, the others to retry topics.
    mutating func deferAll(_ slot: Int, until monotonic: Int64) {
        if endpoints[slot].isOrdered, !hold(slot, until: now.wall + monotonic - now.monotonic) { wakeLater(slot) }
        for token in takeWaiting(slot) {
            if records[token]?.isOrdered == true { queueOrdered(token, slot) } else { deferDelivery(token, until: monotonic) }
        }
    }

    /// What waited as long as memory allows.
    mutating func spillOverdue() {
        // Of one that is gone nothing is due; its deadline would wake the lane for nothing, 5 s after each delivery.
        while let next = residency.first, !records.has(next.token) { _ = residency.popFirst() }
        guard !isDraining, !egress.isBroken || egress.seeks, !has(.keepRecordsForEver) else { return }
        while let next = residency.first, next.deadline <= now.monotonic {
            _ = residency.popFirst()
            guard let record = records[next.token] else { continue }
            switch record.phase {
            case .waiting: spill(next.token, record)
            // Perhaps one of an ordered endpoint: it can't be told before the registry has been read. Its partition's bound is what limits it.
            case .unregistered where registry[record.facts.endpointID]?.prepared?.endpoint.isStrict == false:
                deferDelivery(next.token, until: now.monotonic)
            default: break
            }
        }
    }

    private mutating func spill(_ token: RecordToken, _ record: LaneRecord) {
        let earliest = earliestStart(record.endpoint) ?? now.monotonic
        if record.isOrdered {
            if !hold(record.endpoint, until: now.wall + earliest - now.monotonic) { wakeLater(record.endpoint) }
        } else {
            countWaiting(record.endpoint, -1, record.facts.bytes)
            deferDelivery(token, until: earliest)
        }
    }

    private mutating func wakeLater(_ slot: Int) { wake(slot, at: now.monotonic + settings.residencyLimitMilliseconds) }

    // MARK: shares

    /// Unfinished records of a partition of a topic: half as many while the lane has very many.
    var unfinishedLimit: Int {
        records.count < settings.laneUnfinishedLimit ? settings.unfinishedLimit : settings.unfinishedLimit / 2
    }

    /// Half of some bound is used.
    func isCrowded(_ stream: StreamID) -> Bool {
        guard let unfinished = streams.look(stream, { (count: $0.unfinished, bytes: $0.unfinishedBytes) }) else { return false }
        return unfinished.count * 2 >= unfinishedLimit || unfinished.bytes * 2 >= settings.unfinishedLimitBytes
            || unfinishedBytes * 2 >= settings.memoryLimitBytes
    }

    /// A bound is half used: what waited for long makes room at once, and what hasn't yet is looked at when it has.
    mutating func crowd(_ slot: Int, _ stream: StreamID) {
        spillCrowd(slot)
        guard hasMoreThanItsShare(slot), !endpoints[slot].isCrowding else { return }
        endpoints[slot].isCrowding = true
        crowds.insert((now.monotonic + settings.crowdedWaitMilliseconds, slot, stream))
    }

    mutating func spillCrowds() {
        while let next = crowds.first, next.monotonic <= now.monotonic {
            _ = crowds.popFirst()
            endpoints[next.endpoint].isCrowding = false
            if isCrowded(next.stream), !endpoints[next.endpoint].isOrdered || hasRoomForHold(next.endpoint) {
                crowd(next.endpoint, next.stream)
            }
        }
    }

    private func hasMoreThanItsShare(_ slot: Int) -> Bool {
        let bytes = min(settings.unfinishedLimitBytes, settings.memoryLimitBytes) / LaneSettings.share
        return endpoints[slot].waiting > unfinishedLimit / LaneSettings.share || endpoints[slot].waitingBytes > bytes
    }

    /// Of an endpoint that holds more than its share of a bound, what waited for long makes room at once.
    private mutating func spillCrowd(_ slot: Int) {
        while hasMoreThanItsShare(slot) {
            let oldest = [endpoints[slot].first.first, endpoints[slot].retried.first].compactMap(\.self).min(by: Waiter.precedes)
            guard let oldest else { return }
            let record = records[oldest.token]
            if let record, record.phase == .waiting {
                guard now.monotonic - (record.waitingSinceMonotonic ?? now.monotonic) >= settings.crowdedWaitMilliseconds else { return }
                if record.isOrdered {
                    guard hold(slot, until: now.wall) else { return }
                    continue
                }
                countWaiting(slot, -1, record.facts.bytes)
            }
            _ = endpoints[slot].first.first?.token == oldest.token ? endpoints[slot].first.popFirst() : endpoints[slot].retried.popFirst()
            if record?.phase == .waiting { deferDelivery(oldest.token, until: now.monotonic) }
        }
    }
}
