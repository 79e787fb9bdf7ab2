internal import EventLoop
internal import HTTPDelivery
internal import JSON
internal import Kafka
internal import Logging
internal import Martlet
internal import Metrics

/// One delivery lane: a thread with an event loop, a member of the delivery group, a producer and a transport. It carries out what its
/// `LaneStateMachine` decides. Built inside its thread; never leaves it.
final class DeliveryLane {
    enum Message: Sendable {
        case registry(RegistryUpdate)
        case drain
    }

    /// How a lane came to its end.
    enum End: Sendable, Equatable {
        case drained, drainIncomplete
        case failed(String)
    }

    /// What epoll reports of a loop's descriptors.
    enum Token {
        static let member: UInt64 = 1
        static let producer: UInt64 = 2
        static let inbox: UInt64 = 3
        static let transport: UInt64 = 1 << 40
    }
    static let revokeWaitMilliseconds: Int64 = 5_000
    static let leaseMarginMilliseconds: Int64 = 10_000

    let configuration: WorkerConfiguration
    let metrics: LaneMetrics
    let log: Logger
    private let inbox: Inbox<Message>
    private let loop = EventLoop()
    let member: GroupMember
    /// Of all but attempt records.
    let producer: Producer
    let attemptLog: Producer
    let transport: DeliveryTransport
    var core: LaneStateMachine
    /// Names of the topics in the order of the core's stream ids.
    let laneTopics: [String]
    let topicIndex: [String: Int]
    /// What each of the member's queues reads; nil: health.
    private var queueStreams: [StreamID?] = []
    var items = LaneItems()
    /// The brokers' clock, which due times are kept in.
    var clock = BrokerClock()
    /// This turn's time by our own clock: what signatures and attempt records carry.
    var localWall: Int64 = 0
    var catchUp: CatchUpReader?
    var unpublished: [OperationalEvent] = []
    var sideRecords: [RecordToken: SideRecord] = [:]
    var sideNumber: UInt32 = 0
    var accessTokens = AccessTokens()
    var tokenRequests: [UInt64: PreparedEndpoint] = [:]
    var tokenRequestNumber: UInt32 = 0

    private var pendingAssignment: [TopicPartition]?
    private var nextAssignmentTry: Int64 = 0
    /// After a refused commit the next one waits a moment.
    private var nextCommit: Int64 = 0
    private var revoking: (streams: [StreamID], deadline: Int64, isCommitted: Bool, isLost: Bool)?
    private var commits: [StreamID: LaneStateMachine.Commit] = [:]
    private var lastSlowTasks: Int64 = 0
    private var ready: [EventLoop.Ready] = []
    /// Whether epoll named the producer in this turn.
    private var hasReports = false
    /// Of the core, being carried out.
    var commands: [LaneCommand] = []
    private var addresses: AddressPolicy
    private var lastOwnAddresses: Int64 = 0
    let attemptsTopic: String
    /// The record of the attempt that is being written.
    var attemptRecord: [UInt8] = []
    var hasMoreToRead = false
    var now = LaneTime(monotonic: 0, wall: 0)

    init(_ configuration: WorkerConfiguration, number: Int, inbox: Inbox<Message>, metrics: LaneMetrics) throws(KafkaError) {
        self.configuration = configuration
        self.inbox = inbox
        self.metrics = metrics
        log = configuration.log.with("lane", String(number))
        let topics = configuration.topics
        attemptsTopic = topics.attempts
        let tiers = Set(configuration.discoveredTiers + configuration.lane.tiers).sorted()
        laneTopics = [topics.deliveries, topics.replay] + tiers.map { topics.retry($0) }
        topicIndex = Dictionary(uniqueKeysWithValues: laneTopics.enumerated().map { ($1, $0) })
        var settings = configuration.lane
        // Of this ownership alone: another lane of the worker, or a worker of the same name, is another writer.
        settings.writer = "\(configuration.name)/\(number)-\(String(UInt32.random(in: 0 ... .max), radix: 36))"
        core = LaneStateMachine(settings, topicDelays: [0, 0] + tiers.map(\.delayMilliseconds), seed: .random(in: 0 ... .max))
        var options = GroupConsumer.Options(group: topics.deliveryGroup)
        options.instanceID = configuration.instanceID.map { "\($0)-\(number)" }
        options.sessionTimeoutMilliseconds = Int(configuration.sessionTimeoutMilliseconds)
        options.prefetchKilobytes = configuration.prefetchKilobytes(topicsPerPartition: laneTopics.count + 1)
        member = try GroupMember(configuration.kafka, options)
        var producing = Producer.Options()
        // What moves to a retry topic waits for seconds there.
        producing.lingerMilliseconds = 10
        producer = try Producer(configuration.kafka, producing)
        // Nobody waits for attempt records, and they go to all partitions: librdkafka sends a request for each partition's batch, which costs
        // both sides more than a record.
        producing.lingerMilliseconds = 100
        producing.bufferKilobytes = 16_384
        producing.areReportsSilent = true
        attemptLog = try Producer(configuration.kafka, producing)
        addresses = configuration.urlRules.addresses
        var transportConfiguration = TransportConfiguration(addresses: addresses)
        transportConfiguration.inFlightLimit = settings.inFlightLimit
        transportConfiguration.idlePool = max(transportConfiguration.idlePool, settings.inFlightLimit / 4)
        transportConfiguration.caBundlePath = configuration.caBundlePath
        transportConfiguration.extraAuthoritiesPath = configuration.extraAuthoritiesPath
        transportConfiguration.proxy = configuration.egressProxy
        transportConfiguration.nameServers = configuration.nameServers
        transportConfiguration.transport = configuration.transport
        transport = DeliveryTransport(loop, tokens: Token.transport, transportConfiguration)
        loop.watch(member.consumer.ready, token: Token.member)
        loop.watch(producer.reportsReady, for: .readable, token: Token.producer)
        loop.watch(inbox, token: Token.inbox)
        try member.consumer.subscribe([topics.deliveries])
    }

    // MARK: the loop

    func run() -> End {
        defer { transport.cancelAll() }
        while true {
            turn(waitMilliseconds: waitMilliseconds())
            if let failure { return .failed(failure) }
            if let deadline = drainDeadline, core.isDrained || now.monotonic >= deadline { return finish(isDrained: core.isDrained) }
        }
    }

    private func readInbox() {
        for message in inbox.drain() {
            switch message {
            case .registry(let update): take(update)
            case .drain:
                core.drain()
                drainDeadline = now.monotonic + configuration.drainMilliseconds
            }
        }
    }

    private var failure: String?
    private var drainDeadline: Int64?

    private func waitMilliseconds() -> Int {
        if hasMoreToRead { return 0 }
        var wait: Int64 = catchUp?.isReading == true ? 10 : 100
        if let deadline = core.nextDeadlineMonotonic { wait = min(wait, deadline - now.monotonic) }
        if let deadline = transport.nextDeadlineMicroseconds {
            wait = min(wait, (deadline - SystemClock.monotonicMicroseconds() + 999) / 1_000)
        }
        return Int(max(0, wait))
    }

    private func turn(waitMilliseconds: Int) {
        ready.removeAll(keepingCapacity: true)
        hasReports = false
        let isFull = loop.wait(milliseconds: waitMilliseconds) {
            switch $0.token {
            case Token.producer: hasReports = true
            case Token.inbox, Token.member: break
            default: ready.append($0)
            }
        }
        // They may stand behind the sockets that had room here.
        if isFull { hasReports = true }
        localWall = SystemClock.wallMilliseconds()
        now = LaneTime(monotonic: SystemClock.monotonicMilliseconds(), wall: localWall + clock.aheadMilliseconds)
        // Deadlines and the lease come before sockets: a worker that was suspended must not act on what has meanwhile been lost.
        core.advance(to: now)
        readInbox()
        serveGroup()
        // What isn't on the wire yet would be an attempt without a lease.
        if !core.hasLease, core.inFlight > 0 { transport.cancelUnsent() }
        let micros = SystemClock.monotonicMicroseconds()
        for event in ready { transport.handle(event, nowMicroseconds: micros) }
        transport.advance(nowMicroseconds: micros)
        var ended = 0
        transport.drain {
            attemptEnded($0)
            ended += 1
        }
        producer.drainReports(isReady: hasReports) { report($0) }
        attemptLog.drainReports { attemptLogged($0) }
        execute()
        // Reading may ask the brokers something, and what has been started must not wait for that.
        transport.flush()
        hasMoreToRead = read(
            limit: ReadingLimit.records(inFlight: core.inFlight, places: configuration.lane.inFlightLimit, ended: ended, ready: ready.count)
        )
        readAgain()
        execute()
        transport.flush()
        commitIfDue()
        slowTasks()
        metrics.lastTurnMonotonic.set(Int(now.monotonic))
    }

    private func take(_ update: RegistryUpdate) {
        for change in update.changes { core.registryChanged(change) }
        core.registryAt(position: update.position, freshAsOf: update.freshAsOfMonotonic)
    }

    /// Once a second: what needn't be exact.
    private func slowTasks() {
        guard now.monotonic - lastSlowTasks >= 1_000 else { return }
        lastSlowTasks = now.monotonic
        member.wakeAll()
        publishEvents()
        refreshOwnAddresses()
        metrics.isEgressBroken.set(core.isEgressBroken ? 1 : 0)
        metrics.heldEndpoints.set(core.heldEndpoints)
        metrics.clockAhead.set(Int(clock.aheadMilliseconds))
        metrics.take(core.counters)
        metrics.inFlight.set(core.inFlight)
        let breakers = core.breakerCounts
        metrics.breakersClosed.set(breakers.closed)
        metrics.breakersOpen.set(breakers.open)
        metrics.breakersHalfOpen.set(breakers.halfOpen)
        metrics.disabledEndpoints.set(breakers.disabled)
        metrics.producerRebuilds.set(producer.rebuilds + attemptLog.rebuilds)
        var lags: [TopicPartition: Int64] = [:]
        for stream in core.ownedStreams {
            let at = TopicPartition(laneTopics[stream.topic], stream.partition)
            guard let position = core.position(stream), let end = member.consumer.knownWatermarks(at)?.high else { continue }
            lags[at] = max(0, end - position)
        }
        metrics.lag.set(lags)
    }

    /// The host's interfaces may come and go; once a minute is what a new one waits.
    private func refreshOwnAddresses() {
        guard !addresses.own.isEmpty, now.monotonic - lastOwnAddresses >= 60_000 else { return }
        lastOwnAddresses = now.monotonic
        let found = AddressPolicy(allowed: addresses.allowed, refused: addresses.refused, own: IPAddress.ofThisHost())
        guard found.own != addresses.own else { return }
        addresses = found
        transport.setAddressPolicy(found)
    }

    // MARK: the group

    private func serveGroup() {
        member.poll(nowMonotonic: now.monotonic) { event in
            switch event {
            case .assigned(let partitions):
                pendingAssignment = partitions
                nextAssignmentTry = 0
            case .revoked(_, let lost): beginRevoke(lost: lost)
            case .committed(let sent, let offsets): committed(sent, offsets)
            case .commitFailed(let error):
                nextCommit = now.monotonic + 500
                log.debug("commit refused", ["error": .string("\(error)")])
            case .failed(let error):
                if let reason = member.end(of: error, configuration, log, unknownTopic: "run 'martlet topics create'") { failure = reason }
            }
        }
        startAssignment()
        finishRevoke()
    }

    private func startAssignment() {
        guard let partitions = pendingAssignment, now.monotonic >= nextAssignmentTry else { return }
        let numbers = partitions.map(\.partition).sorted()
        let wanted = laneTopics.flatMap { topic in numbers.map { TopicPartition(topic, $0) } }
        do {
            var starts: [PartitionOffset] = []
            for chunk in stride(from: 0, to: wanted.count, by: GroupMember.commitBatchLimit) {
                starts += try member.consumer.committed(
                    Array(wanted[chunk..<min(wanted.count, chunk + GroupMember.commitBatchLimit)]), timeoutMilliseconds: 5_000)
            }
            pendingAssignment = nil
            try own(numbers, starts)
            metrics.hasAssignment.set(1)
        } catch {
            pendingAssignment = partitions
            nextAssignmentTry = now.monotonic + 500
            log.warning("committed offsets can't be read yet; trying again", ["error": .string("\(error)")])
        }
    }

    private func own(_ partitions: [Int32], _ starts: [PartitionOffset]) throws(KafkaError) {
        var refused: Set<Int32> = []
        for start in starts {
            guard let topic = topicIndex[start.at.topic], !refused.contains(start.at.partition) else { continue }
            do throws(CommitMetadata.Unreadable) {
                try core.own(StreamID(topic: topic, partition: start.at.partition), committed: start.offset, metadata: start.metadata)
            } catch {
                refused.insert(start.at.partition)
                log.error("partition isn't started", ["partition": .integer(start.at.partition), "reason": .string("\(error)")])
            }
        }
        core.disown(core.ownedStreams.filter { refused.contains($0.partition) })
        let health = partitions.filter { !refused.contains($0) }.map {
            PartitionOffset(TopicPartition(configuration.topics.health, $0), offset: nil)
        }
        core.beginRestoring(health.map(\.at.partition))
        let assigned = health + starts.filter { !refused.contains($0.at.partition) }
        queueStreams = assigned.map { stream($0.at) }
        try member.assign(assigned) { restInterval($0.topic) }
        metrics.assignedPartitions.set(health.count)
        log.info("partitions assigned", ["partitions": .string(Self.ranges(partitions))])
    }

    /// Retry topics, replay and health are written to seldom, and mostly by this lane itself, which knows. What others write is found at the
    /// next look: of a retry topic within a fifth of its delay.
    private func restInterval(_ topic: String) -> Int64? {
        guard let number = topicIndex[topic], number > 1 else { return topic == configuration.topics.deliveries ? nil : 1_000 }
        let delay = core.delay(ofTopic: number)
        return delay < 5_000 ? nil : min(10_000, delay / 5)
    }

    private func beginRevoke(lost: Bool) {
        pendingAssignment = nil
        let streams = core.ownedStreams
        core.beginRevoke(streams)
        if lost {
            log.warning("partitions lost: the group gave them to others", ["streams": .integer(streams.count)])
            core.loseLease()
        }
        revoking = (streams, lost ? now.monotonic : max(now.monotonic + Self.revokeWaitMilliseconds, drainDeadline ?? 0), lost, lost)
    }

    /// Waits for what is in flight, commits once more, lets go.
    private func finishRevoke() {
        guard let state = revoking else { return }
        let isOver = now.monotonic >= state.deadline
        guard isOver || !core.isBusy(state.streams) else { return }
        if !state.isCommitted, !member.isCommitting {
            revoking?.isCommitted = true
            revoking?.deadline = max(state.deadline, now.monotonic + 1_000)
            send(core.commits(of: state.streams, onlyChanged: true))
            if member.isCommitting { return }
        }
        guard isOver || !member.isCommitting else { return }
        revoking = nil
        core.disown(state.streams)
        member.unassign()
        metrics.assignedPartitions.set(0)
        metrics.lag.set([:])
        log.info("partitions revoked")
    }

    // MARK: commits

    private func commitIfDue() {
        guard revoking == nil, !member.isCommitting, now.monotonic >= nextCommit else { return }
        send(core.commitsDue())
    }

    private func send(_ due: [LaneStateMachine.Commit]) {
        guard !due.isEmpty else { return }
        for commit in due { commits[commit.stream] = commit }
        member.commit(offsets(due), nowMonotonic: now.monotonic)
    }

    private func offsets(_ due: [LaneStateMachine.Commit]) -> [PartitionOffset] {
        due.map {
            PartitionOffset(TopicPartition(laneTopics[$0.stream.topic], $0.stream.partition), offset: $0.offset, metadata: $0.metadata)
        }
    }

    private func committed(_ sent: Int64, _ offsets: [PartitionOffset]) {
        core.committed(
            offsets.compactMap { offset in
                guard let topic = topicIndex[offset.at.topic], let commit = commits[StreamID(topic: topic, partition: offset.at.partition)]
                else { return nil }
                return commit.offset == offset.offset && commit.metadata == offset.metadata ? commit : nil
            })
        if revoking == nil { core.setLease(untilMonotonic: sent + configuration.sessionTimeoutMilliseconds - Self.leaseMarginMilliseconds) }
    }

    // MARK: reading

    private func read(limit: Int) -> Bool {
        guard revoking == nil else { return false }
        return member.read(limit: limit) { number in
            guard let stream = queueStreams[number] else { return 64 }
            // Heads that aren't due stay in memory: few at a time.
            return stream.topic < 2 ? core.readBudget(stream) : min(16, core.readBudget(stream))
        } _: { number, event in
            if let stream = queueStreams[number] {
                read(stream, number, event)
            } else {
                readHealth(member.partition(number).partition, event)
            }
        }
    }

    func stream(_ at: TopicPartition) -> StreamID? { topicIndex[at.topic].map { StreamID(topic: $0, partition: at.partition) } }

    private func readHealth(_ partition: Int32, _ event: PartitionEvent) {
        switch event {
        case .message(let message):
            guard let value = message.value, let json = try? JSONValue.parse(value), let record = HealthRecord(json: json) else { return }
            core.healthRead(record, partition: partition, isRestoring: core.isRestoring(partition))
        case .end: core.restored(partition)
        case .outOfRange:
            let at = TopicPartition(configuration.topics.health, partition)
            log.warning("health topic was cut while it was read; reading from its start", ["partition": .integer(partition)])
            if let low = try? member.consumer.queryWatermarks(at, timeoutMilliseconds: 5_000).low {
                member.goOn(at, from: low)
            }
        case .failed(let error): log.warning("health topic", ["error": .string("\(error)")])
        }
    }

    private func read(_ stream: StreamID, _ queue: Int, _ event: PartitionEvent) {
        switch event {
        case .message(let message): received(message, stream)
        case .end(let offset): core.endReached(stream, offset: offset)
        case .outOfRange: goOnAfterLoss(stream, member.partition(queue))
        case .failed(let error):
            let at = member.partition(queue)
            log.warning("read", ["topic": .string(at.topic), "partition": .integer(at.partition), "error": .string("\(error)")])
        }
    }

    private func goOnAfterLoss(_ stream: StreamID, _ at: TopicPartition) {
        do throws(KafkaError) {
            let low = try member.consumer.queryWatermarks(at, timeoutMilliseconds: 5_000).low
            let lost = core.restart(stream, at: low)
            metrics.recordsExpired.add(Int(lost))
            log.error(
                "retention removed records before they were read: they are lost",
                ["topic": .string(at.topic), "partition": .integer(at.partition), "records": .integer(lost), "continues": .integer(low)])
            member.goOn(at, from: low)
        } catch {
            log.error(
                "log start can't be found", ["topic": .string(at.topic), "partition": .integer(at.partition), "error": .string("\(error)")])
        }
    }

    // MARK: the end

    private func finish(isDrained: Bool) -> End {
        _ = producer.flush(milliseconds: 5_000) { report($0) }
        core.publishHealthAgain()
        execute()
        _ = producer.flush(milliseconds: 1_000) { report($0) }
        _ = attemptLog.flush(milliseconds: 1_000) { attemptLogged($0) }
        let isCommitted = member.leave(
            mustAnswer: revoking != nil || pendingAssignment != nil, isLost: revoking?.isLost ?? false, log
        ) { [self] in offsets(core.commits(of: core.ownedStreams, onlyChanged: false)) }
        metrics.take(core.counters)
        return isDrained && isCommitted ? .drained : .drainIncomplete
    }

    /// `0-3,7`.
    static func ranges(_ numbers: [Int32]) -> String {
        var parts: [ClosedRange<Int32>] = []
        for number in numbers.sorted() {
            if let last = parts.last, last.upperBound + 1 == number {
                parts[parts.count - 1] = last.lowerBound...number
            } else {
                parts.append(number...number)
            }
        }
        return parts.isEmpty
            ? "none" : parts.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ",")
    }
}
