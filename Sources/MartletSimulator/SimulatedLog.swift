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
}

/// An event, with the endpoints that must get it.
struct SimulatedEvent {
    var number: Int
    var offset: Int64
    var expected: [Int]
}

/// The model of Kafka: append-time stamps, offsets with gaps (transaction markers, compaction), retention, committed offsets with metadata.
struct SimulatedLog {
    struct Partition {
        /// In the order of their offsets; the first `removed` are gone.
        var records: [SimulatedRecord] = []
        var removed = 0
        var start: Int64 = 0
        var end: Int64 = 0
        var committed: (offset: Int64, metadata: String)?
    }

    private let partitionCount: Int
    private(set) var lanes: [Partition]
    var events: [(records: [SimulatedEvent], end: Int64, committed: (offset: Int64, metadata: String)?)]
    private(set) var health: [[HealthRecord]]
    private(set) var deadLetters: [Int: [DeadReason]] = [:]
    private(set) var poisonLetters = 0
    /// The last record of each delivery, by its sequence: an earlier one is carried on.
    private(set) var lastSequence: [Int: Int] = [:]
    private var sequence = 0

    init(topics: Int, partitions: Int) {
        partitionCount = partitions
        lanes = Array(repeating: Partition(), count: topics * partitions)
        events = Array(repeating: ([], 0, nil), count: partitions)
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

    func read(_ stream: StreamID, from offset: Int64) -> SimulatedRecord? { records(stream, from: offset).first }
}
