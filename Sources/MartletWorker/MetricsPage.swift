internal import EventLoop
internal import HTTPDelivery
internal import Kafka
internal import Martlet
internal import Metrics

/// The text of `/metrics`.
struct MetricsPage {
    var lanes: [LaneMetrics]
    var fanOut: FanOutMetrics?
    var registry: RegistryReader
    var topics: Topics

    var text: String {
        var page = Exposition()
        deliveries(&page)
        latencies(&page)
        kafka(&page)
        process(&page)
        return page.text
    }

    private func sum(_ path: KeyPath<LaneMetrics, Gauge>) -> Double { Double(lanes.reduce(0) { $0 + $1[keyPath: path].current }) }

    private func simple(_ page: inout Exposition, _ name: String, _ kind: Exposition.Kind, _ help: String, _ value: Double) {
        page.family(name, kind, help)
        page.sample(name, [:], value)
    }

    private func deliveries(_ page: inout Exposition) {
        page.family(
            "martlet_deliveries_total", .counter, "Deliveries that left the lanes, by outcome; a retry or a deferral is not the end of one."
        )
        page.sample("martlet_deliveries_total", ["outcome": "delivered"], sum(\.delivered))
        page.sample("martlet_deliveries_total", ["outcome": "retry"], sum(\.retried))
        page.sample("martlet_deliveries_total", ["outcome": "deferred"], sum(\.deferred))
        page.family("martlet_dlq_writes_total", .counter, "Records written to the dead-letter topic, by reason.")
        for (index, reason) in DeadReason.allCases.enumerated() {
            let byLanes = lanes.reduce(0) { $0 + $1.dead[index].current }
            let byFanOut = reason == .poison ? fanOut?.poison.current ?? 0 : 0
            page.sample("martlet_dlq_writes_total", ["reason": reason.rawValue], Double(byLanes + byFanOut))
        }
        page.family("martlet_attempts_failed_total", .counter, "Attempts that were not a success, by error class.")
        for (index, kind) in ErrorClass.allCases.enumerated() {
            page.sample(
                "martlet_attempts_failed_total", ["class": kind.rawValue], Double(lanes.reduce(0) { $0 + $1.failedAttempts[index].current })
            )
        }
        simple(&page, "martlet_in_flight", .gauge, "Requests under way.", sum(\.inFlight))
        page.family("martlet_breakers", .gauge, "Endpoints with traffic here, by the state of their circuit breakers.")
        page.sample("martlet_breakers", ["state": "closed"], sum(\.breakersClosed))
        page.sample("martlet_breakers", ["state": "open"], sum(\.breakersOpen))
        page.sample("martlet_breakers", ["state": "half-open"], sum(\.breakersHalfOpen))
        simple(
            &page, "martlet_endpoints_auto_disabled", .gauge,
            "Endpoints with traffic here that were disabled automatically (410, or failing for too long).", sum(\.disabledEndpoints))
        simple(
            &page, "martlet_endpoints_held", .gauge,
            "Endpoints with strict ordering whose first undelivered record waits for its next attempt.",
            sum(\.heldEndpoints))
        simple(
            &page, "martlet_egress_broken_lanes", .gauge,
            "Lanes that stopped because nearly all attempts to many hosts failed at DNS or connect: this worker's network, not the receivers.",
            sum(\.isEgressBroken))
        simple(
            &page, "martlet_records_moved_total", .counter, "Records found outside their endpoint's partition and produced there.",
            sum(\.moved))
        simple(
            &page, "martlet_records_expired_total", .counter, "Records that retention removed before they were read: lost.",
            sum(\.recordsExpired))
        guard let fanOut else { return }
        simple(&page, "martlet_events_total", .counter, "Events read by fan-out.", Double(fanOut.events.current))
        simple(
            &page, "martlet_events_poison_total", .counter, "Events that could not be read; they are on the dead-letter topic.",
            Double(fanOut.poison.current))
        simple(
            &page, "martlet_events_unmatched_total", .counter, "Events that no endpoint subscribes to.", Double(fanOut.unmatched.current))
        simple(&page, "martlet_fanout_deliveries_total", .counter, "Deliveries written by fan-out.", Double(fanOut.deliveries.current))
        simple(
            &page, "martlet_fanout_holdbacks_total", .counter, "Turns in which fan-out waited for a fresh view of the registry.",
            Double(fanOut.holdBacks.current))
        simple(
            &page, "martlet_fanout_backlogs_total", .counter,
            "How often events began to wait, and fan-out to gather their deliveries into fuller requests.", Double(fanOut.backlogs.current))
    }

    private func latencies(_ page: inout Exposition) {
        guard let first = lanes.first else { return }
        for (name, help, path) in [
            ("martlet_attempt_duration_seconds", "From the start of a request to the end of its response.", \LaneMetrics.attemptDuration),
            (
                "martlet_end_to_end_seconds", "From the acceptance of an event to its successful delivery, retries included.",
                \LaneMetrics.endToEnd
            ),
        ] {
            page.family(name, .histogram, help)
            let total = lanes.dropFirst().reduce(first[keyPath: path].snapshot) { $0 + $1[keyPath: path].snapshot }
            page.histogram(name, bounds: first[keyPath: path].boundsSeconds, total)
        }
    }

    private func kafka(_ page: inout Exposition) {
        var lags = lanes.reduce(into: [TopicPartition: Int64]()) { all, lane in all.merge(lane.lag.current) { max($0, $1) } }
        lags.merge(fanOut?.lag.current ?? [:]) { max($0, $1) }
        page.family("martlet_consumer_lag", .gauge, "Records not read yet, per owned partition.")
        for at in lags.keys.sorted() {
            page.sample("martlet_consumer_lag", ["topic": at.topic, "partition": String(at.partition)], Double(lags[at] ?? 0))
        }
        page.family("martlet_retry_depth", .gauge, "Records that wait in each retry topic, in the partitions owned here.")
        let retries = lags.filter { $0.key.topic.hasPrefix(topics.retryPrefix) }
        for topic in Set(retries.keys.map(\.topic)).sorted() {
            let depth = retries.filter { $0.key.topic == topic }.reduce(0) { $0 + $1.value }
            page.sample("martlet_retry_depth", ["tier": String(topic.dropFirst(topics.retryPrefix.count))], Double(depth))
        }
        let failures = sum(\.produceFailures) + Double(fanOut?.produceFailures.current ?? 0)
        simple(
            &page, "martlet_kafka_produce_errors_total", .counter,
            "Records that the brokers did not accept at first; they are produced again or dead-lettered.", failures)
        simple(
            &page, "martlet_attempt_log_errors_total", .counter, "Attempt records that were not written; no delivery waits for them.",
            sum(\.attemptLogFailures))
        simple(
            &page, "martlet_kafka_producer_rebuilds_total", .counter, "Producers made anew after a fatal error.",
            sum(\.producerRebuilds) + Double(fanOut?.producerRebuilds.current ?? 0))
        simple(
            &page, "martlet_commit_metadata_unreadable_total", .counter,
            "Lists of incomplete offsets that could not be read and were ignored.", sum(\.unreadableMetadata))
        let ahead = lanes.map(\.clockAhead.current).max { abs($0) < abs($1) } ?? 0
        simple(
            &page, "martlet_clock_offset_seconds", .gauge,
            "How far the brokers' clock is ahead of this machine's, as acknowledgements tell; due times allow for it.",
            Double(ahead) / 1_000)
        simple(&page, "martlet_registry_endpoints", .gauge, "Endpoints in the registry.", Double(registry.endpoints.current))
        simple(
            &page, "martlet_registry_unreadable_total", .counter, "Registry records that could not be read.",
            Double(registry.unreadableRecords.current))
    }

    private func process(_ page: inout Exposition) {
        simple(&page, "process_cpu_seconds_total", .counter, "User and system time of this process.", ProcessUsage.cpuSeconds())
        simple(&page, "process_resident_memory_bytes", .gauge, "Resident memory.", Double(ProcessUsage.residentBytes()))
    }
}
