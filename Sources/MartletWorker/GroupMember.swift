internal import EventLoop
internal import JSON
internal import Kafka
internal import Logging
internal import Martlet

/// A consumer group's member as a lane or the fan-out stage drives it: which queues have something to read, one commit in flight,
/// revokes that are answered when the owner is ready. For one thread.
final class GroupMember {
    enum Event {
        case assigned([TopicPartition])
        case revoked([TopicPartition], lost: Bool)
        /// A commit was acknowledged; it was sent at this monotonic moment.
        case committed(sentMonotonic: Int64, [PartitionOffset])
        case commitFailed(KafkaError)
        case failed(KafkaError)
    }

    /// Offsets of one request: more with full metadata are refused by the brokers.
    static let commitBatchLimit = 200

    let consumer: GroupConsumer
    private var queues: [PartitionQueue] = []
    private var ready = ReadyQueues()
    /// Of `ready`, in a reading.
    private var inTurn: [Int] = []
    private var numbers: [TopicPartition: Int] = [:]
    /// Of each queue: behind what has been read.
    private var positions: [Int64?] = []
    private var mustAssignAgain = false
    private var resting = RestingPartitions()
    private var nextRestCheck: Int64 = 0
    private var now: Int64 = 0
    private var queuedCommits: [[PartitionOffset]] = []
    private var commitUnderWay: (id: UInt64, sentMonotonic: Int64, offsets: [PartitionOffset])?

    init(_ kafka: KafkaSettings, _ options: GroupConsumer.Options) throws(KafkaError) { consumer = try GroupConsumer(kafka, options) }

    var isCommitting: Bool { commitUnderWay != nil || !queuedCommits.isEmpty }

    /// Serves the group protocol and notes which queues woke up.
    func poll(nowMonotonic: Int64, _ body: (Event) -> Void) {
        now = nowMonotonic
        // Of the group itself is no queue's number.
        for number in consumer.ready.drain() { ready.wake(Int(number)) }
        consumer.poll { event in
            switch event {
            case .assigned(let partitions): body(.assigned(partitions))
            case .revoked(let partitions, let lost): body(.revoked(partitions, lost: lost))
            case .failed(let error): body(.failed(error))
            case .committed(let id, let error):
                guard let done = commitUnderWay, done.id == id else { return }
                commitUnderWay = nil
                if let error { body(.commitFailed(error)) } else { body(.committed(sentMonotonic: done.sentMonotonic, done.offsets)) }
            }
        }
        sendNextCommit(nowMonotonic)
        if mustAssignAgain { assignAgain() }
        if now >= nextRestCheck { restAndWake() }
    }

    /// Why its owner can't go on after this failure; nil for one that passes, which is logged. `unknownTopic`: what to do when a topic isn't there.
    func end(of error: KafkaError, _ configuration: WorkerConfiguration, _ log: Logger, unknownTopic advice: String) -> String? {
        if error.isFatal {
            let isFenced = error.code == .fencedInstance || error.code == .fenced
            return isFenced
                ? "another process joined with the instance id '\(configuration.instanceID ?? "")'; each worker needs its own" : "\(error)"
        }
        if error.isUnknownTopic { return "\(error)\n  \(advice)" }
        log.warning("Kafka", ["error": .string("\(error)")])
        return nil
    }

    private func assignAgain() {
        mustAssignAgain = false
        do throws(KafkaError) {
            try consumer.assignAgain(queues.indices.map { PartitionOffset(queues[$0].at, offset: positions[$0]) })
        } catch {
            // Nothing is read until the next try.
            mustAssignAgain = true
        }
    }

    /// The partition's position lies outside its log: it is read on from `offset`, at the next `poll`.
    func goOn(_ at: TopicPartition, from offset: Int64) {
        guard let number = numbers[at] else { return }
        positions[number] = offset
        mustAssignAgain = true
    }

    private func restAndWake() {
        nextRestCheck = now + 100
        let changes = resting.changes(now: now)
        consumer.pause(changes.pause.map { PartitionOffset(queues[$0].at, offset: positions[$0]) })
        consumer.resume(changes.resume.map { queues[$0].at })
    }

    /// The owner has written to this partition: it is fetched again at once, should it rest.
    func wake(_ at: TopicPartition) {
        guard let number = numbers[at] else { return }
        resting.wake(number, now: now)
        nextRestCheck = 0
    }

    /// Queues a commit. One request is in flight at a time.
    func commit(_ offsets: [PartitionOffset], nowMonotonic: Int64) {
        var rest = offsets[...]
        while !rest.isEmpty {
            queuedCommits.append(Array(rest.prefix(Self.commitBatchLimit)))
            rest = rest.dropFirst(Self.commitBatchLimit)
        }
        sendNextCommit(nowMonotonic)
    }

    private func sendNextCommit(_ nowMonotonic: Int64) {
        guard commitUnderWay == nil, !queuedCommits.isEmpty else { return }
        let offsets = queuedCommits.removeFirst()
        if let id = try? consumer.commit(offsets) { commitUnderWay = (id, nowMonotonic, offsets) }
    }

    /// Starts fetching; the queues' numbers are their indices. `restInterval`: after how many milliseconds each partition is looked at while
    /// it rests (`RestingPartitions`); nil: it is always watched.
    func assign(_ partitions: [PartitionOffset], restInterval: (TopicPartition) -> Int64? = { _ in nil }) throws(KafkaError) {
        forgetQueues()
        queues = try consumer.assign(partitions) { UInt32($0) }
        ready = ReadyQueues(count: queues.count)
        positions = partitions.map(\.offset)
        numbers = Dictionary(uniqueKeysWithValues: queues.enumerated().map { ($1.at, $0) })
        resting = RestingPartitions(intervals: queues.map { restInterval($0.at) })
    }

    /// Gives everything up and answers a revoke.
    func unassign() {
        forgetQueues()
        queuedCommits = []
        consumer.unassign()
    }

    /// Before the same partitions are assigned again: nothing more is read of the old queues.
    func forgetQueues() {
        // A pause would outlast the assignment.
        consumer.resume(resting.restable.map { queues[$0].at })
        resting = RestingPartitions()
        (numbers, positions, mustAssignAgain) = ([:], [], false)
        queues = []
        ready = ReadyQueues()
    }

    /// Looks at every queue at the next read: a wake-up may have been lost.
    func wakeAll() { ready.wakeAll() }

    /// The end: commits once more, again if the group was between two generations, and leaves. Blocks for up to ten seconds.
    /// `mustAnswer`: an assignment or a revoke of the group waits for its answer. False: the brokers are
    /// gone, and don't have the last commit.
    func leave(mustAnswer: Bool, isLost: Bool, _ log: Logger, lastCommit: () -> [PartitionOffset]) -> Bool {
        let deadline = SystemClock.monotonicMilliseconds() + 5_000
        var now = SystemClock.monotonicMilliseconds()
        var (isLost, mustUnassign, isRefused) = (isLost, mustAnswer, false)
        func turn() {
            _ = WakeUp.sleep(milliseconds: 5)
            now = SystemClock.monotonicMilliseconds()
            poll(nowMonotonic: now) { event in
                switch event {
                case .committed: break
                case .assigned: consumer.unassign()
                case .revoked(_, let lost): (mustUnassign, isLost) = (true, isLost || lost)
                case .commitFailed(let error):
                    isRefused = true
                    log.debug("last commit refused; trying again", ["error": .string("\(error)")])
                case .failed(let error): log.debug("while leaving", ["error": .string("\(error)")])
                }
            }
        }
        while isCommitting, now < deadline { turn() }
        var isCommitted = true
        repeat {
            isRefused = false
            let offsets = isLost ? [] : lastCommit()
            if !offsets.isEmpty { commit(offsets, nowMonotonic: now) }
            while isCommitting, now < deadline { turn() }
        } while isRefused && !isLost && now < deadline
        isCommitted = !isRefused && !isCommitting
        if isRefused { log.warning("the last commit was refused: what was done since the one before is delivered again") }
        if mustUnassign { unassign() }
        consumer.beginClose()
        while !consumer.isClosed, now < deadline + 5_000 {
            mustUnassign = false
            turn()
            if mustUnassign { unassign() }
        }
        guard !consumer.isClosed else { return true }
        log.warning("the group could not be left: its brokers don't answer; others take over when the session times out")
        consumer.abandon()
        return isCommitted
    }

    /// Of a queue's number.
    func partition(_ number: Int) -> TopicPartition { queues[number].at }

    /// Reads what the owner's budgets allow, round robin over the queues that have something, up to `limit` events. Queues are named by
    /// their numbers: their places in what was assigned. True when there is more to read at once.
    func read(limit: Int, budget: (Int) -> Int, _ body: (Int, PartitionEvent) -> Void) -> Bool {
        ready.list(into: &inTurn)
        guard !inTurn.isEmpty else { return false }
        var left = limit
        var more = false
        // Where many have something each gets a part: in runs of one partition, and so often of one endpoint, more connections to each
        // receiver would be made than are kept.
        let share = min(64, max(8, limit / inTurn.count))
        for index in inTurn {
            let queue = queues[index]
            let allowed = min(budget(index), share, left)
            guard allowed > 0 else {
                if left <= 0 { more = true }
                continue
            }
            var (isAtEnd, hadRecords) = (false, false)
            let count = queue.read(limit: allowed) { event in
                switch event {
                case .message(let message): (isAtEnd, hadRecords, positions[index]) = (false, true, message.offset + 1)
                case .end(let offset): (isAtEnd, positions[index]) = (true, offset)
                case .outOfRange: (isAtEnd, hadRecords) = (false, true)
                case .failed: break
                }
                body(index, event)
            }
            if isAtEnd || hadRecords { resting.wasRead(index, hadRecords: hadRecords, isAtEnd: isAtEnd, now: now) }
            if count < allowed { ready.emptied(index) } else { more = true }
            if count > 0 { ready.served(index) }
            left -= count
        }
        return more
    }
}
