public import EventLoop

/// Producers that share the partitions of a topic: each partition's records go through the same one, which keeps their order. Several, as each
/// partition's batch is a request, and requests of one connection wait for each other, which is most of the latency where records come one by
/// one.
///
/// And one more that waits for its requests to fill, of which there are fewer then: for all partitions, while `isGathering`.
public struct PartitionedProducers {
    /// The last one is the one that waits.
    private let producers: [Producer]
    private var isWatched = false
    /// Whether records go through the one that waits. To be changed only when nothing is outstanding: what comes later could be written earlier.
    public var isGathering = false

    /// `count`: of those that share the partitions. `options.bufferKilobytes`, `options.bufferRecords`: what they may hold together.
    public init(
        _ settings: KafkaSettings, _ options: Producer.Options, count: Int, gatheringMilliseconds: Double
    ) throws(KafkaError) {
        var (share, gathering) = (options, options)
        share.bufferKilobytes /= count
        share.bufferRecords /= count
        gathering.lingerMilliseconds = gatheringMilliseconds
        // The most that keeps the order: this one alone has what several share.
        gathering.requestsInFlight = 5
        let all = Array(repeating: share, count: count) + [gathering]
        producers = try all.map { own throws(KafkaError) in try Producer(settings, own) }
    }

    /// Of a negative number: the one for records of other topics, whose partition it finds.
    public subscript(partition: Int32) -> Producer {
        let last = producers.count - 1
        return producers[isGathering ? last : Int(max(0, partition)) % last]
    }

    /// Records that are not reported yet.
    public var outstanding: Int { producers.reduce(0) { $0 + $1.outstanding } }

    /// How many times a fatal error made a new handle necessary.
    public var rebuilds: Int { producers.reduce(0) { $0 + $1.rebuilds } }

    /// Whether reports wake the loop.
    public mutating func wake(_ loop: EventLoop, _ isWaiting: Bool, token: UInt64) {
        guard isWaiting != isWatched else { return }
        isWatched = isWaiting
        for producer in producers {
            if isWaiting {
                loop.watch(producer.reportsReady, for: .readable, token: token)
            } else {
                loop.forget(producer.reportsReady)
            }
        }
    }

    /// Hands over every report that has arrived; see `Producer.drainReports`.
    public func drainReports(_ body: (Producer.Report) -> Void) {
        for producer in producers { producer.drainReports(isReady: isWatched, body) }
    }
}
