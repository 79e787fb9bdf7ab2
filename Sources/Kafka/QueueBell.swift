internal import CRdkafka
internal import EventLoop

/// Says which of a client's queues isn't empty any more. Where records come one by one there are many of them at a time: the thread that reads is
/// woken once, while a descriptor that librdkafka writes to would be written for each, and read.
final class QueueBell: Sendable {
    private let inbox: Inbox<UInt32>
    private let number: UInt32

    init(_ inbox: Inbox<UInt32>, _ number: UInt32) { (self.inbox, self.number) = (inbox, number) }

    /// Whoever hangs it removes it before letting go of it: librdkafka calls from its threads, and holds the queue's lock then, which removing
    /// waits for.
    func hang(on queue: OpaquePointer) {
        rd_kafka_queue_cb_event_enable(
            queue,
            { _, bell in
                guard let bell else { return }
                let ringing = Unmanaged<QueueBell>.fromOpaque(bell).takeUnretainedValue()
                ringing.inbox.send(ringing.number)
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    func remove(from queue: OpaquePointer) { rd_kafka_queue_cb_event_enable(queue, nil, nil) }
}
