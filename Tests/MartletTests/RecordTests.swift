import JSON
import Martlet
import Testing

struct IdentifierTests {
    /// The examples of the contract.
    @Test func contractExamples() {
        let message = Identifiers.message(tenant: "default", source: "/shop", eventID: "a1")
        #expect(message == "msg_ugl5w4bk2xf6o6ltyd4sngql7u")
        #expect(Identifiers.delivery(messageID: message, endpointID: "ep_test") == "dlv_xxwqdz4b3xhoiqipxao3jfctie")
        #expect(Identifiers.poison(topic: "martlet.events", partition: 3, offset: 42) == "poi_m7u3yfeuxp3mpqko4eojwh2p4e")
    }

    @Test func fieldsDoNotRunIntoEachOther() {
        #expect(
            Identifiers.message(tenant: "a", source: "bc", eventID: "d") != Identifiers.message(tenant: "ab", source: "c", eventID: "d"))
    }

    @Test func newEndpointIDs() {
        let id = Identifiers.newEndpoint()
        #expect(id.hasPrefix("ep_") && id.count == 29 && id != Identifiers.newEndpoint() && Identifiers.isName(id))
    }

    @Test(arguments: ["", "a b", "ä", "a.b", String(repeating: "a", count: 65)]) func badNames(_ text: String) {
        #expect(!Identifiers.isName(text))
    }
}

struct TimestampTests {
    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (951_826_154_007, "2000-02-29T12:09:14.007Z"), (1_795_258_320_123, "2026-11-21T10:52:00.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] as [(Int64, String)])
    func rfc3339(_ milliseconds: Int64, _ text: String) { #expect(Timestamp.text(milliseconds: milliseconds) == text) }

    @Test func httpDates() {
        #expect(Timestamp.httpDate("Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777_000)
        for bad in [
            "", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nox 1994 08:49:37 GMT", "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
        ] {
            #expect(Timestamp.httpDate(bad) == nil, "\(bad)")
        }
    }

    @Test(arguments: [("17", 17_000), ("0", 0), ("Sun, 06 Nov 1994 08:49:37 GMT", 7_000)] as [(String, Int64)]) func retryAfter(
        _ text: String, _ milliseconds: Int64
    ) {
        #expect(RetryAfter.milliseconds(text, nowMilliseconds: 784_111_770_000) == milliseconds)
    }

    @Test(arguments: ["", "-1", "1.5", "soon", "99999999999", "1e3", " 5", "Sun, 06 Nov 1970 08:49:37 GMT"]) func nonsense(_ text: String) {
        #expect(RetryAfter.milliseconds(text, nowMilliseconds: 784_111_770_000) == nil)
    }
}

struct EventTests {
    static func decode(_ headers: [(String, [UInt8])], _ value: String?) throws -> Event {
        func run(_ body: (UnsafeRawBufferPointer?) throws -> Event) rethrows -> Event {
            guard let value else { return try body(nil) }
            return try Array(value.utf8).withUnsafeBytes { try body($0) }
        }
        return try run { value in
            try Event(
                headers: { take in
                    for (name, value) in headers { Array(name.utf8).withUnsafeBytes { name in value.withUnsafeBytes { take(name, $0) } } }
                },
                value: value)
        }
    }

    static func decode(_ headers: KeyValuePairs<String, String>, _ value: String?) throws -> Event {
        try decode(headers.map { ($0.key, Array($0.value.utf8)) }, value)
    }

    static let minimal: [(String, [UInt8])] = [("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "/s"), ("ce_type", "t")].map {
        ($0.0, Array($0.1.utf8))
    }

    @Test func binaryMode() throws {
        let event = try Self.decode(
            [
                "ce_specversion": "1.0", "ce_id": "1", "ce_source": "/s", "ce_type": "t.u", "ce_tenant": "acme", "ce_time": "whenever",
                "ce_subject": "ü", "content-type": "application/json", "traceparent": "00-x", "other": "\u{0}",
            ],
            "{\"a\":1.0}")
        #expect(
            event.tenant == "acme" && event.time == "whenever" && event.subject == "ü" && event.traceParent == "00-x"
                && event.data == Array("{\"a\":1.0}".utf8))
    }

    @Test func whatIsWrittenCanBeRead() throws {
        var event = Event(id: "1", source: "/s", type: "t", tenant: "acme", contentType: "text/plain", data: Array("x".utf8))
        (event.time, event.subject, event.traceState) = ("2026-01-01T00:00:00Z", "s", "a=b")
        #expect(try Self.decode(event.binaryHeaders, "x") == event)
    }

    @Test func aNullValueIsAnEventWithoutData() throws { #expect(try Self.decode(Self.minimal, nil).data == nil) }

    @Test func headersOfOthersMayHoldAnything() throws {
        #expect(try Self.decode(Self.minimal + [("x-binary", [0xff, 0x00])], "x").id == "1")
    }

    @Test func structuredMode() throws {
        let event = try Self.decode(
            ["content-type": "Application/CloudEvents+JSON; charset=utf-8"],
            " {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"tenant\":\"acme\",\"extension\":{\"x\":1},\"data\": {\"b\":1.10, \"a\":\"\\u00e4\"} }"
        )
        #expect(event.tenant == "acme" && event.contentType == "application/json")
        // Bytes as sent: order, numbers and escapes.
        #expect(event.data == Array("{\"b\":1.10, \"a\":\"\\u00e4\"}".utf8))
    }

    /// Extension attributes aren't read, however many there are; but none may stand twice.
    @Test func structuredModeWithExtensions() throws {
        let attributes = "\"specversion\":\"1.0\",\"id\":\"a\",\"source\":\"/s\",\"type\":\"t\""
        let extensions = (0..<500).map { "\"ext\($0)\":\($0)" }.joined(separator: ",")
        let headers: KeyValuePairs = ["content-type": "application/cloudevents+json"]
        #expect(try Self.decode(headers, "{\(extensions),\(attributes)}").id == "a")
        for twice in ["\"ext499\":1", "\"id\":\"a\"", "\"data\":1,\"data\":1"] {
            #expect(throws: Event.Poison.self) { try Self.decode(headers, "{\(extensions),\(attributes),\(twice)}") }
        }
    }

    @Test func structuredModeOfOtherContent() throws {
        let prefix = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
        let headers: KeyValuePairs = ["content-type": "application/cloudevents+json"]
        #expect(try Self.decode(headers, prefix + "\"datacontenttype\":\"text/plain\",\"data\":\"a\\nb\"}").data == Array("a\nb".utf8))
        #expect(try Self.decode(headers, prefix + "\"datacontenttype\":\"image/png\",\"data_base64\":\"AAE=\"}").data == [0, 1])
        #expect(try Self.decode(headers, prefix + "\"data\":null}").data == nil)
        #expect(throws: Event.Poison.self) { try Self.decode(headers, prefix + "\"datacontenttype\":\"text/plain\",\"data\":{}}") }
        #expect(throws: Event.Poison.self) { try Self.decode(headers, prefix + "\"data\":1,\"data_base64\":\"AAE=\"}") }
    }

    /// Escapes are read, null is as if it weren't there, and nothing else stands for a text. What the record's headers say of the trace
    /// counts where the event says nothing.
    @Test func structuredAttributes() throws {
        func decode(_ members: String, trace: String? = nil) throws -> Event {
            var headers = [("content-type", Array("application/cloudevents+json".utf8))]
            if let trace { headers.append(("traceparent", Array(trace.utf8))) }
            return try Self.decode(headers, "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\(members)}")
        }
        let escaped = try decode("\"subject\":\"\\u00e4\\n\\ud83d\\ude00\",\"time\":null,\"tenant\":null")
        #expect(escaped.subject == "\u{e4}\n\u{1f600}" && escaped.time == nil && escaped.tenant == "default")
        #expect(try decode("\"traceparent\":\"own\"", trace: "header").traceParent == "own")
        #expect(try decode("\"traceparent\":null", trace: "header").traceParent == "header")
        for (member, kind) in [("\"time\":1", "a number"), ("\"subject\":{\"a\":[]}", "an object"), ("\"data_base64\":true", "a boolean")] {
            let name = member.split(separator: "\"")[0]
            do {
                _ = try decode(member)
                Issue.record("\(member) is accepted")
            } catch { #expect("\(error)" == "structured mode: '\(name)' must be a string, not \(kind)") }
        }
    }

    /// Every kind of poison that the contract names, with its reason.
    @Test func poison() throws {
        func reason(_ headers: [(String, [UInt8])], _ value: String?) -> String {
            do {
                _ = try Self.decode(headers, value)
                return "accepted"
            } catch { return "\(error)" }
        }
        func with(_ name: String, _ value: String?) -> [(String, [UInt8])] {
            Self.minimal.filter { $0.0 != name } + (value.map { [(name, Array($0.utf8))] } ?? [])
        }
        for name in ["ce_id", "ce_source", "ce_type"] {
            #expect(reason(with(name, nil), "x").contains("\(name) is missing"))
            #expect(reason(with(name, ""), "x").contains("\(name) is missing or empty"))
        }
        #expect(reason(with("ce_specversion", "0.3"), "x").contains("expected 1.0"))
        #expect(reason(with("ce_specversion", nil), "x").contains("ce_specversion is missing"))
        for media in ["application/cloudevents+avro", "application/cloudevents-batch+json", "application/cloudevents"] {
            #expect(reason([("content-type", Array(media.utf8))], "[]").contains("isn't supported"))
        }
        #expect(reason([("content-type", Array("application/cloudevents+json".utf8))], "{\"id\":").contains("isn't a valid JSON object"))
        #expect(reason([("content-type", Array("application/cloudevents+json".utf8))], nil).contains("without a value"))
        #expect(reason(with("content-type", "application/json"), "{").contains("isn't valid JSON"))
        #expect(reason(with("content-type", "application/vnd.x+json"), "{").contains("isn't valid JSON"))
        #expect(reason(Self.minimal + [("ce_x", [0xff])], "x").contains("isn't UTF-8"))
        #expect(reason(with("ce_subject", String(repeating: "a", count: 1_025)), "x").contains("longer than 1024"))
        #expect(reason(with("ce_tenant", "a/b"), "x").contains("ce_tenant"))
        #expect(reason([], nil).contains("null value without"))
        #expect(reason([], "x").contains("missing"))
        #expect(reason(Self.minimal, String(repeating: "a", count: 1_000_001)).contains("1000001 bytes"))
        #expect(reason(Self.minimal, String(repeating: "a", count: 1_000_000)) == "accepted")
    }
}

struct DeliveryRecordTests {
    static func read(_ headers: [(name: String, value: [UInt8])]) throws -> DeliveryHeaders {
        try DeliveryHeaders { take in
            for header in headers { Array(header.name.utf8).withUnsafeBytes { name in header.value.withUnsafeBytes { take(name, $0) } } }
        }
    }

    static func sample() -> DeliveryHeaders {
        var headers = DeliveryHeaders()
        (headers.deliveryID, headers.endpointID, headers.attempt, headers.dueMilliseconds) = ("dlv_1", "ep_1", 3, 1_700_000_000_000)
        (headers.firstMilliseconds, headers.ageFromMilliseconds, headers.origin, headers.registryOffset) = (1, 2, "martlet.events/0/7", 9)
        (headers.rewrites, headers.lastStatus, headers.lastError, headers.replayedFrom) = (4, 503, "status 503", "martlet.dlq/1/2")
        (headers.eventID, headers.source, headers.type, headers.tenant) = ("1", "/s", "t", "acme")
        (headers.time, headers.subject, headers.contentType, headers.traceParent) = (
            "now", "s", "application/json", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
        )
        return headers
    }

    @Test func whatIsWrittenCanBeRead() throws { #expect(try Self.read(Self.sample().encoded) == Self.sample()) }

    @Test func readingLeavesNothingOfTheRecordBefore() throws {
        let few: [(name: String, value: [UInt8])] = [
            ("martlet-delivery-id", Array("dlv_2".utf8)), ("martlet-endpoint-id", Array("ep_2".utf8)),
        ]
        var headers = Self.sample()
        for next in [few, Self.sample().encoded, few] {
            try headers.read { take in
                for header in next { Array(header.name.utf8).withUnsafeBytes { name in header.value.withUnsafeBytes { take(name, $0) } } }
            }
            #expect(try headers == Self.read(next))
        }
        // One that isn't a delivery is refused as by itself.
        #expect(throws: DeliveryHeaders.Malformed.self) { try headers.read { _ in } }
    }

    @Test func namesAreTheContracts() {
        let names = Set(Self.sample().encoded.map(\.name))
        for name in [
            "martlet-delivery-id", "martlet-endpoint-id", "martlet-attempt", "martlet-due-ms", "martlet-first-ms", "martlet-age-from-ms",
            "martlet-origin", "martlet-registry-offset", "martlet-rewrites", "martlet-last-status", "martlet-last-error",
            "martlet-replayed-from",
        ] {
            #expect(names.contains(name))
        }
    }

    @Test func errorsAreCapped() throws {
        var headers = Self.sample()
        headers.lastError = String(repeating: "ä", count: 600)
        let text = try #require(headers.encoded.first { $0.name == "martlet-last-error" }).value
        #expect(text.count <= 512 && String(validating: text, as: UTF8.self) != nil)
    }

    /// What isn't UTF-8 is repaired, each text for itself; of two headers of one name the last one counts.
    @Test func textsThatAreOdd() throws {
        let base: [(name: String, value: [UInt8])] = [
            ("martlet-delivery-id", Array("dlv_a".utf8)), ("martlet-endpoint-id", Array("ep_a".utf8)),
        ]
        // The end of one and the beginning of the next would be a character.
        let split = try Self.read(base + [("ce_source", [0x2f, 0xc3]), ("ce_type", [0xa4, 0x62]), ("ce_id", Array("größer".utf8))])
        #expect(split.source == "/\u{fffd}" && split.type == "\u{fffd}b" && split.eventID == "größer")
        #expect(try Self.read(split.encoded) == split)
        let twice = try Self.read(base + [("ce_id", [0xff]), ("ce_id", Array("b".utf8)), ("ce_subject", []), ("ce_type", Array("t".utf8))])
        #expect(twice.eventID == "b" && twice.subject == "" && twice.type == "t" && twice.time == nil && twice.tenant == "default")
    }

    @Test func malformed() {
        var headers = Self.sample().encoded
        headers.removeAll { $0.name == "martlet-endpoint-id" }
        #expect(throws: DeliveryHeaders.Malformed.self) { try Self.read(headers) }
        #expect(throws: DeliveryHeaders.Malformed.self) { try Self.read(Self.sample().encoded + [("martlet-due-ms", Array("soon".utf8))]) }
    }

    /// Numbers at the ends of their range would overflow as soon as a delay is added.
    @Test(arguments: ["martlet-due-ms", "martlet-age-from-ms", "martlet-attempt", "martlet-rewrites", "martlet-registry-offset"])
    func extremeNumbersAreMalformed(_ name: String) {
        for value in ["9223372036854775807", "-9223372036854775808", "-1", "9007199254740992"] {
            let headers = Self.sample().encoded.filter { $0.name != name } + [(name, Array(value.utf8))]
            #expect(throws: DeliveryHeaders.Malformed.self) { try Self.read(headers) }
        }
    }

    @Test func extremeHealthIsClamped() throws {
        let record = try #require(
            HealthRecord(
                json: JSONValue.parse(
                    "{\"v\":1,\"endpointId\":\"e\",\"breaker\":\"open\",\"openUntilMs\":-9223372036854775808,\"opens\":9223372036854775807}"
                )))
        #expect(record.openUntilMilliseconds == 0 && record.opens == 1_000)
    }

    @Test func deadLettersCarryEverything() {
        let body = Array("{}".utf8)
        let letter = body.withUnsafeBytes {
            DeadLetter.letter(Self.sample(), reason: .exhausted, body: $0, source: ("martlet.deliveries", 5, 99))
        }
        let headers = Dictionary(uniqueKeysWithValues: letter.headers.map { ($0.name, String(decoding: $0.value, as: UTF8.self)) })
        #expect(letter.key == "dlv_1" && letter.body == body)
        #expect(
            headers["martlet-reason"] == "exhausted" && headers["__connect.errors.topic"] == "martlet.deliveries"
                && headers["__connect.errors.partition"] == "5" && headers["__connect.errors.offset"] == "99")
        #expect(headers["ce_type"] == "t" && headers["martlet-truncated"] == nil)
    }

    @Test func oversizeLettersAreCut() {
        let body = [UInt8](repeating: 65, count: 1_500_000)
        let letter = body.withUnsafeBytes { DeadLetter.letter(Self.sample(), reason: .oversize, body: $0, source: ("t", 0, 0)) }
        #expect(letter.body?.count == 65_536)
        #expect(letter.headers.contains { $0.name == "martlet-truncated" && $0.value == Array("1500000".utf8) })
    }

    @Test func poisonLettersKeepWhatCouldBeRead() {
        let letter = DeadLetter.poison(
            "ce_id is missing", headers: [("ce_type", Array("t".utf8)), ("x", [0xff]), ("ce_big", [UInt8](repeating: 65, count: 9_000))],
            body: nil, source: ("martlet.events", 3, 42), nowMilliseconds: 5)
        #expect(letter.key == "poi_m7u3yfeuxp3mpqko4eojwh2p4e" && letter.body == nil)
        let names = letter.headers.map(\.name)
        #expect(names.contains("ce_type") && !names.contains("x") && !names.contains("ce_big"))
        #expect(letter.headers.reduce(0) { $0 + $1.name.utf8.count + $1.value.count } < 8_192)
    }
}
