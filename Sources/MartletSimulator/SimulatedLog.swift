internal import Martlet

/// A record in the model of a lane topic.
struct SimulatedRecord {
    var facts: DeliveryFacts
    /// Which delivery it is, whatever record carries it; -1: no delivery at all (poison).
    var delivery: Int
    var appendWall: Int64
    var rewrites = 0
    /// Its place in the order of all appends.
    var sequence = 0
    var offset: Int64 = 0
    /// In a transaction that is open, or was aborted: to readers it isn't there.
    var isHidden = false
}

/// An event, with the endpoints that must get it.
struct SimulatedEvent {
    var number: Int
    var offset: Int64
    var expected: [Int]
}

/// The model of Kafka: append-time stamps, offsets with gaps (transaction markers, compaction), retention, transactions as readers of
/// committed records see them, committed offsets with metadata.
struct SimulatedLog {
    struct Events {
        var records: [SimulatedEvent] = []
        var start: Int64 = 0
        var end: Int64 = 0
        var committed: (offset: Int64, metadata: String)?
    }

    struct Partition {
        /// In the order of their offsets; the first `removed` are gone.
        var records: [SimulatedRecord] = []
        var removed = 0
        var start: Int64 = 0
        var end: Int64 = 0
        var committed: (offset: Int64, metadata: String)?
        /// Where the open transaction begins: nobody reads on from there.
        var openFrom: Int64?
        var stableEnd: Int64 { openFrom ?? end }
    }

    private let partitionCount: Int
    private(set) var lanes: [Partition]
    var events: [Events]
    private(set) var health: [[HealthRecord]]
    private(set) var deadLetters: [Int: [DeadReason]] = [:]
    private(set) var poisonLetters = 0
    /// The last record of each delivery, by its sequence: an earlier one is carried on.
    private(set) var lastSequence: [Int: Int] = [:]
    private var sequence = 0

    init(topics: Int, partitions: Int) {
        partitionCount = partitions
        lanes = Array(repeating: Partition(), count: topics * partitions)
        events = Array(repeating: Events(), count: partitions)
        health = Array(repeating: [], count: partitions)
    }

    private func index(_ stream: StreamID) -> Int { stream.topic * partitionCount + Int(stream.partition) }
    subscript(_ stream: StreamID) -> Partition { lanes[index(stream)] }

    /// `gap`: offsets that hold no record before it.
    mutating func append(_ given: SimulatedRecord, to stream: StreamID, gap: Int64, at wall: Int64) {
        let place = index(stream)
        var record = given
        sequence += 1
        record.sequence = sequence
        record.offset = lanes[place].end + gap
        record.appendWall = wall
        if record.delivery >= 0 { lastSequence[record.delivery] = sequence }
        lanes[place].records.append(record)
        lanes[place].end = record.offset + 1
    }

    /// In a transaction that is still open.
    mutating func appendOpen(_ given: SimulatedRecord, to stream: StreamID, gap: Int64, at wall: Int64) {
        let before = lastSequence[given.delivery]
        append(given, to: stream, gap: gap, at: wall)
        lastSequence[given.delivery] = before
        let place = index(stream)
        lanes[place].records[lanes[place].records.count - 1].isHidden = true
        lanes[place].openFrom = lanes[place].openFrom ?? lanes[place].end - 1
    }

    /// Commits or aborts what is open: a marker takes an offset, and what was committed becomes visible.
    mutating func endTransaction(topic: Int, commits: Bool) {
        for place in topic * partitionCount..<(topic + 1) * partitionCount {
            guard let from = lanes[place].openFrom else { continue }
            lanes[place].openFrom = nil
            lanes[place].end += 1
            guard commits else { continue }
            for number in lanes[place].removed..<lanes[place].records.count where lanes[place].records[number].offset >= from {
                // From now on it carries the delivery on, whatever was appended while the transaction was open.
                sequence += 1
                lanes[place].records[number].isHidden = false
                lanes[place].records[number].sequence = sequence
                lastSequence[lanes[place].records[number].delivery] = sequence
            }
        }
    }

    mutating func removeLetter(_ delivery: Int) { deadLetters[delivery] = nil }

    mutating func appendMarker(_ stream: StreamID) { lanes[index(stream)].end += 1 }

    mutating func publish(_ event: SimulatedEvent, to partition: Int, gap: Int64) {
        var event = event
        event.offset = events[partition].end + gap
        events[partition].records.append(event)
        events[partition].end = event.offset + 1
    }

    mutating func bury(_ delivery: Int, _ reason: DeadReason) {
        if delivery < 0 { poisonLetters += 1 } else { deadLetters[delivery, default: []].append(reason) }
    }
    mutating func write(_ record: HealthRecord, _ partition: Int) { health[partition].append(record) }
    mutating func commit(_ stream: StreamID, _ offset: Int64, _ metadata: String) { lanes[index(stream)].committed = (offset, metadata) }

    /// Retention: the log begins at `start` now. Returns what was removed.
    mutating func remove(_ stream: StreamID, below start: Int64) -> ArraySlice<SimulatedRecord> {
        let place = index(stream)
        let first = lanes[place].removed
        while lanes[place].removed < lanes[place].records.count, lanes[place].records[lanes[place].removed].offset < start {
            lanes[place].removed += 1
        }
        lanes[place].start = max(lanes[place].start, start)
        return lanes[place].records[first..<lanes[place].removed]
    }

    /// What retention has removed of it.
    func lanesRemoved(_ stream: StreamID) -> ArraySlice<SimulatedRecord> {
        lanes[index(stream)].records.prefix(lanes[index(stream)].removed)
    }

    /// The records at or above `offset`.
    func records(_ stream: StreamID, from offset: Int64) -> ArraySlice<SimulatedRecord> {
        let records = lanes[index(stream)].records
        var (low, high) = (lanes[index(stream)].removed, records.count)
        while low < high {
            let middle = (low + high) / 2
            if records[middle].offset < offset { low = middle + 1 } else { high = middle }
        }
        return records[low...]
    }

    /// The next one that a reader of committed records gets.
    func read(_ stream: StreamID, from offset: Int64) -> SimulatedRecord? {
        let end = self[stream].stableEnd
        return records(stream, from: offset).first { !$0.isHidden }.flatMap { $0.offset < end ? $0 : nil }
    }
}
