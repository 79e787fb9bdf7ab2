internal import ArgumentParsing
internal import EventLoop
internal import Glibc
internal import HTTPDelivery
internal import HTTPServing
internal import JSON
internal import Logging
internal import Martlet
internal import MartletWorker

/// `martlet worker`
enum WorkerCommand {
    static let command: Command = Command(
        "worker", "Fans events out and delivers them, until it is told to stop.",
        details:
            "SIGTERM drains: reading stops, requests under way end (up to --drain), offsets are committed. A second SIGTERM ends at once.",
        flags: [
            Flag(
                "roles", "ROLES", "what this worker does", default: "fanout,delivery", repeated: true,
                choices: WorkerConfiguration.Role.allCases.map(\.rawValue)),
            Flag("lanes", "N", "delivery threads; unless given one per core, less one for fan-out where both roles run (at least one)"),
            Flag("instance-id", "ID", "static membership: a restart within the session timeout moves no partitions; must be unique"),
            Flag("name", "NAME", "this worker's name in attempt and health records; host name and process id unless given"),
            Flag("input-topics", "TOPICS", "topics to fan out beside the events topic; '^...' is a regular expression", repeated: true),
            Flag("http-listen", "ADDRESS:PORT", "serves /metrics, /healthz and /readyz; 'none' serves nothing", default: "127.0.0.1:9464"),
            Flag("drain", "DURATION", "how long SIGTERM waits for requests under way", default: "25s"),
            Flag("session-timeout", "DURATION", "after which a silent worker's partitions go to others", default: "45s"),
            Settings.retryTiers,
            Flag(
                "breaker-open", "DURATION", "how long a circuit breaker stays open at first; it doubles up to 20 times this", default: "30s"
            ),
            Flag(
                "worker-rate", "N/UNIT",
                "at most so many starts of this worker, shared out evenly to its lanes; inexact, as lanes don't lend to each other"),
            Flag(
                "tenant-rate", "N/UNIT",
                "at most so many starts of each tenant on this worker, shared out evenly to its lanes; inexact for the same reason"),
            Flag("max-in-flight", "N", "most requests at once, per lane", default: "4096"),
            Flag("ca-bundle", "FILE", "certificates that receivers are checked against", default: "/etc/ssl/certs/ca-certificates.crt"),
            Settings.extraAuthorities, Settings.egressProxy, Settings.transport,
        ] + Settings.urlRules + Settings.keys + Settings.connection,
        examples: [
            ("both roles, one process", "martlet worker -b localhost:9092"),
            ("delivery only, with stable membership", "martlet worker -b localhost:9092 --roles delivery --instance-id worker-1"),
            ("development: a receiver on this machine", "martlet worker -b localhost:9092 --allow-http --allow-network 127.0.0.0/8"),
        ]
    ) { arguments in
        var configuration = WorkerConfiguration(kafka: try Settings.kafka(arguments), name: arguments.text("name") ?? defaultName())
        try configure(&configuration, arguments)
        Signals.block()
        let worker = try Worker.checked(configuration)
        var server: HTTPServer?
        if let (address, port) = try listenAddress(arguments) { server = try worker.serve(address: address, port: port) }
        let log = configuration.log
        Signals.handle { number in
            log.info("stopping; a second signal ends at once", ["signal": .string(number == SIGTERM ? "SIGTERM" : "SIGINT")])
            worker.drain()
        }
        let code = worker.run()
        server?.stop()
        return code
    }

    static func configure(_ configuration: inout WorkerConfiguration, _ arguments: Arguments) throws {
        configuration.topics = try Settings.topics(arguments)
        configuration.roles = Set(arguments.list("roles").compactMap(WorkerConfiguration.Role.init))
        guard !configuration.roles.isEmpty else { throw UsageError("--roles: give fanout, delivery, or both") }
        configuration.lanes =
            try arguments.integer("lanes", in: 1...256)
            ?? WorkerConfiguration.lanes(cores: sysconf(Int32(_SC_NPROCESSORS_ONLN)), configuration.roles)
        configuration.instanceID = arguments.text("instance-id")
        configuration.inputTopics = arguments.list("input-topics")
        configuration.urlRules = try Settings.rules(arguments)
        configuration.keys = try Settings.keyRing(arguments)
        configuration.lane.tiers = try Settings.tiers(arguments)
        configuration.log = Settings.logger(arguments)
        if let drain = try arguments.milliseconds("drain") { configuration.drainMilliseconds = drain }
        if let session = try arguments.milliseconds("session-timeout") {
            guard (15_000...1_800_000).contains(session) else {
                throw arguments.bad("session-timeout", arguments.text("session-timeout") ?? "", "a duration from 15s to 30m")
            }
            configuration.sessionTimeoutMilliseconds = session
        }
        if let open = try arguments.milliseconds("breaker-open") {
            guard open > 0 else { throw arguments.bad("breaker-open", arguments.text("breaker-open") ?? "", "a duration above zero") }
            configuration.lane.breaker.openMilliseconds = open
            configuration.lane.breaker.openLimitMilliseconds = open * 20
        }
        configuration.lane.rate = try laneShare("worker-rate", arguments, lanes: configuration.lanes)
        configuration.lane.tenantRate = try laneShare("tenant-rate", arguments, lanes: configuration.lanes)
        if let limit = try arguments.integer("max-in-flight", in: 1...100_000) { configuration.lane.inFlightLimit = limit }
        configuration.lane.memoryLimitBytes = max(16 << 20, (256 << 20) / configuration.lanes)
        configuration.caBundlePath = arguments.text("ca-bundle") ?? configuration.caBundlePath
        configuration.extraAuthoritiesPath = try Settings.extraAuthorities(arguments)
        configuration.egressProxy = try Settings.egressProxy(arguments)
        configuration.transport = arguments.text("transport").flatMap(TransportKind.init) ?? configuration.transport
        guard access(configuration.caBundlePath, R_OK) == 0 else {
            throw UsageError("--ca-bundle: cannot read \(configuration.caBundlePath)", hint: "install ca-certificates, or name your bundle")
        }
    }

    /// What one lane may take of a rate of the whole worker.
    private static func laneShare(_ flag: String, _ arguments: Arguments, lanes: Int) throws -> RateLimit? {
        guard let text = arguments.text(flag) else { return nil }
        guard let rate = RateLimit(text) else { throw arguments.bad(flag, text, "a rate such as 100/s or 6000/m") }
        return RateLimit(n: rate.n, perMilliseconds: rate.perMilliseconds * Int64(lanes))
    }

    private static func listenAddress(_ arguments: Arguments) throws -> (String, UInt16)? {
        let text = arguments.text("http-listen") ?? "none"
        if text == "none" { return nil }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let port = UInt16(parts[1]) else { throw arguments.bad("http-listen", text, "ADDRESS:PORT or 'none'") }
        return (String(parts[0]), port)
    }

    static func defaultName() -> String {
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, 255)
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) + "-\(getpid())"
    }
}

/// SIGTERM and SIGINT, taken by a thread of their own.
enum Signals {
    /// Before any other thread is started, so that all inherit the mask.
    static func block() {
        var set = mask()
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    private static func mask() -> sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        return set
    }

    /// Calls `first` on the first signal; the second ends the process at once with 128 + its number.
    static func handle(_ first: @escaping @Sendable (Int32) -> Void) {
        _ = WorkerThread("signals") {
            var set = mask()
            var number: Int32 = 0
            sigwait(&set, &number)
            first(number)
            sigwait(&set, &number)
            _exit(128 + number)
        }
    }
}
