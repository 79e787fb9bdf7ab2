internal import Cryptography

/// A signing secret in the text form of Standard Webhooks: `whsec_` + base64 of 24-64 bytes (HMAC-SHA256), `whsk_` + base64 of an ed25519
/// seed (32 bytes) or of seed and public key (64), `whpk_` + base64 of a public key (32; verifies only).
/// Its description never shows the secret.
public struct Secret: Sendable, CustomStringConvertible, CustomDebugStringConvertible {
    public enum Kind: Sendable { case hmac, ed25519, ed25519Public }

    public let kind: Kind
    /// The text form: secret.
    public let text: String
    let bytes: [UInt8]

    public struct FormatError: Error, CustomStringConvertible, Equatable {
        public var description: String
    }

    public init(_ text: String) throws(FormatError) {
        func decode(_ prefix: String) throws(FormatError) -> [UInt8]? {
            guard text.hasPrefix(prefix) else { return nil }
            guard let bytes = Base64.decode(String(text.dropFirst(prefix.count))) else {
                throw FormatError(description: "the secret isn't valid base64 after '\(prefix)'")
            }
            return bytes
        }
        self.text = text
        if let bytes = try decode("whsec_") {
            guard (24...64).contains(bytes.count) else {
                throw FormatError(description: "a whsec_ secret has 24 to 64 bytes, this one has \(bytes.count)")
            }
            (kind, self.bytes) = (.hmac, bytes)
        } else if let bytes = try decode("whsk_") {
            guard bytes.count == 32 || bytes.count == 64, let key = Ed25519(seed: Array(bytes.prefix(32))) else {
                throw FormatError(description: "a whsk_ key has 32 or 64 bytes, this one has \(bytes.count)")
            }
            guard bytes.count == 32 || Array(bytes.suffix(32)) == key.publicKey else {
                throw FormatError(description: "the public half of this whsk_ key doesn't belong to its seed")
            }
            (kind, self.bytes) = (.ed25519, Array(bytes.prefix(32)))
        } else if let bytes = try decode("whpk_") {
            guard bytes.count == 32 else { throw FormatError(description: "a whpk_ key has 32 bytes, this one has \(bytes.count)") }
            (kind, self.bytes) = (.ed25519Public, bytes)
        } else {
            throw FormatError(description: "a secret starts with whsec_ (HMAC), whsk_ (ed25519) or, to verify, whpk_")
        }
    }

    /// A new HMAC secret of 32 random bytes.
    public static func generate() -> String { "whsec_" + Base64.encode(SecureRandom.bytes(32)) }

    public var canSign: Bool { kind != .ed25519Public }
    public var description: String { "Secret(\(kind), hidden)" }
    public var debugDescription: String { description }
}
