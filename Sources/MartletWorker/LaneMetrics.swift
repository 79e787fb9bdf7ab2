internal import HTTPDelivery
internal import Kafka
internal import Martlet
internal import Metrics
private import Synchronization

/// What one lane counts. Written by its thread, read by the scrape.
final class LaneMetrics: Sendable {
    let delivered = Gauge()
    let retried = Gauge()
    let deferred = Gauge()
    let moved = Gauge()
    let dead: [Gauge] = DeadReason.allCases.map { _ in Gauge() }
    let inFlight = Gauge()
    let unfinishedBytes = Gauge()
    let produceFailures = Gauge()
    let attemptLogFailures = Gauge()
    let recordsExpired = Gauge()
    let unreadableMetadata = Gauge()
    let producerRebuilds = Gauge()
    let failedAttempts: [Gauge] = ErrorClass.allCases.map { _ in Gauge() }
    let breakersOpen = Gauge()
    let breakersHalfOpen = Gauge()
    let breakersClosed = Gauge()
    let disabledEndpoints = Gauge()
    let heldEndpoints = Gauge()
    /// 1 while our own egress seems broken.
    let isEgressBroken = Gauge()
    /// Milliseconds that the brokers' clock is ahead of ours.
    let clockAhead = Gauge()
    let attemptDuration = Histogram(boundsSeconds: Histogram.attemptBounds)
    let endToEnd = Histogram(boundsSeconds: Histogram.endToEndBounds)
    let lastTurnMonotonic = Gauge()
    let assignedPartitions = Gauge()
    /// 1 once the group has answered, be it with no partition.
    let hasAssignment = Gauge()
    let lag = LagTable()

    func take(_ counters: LaneCounters) {
        delivered.set(counters.delivered)
        retried.set(counters.retried)
        deferred.set(counters.deferred)
        moved.set(counters.moved)
        produceFailures.set(counters.produceFailures)
        unreadableMetadata.set(counters.unreadableMetadata)
        for (index, reason) in DeadReason.allCases.enumerated() { dead[index].set(counters.dead[reason] ?? 0) }
    }

    func count(_ kind: ErrorClass) { if let index = ErrorClass.allCases.firstIndex(of: kind) { failedAttempts[index].add() } }
}

/// Records between the position and the end of each partition that is owned.
final class LagTable: Sendable {
    private let table = Mutex<[TopicPartition: Int64]>([:])
    func set(_ lags: [TopicPartition: Int64]) { table.withLock { $0 = lags } }
    var current: [TopicPartition: Int64] { table.withLock { $0 } }
}
