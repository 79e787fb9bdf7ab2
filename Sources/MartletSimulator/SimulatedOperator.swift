internal import HTTPDelivery
internal import Martlet

// What the workers don't do: operators edit the registry and replay dead letters, services publish, retention removes.
extension Simulation {
    mutating func create(_ number: Int) {
        let id = "ep_\(number)"
        var endpoint = Endpoint(id: id, url: "https://receiver-\(number).martlet.dev/")
        endpoint.secrets = [.init(id: "s", createdMilliseconds: 0, plain: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
        endpoint.schedule = RetrySchedule(delaysMilliseconds: [500, 2_000, 8_000, 20_000]) ?? .standard
        endpoint.maxAgeMilliseconds = Self.maxAgeMilliseconds
        endpoint.createdMilliseconds = now
        if number % 3 == 1 { endpoint.rate = RateLimit(n: 5, perMilliseconds: 1_000, burst: 2) }
        endpoint.maxConcurrency = Self.concurrencyLimit
        if Int.random(in: 0..<100, using: &generator) < scenario.strictPercent { endpoint.ordering = .strict }
        let receivers = SimulatedReceiver.allCases
        let receiver = scenario.isCalm ? .healthy : receivers[Int.random(in: 0..<receivers.count, using: &generator)]
        endpoints.append(
            SimulatedEndpoint(
                id: id, hash: Hold.hash(id), partition: Int32(number % scenario.partitions), receiver: receiver, definition: endpoint,
                created: now))
        register(number)
    }

    mutating func register(_ number: Int) {
        let endpoint = endpoints[number]
        let entry =
            endpoint.deletedAt == nil
            ? Registry.Entry.readable(PreparedEndpoint(endpoint.definition, rules: .init())) : nil
        registry.append((now, number, entry))
        note("registry: \(endpoint.id) \(entry == nil ? "deleted" : "v\(endpoint.definition.version) \(endpoint.definition.state)")")
    }

    /// An operator at work.
    mutating func edit() {
        if endpoints.count < scenario.endpoints + 3, chance(0.3) {
            create(endpoints.count)
            // Some workers know it already when they fan this out, others not when they get the delivery.
            newcomerUntil = now + 900
            return
        }
        let number = Int.random(in: 0..<endpoints.count, using: &generator)
        guard endpoints[number].deletedAt == nil else { return }
        endpoints[number].definition.version += 1
        switch Int.random(in: 0..<8, using: &generator) {
        case 0: endpoints[number].deletedAt = now
        case 1, 2:
            endpoints[number].definition.state = .paused
            endpoints[number].parkedSince = now
            endpoints[number].lastPaused = now
            // A pause that is over at once has cut the waiting short.
            for delivery in notBefore.keys where delivery % 100 == number { notBefore[delivery] = nil }
        case 3, 4, 5:
            endpoints[number].definition.state = .enabled
            endpoints[number].parkedSince = nil
        case 6:
            endpoints[number].definition.ordering = endpoints[number].definition.isStrict ? .none : .strict
            toggled.insert(number)
        default: endpoints[number].definition.maxConcurrency = Int.random(in: 1...Self.concurrencyLimit, using: &generator)
        }
        if endpoints[number].deletedAt != nil { endpoints[number].parkedSince = now }
        register(number)
    }

    /// An event that everybody who was there a second ago must get.
    mutating func publish() {
        let partition = Int.random(in: 0..<scenario.partitions, using: &generator)
        let those = endpoints.indices.filter { endpoints[$0].created + 1_000 <= now && endpoints[$0].deletedAt == nil }
        log.publish(SimulatedEvent(number: published, offset: 0, expected: those), to: partition, gap: gap())
        publishedAt.append((now, partition))
        expected += those.map { published * 100 + $0 }
        published += 1
        // What is no delivery, and what lies where it doesn't belong since the topics grew.
        if chance(0.03) {
            let poison = SimulatedRecord(facts: DeliveryFacts(endpointID: "", bytes: 10), delivery: -1, appendWall: now)
            if !scenario.retention { poisonExpected += 1 }
            log.append(poison, to: StreamID(topic: 0, partition: Int32(partition)), gap: gap(), at: now)
        }
    }

    mutating func gap() -> Int64 { chance(0.1) ? Int64.random(in: 1...3, using: &generator) : 0 }

    /// Retention reaches some partition. What nobody had read is lost, and must be counted.
    mutating func expire() {
        let stream = StreamID(
            topic: Int.random(in: 0..<2 + Self.tiers.count, using: &generator),
            partition: Int32.random(in: 0..<Int32(scenario.partitions), using: &generator))
        let partition = log[stream]
        guard partition.end > partition.start else { return }
        let start = Int64.random(in: partition.start...max(partition.start, partition.stableEnd), using: &generator)
        for record in log.remove(stream, below: start) where record.delivery >= 0 && !record.isHidden {
            removed.insert(record.delivery)
            if record.sequence == log.lastSequence[record.delivery] { expired.insert(record.delivery) }
        }
        note("retention: \(stream) begins at \(start)")
        if chance(0.3) { expireEvents(Int(stream.partition)) }
    }

    /// Events that were never fanned out are lost as well.
    private mutating func expireEvents(_ partition: Int) {
        let (low, end) = (log.events[partition].start, log.events[partition].end)
        let start = Int64.random(in: low...end, using: &generator)
        for event in log.events[partition].records where event.offset >= low && event.offset < start {
            for number in event.expected where log.lastSequence[event.number * 100 + number] == nil {
                expired.insert(event.number * 100 + number)
                removed.insert(event.number * 100 + number)
            }
        }
        log.events[partition].start = start
        note("retention: events \(partition) begin at \(start)")
    }

    // MARK: replaying dead letters

    /// A job's open transaction on the replay topic: its records and what lies behind them can't be read before it ends.
    struct ReplayJob {
        var deliveries: [Int]
        var endsAt: Int64
        /// Else the job is killed, and the brokers abort it.
        var commits: Bool
    }

    mutating func replay() {
        if let job, now >= job.endsAt { return endReplay(job) }
        guard job == nil, !isSettling, chance(0.05) else { return }
        let letters = log.deadLetters.keys.sorted().filter { delivery in
            let endpoint = endpoints[delivery % 100]
            return endpoint.deletedAt == nil && endpoint.definition.state == .enabled && !expired.contains(delivery)
        }
        guard !letters.isEmpty else { return }
        let chosen = Array(Set((0..<3).map { _ in letters[Int.random(in: 0..<letters.count, using: &generator)] })).sorted()
        for delivery in chosen {
            let endpoint = endpoints[delivery % 100]
            let facts = DeliveryFacts(
                endpointID: endpoint.id, dueMilliseconds: now, ageFromMilliseconds: now, registryOffset: Int64(registry.count), bytes: 100)
            log.appendOpen(
                SimulatedRecord(facts: facts, delivery: delivery, appendWall: now), to: StreamID(topic: 1, partition: endpoint.partition),
                gap: gap(), at: now)
        }
        job = ReplayJob(deliveries: chosen, endsAt: now + .random(in: 50...9_000, using: &generator), commits: chance(0.7))
        note("a replay of \(chosen) begins")
    }

    private mutating func endReplay(_ job: ReplayJob) {
        self.job = nil
        note("the replay of \(job.deliveries) \(job.commits ? "is committed" : "is aborted")")
        log.endTransaction(topic: 1, commits: job.commits)
        guard job.commits else { return }
        report.replays += job.deliveries.count
        for delivery in job.deliveries {
            log.removeLetter(delivery)
            replayed.insert(delivery)
            notBefore[delivery] = nil
        }
    }
}
