import Cryptography
import Foundation
import HTTPDelivery
import JSON
import Martlet
import Testing
import WebhookSigning

struct SealingTests {
    static let first = "k1:" + Base64.encode([UInt8](repeating: 1, count: 32))
    static let second = "k2:" + Base64.encode([UInt8](repeating: 2, count: 32))

    static func endpoint(_ id: String = "ep_1", tenant: String = "acme") -> Endpoint {
        var endpoint = Endpoint(id: id, url: "https://receiver.example.com/")
        endpoint.tenant = tenant
        endpoint.secrets = [.init(id: "s", createdMilliseconds: 5, plain: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
        endpoint.headers = [.init("Authorization", "Bearer very-secret")]
        return endpoint
    }

    /// As it stands on the topic.
    private func stored(_ endpoint: Endpoint) throws -> (text: String, endpoint: Endpoint) {
        let text = endpoint.json(revealSecrets: true).text
        return (text, try Endpoint(json: try JSONValue.parse(Array(text.utf8))))
    }

    @Test func nothingSecretIsOnTheTopicAndItOpensAgain() throws {
        let keys = try KeyRing(lines: ["# ours", "", Self.second, Self.first])
        let sealed = Self.endpoint().sealed(keys)
        let (text, read) = try stored(sealed)
        #expect(!text.contains("whsec_") && !text.contains("very-secret") && text.contains("\"kek\":\"k2\""))
        #expect(read == sealed && read.keyIDs == ["k2"] && !read.hasPlainSecrets)
        #expect(try read.opened(keys) == Self.endpoint())
        #expect(try read.opened(KeyRing(lines: [Self.first, Self.second])) == Self.endpoint())
        // Each sealing has a nonce of its own.
        #expect(try stored(Self.endpoint().sealed(keys)).text != text)
        // What is shown has neither plain text nor ciphertext.
        let shown = read.json(revealSecrets: false).text
        #expect(!shown.contains("ciphertext") && !shown.contains("whsec_") && !shown.contains("very-secret"))
    }

    @Test func withoutTheKeyItIsSaidWhichOneIsMissing() throws {
        let sealed = Self.endpoint().sealed(try KeyRing(lines: [Self.second]))
        for keys in [KeyRing(), try KeyRing(lines: [Self.first])] {
            let error = #expect(throws: Endpoint.Invalid.self) { try sealed.opened(keys) }
            #expect(error?.description.contains("'k2'") == true)
            // Not unsigned, and not without its header.
            #expect(PreparedEndpoint(sealed, rules: .init()).refusal != nil)
        }
    }

    @Test func aSealedSecretIsWorthNothingElsewhere() throws {
        let keys = try KeyRing(lines: [Self.first])
        let sealed = Self.endpoint().sealed(keys)
        for (id, tenant) in [("ep_2", "acme"), ("ep_1", "evil"), ("p_1", "acmee")] {
            var other = Self.endpoint(id, tenant: tenant)
            (other.secrets, other.headers) = (sealed.secrets, sealed.headers)
            #expect(throws: Endpoint.Invalid.self) { try other.opened(keys) }
        }
        let impostor = "k1:" + Base64.encode([UInt8](repeating: 9, count: 32))
        #expect(throws: Endpoint.Invalid.self) { try sealed.opened(try KeyRing(lines: [impostor])) }
    }

    @Test func everyChangedByteIsNoticed() throws {
        let key = [UInt8](repeating: 7, count: 32)
        let nonce = [UInt8](repeating: 8, count: 12)
        let sealed = AESGCM.seal(Array("secret".utf8), key: key, nonce: nonce, associated: [1, 2])
        #expect(AESGCM.open(sealed, key: key, nonce: nonce, associated: [1, 2]) == Array("secret".utf8))
        for index in sealed.indices {
            var bad = sealed
            bad[index] ^= 1
            #expect(AESGCM.open(bad, key: key, nonce: nonce, associated: [1, 2]) == nil)
        }
        #expect(AESGCM.open(sealed, key: key, nonce: nonce, associated: [1, 3]) == nil)
        #expect(AESGCM.open(sealed, key: key, nonce: [UInt8](repeating: 9, count: 12), associated: [1, 2]) == nil)
        #expect(AESGCM.open([1, 2, 3], key: key, nonce: nonce, associated: []) == nil)
    }

    /// NIST's test case 14 for AES-256-GCM: 16 zero bytes, zero key and nonce.
    @Test func itIsTheStandards() {
        let zero = [UInt8](repeating: 0, count: 32)
        let sealed = AESGCM.seal(Array(zero.prefix(16)), key: zero, nonce: Array(zero.prefix(12)), associated: [])
        #expect(
            sealed.map { String(format: "%02x", $0) }.joined()
                == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")
    }

    @Test(arguments: ["k1", "k1:AAAA", "k 1!:x", "k1:" + String(repeating: "A", count: 44), "\u{e4}:AAAA"]) func badKeyLines(_ line: String)
    {
        let error = #expect(throws: KeyRing.Malformed.self) { try KeyRing(lines: ["# comment", line]) }
        #expect(error?.description.contains("line 2") == true && error?.description.contains("AAAAAA") == false)
    }

    @Test func aWorkerWithoutTheKeyParksAndSaysWhy() throws {
        let sealed = Self.endpoint().sealed(try KeyRing(lines: [Self.second]))
        var registry = Registry(rules: .init(), keys: try KeyRing(lines: [Self.first]))
        let record = Array(sealed.json(revealSecrets: true).text.utf8)
        let change = record.withUnsafeBytes {
            registry.apply(offset: 0, key: Array("ep_1".utf8), value: $0, headers: sealed.recordHeaders)
        }
        guard case .unreadable("ep_1", let reason, let entry?) = change else {
            Issue.record("\(change)")
            return
        }
        #expect(reason.contains("'k2'") && entry.prepared == nil)
        // Its events are still matched, so that nothing is lost.
        #expect(registry.index.matches(tenant: "acme", type: "order.created") == ["ep_1"])
    }
}
