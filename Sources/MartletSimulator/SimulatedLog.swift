internal import Martlet

/// A record in the model of the log.
struct SimulatedRecord {
    var facts: DeliveryFacts
    /// Which delivery it is, whatever record carries it.
    var delivery: Int
    var appendWall: Int64
    /// Its place in the order of all appends.
    var sequence = 0
}

/// The model of Kafka: append-time stamps, offsets with gaps, committed offsets with metadata.
struct SimulatedLog {
    private(set) var partitions: [StreamID: [(offset: Int64, record: SimulatedRecord)]] = [:]
    private var nextOffset: [StreamID: Int64] = [:]
    private(set) var committed: [StreamID: (offset: Int64, metadata: String)] = [:]
    private(set) var deadLetters: [Int: [DeadReason]] = [:]
    /// The last record of each delivery, by its sequence: an earlier one is carried on.
    private(set) var lastSequence: [Int: Int] = [:]
    private var sequence = 0
    private(set) var health: [Int32: [HealthRecord]] = [:]

    /// `gap`: offsets that hold no record (a transaction marker) before it.
    mutating func append(_ record: SimulatedRecord, to stream: StreamID, gap: Int64) {
        let offset = (nextOffset[stream] ?? 0) + gap
        var record = record
        sequence += 1
        record.sequence = sequence
        lastSequence[record.delivery] = sequence
        partitions[stream, default: []].append((offset, record))
        nextOffset[stream] = offset + 1
    }

    mutating func bury(_ delivery: Int, _ reason: DeadReason) { deadLetters[delivery, default: []].append(reason) }
    mutating func write(_ record: HealthRecord, _ partition: Int32) { health[partition, default: []].append(record) }
    mutating func commit(_ stream: StreamID, _ offset: Int64, _ metadata: String) { committed[stream] = (offset, metadata) }

    func end(_ stream: StreamID) -> Int64 { nextOffset[stream] ?? 0 }

    /// The first record at or above `offset`.
    func read(_ stream: StreamID, from offset: Int64) -> (offset: Int64, record: SimulatedRecord)? {
        let index = index(stream, offset)
        return partitions[stream].flatMap { index < $0.count ? $0[index] : nil }
    }

    /// The records at or above `offset`.
    func records(_ stream: StreamID, from offset: Int64) -> ArraySlice<(offset: Int64, record: SimulatedRecord)> {
        (partitions[stream] ?? [])[index(stream, offset)...]
    }

    private func index(_ stream: StreamID, _ offset: Int64) -> Int {
        guard let records = partitions[stream] else { return 0 }
        var (low, high) = (0, records.count)
        while low < high {
            let middle = (low + high) / 2
            if records[middle].offset < offset { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
