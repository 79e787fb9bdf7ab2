import Foundation
import HTTPDelivery
import JSON
@testable import Martlet
import Testing
import WebhookSigning

struct BodyTests {
    static func compose(_ event: Event, _ format: Endpoint.BodyFormat) -> FanOut.Delivery? {
        FanOut(event, as: [format], at: .init(topic: "t", partition: 0, offset: 0, milliseconds: 0), registryOffset: 0)
            .delivery(to: "ep_1", as: format)
    }
    static func body(_ event: Event, _ format: Endpoint.BodyFormat) -> String {
        String(decoding: compose(event, format)?.body ?? [], as: UTF8.self)
    }
    static func event(_ contentType: String?, _ data: String?, time: String? = nil) -> Event {
        var event = Event(id: "1", source: "/s", type: "a\"b", contentType: contentType, data: data.map { Array($0.utf8) })
        event.time = time
        return event
    }

    @Test func standardKeepsJSONAsSent() {
        #expect(
            Self.body(Self.event("application/json", "{\"b\":1.10,\"a\":\"\\u00e4\"}", time: "T"), .standard)
                == "{\"type\":\"a\\\"b\",\"timestamp\":\"T\",\"data\":{\"b\":1.10,\"a\":\"\\u00e4\"}}")
    }

    @Test func standardOfOtherContent() {
        #expect(
            Self.body(Self.event("text/plain", "hi"), .standard)
                == "{\"type\":\"a\\\"b\",\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"data_base64\":\"aGk=\"}")
        #expect(Self.body(Self.event(nil, nil), .standard).hasSuffix(",\"data\":null}"))
        #expect(Self.body(Self.event(nil, "[1]"), .standard).hasSuffix(",\"data\":[1]}"))
        #expect(Self.body(Self.event(nil, "[1"), .standard).hasSuffix(",\"data_base64\":\"WzE=\"}"))
    }

    @Test func otherFormats() throws {
        #expect(Self.body(Self.event("text/plain", "hi"), .raw) == "hi")
        #expect(Self.compose(Self.event("text/plain", "hi"), .raw)?.headers.contentType == "text/plain")
        #expect(Self.body(Self.event(nil, nil), .raw) == "")
        let structured = try JSONValue.parse(Self.body(Self.event("application/json", "{\"x\":1}", time: "T"), .cloudEventsStructured))
        #expect(
            structured["specversion"]?.stringValue == "1.0" && structured["data"]?["x"]?.intValue == 1
                && structured["time"]?.stringValue == "T")
    }
}

struct DeliveryRequestTests {
    static func prepared(_ change: (inout Endpoint) -> Void = { _ in }) -> PreparedEndpoint {
        var endpoint = Endpoint(id: "ep_1", url: "https://example.com/hook")
        endpoint.secrets = [.init(id: "s", createdMilliseconds: 0, plain: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
        change(&endpoint)
        return PreparedEndpoint(endpoint, rules: .init())
    }

    @Test func itHasItsEndpointsTimeouts() {
        let timeouts = Timeouts(connectMilliseconds: 7, totalMilliseconds: 9)
        #expect(Self.prepared { $0.timeouts = timeouts }.timeouts == timeouts)
        #expect(Self.prepared().timeouts == Timeouts())
    }

    static func headers(_ prepared: PreparedEndpoint, _ delivery: DeliveryHeaders, body: String = "{}") -> [String: String] {
        let headers = Array(body.utf8).withUnsafeBytes {
            DeliveryRequest.headers(delivery, to: prepared, body: $0, nowSeconds: 1_700_000_000).list
        }
        return Dictionary(uniqueKeysWithValues: headers.map { ($0.name, $0.value) })
    }

    @Test func isSignedForThisAttempt() throws {
        let headers = Self.headers(Self.prepared(), DeliveryRecordTests.sample())
        #expect(headers["webhook-id"] == DeliveryRecordTests.sample().messageID && headers["webhook-timestamp"] == "1700000000")
        let verifier = Verifier(secrets: [try Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")])
        #expect(
            verifier.verify(
                id: headers["webhook-id"], timestamp: "1700000000", signature: headers["webhook-signature"], body: Array("{}".utf8),
                nowSeconds: 1_700_000_000) == .valid)
    }

    @Test func traceHeadersOnlyOnRequest() {
        #expect(Self.headers(Self.prepared(), DeliveryRecordTests.sample())["traceparent"] == nil)
        #expect(Self.headers(Self.prepared { $0.sendsTrace = true }, DeliveryRecordTests.sample())["traceparent"] != nil)
    }

    @Test func cloudEventsHeadersAreEncoded() {
        var delivery = DeliveryRecordTests.sample()
        delivery.subject = "Euro € \"x\" %\r\n"
        let headers = Self.headers(Self.prepared { $0.bodyFormat = .cloudEventsBinary }, delivery)
        #expect(headers["ce-subject"] == "Euro%20%E2%82%AC%20%22x%22%20%25%0D%0A" && headers["ce-id"] == "1")
    }

    @Test func noControlByteReachesTheWire() {
        var delivery = DeliveryRecordTests.sample()
        delivery.contentType = "text/plain\r\nx-evil: 1"
        delivery.traceParent = "a\r\nb: c"
        let headers = Self.headers(Self.prepared { $0.sendsTrace = true }, delivery)
        #expect(headers.values.allSatisfy { $0.utf8.allSatisfy { $0 >= 0x20 } })
    }

    /// Written straight to the registry, past the registration: each is read again by the rules, and is no target.
    @Test(arguments: [
        "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://0/", "http://[::]/",
        "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::a9fe:a9fe]/", "http://[fe80::1%25eth0]/",
        "http://169.254.43518/", "http://example.com\\@127.0.0.1/", "http://127.0.0.1#@example.com/", "http://%31%32%37.0.0.1/",
        "http://１２７.０.０.１/", "http:///127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "http://169.254.169.254/",
        "http://localhost/", "http://metadata.google.internal/", "https://user@example.com/", "https://example.com:22/",
        "https://10.0.0.1/",
    ]) func spellingsPutPastTheRegistration(_ url: String) {
        var endpoint = Endpoint(id: "ep_1", url: url)
        endpoint.secrets = [.init(id: "s1", createdMilliseconds: 0, plain: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
        let prepared = PreparedEndpoint(endpoint, rules: .init(allowHTTP: true))
        #expect(prepared.target == nil && prepared.refusal != nil, "\(url)")
    }

    @Test func nothingIsSentUnsigned() {
        #expect(Self.prepared { $0.secrets = [] }.refusal?.contains("signing secret") == true)
        #expect(Self.prepared { $0.secrets[0].expiresMilliseconds = 500 }.refusal != nil)
        #expect(Self.prepared { $0.secrets[0].text = .plain("whpk_AAAA") }.refusal != nil)
        #expect(Self.prepared().refusal == nil)
    }

    @Test(arguments: [
        "Host", "content-length", "Webhook-Id", "x-forwarded-for", "proxy-authorization", "X-Amz-Date", "x-goog-meta-a", ":path", "a b", "",
        "a\r\nb", "ce-id",
    ])
    func reservedAndBadHeaderNames(_ name: String) { #expect(HeaderRules.firstRefusal([.init(name, "v")]) != nil) }

    @Test func whatIsShownHidesQueriesAndUnknownFields() throws {
        var endpoint = Endpoint(id: "ep_1", url: "https://example.com/a?token=secret")
        endpoint.unknown = [.init("later", .object([.init("secret", "s3cr3t")]))]
        let text = endpoint.shown().text
        #expect(!text.contains("token") && !text.contains("s3cr3t") && text.contains("https://example.com/a?***"))
        #expect(endpoint.json(revealSecrets: true).text.contains("s3cr3t"))
        endpoint.auth = .oauth2(OAuthClient(tokenURL: "https://id.example.com/t?api_key=k3y", clientID: "c", secret: .plain("p")))
        #expect(!endpoint.shown().text.contains("k3y") && endpoint.shown().text.contains("https://id.example.com/t?***"))
    }

    /// What `apply` says of a change: that there is one, not what was hidden and is now.
    @Test func differencesHideWhatIsHidden() {
        var old = Endpoint(id: "ep_1", url: "https://example.com/a?token=first")
        old.headers = [.init("x-own", "header-first")]
        old.auth = .oauth2(OAuthClient(tokenURL: "https://id.example.com/t?api_key=first", clientID: "c", secret: .plain("secret-first")))
        old.unknown = [.init("later", "unknown-first")]
        #expect(old.differences(from: old).isEmpty)
        var new = old
        new.url = "https://example.com/a?token=second"
        new.headers = [.init("x-own", "header-second")]
        new.auth = .oauth2(OAuthClient(tokenURL: "https://id.example.com/t?api_key=second", clientID: "c", secret: .plain("secret-second")))
        new.unknown = [.init("later", "unknown-second")]
        #expect(new.differences(from: old) == ["url: its query changed", "later: changed", "auth: changed", "headers: values changed"])
        new.url = "https://example.com/b?token=second"
        new.auth = .oauth2(OAuthClient(tokenURL: "https://id.example.com/u?api_key=second", clientID: "d", secret: .plain("secret-second")))
        let text = new.differences(from: old).joined(separator: "\n")
        #expect(
            text.contains("https://example.com/a?***") && text.contains("https://example.com/b?***") && text.contains("/u?***"), "\(text)")
        #expect(!text.contains("first") && !text.contains("second"), "\(text)")
    }

    /// Each by name, in any case, with a message that names it.
    @Test func reservedOnesAreNamed() throws {
        for name in HeaderRules.reserved.sorted() + HeaderRules.reservedPrefixes.map({ $0 + "x" }) {
            for spelling in [name, name.uppercased()] {
                let refusal = try #require(HeaderRules.firstRefusal([.init(spelling, "v")]), "\(spelling)")
                #expect(refusal.contains("'\(spelling)'") && refusal.contains("reserved"), "\(refusal)")
            }
        }
        // A letter whose lower case is an ASCII one.
        #expect(HeaderRules.firstRefusal([.init("x-\u{212a}ey", "v")]) != nil)
    }

    @Test func badHeaderValues() {
        #expect(HeaderRules.firstRefusal([.init("x", "a\r\nb")]) != nil)
        #expect(HeaderRules.firstRefusal([.init("x", "a\u{7f}")]) != nil)
        #expect(HeaderRules.firstRefusal([.init("x", String(repeating: "a", count: 4_097))]) != nil)
        #expect(HeaderRules.firstRefusal(Array(repeating: .init("x", "a"), count: 33)) != nil)
        #expect(HeaderRules.firstRefusal([.init("Authorization", "Bearer x"), .init("x-team", "a\tb")]) == nil)
    }
}

struct AttemptRecordTests {
    static func record(
        _ result: HTTPResult, _ verdict: AttemptVerdict, delivery: DeliveryHeaders = DeliveryRecordTests.sample()
    ) throws -> JSONValue {
        let record = AttemptRecord(
            delivery: delivery, url: "https://example.com/hook", attempt: 4, startedMilliseconds: 5, result: result,
            verdict: verdict, worker: "w")
        var encoded: [UInt8] = []
        record.append(to: &encoded)
        #expect(encoded.count <= AttemptRecord.limitBytes)
        return try JSONValue.parse(encoded)
    }

    @Test func fieldsAreTheContracts() throws {
        var timings = Timings(total: 12_345)
        timings.connect = 1_000
        let json = try Self.record(
            HTTPResult(token: 0, status: 503, excerpt: Array("busy\u{1}".utf8), timings: timings), .retry(atMilliseconds: 77))
        let names = [
            "v", "deliveryId", "messageId", "endpointId", "tenant", "type", "url", "attempt", "startedMs", "durationMs", "status",
            "outcome", "errorClass", "error", "responseExcerpt", "nextAttemptMs", "deadReason", "worker", "traceId",
        ]
        #expect(json.members?.map(\.name) == names)
        #expect(json["durationMs"]?.text == "{\"total\":12,\"dns\":null,\"connect\":1,\"tls\":null,\"firstByte\":null}")
        #expect(
            json["outcome"]?.stringValue == "retry" && json["errorClass"]?.stringValue == "status" && json["nextAttemptMs"]?.intValue == 77
                && json["status"]?.intValue == 503)
        #expect(json["traceId"]?.stringValue == "0123456789abcdef0123456789abcdef" && json["deadReason"]?.isNull == true)
    }

    @Test func eachTextInItsPlace() throws {
        func texts(_ json: JSONValue) -> [String?] {
            ["deliveryId", "messageId", "endpointId", "tenant", "type", "url", "worker"].map { json[$0]?.stringValue }
        }
        var delivery = DeliveryRecordTests.sample()
        delivery.type = "a\"b\\c\u{1}ä"
        let json = try Self.record(HTTPResult(token: 0, status: 200), .delivered, delivery: delivery)
        #expect(texts(json) == ["dlv_1", delivery.messageID, "ep_1", "acme", "a\"b\\c\u{1}ä", "https://example.com/hook", "w"])
        #expect(json["attempt"]?.intValue == 4 && json["startedMs"]?.intValue == 5)

        var bare = DeliveryHeaders()
        (bare.deliveryID, bare.endpointID) = ("dlv_2", "ep_2")
        let without = try Self.record(HTTPResult(token: 0, status: 200), .delivered, delivery: bare)
        #expect(texts(without) == ["dlv_2", bare.messageID, "ep_2", "default", "", "https://example.com/hook", "w"])
        #expect(without["traceId"]?.isNull == true)

        // Too long for a record: cut, and what identifies the attempt is whole.
        delivery.type = String(repeating: "t", count: 6_000)
        let cut = try Self.record(HTTPResult(token: 0, status: 200), .delivered, delivery: delivery)
        #expect(texts(cut).prefix(4) == ["dlv_1", delivery.messageID, "ep_1", "acme"])
        #expect(cut["type"]?.stringValue == String(repeating: "t", count: DeliveryHeaders.textLimitBytes))
    }

    @Test func deliveredAndDead() throws {
        let delivered = try Self.record(HTTPResult(token: 0, status: 200), .delivered)
        #expect(delivered["outcome"]?.stringValue == "delivered" && delivered["errorClass"]?.isNull == true)
        let dead = try Self.record(HTTPResult(token: 0, error: (.timeout, "x")), .dead(.exhausted))
        #expect(
            dead["outcome"]?.stringValue == "dead" && dead["deadReason"]?.stringValue == "exhausted"
                && dead["errorClass"]?.stringValue == "timeout" && dead["status"]?.isNull == true)
    }

    @Test func excerptsAreMadeSafeAndTheSizeIsCapped() throws {
        let hostile = [UInt8](repeating: 0x01, count: 5_000)
        _ = try Self.record(HTTPResult(token: 0, status: 500, excerpt: hostile), .retry(atMilliseconds: 1))
        let split = try Self.record(HTTPResult(token: 0, status: 500, excerpt: [0xff, 0xc3]), .retry(atMilliseconds: 1))
        #expect(split["responseExcerpt"]?.stringValue == "\u{fffd}\u{fffd}")
    }
}

/// The part of JSON Schema that docs/attempt.schema.json uses.
private struct Schema {
    let json: JSONValue
    init(_ json: JSONValue) { self.json = json }

    /// Every way in which `value` breaks it.
    func breaches(_ value: JSONValue, at path: String = "$") -> [String] {
        var found: [String] = []
        if let constant = json["const"], constant != value { found.append("\(path) isn't \(constant.text)") }
        if let choices = json["enum"]?.arrayValue, !choices.contains(value) { found.append("\(path): \(value.text) isn't a choice") }
        let types = json["type"]?.arrayValue ?? json["type"].map { [$0] } ?? []
        if !types.isEmpty, !types.contains(where: { Self.has($0.stringValue ?? "", value) }) { found.append("\(path) is \(value.kind)") }
        if let number = value.intValue {
            if let least = json["minimum"]?.intValue, number < least { found.append("\(path) is below \(least)") }
            if let most = json["maximum"]?.intValue, number > most { found.append("\(path) is above \(most)") }
        }
        guard let members = value.members else { return found }
        for name in json["required"]?.arrayValue ?? [] where value[name.stringValue ?? ""] == nil {
            found.append("\(path) lacks \(name.text)")
        }
        for member in members {
            if let schema = json["properties"]?[member.name] {
                found += Schema(schema).breaches(member.value, at: "\(path).\(member.name)")
            } else if json["additionalProperties"] == .bool(false) {
                found.append("\(path).\(member.name) isn't in the schema")
            }
        }
        return found
    }

    private static func has(_ type: String, _ value: JSONValue) -> Bool {
        switch type {
        case "string": value.stringValue != nil
        case "integer": value.intValue != nil
        case "null": value.isNull
        case "object": value.members != nil
        default: false
        }
    }
}

struct AttemptSchemaTests {
    private static func schema() throws -> Schema {
        let page = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../docs/attempt.schema.json")
        return Schema(try JSONValue.parse(Array(try Data(contentsOf: page))))
    }

    @Test func everyRecordFollowsTheSchema() throws {
        let schema = try Self.schema()
        let verdicts: [AttemptVerdict] = [.delivered, .retry(atMilliseconds: 7)] + DeadReason.allCases.map { .dead($0) }
        var timings = Timings(total: 5_000)
        (timings.dns, timings.connect, timings.tls, timings.firstByte) = (1_000, 2_000, 3_000, 4_000)
        var results = ErrorClass.allCases.map { HTTPResult(token: 0, error: ($0, "text"), timings: timings) }
        results += [100, 200, 503, 999].map { HTTPResult(token: 0, status: $0, excerpt: [0xff, 0, 0x41]) }
        for verdict in verdicts {
            for result in results {
                let breaches = schema.breaches(try AttemptRecordTests.record(result, verdict))
                #expect(breaches.isEmpty, "\(breaches)")
            }
        }
    }

    @Test func theSchemaRefusesWhatIsNoRecord() throws {
        let schema = try Self.schema()
        let good = try AttemptRecordTests.record(HTTPResult(token: 0, status: 200), .delivered)
        for (name, value) in [
            ("v", .integer(2)), ("attempt", .integer(0)), ("outcome", "maybe"), ("errorClass", "bad"), ("status", "200"), ("more", .null),
            ("durationMs", .object([])),
        ] as [(String, JSONValue)] {
            var bad = good
            bad[name] = value
            #expect(!schema.breaches(bad).isEmpty, "\(name)")
        }
    }
}
