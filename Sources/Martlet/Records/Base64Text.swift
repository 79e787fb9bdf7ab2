internal import Cryptography

/// Base64 as it stands in JSON and headers.
enum Base64Text {
    static func decode(_ text: String) -> [UInt8]? { Base64.decode(text) }
    static func encode(_ bytes: some Collection<UInt8>) -> String { Base64.encode(bytes) }
}
