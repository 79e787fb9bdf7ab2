internal import EventLoop
public import HTTPServing
internal import JSON
internal import Kafka
internal import Logging
internal import Martlet
internal import Metrics
private import Synchronization

/// A worker process's parts, started and stopped in one place: the registry reader first and last, since the others need its view.
public final class Worker: Sendable {
    private let configuration: WorkerConfiguration
    private let laneInboxes: [Inbox<DeliveryLane.Message>]
    private let laneMetrics: [LaneMetrics]
    private let fanOutInbox: Inbox<DeliveryLane.Message>?
    private let fanOutMetrics: FanOutMetrics?
    private let registry: RegistryReader
    private let state = Mutex(State())

    private struct State: Sendable {
        var threads: [WorkerThread] = []
        var ends: [DeliveryLane.End] = []
        var isDraining = false
    }

    /// A lane without a turn for so long ends the process: its partitions must go to somebody else.
    static let stallLimitMilliseconds: Int64 = 30_000

    /// Checks the brokers and the topics; blocks for up to ten seconds.
    public static func checked(_ given: WorkerConfiguration) throws(StartFailure) -> Worker {
        var configuration = given
        let check: TopicCheck
        do throws(KafkaError) {
            try configuration.kafka.validate()
            check = try TopicCheck.run(
                configuration.kafka, configuration.topics, expected: configuration.lane.tiers, inputs: configuration.inputTopics,
                withSettings: false)
        } catch {
            if error.code == .configuration { throw StartFailure(exitCode: 2, "\(error)") }
            throw .unreachable(configuration.kafka.brokers, error)
        }
        let fatal = check.findings.filter(\.isFatal)
        guard fatal.isEmpty, let partitions = check.partitions else {
            let lines = fatal.map { "  topic '\($0.topic)' \($0.problem)" }
            throw StartFailure(exitCode: 4, "the topics aren't as Martlet needs them:\n" + lines.joined(separator: "\n"))
        }
        configuration.partitions = partitions
        configuration.discoveredTiers = check.tiers
        return Worker(configuration)
    }

    init(_ configuration: WorkerConfiguration) {
        self.configuration = configuration
        let lanes = configuration.roles.contains(.delivery) ? configuration.lanes : 0
        laneInboxes = (0..<lanes).map { _ in Inbox() }
        laneMetrics = (0..<lanes).map { _ in LaneMetrics() }
        fanOutInbox = configuration.roles.contains(.fanOut) ? Inbox() : nil
        fanOutMetrics = fanOutInbox.map { _ in FanOutMetrics() }
        let inboxes = laneInboxes + (fanOutInbox.map { [$0] } ?? [])
        registry = RegistryReader(configuration, followers: inboxes.map { inbox in { inbox.send(.registry($0)) } })
    }

    /// Starts the parts; returns when all have ended. The exit code: 0 drained, 1 failed, 6 drain incomplete, 70 a lane stalled.
    public func run() -> Int32 {
        configuration.log.info(
            "worker starts",
            [
                "name": .string(configuration.name), "roles": .string(configuration.roles.map(\.rawValue).sorted().joined(separator: ",")),
                "lanes": .integer(laneInboxes.count), "partitions": .integer(configuration.partitions),
            ])
        ProcessUsage.raiseDescriptorLimit()
        registry.start()
        // Nobody joins a group before the registry is read to its end.
        while !registry.isReady, !isDraining { _ = WakeUp.sleep(milliseconds: 10) }
        if !isDraining { startParts() }
        let code = waitForEnd()
        registry.stop()
        configuration.log.info("worker ended", ["exit": .integer(code)])
        return code
    }

    private func startParts() {
        var threads: [WorkerThread] = []
        for index in laneInboxes.indices {
            threads.append(
                WorkerThread("lane-\(index)") { [self] in
                    ended { try DeliveryLane(configuration, number: index, inbox: laneInboxes[index], metrics: laneMetrics[index]).run() }
                })
        }
        if let inbox = fanOutInbox, let metrics = fanOutMetrics {
            threads.append(
                WorkerThread("fanout") { [self] in ended { try FanOutStage(configuration, inbox: inbox, metrics: metrics).run() } })
        }
        state.withLock { $0.threads = threads }
    }

    private func ended(_ body: () throws -> DeliveryLane.End) {
        let end: DeliveryLane.End
        do { end = try body() } catch { end = .failed("\(error)") }
        if case .failed(let reason) = end { configuration.log.error("a part of the worker failed", ["reason": .string(reason)]) }
        state.withLock { $0.ends.append(end) }
        // One part's end is everybody's: half a worker would hold partitions without serving them.
        drain()
    }

    private func waitForEnd() -> Int32 {
        while true {
            let (threads, ends) = state.withLock { ($0.threads, $0.ends) }
            if ends.count == threads.count {
                for thread in threads { thread.join() }
                if ends.contains(where: { if case .failed = $0 { true } else { false } }) { return 1 }
                return ends.contains(.drainIncomplete) ? 6 : 0
            }
            if let stalled = stalledPart() {
                configuration.log.error("a part of the worker stalled for 30 s; ending the process", ["part": .string(stalled)])
                return 70
            }
            _ = WakeUp.sleep(milliseconds: 20)
        }
    }

    private func stalledPart() -> String? {
        let now = SystemClock.monotonicMilliseconds()
        func stalled(_ turn: Gauge) -> Bool { turn.current > 0 && now - Int64(turn.current) > Self.stallLimitMilliseconds }
        let ended = state.withLock { !$0.ends.isEmpty }
        if ended { return nil }
        if let lane = laneMetrics.firstIndex(where: { stalled($0.lastTurnMonotonic) }) { return "lane-\(lane)" }
        return fanOutMetrics.map { stalled($0.lastTurnMonotonic) } == true ? "fanout" : nil
    }

    /// Stops reading, finishes what is in flight, commits, leaves. Returns at once.
    public func drain() {
        let isFirst = state.withLock { state in
            defer { state.isDraining = true }
            return !state.isDraining
        }
        guard isFirst else { return }
        for inbox in laneInboxes { inbox.send(.drain) }
        fanOutInbox?.send(.drain)
    }

    private var isDraining: Bool { state.withLock { $0.isDraining } }

    // MARK: what others may see

    /// Registry read to its end and the groups' answers in: partitions, or legitimately none.
    public var isReady: Bool {
        registry.isReady && !isDraining && laneMetrics.allSatisfy { $0.hasAssignment.current == 1 && $0.isEgressBroken.current == 0 }
            && fanOutMetrics.map { $0.hasAssignment.current == 1 } != false
    }

    public var metricsText: String {
        MetricsPage(lanes: laneMetrics, fanOut: fanOutMetrics, registry: registry, topics: configuration.topics).text
    }

    /// Serves `/metrics`, `/healthz` and `/readyz`.
    public func serve(address: String, port: UInt16) throws(StartFailure) -> HTTPServer {
        do throws(HTTPServer.StartError) {
            var options = HTTPServer.Configuration(address: address, port: port)
            options.connectionLimit = 64
            options.bodyLimitBytes = 1_024
            return try HTTPServer(options) { [self] request in
                switch request.path {
                case "/metrics": .init(200, headers: [("content-type", Exposition.contentType)], body: metricsText)
                case "/healthz": stalledPart().map { .init(503, body: "\($0) stalled\n") } ?? .init(200, body: "ok\n")
                case "/readyz": isReady ? .init(200, body: "ready\n") : .init(503, body: "not ready: \(notReadyReason)\n")
                default: .init(404, body: "try /metrics, /healthz or /readyz\n")
                }
            }
        } catch { throw StartFailure(exitCode: 2, "\(error)\n  choose another --http-listen") }
    }

    private var notReadyReason: String {
        if isDraining { return "draining" }
        if !registry.isReady { return "the registry is not read to its end" }
        if laneMetrics.contains(where: { $0.isEgressBroken.current == 1 }) {
            return "egress is broken: nearly all attempts to many hosts fail at DNS or connect"
        }
        return "the group has not assigned partitions yet"
    }
}
