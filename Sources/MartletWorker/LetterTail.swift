internal import Kafka
internal import Martlet

/// What comes to the dead-letter topic while a job works on it: a letter that a newer one has replaced must not be removed with it. Blocks.
final class LetterTail {
    private let reader: TopicReader
    private let topic: String
    /// Of each partition that was looked at: read up to there, and the letters that came.
    private var positions: [Int32: Int64] = [:]
    private var newest: [Int32: [String: Int64]] = [:]

    init(_ kafka: KafkaSettings, _ topics: Topics) throws(KafkaError) {
        topic = topics.deadLetters
        reader = try TopicReader(kafka, prefetchKilobytes: 1_024, prefetchMessages: 1_000)
    }

    /// Reads what has come since the last look; the first begins at `start`, where the job's own reading of the partition ends.
    func look(_ partition: Int32, from start: Int64) throws {
        let at = TopicPartition(topic, partition)
        let position = positions[partition] ?? start
        let end = try reader.watermarks(at).high
        guard end > position else { return }
        try reader.read(at, from: position, below: end) { message in
            if let key = message.key, message.value != nil {
                newest[partition, default: [:]][String(decoding: key, as: UTF8.self)] = message.offset
            }
            return true
        }
        positions[partition] = end
    }

    func hasNewer(_ letter: StoredLetter) -> Bool { newest[letter.partition]?[letter.id].map { $0 > letter.offset } ?? false }
}
