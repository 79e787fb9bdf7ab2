public import JSON

/// A record of the dead-letter topic, without its body.
public struct StoredLetter: Sendable {
    public var id: String
    public var topic: String
    public var partition: Int32
    public var offset: Int64
    /// The brokers' time of the append: when it died. Unix milliseconds.
    public var diedMilliseconds: Int64
    public var bodyBytes: Int
    /// As written by whoever gave up on it; a record that something else put here has none.
    public var reason: String?
    /// Size of the body before it was cut.
    public var truncatedFrom: Int?
    /// nil: poison, or a record that isn't Martlet's; it can be shown and removed, but not replayed.
    public var delivery: DeliveryHeaders?
    /// Every header, in order.
    public var headers: [(name: String, value: [UInt8])]

    public init(
        id: String, topic: String, partition: Int32, offset: Int64, diedMilliseconds: Int64, bodyBytes: Int,
        headers: [(name: String, value: [UInt8])]
    ) {
        (self.id, self.topic, self.partition, self.offset) = (id, topic, partition, offset)
        (self.diedMilliseconds, self.bodyBytes, self.headers) = (diedMilliseconds, bodyBytes, headers)
        reason = text("martlet-reason")
        truncatedFrom = text("martlet-truncated").flatMap { Int($0) }
        delivery = try? DeliveryHeaders { body in
            for header in headers { Array(header.name.utf8).withUnsafeBytes { name in header.value.withUnsafeBytes { body(name, $0) } } }
        }
        if reason == DeadReason.poison.rawValue { delivery = nil }
    }

    public func text(_ name: String) -> String? {
        headers.last { $0.name == name }.map { String(decoding: $0.value, as: UTF8.self) }
    }

    /// `topic/partition/offset` of this record: what a replayed delivery carries as `martlet-replayed-from`.
    public var coordinates: String { "\(topic)/\(partition)/\(offset)" }

    public var tenant: String? { text("ce_tenant") }
    public var type: String? { text("ce_type") }

    /// For `dlq list -o json` and its like.
    public var json: JSONValue {
        func string(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }
        func number(_ value: Int?) -> JSONValue { value.map { .integer($0) } ?? .null }
        let first = text("martlet-first-ms").flatMap { Int($0) }
        return .object([
            .init("id", .string(id)), .init("reason", string(reason)), .init("tenant", string(tenant)),
            .init("endpointId", string(delivery?.endpointID)), .init("messageId", string(delivery?.messageID)), .init("type", string(type)),
            .init("attempts", number(delivery?.attempt)), .init("lastStatus", number(delivery?.lastStatus)),
            .init("lastError", string(text("martlet-last-error"))), .init("firstMs", number(first)),
            .init("diedMs", .integer(diedMilliseconds)), .init("origin", string(text("martlet-origin"))),
            .init("bodyBytes", .integer(bodyBytes)), .init("truncatedFrom", number(truncatedFrom)), .init("at", .string(coordinates)),
        ])
    }
}
