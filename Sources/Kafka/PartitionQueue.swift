internal import CRdkafka

/// What a partition gives when it is read.
public enum PartitionEvent {
    case message(KafkaMessage)
    /// Everything below `offset` has been read, and nothing lies there yet.
    case end(offset: Int64)
    /// The position lies outside the log: below its start after retention, or above its end after data loss.
    case outOfRange
    case failed(KafkaError)
}

/// The queue of one assigned partition. Back-pressure is not reading it.
public final class PartitionQueue {
    public let at: TopicPartition
    private let owner: ConsumerHandle
    private let queue: OpaquePointer
    private var prefetch: Prefetch
    private let waker: FetchWaker
    private let bell: QueueBell
    private static let batchLimit = 64
    private let batch: UnsafeMutablePointer<UnsafeMutablePointer<rd_kafka_message_t>?>

    /// Separates the partition's messages from the consumer queue: before `assign`.
    init(_ owner: ConsumerHandle, _ at: TopicPartition, _ bell: QueueBell, _ prefetch: Prefetch, _ waker: FetchWaker) {
        (self.at, self.owner, self.bell, self.prefetch, self.waker) = (at, owner, bell, prefetch, waker)
        queue = rd_kafka_queue_get_partition(owner.pointer, at.topic, at.partition)
        rd_kafka_queue_forward(queue, nil)
        bell.hang(on: queue)
        batch = .allocate(capacity: Self.batchLimit)
    }

    deinit {
        bell.remove(from: queue)
        rd_kafka_queue_destroy(queue)
        batch.deallocate()
    }

    /// Reads up to `limit` events without waiting; returns how many. 0 means empty: the next one wakes the reader.
    public func read(limit: Int, _ body: (PartitionEvent) -> Void) -> Int {
        let count = rd_kafka_consume_batch_queue(queue, 0, batch, min(limit, Self.batchLimit))
        guard count > 0 else { return 0 }
        var bytes = 0
        for index in 0..<count {
            guard let message = batch[index] else { continue }
            bytes += message.pointee.len + message.pointee.key_len
            body(PartitionEvent(consuming: message, of: owner))
        }
        if prefetch.isHalfRead(messages: count, bytes: bytes) { waker.wake(at) }
        return count
    }
}

extension PartitionEvent {
    init(consuming message: UnsafeMutablePointer<rd_kafka_message_t>, of owner: ConsumerHandle) {
        let error = message.pointee.err
        if error == RD_KAFKA_RESP_ERR_NO_ERROR {
            self = .message(KafkaMessage(consuming: message, of: owner))
            return
        }
        let offset = message.pointee.offset
        rd_kafka_message_destroy(message)
        switch error {
        case RD_KAFKA_RESP_ERR__PARTITION_EOF: self = .end(offset: offset)
        case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE: self = .outOfRange
        default: self = .failed(KafkaError(error, "read"))
        }
    }
}
