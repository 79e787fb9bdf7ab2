public import Kafka
public import Martlet

/// Reads the live letters of the dead-letter topic, a partition at a time: once for the keys, once for the letters. Blocks.
public final class DeadLetterReader {
    private let reader: TopicReader
    private let topic: String
    public let partitions: [Int32]
    /// Offsets read so far and to be read, in both readings of all partitions: for progress.
    public private(set) var read: Int64 = 0
    public private(set) var toRead: Int64 = 0
    /// Most bytes that the index of one partition took.
    public private(set) var indexBytes = 0

    public init(_ kafka: KafkaSettings, _ topics: Topics) throws {
        topic = topics.deadLetters
        guard let count = try TopicAdmin(kafka).describe().partitions[topic] else {
            throw KafkaError(.unknownTopic, "the topic \(topic) doesn't exist")
        }
        partitions = Array(0..<Int32(count))
        reader = try TopicReader(kafka, prefetchKilobytes: 4_096, prefetchMessages: 10_000)
    }

    /// Where each partition ended when its last reading began.
    public private(set) var ends: [Int32: Int64] = [:]

    /// Where each partition ends now.
    public func currentEnds() throws -> [Int32: Int64] {
        var ends: [Int32: Int64] = [:]
        for partition in partitions { ends[partition] = try reader.watermarks(TopicPartition(topic, partition)).high }
        return ends
    }

    /// Calls `body` for every live letter until it returns false. `from`: only letters from these offsets on, partitions without one from
    /// their beginning. Returns where it ended, for the next call.
    public func forEachLive(
        from starts: [Int32: Int64] = [:], only wanted: [Int32]? = nil, _ body: (StoredLetter, KafkaMessage) throws -> Bool
    ) throws -> [Int32: Int64] {
        var ranges: [Int32: (start: Int64, end: Int64)] = [:]
        for partition in wanted ?? partitions {
            let (low, high) = try reader.watermarks(TopicPartition(topic, partition))
            ranges[partition] = (max(low, starts[partition] ?? low), high)
        }
        ends = ranges.mapValues(\.end)
        read = 0
        toRead = ranges.values.reduce(0) { $0 + max(0, $1.end - $1.start) * 2 }
        for (partition, range) in ranges.sorted(by: { $0.key < $1.key }) {
            guard try forEachLive(partition, range.start, range.end, body) else { break }
        }
        return ends
    }

    private func forEachLive(
        _ partition: Int32, _ start: Int64, _ end: Int64, _ body: (StoredLetter, KafkaMessage) throws -> Bool
    ) throws -> Bool {
        let at = TopicPartition(topic, partition)
        var index = LiveLetters()
        let before = read
        try reader.read(at, from: start, below: end) { message in
            read = before + message.offset + 1 - start
            guard let key = message.key else { return true }
            index.saw(key: key, offset: message.offset, isTombstone: message.value == nil)
            return true
        }
        indexBytes = max(indexBytes, index.bytes)
        read = before + max(0, end - start)
        var goesOn = true
        guard index.live > 0 else {
            read += max(0, end - start)
            return true
        }
        try reader.read(at, from: start, below: end) { message in
            read = before + max(0, end - start) + message.offset + 1 - start
            guard message.value != nil, let key = message.key, index.isLive(key: key, offset: message.offset) else { return true }
            goesOn = try body(Self.letter(message, key), message)
            return goesOn
        }
        read = before + max(0, end - start) * 2
        return goesOn
    }

    /// The live letter with this id; nil: there is none.
    public func letter(_ id: String) throws -> (StoredLetter, KafkaMessage)? {
        let home = Murmur2.partition(of: Array(id.utf8), count: partitions.count)
        // Before the topic grew its home was another one.
        for wanted in [[home], partitions.filter { $0 != home }] {
            var found: (StoredLetter, KafkaMessage)?
            _ = try forEachLive(only: wanted) { letter, message in
                guard letter.id == id else { return true }
                found = (letter, message)
                return false
            }
            if let found { return found }
        }
        return nil
    }

    private static func letter(_ message: KafkaMessage, _ key: UnsafeRawBufferPointer) -> StoredLetter {
        StoredLetter(
            id: String(decoding: key, as: UTF8.self), topic: message.topic, partition: message.partition, offset: message.offset,
            diedMilliseconds: message.timestampMilliseconds ?? 0, bodyBytes: message.value?.count ?? 0, headers: message.headers)
    }
}
