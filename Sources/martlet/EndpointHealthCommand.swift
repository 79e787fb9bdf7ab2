internal import ArgumentParsing
internal import EventLoop
internal import JSON
internal import Martlet
internal import MartletWorker

/// `martlet endpoint health`
enum EndpointHealthCommand {
    static let command: Command = Command(
        "health", "Shows breaker, limits, failing since, backlog, lag and next probe, of one endpoint or of all.",
        details:
            "Read from the topics, no worker is asked: the breaker as it was last written, what waits as of the last commit (a second ago).",
        flags: [
            Flag("tenant", "NAME", "only this tenant's"), Flag("failing", "only endpoints with an open breaker, disabled or failing"),
            Flag("no-backlog", "doesn't count what waits: quicker where much does"), Settings.listOutput,
        ] + Settings.connection,
        positionals: [Positional("ID", "one endpoint; all unless given", required: false)],
        examples: [
            ("one endpoint", "martlet endpoint health ep_test -b localhost:9092"),
            ("what is wrong now?", "martlet endpoint health -b localhost:9092 --failing"),
        ]
    ) { arguments in
        let wanted = arguments.positionals.first
        var reports = try EndpointReports.read(
            try Settings.kafka(arguments), try Settings.topics(arguments), only: wanted, withBacklog: !arguments.isOn("no-backlog"))
        let terminal = Terminal(arguments)
        if let wanted {
            guard let report = reports.first, report.endpoint != nil || report.problem != nil || report.health != nil else {
                throw EndpointCommands.notFound(wanted)
            }
            let page = HealthPage(report)
            if arguments.text("output") == "table" {
                page.print(terminal)
            } else {
                terminal.print(arguments.text("output") == "json" ? page.json.prettyText : page.json.text)
            }
            return 0
        }
        if let tenant = arguments.text("tenant") { reports = reports.filter { $0.endpoint?.tenant == tenant } }
        let pages = reports.map { HealthPage($0) }.filter { !arguments.isOn("failing") || $0.isFailing }
        switch arguments.text("output") {
        case "json": terminal.print(JSONValue.array(pages.map(\.json)).prettyText)
        case "jsonl": for page in pages { terminal.print(page.json.text) }
        default:
            terminal.print(
                terminal.table(
                    ["ID", "STATE", "BREAKER", "FAILING", "WAITING", "RETRYING", "OLDEST", "NEXT PROBE"], pages.map(\.cells),
                    numeric: [3, 4, 5, 6]))
        }
        return 0
    }
}

private struct HealthPage {
    private let report: EndpointReport
    private let now = SystemClock.wallMilliseconds()
    init(_ report: EndpointReport) { self.report = report }

    var isFailing: Bool {
        report.disabled != nil || report.health.map { $0.breaker != .closed || $0.failingSinceMilliseconds != nil } ?? false
    }

    private var state: String {
        guard let endpoint = report.endpoint else { return report.problem == nil ? "not registered" : "unreadable" }
        if report.disabled != nil { return "disabled (auto)" }
        return endpoint.state.rawValue
    }

    private var nextProbe: Int64? { report.health.flatMap { $0.breaker == .open ? $0.openUntilMilliseconds : nil } }

    private func ago(_ time: Int64) -> String { LetterLines.age(now - time) }
    private func ahead(_ time: Int64) -> String { time <= now ? "now" : "in \(LetterLines.age(time - now))" }

    var cells: [String] {
        let backlog = report.backlog
        return [
            Terminal.safe(report.id), state, report.health?.breaker.rawValue ?? "closed",
            report.health?.failingSinceMilliseconds.map { ago($0) } ?? "-", backlog.map { String($0.waiting) } ?? "?",
            backlog.map { String($0.retrying) } ?? "?", backlog?.oldestMilliseconds.map { ago($0) } ?? "-",
            nextProbe.map { ahead($0) } ?? "-",
        ]
    }

    func print(_ terminal: Terminal) {
        func row(_ name: String, _ value: String) {
            terminal.print(terminal.paint(name + String(repeating: " ", count: max(1, 16 - name.count)), .grey) + Terminal.safe(value))
        }
        func moment(_ time: Int64) -> String { Timestamp.text(milliseconds: time) }
        row("endpoint", report.id)
        if let endpoint = report.endpoint {
            row("url", EndpointCommands.redacted(endpoint.url))
            let isParking = endpoint.state != .enabled || report.disabled != nil
            row("state", state + (endpoint.reason.map { ": \($0)" } ?? "") + (isParking ? " (deliveries are parked)" : ""))
            row(
                "rate limit",
                endpoint.rate.map { "\($0.n) per \(Quantity.text(milliseconds: $0.perMilliseconds)), burst \($0.burst)" } ?? "none")
            row("concurrency", "at most \(endpoint.maxConcurrency) requests at once" + (endpoint.isStrict ? "; ordered: 1" : ""))
        } else {
            row("state", state + (report.problem.map { ": \($0)" } ?? ""))
        }
        if let disabled = report.disabled {
            row("disabled", "\(disabled.reason), \(moment(disabled.atMilliseconds)); 'martlet endpoint enable \(report.id)' lifts it")
        }
        let health = report.health
        row(
            "breaker",
            (health?.breaker.rawValue ?? "closed")
                + (health.map { $0.opens > 0 ? ", opened \(Terminal.count($0.opens, "time")) in a row" : "" } ?? ""))
        if let nextProbe { row("next probe", "\(ahead(nextProbe)), \(moment(nextProbe))") }
        if let since = health?.failingSinceMilliseconds {
            row("failing since", "\(moment(since)), \(ago(since)) ago; \(health?.attemptsSinceSuccess ?? 0) attempts since a success")
        }
        if let backlog = report.backlog {
            var text = "\(Terminal.count(backlog.waiting, "delivery", "deliveries")), \(backlog.retrying) of them attempted before"
            if let oldest = backlog.oldestMilliseconds { text += "; the oldest is \(ago(oldest)) old" }
            if let due = backlog.nextDueMilliseconds { text += "; the next is due \(ahead(due))" }
            row("backlog", text)
        }
        if let lag = report.partitionLag {
            row("lag", "\(Terminal.count(lag, "record")) of partition \(report.partition), all endpoints together")
        }
        if let health { row("written", "\(moment(health.updatedMilliseconds)) by \(health.writer)") }
    }

    var json: JSONValue {
        func number(_ value: Int64?) -> JSONValue { value.map { .integer($0) } ?? .null }
        let (endpoint, health, backlog) = (report.endpoint, report.health, report.backlog)
        return .object([
            .init("endpointId", .string(report.id)), .init("state", .string(report.disabled == nil ? state : "disabled")),
            .init("reason", (report.disabled?.reason ?? endpoint?.reason).map { .string($0) } ?? .null),
            .init("isAutoDisabled", .bool(report.disabled != nil)), .init("problem", report.problem.map { .string($0) } ?? .null),
            .init("breaker", .string((health?.breaker ?? .closed).rawValue)), .init("opens", .integer(health?.opens ?? 0)),
            .init("nextProbeMs", number(nextProbe)), .init("failingSinceMs", number(health?.failingSinceMilliseconds)),
            .init("attemptsSinceSuccess", .integer(health?.attemptsSinceSuccess ?? 0)),
            .init(
                "rate",
                endpoint?.rate.map {
                    .object([
                        .init("n", .integer($0.n)), .init("perMs", .integer($0.perMilliseconds)), .init("burst", .integer($0.burst)),
                    ])
                } ?? .null), .init("maxConcurrency", endpoint.map { .integer($0.isStrict ? 1 : $0.maxConcurrency) } ?? .null),
            .init("waiting", backlog.map { .integer($0.waiting) } ?? .null),
            .init("retrying", backlog.map { .integer($0.retrying) } ?? .null),
            .init("oldestMs", number(backlog?.oldestMilliseconds)), .init("nextDueMs", number(backlog?.nextDueMilliseconds)),
            .init("partition", .integer(report.partition)), .init("partitionLag", number(report.partitionLag)),
            .init("updatedMs", number(health?.updatedMilliseconds)), .init("writer", health.map { .string($0.writer) } ?? .null),
        ])
    }
}
