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
        let signer = Signer(secrets: [try Secret(vector.secret)])
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
        let all = body.withUnsafeBytes { Signer(secrets: [secrets[2], secrets[1], secrets[0]]).signature(id: "m", timestamp: 1, body: $0) }
        let parts = all.split(separator: " ").map { $0.prefix { $0 != "," } }
        #expect(parts == ["v1", "v1", "v1a"])
        let single = body.withUnsafeBytes { Signer(secrets: [secrets[1]]).signature(id: "m", timestamp: 1, body: $0) }
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
