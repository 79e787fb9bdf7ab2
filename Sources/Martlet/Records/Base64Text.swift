internal import Cryptography

/// Base64 as it stands in JSON and headers.
public enum Base64Text {
    static func decode(_ text: String) -> [UInt8]? { Base64.decode(text) }
    public static func encode(_ bytes: [UInt8]) -> String { Base64.encode(bytes) }
}
