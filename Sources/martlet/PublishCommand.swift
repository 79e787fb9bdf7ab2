internal import ArgumentParsing
internal import EventLoop
internal import JSON
internal import Kafka
internal import Martlet

/// `martlet publish`
enum PublishCommand {
    static let command: Command = Command(
        "publish", "Publishes one event, or many from a file.",
        details:
            "A line of --jsonl is an event in the CloudEvents JSON format; what it lacks comes from the flags (type, source, tenant), and an id is made.",
        flags: [
            Flag("type", "TYPE", "event type, such as order.created"), Flag("source", "URI", "who publishes"),
            Flag("tenant", "NAME", "whose event it is", default: "default"),
            Flag("subject", "TEXT", "what it is about"),
            Flag("id", "ID", "event id: with tenant and source it makes the webhook-id; made when none is given"),
            Flag("data", "JSON|@FILE|-", "the data; @FILE reads a file, - standard input"),
            Flag("content-type", "TYPE", "of the data", default: "application/json"),
            Flag("jsonl", "FILE|-", "publishes each line of a file"), Settings.output,
        ] + Settings.connection,
        examples: [
            ("one event", "martlet publish -b localhost:9092 --type order.created --source /shop --data '{\"id\":1}'"),
            ("many", "martlet publish -b localhost:9092 --source /shop --jsonl events.jsonl"),
        ]
    ) { arguments in
        let topic = try Settings.topics(arguments).events
        if let file = arguments.text("jsonl") { return try bulk(file, topic, arguments) }
        var event = Event(
            id: arguments.text("id") ?? Identifiers.newEventID(), source: try arguments.required("source"),
            type: try arguments.required("type"),
            tenant: arguments.text("tenant") ?? Event.defaultTenant)
        event.subject = arguments.text("subject")
        if let data = arguments.text("data") {
            event.data =
                data == "-"
                ? try Files.readBytes("-") : data.hasPrefix("@") ? try Files.readBytes(String(data.dropFirst())) : Array(data.utf8)
            event.contentType = arguments.text("content-type")
        }
        do { try event.validate() } catch { throw UsageError("the event isn't valid: \(error)") }
        let publisher = try BulkPublisher(try Settings.kafka(arguments), topic)
        try publisher.publish(event)
        try publisher.finish()
        let terminal = Terminal(arguments)
        guard let at = publisher.last else { throw CommandFailure(1, "the event was not acknowledged") }
        if arguments.text("output") == "json" {
            terminal.print(
                JSONValue.object([
                    .init("id", .string(event.id)), .init("messageId", .string(event.messageID)), .init("topic", .string(at.at.topic)),
                    .init("partition", .integer(at.at.partition)), .init("offset", .integer(at.offset)),
                ]).text)
        } else {
            terminal.print("published \(event.id) as \(event.messageID) to \(at.at) at offset \(at.offset)")
        }
        return 0
    }

    private static func bulk(_ file: String, _ topic: String, _ arguments: Arguments) throws -> Int32 {
        let terminal = Terminal(arguments)
        let publisher = try BulkPublisher(try Settings.kafka(arguments), topic)
        var lineNumber = 0
        let started = SystemClock.monotonicMilliseconds()
        var shown: Int64 = 0
        try Files.forEachLine(file) { line in
            lineNumber += 1
            if line.allSatisfy({ $0 == 0x20 || $0 == 0x09 }) { return true }
            do { try publisher.publish(try event(line, arguments)) } catch let error as Event.Poison {
                try publisher.finish()
                throw UsageError(
                    "\(file), line \(lineNumber): \(error)", hint: "the \(publisher.acknowledged) events before it were published")
            }
            let now = SystemClock.monotonicMilliseconds()
            if now - shown >= 200 {
                shown = now
                terminal.progress(
                    "published \(publisher.acknowledged) of \(publisher.sent) so far, \(rate(publisher.acknowledged, now - started))")
            }
            return true
        }
        try publisher.finish()
        terminal.endProgress()
        terminal.print(
            "published \(publisher.acknowledged) events in \(Double((SystemClock.monotonicMilliseconds() - started) / 10) / 100) s, \(rate(publisher.acknowledged, SystemClock.monotonicMilliseconds() - started))"
        )
        return 0
    }

    private static func rate(_ count: Int, _ milliseconds: Int64) -> String { "\(count * 1_000 / max(1, Int(milliseconds)))/s" }

    private static func event(_ line: [UInt8], _ arguments: Arguments) throws -> Event {
        var json: JSONValue
        do { json = try JSONValue.parse(line) } catch { throw Event.Poison("not JSON: \(error)") }
        guard json.members != nil else { throw Event.Poison("expected a JSON object, found \(json.kind)") }
        if json["specversion"] == nil { json["specversion"] = "1.0" }
        if json["id"] == nil { json["id"] = .string(Identifiers.newEventID()) }
        if json["tenant"] == nil, arguments.isGiven("tenant") { json["tenant"] = arguments.text("tenant").map { .string($0) } }
        for name in ["type", "source", "subject"] where json[name] == nil { json[name] = arguments.text(name).map { .string($0) } }
        let text = Array(json.text.utf8)
        return try text.withUnsafeBytes { bytes in
            try Event(
                headers: { take in
                    let (name, value) = (Array("content-type".utf8), Array("application/cloudevents+json".utf8))
                    name.withUnsafeBytes { name in value.withUnsafeBytes { take(name, $0) } }
                }, value: bytes)
        }
    }
}

/// Publishes events one after the other and waits for room; for one thread.
final class BulkPublisher {
    private let producer: Producer
    private let topic: String
    private(set) var sent = 0
    private(set) var acknowledged = 0
    private(set) var last: (at: TopicPartition, offset: Int64)?
    private var failure: KafkaError?

    init(_ kafka: KafkaSettings, _ topic: String) throws {
        var options = Producer.Options()
        options.messageTimeoutMilliseconds = 30_000
        (producer, self.topic) = (try Producer(kafka, options), topic)
    }

    func publish(_ event: Event) throws {
        let record = OutgoingRecord(topic: topic, key: Array(event.messageID.utf8), value: event.data, headers: event.binaryHeaders)
        while true {
            switch producer.produce(record, token: UInt64(sent)) {
            case .queued:
                sent += 1
                if sent % 1_000 == 0 { try drain(0) }
                return
            case .full: try drain(100)
            case .failed(let error): throw error
            }
        }
    }

    private func drain(_ wait: Int) throws {
        producer.drainReports(waitMilliseconds: wait) { report in
            if let error = report.error {
                failure = error
            } else {
                acknowledged += 1
                last = (report.at, report.offset)
            }
        }
        if let failure { throw failure }
    }

    func finish() throws {
        while acknowledged < sent { try drain(200) }
    }
}
