/// What fan-out has done of its partitions: an event is done when all its deliveries are acknowledged.
public struct FanOutProgress: Sendable {
    /// An event, for as long as some partition is owned without a break.
    public struct EventToken: Hashable, Sendable {
        public let slot: UInt32
        let era: UInt32

        private static let (slotBits, eraBits) = (UInt64(20), UInt64(12))

        init(slot: UInt32, era: UInt32) { (self.slot, self.era) = (slot, era) }

        /// And the number of its delivery, up to 2³²; as they were put together by `bits`.
        public static func from(bits: UInt64) -> (event: Self, index: Int) {
            let (slot, rest) = (UInt32(bits & (1 << slotBits - 1)), bits >> slotBits)
            return (Self(slot: slot, era: UInt32(rest & (1 << eraBits - 1))), Int(rest >> eraBits))
        }

        public func bits(index: Int) -> UInt64 { (UInt64(index) << Self.eraBits | UInt64(era)) << Self.slotBits | UInt64(slot) }

        /// Few pass between a record and its acknowledgement: they may come again.
        static func era(after era: UInt32) -> UInt32 { (era + 1) & (1 << UInt32(eraBits) - 1) }
    }

    /// In a slot; without deliveries where nothing is.
    private struct Event: Sendable {
        var stream = StreamID(topic: 0, partition: -1)
        var offset: Int64 = -1
        var count = 0
        /// In their order; not kept of a single one, which is done or isn't.
        var endpointIDs: [String] = []
        var isAcknowledged = Flags(count: 0)
        /// Deliveries acknowledged without a gap, from the first.
        var prefix = 0
        var remaining = 0
        /// Its partition is gone; acknowledgements may still come.
        var isDropped = false

        /// True when it was the last one.
        mutating func acknowledge(_ index: Int) -> Bool {
            isAcknowledged[index] = true
            remaining -= 1
            while prefix < count, isAcknowledged[prefix] { prefix += 1 }
            return remaining == 0
        }
    }

    /// A few need no memory of their own.
    private struct Flags: Sendable {
        private var first: UInt64 = 0
        private var others: [UInt64] = []

        init(count: Int) { if count > 64 { others = Array(repeating: 0, count: (count - 1) / 64) } }

        subscript(index: Int) -> Bool {
            get { (index < 64 ? first : others[index / 64 - 1]) & bit(index) != 0 }
            set {
                // Set, never taken back.
                if index < 64 { first |= bit(index) } else { others[index / 64 - 1] |= bit(index) }
            }
        }

        private func bit(_ index: Int) -> UInt64 { 1 << UInt64(index & 63) }
    }

    private struct Stream: Sendable {
        var tracker: OffsetTracker?
        var cursor: String?
        var cursorOffset: Int64?
        var committed: PartitionCommit?
    }

    public struct PartitionCommit: Sendable, Equatable {
        public var stream: StreamID
        public var offset: Int64
        public var metadata: String
        public init(stream: StreamID, offset: Int64, metadata: String) {
            (self.stream, self.offset, self.metadata) = (stream, offset, metadata)
        }
    }

    private var events: [Event] = []
    private var free: [UInt32] = []
    private var era: UInt32 = 0
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
        for stream in leaving { drop(stream) }
        guard streams.keys.isEmpty else { return }
        // Of what was dropped some may never have been produced: no acknowledgement frees its slot.
        (events, free, era) = ([], [], EventToken.era(after: era))
    }

    private mutating func drop(_ stream: StreamID) {
        for slot in events.indices where isOpen(slot, stream) {
            events[slot].isDropped = true
            unfinished -= 1
        }
        streams[stream] = nil
    }

    /// Whether the slot's event is unfinished, and of that partition. Looked through where it is asked: seldom, and few are open at once.
    private func isOpen(_ slot: Int, _ stream: StreamID) -> Bool {
        events[slot].remaining > 0 && !events[slot].isDropped && events[slot].stream == stream
    }

    /// The log begins above, or ends below, where reading should have gone on: it goes on at `offset`, whatever was remembered.
    public mutating func restart(_ stream: StreamID, at offset: Int64) {
        guard let state = streams[stream] else { return }
        if let next = state.tracker?.next, offset >= next {
            streams[stream]?.tracker?.endReached(offset)
        } else {
            drop(stream)
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
            state.tracker.startIfNew(at: offset)
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
        let slot = free.popLast() ?? UInt32(events.count)
        if slot == events.count { events.append(Event()) }
        let count = endpointIDs.count
        events[Int(slot)] = Event(
            stream: stream, offset: offset, count: count, endpointIDs: count > 1 ? endpointIDs : [], isAcknowledged: Flags(count: count),
            prefix: from, remaining: remaining)
        for index in 0..<from { events[Int(slot)].isAcknowledged[index] = true }
        unfinished += 1
        return (EventToken(slot: slot, era: era), from)
    }

    /// False: all that was owned then was let go.
    public func isCurrent(_ token: EventToken) -> Bool { token.era == era }

    public mutating func endReached(_ stream: StreamID, offset: Int64) {
        streams.update(stream) { state in
            state.tracker.startIfNew(at: offset)
            state.tracker?.endReached(offset)
        }
    }

    /// Delivery number `index` of the event is with the brokers.
    public mutating func acknowledged(_ token: EventToken, index: Int) {
        let slot = Int(token.slot)
        guard isCurrent(token), slot < events.count, index < events[slot].count, !events[slot].isAcknowledged[index] else {
            return
        }
        guard events[slot].acknowledge(index) else { return }
        let (stream, offset, isDropped) = (events[slot].stream, events[slot].offset, events[slot].isDropped)
        events[slot] = Event()
        free.append(token.slot)
        guard !isDropped else { return }
        unfinished -= 1
        streams.update(stream) { _ = $0.tracker?.complete(offset) }
    }

    /// What to commit: the lowest unfinished event, with how far it has come.
    public func commits(onlyChanged: Bool) -> [PartitionCommit] {
        streams.keys.compactMap { stream in
            guard let state = streams[stream], let tracker = state.tracker else { return nil }
            var metadata = CommitMetadata(completed: tracker.completed)
            let slot = tracker.isIdle ? nil : events.indices.first { events[$0].offset == tracker.watermark && isOpen($0, stream) }
            if let slot, events[slot].prefix > 0 {
                metadata.cursor = events[slot].endpointIDs[events[slot].prefix - 1]
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
