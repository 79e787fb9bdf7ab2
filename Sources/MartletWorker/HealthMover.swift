public import Kafka
public import Martlet

/// After growth: the last health record of each endpoint is written to the endpoint's new home partition.
public enum HealthMover {
    /// Returns how many records moved. Blocks. `partitions`: the new count, which the topic has already.
    public static func moveHome(_ kafka: KafkaSettings, _ topics: Topics, partitions: Int) throws -> Int {
        var last: [[UInt8]: (partition: Int32, value: [UInt8]?)] = [:]
        try TopicReader.scan(kafka, (0..<Int32(partitions)).map { TopicPartition(topics.health, $0) }) { message in
            guard let key = message.key.map({ Array($0) }) else { return }
            last[key] = (message.partition, message.value.map { Array($0) })
        }
        let producer = try Producer(kafka)
        var moved = 0
        var failure: KafkaError?
        for key in last.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            guard let (partition, value) = last[key], let value else { continue }
            let home = Murmur2.partition(of: key, count: partitions)
            guard home != partition else { continue }
            // The copy first: a crash between the two leaves one too many, never one too few.
            for record in [
                OutgoingRecord(topic: topics.health, partition: home, key: key, value: value),
                OutgoingRecord(topic: topics.health, partition: partition, key: key, value: nil),
            ] {
                while producer.produce(record, token: 0) == .full {
                    producer.drainReports(waitMilliseconds: 50) { failure = $0.error ?? failure }
                }
            }
            moved += 1
        }
        _ = producer.flush(milliseconds: 30_000) { failure = $0.error ?? failure }
        if let failure { throw failure }
        return moved
    }
}
