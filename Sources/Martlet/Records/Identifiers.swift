internal import Cryptography

/// Deterministic ids: a duplicate caused by a crash anywhere carries the same id, and the receiver can drop it.
public enum Identifiers {
    /// `kind`, and the first 16 bytes of SHA-256 over, for each field, its big-endian u32 length and its UTF-8 bytes; in base32, 26 characters.
    static func hash(_ kind: StaticString, _ fields: [String]) -> String {
        var out: [UInt8] = []
        append(kind, digest { hash in for field in fields { hash.add(Array(field.utf8).span) } }, to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    typealias Digest = InlineArray<32, UInt8>

    /// Of the fields that `add` adds.
    @inline(__always)
    private static func digest(_ add: (inout SHA256Stream) -> Void) -> Digest {
        var hash = SHA256Stream()
        add(&hash)
        return hash.finish()
    }

    private static func append(_ kind: StaticString, _ digest: Digest, to out: inout [UInt8]) {
        out.append(kind)
        Base32.append(digest.span.extracting(first: 16), to: &out)
    }

    /// Of a message's id.
    static func messageDigest(of event: HeaderTexts) -> Digest {
        digest { hash in
            event.with(.tenant) { hash.add($0) }
            event.with(.source) { hash.add($0) }
            event.with(.eventID) { hash.add($0) }
        }
    }

    /// The `webhook-id` of an event's deliveries, as UTF-8.
    static func appendMessage(_ digest: Digest, to out: inout [UInt8]) { append("msg_", digest, to: &out) }

    static func appendDelivery(messageID: Span<UInt8>, endpointID: Span<UInt8>, to out: inout [UInt8]) {
        let digest = digest { hash in
            hash.add(messageID)
            hash.add(endpointID)
        }
        append("dlv_", digest, to: &out)
    }

    /// For each field its big-endian u32 length and its UTF-8 bytes.
    static func lengthPrefixed(_ fields: [String]) -> [UInt8] {
        fields.flatMap { field in (0..<4).map { UInt8(truncatingIfNeeded: field.utf8.count >> (24 - 8 * $0)) } + Array(field.utf8) }
    }

    /// The `webhook-id`. `message(tenant: "default", source: "/shop", eventID: "a1")` is `msg_ugl5w4bk2xf6o6ltyd4sngql7u`.
    public static func message(tenant: String, source: String, eventID: String) -> String { hash("msg_", [tenant, source, eventID]) }
    public static func delivery(messageID: String, endpointID: String) -> String { hash("dlv_", [messageID, endpointID]) }
    public static func poison(topic: String, partition: Int32, offset: Int64) -> String {
        hash("poi_", [topic, String(partition), String(offset)])
    }
    /// A new endpoint id: `ep_` and 26 random characters.
    public static func newEndpoint() -> String { "ep_" + Base32.encode(SecureRandom.bytes(16)) }

    /// An event id that depends on `parts` alone.
    public static func event(_ parts: [String]) -> String { hash("evt_", parts) }

    /// An id for an event whose publisher gave none: not repeatable.
    public static func newEventID() -> String { "evt_" + Base32.encode(SecureRandom.bytes(16)) }

    /// Tenants and chosen ids: `[A-Za-z0-9_-]{1,64}`.
    public static func isName(_ text: some StringProtocol) -> Bool { isName(Array(text.utf8).span) }

    static func isName(_ text: Span<UInt8>) -> Bool {
        guard (1...64).contains(text.count) else { return false }
        for index in text.indices {
            let byte = text[index]
            let isNamed = (byte | 0x20) &- 97 < 26 || byte &- 48 < 10 || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-")
            guard isNamed else { return false }
        }
        return true
    }
}

extension SHA256Stream {
    /// A field, behind its length as a big-endian u32.
    fileprivate mutating func add(_ field: Span<UInt8>) {
        let length = InlineArray<4, UInt8> { UInt8(truncatingIfNeeded: field.count >> (24 - 8 * $0)) }
        update(length.span)
        update(field)
    }
}
