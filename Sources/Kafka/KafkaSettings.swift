internal import CRdkafka

/// How to reach the brokers, and any librdkafka property that the user sets (SASL, TLS, ...).
public struct KafkaSettings: Sendable {
    /// `host:port[,host:port]...`
    public var brokers: String
    /// librdkafka's own names. What delivery rests on can't be set: see `reserved`.
    public var properties: [(name: String, value: String)]
    /// librdkafka's log lines: syslog level (3 error ... 7 debug) and text. Called on its threads.
    public var log: (@Sendable (Int, String) -> Void)?
    /// The longest wait for data at the end of a partition. A partition whose queue was full when the fetch went out waits as long for the others;
    /// so no longer than its queue lasts (1,200 records with 24 partitions: 16 ms at 75,000 a second). Low for the embedded cluster, whose
    /// latency it is.
    public var fetchWaitMilliseconds = 15

    public init(
        brokers: String, properties: [(name: String, value: String)] = [], log: (@Sendable (Int, String) -> Void)? = nil
    ) {
        (self.brokers, self.properties, self.log) = (brokers, properties, log)
    }

    /// Properties that hold the guarantees and are therefore ours alone.
    public static let reserved: Set<String> = [
        "bootstrap.servers", "metadata.broker.list", "acks", "request.required.acks", "enable.idempotence", "enable.auto.commit",
        "enable.auto.offset.store", "auto.offset.reset", "group.id", "group.instance.id", "partition.assignment.strategy", "partitioner",
        "transactional.id", "enable.partition.eof", "isolation.level", "message.timeout.ms", "delivery.timeout.ms", "retries",
        "message.send.max.retries", "session.timeout.ms", "max.poll.interval.ms", "heartbeat.interval.ms",
    ]

    /// Checks names and values without a connection. The error names the property.
    public func validate() throws(KafkaError) {
        guard !brokers.isEmpty else { throw KafkaError(.configuration, "no brokers given") }
        rd_kafka_conf_destroy(try makeConfiguration([]))
    }

    func makeConfiguration(_ own: [(String, String)]) throws(KafkaError) -> OpaquePointer {
        let configuration: OpaquePointer = rd_kafka_conf_new()
        do throws(KafkaError) {
            try Self.set(configuration, "bootstrap.servers", brokers)
            try Self.set(configuration, "client.id", "martlet")
            try Self.set(configuration, "socket.nagle.disable", "true")
            for (name, value) in own { try Self.set(configuration, name, value) }
            for (name, value) in properties {
                if Self.reserved.contains(name) {
                    throw KafkaError(
                        .configuration, "the Kafka property '\(name)' is set by Martlet itself, because delivery rests on it; remove it")
                }
                try Self.set(configuration, name, value)
            }
        } catch {
            rd_kafka_conf_destroy(configuration)
            throw error
        }
        // Without a sink librdkafka would write to standard error. It lives as long as the process: librdkafka's threads may log until the
        // handle is gone.
        rd_kafka_conf_set_opaque(configuration, Unmanaged.passRetained(LogSink(log ?? { _, _ in })).toOpaque())
        rd_kafka_conf_set_log_cb(configuration) { handle, level, _, text in
            guard let handle, let text, let opaque = rd_kafka_opaque(handle) else { return }
            Unmanaged<LogSink>.fromOpaque(opaque).takeUnretainedValue().write(Int(level), String(cString: text))
        }
        return configuration
    }

    private static func set(_ configuration: OpaquePointer, _ name: String, _ value: String) throws(KafkaError) {
        var reason = [CChar](repeating: 0, count: 512)
        let result = rd_kafka_conf_set(configuration, name, value, &reason, reason.count)
        guard result != RD_KAFKA_CONF_OK else { return }
        if result == RD_KAFKA_CONF_UNKNOWN { throw KafkaError(.configuration, "librdkafka has no property '\(name)'; check its spelling") }
        // The value may be a secret: only the name is printed.
        throw KafkaError(.configuration, "the Kafka property '\(name)' has a value that librdkafka refuses")
    }

    /// Makes a handle; takes over `configuration`.
    static func makeHandle(_ kind: rd_kafka_type_t, _ configuration: OpaquePointer) throws(KafkaError) -> OpaquePointer {
        var reason = [CChar](repeating: 0, count: 512)
        guard let handle = rd_kafka_new(kind, configuration, &reason, reason.count) else {
            rd_kafka_conf_destroy(configuration)
            throw KafkaError(
                .configuration, "Kafka client: \(String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))")
        }
        return handle
    }
}

private final class LogSink: Sendable {
    let write: @Sendable (Int, String) -> Void
    init(_ write: @escaping @Sendable (Int, String) -> Void) { self.write = write }
}
