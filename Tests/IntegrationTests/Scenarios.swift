import EventLoop
import Foundation
import JSON
import Kafka
import Martlet
import MartletProducer
import Synchronization
import Testing

@testable import MartletWorker

/// The same scenarios on any cluster: what a user would notice.
enum Scenarios {
    static func run(
        _ brokers: String?, recordBytes: (topic: @Sendable (Topics) -> String, bytes: Int)? = nil,
        answer: @escaping @Sendable (String, Int) -> Int = { _, _ in 200 },
        _ body: (World) async throws -> Void
    ) async throws {
        let world = try World(realBrokers: brokers, recordBytes: recordBytes, answer: answer)
        defer { world.stop() }
        try await body(world)
    }

    static func delivers(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.register([
                world.endpoint("ep_all"), world.endpoint("ep_orders") { $0.types = [.prefix("order")] },
                world.endpoint("ep_other") { $0.tenant = "acme" },
            ])
            try world.start()
            try world.publish((0..<50).map { World.event("e\($0)", type: $0 % 2 == 0 ? "order.created" : "invoice.paid") })
            try world.wait("75 deliveries") { world.requests.count >= 75 }
            #expect(world.stopWorker() == 0)
            let requests = world.requests
            #expect(requests.count == 75 && requests.allSatisfy(\.isSigned))
            #expect(requests.count { $0.path == "/ep_orders" } == 25 && !requests.contains { $0.path == "/ep_other" })
            #expect(requests.first { $0.path == "/ep_orders" }?.body.hasPrefix("{\"type\":\"order.created\",\"timestamp\":\"") == true)
            #expect(try world.letters().isEmpty)
            let attempts = try world.records(world.topics.attempts)
            #expect(attempts.count == 75)
            for record in try attempts.map({ try JSONValue.parse($0.value ?? "") }) {
                let id = record["endpointId"]?.stringValue ?? ""
                #expect(
                    record["outcome"]?.stringValue == "delivered" && record["status"]?.intValue == 200
                        && record["worker"]?.stringValue == "test" && record["url"]?.stringValue == world.endpoint(id).url)
            }
        }
    }

    /// Attempt records that the brokers refuse are counted; deliveries and commits go on. For a real Kafka, as the embedded one refuses none.
    static func deliversWithoutAnAttemptLog(_ brokers: String?) async throws {
        try await run(brokers, recordBytes: (\.attempts, 100)) { world in
            try world.register([world.endpoint("ep_1") { $0.types = [.prefix("order")] }])
            try world.start()
            try world.publish((0..<20).map { World.event("e\($0)") })
            try world.wait("all are delivered, all losses counted") {
                world.requests.count >= 20 && world.metrics.contains("\nmartlet_attempt_log_errors_total 20\n")
            }
            #expect(world.stopWorker() == 0)
            // What is done is committed: a successor has nothing to do.
            try world.start()
            #expect(world.stopWorker() == 0)
            #expect(world.requests.count == 20)
            #expect(try world.letters().isEmpty && world.records(world.topics.attempts).isEmpty)
        }
    }

    /// Deliveries that the brokers refuse, more of them than fan-out's producers have room for: each becomes a dead letter, once.
    static func refusedDeliveriesAreLetters(_ brokers: String?) async throws {
        try await run(brokers, recordBytes: (\.deliveries, 50_000)) { world in
            try world.register([world.endpoint("ep_1")])
            // A text that no compression makes small enough.
            var generator = SeededGenerator(seed: 1)
            let text = (0..<100_000).map { _ in UInt8(ascii: "a") + UInt8(generator.next() % 26) }
            try world.publish(
                (0..<60).map {
                    var event = World.event("e\($0)")
                    event.data = [UInt8(ascii: "\"")] + text + [UInt8(ascii: "\"")]
                    return event
                })
            // Each producer has a half of that.
            try world.start { $0.fanOutBytesLimit = 1 << 20 }
            try world.wait("60 letters") { try world.letters().count >= 60 }
            #expect(world.stopWorker() == 0)
            let letters = try world.letters()
            #expect(letters.count == 60 && letters.allSatisfy { $0.reason == "oversize" })
            #expect(try world.records(world.topics.deliveries).isEmpty && world.requests.isEmpty)
        }
    }

    static func retriesAndGivesUp(_ brokers: String?) async throws {
        try await run(brokers, answer: { path, number in path == "/ep_twice" && number > 2 ? 200 : 503 }) { world in
            try world.register([world.endpoint("ep_twice"), world.endpoint("ep_never") { $0.maxConcurrency = 1 }])
            try world.start()
            try world.publish([World.event("a")])
            try world.wait("the dead letter") { try !world.letters().isEmpty && world.requests.count { $0.path == "/ep_twice" } == 3 }
            let letter = try #require(try world.letters().first)
            #expect(
                letter.reason == "exhausted" && letter.headers["martlet-attempt"] == "3" && letter.headers["martlet-last-status"] == "503")
            #expect(letter.headers["__connect.errors.topic"]?.hasPrefix(world.topics.retryPrefix) == true && letter.headers["ce_id"] == "a")
            #expect(
                letter.key == Identifiers.delivery(messageID: World.event("a").messageID, endpointID: "ep_never")
                    && letter.body?.contains("\"id\":\"a\"") == true)
            // Every retry signs and sends the same bytes.
            #expect(
                Set(world.requests.map(\.body)).count == 1 && Set(world.requests.map(\.id)).count == 1
                    && world.requests.allSatisfy(\.isSigned))
        }
    }

    /// An attempt that began is the old address's, and so says its record; the next one is the new one's.
    static func anEndpointMovesWhileItIsAsked(_ brokers: String?) async throws {
        let asked = Mutex<World?>(nil)
        @Sendable func moved(_ world: World) -> Endpoint { world.endpoint("ep_1") { $0.url = world.endpoint("new").url } }
        let answer: @Sendable (String, Int) -> Int = { path, number in
            guard path == "/ep_1" else { return 200 }
            if number == 1, let world = asked.withLock({ $0 }) {
                #expect(throws: Never.self) {
                    try world.register([moved(world), world.endpoint("ep_2") { $0.types = [.exact("none")] }])
                    try world.wait("the new address") { world.metrics.contains("martlet_registry_endpoints 2\n") }
                }
            }
            return 503
        }
        try await run(brokers, answer: answer) { world in
            asked.withLock { $0 = world }
            defer { asked.withLock { $0 = nil } }
            try world.register([world.endpoint("ep_1")])
            try world.start()
            try world.publish([World.event("a")])
            try world.wait("the delivery") { world.requests.contains { $0.path == "/new" } }
            #expect(world.stopWorker() == 0)
            #expect(world.requests.map(\.path) == ["/ep_1", "/new"])
            let attempts = try world.records(world.topics.attempts).map { try JSONValue.parse($0.value ?? "") }
            #expect(attempts.map { $0["url"]?.stringValue } == [world.endpoint("ep_1").url, moved(world).url])
            #expect(attempts.map { $0["outcome"]?.stringValue } == ["retry", "delivered"])
        }
    }

    static func parksForGonePausedAndUnreadable(_ brokers: String?) async throws {
        try await run(brokers, answer: { path, _ in path == "/ep_gone" ? 410 : 200 }) { world in
            // Not the operational events.
            let orders = [TypePattern.prefix("order")]
            let gone = world.endpoint("ep_gone") { ($0.maxConcurrency, $0.types) = (1, orders) }
            let paused = world.endpoint("ep_paused") { ($0.state, $0.types) = (.paused, orders) }
            try world.register([gone, paused, world.endpoint("ep_fine") { $0.types = orders }])
            try world.produce([
                OutgoingRecord(
                    topic: world.topics.endpoints, partition: 0, key: Array("ep_newer".utf8),
                    value: Array("{\"v\":2,\"id\":\"ep_newer\"}".utf8),
                    headers: [("tenant", Array("default".utf8)), ("types", Array("order.*".utf8))])
            ])
            try world.start()
            try world.publish((0..<5).map { World.event("e\($0)") })
            try world.wait("15 letters") { try world.letters().count >= 15 && world.requests.count { $0.path == "/ep_fine" } >= 5 }
            let reasons = Dictionary(grouping: try world.letters()) { "\($0.headers["martlet-endpoint-id"] ?? "") \($0.reason)" }.mapValues(
                \.count)
            #expect(reasons == ["ep_gone gone": 1, "ep_gone parked": 4, "ep_paused parked": 5, "ep_newer parked": 5])
            #expect(world.metrics.contains("martlet_registry_unreadable_total 1\n"))
            // The health record disables it for the next worker as well, until an operator edits the endpoint.
            world.stopWorker()
            try world.start()
            try world.publish([World.event("later")])
            try world.wait("parked again") { try world.letters().count { $0.headers["martlet-endpoint-id"] == "ep_gone" } == 6 }
            #expect(world.requests.count { $0.path == "/ep_gone" } == 1)
            var edited = gone
            edited.version = 2
            try world.register([edited])
            // Until the worker has seen the edit, each event is parked; then one is sent.
            for number in 0..<200 where world.requests.count(where: { $0.path == "/ep_gone" }) == 1 {
                let event = World.event("edited-\(number)")
                try world.publish([event])
                try world.wait("its end") {
                    let isSent = world.requests.contains { $0.path == "/ep_gone" && $0.id == event.messageID }
                    return try isSent
                        || world.letters().contains { $0.headers["ce_id"] == event.id && $0.headers["martlet-endpoint-id"] == "ep_gone" }
                }
            }
            #expect(world.requests.count { $0.path == "/ep_gone" } == 2)
        }
    }

    static func poisonEndsOnTheDLQ(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.register([world.endpoint("ep_all")])
            try world.start()
            func headers(_ changes: [String: String] = [:], without: String = "") -> [(name: String, value: [UInt8])] {
                var all = ["ce_specversion": "1.0", "ce_id": "p", "ce_source": "/s", "ce_type": "t", "content-type": "application/json"]
                for (name, value) in changes { all[name] = value }
                all[without] = nil
                return all.sorted { $0.key < $1.key }.map { ($0.key, Array($0.value.utf8)) }
            }
            let json = Array("{}".utf8)
            let poison: [(String, [(name: String, value: [UInt8])], [UInt8]?)] = [
                ("ce_id is missing", headers(without: "ce_id"), json), ("ce_source is missing or empty", headers(["ce_source": ""]), json),
                ("ce_type is missing", headers(without: "ce_type"), json), ("expected 1.0", headers(["ce_specversion": "0.3"]), json),
                ("isn't supported", headers(["content-type": "application/cloudevents+avro"]), json),
                ("isn't supported", headers(["content-type": "application/cloudevents-batch+json"]), Array("[]".utf8)),
                ("isn't a valid JSON object", [("content-type", Array("application/cloudevents+json".utf8))], Array("{\"id\":".utf8)),
                ("isn't valid JSON", headers(), Array("{".utf8)), ("isn't UTF-8", headers() + [("ce_x", [0xff])], json),
                ("longer than 1024", headers(["ce_subject": String(repeating: "s", count: 1_025)]), json),
                ("ce_tenant", headers(["ce_tenant": "a/b"]), json),
                ("null value without", [], nil),
                ("1000001 bytes", headers(["content-type": "text/plain"]), [UInt8](repeating: 65, count: 1_000_001)),
            ]
            var records: [OutgoingRecord] = []
            for (index, item) in poison.enumerated() {
                let good = World.event("good-\(index)")
                records.append(
                    OutgoingRecord(topic: world.topics.events, partition: 1, key: nil, value: good.data, headers: good.binaryHeaders))
                records.append(OutgoingRecord(topic: world.topics.events, partition: 1, key: nil, value: item.2, headers: item.1))
            }
            try world.produce(records)
            try world.wait("all ended") { try world.letters().count >= poison.count && world.requests.count >= poison.count }
            let letters = try world.letters()
            #expect(letters.count == poison.count && world.requests.count == poison.count)
            for (index, item) in poison.enumerated() {
                let offset = String(index * 2 + 1)
                let letter = letters.first { $0.headers["__connect.errors.offset"] == offset }
                #expect(
                    letter?.reason == "poison" && letter?.headers["martlet-last-error"]?.contains(item.0) == true,
                    "\(item.0): \(letter?.headers ?? [:])")
                #expect(letter?.key == Identifiers.poison(topic: world.topics.events, partition: 1, offset: Int64(index * 2 + 1)))
                #expect(
                    letter?.headers["__connect.errors.topic"] == world.topics.events && letter?.headers["__connect.errors.partition"] == "1"
                )
            }
        }
    }

    static func poisonDeliveriesAndStrays(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.register([world.endpoint("ep_all")])
            let home = Murmur2.partition(of: Array("ep_all".utf8), count: World.partitions)
            var headers = DeliveryHeaders()
            (headers.deliveryID, headers.endpointID, headers.eventID, headers.source, headers.type) = (
                "dlv_astray", "ep_all", "1", "/s", "t"
            )
            headers.ageFromMilliseconds = SystemClock.wallMilliseconds()
            let body = Array("{}".utf8)
            var deleted = headers
            (deleted.deliveryID, deleted.endpointID) = ("dlv_deleted", "ep_deleted")
            try world.produce([
                OutgoingRecord(
                    topic: world.topics.deliveries, partition: (home + 1) % 4, key: Array("ep_all".utf8), value: body,
                    headers: headers.encoded),
                OutgoingRecord(topic: world.topics.deliveries, partition: home, key: nil, value: body, headers: [("x", body)]),
                OutgoingRecord(topic: world.topics.deliveries, partition: home, key: nil, value: nil, headers: headers.encoded),
                OutgoingRecord(topic: world.topics.deliveries, key: Array("ep_deleted".utf8), value: body, headers: deleted.encoded),
            ])
            try world.start()
            try world.wait("all ended") { try world.letters().count >= 3 && world.requests.count >= 1 }
            #expect(world.requests.count == 1)
            #expect(try world.letters().map(\.reason).sorted() == ["endpoint-deleted", "poison", "poison"])
            #expect(try world.records(world.topics.deliveries).count { $0.headers["martlet-rewrites"] == "1" } == 1)
        }
    }

    /// What retention removed before it was read is lost; what it left is delivered, and what comes after. The embedded cluster keeps 5 MiB of
    /// a partition.
    static func goesOnBehindWhatRetentionRemoved() async throws {
        try await run(nil) { world in
            try world.register([world.endpoint("ep_all")])
            let home = TopicPartition(world.topics.deliveries, Murmur2.partition(of: Array("ep_all".utf8), count: World.partitions))
            for number in 0..<14 {
                var headers = DeliveryHeaders()
                (headers.deliveryID, headers.endpointID, headers.eventID) = ("dlv_\(number)", "ep_all", "\(number)")
                (headers.source, headers.type, headers.ageFromMilliseconds) = ("/s", "t", SystemClock.wallMilliseconds())
                try world.produce([
                    OutgoingRecord(
                        topic: home.topic, partition: home.partition, key: Array("ep_all".utf8), value: incompressible,
                        headers: headers.encoded)
                ])
            }
            let consumer = try GroupConsumer(world.kafka, .init(group: world.topics.deliveryGroup))
            _ = try consumer.commit([PartitionOffset(home, offset: 0)])
            var isCommitted = false
            try world.wait("the commit") {
                consumer.poll { if case .committed(_, nil) = $0 { isCommitted = true } }
                return isCommitted
            }
            consumer.abandon()
            let low = try TopicReader(world.kafka).watermarks(home).low
            #expect(low > 0)
            try world.start()
            try world.wait("what is left") { world.requests.count >= 14 - Int(low) }
            try world.publish([World.event("later")])
            try world.wait("what comes after") { world.requests.count >= 15 - Int(low) }
            #expect(world.stopWorker() == 0 && world.requests.count == 15 - Int(low))
        }
    }

    /// 500 kB.
    private static let incompressible: [UInt8] = {
        var generator = SeededGenerator(seed: 1)
        return (0..<500_000).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    }()

    static func restartsWithoutLossOrDuplicate(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.register([world.endpoint("ep_all")])
            try world.start()
            try world.publish((0..<400).map { World.event("a\($0)") })
            try world.wait("some deliveries") { world.requests.count > 50 }
            #expect(world.stopWorker() == 0)
            try world.publish((0..<100).map { World.event("b\($0)") })
            try world.start()
            try world.wait("500 deliveries") { Set(world.requests.map(\.id)).count == 500 }
            #expect(world.stopWorker() == 0)
            #expect(world.requests.count == 500)
        }
    }

    /// Events that wait are fanned out another way than those that come one by one.
    static func aBacklogIsFannedOutInOrder(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.register([world.endpoint("ep_1"), world.endpoint("ep_2")])
            var options = Producer.Options()
            options.lingerMilliseconds = 0
            let producer = try Producer(world.kafka, options)
            var published = 0
            func publish(_ count: Int, oneByOne: Bool = false) throws {
                let events = (published..<published + count).map { World.event("e\($0)") }
                for piece in oneByOne ? events.map({ [$0] }) : [events] { try world.publish(piece, through: producer) }
                published += count
            }
            func waitForAll() throws { try world.wait("\(published) events") { world.requests.count >= 2 * published } }
            try publish(1_500)
            try world.start()
            for _ in 0..<2 {
                // One by one while those that wait are fanned out, and after it.
                try publish(1_500)
                try publish(500, oneByOne: true)
                try waitForAll()
            }
            #expect(!world.metrics.contains("martlet_fanout_backlogs_total 0\n"))
            #expect(world.stopWorker() == 0)
            let requests = world.requests
            #expect(requests.count == 2 * published && Set(requests.map { $0.path + $0.id }).count == requests.count)
            // By endpoint and the events' partition: an endpoint's deliveries lie in one partition.
            var latest: [String: Int] = [:]
            for delivery in try world.records(world.topics.deliveries) {
                let origin = try #require(delivery.headers["martlet-origin"]).split(separator: "/")
                let (key, offset) = ("\(delivery.key)/\(origin[1])", try #require(Int(origin[2])))
                #expect(offset == (latest[key] ?? -1) + 1)
                latest[key] = offset
            }
            #expect(latest.values.reduce(0) { $0 + $1 + 1 } == 2 * published)
        }
    }

    static func publishesFromSwift(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.register([world.endpoint("ep_all") { $0.tenant = "acme" }])
            try world.start()
            var configuration = EventProducerConfiguration(brokers: world.kafka.brokers, source: "/shop")
            configuration.topic = world.topics.events
            configuration.tenant = "acme"
            let producer = try EventProducer(configuration)
            let id = WebhookEvent.deterministicID("order", "1")
            #expect(id == WebhookEvent.deterministicID("order", "1") && id != WebhookEvent.deterministicID("order1"))
            let receipt = try await producer.publish(WebhookEvent(id: id, type: "order.created", json: ["total": 42]))
            #expect(
                receipt.topic == world.topics.events
                    && receipt.messageID == Identifiers.message(tenant: "acme", source: "/shop", eventID: id))
            let receipts = try await producer.publish(
                (0..<200).map { WebhookEvent(id: "b\($0)", type: "order.created", data: Array("{}".utf8)) })
            #expect(Set(receipts.map(\.messageID)).count == 200)
            await #expect(throws: PublishError.self) { try await producer.publish(WebhookEvent(id: "", type: "t")) }
            await #expect(throws: PublishError.self) { try await producer.publish(WebhookEvent(id: "x", type: "t", data: Array("{".utf8))) }
            await producer.flush()
            await producer.close()
            await #expect(throws: PublishError.self) { try await producer.publish(WebhookEvent(id: "x", type: "t")) }
            try world.wait("201 deliveries") { world.requests.count >= 201 }
            #expect(Set(world.requests.map(\.id)) == Set(receipts.map(\.messageID) + [receipt.messageID]))
            #expect(world.requests.first { $0.id == receipt.messageID }?.body.hasSuffix(",\"data\":{\"total\":42}}") == true)
        }
    }
}
