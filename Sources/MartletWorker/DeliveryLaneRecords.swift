internal import EventLoop
internal import HTTPDelivery
internal import JSON
internal import Kafka
internal import Logging
internal import Martlet
internal import Metrics

// Records in, requests and records out: the lane's commands carried out.
extension DeliveryLane {
    /// What is written beside deliveries, and written again when the brokers don't take it.
    enum SideRecord {
        case event(OperationalEvent)
        case health(endpointID: String)
    }

    /// Of generation 0: those of records start at 1.
    private func nextSideToken() -> RecordToken {
        sideNumber &+= 1
        return RecordToken(slot: sideNumber, generation: 0)
    }

    func received(_ message: KafkaMessage, _ stream: StreamID) {
        let append = message.timestampMilliseconds ?? now.wall
        let item = items.empty()
        do throws(DeliveryHeaders.Malformed) {
            try read(message, into: item)
            let facts = facts(item.headers, message, stream)
            guard let token = core.received(stream, offset: message.offset, appendWall: append, facts) else {
                return items.discard(consume item)
            }
            item.begin(token, message, waits: core.isAside(token))
            items.keep(item)
        } catch {
            guard let token = core.receivedPoison(stream, offset: message.offset, bytes: message.bytes.count) else {
                return items.discard(consume item)
            }
            item.headers.removeAll()
            item.begin(token, message, waits: false, poison: (error.description, message.headers))
            items.keep(item)
        }
    }

    /// Of a partition that is read again for an ordered endpoint. What isn't a delivery was dealt with by the main reading.
    func receivedAgain(_ message: KafkaMessage, _ stream: StreamID) {
        let item = items.empty()
        guard (try? read(message, into: item)) != nil else {
            items.discard(consume item)
            return core.readAgainReached(stream, offset: message.offset + 1)
        }
        guard let token = core.receivedAgain(stream, offset: message.offset, facts(item.headers, message, stream)) else {
            return items.discard(consume item)
        }
        item.begin(token, message, waits: true)
        items.keep(item)
    }

    private func read(_ message: KafkaMessage, into item: LaneItem) throws(DeliveryHeaders.Malformed) {
        try item.headers.read { body in message.forEachHeader(body) }
        guard message.value != nil else { throw DeliveryHeaders.Malformed(description: "a delivery without a value") }
        message.dropHeaders()
    }

    private func facts(_ headers: DeliveryHeaders, _ message: KafkaMessage, _ stream: StreamID) -> DeliveryFacts {
        let home = headers.withEndpointID { Murmur2.partition(of: $0, count: configuration.partitions) }
        return DeliveryFacts(
            endpointID: headers.endpointID, attempts: headers.attempt, dueMilliseconds: headers.dueMilliseconds,
            ageFromMilliseconds: headers.ageFromMilliseconds, registryOffset: headers.registryOffset, bytes: message.bytes.count,
            isHome: home == stream.partition)
    }

    func execute() {
        while true {
            core.takeCommands(into: &commands)
            if commands.isEmpty { return }
            for command in commands {
                switch command {
                case .start(let token): start(token)
                case .logAttempt(let token, let attempt, let verdict): logAttempt(token, attempt, verdict)
                case .produce(let token, let successor): produce(token, successor)
                case .publishHealth(let record): publish(record)
                case .publishEvent(let event): publish(event)
                case .readAgain(let stream, let from): startCatchUp(stream, from)
                case .stopReadingAgain: stopCatchUp()
                case .release(let token): items.release(token)
                }
            }
        }
    }

    private func start(_ token: RecordToken) {
        guard let prepared = core.endpoint(of: token), prepared.isDeliverable, let item = items[token] else {
            return core.attemptEnded(token, .cancelled, .none)
        }
        item.startedWall = localWall
        item.startedAt = prepared
        item.url = prepared.redactedURL
        if prepared.tokenRequest == nil { send(token, prepared, bearer: nil) } else { authorize(token, prepared) }
    }

    func send(_ token: RecordToken, _ prepared: PreparedEndpoint, bearer: String?) {
        guard let item = items[token], let target = prepared.target else { return }
        let headers = DeliveryRequest.headers(
            item.headers, messageID: item.messageID, to: prepared, body: item.bytes, nowSeconds: localWall / 1_000, bearer: bearer,
            in: transport.emptyLines())
        item.bearer = bearer
        transport.start(
            HTTPRequest(token: token.bits, target: target, headers: headers, body: item, timeouts: prepared.timeouts),
            nowMicroseconds: SystemClock.monotonicMicroseconds())
    }

    func attemptEnded(_ result: HTTPResult) {
        let token = RecordToken(bits: result.token)
        if token.generation == 0 { return tokenAnswered(result) }
        guard let item = items[token] else { return }
        item.lastResult = item.startedAt?.withoutSecrets(result, bearer: item.bearer) ?? result
        if result.status == 401, let bearer = item.bearer, let request = item.startedAt?.tokenRequest {
            accessTokens.refused(request.identity, bearer)
        }
        let (outcome, signal) = AttemptOutcome.classify(result, nowMilliseconds: now.wall)
        metrics.attemptDuration.observe(microseconds: Int(result.timings.total))
        if outcome == .delivered {
            metrics.endToEnd.observe(microseconds: Int(max(0, now.wall - item.headers.ageFromMilliseconds) * 1_000))
        } else {
            metrics.count(result.error?.kind ?? .status)
        }
        core.attemptEnded(token, outcome, signal)
    }

    func attemptLogged(_ report: Producer.Report) {
        guard let error = report.error else { return }
        metrics.attemptLogFailures.add()
        log.debug("attempt record not written", ["error": .string("\(error)")])
    }

    private func logAttempt(_ token: RecordToken, _ attempt: Int, _ verdict: AttemptVerdict) {
        guard let item = items[token], let result = item.lastResult else { return }
        // The lane may be done with the record by now.
        let record = AttemptRecord(
            delivery: item.headers, messageID: item.messageID, url: item.url, attempt: attempt,
            startedMilliseconds: item.startedWall, result: result, verdict: verdict, worker: configuration.name)
        attemptRecord.removeAll(keepingCapacity: true)
        record.append(to: &attemptRecord)
        let queued = attemptRecord.withUnsafeBytes { value in
            // Not the item's headers, which would be copied once more.
            record.delivery.withEndpointID { attemptLog.produce(topic: attemptsTopic, key: $0, value: value, token: 0) }
        }
        if queued != .queued { metrics.attemptLogFailures.add() }
    }

    private func publish(_ record: HealthRecord) {
        let partition = Murmur2.partition(of: Array(record.endpointID.utf8), count: configuration.partitions)
        let outgoing = OutgoingRecord(
            topic: configuration.topics.health, partition: partition, key: Array(record.endpointID.utf8),
            value: Array(record.json.text.utf8))
        let token = nextSideToken()
        guard producer.produce(outgoing, token: token.bits) == .queued else { return core.healthNotWritten(record.endpointID) }
        sideRecords[token] = .health(endpointID: record.endpointID)
    }

    /// Like any event, and like any event it isn't given up: what the brokers don't take now is tried again.
    private func publish(_ event: OperationalEvent) {
        log.info(
            "endpoint \(event.kind.rawValue)",
            ["endpoint": .string(event.endpointID), "tenant": .string(event.tenant), "reason": .string(event.reason ?? "")])
        unpublished.append(event)
        publishEvents()
    }

    func publishEvents() {
        while let event = unpublished.first {
            let outgoing = OutgoingRecord(
                topic: configuration.topics.events, key: Array(event.endpointID.utf8), value: Array(event.json.text.utf8),
                headers: [
                    ("ce_specversion", Array("1.0".utf8)), ("ce_id", Array(event.eventID.utf8)), ("ce_source", Array(event.source.utf8)),
                    ("ce_type", Array(event.type.utf8)), ("ce_time", Array(Timestamp.text(milliseconds: event.atMilliseconds).utf8)),
                    ("ce_tenant", Array(event.tenant.utf8)), ("content-type", Array("application/json".utf8)),
                ])
            let token = nextSideToken()
            guard producer.produce(outgoing, token: token.bits) == .queued else { return }
            sideRecords[token] = .event(event)
            unpublished.removeFirst()
        }
    }

    private func produce(_ token: RecordToken, _ successor: Successor) {
        guard let item = items[token], let place = core.place(of: token) else { return }
        let (record, value) = compose(item, place, successor)
        item.producedWall = localWall
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
        OutgoingRecord, LaneItem?
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
                    topic: topics.retry(tier), partition: place.stream.partition, key: key, value: nil, headers: headers.encoded), item
            )
        case .home:
            headers.rewrites += 1
            let home = Murmur2.partition(of: key, count: configuration.partitions)
            return (OutgoingRecord(topic: source.topic, partition: home, key: key, value: nil, headers: headers.encoded), item)
        case .dead(let reason, let attempts):
            headers.attempt = attempts
            let letter: DeadLetter.Letter
            if let poison = item.poison {
                letter = DeadLetter.poison(
                    poison.reason, headers: poison.headers, body: item.bytes, source: source, nowMilliseconds: now.wall)
            } else {
                if reason == .refused { headers.lastError = refusal(item) }
                letter = DeadLetter.letter(headers, reason: reason, body: item.bytes, source: source)
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
            guard let error = report.error else {
                if let sent = items[token]?.producedWall, let appended = report.appendedMilliseconds {
                    clock.acknowledged(appended: appended, sent: sent, acknowledged: SystemClock.wallMilliseconds())
                }
                member.wake(report.at)
                return core.produced(token, .acknowledged)
            }
            if !error.isUnreachable { log.warning("produce", ["topic": .string(report.at.topic), "error": .string("\(error)")]) }
            return core.produced(token, error.isRefusedRecord ? .refused : .transient)
        }
        let side = sideRecords.removeValue(forKey: token)
        guard let error = report.error else { return }
        switch side {
        case .event(let event):
            log.warning("operational event not written; trying again", ["error": .string("\(error)")])
            unpublished.append(event)
        case .health(let endpointID):
            log.warning("health record not written; trying again", ["endpoint": .string(endpointID), "error": .string("\(error)")])
            core.healthNotWritten(endpointID)
        case nil: break
        }
    }
}
