// The partitions that the lane owns: what is read of them, what is complete, what is committed.
extension LaneStateMachine {
    // MARK: assignment

    /// A partition is owned from now on. `committed` nil: nothing was ever committed; it starts at the log's beginning.
    /// Throws when its metadata holds what this version must not ignore: then the partition isn't started.
    public mutating func own(_ stream: StreamID, committed: Int64?, metadata: String) throws(CommitMetadata.Unreadable) {
        var state = LaneStream()
        if let committed {
            let (decoded, unreadable) = try CommitMetadata.decode(metadata, committed: committed)
            if unreadable { counters.unreadableMetadata += 1 }
            state.tracker = OffsetTracker(start: committed, completed: has(.ignoreTheMetadata) ? nil : decoded.completed)
            state.committed = committed
            state.committedMetadata = metadata
            if stream.topic == 0, !has(.forgetHolds) {
                for (hash, given) in decoded.holds {
                    var hold = given
                    if has(.forgetWhenHoldsAreDue) { hold.dueMilliseconds = 0 }
                    state.holds[hash] = HeldEndpoint(
                        hold: hold, coveredUpTo: decoded.completed.map { $0.highestCompleted + 1 } ?? committed,
                        failingSince: hold.attempts > 0 ? now.wall : nil, isInherited: true)
                }
                if !state.holds.isEmpty { nextHoldWall = min(nextHoldWall, now.wall) }
            }
        }
        streams[stream] = state
        guard stream.topic == 0 else { return }
        // Known since an earlier ownership, as something of them is in flight.
        for slot in endpoints.indices where endpoints[slot].partition == stream.partition && endpointSlots[endpoints[slot].id] == slot {
            linkHold(slot)
            configure(slot)
            emptyBucket(slot)
        }
    }

    /// Partitions that are owned, and whose health has to be read to its end before anything of them starts.
    public mutating func beginRestoring(_ partitions: [Int32]) { restoring.formUnion(partitions) }

    /// Their health is known now.
    public mutating func restored(_ partition: Int32) {
        guard restoring.remove(partition) != nil else { return }
        nextHoldWall = min(nextHoldWall, now.wall)
    }

    public func isRestoring(_ partition: Int32) -> Bool { restoring.contains(partition) }

    public var ownedStreams: [StreamID] { streams.keys }
    public func owns(_ stream: StreamID) -> Bool { streams[stream].map { !$0.isRevoking } ?? false }

    /// The log begins above, or ends below, where reading should have gone on: it goes on at `offset`, whatever was remembered. Returns how
    /// many records are lost.
    public mutating func restart(_ stream: StreamID, at offset: Int64) -> Int64 {
        guard let state = streams[stream] else { return 0 }
        guard let tracker = state.tracker, offset >= tracker.next else {
            beginRevoke([stream])
            for token in records.tokens(where: { $0.stream == stream }) { records.update(token) { $0.isDetached = true } }
            streams[stream] = LaneStream(tracker: OffsetTracker(start: offset))
            return 0
        }
        streams[stream]?.tracker?.endReached(offset)
        return offset - tracker.next
    }

    /// These partitions go: nothing of them starts any more, what waits is dropped, what is in flight goes on.
    public mutating func beginRevoke(_ leaving: [StreamID]) {
        let set = Set(leaving)
        for stream in leaving { streams[stream]?.isRevoking = true }
        if let stream = catchUp?.stream, set.contains(stream) { endCatchUp() }
        for token in records.tokens(where: { set.contains($0.stream) && $0.phase != .inFlight && $0.phase != .moving }) {
            if has(.dropTheHeadOnRevoke), phase(token) == .aside { complete(token) } else { drop(token) }
        }
    }

    /// Whether anything of these partitions is still in flight or being moved.
    public func isBusy(_ leaving: [StreamID]) -> Bool {
        let set = Set(leaving)
        return records.contains { set.contains($0.stream) && ($0.phase == .inFlight || $0.phase == .moving) }
    }

    /// They are gone. What is still in flight is remembered by where its record lies, so that it isn't started again if they come back.
    public mutating func disown(_ leaving: [StreamID]) {
        beginRevoke(leaving)
        let set = Set(leaving)
        for token in records.tokens(where: { set.contains($0.stream) && !$0.isDetached }) {
            guard let place = place(of: token) else { continue }
            orphans[place.stream, default: [:]][place.offset] = token
        }
        for stream in leaving {
            streams[stream] = nil
            restoring.remove(stream.partition)
        }
        let partitions = Set(leaving.map(\.partition))
        for slot in endpoints.indices where partitions.contains(endpoints[slot].partition) { forgetEndpoint(slot) }
    }

    /// Forgets a record that has not been decided about: it will be read again by whoever owns its partition.
    private mutating func drop(_ token: RecordToken) {
        guard let record = records[token] else { return }
        if record.phase == .waiting { countWaiting(record.endpoint, -1, record.facts.bytes) }
        free(token)
    }

    // MARK: reading

    /// How many records may be read of a partition now; 0 is back-pressure.
    public func readBudget(_ stream: StreamID) -> Int {
        // With every place in flight taken, what is read could only wait.
        guard inFlight < settings.inFlightLimit, !isDraining, unproduced.isEmpty, unfinishedBytes < settings.memoryLimitBytes,
            has(.startBeforeHealth) || !restoring.contains(stream.partition),
            let state = streams.look(stream, { $0.reading }), !state.isRevoking, !state.hasHeadsAside,
            state.unfinishedBytes < settings.unfinishedLimitBytes, state.span < OffsetTracker.spanLimit,
            // What a predecessor has read must be met again, or none of its holds could end.
            state.holds < Hold.limit || streams.look(stream, { $0.isBehindAPredecessor }) == true
        else { return 0 }
        if has(.readWithoutBounds) { return 64 }
        let room = max(0, unfinishedLimit - state.unfinished)
        // Of a broken egress only as long as a candidate is looked for.
        return egress.isBroken ? min(room, egress.seeks ? 16 : 0) : room
    }

    /// A record was read. nil: it needs no work here (done before, or still in flight from an earlier ownership).
    /// `appendWall`: the broker's time of the append.
    public mutating func received(_ stream: StreamID, offset: Int64, appendWall: Int64, _ facts: DeliveryFacts) -> RecordToken? {
        guard streams.update(stream, { $0.begin(offset) }) == true else { return nil }
        if isUnderHold(stream, offset, facts) {
            streams[stream]?.tracker?.complete(offset)
            streams[stream]?.holds[Hold.hash(facts.endpointID)]?.backlog += 1
            return nil
        }
        if !orphans.isEmpty, let token = orphans[stream]?[offset], !has(.restartWhatIsInFlight) {
            adopt(token, isCovered: false)
            return nil
        }
        let fresh = LaneRecord(stream: stream, offset: offset, facts: facts)
        let token = records.insert(fresh)
        count(fresh, 1)
        unfinishedBytes += facts.bytes
        let look = appendWall + topicDelays[stream.topic]
        if topicDelays[stream.topic] > 0, look > now.wall, !has(.lookAtHeadsEarly) {
            keepAside(token, stream, until: look)
        } else {
            examine(token, fresh)
        }
        return token
    }

    mutating func forgetOrphan(_ record: LaneRecord) {
        orphans[record.stream]?[record.offset] = nil
        if orphans[record.stream]?.isEmpty == true { orphans[record.stream] = nil }
    }

    /// Under way since an earlier ownership, and now met again: it is this one's from now on, and isn't started again.
    mutating func adopt(_ token: RecordToken, isCovered: Bool) {
        guard let record = records[token] else { return }
        forgetOrphan(record)
        coveredBytes += ((isCovered ? 1 : 0) - (record.isCovered ? 1 : 0)) * record.facts.bytes
        records.update(token) { $0.isCovered = isCovered }
        defer { if let record = records[token] { count(record, 1) } }
        guard !record.facts.endpointID.isEmpty else { return }
        // Its endpoint may have been forgotten meanwhile, and stand elsewhere now.
        let slot = endpointSlot(record.facts.endpointID, record.stream.partition)
        let mayLead = endpoints[slot].head == nil || endpoints[slot].head == token
        let isOrdered = isCovered || record.isOrdered && endpoints[slot].isOrdered && mayLead
        records.update(token) { ($0.endpoint, $0.isOrdered) = (slot, isOrdered) }
        if isOrdered { endpoints[slot].head = token }
        guard isCovered else { return }
        let epoch = streams[record.stream]?.holds[endpoints[slot].hash]?.epoch ?? 0
        records.update(token) { $0.epoch = epoch }
    }

    /// A record that can't be a delivery, or of another kind: its successor is the dead letter that the driver writes.
    public mutating func receivedPoison(_ stream: StreamID, offset: Int64, bytes: Int) -> RecordToken? {
        guard let token = received(stream, offset: offset, appendWall: .min / 2, DeliveryFacts(endpointID: "", bytes: bytes, isHome: true))
        else { return nil }
        return records.has(token) ? token : nil
    }

    /// Everything below `offset` has been read.
    public mutating func endReached(_ stream: StreamID, offset: Int64) {
        let stopsAtAGap = has(.stopAtAnOffsetGap)
        let hasHolds = streams.update(stream) { state in
            state.tracker.startIfNew(at: offset)
            if !stopsAtAGap { state.tracker?.endReached(offset) }
            return !state.holds.isEmpty
        }
        if hasHolds == true { nextHoldWall = min(nextHoldWall, now.wall) }
    }

    // MARK: completion

    /// The record is done: a fact about its offset, whatever happened to the assignment between.
    mutating func complete(_ token: RecordToken) {
        guard
            let state = records.look(token, { (stream: $0.stream, offset: $0.offset, isDetached: $0.isDetached, isCovered: $0.isCovered) })
        else { return }
        if state.isDetached { return free(token) }
        if state.isCovered, let record = records[token] {
            if orphans[record.stream]?[record.offset] == token {
                streams[record.stream]?.completedEarly.insert(record.offset)
            } else {
                passHeld(record)
            }
            return free(token)
        }
        streams.update(state.stream) { $0.complete(state.offset) }
        free(token)
    }

    // MARK: commits

    public struct Commit: Sendable, Equatable {
        public var stream: StreamID
        public var offset: Int64
        public var metadata: String
        public init(stream: StreamID, offset: Int64, metadata: String) {
            (self.stream, self.offset, self.metadata) = (stream, offset, metadata)
        }
    }

    /// What to commit now: changed partitions every second, all of them often enough for the lease. Empty: nothing is due.
    public mutating func commitsDue() -> [Commit] {
        let renew = now.monotonic - lastRenewalMonotonic >= settings.leaseRenewalMilliseconds || !hasLease
        guard renew || now.monotonic - lastCommitMonotonic >= settings.commitIntervalMilliseconds else { return [] }
        let due = commits(of: streams.keys, onlyChanged: !renew)
        lastCommitMonotonic = now.monotonic
        if renew, !due.isEmpty { lastRenewalMonotonic = now.monotonic }
        return due
    }

    /// The state of these partitions, for the last commit before they go.
    public func commits(of wanted: [StreamID], onlyChanged: Bool) -> [Commit] {
        wanted.sorted().compactMap { stream in
            guard let state = streams[stream], let tracker = state.tracker else { return nil }
            var completed = tracker.completed
            if has(.dropTheGapsOfTheMetadata) { completed?.incomplete = [] }
            if has(.commitTheHighestSeen) { completed = nil }
            let offset = has(.commitTheHighestSeen) ? tracker.next : tracker.watermark
            var holds = state.holds.mapValues(\.hold)
            if has(.loseAHold), holds.count > 1, let last = holds.keys.max() { holds[last] = nil }
            let metadata = CommitMetadata(completed: completed, holds: holds).encoded(committed: offset)
            if onlyChanged, state.committed == offset, state.committedMetadata == metadata { return nil }
            return Commit(stream: stream, offset: offset, metadata: metadata)
        }
    }

    /// The brokers have it.
    public mutating func committed(_ commits: [Commit]) {
        for commit in commits {
            streams[commit.stream]?.committed = commit.offset
            streams[commit.stream]?.committedMetadata = commit.metadata
        }
    }

    /// The next offset to read, per owned partition: for lag.
    public func position(_ stream: StreamID) -> Int64? { streams.look(stream) { $0.tracker?.next } ?? nil }
}
