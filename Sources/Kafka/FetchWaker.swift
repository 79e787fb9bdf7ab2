internal import CRdkafka
internal import EventLoop
private import Synchronization

/// Lets librdkafka notice that a queue which was full has room again. 2.0 looks once a second (`fetch.queue.backoff.ms` came with 2.2), but
/// any request to a partition's leader makes it look at once: this asks for the partition's bounds, which costs next to nothing. On a thread of its
/// own, since that call waits for the answer.
final class FetchWaker: Sendable {
    /// nil: the end.
    private let inbox = Inbox<TopicPartition?>()
    private let thread: WorkerThread
    private static let pauseMilliseconds = 5
    private static let answerMilliseconds: Int32 = 200
    private let isStopping = Stop()
    private final class Stop: Sendable { let flag = Atomic(false) }

    init(_ owner: ConsumerHandle) {
        let (inbox, isStopping) = (inbox, isStopping)
        thread = WorkerThread("fetch-waker") {
            let loop = EventLoop()
            loop.watch(inbox, token: 0)
            while true {
                loop.wait(milliseconds: 10_000) { _ in }
                let wanted = inbox.drain()
                if wanted.contains(nil) { return }
                // One of a run of requests for a partition is enough.
                for at in Set(wanted.compactMap(\.self)).sorted() {
                    if isStopping.flag.load(ordering: .relaxed) { return }
                    var (low, high): (Int64, Int64) = (0, 0)
                    rd_kafka_query_watermark_offsets(owner.pointer, at.topic, at.partition, &low, &high, Self.answerMilliseconds)
                }
                _ = WakeUp.sleep(milliseconds: Self.pauseMilliseconds)
            }
        }
    }

    func wake(_ at: TopicPartition) { inbox.send(at) }

    /// Nothing is asked any more. Waits for that, but not for long: with the brokers gone the call outlives its timeout.
    func stop() {
        isStopping.flag.store(true, ordering: .relaxed)
        inbox.send(nil)
        _ = thread.join(upToMilliseconds: 500)
    }
}
