internal import ArgumentParsing
internal import EventLoop
internal import JSON
internal import Kafka
internal import Martlet
internal import MartletWorker

/// `martlet dlq ...`
enum DeadLetterCommands {
    private static let yes = Flag("yes", "asks nothing: for jobs")
    private static let dryRun = Flag("dry-run", "counts what it would do, by endpoint and reason, and does nothing")
    private static let limit = Flag("limit", "N", "at most so many letters")
    private static let rate = Flag("rate", "RATE", "at most so many letters: 200/s, 6000/m; as fast as it goes unless given")
    private static let id = Positional("ID", "the letter's id: dlv_... or poi_...")

    static let command: Command = Command(
        "dlq", "Shows, replays and removes what could not be delivered.", children: [list, show, stats, replay, purge])

    private static let list: Command = Command(
        "list", "Lists dead letters, one line each, as they are read.",
        flags: DeadLetterFlags.filter + [limit, Settings.listOutput] + Settings.connection,
        examples: [
            ("what died in the last two hours", "martlet dlq list -b localhost:9092 --since 2h"),
            ("ids of one endpoint's, for a script", "martlet dlq list -b localhost:9092 --endpoint ep_test -o jsonl | jq -r .id"),
        ]
    ) { arguments in
        let filter = try DeadLetterFlags.filter(arguments)
        let most = try arguments.integer("limit", in: 1...Int.max) ?? .max
        var lines = LetterLines(Terminal(arguments), format: arguments.text("output") ?? "table")
        let reader = try reader(arguments)
        lines.begin()
        _ = try reader.forEachLive { letter, _ in
            guard filter.matches(letter) else { return true }
            lines.add(letter)
            return lines.count < most
        }
        lines.end()
        return 0
    }

    private static let show: Command = Command(
        "show", "Shows one dead letter: headers, body, and the attempts that were made.",
        flags: [Flag("no-attempts", "doesn't look for its attempts"), Settings.output] + Settings.connection, positionals: [id],
        examples: [("one letter", "martlet dlq show dlv_xxwqdz4b3xhoiqipxao3jfctie -b localhost:9092")]
    ) { arguments in
        let wanted = arguments.positionals[0]
        guard let (letter, message) = try reader(arguments).letter(wanted) else {
            throw CommandFailure(5, "no dead letter '\(Terminal.safe(wanted))'\n  'martlet dlq list' shows all")
        }
        let attempts = arguments.isOn("no-attempts") ? [] : try attempts(letter, arguments)
        LetterPage(letter, body: message.value.map { Array($0) } ?? [], attempts: attempts).print(Terminal(arguments), arguments)
        return 0
    }

    private static let stats: Command = Command(
        "stats", "Counts dead letters by endpoint and reason.", flags: DeadLetterFlags.filter + [Settings.output] + Settings.connection,
        examples: [("of one tenant", "martlet dlq stats -b localhost:9092 --tenant acme")]
    ) { arguments in
        let filter = try DeadLetterFlags.filter(arguments)
        var statistics = LetterStatistics()
        _ = try reader(arguments).forEachLive { letter, _ in
            if filter.matches(letter) { statistics.add(letter) }
            return true
        }
        statistics.print(Terminal(arguments), arguments)
        return 0
    }

    private static let replay: Command = Command(
        "replay", "Delivers dead letters again, as new deliveries that keep their webhook-id; each exactly once, whatever crashes.",
        flags: DeadLetterFlags.filter + [
            Flag("to-endpoint", "ID", "to this endpoint of the same tenant instead of their own"), limit, rate, dryRun, yes,
            Settings.output,
        ] + Settings.connection,
        examples: [
            ("what an outage left, after a look", "martlet dlq replay -b localhost:9092 --endpoint ep_test --since 6h"),
            ("unattended, at most 200 a second", "martlet dlq replay -b localhost:9092 --reason exhausted --rate 200/s --yes"),
        ]
    ) { arguments in
        let target = arguments.text("to-endpoint")
        if let target, try EndpointCommands.store(arguments).load()[target] == nil { throw EndpointCommands.notFound(target) }
        return try run(.replay(to: target), "replay", "replayed", arguments)
    }

    private static let purge: Command = Command(
        "purge", "Removes dead letters for good.",
        flags: DeadLetterFlags.filter + [
            Flag("older-than", "DURATION", "only those that died longer ago"), limit, rate, dryRun, yes, Settings.output,
        ] + Settings.connection,
        examples: [("what nobody has asked for in a month", "martlet dlq purge -b localhost:9092 --older-than 30d --dry-run")]
    ) { arguments in
        try run(.purge, "remove", "removed", arguments)
    }

    // MARK: shared

    private static func run(_ action: LetterPlan.Action, _ verb: String, _ past: String, _ arguments: Arguments) throws -> Int32 {
        let terminal = Terminal(arguments)
        var filter = try DeadLetterFlags.filter(arguments)
        if let age = try arguments.milliseconds("older-than") {
            let bound = SystemClock.wallMilliseconds() - age
            filter.until = min(filter.until ?? bound, bound)
        }
        let isAttended = Terminal.inputIsTerminal && Terminal.errorIsTerminal
        guard arguments.isOn("dry-run") || arguments.isOn("yes") || isAttended else {
            throw UsageError("nobody is there to be asked", hint: "give --yes, or look first with --dry-run")
        }
        let job = DeadLetterJob(
            try Settings.kafka(arguments), try Settings.topics(arguments), action, filter,
            limit: try arguments.integer("limit", in: 1...Int.max), rate: try DeadLetterFlags.rate(arguments))
        let progress = ProgressLine(terminal, past)
        job.onProgress = { progress.show($0) }
        if arguments.isOn("dry-run") || !arguments.isOn("yes") {
            let counts = try job.count()
            terminal.endProgress()
            if arguments.isOn("dry-run") {
                LetterSummary(counts, verb: "would \(verb)").print(terminal, arguments)
                return 0
            }
            guard counts.total > 0 else {
                terminal.note("nothing to \(verb)")
                return 0
            }
            LetterSummary(counts, verb: "to \(verb)").print(terminal, arguments, asNote: true)
            terminal.ask("\(verb) \(Terminal.count(counts.total, "dead letter"))? [y/N] ")
            guard ["y", "yes"].contains((readLine() ?? "").lowercased()) else {
                terminal.note("nothing was done")
                return 1
            }
        }
        let counts = try job.run()
        terminal.endProgress()
        LetterSummary(counts, verb: past).print(terminal, arguments)
        return 0
    }

    /// After an endpoint was enabled: what was parked flows again, until for a while nothing more is parked.
    static func replayParked(_ endpoint: String, settleMilliseconds: Int64, _ arguments: Arguments) throws {
        let terminal = Terminal(arguments)
        var filter = LetterFilter()
        filter.endpoints = [endpoint]
        filter.reasons = [DeadReason.parked.rawValue]
        let job = DeadLetterJob(try Settings.kafka(arguments), try Settings.topics(arguments), .replay(to: nil), filter)
        terminal.note("replaying what was parked, until \(Quantity.text(milliseconds: settleMilliseconds)) bring nothing new")
        do {
            let counts = try job.run(settleMilliseconds: settleMilliseconds)
            terminal.note("replayed \(counts.total) parked deliveries")
            for (why, count) in counts.skipped.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
                terminal.note("  \(count) not: \(why.rawValue)")
            }
        } catch let refusal as DeadLetterJob.NotEnabled {
            throw CommandFailure(1, "replaying what was parked ended: \(refusal)")
        } catch {
            throw CommandFailure(
                1,
                "'\(endpoint)' is enabled, but replaying what was parked ended early: \(error)\n  go on with 'martlet dlq replay --endpoint \(endpoint) --reason parked'"
            )
        }
    }

    private static func reader(_ arguments: Arguments) throws -> DeadLetterReader {
        try DeadLetterReader(try Settings.kafka(arguments), try Settings.topics(arguments))
    }

    /// The attempts of the letter's delivery that the attempt log still has.
    private static func attempts(_ letter: StoredLetter, _ arguments: Arguments) throws -> [JSONValue] {
        guard let delivery = letter.delivery else { return [] }
        let (kafka, topics) = (try Settings.kafka(arguments), try Settings.topics(arguments))
        guard let count = try TopicAdmin(kafka).describe().partitions[topics.attempts] else { return [] }
        let home = Murmur2.partition(of: Array(delivery.endpointID.utf8), count: count)
        var attempts: [JSONValue] = []
        let needle = Array("\"deliveryId\":\"\(delivery.deliveryID)\"".utf8)
        try TopicReader.scan(kafka, [TopicPartition(topics.attempts, home)]) { message in
            // Near the beginning, where the encoder puts it: parsing all of the log would be slow.
            guard let value = message.value, Array(value.prefix(128)).contains(sequence: needle) else { return }
            if let record = try? JSONValue.parse(value) { attempts.append(record) }
        }
        return attempts.sorted { $0["startedMs"]?.intValue ?? 0 < $1["startedMs"]?.intValue ?? 0 }
    }
}

extension [UInt8] {
    fileprivate func contains(sequence: [UInt8]) -> Bool {
        guard count >= sequence.count else { return false }
        return (0...count - sequence.count).contains { self[$0..<$0 + sequence.count].elementsEqual(sequence) }
    }
}
