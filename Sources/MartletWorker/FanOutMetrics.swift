internal import Metrics

/// What the fan-out stage counts. Written by its thread, read by the scrape.
final class FanOutMetrics: Sendable {
    let events = Gauge()
    let deliveries = Gauge()
    let poison = Gauge()
    let unmatched = Gauge()
    let produceFailures = Gauge()
    let producerRebuilds = Gauge()
    let holdBacks = Gauge()
    let backlogs = Gauge()
    let lastTurnMonotonic = Gauge()
    let assignedPartitions = Gauge()
    let hasAssignment = Gauge()
    let lag = LagTable()
}
