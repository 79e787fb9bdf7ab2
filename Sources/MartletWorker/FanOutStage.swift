internal import EventLoop
internal import JSON
internal import Kafka
internal import Logging
internal import Martlet
internal import Metrics

/// The fan-out stage: a thread, a member of the fan-out group and its producers. Reads events in offset order and writes their deliveries.
/// Built inside its thread; never leaves it.
final class FanOutStage {
    typealias Message = DeliveryLane.Message
    typealias End = DeliveryLane.End
    private typealias Token = DeliveryLane.Token

    /// An event is fanned out only with a view of the registry that is not older than this.
    static let viewAgeLimitMilliseconds: Int64 = 1_000
    static let unfinishedLimit = 10_000
    /// From so many unreported records on, reports wake the thread: all of them in one later turn would keep an event waiting.
    static let reportsLimit = 1_000
    /// What the producers may hold together.
    static let bufferRecords = 100_000

    private let configuration: WorkerConfiguration
    private let metrics: FanOutMetrics
    private let log: Logger
    private let inbox: Inbox<Message>
    private let loop = EventLoop()
    private let member: GroupMember
    private var producers: PartitionedProducers
    private var backlog = EventBacklog()
    private var registry: Registry
    private var freshAsOfMonotonic: Int64 = .min / 2
    private var progress = FanOutProgress()
    private var topicNames: [String] = []

    /// An event whose records aren't all acknowledged: kept, so that one that is refused can be written to the dead-letter topic.
    private final class Kept {
        /// With `recipients`; nil: `letter` it is.
        let composer: FanOut?
        let recipients: Recipients?
        let letter: DeadLetter.Letter?
        let token: FanOutProgress.EventToken
        let source: Source
        let bytes: Int
        var unacknowledged: Int

        init(_ token: FanOutProgress.EventToken, _ composer: consuming FanOut, to recipients: Recipients, from: Int, _ source: Source) {
            let count = recipients.endpointIDs.count
            (bytes, unacknowledged) = (composer.bytes + count * 64, count - from)
            self.composer = consume composer
            (self.token, self.recipients, letter, self.source) = (token, recipients, nil, source)
        }

        init(_ token: FanOutProgress.EventToken, _ letter: DeadLetter.Letter, _ source: Source) {
            composer = nil
            (self.token, recipients, self.letter, self.source) = (token, nil, letter, source)
            (bytes, unacknowledged) = (letter.body?.count ?? 0, 1)
        }

        /// Records to be written.
        var count: Int { recipients?.endpointIDs.count ?? 1 }

        /// nil: `letter` it is.
        func delivery(_ index: Int) -> FanOut.Delivery? {
            guard let recipients, index < recipients.endpointIDs.count else { return nil }
            return composer?.delivery(to: recipients.endpointIDs[index], as: recipients.formats[index])
        }
    }
    private typealias Source = (topic: String, partition: Int32, offset: Int64)
    /// By their tokens' slots.
    private var kept: [Kept?] = []
    private var keptBytes = 0
    private let deliveriesTopic: String
    /// What each of the member's queues reads.
    private var queueStreams: [StreamID] = []
    private var unsent = UnsentDeliveries()
    private var recipients: RecipientTable
    private var mustRestart = false
    private var pendingAssignment: [TopicPartition]?
    private var nextAssignmentTry: Int64 = 0
    private var revoking: (deadline: Int64, isCommitted: Bool, isLost: Bool)?
    private var lastCommit: Int64 = 0
    private var lastRenewal: Int64 = 0
    private var lastSlowTasks: Int64 = 0
    private var hasMoreToRead = false
    private var isDraining = false
    private var failure: String?
    private var now: Int64 = 0

    init(_ configuration: WorkerConfiguration, inbox: Inbox<Message>, metrics: FanOutMetrics) throws(KafkaError) {
        (self.configuration, self.inbox, self.metrics) = (configuration, inbox, metrics)
        deliveriesTopic = configuration.topics.deliveries
        log = configuration.log.with("part", "fanout")
        registry = Registry(rules: configuration.urlRules)
        recipients = RecipientTable { [count = configuration.partitions] in Murmur2.partition(of: $0, count: count) }
        var options = GroupConsumer.Options(group: configuration.topics.fanOutGroup)
        options.instanceID = configuration.instanceID
        options.sessionTimeoutMilliseconds = Int(configuration.sessionTimeoutMilliseconds)
        options.prefetchKilobytes = configuration.fanOutPrefetchKilobytes
        member = try GroupMember(configuration.kafka, options)
        var producing = Producer.Options()
        // Never gives up: giving up one record and sending the next would break the order.
        producing.messageTimeoutMilliseconds = 0
        // Its events' bodies, which many deliveries share.
        producing.keepsValues = true
        producing.bufferKilobytes = configuration.fanOutBytesLimit / 1_024
        producing.bufferRecords = Self.bufferRecords
        // While these are under way, what comes gathers here and goes in fewer requests: events that come one by one needn't wait for it.
        producing.requestsInFlight = 2
        producing.lingerMilliseconds = 0
        producers = try PartitionedProducers(
            configuration.kafka, producing, count: min(2, configuration.partitions), gatheringMilliseconds: 5)
        loop.watch(member.consumer.ready, token: Token.member)
        loop.watch(inbox, token: Token.inbox)
        try member.consumer.subscribe([configuration.topics.events] + configuration.inputTopics)
    }

    func run() -> End {
        var drainDeadline: Int64?
        while true {
            watchReports()
            loop.wait(milliseconds: hasMoreToRead ? 0 : 50) { _ in }
            now = SystemClock.monotonicMilliseconds()
            for message in inbox.drain() {
                switch message {
                case .registry(let update): take(update)
                case .drain:
                    isDraining = true
                    drainDeadline = now + configuration.drainMilliseconds
                }
            }
            turn()
            if let failure { return .failed(failure) }
            if let deadline = drainDeadline, progress.unfinished == 0 || now >= deadline {
                return finish(isDrained: progress.unfinished == 0)
            }
        }
    }

    /// Reports of what was written wake this thread only while something waits for them: room, a revoke, the end. Else the next event's turn
    /// finds them, or the next look within 50 ms, which saves two of three turns where events come one by one.
    private func watchReports() {
        let isWaiting =
            !unsent.isEmpty || revoking != nil || isDraining || keptBytes >= configuration.fanOutBytesLimit
            || producers.outstanding >= Self.reportsLimit
        producers.wake(loop, isWaiting, token: Token.producer)
    }

    private func turn() {
        // Before the group, which may wait for them.
        producers.drainReports { report($0) }
        if mustRestart { restart() }
        serveGroup()
        send()
        hasMoreToRead = read()
        send()
        commitIfDue()
        slowTasks()
        metrics.lastTurnMonotonic.set(Int(now))
    }

    private func take(_ update: RegistryUpdate) {
        for change in update.changes { registry.take(change, position: update.position) }
        registry.advance(to: update.position)
        freshAsOfMonotonic = max(freshAsOfMonotonic, update.freshAsOfMonotonic)
    }

    // MARK: events in, deliveries out

    private func read() -> Bool {
        guard revoking == nil, !isDraining, unsent.isEmpty, keptBytes < configuration.fanOutBytesLimit,
            progress.unfinished < Self.unfinishedLimit
        else { return false }
        // Held back: an endpoint registered a second before the event must be matched.
        guard now - freshAsOfMonotonic <= Self.viewAgeLimitMilliseconds else {
            metrics.holdBacks.add()
            return false
        }
        let hasMore = member.read(limit: 256) { _ in
            keptBytes < configuration.fanOutBytesLimit ? 64 : 0
        } _: { number, event in
            let stream = queueStreams[number]
            switch event {
            case .message(let message): fanOut(message, stream)
            case .end(let offset): progress.endReached(stream, offset: offset)
            case .outOfRange: goOnAfterLoss(stream, member.partition(number))
            case .failed(let error):
                log.warning("read", ["topic": .string(member.partition(number).topic), "error": .string("\(error)")])
            }
        }
        backlog.read(hasMore: hasMore, now: now)
        return hasMore
    }

    private func stream(_ at: TopicPartition) -> StreamID {
        if let index = topicNames.firstIndex(of: at.topic) { return StreamID(topic: index, partition: at.partition) }
        topicNames.append(at.topic)
        return StreamID(topic: topicNames.count - 1, partition: at.partition)
    }

    private func fanOut(_ message: KafkaMessage, _ stream: StreamID) {
        let wall = SystemClock.wallMilliseconds()
        let source = (topic: topicNames[stream.topic], partition: message.partition, offset: message.offset)
        metrics.events.add()
        do throws(Event.Poison) {
            let event = try EventRecord(headers: { body in message.forEachHeader(body) }, value: message.value)
            let recipients = recipients.recipients(of: event, version: registry.version) ?? recipients.find(event, in: registry)
            let ids = recipients.endpointIDs
            if ids.isEmpty { metrics.unmatched.add() }
            guard let (token, from) = progress.begin(stream, offset: message.offset, endpointIDs: ids) else { return }
            let accepted = FanOut.Acceptance(
                topic: source.topic, partition: source.partition, offset: source.offset,
                milliseconds: min(message.timestampMilliseconds ?? wall, wall))
            let composer = FanOut(event, as: recipients.distinctFormats, at: accepted, registryOffset: registry.position)
            keep(Kept(token, composer, to: recipients, from: from, source), from: from)
        } catch {
            metrics.poison.add()
            log.warning(
                "poison event",
                [
                    "topic": .string(source.topic), "partition": .integer(source.partition), "offset": .integer(source.offset),
                    "reason": .string(error.description),
                ])
            guard let (token, _) = progress.begin(stream, offset: message.offset, endpointIDs: [""]) else { return }
            let letter = DeadLetter.poison(
                error.description, headers: message.headers, body: message.value, source: source, nowMilliseconds: wall)
            keep(Kept(token, letter, source), from: 0)
        }
    }

    private func keep(_ event: Kept, from: Int) {
        let slot = event.token.slot
        while kept.count <= Int(slot) { kept.append(nil) }
        kept[Int(slot)] = event
        keptBytes += event.bytes
        unsent.append(slot, from: from, count: event.count)
    }

    private func send() {
        guard !unsent.isEmpty, let isGathering = backlog.gathers(outstanding: producers.outstanding, now: now) else { return }
        if isGathering, !producers.isGathering { metrics.backlogs.add() }
        producers.isGathering = isGathering
        unsent.send(partition: partition) { produce($0) }
    }

    /// Where a record of an event goes. Dead letters by their keys, whose partition the producer finds: together with each other.
    private func partition(_ slot: UInt32, _ index: Int) -> Int32 {
        guard let recipients = kept(slot)?.recipients, index < recipients.partitions.count else { return -1 }
        return recipients.partitions[index]
    }

    /// False: the same again later, and nothing before it. The producer's queue is full, or it failed.
    private func produce(_ item: UnsentDeliveries.Item) -> Bool {
        let (slot, index) = (item.slot, item.index)
        guard let event = kept(slot) else { return true }
        let token = event.token.bits(index: index)
        let queued: Producer.Queued
        if let delivery = event.delivery(index) {
            queued = produce(delivery, item.partition, token)
        } else if let letter = event.letter {
            queued = producers[-1].produce(outgoing(letter), token: token)
        } else {
            return true
        }
        switch queued {
        case .queued: return true
        case .full: return false
        case .failed(let error):
            if error.isRefusedRecord { return refused(event, index, error) }
            metrics.produceFailures.add()
            // None behind it may go before it.
            mustRestart = true
            return false
        }
    }

    private func kept(_ slot: UInt32) -> Kept? { slot < kept.count ? kept[Int(slot)] : nil }

    private func produce(_ delivery: FanOut.Delivery, _ partition: Int32, _ token: UInt64) -> Producer.Queued {
        delivery.headers.withEndpointID { id in
            producers[partition].produce(
                topic: deliveriesTopic, partition: partition, key: id, keeping: delivery.body, token: token
            ) { writer in delivery.headers.forEach { writer.add($0, $1) } }
        }
    }

    private func outgoing(_ letter: DeadLetter.Letter) -> OutgoingRecord {
        OutgoingRecord(topic: configuration.topics.deadLetters, key: Array(letter.key.utf8), value: letter.body, headers: letter.headers)
    }

    private func report(_ report: Producer.Report) {
        let (token, index) = FanOutProgress.EventToken.from(bits: report.token)
        // Else what was owned then is fanned out again, here or elsewhere.
        guard progress.isCurrent(token), let event = kept(token.slot) else { return }
        if let error = report.error {
            log.warning("produce", ["topic": .string(report.at.topic), "error": .string("\(error)")])
            if !error.isRefusedRecord {
                metrics.produceFailures.add()
                mustRestart = true
            } else if !refused(event, index, error) {
                unsent.append(token.slot, from: index, count: index + 1)
            }
            return
        }
        progress.acknowledged(token, index: index)
        if report.at.topic == deliveriesTopic { metrics.deliveries.add() }
        event.unacknowledged -= 1
        if event.unacknowledged == 0 {
            keptBytes -= event.bytes
            kept[Int(token.slot)] = nil
        }
    }

    /// The brokers will never take this record: its delivery becomes a dead letter with the body cut. False: there is no room for it yet.
    private func refused(_ event: Kept, _ index: Int, _ error: KafkaError) -> Bool {
        guard var delivery = event.delivery(index) else {
            mustRestart = true
            return false
        }
        delivery.headers.lastError = "\(error)"
        let letter = delivery.body.withUnsafeBytes {
            DeadLetter.letter(delivery.headers, reason: .oversize, body: $0, source: event.source)
        }
        switch producers[-1].produce(outgoing(letter), token: event.token.bits(index: index)) {
        case .full: return false
        case .queued: break
        case .failed: mustRestart = true
        }
        metrics.produceFailures.add()
        return !mustRestart
    }

    // MARK: the group

    private func serveGroup() {
        member.poll(nowMonotonic: now) { event in
            switch event {
            case .assigned(let partitions):
                pendingAssignment = partitions
                nextAssignmentTry = 0
            case .revoked(_, let lost):
                pendingAssignment = nil
                revoking = (lost ? now : now + DeliveryLane.revokeWaitMilliseconds, lost, lost)
            case .committed(_, let offsets): committed(offsets)
            case .commitFailed(let error): log.debug("commit refused", ["error": .string("\(error)")])
            case .failed(let error):
                let advice = "run 'martlet topics create', or check --input-topics"
                if let reason = member.end(of: error, configuration, log, unknownTopic: advice) { failure = reason }
            }
        }
        startAssignment()
        finishRevoke()
    }

    private func startAssignment() {
        guard let partitions = pendingAssignment, now >= nextAssignmentTry else { return }
        do {
            var starts: [PartitionOffset] = partitions.isEmpty ? [] : try member.consumer.committed(partitions, timeoutMilliseconds: 5_000)
            pendingAssignment = nil
            starts = starts.filter { start in
                do throws(CommitMetadata.Unreadable) {
                    try progress.own(stream(start.at), committed: start.offset, metadata: start.metadata)
                    return true
                } catch {
                    log.error(
                        "partition isn't started",
                        ["topic": .string(start.at.topic), "partition": .integer(start.at.partition), "reason": .string("\(error)")])
                    return false
                }
            }
            queueStreams = starts.map { stream($0.at) }
            try member.assign(starts)
            metrics.assignedPartitions.set(starts.count)
            metrics.hasAssignment.set(1)
            log.info("partitions assigned", ["partitions": .string(DeliveryLane.ranges(starts.map(\.at.partition)))])
        } catch {
            pendingAssignment = partitions
            nextAssignmentTry = now + 500
            log.warning("committed offsets can't be read yet; trying again", ["error": .string("\(error)")])
        }
    }

    private func finishRevoke() {
        guard let state = revoking else { return }
        let isOver = now >= state.deadline
        guard isOver || progress.unfinished == 0 else { return }
        if !state.isCommitted, !member.isCommitting {
            revoking = (max(state.deadline, now + 1_000), true, false)
            send(progress.commits(onlyChanged: true))
            if member.isCommitting { return }
        }
        guard isOver || !member.isCommitting else { return }
        revoking = nil
        letGo()
        member.unassign()
        log.info("partitions revoked")
    }

    private func letGo() {
        progress.disown(progress.owned)
        kept = []
        keptBytes = 0
        unsent = UnsentDeliveries()
        metrics.assignedPartitions.set(0)
        metrics.lag.set([:])
    }

    /// After a delivery was given up by the producer: everything is read again from the committed offsets.
    private func restart() {
        mustRestart = false
        guard revoking == nil else {
            // What isn't sent stands behind what the producer gave up, and nobody answers for that any more: the next owner does it all.
            unsent = UnsentDeliveries()
            revoking?.deadline = now
            return
        }
        let partitions = progress.owned.map { TopicPartition(topicNames[$0.topic], $0.partition) }
        log.warning("fan-out reads again from the committed offsets", ["partitions": .integer(partitions.count)])
        letGo()
        member.forgetQueues()
        pendingAssignment = partitions
        nextAssignmentTry = 0
    }

    private func goOnAfterLoss(_ stream: StreamID, _ at: TopicPartition) {
        do throws(KafkaError) {
            let low = try member.consumer.queryWatermarks(at, timeoutMilliseconds: 5_000).low
            log.error(
                "the log has no events where reading should go on: lost to retention, or the topic was made anew",
                [
                    "topic": .string(at.topic), "partition": .integer(at.partition), "from": .integer(progress.position(stream) ?? -1),
                    "continues": .integer(low),
                ])
            progress.restart(stream, at: low)
            member.goOn(at, from: low)
        } catch { log.error("log start can't be found", ["topic": .string(at.topic), "error": .string("\(error)")]) }
    }

    // MARK: commits

    private func commitIfDue() {
        guard revoking == nil, !member.isCommitting else { return }
        let renew = now - lastRenewal >= configuration.lane.leaseRenewalMilliseconds
        guard renew || now - lastCommit >= configuration.lane.commitIntervalMilliseconds else { return }
        lastCommit = now
        if renew { lastRenewal = now }
        send(progress.commits(onlyChanged: !renew))
    }

    private var sent: [FanOutProgress.PartitionCommit] = []

    private func send(_ commits: [FanOutProgress.PartitionCommit]) {
        guard !commits.isEmpty else { return }
        sent = commits
        member.commit(offsets(commits), nowMonotonic: now)
    }

    private func offsets(_ commits: [FanOutProgress.PartitionCommit]) -> [PartitionOffset] {
        commits.map {
            PartitionOffset(TopicPartition(topicNames[$0.stream.topic], $0.stream.partition), offset: $0.offset, metadata: $0.metadata)
        }
    }

    private func committed(_ offsets: [PartitionOffset]) {
        let places = Set(offsets.map(\.at))
        progress.committed(sent.filter { places.contains(TopicPartition(topicNames[$0.stream.topic], $0.stream.partition)) })
    }

    private func slowTasks() {
        guard now - lastSlowTasks >= 1_000 else { return }
        lastSlowTasks = now
        member.wakeAll()
        metrics.producerRebuilds.set(producers.rebuilds)
        var lags: [TopicPartition: Int64] = [:]
        for stream in progress.owned {
            let at = TopicPartition(topicNames[stream.topic], stream.partition)
            guard let position = progress.position(stream), let end = member.consumer.knownWatermarks(at)?.high else { continue }
            lags[at] = max(0, end - position)
        }
        metrics.lag.set(lags)
    }

    // MARK: the end

    private func finish(isDrained: Bool) -> End {
        let isCommitted = member.leave(
            mustAnswer: revoking != nil || pendingAssignment != nil, isLost: revoking?.isLost ?? false, log
        ) { [self] in offsets(progress.commits(onlyChanged: false)) }
        return isDrained && isCommitted ? .drained : .drainIncomplete
    }
}
