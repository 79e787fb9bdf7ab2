internal import Cryptography
internal import JSON

/// A secret as a record holds it: in plain, or sealed with a key-encryption key.
public enum SecretText: Sendable, Equatable {
    case plain(String)
    case sealed(SealedText)

    /// Where the contract has a string: that, or `{"sealed":{...}}`.
    var json: JSONValue {
        switch self {
        case .plain(let plain): .string(plain)
        case .sealed(let sealed): .object([.init("sealed", sealed.json)])
        }
    }

    init?(json: JSONValue) {
        if let plain = json.stringValue {
            self = .plain(plain)
        } else if let sealed = json["sealed"].flatMap({ SealedText(json: $0) }) {
            self = .sealed(sealed)
        } else {
            return nil
        }
    }

    /// nil: it is sealed.
    public var plain: String? { if case .plain(let text) = self { text } else { nil } }
    /// The key that it is sealed with; nil: none.
    public var keyID: String? { if case .sealed(let sealed) = self { sealed.keyID } else { nil } }
}

/// AES-256-GCM ciphertext with the id of its key.
public struct SealedText: Sendable, Equatable {
    var keyID: String
    var nonce: [UInt8]
    var ciphertext: [UInt8]

    init(keyID: String, nonce: [UInt8], ciphertext: [UInt8]) { (self.keyID, self.nonce, self.ciphertext) = (keyID, nonce, ciphertext) }

    /// `{kek, nonce, ciphertext}`, the latter two in base64.
    var json: JSONValue {
        .object([
            .init("kek", .string(keyID)), .init("nonce", .string(Base64.encode(nonce))),
            .init("ciphertext", .string(Base64.encode(ciphertext))),
        ])
    }

    init?(json: JSONValue) {
        guard let id = json["kek"]?.stringValue, Identifiers.isName(id),
            let nonce = json["nonce"]?.stringValue.flatMap({ Base64.decode($0) }),
            let ciphertext = json["ciphertext"]?.stringValue.flatMap({ Base64.decode($0) })
        else { return nil }
        self.init(keyID: id, nonce: nonce, ciphertext: ciphertext)
    }
}

/// Key-encryption keys: the first seals, all open. The keys never appear in a description.
public struct KeyRing: Sendable, CustomStringConvertible {
    public struct Malformed: Error, CustomStringConvertible, Equatable {
        public var description: String
    }

    private var keys: [(id: String, bytes: [UInt8])] = []
    public init() {}

    /// Lines `ID:KEY`, the key in base64, 32 bytes; empty lines and those that start with `#` are passed over.
    public init(lines: [String]) throws(Malformed) {
        for (index, line) in lines.enumerated() {
            let text = line.split(whereSeparator: \.isWhitespace).joined()
            guard !text.isEmpty, !text.hasPrefix("#") else { continue }
            let parts = text.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, Identifiers.isName(parts[0]) else {
                throw Malformed(description: "line \(index + 1): expected ID:KEY, the id of 1 to 64 of A-Z a-z 0-9 _ -")
            }
            guard let bytes = Base64.decode(String(parts[1])), bytes.count == AESGCM.keyBytes else {
                throw Malformed(description: "line \(index + 1): the key '\(parts[0])' isn't \(AESGCM.keyBytes) bytes in base64")
            }
            guard !keys.contains(where: { $0.id == parts[0] }) else {
                throw Malformed(description: "line \(index + 1): the key '\(parts[0])' stands twice")
            }
            keys.append((String(parts[0]), bytes))
        }
    }

    /// A line with a new key.
    public static func newLine(id: String) -> String { "\(id):\(Base64.encode(SecureRandom.bytes(AESGCM.keyBytes)))" }

    public var isEmpty: Bool { keys.isEmpty }
    public var ids: [String] { keys.map(\.id) }
    public var description: String { "keys \(ids)" }

    /// A plain secret with the first key; everything else as it is.
    func seal(_ text: SecretText, of endpoint: Endpoint) -> SecretText {
        guard case .plain(let plain) = text, let key = keys.first else { return text }
        let nonce = SecureRandom.bytes(AESGCM.nonceBytes)
        let ciphertext = AESGCM.seal(
            Array(plain.utf8), key: key.bytes, nonce: nonce, associated: Self.associated(endpoint, keyID: key.id))
        return .sealed(SealedText(keyID: key.id, nonce: nonce, ciphertext: ciphertext))
    }

    func open(_ text: SecretText, of endpoint: Endpoint) throws(Endpoint.Invalid) -> SecretText {
        guard case .sealed(let sealed) = text else { return text }
        guard let key = keys.first(where: { $0.id == sealed.keyID }) else {
            throw Endpoint.Invalid(
                "secrets", "sealed with the key '\(sealed.keyID)', which isn't given here; give it with --key-file or --secret-keys")
        }
        let plain = AESGCM.open(
            sealed.ciphertext, key: key.bytes, nonce: sealed.nonce, associated: Self.associated(endpoint, keyID: key.id))
        guard let plain, let text = String(validating: plain, as: UTF8.self) else {
            throw Endpoint.Invalid(
                "secrets", "sealed for another tenant or endpoint, or with another key of the name '\(sealed.keyID)'")
        }
        return .plain(text)
    }

    /// Tenant, endpoint and key id, each with its length before it: a sealed secret is worth nothing anywhere else.
    private static func associated(_ endpoint: Endpoint, keyID: String) -> [UInt8] {
        Identifiers.lengthPrefixed([endpoint.tenant, endpoint.id, keyID])
    }
}

extension Endpoint {
    private mutating func mapSecrets(_ change: (SecretText) throws(Invalid) -> SecretText) throws(Invalid) {
        for index in secrets.indices { secrets[index].text = try change(secrets[index].text) }
        for index in headers.indices { headers[index].text = try change(headers[index].text) }
        if let secret = auth?.secret { auth?.secret = try change(secret) }
        if let key = tls?.key { tls?.key = try change(key) }
    }

    private var secretTexts: [SecretText] {
        secrets.map(\.text) + headers.map(\.text) + (auth.map { [$0.secret] } ?? []) + (tls?.key.map { [$0] } ?? [])
    }

    /// With every secret in plain.
    public func opened(_ keys: KeyRing) throws(Invalid) -> Endpoint {
        var copy = self
        try copy.mapSecrets { text throws(Invalid) in try keys.open(text, of: self) }
        return copy
    }

    /// With every plain secret sealed, if there is a key.
    public func sealed(_ keys: KeyRing) -> Endpoint {
        var copy = self
        try? copy.mapSecrets { keys.seal($0, of: self) }
        return copy
    }

    /// Ids of the keys that its secrets are sealed with.
    public var keyIDs: Set<String> { Set(secretTexts.compactMap(\.keyID)) }
    public var hasPlainSecrets: Bool { secretTexts.contains { $0.plain != nil } }
}
