internal import EventLoop
internal import Glibc
public import Kafka
public import Martlet

/// Fans past events out to one endpoint again: deliveries on the replay topic, and how far it has come as committed offsets, in the same
/// transactions. So a job that is run again with the same range goes on where it ended, and one that is done does nothing. Blocks.
public final class EventReplayJob {
    public enum Refusal: Error, CustomStringConvertible {
        case unknown(String)
        case unreadable(String, String)
        case notEnabled(String, Endpoint.State)

        public var description: String {
            switch self {
            case .unknown(let id): "no endpoint '\(id)'"
            case .unreadable(let id, let why): "the record of '\(id)' can't be read: \(why)"
            case .notEnabled(let id, let state): "'\(id)' is \(state.rawValue): what is replayed would be parked\n  enable it first"
            }
        }
    }

    public struct Outcome: Sendable, Equatable {
        public var counts = EventReplay.Counts()
        /// It had been done before; nothing was read.
        public var wasDone = false
        /// Retention has removed events of the range: the log begins only here. Unix milliseconds.
        public var logBegins: Int64?
    }

    /// What is read of a partition.
    private struct Span {
        var at: TopicPartition
        var next: Int64
        var end: Int64
    }

    private let kafka: KafkaSettings
    private let topics: Topics
    private let inputs: [String]
    private let endpointID: String
    private let range: EventReplay.Range
    private let rate: JobRate?
    public var onProgress: (JobProgress) -> Void = { _ in }

    /// `inputs`: topics beside the events topic; a name that starts with `^` is a regular expression. `rate`: of deliveries.
    public init(
        _ kafka: KafkaSettings, _ topics: Topics, inputs: [String] = [], to endpointID: String, _ range: EventReplay.Range,
        rate: JobRate? = nil
    ) {
        (self.kafka, self.topics, self.inputs, self.endpointID) = (kafka, topics, inputs, endpointID)
        (self.range, self.rate) = (range, rate)
    }

    /// What `run` would do, without doing it.
    public func count(again: Bool = false) throws -> Outcome {
        var replay = try open()
        let reader = try TopicReader(kafka, prefetchKilobytes: 4_096, group: topics.replayGroup(job: range.job(endpointID: endpointID)))
        var outcome = Outcome()
        let all = try spans(reader, &outcome)
        let spans = try remaining(of: all, reader, again: again, &outcome) ?? all
        try read(reader, spans, &replay) { _, _ in
        } finished: { _ in
        }
        outcome.counts = replay.counts
        return outcome
    }

    /// `again`: from the start, whatever an earlier run with this range has done.
    public func run(again: Bool = false) throws -> Outcome {
        var replay = try open()
        guard let partitions = try TopicAdmin(kafka).describe().partitions[topics.replay] else {
            throw KafkaError(.unknownTopic, "the topic \(topics.replay) doesn't exist")
        }
        let job = range.job(endpointID: endpointID)
        let group = topics.replayGroup(job: job)
        let writer = try TransactionalWriter(kafka, transactionalID: group, rate: rate)
        // Only now: what an earlier run left open has ended.
        let reader = try TopicReader(kafka, prefetchKilobytes: 4_096, group: group)
        var outcome = Outcome()
        var spans = try spans(reader, &outcome)
        if let rest = try remaining(of: spans, reader, again: again, &outcome) {
            spans = rest
        } else {
            // The ends are fixed before anything is written: events that come later are delivered the usual way.
            try writer.commit(offsets: spans.map(Self.position), group: group)
        }
        try read(reader, spans, &replay) { delivery, span in
            let key = Array(endpointID.utf8)
            writer.add(
                [
                    OutgoingRecord(
                        topic: topics.replay, partition: Murmur2.partition(of: key, count: partitions), key: key, value: delivery.body,
                        headers: delivery.headers.encoded)
                ], bytes: delivery.body.count + 2_048)
            if writer.isFull() { try writer.commit(offsets: [Self.position(span)], group: group) }
        } finished: { span in
            try writer.commit(offsets: [Self.position(span)], group: group)
        }
        writer.waitUntilReadable()
        outcome.counts = replay.counts
        return outcome
    }

    /// What an earlier run of the same range has left; nil: there was none.
    private func remaining(of spans: [Span], _ reader: TopicReader, again: Bool, _ outcome: inout Outcome) throws -> [Span]? {
        let earlier = again ? [] : try reader.committed(spans.map(\.at))
        guard earlier.contains(where: { $0.offset != nil }) else { return nil }
        outcome.logBegins = nil
        let rest = spans.map { span in
            guard let known = earlier.first(where: { $0.at == span.at }), let next = known.offset,
                let end = Int64(known.metadata.dropFirst(Self.endMark.count))
            else { return span }
            return Span(at: span.at, next: next, end: end)
        }
        outcome.wasDone = rest.allSatisfy { $0.next >= $0.end }
        return rest
    }

    private static let endMark = "end:"
    private static func position(_ span: Span) -> PartitionOffset {
        PartitionOffset(span.at, offset: span.next, metadata: endMark + String(span.end))
    }

    private func open() throws -> EventReplay {
        let report = try EndpointReports.read(kafka, topics, only: endpointID, withBacklog: false).first
        if let problem = report?.problem { throw Refusal.unreadable(endpointID, problem) }
        guard let report, let endpoint = report.endpoint else { throw Refusal.unknown(endpointID) }
        guard report.isEnabled else { throw Refusal.notEnabled(endpointID, endpoint.state == .enabled ? .disabled : endpoint.state) }
        return EventReplay(to: endpoint, registryOffset: report.registryOffset, range)
    }

    private func spans(_ reader: TopicReader, _ outcome: inout Outcome) throws -> [Span] {
        let counts = try TopicAdmin(kafka).describe().partitions
        // A regular expression must not take Martlet's own topics for events.
        let names = try Self.named(
            [topics.events] + inputs, among: counts.keys.filter { $0 == topics.events || !topics.isOwn($0) }.sorted())
        let all = names.flatMap { name in (0..<Int32(counts[name] ?? 0)).map { TopicPartition(name, $0) } }
        // Producers' clocks stamp events: the first of the time range can be found, but no end below which all of it lies.
        let starts = try reader.offsets(all, atMilliseconds: range.since)
        return try all.map { at in
            let (low, high) = try reader.watermarks(at)
            let start = max(low, starts[at] ?? low)
            if low > 0, start == low, high > low { outcome.logBegins = max(outcome.logBegins ?? .min, try time(reader, at, low, high)) }
            return Span(at: at, next: start, end: high)
        }
    }

    /// Of the first record that is left.
    private func time(_ reader: TopicReader, _ at: TopicPartition, _ low: Int64, _ high: Int64) throws -> Int64 {
        var time: Int64 = .min
        try reader.read(at, from: low, below: high) { message in
            time = message.timestampMilliseconds ?? .min
            return false
        }
        return time
    }

    private func read(
        _ reader: TopicReader, _ spans: [Span], _ replay: inout EventReplay, _ body: (FanOut.Delivery, Span) throws -> Void,
        finished: (Span) throws -> Void
    ) throws {
        let started = SystemClock.monotonicMilliseconds()
        let toRead = spans.reduce(0) { $0 + max(0, $1.end - $1.next) }
        var before: Int64 = 0
        for var span in spans where span.next < span.end {
            let first = span.next
            try reader.read(span.at, from: first, below: span.end) { message in
                span.next = message.offset + 1
                let now = SystemClock.wallMilliseconds()
                let delivery = replay.delivery(
                    of: { () throws(Event.Poison) in try Event(headers: { body in message.forEachHeader(body) }, value: message.value) },
                    topic: message.topic, partition: message.partition, offset: message.offset,
                    timestampMilliseconds: message.timestampMilliseconds ?? now, nowMilliseconds: now)
                if let delivery { try body(delivery, span) }
                onProgress(
                    JobProgress(
                        acted: replay.counts.replayed, fraction: Double(before + span.next - first) / Double(toRead),
                        elapsedMilliseconds: SystemClock.monotonicMilliseconds() - started))
                return true
            }
            before += span.end - first
            span.next = span.end
            try finished(span)
        }
    }

    /// Existing topics that are meant by names and regular expressions (POSIX extended, as the brokers' clients take them).
    static func named(_ wanted: [String], among existing: [String]) throws(KafkaError) -> [String] {
        var names: Set<String> = []
        for name in wanted {
            if name.hasPrefix("^") {
                var expression = regex_t()
                guard regcomp(&expression, name, REG_EXTENDED | REG_NOSUB) == 0 else {
                    throw KafkaError(.invalidArgument, "'\(name)' isn't a regular expression")
                }
                defer { regfree(&expression) }
                names.formUnion(existing.filter { regexec(&expression, $0, 0, nil, 0) == 0 })
            } else {
                guard existing.contains(name) else { throw KafkaError(.unknownTopic, "the topic \(name) doesn't exist") }
                names.insert(name)
            }
        }
        return names.sorted()
    }
}
