import HTTPDelivery
import JSON
import Kafka
@testable import Martlet
import Testing
import WebhookSigning

struct TypePatternTests {
    @Test(arguments: [
        ("order.*", "order.created", true), ("order.*", "order.item.added", true), ("order.*", "order", false),
        ("order.*", "order.", false), ("order.*", "orders.x", false), ("a.b", "a.b", true), ("a.b", "A.b", false), ("*", "anything", true),
    ])
    func matches(_ pattern: String, _ type: String, _ expected: Bool) throws {
        #expect(try #require(TypePattern(pattern)).matches(type) == expected)
    }

    @Test(arguments: ["", "a*", "*.a", "a.*.b", ".*", "**"]) func refuses(_ text: String) { #expect(TypePattern(text) == nil) }
}

struct SubscriptionIndexTests {
    @Test func agreesWithThePatternsOnRandomSets() throws {
        var generator = SeededGenerator(seed: 11)
        let patterns = ["*", "order.*", "order.item.*", "order.created", "invoice.paid", "a.b.c.*"]
        let types = ["order.created", "order.item.added", "order", "invoice.paid", "a.b.c.d.e", "a.b.c", "x", "order."]
        var index = SubscriptionIndex()
        var endpoints: [String: (String, [TypePattern])] = [:]
        for round in 0..<400 {
            let id = "ep_\(Int.random(in: 0..<40, using: &generator))"
            if let (tenant, old) = endpoints.removeValue(forKey: id) { index.remove(id, tenant: tenant, types: old) }
            if round % 3 != 0 {
                let chosen = patterns.shuffled(using: &generator).prefix(Int.random(in: 1...3, using: &generator)).compactMap {
                    TypePattern($0)
                }
                let tenant = "t\(Int.random(in: 0..<2, using: &generator))"
                endpoints[id] = (tenant, chosen)
                index.insert(id, tenant: tenant, types: chosen)
            }
            for type in types {
                let expected = endpoints.filter { $0.value.0 == "t1" && $0.value.1.contains { $0.matches(type) } }.keys.sorted()
                #expect(index.matches(tenant: "t1", type: type) == expected)
            }
        }
    }
}

struct EndpointCodingTests {
    static let full = """
        {"v":1,"id":"ep_1","tenant":"acme","url":"https://example.com/a","description":"d","types":["order.*"],"state":"paused","reason":"r","secrets":[{"id":"s1","scheme":"standard","createdMs":1,"plain":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}],"signature":"standard","headers":{"x-a":"b"},"bodyFormat":"raw","scheduleMs":[1000],"maxAgeMs":60000,"timeoutsMs":{"connect":100,"total":200},"rate":{"n":5,"perMs":1000,"burst":2},"maxConcurrency":3,"ordering":"none","sendsTrace":true,"createdMs":1,"updatedMs":2,"version":7,"metadata":{"team":"x"},"future":[1.10]}
        """

    @Test func survivesARewriteUnknownFieldsIncluded() throws {
        let endpoint = try Endpoint(json: JSONValue.parse(Self.full))
        let again = try Endpoint(json: JSONValue.parse(endpoint.json(revealSecrets: true).text))
        #expect(again == endpoint)
        #expect(endpoint.json(revealSecrets: true).text.contains("\"metadata\":{\"team\":\"x\"},\"future\":[1.10]"))
        #expect(endpoint.rate == RateLimit(n: 5, perMilliseconds: 1_000, burst: 2) && endpoint.version == 7 && endpoint.state == .paused)
    }

    @Test func hidesSecretsAndHeaderValues() throws {
        let shown = try Endpoint(json: JSONValue.parse(Self.full)).json(revealSecrets: false).text
        #expect(!shown.contains("MfKQ") && !shown.contains("\"x-a\":\"b\""))
    }

    @Test(arguments: [
        ("\"v\":1", "\"v\":2", "newer"), ("\"id\":\"ep_1\"", "\"id\":\"a b\"", "id"),
        ("\"ordering\":\"none\"", "\"ordering\":\"sorted\"", "ordering"),
        ("\"maxAgeMs\":60000", "\"ordering\":5,\"maxAgeMs\":60000", "ordering"), ("[\"order.*\"]", "[]", "types"),
        ("[1000]", "[0]", "scheduleMs"), ("\"state\":\"paused\"", "\"state\":\"off\"", "enabled, paused, disabled"),
        ("\"plain\":", "\"sealed\":", "sealed"), ("60000", "\"7d\"", "whole number"),
        ("\"metadata\"", "\"auth\"", "auth"), ("\"url\":\"https://example.com/a\",", "", "url"), ("\"n\":5,", "", "rate"),
    ])
    func saysWhatIsWrong(_ old: String, _ new: String, _ part: String) throws {
        let text = Self.full.split(separator: old, omittingEmptySubsequences: false).joined(separator: new)
        do {
            _ = try Endpoint(json: JSONValue.parse(text))
            Issue.record("accepted")
        } catch { #expect("\(error)".contains(part), "\(error)") }
    }

    @Test func registrationChecksURLHeadersAndSecrets() throws {
        var endpoint = Endpoint(id: "ep_1", url: "http://127.0.0.1/")
        #expect(throws: Endpoint.Invalid.self) { try endpoint.validate(rules: .init(allowHTTP: true)) }
        endpoint.url = "https://example.com/"
        try endpoint.validate(rules: .init())
        endpoint.headers = [.init("Host", "x")]
        #expect(throws: Endpoint.Invalid.self) { try endpoint.validate(rules: .init()) }
        endpoint.headers = []
        endpoint.secrets = [.init(id: "s", createdMilliseconds: 0, plain: "short")]
        do {
            try endpoint.validate(rules: .init())
            Issue.record("accepted")
        } catch { #expect(!"\(error)".contains("short")) }
    }
}

struct RegistryTests {
    static func apply(
        _ registry: inout Registry, _ offset: Int64, _ id: String, _ value: String?, headers: [(name: String, value: [UInt8])] = []
    ) -> Registry.Change {
        func run(_ bytes: UnsafeRawBufferPointer?) -> Registry.Change {
            registry.apply(offset: offset, key: Array(id.utf8), value: bytes, headers: headers)
        }
        guard let value else { return run(nil) }
        return Array(value.utf8).withUnsafeBytes { run($0) }
    }

    static let broken = "{\"v\":9,\"id\":\"ep_1\"}"
    static let headers: [(name: String, value: [UInt8])] = [
        ("tenant", Array("acme".utf8)), ("types", Array("order.*,x".utf8)), ("version", Array("2".utf8)),
    ]

    @Test func setsMatchesAndDeletes() {
        var registry = Registry(rules: .init())
        _ = Self.apply(&registry, 4, "ep_1", EndpointCodingTests.full)
        #expect(registry.position == 5 && registry.index.matches(tenant: "acme", type: "order.created") == ["ep_1"])
        _ = Self.apply(&registry, 9, "ep_1", nil)
        #expect(
            registry.position == 10 && registry.entries.isEmpty && registry.index.matches(tenant: "acme", type: "order.created").isEmpty)
    }

    @Test func anUnreadableRecordKeepsItsOldVersion() {
        var registry = Registry(rules: .init())
        _ = Self.apply(&registry, 0, "ep_1", EndpointCodingTests.full)
        guard case .unreadable(_, let reason, let now) = Self.apply(&registry, 1, "ep_1", Self.broken, headers: Self.headers) else {
            Issue.record("read")
            return
        }
        #expect(reason.contains("newer") && now?.prepared?.endpoint.version == 7)
    }

    @Test func anUnreadableRecordWithoutAnOldVersionIsMatchedByItsHeadersAndParked() {
        var registry = Registry(rules: .init())
        _ = Self.apply(&registry, 0, "ep_1", Self.broken, headers: Self.headers)
        #expect(
            registry.index.matches(tenant: "acme", type: "order.created") == ["ep_1"]
                && registry.index.matches(tenant: "acme", type: "x") == ["ep_1"])
        #expect(registry.entries["ep_1"]?.prepared == nil)
        guard case .unreadable(_, _, let now) = Self.apply(&registry, 1, "ep_2", "not json") else {
            Issue.record("read")
            return
        }
        #expect(now == nil)
        if case .unreadable = Self.apply(&registry, 2, "ep_3", EndpointCodingTests.full) {
        } else {
            Issue.record("a wrong key was accepted")
        }
    }
}

struct PartitioningTests {
    /// librdkafka's own murmur2 values for these keys (rdmurmur2.c's unit test).
    @Test(
        arguments: [
            ("kafka", 0xd067_cf64), ("giberish123456789", 0x8f55_2b0c), ("1234", 0x9fc9_7b14), ("234", 0xe7c0_09ca), ("34", 0x8739_30da),
            ("4", 0x5a4b_5ca1), ("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x7842_4f1c),
        ] as [(String, UInt32)])
    func murmur2(_ key: String, _ hash: UInt32) { #expect(Murmur2.hash(Array(key.utf8)) == hash) }
}

struct RotationTests {
    @Test func theOldSecretSignsBesideTheNewUntilItsGraceIsOver() throws {
        let (old, new) = (Secret.generate(), Secret.generate())
        var endpoint = Endpoint(id: "ep_1", url: "https://receiver.example.com/")
        endpoint.secrets = [
            .init(id: "old", createdMilliseconds: 0, plain: old),
            .init(id: "gone", createdMilliseconds: 0, expiresMilliseconds: 99_000, plain: Secret.generate()),
        ]
        endpoint.rotateSecret(
            to: .init(id: "new", createdMilliseconds: 100_000, plain: new), graceMilliseconds: 50_000, nowMilliseconds: 100_000)
        #expect(endpoint.secrets.map(\.id) == ["new", "old"])
        #expect(endpoint.secrets.map(\.expiresMilliseconds) == [nil, 150_000])
        let prepared = PreparedEndpoint(endpoint, rules: .init())
        #expect(prepared.refusal == nil)
        func signatures(at seconds: Int64) -> [String] {
            Array("{}".utf8).withUnsafeBytes { prepared.signer.signature(id: "m", timestamp: seconds, body: $0) }
                .split(separator: " ").map(String.init)
        }
        func verifies(_ secret: String, _ signature: String, at seconds: Int64) throws -> Bool {
            Verifier(secrets: [try Secret(secret)]).verify(
                id: "m", timestamp: String(seconds), signature: signature, body: Array("{}".utf8), nowSeconds: seconds) == .valid
        }
        let during = signatures(at: 149)
        #expect(during.count == 2)
        #expect(try verifies(new, during[0], at: 149) && verifies(old, during[1], at: 149))
        let after = signatures(at: 150)
        #expect(after.count == 1)
        #expect(try verifies(new, after[0], at: 150))
    }

    @Test func anEndpointWhoseSecretsAllExpireIsRefused() {
        var endpoint = Endpoint(id: "ep_1", url: "https://receiver.example.com/")
        endpoint.secrets = [.init(id: "s", createdMilliseconds: 0, expiresMilliseconds: .max - 1, plain: Secret.generate())]
        #expect(PreparedEndpoint(endpoint, rules: .init()).refusal?.contains("unsigned") == true)
        #expect(throws: Endpoint.Invalid.self) { try endpoint.validate(rules: .init()) }
    }
}

struct RecipientTests {
    private static func endpoint(_ id: String, _ format: Endpoint.BodyFormat = .standard, _ types: [TypePattern] = [.all])
        -> Registry.Change
    {
        var endpoint = Endpoint(id: id, url: "https://example.com/hook")
        (endpoint.bodyFormat, endpoint.types) = (format, types)
        return .set(.readable(PreparedEndpoint(endpoint, rules: .init())))
    }

    private static func recipients(_ table: inout RecipientTable, _ registry: Registry, type: String = "t", tenant: String? = nil)
        throws -> Recipients
    {
        var event = Event(id: "1", source: "/s", type: type)
        if let tenant { event.tenant = tenant }
        let headers = event.binaryHeaders
        let record = try EventRecord(
            headers: { body in
                for (name, value) in headers { Array(name.utf8).withUnsafeBytes { name in value.withUnsafeBytes { body(name, $0) } } }
            }, value: nil)
        return table.recipients(of: record, version: registry.version) ?? table.find(record, in: registry)
    }

    @Test func areFoundOncePerTypeUntilTheRegistryChanges() throws {
        var registry = Registry(rules: .init())
        registry.take(Self.endpoint("ep_b", .raw), position: 1)
        registry.take(Self.endpoint("ep_a"), position: 2)
        registry.take(Self.endpoint("ep_c", .standard, [.exact("other")]), position: 3)
        var table = RecipientTable { Int32($0.utf8.last ?? 0) }
        let first = try Self.recipients(&table, registry)
        #expect(first.endpointIDs == ["ep_a", "ep_b"] && first.partitions == [97, 98] && first.formats == [.standard, .raw])
        #expect(first.distinctFormats == [.standard, .raw])
        #expect(try Self.recipients(&table, registry) === first)
        #expect(try Self.recipients(&table, registry, type: "other").endpointIDs == ["ep_a", "ep_b", "ep_c"])
        #expect(try Self.recipients(&table, registry, tenant: "acme").endpointIDs.isEmpty)

        // The position alone says nothing.
        registry.advance(to: 9)
        #expect(try Self.recipients(&table, registry) === first)
        registry.take(Self.endpoint("ep_b", .cloudEventsBinary), position: 9)
        #expect(try Self.recipients(&table, registry).formats == [.standard, .cloudEventsBinary])
        registry.take(.deleted(id: "ep_a"), position: 10)
        #expect(try Self.recipients(&table, registry).endpointIDs == ["ep_b"])
    }

    @Test func manyTypesAreForgottenNotKept() throws {
        var registry = Registry(rules: .init())
        registry.take(Self.endpoint("ep_a"), position: 1)
        var table = RecipientTable { _ in 0 }
        for number in 0..<(RecipientTable.typeLimit + 10) {
            #expect(try Self.recipients(&table, registry, type: "t\(number)").endpointIDs == ["ep_a"])
        }
        #expect(table.types <= RecipientTable.typeLimit)
    }
}
