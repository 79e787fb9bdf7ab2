import Foundation
import JSON
import Testing
import WebhookSigning

/// The vectors of the Standard Webhooks libraries (HMAC) and an ed25519 one, recomputed independently.
struct SigningTests {
    struct Vector: Sendable, CustomTestStringConvertible {
        var name: String
        var scheme: String
        var secret: String
        var id: String
        var timestamp: Int64
        var body: String
        var signature: String
        var testDescription: String { name }
    }

    static let document: JSONValue = {
        guard let url = Bundle.module.url(forResource: "vectors", withExtension: "json"), let data = try? Data(contentsOf: url) else {
            return .null
        }
        return (try? JSONValue.parse(Array(data))) ?? .null
    }()

    static let vectors: [Vector] = (document["valid"]?.arrayValue ?? []).map { item in
        func text(_ name: String) -> String { item[name]?.stringValue ?? "" }
        return Vector(
            name: text("name"), scheme: text("scheme"), secret: text("secret"), id: text("id"),
            timestamp: Int64(item["timestamp"]?.intValue ?? 0),
            body: text("body"), signature: text("signature"))
    }

    static func verify(_ vector: Vector, id: String? = nil, timestamp: String? = nil, signature: String? = nil, now: Int64? = nil) throws
        -> Verifier.Verdict
    {
        Verifier(secrets: [try Secret(vector.secret)]).verify(
            id: id ?? vector.id, timestamp: timestamp ?? String(vector.timestamp), signature: signature ?? vector.signature,
            body: Array(vector.body.utf8), nowSeconds: now ?? vector.timestamp)
    }

    @Test func allVectorsAreRead() { #expect(Self.vectors.count == 3) }

    @Test(arguments: vectors) func signsAsTheVectorSays(_ vector: Vector) throws {
        let signer = Signer(secrets: [vector.secret])
        let signature = Array(vector.body.utf8).withUnsafeBytes { signer.signature(id: vector.id, timestamp: vector.timestamp, body: $0) }
        #expect(signature == vector.signature)
    }

    @Test(arguments: vectors) func verifiesTheVectorAmongDecoys(_ vector: Vector) throws {
        let decoy = Self.document["decoy"]?.stringValue ?? ""
        #expect(try Self.verify(vector) == .valid)
        #expect(try Self.verify(vector, signature: "\(decoy) \(vector.signature)") == .valid)
        #expect(try Self.verify(vector, signature: decoy) == .noMatch)
    }

    @Test(arguments: vectors) func refusesWhatTheVectorsCallInvalid(_ vector: Vector) throws {
        #expect(try Self.verify(vector, now: vector.timestamp + 300) == .valid)
        #expect(try Self.verify(vector, now: vector.timestamp + 301) == .staleTimestamp)
        #expect(try Self.verify(vector, now: vector.timestamp - 301) == .staleTimestamp)
        for far in [Int64.min, .max, .min + vector.timestamp, .min + vector.timestamp - 1] {
            #expect(try Self.verify(vector, timestamp: String(far)) == .staleTimestamp)
        }
        #expect(try Self.verify(vector, signature: "v1,") == .noMatch)
        #expect(try Self.verify(vector, signature: String(vector.signature.dropLast(4))) == .noMatch)
        #expect(try Self.verify(vector, signature: "v2," + vector.signature.drop { $0 != "," }.dropFirst()) == .noMatch)
        let verifier = Verifier(secrets: [try Secret(vector.secret)])
        #expect(verifier.verify(id: nil, timestamp: "1", signature: "v1,x", body: [], nowSeconds: 1) == .missingHeader)
        #expect(verifier.verify(id: "m", timestamp: "1", signature: nil, body: [], nowSeconds: 1) == .missingHeader)
        #expect(verifier.verify(id: "m", timestamp: String(Int64.min), signature: "v1,x", body: [], nowSeconds: .max) != .valid)
    }

    @Test(arguments: ["", "whsec_", "whsec_AAAA", "whsec_%%%%", "whsk_AAAA", "whpk_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    func refusesBadSecrets(_ text: String) { #expect(throws: Secret.FormatError.self) { try Secret(text) } }

    @Test func signsWithSeveralSecretsNewestFirstAndHMACBeforeEd25519() throws {
        let secrets = try Self.vectors.map { try Secret($0.secret) }
        let body = Array("{}".utf8)
        let all = body.withUnsafeBytes {
            Signer(secrets: [secrets[2], secrets[1], secrets[0]].map(\.text)).signature(id: "m", timestamp: 1, body: $0)
        }
        let parts = all.split(separator: " ").map { $0.prefix { $0 != "," } }
        #expect(parts == ["v1", "v1", "v1a"])
        let single = body.withUnsafeBytes { Signer(secrets: [secrets[1].text]).signature(id: "m", timestamp: 1, body: $0) }
        #expect(all.hasPrefix(single))
        for secret in secrets {
            #expect(Verifier(secrets: [secret]).verify(id: "m", timestamp: "1", signature: all, body: body, nowSeconds: 1) == .valid)
        }
    }

    @Test func descriptionsHideTheSecret() throws {
        let secret = try Secret(Self.vectors[0].secret)
        #expect(!"\(secret)".contains("MfKQ") && !String(reflecting: secret).contains("MfKQ"))
    }
}

/// The schemes of others, against values that Python's `hmac` gave.
struct OtherSchemeTests {
    static let body = Array(#"{"order":1}"#.utf8)
    private func sign(_ scheme: SignatureScheme, _ secrets: [Signer.Dated] = [("new-secret", nil), ("old-secret", 200)], at: Int64 = 100)
        -> String
    {
        Self.body.withUnsafeBytes { Signer(secrets, scheme: scheme).signature(id: "msg_1", timestamp: at, body: $0) }
    }

    /// Of several secrets the newest signs that hasn't expired.
    @Test func anExpiredSecretDoesNotSign() {
        for scheme in [SignatureScheme.github, .shopify] {
            func sign(_ secrets: [Signer.Dated], at second: Int64) -> String {
                Array("x".utf8).withUnsafeBytes { Signer(secrets, scheme: scheme).signature(id: "", timestamp: second, body: $0) }
            }
            let both: [Signer.Dated] = [("aaaaaaaa", 1_000), ("bbbbbbbb", nil)]
            #expect(sign(both, at: 999) == sign([("aaaaaaaa", nil)], at: 999))
            #expect(sign(both, at: 1_000) == sign([("bbbbbbbb", nil)], at: 1_000))
        }
    }

    @Test func github() {
        #expect(sign(.github) == "sha256=3ac27023d10d229f27aaf26b0f2ddaf8573f50c02b8fa98b6337deebba65fe22")
        #expect(SignatureScheme.github.headerName == "X-Hub-Signature-256")
    }

    @Test func shopify() { #expect(sign(.shopify) == "OsJwI9ENIp8nqvJrDy3a+Fc/UMArj6mLYzfe67pl/iI=") }

    @Test func stripeSignsWithBothUntilTheGraceIsOver() {
        #expect(
            sign(.stripe)
                == "t=100,v1=8d197db73d3c76e0b855836b4bd78d1f43ea8cc09c383fa3b7db61f52cf1b0fa,v1=e6b3309940bc735165943709d95708d95a7f51688bca8ecc56959f535112329b"
        )
        #expect(sign(.stripe, at: 200).split(separator: ",").count == 2)
    }

    @Test func aStaticHeaderIsTheSecretItself() {
        #expect(sign(.staticHeader("X-Shopery-Secret")) == "new-secret")
        #expect(SignatureScheme("static:X-Shopery-Secret") == .staticHeader("X-Shopery-Secret"))
        #expect(SignatureScheme("static:X-Shopery-Secret")?.description == "static:X-Shopery-Secret")
    }

    @Test(arguments: ["", "Standard", "static:", "static", "hmac"]) func unknownSchemes(_ text: String) {
        #expect(SignatureScheme(text) == nil)
    }

    @Test(arguments: ["short", "with space in it", "control\u{1}byte", String(repeating: "a", count: 257), "öööööööö"])
    func secretsThatDontFit(_ text: String) {
        #expect(SignatureScheme.github.refusal(ofSecret: text) != nil)
        #expect(!Signer([(text, nil)], scheme: .github).isLasting)
    }
}
