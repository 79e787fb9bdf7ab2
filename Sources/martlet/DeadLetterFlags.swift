internal import ArgumentParsing
internal import EventLoop
internal import Martlet
internal import MartletWorker

/// The flags that say which dead letters are meant.
enum DeadLetterFlags {
    static let filter: [Flag] = [
        Flag("tenant", "NAME", "only this tenant's", repeated: true),
        Flag("endpoint", "ID", "only deliveries to this endpoint", repeated: true),
        Flag("types", "TYPES", "only these event types: exact, 'prefix.*', or '*'", repeated: true),
        Flag("reason", "REASON", "only letters that died of it", repeated: true, choices: DeadReason.allCases.map(\.rawValue)),
        Flag("status", "CODE", "only letters with this last answer", repeated: true),
        Flag("since", "TIME", "only those that died at or after it: RFC 3339, or a duration ago"),
        Flag("until", "TIME", "only those that died before it: RFC 3339, or a duration ago"),
        Flag("id", "ID", "only this delivery, poison or message id", repeated: true),
        Flag("from-file", "FILE", "only the ids in the file, one per line; - is standard input"),
    ]

    static func filter(_ arguments: Arguments) throws -> LetterFilter {
        var filter = LetterFilter()
        filter.tenants = Set(arguments.list("tenant"))
        filter.endpoints = Set(arguments.list("endpoint"))
        if !arguments.list("types").isEmpty { filter.types = try Endpoint.patterns(arguments.list("types")) }
        filter.reasons = Set(arguments.list("reason"))
        for code in arguments.list("status") {
            guard let status = Int(code), (100...599).contains(status) else {
                throw arguments.bad("status", code, "an HTTP status, 100 to 599")
            }
            filter.statuses.insert(status)
        }
        filter.since = try time("since", arguments)
        filter.until = try time("until", arguments)
        filter.ids = Set(arguments.list("id"))
        if let path = arguments.text("from-file") {
            let lines = try Files.read(path).split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
            for (number, line) in lines.enumerated() {
                let id = line.drop { $0.isWhitespace || $0 == "\u{feff}" }.prefix { !$0.isWhitespace }
                guard !id.isEmpty, !id.hasPrefix("#") else { continue }
                guard isID(id) else {
                    throw UsageError(
                        "--from-file: line \(number + 1) of \(path): '\(Terminal.safe(String(id.prefix(80))))' isn't an id", hint: idHint)
                }
                filter.ids.insert(String(id))
            }
            guard !filter.ids.isEmpty else {
                throw UsageError("--from-file: \(path) has no ids", hint: idHint)
            }
        }
        for id in arguments.list("id") where !isID(id) {
            throw arguments.bad("id", Terminal.safe(id), "an id that begins with dlv_, poi_ or msg_")
        }
        return filter
    }

    private static let idHint = "one per line: dlv_..., poi_... or msg_..."
    private static func isID(_ text: some StringProtocol) -> Bool { ["dlv_", "poi_", "msg_"].contains(where: text.hasPrefix) }

    /// Unix milliseconds.
    static func time(_ name: String, _ arguments: Arguments) throws -> Int64? {
        guard let text = arguments.text(name) else { return nil }
        if let ago = Quantity.milliseconds(text) { return SystemClock.wallMilliseconds() - ago }
        guard let time = Timestamp.milliseconds(text) else {
            throw arguments.bad(name, text, "a time such as 2026-11-24T08:00:00Z, 2026-11-24, or 2h for two hours ago")
        }
        return time
    }

    /// How many in how many milliseconds.
    static func rate(_ arguments: Arguments) throws -> JobRate? {
        guard let text = arguments.text("rate") else { return nil }
        // A plain number is per second.
        guard let rate = RateLimit(text.contains("/") ? text : text + "/s") else {
            throw arguments.bad("rate", text, "a rate such as 200/s or 6000/m")
        }
        return JobRate(count: rate.n, perMilliseconds: rate.perMilliseconds)
    }
}
