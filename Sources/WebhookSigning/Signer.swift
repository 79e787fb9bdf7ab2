internal import Cryptography

/// How a delivery proves where it comes from. Each scheme is one header.
///
/// | scheme | header | value |
/// |---|---|---|
/// | `standard` | `webhook-signature` | Standard Webhooks: `v1,` and base64 of HMAC-SHA256, `v1a,` and base64 of ed25519, over `{id}.{timestamp}.{body}`; one per secret |
/// | `github` | `X-Hub-Signature-256` | `sha256=` and hex of HMAC-SHA256 over the body, with the newest secret |
/// | `shopify` | `X-Shopify-Hmac-Sha256` | base64 of HMAC-SHA256 over the body, with the newest secret |
/// | `stripe` | `Stripe-Signature` | `t=` timestamp, and `v1=` hex of HMAC-SHA256 over `{timestamp}.{body}` per secret |
/// | `static:NAME` | NAME | the newest secret itself |
///
/// The keys of all but `standard` are the bytes of the secret's text.
public enum SignatureScheme: Sendable, Equatable, CustomStringConvertible {
    case standard, github, shopify, stripe
    case staticHeader(String)

    public init?(_ text: String) {
        switch text {
        case "standard": self = .standard
        case "github": self = .github
        case "shopify": self = .shopify
        case "stripe": self = .stripe
        case let other where other.hasPrefix("static:") && other.utf8.count > 7: self = .staticHeader(String(other.dropFirst(7)))
        default: return nil
        }
    }

    public var description: String {
        switch self {
        case .standard: "standard"
        case .github: "github"
        case .shopify: "shopify"
        case .stripe: "stripe"
        case .staticHeader(let name): "static:" + name
        }
    }

    public var headerName: String {
        switch self {
        case .standard: "webhook-signature"
        case .github: "X-Hub-Signature-256"
        case .shopify: "X-Shopify-Hmac-Sha256"
        case .stripe: "Stripe-Signature"
        case .staticHeader(let name): name
        }
    }

    /// Whether the header's value is the secret itself.
    public var isTheSecret: Bool { if case .staticHeader = self { true } else { false } }

    /// Whether a replaced secret can sign beside the new one.
    public var takesSeveralSecrets: Bool { self == .standard || self == .stripe }

    /// Why the text can't be a secret of this scheme; nil: it can.
    public func refusal(ofSecret text: String) -> String? {
        guard self == .standard else {
            let isPlain = (8...256).contains(text.utf8.count) && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
            return isPlain ? nil : "a secret of the scheme '\(self)' has 8 to 256 visible ASCII characters"
        }
        do { return try Secret(text).canSign ? nil : "a whpk_ key only verifies; give a whsec_ secret or a whsk_ key" } catch {
            return error.description
        }
    }
}

/// Signs deliveries with every secret it holds, the newest first. Keys are prepared once; a signer is immutable and shared freely.
public final class Signer: Sendable {
    /// A prepared key, and the Unix second from which on it signs no more.
    private struct Key<Prepared: Sendable>: Sendable {
        var prepared: Prepared
        var expires: Int64
    }
    public let scheme: SignatureScheme
    private let hmac: [Key<HMACSHA256>]
    private let ed25519: [Key<Ed25519>]
    private let texts: [Key<String>]

    /// A secret's text, and the Unix second from which on it signs no more; nil: never.
    public typealias Dated = (text: String, expires: Int64?)

    /// `secrets`: newest first. Those that don't fit the scheme are passed over.
    public init(_ secrets: [Dated], scheme: SignatureScheme = .standard) {
        self.scheme = scheme
        let fitting = secrets.filter { scheme.refusal(ofSecret: $0.text) == nil }.map { (text: $0.text, expires: $0.expires ?? .max) }
        switch scheme {
        case .standard:
            let parsed = fitting.compactMap { dated in (try? Secret(dated.text)).map { (secret: $0, expires: dated.expires) } }
            hmac = parsed.filter { $0.secret.kind == .hmac }.map { Key(prepared: HMACSHA256(key: $0.secret.bytes), expires: $0.expires) }
            ed25519 = parsed.filter { $0.secret.kind == .ed25519 }.compactMap { dated in
                Ed25519(seed: dated.secret.bytes).map { Key(prepared: $0, expires: dated.expires) }
            }
            texts = []
        case .github, .shopify, .stripe:
            hmac = fitting.map { Key(prepared: HMACSHA256(key: Array($0.text.utf8)), expires: $0.expires) }
            (ed25519, texts) = ([], [])
        case .staticHeader:
            (hmac, ed25519) = ([], [])
            texts = fitting.map { Key(prepared: $0.text, expires: $0.expires) }
        }
    }

    public convenience init(secrets: [String]) { self.init(secrets.map { ($0, nil) }) }

    /// Whether it signs for ever: with at least one secret that doesn't expire.
    public var isLasting: Bool {
        hmac.contains { $0.expires == .max } || ed25519.contains { $0.expires == .max } || texts.contains { $0.expires == .max }
    }

    /// The value of the scheme's header. `timestamp`: Unix seconds of this attempt.
    public func signature(id: String, timestamp: Int64, body: UnsafeRawBufferPointer) -> String {
        var out: [UInt8] = []
        append(id: Array(id.utf8)[...], timestamp: timestamp, body: body, to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    /// Appends the value of the scheme's header. `id`: UTF-8.
    public func append(id: ArraySlice<UInt8>, timestamp: Int64, body: UnsafeRawBufferPointer, to out: inout [UInt8]) {
        switch scheme {
        case .standard: standard(id, timestamp, body, &out)
        case .github:
            out.append(contentsOf: "sha256=".utf8)
            if let key = newest(timestamp) { Hex.append(key.code(body), to: &out) }
        case .shopify: if let key = newest(timestamp) { Base64.append(key.code(body), to: &out) }
        case .stripe: stripe(timestamp, body, &out)
        case .staticHeader: out.append(contentsOf: (texts.first { $0.expires > timestamp }?.prepared ?? "").utf8)
        }
    }

    /// The newest secret that still signs.
    private func newest(_ timestamp: Int64) -> HMACSHA256? { hmac.first { $0.expires > timestamp }?.prepared }

    private func standard(_ id: ArraySlice<UInt8>, _ timestamp: Int64, _ body: UnsafeRawBufferPointer, _ out: inout [UInt8]) {
        // What is signed besides the body lies in `out` for that long, before the signatures.
        let start = out.count
        out.append(contentsOf: id)
        out.append(UInt8(ascii: "."))
        Decimal.append(Int(timestamp), to: &out)
        out.append(UInt8(ascii: "."))
        let end = out.count
        for key in hmac where key.expires > timestamp {
            if out.count > end { out.append(0x20) }
            let code = key.prepared.code(out.span.extracting(start..<end), body)
            out.append("v1,")
            Base64.append(code.span, to: &out)
        }
        for key in ed25519 where key.expires > timestamp {
            guard let code = key.prepared.sign(Array(out[start..<end]) + Array(body)) else { continue }
            if out.count > end { out.append(0x20) }
            out.append("v1a,")
            Base64.append(code, to: &out)
        }
        out.removeSubrange(start..<end)
    }

    private func stripe(_ timestamp: Int64, _ body: UnsafeRawBufferPointer, _ out: inout [UInt8]) {
        let head = Array("\(timestamp).".utf8)
        out.append(contentsOf: "t=\(timestamp)".utf8)
        for key in hmac where key.expires > timestamp {
            out.append(contentsOf: ",v1=".utf8)
            Hex.append(key.prepared.code(head, body), to: &out)
        }
    }
}

/// Checks signed requests, as a receiver does.
public struct Verifier: Sendable {
    public enum Verdict: String, Sendable, Equatable {
        case valid
        case missingHeader = "missing-header"
        case staleTimestamp = "stale-timestamp"
        case noMatch = "no-match"
    }

    /// How far a timestamp may lie from now, either way, in seconds (Standard Webhooks: five minutes).
    public static let toleranceSeconds: Int64 = 300

    private let hmac: [HMACSHA256]
    private let ed25519: [Ed25519]

    public init(secrets: [Secret]) {
        hmac = secrets.filter { $0.kind == .hmac }.map { HMACSHA256(key: $0.bytes) }
        ed25519 = secrets.compactMap {
            switch $0.kind {
            case .hmac: nil
            case .ed25519: Ed25519(seed: $0.bytes)
            case .ed25519Public: Ed25519(publicKey: $0.bytes)
            }
        }
    }

    /// The three `webhook-*` headers as received; `nowSeconds`: the receiver's clock.
    public func verify(id: String?, timestamp: String?, signature: String?, body: [UInt8], nowSeconds: Int64) -> Verdict {
        guard let id, !id.isEmpty, let timestamp, let signature, let seconds = Int64(timestamp) else { return .missingHeader }
        let (distance, isTooFar) = seconds.subtractingReportingOverflow(nowSeconds)
        guard !isTooFar, distance.magnitude <= UInt64(Self.toleranceSeconds) else { return .staleTimestamp }
        let head = Array("\(id).\(timestamp).".utf8)
        for candidate in signature.split(separator: " ") {
            let parts = candidate.split(separator: ",", maxSplits: 1)
            guard parts.count == 2, let given = Base64.decode(String(parts[1])) else { continue }
            if parts[0] == "v1" {
                let matches = hmac.contains { key in body.withUnsafeBytes { constantTimeEqual(key.code(head, $0), given) } }
                if matches { return .valid }
            } else if parts[0] == "v1a", ed25519.contains(where: { $0.verify(given, of: head + body) }) {
                return .valid
            }
        }
        return .noMatch
    }
}
