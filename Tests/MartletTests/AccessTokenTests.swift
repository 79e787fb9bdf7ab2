import HTTPDelivery
import JSON
import Martlet
import Testing

/// OAuth 2.0 client credentials: one request however many wait, renewed in time, its failures the endpoint's.
struct AccessTokenTests {
    static func answer(_ body: String, status: Int = 200) -> HTTPResult { HTTPResult(token: 1, status: status, excerpt: Array(body.utf8)) }

    @Test func oneRequestHoweverManyWait() {
        var tokens = AccessTokens()
        #expect(tokens.ask("ep", version: 1, waiter: 1, now: 0) == .wait(ask: true))
        for waiter in 2...50 as ClosedRange<UInt64> { #expect(tokens.ask("ep", version: 1, waiter: waiter, now: 0) == .wait(ask: false)) }
        // Another endpoint's is another's.
        #expect(tokens.ask("other", version: 1, waiter: 99, now: 0) == .wait(ask: true))
        let (waiters, failure) = tokens.answered(
            "ep", Self.answer(#"{"access_token":"t1","token_type":"Bearer","expires_in":3600}"#), now: 100)
        #expect(waiters == Array(1...50) && failure == nil)
        #expect(tokens.ask("ep", version: 1, waiter: 1, now: 100) == .bearer("t1", renew: false))
    }

    @Test func isRenewedBeforeItEndsWhileTheOldOneServes() {
        var tokens = AccessTokens()
        _ = tokens.ask("ep", version: 1, waiter: 1, now: 0)
        _ = tokens.answered("ep", Self.answer(#"{"access_token":"t1","expires_in":3600}"#), now: 0)
        #expect(tokens.ask("ep", version: 1, waiter: 2, now: 3_239_999) == .bearer("t1", renew: false))
        #expect(tokens.ask("ep", version: 1, waiter: 2, now: 3_240_000) == .bearer("t1", renew: true))
        #expect(tokens.ask("ep", version: 1, waiter: 3, now: 3_240_001) == .bearer("t1", renew: false))
        // The renewal fails: the old one serves to its end, and is asked for again.
        let failed = tokens.answered("ep", Self.answer("", status: 500), now: 3_241_000)
        #expect(failed.waiters.isEmpty)
        #expect(tokens.ask("ep", version: 1, waiter: 4, now: 3_241_001) == .bearer("t1", renew: true))
        let renewed = tokens.answered("ep", Self.answer(#"{"access_token":"t2","expires_in":"60"}"#), now: 3_242_000)
        #expect(renewed.waiters.isEmpty && renewed.failure == nil)
        #expect(tokens.ask("ep", version: 1, waiter: 5, now: 3_242_001) == .bearer("t2", renew: false))
        #expect(tokens.ask("ep", version: 1, waiter: 6, now: 3_302_000) == .wait(ask: true))
    }

    @Test func anEditOrARefusalAsksAnew() {
        var tokens = AccessTokens()
        _ = tokens.ask("ep", version: 1, waiter: 1, now: 0)
        _ = tokens.answered("ep", Self.answer(#"{"access_token":"t1"}"#), now: 0)
        #expect(tokens.ask("ep", version: 2, waiter: 2, now: 1) == .wait(ask: true))
        _ = tokens.answered("ep", Self.answer(#"{"access_token":"t2"}"#), now: 1)
        // A late answer about the old one.
        tokens.refused("ep", "t1")
        #expect(tokens.ask("ep", version: 2, waiter: 3, now: 2) == .bearer("t2", renew: false))
        tokens.refused("ep", "t2")
        #expect(tokens.ask("ep", version: 2, waiter: 3, now: 2) == .wait(ask: true))
    }

    @Test(arguments: [
        (answer("", status: 401), ErrorClass.status), (answer("{}"), .protocol), (answer("no json"), .protocol),
        (answer(#"{"access_token":""}"#), .protocol),
        (answer("{\"access_token\":\"a\\r\\nx: y\"}"), .protocol), (answer(#"{"access_token":"t","token_type":"mac"}"#), .protocol),
        (answer(#"{"access_token":5}"#), .protocol),
    ])
    func badAnswersFailWhoWaits(_ given: HTTPResult, _ kind: ErrorClass) {
        var tokens = AccessTokens()
        _ = tokens.ask("ep", version: 1, waiter: 7, now: 0)
        let (waiters, failure) = tokens.answered("ep", given, now: 1)
        #expect(waiters == [7] && failure?.0 == kind)
        // The next one asks again.
        #expect(tokens.ask("ep", version: 1, waiter: 8, now: 2) == .wait(ask: true))
    }

    @Test func whatTransportsSayIsPassedOn() {
        var tokens = AccessTokens()
        _ = tokens.ask("ep", version: 1, waiter: 7, now: 0)
        let (_, failure) = tokens.answered("ep", HTTPResult(token: 1, error: (kind: .timeout, text: "too slow")), now: 1)
        #expect(failure?.0 == .timeout && failure?.1.contains("token endpoint") == true)
        // Late and unasked answers are ignored.
        let late = tokens.answered("ep", Self.answer(#"{"access_token":"t"}"#), now: 2)
        #expect(late.waiters.isEmpty && tokens.ask("ep", version: 1, waiter: 8, now: 3) == .wait(ask: true))
    }

    @Test func theRequestIsAsTheStandardSays() throws {
        let client = OAuthClient(
            tokenURL: "https://id.example.com/token", clientID: "a:b", secret: .plain("s p&c"), scope: "hooks:write x",
            audience: "https://api")
        let endpoint = AuthenticationTests.endpoint { $0.auth = .oauth2(client) }
        try endpoint.validate(rules: .init())
        let prepared = PreparedEndpoint(endpoint, rules: .init())
        let request = try #require(prepared.tokenRequest)
        #expect(prepared.refusal == nil && request.url.description == "https://id.example.com/token")
        // RFC 6749, 2.3.1: encoded, joined, in base64: "a%3Ab:s+p%26c".
        #expect(request.headers.contains(.init("authorization", "Basic YSUzQWI6cytwJTI2Yw==")))
        #expect(
            String(decoding: request.body, as: UTF8.self)
                == "grant_type=client_credentials&scope=hooks%3Awrite+x&audience=https%3A%2F%2Fapi")
        // It survives the registry, and is sealed and hidden like any secret.
        let keys = try KeyRing(lines: [SealingTests.first])
        for stored in [endpoint, endpoint.sealed(keys)] {
            #expect(try Endpoint(json: try JSONValue.parse(Array(stored.json(revealSecrets: true).text.utf8))).opened(keys) == endpoint)
        }
        #expect(!endpoint.sealed(keys).json(revealSecrets: true).text.contains("s p&c"))
        #expect(!endpoint.json(revealSecrets: false).text.contains("s p&c"))
    }

    @Test(arguments: [
        "http://id.example.com/", "https://127.0.0.1/", "https://169.254.169.254/", "https://localhost/token", "file:///etc/passwd",
    ])
    func theTokenURLPassesTheSameGate(_ url: String) {
        let endpoint = AuthenticationTests.endpoint { $0.auth = .oauth2(OAuthClient(tokenURL: url, clientID: "a", secret: .plain("b"))) }
        #expect(throws: Endpoint.Invalid.self) { try endpoint.validate(rules: .init()) }
        let prepared = PreparedEndpoint(endpoint, rules: .init())
        #expect(prepared.refusal?.contains("token URL") == true && prepared.tokenRequest == nil)
    }
}

struct EndpointTLSTests {
    @Test(arguments: [
        EndpointTLS(authorities: "no certificate"), EndpointTLS(certificate: "x"), EndpointTLS(key: .plain("x")),
        EndpointTLS(certificate: "x", key: .plain("y")), EndpointTLS(authorities: String(repeating: "a", count: 70_000)),
    ])
    func whatCantServeIsRefused(_ tls: EndpointTLS) {
        let error = #expect(throws: Endpoint.Invalid.self) { try AuthenticationTests.endpoint { $0.tls = tls }.validate(rules: .init()) }
        #expect(error?.field.hasPrefix("tls") == true)
    }

    @Test func itsKeyIsASecret() throws {
        let endpoint = AuthenticationTests.endpoint {
            $0.tls = EndpointTLS(authorities: "ca", certificate: "cert", key: .plain("hidden-key"))
        }
        let keys = try KeyRing(lines: [SealingTests.first])
        for stored in [endpoint, endpoint.sealed(keys)] {
            #expect(try Endpoint(json: try JSONValue.parse(Array(stored.json(revealSecrets: true).text.utf8))).opened(keys) == endpoint)
        }
        #expect(!endpoint.sealed(keys).json(revealSecrets: true).text.contains("hidden-key"))
        #expect(!endpoint.json(revealSecrets: false).text.contains("hidden-key"))
        #expect(PreparedEndpoint(endpoint, rules: .init()).tls?.key == Array("hidden-key".utf8))
        #expect(PreparedEndpoint(endpoint.sealed(keys), rules: .init()).tls == nil)
    }
}
