internal import Cryptography

/// Deterministic ids: a duplicate caused by a crash anywhere carries the same id, and the receiver can drop it.
public enum Identifiers {
    /// `kind`, and the first 16 bytes of SHA-256 over, for each field, its big-endian u32 length and its UTF-8 bytes; in base32, 26 characters.
    static func hash(_ kind: String, _ fields: [String]) -> String {
        var out: [UInt8] = []
        out.reserveCapacity(32)
        out.append(contentsOf: kind.utf8)
        let digest = SHA256.inlineDigest(lengthPrefixed(fields).span)
        Base32.append(digest.span.extracting(first: 16), to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    /// The `webhook-id` of a delivery, as UTF-8. What is hashed lies in `out` for that long: the same array serves both.
    static func appendMessage(of delivery: DeliveryHeaders, to out: inout [UInt8]) {
        let start = out.count
        appendLengthPrefixed(to: &out) { delivery.append(.tenant, to: &$0) }
        appendLengthPrefixed(to: &out) { delivery.append(.source, to: &$0) }
        appendLengthPrefixed(to: &out) { delivery.append(.eventID, to: &$0) }
        let digest = SHA256.inlineDigest(out.span.extracting(start..<out.count))
        out.removeLast(out.count - start)
        out.append("msg_")
        Base32.append(digest.span.extracting(first: 16), to: &out)
    }

    /// For each field its big-endian u32 length and its UTF-8 bytes.
    static func lengthPrefixed(_ fields: [String]) -> [UInt8] {
        var input: [UInt8] = []
        input.reserveCapacity(96)
        for field in fields { appendLengthPrefixed(to: &input) { $0.append(contentsOf: field.utf8) } }
        return input
    }

    /// What `write` appends, behind its length.
    private static func appendLengthPrefixed(to input: inout [UInt8], _ write: (inout [UInt8]) -> Void) {
        let start = input.count
        for _ in 0..<4 { input.append(0) }
        write(&input)
        let length = UInt32(input.count - start - 4)
        for place in 0..<4 { input[start + place] = UInt8(truncatingIfNeeded: length >> UInt32(24 - 8 * place)) }
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
    public static func isName(_ text: some StringProtocol) -> Bool {
        (1...64).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                $0 &- 97 < 26 || $0 &- 65 < 26 || $0 &- 48 < 10 || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-")
            }
    }
}
