internal import JSON
public import Kafka
public import Martlet

/// An endpoint's state as the topics tell it.
public struct EndpointReport: Sendable {
    public var id: String
    /// nil: not registered, or its record can't be read.
    public var endpoint: Endpoint?
    public var problem: String?
    public var health: HealthRecord?
    /// nil: not asked for.
    public var backlog: EndpointBacklog?
    /// Records of its home partition of the deliveries topic that nobody has taken yet, other endpoints' included.
    public var partitionLag: Int64?
    public var partition: Int32
    /// How far the registry had been read; 0: it isn't registered.
    public var registryOffset: Int64

    /// Whether deliveries flow: neither an operator nor a worker has stopped them.
    public var isEnabled: Bool { endpoint?.state == .enabled && disabled == nil }

    /// Why a worker disabled it by itself; nil: it didn't, or an operator's later edit cancelled it.
    public var disabled: HealthRecord.Disabled? {
        guard let endpoint, let disabled = health?.disabled, disabled.endpointVersion >= endpoint.version,
            disabled.atMilliseconds >= endpoint.createdMilliseconds
        else { return nil }
        return disabled
    }
}

/// Reads endpoints' reports from the topics, without a worker. Blocks.
public enum EndpointReports {
    /// `only`: this endpoint, registered or not; nil: all that are registered. `withBacklog`: also reads what waits, from the committed
    /// offsets on.
    public static func read(
        _ kafka: KafkaSettings, _ topics: Topics, only id: String? = nil, withBacklog: Bool
    ) throws -> [EndpointReport] {
        let counts = try TopicAdmin(kafka).describe().partitions
        guard let partitions = counts[topics.deliveries] else {
            throw KafkaError(.unknownTopic, "the topic \(topics.deliveries) doesn't exist")
        }
        let rows = try RegistryStore(kafka, topics).load()
        var reports: [String: EndpointReport] = [:]
        for name in id.map({ [$0] }) ?? Array(rows.keys) {
            let home = Murmur2.partition(of: Array(name.utf8), count: partitions)
            reports[name] = EndpointReport(
                id: name, endpoint: rows[name]?.endpoint, problem: rows[name]?.problem, partition: home,
                registryOffset: rows[name].map { $0.offset + 1 } ?? 0)
        }
        let homes = id == nil ? Array(0..<Int32(partitions)) : reports.values.map(\.partition)
        try TopicReader.scan(kafka, homes.map { TopicPartition(topics.health, $0) }) { message in
            guard let key = message.key, let value = message.value else { return }
            let name = String(decoding: key, as: UTF8.self)
            guard reports[name]?.partition == message.partition, let json = try? JSONValue.parse(value),
                let health = HealthRecord(json: json)
            else { return }
            reports[name]?.health = health
        }
        if withBacklog { try readBacklog(kafka, topics, counts.keys.sorted(), homes, &reports) }
        return reports.values.sorted { $0.id < $1.id }
    }

    private static func readBacklog(
        _ kafka: KafkaSettings, _ topics: Topics, _ existing: [String], _ homes: [Int32], _ reports: inout [String: EndpointReport]
    ) throws {
        let reader = try TopicReader(kafka, prefetchKilobytes: 4_096, group: topics.deliveryGroup)
        for name in Array(reports.keys) { reports[name]?.backlog = EndpointBacklog() }
        let laneTopics = [topics.deliveries, topics.replay] + existing.filter { $0.hasPrefix(topics.retryPrefix) }
        var lags: [Int32: Int64] = [:]
        for partition in homes {
            for start in try reader.committed(laneTopics.map { TopicPartition($0, partition) }) {
                let (low, high) = try reader.watermarks(start.at)
                let committed = max(low, start.offset ?? low)
                if start.at.topic == topics.deliveries { lags[partition] = high - committed }
                // Without holds and lists that only a newer version can read, the count is an upper bound.
                let known = try? PartitionBacklog(committed: committed, metadata: start.offset == committed ? start.metadata : "")
                var backlog = try known ?? PartitionBacklog(committed: committed, metadata: "")
                try reader.read(start.at, from: max(low, backlog.start), below: high) { message in
                    guard let key = message.key else { return true }
                    let name = String(decoding: key, as: UTF8.self)
                    guard backlog.waits(offset: message.offset, endpointID: name), reports[name] != nil,
                        let headers = try? DeliveryHeaders(headers: { body in message.forEachHeader(body) })
                    else { return true }
                    reports[name]?.backlog?.add(headers)
                    return true
                }
            }
        }
        reports = reports.mapValues { report in
            var report = report
            report.partitionLag = lags[report.partition]
            return report
        }
    }
}
