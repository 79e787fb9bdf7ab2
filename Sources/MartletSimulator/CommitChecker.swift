internal import Martlet

// What must hold of commits, and in the end.
extension Simulation {
    /// Nothing that a commit calls done may be unresolved: received, dead, carried on by a later record, or under a hold.
    mutating func commitChecked(_ id: Int, _ given: LaneStateMachine.Commit) {
        let commit = withLateHolds(given)
        if owner[Int(commit.stream.partition)] != id { violate("worker \(id) commits \(commit.stream), which isn't its own") }
        let last = log[commit.stream].committed
        // What lay under a hold is looked at again: the hold may have moved on, or gone.
        let lastHolds = last.flatMap {
            try? CommitMetadata.decode($0.metadata, committed: $0.offset).metadata.holds.values.map(\.offset).min()
        }
        let before = min(last?.offset ?? 0, lastHolds ?? .max)
        log.commit(commit.stream, commit.offset, commit.metadata)
        committedBy[commit.stream] = id
        note("worker \(id) commits \(commit.stream) \(commit.offset) \(commit.metadata)")
        guard let decoded = try? CommitMetadata.decode(commit.metadata, committed: commit.offset).metadata else {
            return violate("metadata that can't be read back")
        }
        if commit.metadata.utf8.count > CommitMetadata.lengthLimit { violate("metadata over its limit") }
        // What lies below the last commit was checked then.
        for record in log.records(commit.stream, from: min(before, commit.offset)) {
            if record.offset >= commit.offset {
                guard let done = decoded.completed, record.offset <= done.highestCompleted else { break }
                guard record.offset > commit.offset, !done.incomplete.contains(record.offset) else { continue }
            }
            guard record.delivery >= 0, !record.isHidden, !isResolved(record) else { continue }
            if let hold = decoded.holds[endpoints[record.delivery % 100].hash], record.offset >= hold.offset { continue }
            violate("\(commit.stream) commit \(commit.offset) calls delivery \(record.delivery) at \(record.offset) done")
        }
    }

    private func isResolved(_ record: SimulatedRecord) -> Bool {
        succeeded[record.delivery] != nil || log.deadLetters[record.delivery] != nil
            || (log.lastSequence[record.delivery] ?? 0) > record.sequence
    }

    /// For one of the deliberate mistakes: holds that are written elsewhere, a commit later than the watermark.
    private mutating func withLateHolds(_ commit: LaneStateMachine.Commit) -> LaneStateMachine.Commit {
        guard has(.holdsInTheHealthTopic), let decoded = try? CommitMetadata.decode(commit.metadata, committed: commit.offset).metadata
        else {
            return commit
        }
        var late = commit
        late.metadata = CommitMetadata(completed: decoded.completed, holds: lateHolds[commit.stream] ?? [:]).encoded(
            committed: commit.offset)
        lateHolds[commit.stream] = decoded.holds
        return late
    }

    /// Of an events partition: every delivery of what is called done is in a lane topic.
    mutating func commitChecked(_ commit: FanOutProgress.PartitionCommit) {
        let partition = Int(commit.stream.partition)
        let before = log.events[partition].committed?.offset ?? 0
        log.events[partition].committed = (commit.offset, commit.metadata)
        for event in log.events[partition].records where event.offset >= before && event.offset < commit.offset {
            for number in event.expected
            where endpoints[number].deletedAt == nil && log.lastSequence[event.number * 100 + number] == nil
                && !expired.contains(event.number * 100 + number)
            {
                violate("fan-out calls event \(event.number) done without its delivery to \(endpoints[number].id)")
            }
        }
    }

    // MARK: the end

    private func hasEnded(_ delivery: Int) -> Bool {
        succeeded[delivery] != nil || log.deadLetters[delivery] != nil || expired.contains(delivery)
            || endpoints[delivery % 100].deletedAt != nil && log.lastSequence[delivery] == nil
    }

    var allEnded: Bool { expected.allSatisfy(hasEnded) && log.poisonLetters >= poisonExpected }

    var allCommitted: Bool {
        log.lanes.allSatisfy { ($0.committed?.offset ?? 0) >= $0.end && ($0.committed?.metadata ?? "").isEmpty }
            && log.events.allSatisfy { ($0.committed?.offset ?? 0) >= $0.end }
    }

    /// The changelog says of an endpoint what its owner last said of it, whatever writes failed between.
    mutating func checkHealthIsWritten(_ id: Int) {
        guard step % 8 == 0, let worker = workers[id] else { return }
        let watches = worker.endpoints
        // Of one that has lost its partitions, and knows, a late answer may still say something: nobody writes that again.
        for number in watches.keys.sorted()
        where owner[Int(endpoints[number].partition)] == id && worker.partitions.contains(endpoints[number].partition) {
            guard let published = watches[number]?.health, now - since(watches[number]?.healthAt, id) > Self.healthLimitMilliseconds else {
                continue
            }
            let last = log.health[Int(endpoints[number].partition)].last { $0.endpointID == endpoints[number].id }
            if last?.breaker != published.breaker || last?.disabled != published.disabled {
                violate("the changelog doesn't know the health of \(endpoints[number].id)")
            }
        }
    }

    private static let healthLimitMilliseconds: Int64 = 5_000

    /// Or, if that is later, since it has its brokers again.
    private func since(_ time: Int64?, _ id: Int) -> Int64 {
        max(time ?? now, workers[id]?.cutOffUntil ?? 0, workers[id]?.suspendedUntil ?? 0)
    }

    /// So long after the faults whoever can be delivered to has everything: nothing starves, and nothing waits to expire.
    static let healthyLimitMilliseconds: Int64 = 180_000

    mutating func checkHealthyHaveAll() {
        let waiting = expected.first { delivery in
            let endpoint = endpoints[delivery % 100]
            return endpoint.receiver == .healthy && endpoint.parkedSince == nil && !toggled.contains(delivery % 100) && !hasEnded(delivery)
        }
        if let waiting {
            violate("delivery \(waiting) to a healthy receiver has waited for \(Self.healthyLimitMilliseconds) ms without a fault")
        }
    }

    mutating func explainUnfinished() {
        if let delivery = expected.first(where: { !hasEnded($0) }) { return violate("after the faults, delivery \(delivery) never ends") }
        if log.poisonLetters < poisonExpected { return violate("after the faults, poison is not on the dead-letter topic") }
        for (index, partition) in log.lanes.enumerated()
        where (partition.committed?.offset ?? 0) < partition.end || !(partition.committed?.metadata ?? "").isEmpty {
            return violate(
                "after the faults, lane topic \(index / scenario.partitions) partition \(index % scenario.partitions) is committed at \(partition.committed?.offset ?? 0) '\(partition.committed?.metadata ?? "")' and ends at \(partition.end)"
            )
        }
        violate("after the faults, something stays under way")
    }
}
