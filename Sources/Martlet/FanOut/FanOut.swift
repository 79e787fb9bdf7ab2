/// Turns one event into its deliveries, one at a time: an event with 100,000 endpoints needs no memory for 100,000 records. Each body is
/// composed once per format.
public struct FanOut: Sendable {
    public struct Delivery: Sendable {
        public var headers: DeliveryHeaders
        public var body: [UInt8]
    }

    /// Where the event lies and when it was accepted.
    public struct Acceptance: Sendable {
        public var topic: String
        public var partition: Int32
        public var offset: Int64
        /// The event record's timestamp, never above now; Unix milliseconds.
        public var milliseconds: Int64
        public init(topic: String, partition: Int32, offset: Int64, milliseconds: Int64) {
            (self.topic, self.partition, self.offset, self.milliseconds) = (topic, partition, offset, milliseconds)
        }
    }

    private let event: Event
    private let accepted: Acceptance
    private let messageID: String
    private var template = DeliveryHeaders()
    /// Few: looked through.
    private var bodies: [(format: Endpoint.BodyFormat, body: BodyComposer.Body)] = []

    /// `registryOffset`: how far the registry had been read when the event was matched.
    public init(_ event: consuming Event, at accepted: Acceptance, registryOffset: Int64) {
        messageID = event.messageID
        template.reserve(bytes: 384)
        (template.eventID, template.source, template.type, template.tenant) = (event.id, event.source, event.type, event.tenant)
        (template.time, template.subject) = (event.time, event.subject)
        (template.traceParent, template.traceState) = (event.traceParent, event.traceState)
        template.dueMilliseconds = accepted.milliseconds
        template.firstMilliseconds = accepted.milliseconds
        template.ageFromMilliseconds = accepted.milliseconds
        template.origin = "\(accepted.topic)/\(accepted.partition)/\(accepted.offset)"
        template.registryOffset = registryOffset
        self.accepted = accepted
        self.event = event
    }

    /// The delivery to one endpoint, in the format that the endpoint wants.
    public mutating func delivery(to endpointID: String, as format: Endpoint.BodyFormat) -> Delivery {
        let body: BodyComposer.Body
        if let composed = bodies.first(where: { $0.format == format }) {
            body = composed.body
        } else {
            body = BodyComposer.compose(event, as: format, acceptedMilliseconds: accepted.milliseconds)
            bodies.append((format, body))
        }
        var headers = template
        headers.reserve(bytes: 384)
        headers.endpointID = endpointID
        headers.deliveryID = Identifiers.delivery(messageID: messageID, endpointID: endpointID)
        headers.contentType = body.contentType
        return Delivery(headers: headers, body: body.bytes)
    }
}

/// What fan-out has done of its partitions: an event is done when all its deliveries are acknowledged.
public struct FanOutProgress: Sendable {
    public struct EventToken: Hashable, Sendable {
        public let slot: UInt32
        public init(slot: UInt32) { self.slot = slot }
    }

    private struct Event: Sendable {
        var stream: StreamID
        var offset: Int64
        var endpointIDs: [String]
        var acknowledged: [Bool]
        /// Deliveries acknowledged without a gap, from the first.
        var prefix: Int
        var remaining: Int
        var isDropped = false
    }

    private struct Stream: Sendable {
        var tracker: OffsetTracker?
        var cursor: String?
        var cursorOffset: Int64?
        var committed: PartitionCommit?
        var open: [Int64: UInt32] = [:]
    }

    public struct PartitionCommit: Sendable, Equatable {
        public var stream: StreamID
        public var offset: Int64
        public var metadata: String
        public init(stream: StreamID, offset: Int64, metadata: String) {
            (self.stream, self.offset, self.metadata) = (stream, offset, metadata)
        }
    }

    private var events: [Event?] = []
    private var free: [UInt32] = []
    private var streams = StreamTable(nothing: Stream())
    public private(set) var unfinished = 0

    public init() {}

    public mutating func own(_ stream: StreamID, committed: Int64?, metadata: String) throws(CommitMetadata.Unreadable) {
        var state = Stream()
        if let committed {
            let (decoded, _) = try CommitMetadata.decode(metadata, committed: committed)
            state.tracker = OffsetTracker(start: committed, completed: decoded.completed)
            (state.cursor, state.cursorOffset) = (decoded.cursor, committed)
            state.committed = PartitionCommit(stream: stream, offset: committed, metadata: metadata)
        }
        streams[stream] = state
    }

    /// They are gone; late acknowledgements of theirs are ignored.
    public mutating func disown(_ leaving: [StreamID]) {
        for stream in leaving {
            for slot in streams[stream]?.open.values.map(\.self) ?? [] {
                events[Int(slot)]?.isDropped = true
                unfinished -= 1
            }
            streams[stream] = nil
        }
    }

    /// The log begins above, or ends below, where reading should have gone on: it goes on at `offset`, whatever was remembered.
    public mutating func restart(_ stream: StreamID, at offset: Int64) {
        guard let state = streams[stream] else { return }
        if let next = state.tracker?.next, offset >= next {
            streams[stream]?.tracker?.endReached(offset)
        } else {
            disown([stream])
            streams[stream] = Stream(tracker: OffsetTracker(start: offset))
        }
    }

    public func owns(_ stream: StreamID) -> Bool { streams.has(stream) }
    public var owned: [StreamID] { streams.keys }
    public func position(_ stream: StreamID) -> Int64? { streams.look(stream) { $0.tracker?.next } ?? nil }

    /// An event was read with the endpoints that match it, in ascending order. nil: done before. `from`: the first that is still to be
    /// produced.
    public mutating func begin(_ stream: StreamID, offset: Int64, endpointIDs: [String]) -> (token: EventToken, from: Int)? {
        let isFresh = streams.update(stream) { state in
            if state.tracker == nil { state.tracker = OffsetTracker(start: offset) }
            return state.tracker?.begin(offset) == .fresh
        }
        guard isFresh == true else { return nil }
        var from = 0
        if let cursor = streams.look(stream, { $0.cursorOffset == offset ? $0.cursor : nil }) ?? nil {
            from = endpointIDs.firstIndex { $0 > cursor } ?? endpointIDs.count
        }
        let remaining = endpointIDs.count - from
        guard remaining > 0 else {
            streams.update(stream) { _ = $0.tracker?.complete(offset) }
            return nil
        }
        let acknowledged = Array(repeating: true, count: from) + Array(repeating: false, count: remaining)
        let event = Event(
            stream: stream, offset: offset, endpointIDs: endpointIDs, acknowledged: acknowledged, prefix: from, remaining: remaining)
        let slot: UInt32
        if let reused = free.popLast() {
            slot = reused
            events[Int(slot)] = event
        } else {
            slot = UInt32(events.count)
            events.append(event)
        }
        streams.update(stream) { $0.open[offset] = slot }
        unfinished += 1
        return (EventToken(slot: slot), from)
    }

    public mutating func endReached(_ stream: StreamID, offset: Int64) {
        streams.update(stream) { state in
            if state.tracker == nil { state.tracker = OffsetTracker(start: offset) }
            state.tracker?.endReached(offset)
        }
    }

    /// Delivery number `index` of the event is with the brokers.
    public mutating func acknowledged(_ token: EventToken, index: Int) {
        let slot = Int(token.slot)
        guard slot < events.count, var event = events[slot], index < event.acknowledged.count, !event.acknowledged[index] else { return }
        events[slot] = nil
        event.acknowledged[index] = true
        event.remaining -= 1
        while event.prefix < event.acknowledged.count, event.acknowledged[event.prefix] { event.prefix += 1 }
        guard event.remaining == 0 else {
            events[slot] = event
            return
        }
        free.append(token.slot)
        guard !event.isDropped else { return }
        unfinished -= 1
        streams.update(event.stream) { state in
            state.open[event.offset] = nil
            state.tracker?.complete(event.offset)
        }
    }

    /// What to commit: the lowest unfinished event, with how far it has come.
    public func commits(onlyChanged: Bool) -> [PartitionCommit] {
        streams.keys.compactMap { stream in
            guard let state = streams[stream], let tracker = state.tracker else { return nil }
            var metadata = CommitMetadata(completed: tracker.completed)
            if let slot = state.open[tracker.watermark], let event = events[Int(slot)], event.prefix > 0 {
                metadata.cursor = event.endpointIDs[event.prefix - 1]
            } else if state.cursorOffset == tracker.watermark, tracker.next == tracker.watermark {
                metadata.cursor = state.cursor
            }
            let commit = PartitionCommit(
                stream: stream, offset: tracker.watermark, metadata: metadata.encoded(committed: tracker.watermark))
            return onlyChanged && commit == state.committed ? nil : commit
        }
    }

    public mutating func committed(_ commits: [PartitionCommit]) {
        for commit in commits { streams[commit.stream]?.committed = commit }
    }
}
