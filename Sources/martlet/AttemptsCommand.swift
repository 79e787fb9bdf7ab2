internal import ArgumentParsing
internal import EventLoop
internal import JSON
internal import Kafka
internal import Martlet

/// `martlet attempts tail`
enum AttemptsCommand {
    static let command: Command = Command("attempts", "Shows the attempts that workers made.", children: [tail])

    private static let tail: Command = Command(
        "tail", "Prints attempts, one line each, in the order of each endpoint's.",
        flags: [
            Flag("endpoint", "ID", "only attempts at this endpoint", repeated: true),
            Flag("tenant", "NAME", "only this tenant's", repeated: true),
            Flag("failed", "only attempts that weren't answered 2xx"),
            Flag("since", "TIME", "from when on: RFC 3339, or a duration ago", default: "10m"),
            Flag("follow", short: "f", "goes on with what comes, until it is interrupted"),
            Flag(
                "output", short: "o", "FORMAT", "a line for people, or the records as they are for scripts", default: "table",
                choices: ["table", "jsonl"]),
        ] + Settings.connection,
        examples: [
            ("why an endpoint fails, as it happens", "martlet attempts tail -b localhost:9092 --endpoint ep_test --failed --follow"),
            ("the last hour for a script", "martlet attempts tail -b localhost:9092 --since 1h -o jsonl"),
        ]
    ) { arguments in
        let (kafka, topics) = (try Settings.kafka(arguments), try Settings.topics(arguments))
        let filter = Filter(
            endpoints: Set(arguments.list("endpoint")), tenants: Set(arguments.list("tenant")), isFailedOnly: arguments.isOn("failed"))
        let since = try DeadLetterFlags.time("since", arguments) ?? 0
        guard let count = try TopicAdmin(kafka).describe().partitions[topics.attempts] else {
            throw KafkaError(.unknownTopic, "the topic \(topics.attempts) doesn't exist")
        }
        // An endpoint's attempts lie in one partition.
        let homes = Set(filter.endpoints.map { Murmur2.partition(of: Array($0.utf8), count: count) })
        let partitions = (homes.isEmpty ? Array(0..<Int32(count)) : homes.sorted()).map { TopicPartition(topics.attempts, $0) }
        let reader = try TopicReader(kafka, prefetchKilobytes: 4_096)
        for (at, offset) in try reader.offsets(partitions, atMilliseconds: since) { try reader.start(at, from: .offset(offset)) }
        try print(reader, partitions, filter, arguments)
        return 0
    }

    /// Without a word of the brokers for so long it ends, unless it follows.
    private static let stallMilliseconds: Int64 = 30_000

    private struct Filter {
        var endpoints: Set<String>
        var tenants: Set<String>
        var isFailedOnly: Bool

        func matches(_ attempt: JSONValue) -> Bool {
            if isFailedOnly, attempt["outcome"]?.stringValue == "delivered" { return false }
            return holds(endpoints, attempt["endpointId"]) && holds(tenants, attempt["tenant"])
        }

        private func holds(_ wanted: Set<String>, _ value: JSONValue?) -> Bool {
            wanted.isEmpty || value?.stringValue.map { wanted.contains($0) } ?? false
        }
    }

    private static func print(_ reader: TopicReader, _ partitions: [TopicPartition], _ filter: Filter, _ arguments: Arguments) throws {
        let terminal = Terminal(arguments)
        var heard = SystemClock.monotonicMilliseconds()
        let isTable = arguments.text("output") == "table"
        var unread = Set(partitions)
        while arguments.isOn("follow") || !unread.isEmpty {
            guard let (at, event) = reader.next(waitMilliseconds: 1_000) else {
                let silence = SystemClock.monotonicMilliseconds() - heard
                guard arguments.isOn("follow") || silence < stallMilliseconds else {
                    throw KafkaError(.timedOut, "the brokers have said nothing for \(silence / 1_000) s")
                }
                continue
            }
            heard = SystemClock.monotonicMilliseconds()
            switch event {
            case .message(let message):
                guard let value = message.value, let attempt = try? JSONValue.parse(value), filter.matches(attempt) else { continue }
                terminal.print(isTable ? line(attempt, terminal) : Terminal.safe(String(decoding: value, as: UTF8.self)))
            case .end, .outOfRange: unread.remove(at)
            case .failed(let error): terminal.note("martlet: \(error)")
            }
        }
    }

    /// `08:15:02.123  503   41 ms  ep_test  order.created  #2 → again at 08:20:05  status 503  dlv_...`
    private static func line(_ attempt: JSONValue, _ terminal: Terminal) -> String {
        func text(_ name: String) -> String { Terminal.safe(attempt[name]?.stringValue ?? "") }
        func clock(_ name: String) -> String {
            attempt[name]?.intValue.map { String(Timestamp.text(milliseconds: Int64($0)).dropFirst(11).dropLast()) } ?? "-"
        }
        func padded(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(0, width - text.count)) + text }
        let outcome = text("outcome")
        let (what, colour): (String, Terminal.Colour) =
            switch outcome {
            case "delivered": ("delivered", .green)
            case "retry": ("again at \(clock("nextAttemptMs").prefix(8))", .yellow)
            default: ("dead: \(text("deadReason"))", .red)
            }
        let status = attempt["status"]?.intValue.map { String($0) } ?? text("errorClass")
        return [
            terminal.paint(clock("startedMs"), .grey), terminal.paint(padded(status, 7), colour),
            padded("\(attempt["durationMs"]?["total"]?.text ?? "?") ms", 8), text("endpointId"), text("type"),
            "#\(attempt["attempt"]?.text ?? "?") " + terminal.paint(what, colour), text("error"), terminal.paint(text("deliveryId"), .grey),
        ].filter { !$0.isEmpty }.joined(separator: "  ")
    }
}
