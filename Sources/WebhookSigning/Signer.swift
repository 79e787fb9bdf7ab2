internal import Cryptography

/// Signs deliveries as Standard Webhooks says, over `{id}.{timestamp}.{body}`, with every secret it holds: the newest first, `v1` before
/// `v1a`. Keys are prepared once; a signer is immutable and shared freely.
public final class Signer: Sendable {
    /// A prepared key, and the second from which on it signs no more.
    private struct Key<Prepared: Sendable>: Sendable {
        var prepared: Prepared
        var expires: Int64
    }
    private let hmac: [Key<HMACSHA256>]
    private let ed25519: [Key<Ed25519>]

    /// A secret, and the Unix second from which on it signs no more; nil: never.
    public typealias Dated = (secret: Secret, expires: Int64?)

    /// `secrets`: newest first. Those that only verify are passed over.
    public init(_ secrets: [Dated]) {
        hmac = secrets.filter { $0.secret.kind == .hmac }.map {
            Key(prepared: HMACSHA256(key: $0.secret.bytes), expires: $0.expires ?? .max)
        }
        ed25519 = secrets.filter { $0.secret.kind == .ed25519 }.compactMap { dated in
            Ed25519(seed: dated.secret.bytes).map { Key(prepared: $0, expires: dated.expires ?? .max) }
        }
    }

    public convenience init(secrets: [Secret]) { self.init(secrets.map { ($0, nil) }) }

    /// Whether it signs for ever: with at least one secret that doesn't expire.
    public var isLasting: Bool { hmac.contains { $0.expires == .max } || ed25519.contains { $0.expires == .max } }

    /// The value of `webhook-signature`. `timestamp`: Unix seconds of this attempt.
    public func signature(id: String, timestamp: Int64, body: UnsafeRawBufferPointer) -> String {
        let head = Array("\(id).\(timestamp).".utf8)
        var out: [UInt8] = []
        head.withUnsafeBytes { head in
            for key in hmac where key.expires > timestamp {
                if !out.isEmpty { out.append(0x20) }
                out += "v1,".utf8
                Base64.append(key.prepared.code(head, body), to: &out)
            }
        }
        for key in ed25519 where key.expires > timestamp {
            guard let code = key.prepared.sign(head + Array(body)) else { continue }
            if !out.isEmpty { out.append(0x20) }
            out += "v1a,".utf8
            Base64.append(code, to: &out)
        }
        return String(decoding: out, as: UTF8.self)
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
        guard abs(seconds.subtractingReportingOverflow(nowSeconds).partialValue) <= Self.toleranceSeconds else { return .staleTimestamp }
        let head = Array("\(id).\(timestamp).".utf8)
        for candidate in signature.split(separator: " ") {
            let parts = candidate.split(separator: ",", maxSplits: 1)
            guard parts.count == 2, let given = Base64.decode(String(parts[1])) else { continue }
            if parts[0] == "v1" {
                let matches = hmac.contains { key in
                    head.withUnsafeBytes { head in body.withUnsafeBytes { constantTimeEqual(key.code(head, $0), given) } }
                }
                if matches { return .valid }
            } else if parts[0] == "v1a", ed25519.contains(where: { $0.verify(given, of: head + body) }) {
                return .valid
            }
        }
        return .noMatch
    }
}
