internal import EventLoop
internal import HTTPDelivery
internal import JSON
internal import Kafka
internal import Logging
internal import Martlet
internal import Metrics

// Records in, requests and records out: the lane's commands carried out.
extension DeliveryLane {
    /// Tokens of reports that belong to no record: generations start at 1.
    private enum Side {
        static let attemptLog = RecordToken(slot: 0, generation: 0)
        static let health = RecordToken(slot: 1, generation: 0)
    }

    func received(_ message: KafkaMessage, _ stream: StreamID) {
        let append = message.timestampMilliseconds ?? now.wall
        var item: LaneItem
        let token: RecordToken?
        do throws(DeliveryHeaders.Malformed) {
            let headers = try DeliveryHeaders { body in message.forEachHeader(body) }
            guard message.value != nil else { throw DeliveryHeaders.Malformed(description: "a delivery without a value") }
            let home = Murmur2.partition(of: headers.endpointID.utf8.map(\.self), count: configuration.partitions)
            let facts = DeliveryFacts(
                endpointID: headers.endpointID, attempts: headers.attempt, dueMilliseconds: headers.dueMilliseconds,
                ageFromMilliseconds: headers.ageFromMilliseconds, registryOffset: headers.registryOffset, bytes: message.bytes.count,
                isHome: home == stream.partition)
            item = LaneItem(token: RecordToken(slot: 0, generation: 0), headers: headers, body: message)
            token = core.received(stream, offset: message.offset, appendWall: append, facts)
        } catch {
            item = LaneItem(
                token: RecordToken(slot: 0, generation: 0), headers: DeliveryHeaders(), body: message,
                poison: (error.description, message.headers))
            token = core.receivedPoison(stream, offset: message.offset, bytes: message.bytes.count)
        }
        guard let token else { return }
        item.token = token
        if core.isAside(token) { item.body = CopiedBody(item.body.bytes) }
        while items.count <= Int(token.slot) { items.append(nil) }
        items[Int(token.slot)] = item
    }

    func execute() {
        while true {
            let commands = core.takeCommands()
            if commands.isEmpty { return }
            for command in commands {
                switch command {
                case .start(let token): start(token)
                case .logAttempt(let token, let attempt, let verdict): logAttempt(token, attempt, verdict)
                case .produce(let token, let successor): produce(token, successor)
                case .publishHealth(let record): publish(record)
                case .release(let token): if items[Int(token.slot)]?.token == token { items[Int(token.slot)] = nil }
                }
            }
        }
    }

    private func start(_ token: RecordToken) {
        guard let item = items[Int(token.slot)], let prepared = core.endpoint(of: token), let url = prepared.url else {
            return core.attemptEnded(token, .cancelled, .none)
        }
        items[Int(token.slot)]?.startedWall = now.wall
        let headers = DeliveryRequest.headers(item.headers, to: prepared, body: item.body.bytes, nowSeconds: now.wall / 1_000)
        transport.start(
            HTTPRequest(token: token.bits, url: url, headers: headers, body: item.body, timeouts: prepared.endpoint.timeouts),
            nowMicroseconds: SystemClock.monotonicMicroseconds())
    }

    func attemptEnded(_ result: HTTPResult) {
        let token = RecordToken(bits: result.token)
        guard let item = items[Int(token.slot)], item.token == token else { return }
        items[Int(token.slot)]?.lastResult = result
        let (outcome, signal) = AttemptOutcome.classify(result, nowMilliseconds: now.wall)
        metrics.attemptDuration.observe(microseconds: Int(result.timings.total))
        if outcome == .delivered {
            metrics.endToEnd.observe(microseconds: Int(max(0, now.wall - item.headers.ageFromMilliseconds) * 1_000))
        } else {
            metrics.count(result.error?.kind ?? .status)
        }
        core.attemptEnded(token, outcome, signal)
    }

    private func logAttempt(_ token: RecordToken, _ attempt: Int, _ verdict: AttemptVerdict) {
        guard let item = items[Int(token.slot)], item.token == token, let result = item.lastResult else { return }
        let url = core.endpoint(of: token)?.url?.redacted ?? ""
        let record = AttemptRecord(
            delivery: item.headers, url: url, attempt: attempt, startedMilliseconds: item.startedWall, result: result, verdict: verdict,
            worker: configuration.name)
        let outgoing = OutgoingRecord(topic: configuration.topics.attempts, key: Array(item.headers.endpointID.utf8), value: record.encoded)
        if producer.produce(outgoing, token: Side.attemptLog.bits) != .queued { metrics.attemptLogFailures.add() }
    }

    private func publish(_ record: HealthRecord) {
        let partition = Murmur2.partition(of: Array(record.endpointID.utf8), count: configuration.partitions)
        let outgoing = OutgoingRecord(
            topic: configuration.topics.health, partition: partition, key: Array(record.endpointID.utf8),
            value: Array(record.json.text.utf8))
        if producer.produce(outgoing, token: Side.health.bits) != .queued {
            log.warning("health record not written", ["endpoint": .string(record.endpointID)])
        }
    }

    private func produce(_ token: RecordToken, _ successor: Successor) {
        guard let item = items[Int(token.slot)], item.token == token, let place = core.place(of: token) else { return }
        let (record, value) = compose(item, place, successor)
        let queued =
            value.map { producer.produce(record, value: $0.bytes, token: token.bits) } ?? producer.produce(record, token: token.bits)
        switch queued {
        case .queued: break
        case .full: core.produced(token, .transient)
        case .failed(let error):
            log.warning("produce", ["topic": .string(record.topic), "error": .string("\(error)")])
            core.produced(token, error.isRefusedRecord ? .refused : .transient)
        }
    }

    /// The successor's record; its value is either in it or, unchanged, the body of the record that it follows.
    private func compose(_ item: LaneItem, _ place: (stream: StreamID, offset: Int64), _ successor: Successor) -> (
        OutgoingRecord, (any BodyBytes)?
    ) {
        let topics = configuration.topics
        var headers = item.headers
        if let result = item.lastResult {
            headers.lastStatus = result.status ?? headers.lastStatus
            headers.lastError = result.error.map { "\($0.kind.rawValue): \($0.text)" } ?? result.status.map { "status \($0)" }
        }
        let key = Array(headers.endpointID.utf8)
        let source = (topic: laneTopics[place.stream.topic], partition: place.stream.partition, offset: place.offset)
        switch successor {
        case .retry(let tier, let due, let attempts):
            headers.attempt = attempts
            headers.dueMilliseconds = due
            headers.rewrites += 1
            return (
                OutgoingRecord(
                    topic: topics.retry(tier), partition: place.stream.partition, key: key, value: nil, headers: headers.encoded), item.body
            )
        case .home:
            headers.rewrites += 1
            let home = Murmur2.partition(of: key, count: configuration.partitions)
            return (OutgoingRecord(topic: source.topic, partition: home, key: key, value: nil, headers: headers.encoded), item.body)
        case .dead(let reason, let attempts):
            headers.attempt = attempts
            let letter: DeadLetter.Letter
            if let poison = item.poison {
                letter = DeadLetter.poison(
                    poison.reason, headers: poison.headers, body: item.body.bytes, source: source, nowMilliseconds: now.wall)
            } else {
                if reason == .refused { headers.lastError = refusal(item) }
                letter = DeadLetter.letter(headers, reason: reason, body: item.body.bytes, source: source)
            }
            return (
                OutgoingRecord(topic: topics.deadLetters, key: Array(letter.key.utf8), value: letter.body, headers: letter.headers), nil
            )
        }
    }

    private func refusal(_ item: LaneItem) -> String { core.endpoint(of: item.token)?.refusal ?? "refused by policy" }

    func report(_ report: Producer.Report) {
        let token = RecordToken(bits: report.token)
        guard token.generation == 0 else {
            guard let error = report.error else { return core.produced(token, .acknowledged) }
            if !error.isUnreachable { log.warning("produce", ["topic": .string(report.at.topic), "error": .string("\(error)")]) }
            return core.produced(token, error.isRefusedRecord ? .refused : .transient)
        }
        guard let error = report.error else { return }
        if token == Side.attemptLog {
            metrics.attemptLogFailures.add()
        } else {
            log.warning("health record not written", ["error": .string("\(error)")])
        }
    }
}
