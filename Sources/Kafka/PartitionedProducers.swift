public import EventLoop

/// Producers that share the partitions of a topic: each partition's records go through always the same one, which keeps their order. Several,
/// as each partition's batch is a request, and requests of one connection wait for each other, which is most of the latency where records come
/// one by one.
public struct PartitionedProducers {
    private let producers: [Producer]
    private var isWatched = false

    /// `options.bufferKilobytes`, `options.bufferRecords`: what they may hold together.
    public init(_ settings: KafkaSettings, _ options: Producer.Options, count: Int) throws(KafkaError) {
        var share = options
        share.bufferKilobytes /= count
        share.bufferRecords /= count
        producers = try (0..<count).map { [share] _ throws(KafkaError) in try Producer(settings, share) }
    }

    /// Of a negative number: the one for records of other topics, whose partition it finds.
    public subscript(partition: Int32) -> Producer { producers[Int(max(0, partition)) % producers.count] }

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
