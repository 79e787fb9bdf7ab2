internal import ArgumentParsing
internal import EventLoop
internal import JSON
internal import Martlet

/// `dlq list`: a line per letter, written as it is read.
struct LetterLines {
    private let terminal: Terminal
    private let format: String
    private let widths: [Int]
    private let now = SystemClock.wallMilliseconds()
    private(set) var count = 0

    init(_ terminal: Terminal, format: String) {
        (self.terminal, self.format) = (terminal, format)
        // The age, the status and the id have fixed widths; reason, endpoint and type share the rest.
        let rest = max(15, min(Terminal.columns ?? 132, 160) - (4 + 6 + 30 + 2 * 5))
        let reason = min(16, max(5, rest / 3))
        let endpoint = (rest - reason) / 2
        widths = [4, reason, 6, endpoint, rest - reason - endpoint, 30]
    }

    mutating func begin() {
        if format == "table" { terminal.print(terminal.paint(line(["AGE", "REASON", "STATUS", "ENDPOINT", "TYPE", "ID"]), .bold)) }
        if format == "json" { terminal.print("[") }
    }

    mutating func add(_ letter: StoredLetter) {
        switch format {
        case "json": terminal.print((count > 0 ? "," : "") + letter.json.text)
        case "jsonl": terminal.print(letter.json.text)
        default:
            terminal.print(
                line([
                    Self.age(now - letter.diedMilliseconds), letter.reason ?? "?", letter.delivery?.lastStatus.map { String($0) } ?? "-",
                    letter.delivery?.endpointID ?? "-", letter.type ?? "-", letter.id,
                ]))
        }
        count += 1
    }

    func end() {
        if format == "json" { terminal.print("]") }
        if format == "table" { terminal.note(Terminal.count(count, "dead letter")) }
    }

    private func line(_ cells: [String]) -> String {
        zip(cells, widths).enumerated().map { column, cell in
            let text = Terminal.safe(cell.0)
            let fitting = text.count > cell.1 && column < cells.count - 1 ? text.prefix(cell.1 - 1) + "…" : text
            return column == cells.count - 1 ? String(fitting) : fitting + String(repeating: " ", count: cell.1 - fitting.count)
        }.joined(separator: "  ")
    }

    /// In its largest unit: `45s`, `3h`, `12d`.
    static func age(_ milliseconds: Int64) -> String {
        for (unit, scale) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)] as [(String, Int64)] where milliseconds >= scale {
            return "\(milliseconds / scale)\(unit)"
        }
        return "\(max(0, milliseconds) / 1_000)s"
    }
}

/// `dlq stats`.
struct LetterStatistics {
    private struct Group {
        var count = 0
        var bytes = 0
        var oldest = Int64.max
        var newest = Int64.min
    }
    private var groups: [LetterPlan.Cause: Group] = [:]

    mutating func add(_ letter: StoredLetter) {
        var group = groups[.init(letter)] ?? Group()
        group.count += 1
        group.bytes += letter.bodyBytes
        group.oldest = min(group.oldest, letter.diedMilliseconds)
        group.newest = max(group.newest, letter.diedMilliseconds)
        groups[.init(letter)] = group
    }

    func print(_ terminal: Terminal, _ arguments: Arguments) {
        let rows = groups.sorted { ($1.value.count, $0.key) < ($0.value.count, $1.key) }
        if arguments.text("output") == "json" {
            return terminal.print(
                JSONValue.array(
                    rows.map { cause, group in
                        .object([
                            .init("endpointId", .string(cause.endpoint)), .init("reason", .string(cause.reason)),
                            .init("count", .integer(group.count)), .init("bodyBytes", .integer(group.bytes)),
                            .init("oldestMs", .integer(group.oldest)), .init("newestMs", .integer(group.newest)),
                        ])
                    }
                ).prettyText)
        }
        let now = SystemClock.wallMilliseconds()
        let cells = rows.map { cause, group in
            [
                Terminal.safe(cause.endpoint), Terminal.safe(cause.reason), String(group.count), Terminal.size(group.bytes),
                LetterLines.age(now - group.oldest), LetterLines.age(now - group.newest),
            ]
        }
        terminal.print(terminal.table(["ENDPOINT", "REASON", "LETTERS", "BODIES", "OLDEST", "NEWEST"], cells, numeric: [2, 3, 4, 5]))
        terminal.note(Terminal.count(rows.reduce(0) { $0 + $1.value.count }, "dead letter"))
    }
}

/// What a replay or a purge did, or would do.
struct LetterSummary {
    private let counts: LetterPlan.Counts
    private let verb: String
    init(_ counts: LetterPlan.Counts, verb: String) { (self.counts, self.verb) = (counts, verb) }

    func print(_ terminal: Terminal, _ arguments: Arguments, asNote: Bool = false) {
        let skipped = counts.skipped.sorted { $0.key.rawValue < $1.key.rawValue }
        if arguments.text("output") == "json", !asNote {
            return terminal.print(
                JSONValue.object([
                    .init(
                        "letters",
                        .array(
                            counts.acted.sorted { $0.key < $1.key }.map { cause, count in
                                .object([
                                    .init("endpointId", .string(cause.endpoint)), .init("reason", .string(cause.reason)),
                                    .init("count", .integer(count)),
                                ])
                            })),
                    .init("total", .integer(counts.total)), .init("unknownIds", .integer(counts.unknownIDs)),
                    .init("skipped", .object(skipped.map { .init($0.key.rawValue, .integer($0.value)) })),
                ]).prettyText)
        }
        let rows = counts.acted.sorted { $0.key < $1.key }.map {
            [Terminal.safe($0.key.endpoint), Terminal.safe($0.key.reason), String($0.value)]
        }
        var lines = rows.isEmpty ? [] : [terminal.table(["ENDPOINT", "REASON", "LETTERS"], rows, numeric: [2])]
        lines.append("\(verb) " + Terminal.count(counts.total, "dead letter"))
        lines += skipped.map { "  \($0.value) left: \($0.key.rawValue)" }
        if counts.unknownIDs > 0 { lines.append("  \(Terminal.count(counts.unknownIDs, "id")) without a dead letter") }
        if asNote { terminal.note(lines.joined(separator: "\n")) } else { terminal.print(lines.joined(separator: "\n")) }
    }
}

/// `dlq show`.
struct LetterPage {
    private let letter: StoredLetter
    private let body: [UInt8]
    private let attempts: [JSONValue]
    init(_ letter: StoredLetter, body: [UInt8], attempts: [JSONValue]) {
        (self.letter, self.body, self.attempts) = (letter, body, attempts)
    }

    func print(_ terminal: Terminal, _ arguments: Arguments) {
        if arguments.text("output") == "json" {
            var json = letter.json
            json["headers"] = .object(letter.headers.map { .init($0.name, .string(String(decoding: $0.value, as: UTF8.self))) })
            if let text = String(validating: body, as: UTF8.self) {
                json["body"] = .string(text)
            } else {
                json["bodyBase64"] = .string(Base64Text.encode(body))
            }
            json["attemptRecords"] = .array(attempts)
            return terminal.print(json.prettyText)
        }
        func heading(_ text: String) { terminal.print("\n" + terminal.paint(text, .bold)) }
        terminal.print(
            "\(Terminal.safe(letter.id)) at \(letter.coordinates), died \(Timestamp.text(milliseconds: letter.diedMilliseconds))")
        heading("Headers")
        let width = letter.headers.map(\.name.count).max() ?? 0
        for header in letter.headers {
            let name = Terminal.safe(header.name) + String(repeating: " ", count: max(2, width + 2 - header.name.count))
            terminal.print("  " + terminal.paint(name, .grey) + Terminal.safe(String(decoding: header.value, as: UTF8.self)))
        }
        heading("Body (\(body.count) bytes\(letter.truncatedFrom.map { ", cut from \($0)" } ?? ""))")
        if let json = try? JSONValue.parse(body) {
            terminal.print(Self.indented(json.prettyText))
        } else if let text = String(validating: body, as: UTF8.self) {
            terminal.print(Self.indented(text))
        } else {
            terminal.print("  not text; -o json prints it in base64")
        }
        heading("Attempts")
        if attempts.isEmpty { terminal.print("  none in the attempt log (it keeps three days)") }
        let rows = attempts.map { attempt in
            [
                attempt["startedMs"]?.intValue.map { Timestamp.text(milliseconds: Int64($0)) } ?? "?", attempt["attempt"]?.text ?? "?",
                attempt["status"]?.intValue.map { String($0) } ?? "-", "\(attempt["durationMs"]?["total"]?.text ?? "?") ms",
                Terminal.safe(attempt["error"]?.stringValue ?? attempt["outcome"]?.stringValue ?? ""),
            ]
        }
        if !rows.isEmpty {
            terminal.print(Self.indented(terminal.table(["STARTED", "NO", "STATUS", "TOOK", "RESULT"], rows, numeric: [1, 2, 3])))
        }
    }

    private static func indented(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { "  " + Terminal.safe(String($0)) }.joined(separator: "\n")
    }
}
