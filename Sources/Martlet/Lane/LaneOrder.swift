// Ordered endpoints (`ordering: strict`): one at a time, in the order of their partition of `martlet.deliveries`.
//
// | the endpoint is | its records | becomes |
// |---|---|---|
// | flowing | wait in memory by offset, one is under way (the head) | held: the head fails, or a record would have to leave memory |
// | held | complete for the tracker, covered by the hold, not in memory | catching up: the hold's due time has come |
// | catching up | read again from the hold's offset, a few at a time, delivered; each one done moves the hold on | held: the head fails |
// | met | what was read again is in memory, and so is what the main reading brings | flowing: all of what was read again is done |
//
// The hold lies in the commit metadata of the partition: it changes together with the watermark, and is fenced like it. Records of ordered
// endpoints never enter a retry topic, except replayed ones, which promise no order.
extension LaneStateMachine {
    /// One reading again at a time: of one partition, for all holds of it that were due at its beginning.
    struct CatchUp {
        var stream: StreamID
        /// The next offset to be read again.
        var position: Int64
        var members: Set<UInt64>
    }

    /// How often a due hold is looked at again that lies ahead of the main reading.
    static let holdRecheckMilliseconds: Int64 = 200

    // MARK: waiting in order

    mutating func queueOrdered(_ token: RecordToken, _ slot: Int) {
        guard let record = records[token] else { return }
        let epoch = streams[record.stream]?.holds[endpoints[slot].hash]?.epoch
        if record.isCovered ? record.epoch != epoch : isUnderHold(record.stream, record.offset, endpoints[slot].hash) {
            return uncover(token)
        }
        records.update(token) { $0.isOrdered = true }
        let overtakes = has(.reorder) && epoch != nil && !record.isCovered
        queue(token, slot, record.facts.bytes, key: overtakes ? record.offset - 1 << 40 : record.offset, isFirst: true)
        if isCrowded(record.stream), hasRoomForHold(slot) { crowd(slot, record.stream) }
    }

    /// Whether the main reading needn't take it: it will be read again.
    func isUnderHold(_ stream: StreamID, _ offset: Int64, _ hash: UInt64) -> Bool {
        guard let held = streams.look(stream, { $0.holds[hash] }) ?? nil else { return false }
        return offset >= held.hold.offset && !held.isMet
    }

    /// One of the sequence: not a straggler from before the endpoint was ordered, which its hold knows nothing of.
    func isOrdered(_ record: LaneRecord, _ slot: Int) -> Bool {
        guard record.stream.topic == 0, endpoints[slot].isOrdered else { return false }
        return record.isCovered || record.offset >= streams[record.stream]?.holds[endpoints[slot].hash]?.hold.offset ?? 0
    }

    /// The same for a record that was just read, before anything is kept of it.
    mutating func isUnderHold(_ stream: StreamID, _ offset: Int64, _ facts: DeliveryFacts) -> Bool {
        guard streams.look(stream, { $0.holds.isEmpty }) == false, facts.isHome, !facts.endpointID.isEmpty else { return false }
        return isUnderHold(stream, offset, endpoints[endpointSlot(facts.endpointID, stream.partition)].hash)
    }

    /// The head's verdict without an attempt, if there is one: it goes where that says, and the next one waits for it.
    mutating func buryHead(_ slot: Int) -> Bool {
        while let waiter = endpoints[slot].first.first {
            guard let record = records[waiter.token], record.phase == .waiting, record.isOrdered else {
                if phase(waiter.token) == .waiting { return false }
                _ = endpoints[slot].first.popFirst()
                continue
            }
            guard let end = verdictWithoutAttempt(record, slot) else { return false }
            _ = endpoints[slot].first.popFirst()
            countWaiting(slot, -1, record.facts.bytes)
            endpoints[slot].head = waiter.token
            move(waiter.token, .dead(end, attempts: record.facts.attempts))
            return true
        }
        return false
    }

    /// The head is done, or waits again: the next one may start.
    mutating func letGoOfHead(_ token: RecordToken) {
        if let (isOrdered, slot) = records.look(token, { ($0.isOrdered, $0.endpoint) }) { letGoOfHead(token, isOrdered, slot) }
    }

    mutating func letGoOfHead(_ token: RecordToken, _ isOrdered: Bool, _ slot: Int) {
        guard isOrdered, slot >= 0, endpoints[slot].head == token else { return }
        endpoints[slot].head = nil
        makeReady(slot)
    }

    // MARK: holding

    /// Puts the endpoint's whole sequence under a hold that is due at `due`. False: the partition has no room for another hold.
    mutating func hold(_ slot: Int, until due: Int64) -> Bool {
        let stream = StreamID(topic: 0, partition: endpoints[slot].partition)
        let hash = endpoints[slot].hash
        guard let state = streams[stream] else { return true }
        let waiting = takeWaiting(slot)
        // One of an earlier ownership isn't met again yet: it doesn't count among what this one has read.
        let head = endpoints[slot].head.flatMap { token in
            records[token].flatMap { orphans[stream]?[$0.offset] == token ? nil : (token, $0) }
        }
        let ordered = waiting.filter { records[$0]?.isOrdered == true }
        let first = [head?.1.offset, ordered.first.flatMap { records[$0]?.offset }, state.holds[hash]?.hold.offset].compactMap(\.self).min()
        defer { for token in waiting where phase(token) == .waiting { admit(token) } }
        guard let first, state.holds[hash] != nil || state.holds.count < Hold.limit else {
            // Nowhere to go: their time in memory begins anew, else they would be spilt again at once, and again.
            for token in waiting { records.update(token) { $0.waitingSinceMonotonic = nil } }
            return first == nil
        }
        var fresh = Hold(offset: first, dueMilliseconds: due, attempts: 0)
        if let known = state.holds[hash]?.hold, known.offset == first { fresh.attempts = known.attempts }
        // A head that failed when there was no room for its hold waited in memory: what is known of it isn't forgotten.
        if let failed = head?.1, failed.offset == first, failed.phase == .held {
            (fresh.attempts, fresh.dueMilliseconds) = (failed.facts.attempts, max(due, failed.facts.dueMilliseconds))
        }
        var held = state.holds[hash] ?? HeldEndpoint(hold: fresh)
        held.hold = fresh
        sequence += 1
        (held.isMet, held.slot, held.epoch) = (false, slot, sequence)
        streams[stream]?.holds[hash] = held
        // One whose ordering was taken back while its head was under way is ordered again until this hold is over.
        configure(slot)
        counters.holds += 1
        leaveCatchUp(stream, hash)
        if let (token, record) = head, !record.isCovered { cover(token, record) }
        for token in ordered { if has(.holdWithoutCovering) { free(token) } else { uncover(token) } }
        nextHoldWall = min(nextHoldWall, fresh.dueMilliseconds)
        return true
    }

    /// The head failed: the endpoint waits until `due` and goes on there. When there is no room for a hold, the head waits in memory.
    mutating func holdFailedHead(_ token: RecordToken, until due: Int64, attempts: Int) {
        guard let record = records[token], record.endpoint >= 0 else { return }
        let (slot, stream, hash) = (record.endpoint, record.stream, endpoints[record.endpoint].hash)
        // Of an earlier ownership, and not met again yet: it will be, and tried again then.
        let isOrphan = orphans[stream]?[record.offset] == token
        guard streams.has(stream), !record.isDetached, !isOrphan else { return free(token) }
        guard hold(slot, until: due) else {
            records.update(token) { ($0.facts.attempts, $0.facts.dueMilliseconds) = (attempts, due) }
            setPhase(token, .held)
            held.insert((due, token))
            return
        }
        let since = streams[stream]?.holds[hash]?.failingSince ?? now.wall
        streams[stream]?.holds[hash]?.failingSince = since
        streams[stream]?.holds[hash]?.hold = Hold(offset: record.offset, dueMilliseconds: due, attempts: attempts)
        if has(.skipTheHeldHead) { streams[stream]?.holds[hash]?.hold.offset += 1 }
        uncover(token)
        if has(.forgetHolds) { streams[stream]?.holds[hash] = nil }
    }

    /// From the tracker's care into the hold's; it stays in memory.
    private mutating func cover(_ token: RecordToken, _ record: LaneRecord) {
        streams[record.stream]?.tracker?.complete(record.offset)
        count(record, -1)
        streams[record.stream]?.holds[endpoints[record.endpoint].hash]?.backlog += 1
        records.update(token) { $0.isCovered = true }
        coveredBytes += record.facts.bytes
        if let record = records[token] { count(record, 1) }
    }

    /// Out of memory: the hold has it, and it will be read again.
    private mutating func uncover(_ token: RecordToken) {
        guard let record = records[token] else { return }
        guard !record.isCovered else { return free(token) }
        streams[record.stream]?.holds[endpoints[record.endpoint].hash]?.backlog += 1
        complete(token)
    }

    /// The head under a hold is done: the hold moves on behind it.
    mutating func passHeld(_ record: LaneRecord) {
        let hash = endpoints[record.endpoint].hash
        guard let held = streams[record.stream]?.holds[hash], held.hold.offset <= record.offset else { return }
        streams[record.stream]?.holds[hash]?.hold = Hold(offset: record.offset + 1, dueMilliseconds: now.wall, attempts: 0)
        streams[record.stream]?.holds[hash]?.failingSince = nil
        streams[record.stream]?.holds[hash]?.backlog = max(0, held.backlog - 1)
        nextHoldWall = min(nextHoldWall, now.wall)
    }

    /// Called when a record under a hold leaves memory.
    mutating func coveredLeaves(_ record: LaneRecord) {
        let hash = endpoints[record.endpoint].hash
        // It leaves undelivered: it must be read again, whatever has been met.
        if let held = streams[record.stream]?.holds[hash], held.hold.offset <= record.offset {
            streams[record.stream]?.holds[hash]?.isMet = false
        }
        nextHoldWall = min(nextHoldWall, streams[record.stream]?.holds[hash]?.hold.dueMilliseconds ?? .max)
        endHoldIfDone(record.stream, hash)
    }

    private mutating func endHoldIfDone(_ stream: StreamID, _ hash: UInt64) {
        guard let held = streams[stream]?.holds[hash], held.isMet, held.covered == 0 else { return }
        streams[stream]?.holds[hash] = nil
        guard let slot = held.slot else { return }
        configure(slot)
        // No longer ordered: what waits needn't wait in line.
        if !endpoints[slot].isOrdered { settleWaiting(slot) }
    }

    /// An endpoint with a hold is ordered until that is over, whatever the registry says by now.
    mutating func linkHold(_ slot: Int) {
        streams[StreamID(topic: 0, partition: endpoints[slot].partition)]?.holds[endpoints[slot].hash]?.slot = slot
    }

    func hasRoomForHold(_ slot: Int) -> Bool {
        guard let holds = streams[StreamID(topic: 0, partition: endpoints[slot].partition)]?.holds else { return false }
        return holds.count < Hold.limit || holds[endpoints[slot].hash] != nil
    }

    /// After an edit, a pause or a deletion nothing is gained by waiting.
    mutating func hastenHold(_ slot: Int) {
        let stream = StreamID(topic: 0, partition: endpoints[slot].partition)
        guard let held = streams[stream]?.holds[endpoints[slot].hash], held.hold.dueMilliseconds > now.wall, endpoints[slot].isParked
        else { return }
        streams[stream]?.holds[endpoints[slot].hash]?.hold.dueMilliseconds = now.wall
        nextHoldWall = min(nextHoldWall, now.wall)
    }

    // MARK: reading again

    /// Begins to read again for the holds that are due, of one partition at a time.
    mutating func catchUpIfDue() {
        guard now.wall >= nextHoldWall, catchUp == nil, hasLease, !isDraining, !egress.isBroken || egress.seeks else { return }
        nextHoldWall = .max
        let candidates = streams.keys.filter { $0.topic == 0 && streams[$0]?.holds.isEmpty == false }.sorted()
        // Partitions take turns.
        let turn = candidates.firstIndex { $0.partition > lastCatchUpPartition } ?? 0
        for stream in candidates[turn...] + candidates[..<turn]
        where streams[stream]?.isRevoking == false && (has(.startBeforeHealth) || !restoring.contains(stream.partition)) {
            guard catchUp == nil else {
                nextHoldWall = now.wall
                return
            }
            beginCatchUp(stream)
        }
    }

    private mutating func beginCatchUp(_ stream: StreamID) {
        guard let next = streams[stream]?.tracker?.next, let holds = streams[stream]?.holds else { return }
        var members: Set<UInt64> = []
        var from = Int64.max
        for hash in holds.keys.sorted() {
            guard let held = holds[hash] else { continue }
            let slot = held.slot
            disableIfStuck(slot, held, hash, stream.partition, isFull: holds.count >= Hold.limit)
            if held.isMet || held.covered > 0 { continue }
            guard held.hold.dueMilliseconds <= now.wall else {
                nextHoldWall = min(nextHoldWall, held.hold.dueMilliseconds)
                continue
            }
            if held.hold.offset >= next {
                // Nothing to read again; a new owner's main reading may still have to come so far.
                guard held.hold.offset == next, next >= held.coveredUpTo else {
                    nextHoldWall = min(nextHoldWall, now.wall + Self.holdRecheckMilliseconds)
                    continue
                }
                streams[stream]?.holds[hash]?.isMet = true
                endHoldIfDone(stream, hash)
                continue
            }
            if let slot, !endpoints[slot].isParked, let wait = waitOfHeld(slot) {
                streams[stream]?.holds[hash]?.hold.dueMilliseconds = now.wall + wait
                nextHoldWall = min(nextHoldWall, now.wall + wait)
                continue
            }
            members.insert(hash)
            from = min(from, held.hold.offset)
            if has(.meetEarly) { streams[stream]?.holds[hash]?.isMet = true }
        }
        guard !members.isEmpty else { return }
        counters.catchUps += 1
        catchUp = CatchUp(stream: stream, position: from, members: members)
        lastCatchUpPartition = stream.partition
        commands.append(.readAgain(stream, from: from))
    }

    /// Milliseconds until breaker and limiter may let it start, when that is beyond what memory may wait; nil: go on.
    private func waitOfHeld(_ slot: Int) -> Int64? {
        guard let earliest = earliestStart(slot) else { return 1_000 }
        let wait = earliest - now.monotonic
        return wait > settings.residencyLimitMilliseconds ? wait : nil
    }

    /// A partition without room for another hold isn't read: who has kept it from that for long is disabled.
    private mutating func disableIfStuck(_ slot: Int?, _ held: HeldEndpoint, _ hash: UInt64, _ partition: Int32, isFull: Bool) {
        guard isFull, let known = held.failingSince, let slot = slot ?? slotOfHold(hash, partition) else { return }
        // Its health may remember for longer than this ownership.
        let since = min(known, endpoints[slot].failingSinceMilliseconds ?? known)
        guard now.wall - since >= settings.heldLimitMilliseconds else {
            nextHoldWall = min(nextHoldWall, since + settings.heldLimitMilliseconds)
            return
        }
        disable(slot, reason: "hold-limit")
    }

    /// After a takeover a hold is known by its hash alone: the endpoint is looked for in the registry.
    private mutating func slotOfHold(_ hash: UInt64, _ partition: Int32) -> Int? {
        if holdNames == nil {
            holdNames = registry.keys.reduce(into: [:]) { names, id in names?[Hold.hash(id)] = id }
        }
        return holdNames?[hash].map { endpointSlot($0, partition) }
    }

    /// How many records may be handed over with `receivedAgain`; 0 is back-pressure.
    public func readAgainBudget(_ stream: StreamID) -> Int {
        guard let catchUp, catchUp.stream == stream, unproduced.isEmpty, coveredBytes < settings.memoryLimitBytes / LaneSettings.heldShare,
            unfinishedBytes < settings.memoryLimitBytes
        else { return 0 }
        return settings.catchUpLimit
    }

    /// A record of the partition that is read again. nil: it needs no work.
    public mutating func receivedAgain(_ stream: StreamID, offset: Int64, _ facts: DeliveryFacts) -> RecordToken? {
        guard let current = catchUp, current.stream == stream, offset >= current.position else { return nil }
        guard offset < streams[stream]?.tracker?.next ?? 0 else {
            readAgainReached(stream, offset: offset)
            return nil
        }
        defer { readAgainReached(stream, offset: offset + 1) }
        guard facts.isHome, !facts.endpointID.isEmpty else { return nil }
        let slot = endpointSlot(facts.endpointID, stream.partition)
        let hash = endpoints[slot].hash
        guard current.members.contains(hash), let held = streams[stream]?.holds[hash], offset >= held.hold.offset else { return nil }
        guard held.covered < settings.catchUpLimit, held.coveredBytes < settings.catchUpLimitBytes else {
            leaveCatchUp(stream, hash)
            return nil
        }
        if held.covered == 0, streams[stream]?.completedEarly.remove(offset) != nil {
            streams[stream]?.holds[hash]?.hold = Hold(offset: offset + 1, dueMilliseconds: now.wall, attempts: 0)
            return nil
        }
        // The first of the sequence is still in flight since an earlier ownership.
        if held.covered == 0, let token = orphans[stream]?[offset] {
            adopt(token, isCovered: true)
            return nil
        }
        var facts = facts
        if offset == held.hold.offset { facts.attempts = held.hold.attempts }
        var fresh = LaneRecord(stream: stream, offset: offset, facts: facts)
        (fresh.isCovered, fresh.isOrdered, fresh.endpoint, fresh.epoch) = (true, true, slot, held.epoch)
        let token = records.insert(fresh)
        count(fresh, 1)
        unfinishedBytes += facts.bytes
        coveredBytes += facts.bytes
        examine(token)
        return token
    }

    /// Everything below `offset` has been read again.
    public mutating func readAgainReached(_ stream: StreamID, offset: Int64) {
        guard let current = catchUp, current.stream == stream else { return }
        catchUp?.position = max(current.position, offset)
        if current.members.isEmpty { return endCatchUp() }
        let next = streams[stream]?.tracker?.next ?? 0
        guard offset >= next else { return }
        for hash in current.members.sorted() {
            guard next >= streams[stream]?.holds[hash]?.coveredUpTo ?? 0 else {
                streams[stream]?.holds[hash]?.hold.dueMilliseconds = now.wall + Self.holdRecheckMilliseconds
                continue
            }
            streams[stream]?.holds[hash]?.isMet = true
            endHoldIfDone(stream, hash)
        }
        endCatchUp()
    }

    /// The reader can't go on: tried again in a second.
    public mutating func readAgainFailed() {
        endCatchUp()
        nextHoldWall = now.wall + 1_000
    }

    /// Ordered endpoints that wait.
    public var heldEndpoints: Int { streams.values.reduce(0) { $0 + $1.holds.count } }

    /// The log begins at `offset` now: what the holds had below it is gone. Returns how many holds lost records, and at most how many: what
    /// a predecessor had under them isn't known, nor which of them lay below.
    public mutating func readAgainLost(_ stream: StreamID, below offset: Int64) -> (holds: Int, records: Int64) {
        endCatchUp()
        var lost = (holds: 0, records: 0 as Int64)
        var lowest = offset
        for (hash, held) in streams[stream]?.holds ?? [:] where held.hold.offset < offset {
            lowest = min(lowest, held.hold.offset)
            lost.holds += 1
            lost.records += held.isInherited ? offset - held.hold.offset : min(Int64(max(1, held.backlog)), offset - held.hold.offset)
            streams[stream]?.holds[hash]?.hold = Hold(offset: offset, dueMilliseconds: now.wall, attempts: 0)
        }
        nextHoldWall = now.wall
        return (lost.holds, min(lost.records, offset - lowest))
    }

    private mutating func leaveCatchUp(_ stream: StreamID, _ hash: UInt64) {
        guard catchUp?.stream == stream else { return }
        catchUp?.members.remove(hash)
        if catchUp?.members.isEmpty == true { endCatchUp() }
    }

    mutating func endCatchUp() {
        guard catchUp != nil else { return }
        catchUp = nil
        nextHoldWall = min(nextHoldWall, now.wall)
        commands.append(.stopReadingAgain)
    }
}
