internal import EventLoop
internal import JSON
internal import Kafka
internal import Logging
internal import Martlet
internal import Metrics

/// Reads one partition at a time again for ordered endpoints, beside the group's consumer and without commits. Made when it is first needed.
final class CatchUpReader {
    private let kafka: KafkaSettings
    private var reader: TopicReader?
    private var at: TopicPartition?

    init(_ kafka: KafkaSettings) { self.kafka = kafka }

    var isReading: Bool { at != nil }

    func start(_ partition: TopicPartition, from offset: Int64) throws(KafkaError) {
        stop()
        if reader == nil { reader = try TopicReader(kafka, onLoss: .tell) }
        try reader?.start(partition, from: .offset(offset))
        at = partition
    }

    func stop() {
        if let at { reader?.stop(at) }
        at = nil
    }

    /// The next event, if there is one.
    func next() -> (at: TopicPartition, event: PartitionEvent)? {
        guard let at, let (found, event) = reader?.next(waitMilliseconds: 0), found == at else { return nil }
        return (found, event)
    }

    func watermarks(_ at: TopicPartition) throws(KafkaError) -> (low: Int64, high: Int64)? { try reader?.watermarks(at) }
}

extension DeliveryLane {
    func startCatchUp(_ stream: StreamID, _ from: Int64) {
        let at = TopicPartition(laneTopics[stream.topic], stream.partition)
        let reader = catchUp ?? CatchUpReader(configuration.kafka)
        catchUp = reader
        do throws(KafkaError) { try reader.start(at, from: from) } catch {
            log.warning("ordered endpoints wait: their backlog can't be read yet", ["error": .string("\(error)")])
            core.readAgainFailed()
        }
    }

    func stopCatchUp() { catchUp?.stop() }

    /// A bounded number of records per turn, so that others aren't kept waiting.
    func readAgain() {
        guard let catchUp, catchUp.isReading else { return }
        var left = 256
        while left > 0, catchUp.isReading, let (at, event) = catchUp.next() {
            left -= 1
            guard let stream = stream(at), core.readAgainBudget(stream) > 0 else { return core.readAgainFailed() }
            switch event {
            case .message(let message): receivedAgain(message, stream)
            case .end(let offset): core.readAgainReached(stream, offset: offset)
            case .outOfRange: goOnAfterLossOfHeld(stream, at)
            case .failed(let error): log.warning("read again", ["topic": .string(at.topic), "error": .string("\(error)")])
            }
            // Stops the reader, if that was what it had to read.
            execute()
        }
        if left == 0 { hasMoreToRead = true }
    }

    private func goOnAfterLossOfHeld(_ stream: StreamID, _ at: TopicPartition) {
        guard let low = try? catchUp?.watermarks(at)?.low else { return core.readAgainFailed() }
        let lost = core.readAgainLost(stream, below: low)
        metrics.recordsExpired.add(Int(lost.records))
        log.error(
            "retention removed records of ordered endpoints before they were delivered: they are lost",
            [
                "topic": .string(at.topic), "partition": .integer(at.partition), "endpoints": .integer(lost.holds),
                "atMost": .integer(lost.records), "continues": .integer(low),
            ])
    }
}
