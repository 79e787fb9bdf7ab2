import HTTPDelivery
import JSON
import Martlet
import Testing
import WebhookSigning

/// OAuth 2.0 client credentials: one request however many wait, renewed in time, its failures the endpoint's.
struct AccessTokenTests {
    static func answer(_ body: String, status: Int = 200) -> HTTPResult { HTTPResult(token: 1, status: status, excerpt: Array(body.utf8)) }

    @Test func oneRequestHoweverManyWait() {
        var tokens = AccessTokens()
        #expect(tokens.ask([1], waiter: 1, now: 0) == .wait(ask: true))
        for waiter in 2...50 as ClosedRange<UInt64> { #expect(tokens.ask([1], waiter: waiter, now: 0) == .wait(ask: false)) }
        // Another endpoint's is another's.
        #expect(tokens.ask([9], waiter: 99, now: 0) == .wait(ask: true))
        let (waiters, failure) = tokens.answered(
            [1], Self.answer(#"{"access_token":"t1","token_type":"Bearer","expires_in":3600}"#), now: 100)
        #expect(waiters == Array(1...50) && failure == nil)
        #expect(tokens.ask([1], waiter: 1, now: 100) == .bearer("t1", renew: false))
    }

    @Test func isRenewedBeforeItEndsWhileTheOldOneServes() {
        var tokens = AccessTokens()
        _ = tokens.ask([1], waiter: 1, now: 0)
        _ = tokens.answered([1], Self.answer(#"{"access_token":"t1","expires_in":3600}"#), now: 0)
        #expect(tokens.ask([1], waiter: 2, now: 3_239_999) == .bearer("t1", renew: false))
        #expect(tokens.ask([1], waiter: 2, now: 3_240_000) == .bearer("t1", renew: true))
        #expect(tokens.ask([1], waiter: 3, now: 3_240_001) == .bearer("t1", renew: false))
        // The renewal fails: the old one serves to its end, and is asked for again.
        let failed = tokens.answered([1], Self.answer("", status: 500), now: 3_241_000)
        #expect(failed.waiters.isEmpty)
        #expect(tokens.ask([1], waiter: 4, now: 3_241_001) == .bearer("t1", renew: false))
        #expect(tokens.ask([1], waiter: 4, now: 3_246_000) == .bearer("t1", renew: true))
        let renewed = tokens.answered([1], Self.answer(#"{"access_token":"t2","expires_in":"60"}"#), now: 3_246_100)
        #expect(renewed.waiters.isEmpty && renewed.failure == nil)
        #expect(tokens.ask([1], waiter: 5, now: 3_246_101) == .bearer("t2", renew: false))
        #expect(tokens.ask([1], waiter: 6, now: 3_306_100) == .wait(ask: true))
    }

    @Test func otherCredentialsOrARefusalAskAnew() {
        var tokens = AccessTokens()
        _ = tokens.ask([1], waiter: 1, now: 0)
        _ = tokens.answered([1], Self.answer(#"{"access_token":"t1"}"#), now: 0)
        // Edited while the old one's renewal is under way: each answer is for who asked.
        #expect(tokens.ask([2], waiter: 2, now: 1) == .wait(ask: true))
        #expect(tokens.ask([1], waiter: 3, now: 299_000) == .bearer("t1", renew: true))
        let old = tokens.answered([1], Self.answer(#"{"access_token":"t1b"}"#), now: 299_001)
        #expect(old.waiters.isEmpty && tokens.ask([2], waiter: 4, now: 299_002) == .wait(ask: false))
        let new = tokens.answered([2], Self.answer(#"{"access_token":"t2"}"#), now: 299_003)
        #expect(new.waiters == [2, 4])
        // A late answer about another one.
        tokens.refused([2], "t1")
        #expect(tokens.ask([2], waiter: 5, now: 299_004) == .bearer("t2", renew: false))
        tokens.refused([2], "t2")
        #expect(tokens.ask([2], waiter: 6, now: 299_005) == .wait(ask: true))
    }

    /// A token belongs to an endpoint, its tenant and its credentials; an edit of anything else keeps it.
    @Test func identities() throws {
        func identity(_ change: (inout Endpoint, inout OAuthClient) -> Void = { _, _ in }) throws -> [UInt8] {
            var client = OAuthClient(tokenURL: "https://id.example.com/token", clientID: "a", secret: .plain("b"))
            var endpoint = AuthenticationTests.endpoint { _ in }
            change(&endpoint, &client)
            endpoint.auth = .oauth2(client)
            return try #require(PreparedEndpoint(endpoint, rules: .init()).tokenRequest).identity
        }
        let all = try [
            identity(), identity { endpoint, _ in endpoint.tenant = "other" }, identity { endpoint, _ in endpoint.id = "ep_2" },
            identity { $1.tokenURL = "https://id2.example.com/token" }, identity { $1.clientID = "c" },
            identity { $1.secret = .plain("d") },
            identity { $1.scope = "e" }, identity { $1.audience = "e" },
        ]
        #expect(Set(all).count == all.count)
        let edited = try identity { endpoint, _ in (endpoint.version, endpoint.description) = (7, "edited") }
        #expect(edited == all[0])
    }

    @Test(arguments: [
        (answer("", status: 401), ErrorClass.status), (answer("{}"), .protocol), (answer("no json"), .protocol),
        (answer(#"{"access_token":""}"#), .protocol),
        (answer("{\"access_token\":\"a\\r\\nx: y\"}"), .protocol), (answer(#"{"access_token":"t","token_type":"mac"}"#), .protocol),
        (answer(#"{"access_token":5}"#), .protocol),
    ])
    func badAnswersFailWhoWaits(_ given: HTTPResult, _ kind: ErrorClass) {
        var tokens = AccessTokens()
        _ = tokens.ask([1], waiter: 7, now: 0)
        let (waiters, failure) = tokens.answered([1], given, now: 1)
        #expect(waiters == [7] && failure?.0 == kind)
        // The next one asks again.
        #expect(tokens.ask([1], waiter: 8, now: 2) == .wait(ask: true))
    }

    @Test func whatTransportsSayIsPassedOn() {
        var tokens = AccessTokens()
        _ = tokens.ask([1], waiter: 7, now: 0)
        let (_, failure) = tokens.answered([1], HTTPResult(token: 1, error: (kind: .timeout, text: "too slow")), now: 1)
        #expect(failure?.0 == .timeout && failure?.1.contains("token endpoint") == true)
        // Late and unasked answers are ignored.
        let late = tokens.answered([1], Self.answer(#"{"access_token":"t"}"#), now: 2)
        #expect(late.waiters.isEmpty && tokens.ask([1], waiter: 8, now: 3) == .wait(ask: true))
    }

    @Test func theRequestIsAsTheStandardSays() throws {
        let client = OAuthClient(
            tokenURL: "https://id.example.com/token", clientID: "a:b", secret: .plain("s p&c"), scope: "hooks:write x",
            audience: "https://api")
        let endpoint = AuthenticationTests.endpoint { $0.auth = .oauth2(client) }
        try endpoint.validate(rules: .init())
        let prepared = PreparedEndpoint(endpoint, rules: .init())
        let request = try #require(prepared.tokenRequest)
        #expect(prepared.refusal == nil && request.target.url.description == "https://id.example.com/token")
        // RFC 6749, 2.3.1: encoded, joined, in base64: "a%3Ab:s+p%26c".
        #expect(request.headers.list.contains(.init("authorization", "Basic YSUzQWI6cytwJTI2Yw==")))
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
        EndpointTLS(certificate: "x", key: .plain("y")),
    ])
    func whatCantServeIsRefused(_ tls: EndpointTLS) {
        let error = #expect(throws: Endpoint.Invalid.self) { try AuthenticationTests.endpoint { $0.tls = tls }.validate(rules: .init()) }
        #expect(error?.field.hasPrefix("tls") == true)
    }

    /// Not an argument of the test above: it would be printed whole.
    @Test func itsLengthIsBounded() {
        let tls = EndpointTLS(authorities: String(repeating: "a", count: 65_537))
        let error = #expect(throws: Endpoint.Invalid.self) { try AuthenticationTests.endpoint { $0.tls = tls }.validate(rules: .init()) }
        #expect(error?.description.contains("at most 65536 bytes") == true)
    }

    /// Found by fuzzing: what is empty counts as absent, so that a record reads the same after a rewrite.
    @Test(arguments: ["{}", "null", #"{"ca":null}"#]) func nothingIsNothing(_ tls: String) throws {
        let text = #"{"v":1,"id":"ep_1","url":"https://a.example.com","tls":\#(tls)}"#
        #expect(try Endpoint(json: try JSONValue.parse(Array(text.utf8))).tls == nil)
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
        #expect(PreparedEndpoint(endpoint, rules: .init()).target?.tls?.key == Array("hidden-key".utf8))
        #expect(PreparedEndpoint(endpoint.sealed(keys), rules: .init()).target?.tls == nil)
    }

    /// Straight onto the topic: what registration would refuse isn't sent.
    @Test func writtenPastTheRegistration() throws {
        for name in ["host", "Content-Length", "transfer-encoding", "webhook-id", "x own"] {
            let endpoint = AuthenticationTests.endpoint { ($0.signature, $0.secrets[0].text) = (.staticHeader(name), .plain("12345678")) }
            #expect(PreparedEndpoint(endpoint, rules: .init()).refusal != nil, "\(name)")
        }
        let twice = AuthenticationTests.endpoint { ($0.signature, $0.headers) = (.github, [.init("x-hub-signature-256", "forged")]) }
        #expect(PreparedEndpoint(twice, rules: .init()).refusal?.contains("twice") == true)
        let key = AuthenticationTests.endpoint { $0.tls = EndpointTLS(certificate: "no certificate", key: .plain("no key")) }
        #expect(PreparedEndpoint(key, rules: .init()).refusal?.contains("tls") == true)
    }

    @Test func whatAReceiverSendsBackIsHidden() {
        let endpoint = AuthenticationTests.endpoint { $0.auth = Authentication("basic:Aladdin:open sesame") }
        let prepared = PreparedEndpoint(endpoint, rules: .init())
        let echo = "authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== and QWxhZGRpbjpvcGVuIHNlc2FtZQ==, bearer tok-123456"
        let result = prepared.withoutSecrets(HTTPResult(token: 1, status: 500, excerpt: Array(echo.utf8)), bearer: "tok-123456")
        #expect(String(decoding: result.excerpt, as: UTF8.self) == "authorization: *** and ***, bearer ***")
    }

    /// A password without its wrapping, what stands in the URL's query, and a credential that the excerpt's end cuts.
    @Test func whatAReceiverSendsBackInOtherForms() {
        let endpoint = AuthenticationTests.endpoint {
            $0.auth = Authentication("basic:Aladdin:open sesame")
            $0.url = "https://example.com/hook?token=hidden-123&x=1"
        }
        let prepared = PreparedEndpoint(endpoint, rules: .init())
        func hidden(_ text: String) -> String {
            String(
                decoding: prepared.withoutSecrets(HTTPResult(token: 1, status: 500, excerpt: Array(text.utf8)), bearer: nil).excerpt,
                as: UTF8.self)
        }
        #expect(
            hidden("password open sesame, url /hook?token=hidden-123&x=1, token hidden-123") == "password ***, url /hook?***, token ***")
        let escaped = AuthenticationTests.endpoint {
            $0.auth = Authentication("basic:u:12345")
            $0.url = "https://example.com/hook?token=ab%2Bcd%2Fef12"
            $0.headers = [.init("x-key", "pa\"ss-word-1")]
        }
        let result = PreparedEndpoint(escaped, rules: .init()).withoutSecrets(
            HTTPResult(token: 1, status: 500, excerpt: Array("ab+cd/ef12, pa\\\"ss-word-1, 12345".utf8)), bearer: nil)
        #expect(String(decoding: result.excerpt, as: UTF8.self) == "***, ***, ***")
        let cut = String((String(repeating: "e", count: 1_000) + "authorization: Basic QWxhZGRpbjpvcGVu").prefix(1_024))
        #expect(hidden(cut) == String(repeating: "e", count: 1_000) + "authorization: ***")
    }
}
