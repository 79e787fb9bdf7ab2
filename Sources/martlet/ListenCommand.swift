internal import ArgumentParsing
internal import EventLoop
internal import Glibc
internal import JSON
internal import WebhookSigning
private import Synchronization

/// `martlet listen`
enum ListenCommand {
    static let command: Command = Command(
        "listen", "A receiver: verifies signatures, prints each delivery, misbehaves on request.",
        flags: [
            Flag("port", short: "p", "PORT", "0 chooses a free one", default: "8080"),
            Flag("address", "ADDRESS", "IPv4 address to listen on", default: "127.0.0.1"),
            Flag(
                "secret", "SECRET", "verifies signatures with it (whsec_, whsk_, whpk_); a bad one is answered with 401", repeated: true,
                secret: true),
            Flag("status", "CODE", "answers with it", default: "200"), Flag("delay", "DURATION", "waits before it answers", default: "0ms"),
            Flag("failing", "FRACTION", "this fraction of requests, chosen at random, gets --fail-status", default: "0"),
            Flag("fail-first", "N", "the first N requests of a path get --fail-status", default: "0"),
            Flag("fail-status", "CODE", "what failing requests get", default: "500"), Flag("hang", "never answers"),
            Flag("reset", "resets the connection"),
            Flag("drip", "DURATION", "sends its answer one byte at a time, this far apart"),
            Flag("retry-after", "TEXT", "Retry-After of answers from 300 on: seconds or an HTTP date"),
            Flag("record", "FILE", "appends what it got, one JSON object per line"), Flag("quiet", short: "q", "prints no deliveries"),
        ],
        examples: [
            ("verify and print", "martlet listen --port 8080 --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("a third of requests fails, with a wish", "martlet listen --failing 0.33 --fail-status 503 --retry-after 10"),
            ("record for later comparison", "martlet listen --record deliveries.jsonl --quiet"),
        ]
    ) { arguments in
        let terminal = Terminal(arguments)
        var behaviour = Receiver.Behaviour()
        behaviour.status = try arguments.integer("status", in: 200...599) ?? 200
        behaviour.failStatus = try arguments.integer("fail-status", in: 200...599) ?? 500
        behaviour.delayMilliseconds = UInt32(clamping: try arguments.milliseconds("delay") ?? 0)
        behaviour.failing = try arguments.fraction("failing") ?? 0
        behaviour.failFirst = try arguments.integer("fail-first", in: 0...Int.max) ?? 0
        behaviour.hangs = arguments.isOn("hang")
        behaviour.resets = arguments.isOn("reset")
        behaviour.dripMilliseconds = try arguments.milliseconds("drip").map { UInt32(clamping: $0) }
        behaviour.retryAfter = arguments.text("retry-after")
        let secrets = try arguments.list("secret").map { text in
            do { return try Secret(text) } catch { throw UsageError("--secret: \(error)") }
        }
        let recorder = try arguments.text("record").map { try Recorder($0) }
        let isQuiet = arguments.isOn("quiet")
        Signals.block()
        let fixed = behaviour
        let received = Atomic<Int>(0)
        let receiver = Receiver(secrets: secrets, behaviour: { _ in fixed }) { delivery in
            received.wrappingAdd(1, ordering: .relaxed)
            recorder?.write(delivery.json)
            if !isQuiet { terminal.print(describe(delivery, terminal)) }
        }
        let port = try receiver.start(
            address: arguments.text("address") ?? "127.0.0.1", port: UInt16(try arguments.integer("port", in: 0...65_535) ?? 8_080))
        terminal.note("listening on http://\(arguments.text("address") ?? "127.0.0.1"):\(port); Ctrl-C ends")
        let done = WakeUp()
        Signals.handle { _ in done.signal() }
        let loop = EventLoop()
        loop.watch(done.descriptor, for: .readable, token: 1)
        var isDone = false
        while !isDone { loop.wait(milliseconds: 60_000) { _ in isDone = true } }
        receiver.stop()
        recorder?.close()
        terminal.note("received \(received.load(ordering: .relaxed)) requests")
        return 0
    }

    static func describe(_ delivery: Receiver.Delivery, _ terminal: Terminal) -> String {
        let verdict: String
        switch delivery.verdict {
        case .valid: verdict = terminal.paint("signature valid", .green)
        case let other?: verdict = terminal.paint("signature \(other.rawValue)", .red)
        case nil: verdict = terminal.paint("not verified", .grey)
        }
        let answer = terminal.paint(delivery.answer, delivery.answer.hasPrefix("2") ? .green : .red)
        let shown = String(decoding: delivery.body.prefix(200), as: UTF8.self)
        let body = Terminal.safe(shown) + (delivery.body.count > 200 ? terminal.paint("… \(delivery.body.count) bytes", .grey) : "")
        return
            "\(answer)  \(Terminal.safe(delivery.path))  \(Terminal.safe(delivery.header("webhook-id") ?? "-"))  \(verdict)\n     \(body)"
    }
}

/// Appends JSON lines to a file, from any thread.
final class Recorder: Sendable {
    private let file: Mutex<Int32>

    init(_ path: String) throws {
        let fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard fd >= 0 else { throw UsageError("--record: cannot write \(path): \(String(cString: strerror(errno)))") }
        file = Mutex(fd)
    }

    func write(_ value: JSONValue) {
        var line: [UInt8] = []
        value.write(to: &line)
        line.append(0x0a)
        file.withLock { fd in _ = line.withUnsafeBytes { Glibc.write(fd, $0.baseAddress, $0.count) } }
    }

    func close() { file.withLock { _ = Glibc.close($0) } }
}
