import HTTPDelivery
import JSON
import Martlet
import Testing
import WebhookSigning

struct AuthenticationTests {
    static func endpoint(_ change: (inout Endpoint) -> Void) -> Endpoint {
        var endpoint = Endpoint(id: "ep_1", url: "https://receiver.example.com/")
        endpoint.secrets = [.init(id: "s", createdMilliseconds: 0, plain: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
        change(&endpoint)
        return endpoint
    }

    private func sent(_ endpoint: Endpoint) -> [String: String] {
        let headers = Array("{}".utf8).withUnsafeBytes {
            DeliveryRequest.headers(DeliveryRecordTests.sample(), to: PreparedEndpoint(endpoint, rules: .init()), body: $0, nowSeconds: 100)
                .list
        }
        return Dictionary(headers.map { ($0.name, $0.value) }) { _, _ in "twice" }
    }

    @Test(arguments: [
        // RFC 7617's own example.
        ("basic:Aladdin:open sesame", "authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("basic:user:pass:with:colons", "authorization", "Basic dXNlcjpwYXNzOndpdGg6Y29sb25z"),
        ("bearer:abc:def", "authorization", "Bearer abc:def"), ("header:X-Api-Key: k1", "X-Api-Key", "k1"),
    ])
    func isOneMoreHeader(_ text: String, _ name: String, _ value: String) throws {
        let endpoint = Self.endpoint { $0.auth = Authentication(text) }
        try endpoint.validate(rules: .init())
        #expect(sent(endpoint)[name] == value)
        // It survives the registry, sealed as well, and is never shown.
        let keys = try KeyRing(lines: [SealingTests.first])
        for stored in [endpoint, endpoint.sealed(keys)] {
            let read = try Endpoint(json: try JSONValue.parse(Array(stored.json(revealSecrets: true).text.utf8)))
            #expect(read == stored)
            #expect(try read.opened(keys) == endpoint)
        }
        #expect(!endpoint.sealed(keys).json(revealSecrets: true).text.contains("sesame"))
        #expect(!endpoint.json(revealSecrets: false).text.contains("sesame") && endpoint.json(revealSecrets: false).text.contains("***"))
    }

    @Test(arguments: ["", "basic:user", "oauth:x", "header:x", "digest:a:b"]) func otherForms(_ text: String) {
        #expect(Authentication(text) == nil)
    }

    @Test(arguments: [
        "header:Host:x", "header:webhook-id:x", "bearer:a\r\nx: y", "header:X-Key:a\u{1}", "header:bad name:x", "basic:us\u{7f}er:x",
        "header:Content-Length:5",
    ])
    func dangerousOnesAreRefused(_ text: String) {
        #expect(throws: Endpoint.Invalid.self) { try Self.endpoint { $0.auth = Authentication(text) }.validate(rules: .init()) }
    }

    @Test func aHeaderIsNotGivenTwice() {
        let endpoint = Self.endpoint {
            $0.auth = Authentication("bearer:x")
            $0.headers = [.init("Authorization", "Bearer y")]
        }
        let error = #expect(throws: Endpoint.Invalid.self) { try endpoint.validate(rules: .init()) }
        #expect(error?.field == "auth" && error?.reason.contains("twice") == true)
        #expect(throws: Endpoint.Invalid.self) {
            try Self.endpoint {
                ($0.signature, $0.auth) = (.staticHeader("x-key"), Authentication("header:X-Key:b"))
                $0.secrets[0].text = .plain("12345678")
            }.validate(rules: .init())
        }
    }

    @Test(arguments: [
        #"{"type":"oauth2","tokenUrl":"https://x.example.com"}"#, #"{"type":"basic","user":"a"}"#, #"{"type":"bearer","token":5}"#,
        #"{"type":"bearer","token":"a","more":1}"#, #"{"token":"a"}"#, #""bearer""#, #"{"type":"bearer","token":{"sealed":{"kek":"k"}}}"#,
    ])
    func recordsThatCantBeHonoured(_ auth: String) throws {
        let text = #"{"v":1,"id":"ep_1","url":"https://a.example.com","auth":\#(auth)}"#
        let json = try JSONValue.parse(Array(text.utf8))
        #expect(throws: Endpoint.Invalid.self) { try Endpoint(json: json) }
    }

    @Test(arguments: [
        ("github", "X-Hub-Signature-256"), ("shopify", "X-Shopify-Hmac-Sha256"), ("stripe", "Stripe-Signature"), ("static:X-Key", "X-Key"),
        ("standard", "webhook-signature"),
    ])
    func everySchemeHasItsHeaderAndTheIdStays(_ name: String, _ header: String) throws {
        let scheme = try #require(SignatureScheme(name))
        let endpoint = Self.endpoint { $0.signature = scheme }
        try endpoint.validate(rules: .init())
        let sent = sent(endpoint)
        #expect(sent[header]?.isEmpty == false && sent["webhook-id"] != nil && sent["webhook-timestamp"] == "100")
        #expect((sent["webhook-signature"] != nil) == (scheme == .standard))
        #expect(try Endpoint(json: try JSONValue.parse(Array(endpoint.json(revealSecrets: true).text.utf8))).signature == scheme)
    }

    @Test func aSecretMustFitTheScheme() {
        let words = Self.endpoint { $0.secrets[0].text = .plain("a-shared-secret") }
        #expect(throws: Endpoint.Invalid.self) { try words.validate(rules: .init()) }
        var github = words
        github.signature = .github
        #expect(throws: Never.self) { try github.validate(rules: .init()) }
        github.signature = .staticHeader("Host")
        #expect(throws: Endpoint.Invalid.self) { try github.validate(rules: .init()) }
    }
}
