internal import CRdkafka
internal import Glibc

/// librdkafka's lists of partitions with offsets and metadata. Whoever makes one destroys it.
enum PartitionList {
    static func make(
        _ partitions: [PartitionOffset], _ offset: (Int64?) -> Int64
    ) -> UnsafeMutablePointer<rd_kafka_topic_partition_list_t> {
        let list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t> = rd_kafka_topic_partition_list_new(Int32(partitions.count))
        for partition in partitions {
            let entry = rd_kafka_topic_partition_list_add(list, partition.at.topic, partition.at.partition)
            entry?.pointee.offset = offset(partition.offset)
            if !partition.metadata.isEmpty {
                // Freed by librdkafka with the list.
                entry?.pointee.metadata = UnsafeMutableRawPointer(strdup(partition.metadata))
                entry?.pointee.metadata_size = partition.metadata.utf8.count
            }
        }
        return list
    }

    static func read(_ list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?) -> [PartitionOffset] {
        guard let list = list?.pointee else { return [] }
        return (0..<Int(list.cnt)).map { index in
            let entry = list.elems[index]
            let metadata = UnsafeRawBufferPointer(start: entry.metadata, count: entry.metadata == nil ? 0 : entry.metadata_size)
            return PartitionOffset(
                TopicPartition(String(cString: entry.topic), entry.partition), offset: entry.offset >= 0 ? entry.offset : nil,
                metadata: String(decoding: metadata, as: UTF8.self))
        }
    }

    static func firstError(_ list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?) -> rd_kafka_resp_err_t {
        guard let list = list?.pointee else { return RD_KAFKA_RESP_ERR_NO_ERROR }
        for index in 0..<Int(list.cnt) where list.elems[index].err != RD_KAFKA_RESP_ERR_NO_ERROR { return list.elems[index].err }
        return RD_KAFKA_RESP_ERR_NO_ERROR
    }
}

extension ConsumerHandle {
    /// What its group has committed, with metadata.
    func committed(_ partitions: [TopicPartition], timeoutMilliseconds: Int) throws(KafkaError) -> [PartitionOffset] {
        let list = PartitionList.make(partitions.map { PartitionOffset($0, offset: nil) }) { _ in Int64(RD_KAFKA_OFFSET_INVALID) }
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_committed(pointer, list, Int32(timeoutMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw KafkaError(error, "committed offsets") }
        let partial = PartitionList.firstError(list)
        guard partial == RD_KAFKA_RESP_ERR_NO_ERROR else { throw KafkaError(partial, "committed offsets") }
        return PartitionList.read(list)
    }
}
