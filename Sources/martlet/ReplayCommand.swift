internal import ArgumentParsing
internal import EventLoop
internal import JSON
internal import Kafka
internal import Martlet
internal import MartletWorker

/// `martlet replay`
enum ReplayCommand {
    static let command: Command = Command(
        "replay", "Delivers past events to one endpoint, also to one that was created later.",
        details:
            "Events of the endpoint's tenant and types go out again as new deliveries, with the webhook-id that they had the first time. Run again with the same endpoint, types and absolute times it goes on where it ended.",
        flags: [
            Flag("endpoint", "ID", "to this endpoint"),
            Flag("since", "TIME", "events from then on: RFC 3339, or a duration ago"),
            Flag("until", "TIME", "events before it: RFC 3339, or a duration ago; all up to now unless given"),
            Flag("types", "TYPES", "only these of the endpoint's types: exact, 'prefix.*', or '*'", repeated: true),
            Flag("input-topics", "TOPICS", "topics beside the events topic; '^...' is a regular expression", repeated: true),
            Flag("rate", "RATE", "at most so many deliveries: 200/s, 6000/m; as fast as it goes unless given"),
            Flag("again", "from the start, though an earlier run has done all or some of it"),
            Flag("dry-run", "counts what it would do, and does nothing"),
            Flag("yes", "asks nothing: for jobs"),
            Settings.output,
        ] + Settings.connection,
        examples: [
            ("the last day to a new endpoint", "martlet replay -b localhost:9092 --endpoint ep_test --since 24h --dry-run"),
            (
                "what an outage swallowed, unattended and resumable",
                "martlet replay -b localhost:9092 --endpoint ep_test --since 2026-11-24T08:00:00Z --until 2026-11-24T09:30:00Z --yes"
            ),
        ]
    ) { arguments in
        let terminal = Terminal(arguments)
        let endpoint = try arguments.required("endpoint")
        let range = try range(arguments)
        let isAttended = Terminal.inputIsTerminal && Terminal.errorIsTerminal
        guard arguments.isOn("dry-run") || arguments.isOn("yes") || isAttended else {
            throw UsageError("nobody is there to be asked", hint: "give --yes, or look first with --dry-run")
        }
        let job = EventReplayJob(
            try Settings.kafka(arguments), try Settings.topics(arguments), inputs: arguments.list("input-topics"), to: endpoint, range,
            rate: try DeadLetterFlags.rate(arguments))
        let progress = ProgressLine(terminal, "replayed")
        job.onProgress = { progress.show($0) }
        do {
            if arguments.isOn("dry-run") || !arguments.isOn("yes") {
                let outcome = try job.count(again: arguments.isOn("again"))
                terminal.endProgress()
                if arguments.isOn("dry-run") {
                    print(outcome, verb: "would replay", terminal, arguments)
                    return 0
                }
                guard outcome.counts.replayed > 0 else {
                    terminal.note(outcome.wasDone ? "this replay was done before; --again does it once more" : "nothing to replay")
                    return 0
                }
                terminal.note(text(outcome, verb: "to replay"))
                terminal.ask("deliver \(Terminal.count(outcome.counts.replayed, "event")) to '\(endpoint)'? [y/N] ")
                guard ["y", "yes"].contains((readLine() ?? "").lowercased()) else {
                    terminal.note("nothing was done")
                    return 1
                }
            }
            let outcome = try job.run(again: arguments.isOn("again"))
            terminal.endProgress()
            if outcome.wasDone { terminal.note("this replay was done before; --again does it once more") }
            print(outcome, verb: "replayed", terminal, arguments)
            return 0
        } catch let refusal as EventReplayJob.Refusal {
            switch refusal {
            case .unknown(let id): throw EndpointCommands.notFound(id)
            default: throw CommandFailure(1, "\(refusal)")
            }
        }
    }

    private static func range(_ arguments: Arguments) throws -> EventReplay.Range {
        _ = try arguments.required("since")
        var range = EventReplay.Range(since: try DeadLetterFlags.time("since", arguments) ?? 0)
        range.until = try DeadLetterFlags.time("until", arguments)
        if !arguments.list("types").isEmpty { range.types = try Endpoint.patterns(arguments.list("types")) }
        guard range.since < range.until ?? .max else { throw UsageError("--until isn't after --since") }
        return range
    }

    private static func rows(_ counts: EventReplay.Counts) -> [(name: String, what: String, count: Int)] {
        [
            ("otherType", "of other types", counts.otherType), ("otherTenant", "of other tenants", counts.otherTenant),
            ("outsideTime", "outside the time range", counts.outsideTime), ("poison", "that can't be read: poison", counts.poison),
        ]
    }

    private static func print(_ outcome: EventReplayJob.Outcome, verb: String, _ terminal: Terminal, _ arguments: Arguments) {
        guard arguments.text("output") == "json" else { return terminal.print(text(outcome, verb: verb)) }
        var members: [JSONValue.Member] = [
            .init("replayed", .integer(outcome.counts.replayed)), .init("read", .integer(outcome.counts.read)),
        ]
        members += rows(outcome.counts).map { .init($0.name, .integer($0.count)) }
        members.append(.init("logBeginsMs", outcome.logBegins.map { .integer($0) } ?? .null))
        members.append(.init("wasDone", .bool(outcome.wasDone)))
        terminal.print(JSONValue.object(members).prettyText)
    }

    private static func text(_ outcome: EventReplayJob.Outcome, verb: String) -> String {
        var lines = ["\(verb) \(Terminal.count(outcome.counts.replayed, "event")), of \(outcome.counts.read) read"]
        lines += rows(outcome.counts).filter { $0.count > 0 }.map { "  \($0.count) left out: \($0.what)" }
        if let begins = outcome.logBegins {
            lines.append("  the log begins only at \(Timestamp.text(milliseconds: begins)): older events are gone")
        }
        return lines.joined(separator: "\n")
    }
}

/// `1200 replayed, 40 %, 600/s, 3 s left`: on a terminal a line that changes twice a second, else one per half minute for a log.
final class ProgressLine {
    private let terminal: Terminal
    private let past: String
    private var last = SystemClock.monotonicMilliseconds()

    init(_ terminal: Terminal, _ past: String) { (self.terminal, self.past) = (terminal, past) }

    func show(_ progress: JobProgress) {
        let now = SystemClock.monotonicMilliseconds()
        guard now - last >= (Terminal.errorIsTerminal ? 500 : 30_000) else { return }
        last = now
        let seconds = Double(progress.elapsedMilliseconds) / 1_000
        var text = "\(progress.acted) \(past), \(Int(progress.fraction * 100)) %"
        if seconds >= 1 { text += ", \(Int(Double(progress.acted) / seconds))/s" }
        if progress.fraction > 0.02, seconds >= 1 { text += ", \(Int(seconds / progress.fraction - seconds)) s left" }
        if Terminal.errorIsTerminal { terminal.progress(text) } else { terminal.note(text) }
    }
}
