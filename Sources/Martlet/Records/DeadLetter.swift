/// Composes records of the dead-letter topic.
public enum DeadLetter {
    /// What is kept of a body that is too large for the topic.
    public static let cutBytes = 65_536
    /// A larger body is cut from the start: the topic's limit is 2 MiB, headers and framing included.
    public static let bodyLimitBytes = 1_900_000
    /// All headers of a poison letter that came with the record.
    static let poisonHeaderLimitBytes = 4_096

    public struct Letter: Sendable {
        /// The key: delivery id or poison id.
        public var key: String
        public var headers: [(name: String, value: [UInt8])]
        public var body: [UInt8]?
    }

    /// A delivery that ends. `delivery` carries its attempts, last status and last error already.
    public static func letter(
        _ delivery: DeliveryHeaders, reason: DeadReason, body: UnsafeRawBufferPointer?,
        source: (topic: String, partition: Int32, offset: Int64)
    ) -> Letter {
        var headers = delivery
        headers.reason = reason.rawValue
        let cut = reason == .oversize || (body?.count ?? 0) > bodyLimitBytes
        var encoded = headers.encoded + coordinates(source)
        let bytes = body.map { cut ? Array($0.prefix(cutBytes)) : Array($0) }
        if cut, let body, body.count > cutBytes { encoded.append(("martlet-truncated", Array(String(body.count).utf8))) }
        return Letter(key: delivery.deliveryID, headers: encoded, body: bytes)
    }

    /// A record that is no event or no delivery, with what could be read of it.
    public static func poison(
        _ reason: String, headers given: [(name: String, value: [UInt8])], body: UnsafeRawBufferPointer?,
        source: (topic: String, partition: Int32, offset: Int64), nowMilliseconds: Int64
    ) -> Letter {
        var headers: [(name: String, value: [UInt8])] = [
            ("martlet-reason", Array(DeadReason.poison.rawValue.utf8)), ("martlet-last-error", Array(DeliveryHeaders.capped(reason).utf8)),
            ("martlet-origin", Array("\(source.topic)/\(source.partition)/\(source.offset)".utf8)),
            ("martlet-first-ms", Array(String(nowMilliseconds).utf8)),
        ]
        var room = poisonHeaderLimitBytes
        for header in given where header.name.hasPrefix("ce_") || header.name == "content-type" {
            room -= header.name.utf8.count + header.value.count
            guard room >= 0 else { break }
            headers.append(header)
        }
        headers += coordinates(source)
        let cut = (body?.count ?? 0) > bodyLimitBytes
        if cut, let body { headers.append(("martlet-truncated", Array(String(body.count).utf8))) }
        let key = Identifiers.poison(topic: source.topic, partition: source.partition, offset: source.offset)
        return Letter(key: key, headers: headers, body: body.map { cut ? Array($0.prefix(cutBytes)) : Array($0) })
    }

    private static func coordinates(_ source: (topic: String, partition: Int32, offset: Int64)) -> [(name: String, value: [UInt8])] {
        [
            ("__connect.errors.topic", Array(source.topic.utf8)), ("__connect.errors.partition", Array(String(source.partition).utf8)),
            ("__connect.errors.offset", Array(String(source.offset).utf8)),
        ]
    }
}
