import EventLoop
import Foundation
import HTTPDelivery
import Kafka
import Martlet
import Testing

@testable import MartletWorker

/// Dead letters and how they leave their topic, as an operator would see it.
extension Scenarios {
    static func parkedDeliveriesAreReplayed(_ brokers: String?) async throws {
        try await run(brokers) { world in
            let paused = world.endpoint("ep_paused") { ($0.state, $0.types) = (.paused, [.prefix("order")]) }
            try world.register([paused, world.endpoint("ep_deleted") { ($0.state, $0.types) = (.paused, [.prefix("order")]) }])
            try world.start()
            try world.publish((0..<30).map { World.event("e\($0)") })
            try world.produce([OutgoingRecord(topic: world.topics.events, key: nil, value: Array("no event".utf8))])
            try world.wait("61 letters") { try world.letters().count == 61 }
            _ = try RegistryStore(world.kafka, world.topics).update { _ in [.delete(id: "ep_deleted")] }

            // Still paused: nothing is replayed, and it is said why.
            let everything = LetterFilter()
            var counts = try DeadLetterJob(world.kafka, world.topics, .replay(to: nil), everything).run()
            #expect(counts == .init(acted: [:], skipped: [.poison: 1, .paused: 30, .unregistered: 30]))

            var enabled = paused
            (enabled.state, enabled.version) = (.enabled, 2)
            try world.register([enabled])
            var filter = LetterFilter()
            (filter.endpoints, filter.reasons) = (["ep_paused"], ["parked"])
            counts = try DeadLetterJob(world.kafka, world.topics, .replay(to: nil), filter).count()
            #expect(counts.total == 30 && counts.skipped.isEmpty)
            counts = try DeadLetterJob(
                world.kafka, world.topics, .replay(to: nil), filter, limit: 10, rate: JobRate(count: 1_000, perMilliseconds: 1_000)
            ).run()
            #expect(counts.total == 10)
            counts = try DeadLetterJob(world.kafka, world.topics, .replay(to: nil), filter).run(settleMilliseconds: 1)
            #expect(counts.total == 20)
            try world.wait("all delivered") { world.requests.count >= 30 }
            // Running it again replays nothing.
            counts = try DeadLetterJob(world.kafka, world.topics, .replay(to: nil), filter).run()
            #expect(counts == .init())

            // What belonged to the deleted one goes to another.
            filter = LetterFilter()
            filter.endpoints = ["ep_deleted"]
            counts = try DeadLetterJob(world.kafka, world.topics, .replay(to: "ep_paused"), filter).run()
            #expect(counts.total == 30)
            try world.wait("delivered elsewhere") { world.requests.count >= 60 }
            #expect(world.stopWorker() == 0)
            #expect(world.requests.count == 60 && Set(world.requests.map(\.id)).count == 30 && world.requests.allSatisfy(\.isSigned))
            // One record each, with the letter that it came from.
            let replayed = try world.records(world.topics.replay)
            #expect(replayed.count == 60 && Set(replayed.compactMap { $0.headers["martlet-replayed-from"] }).count == 60)
            #expect(replayed.allSatisfy { $0.headers["martlet-attempt"] == "0" && $0.headers["martlet-reason"] == nil })

            // Only the poison is left; it can be seen, and removed.
            var left: [String] = []
            let reader = try DeadLetterReader(world.kafka, world.topics)
            _ = try reader.forEachLive { letter, _ in
                left.append(letter.id)
                return true
            }
            #expect(left.count == 1 && left[0].hasPrefix("poi_"))
            #expect(try reader.letter(left[0])?.0.reason == "poison")
            #expect(try DeadLetterJob(world.kafka, world.topics, .purge, everything).run().total == 1)
            #expect(try reader.letter(left[0]) == nil)
        }
    }

    /// Letters that come while an endpoint's parked ones are replayed are replayed as well.
    static func replayFollowsWhatIsParkedLate(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.register([world.endpoint("ep_1")])
            func letters(_ range: Range<Int>) -> [OutgoingRecord] {
                range.map { number in
                    let event = World.event("e\(number)")
                    var headers = DeliveryHeaders()
                    (headers.eventID, headers.source, headers.type, headers.endpointID) = (event.id, event.source, event.type, "ep_1")
                    headers.deliveryID = Identifiers.delivery(messageID: event.messageID, endpointID: "ep_1")
                    let letter = Array("{}".utf8).withUnsafeBytes {
                        DeadLetter.letter(headers, reason: .parked, body: $0, source: (world.topics.deliveries, 0, 0))
                    }
                    return OutgoingRecord(
                        topic: world.topics.deadLetters, key: Array(letter.key.utf8), value: letter.body, headers: letter.headers)
                }
            }
            try world.produce(letters(0..<700))
            let job = DeadLetterJob(world.kafka, world.topics, .replay(to: nil), LetterFilter())
            var late = false
            job.onProgress = { progress in
                guard !late, progress.acted >= 500 else { return }
                late = true
                try? world.produce(letters(700..<720))
            }
            #expect(try job.run(settleMilliseconds: 2_000).total == 720)
            let replayed = try world.records(world.topics.replay)
            #expect(replayed.count == 720 && Set(replayed.compactMap { $0.headers["martlet-delivery-id"] }).count == 720)
        }
    }

    /// Past events go to an endpoint that was created after them; run again it does nothing, and what comes later isn't its business.
    static func pastEventsReachANewEndpoint(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.publish((0..<40).map { World.event("old\($0)", type: $0 % 2 == 0 ? "order.created" : "invoice.paid") })
            try world.publish([World.event("foreign", tenant: "other")])
            try world.produce([OutgoingRecord(topic: world.topics.events, key: nil, value: Array("no event".utf8))])
            let since = SystemClock.wallMilliseconds() - 600_000
            let late = world.endpoint("ep_late") { $0.types = [.prefix("order"), .prefix("invoice")] }
            try world.register([late, world.endpoint("ep_off") { $0.state = .paused }])
            func job(_ id: String = "ep_late", types: [TypePattern] = []) -> EventReplayJob {
                EventReplayJob(world.kafka, world.topics, to: id, .init(since: since, types: types))
            }
            #expect(throws: EventReplayJob.Refusal.self) { try job("ep_none").run() }
            #expect(throws: EventReplayJob.Refusal.self) { try job("ep_off").run() }

            var expected = EventReplay.Counts()
            (expected.read, expected.replayed, expected.otherTenant, expected.poison) = (42, 40, 1, 1)
            #expect(try job().count() == .init(counts: expected))
            #expect(try job().run() == .init(counts: expected))
            try world.publish([World.event("new")])
            // The embedded cluster doesn't keep offsets that are committed in transactions.
            if brokers != nil { #expect(try job().run() == .init(wasDone: true)) }
            // Another selection is another replay.
            (expected.replayed, expected.otherType, expected.read) = (20, 21, 43)
            (expected.otherTenant, expected.poison) = (1, 1)
            #expect(try job(types: [.exact("invoice.paid")]).run() == .init(counts: expected))
            #expect(try job(types: [.exact("invoice.paid")]).run(again: true) == .init(counts: expected))

            let replayed = try world.records(world.topics.replay)
            #expect(
                replayed.count == 80 && replayed.allSatisfy { $0.headers["martlet-replayed-from"]?.hasPrefix(world.topics.events) == true })
            try world.start()
            // As a fan-out that starts anew begins with the oldest event, each comes that way, too.
            try world.wait("all delivered") { world.requests.count >= 121 }
            #expect(world.stopWorker() == 0)
            #expect(world.requests.count == 121 && Set(world.requests.map(\.id)).count == 41)
            #expect(world.requests.allSatisfy { $0.isSigned && $0.path == "/ep_late" })
        }
    }

    /// A replay that was cut short goes on behind what it had written. For a real Kafka: the embedded cluster neither fences nor hides what
    /// was aborted.
    static func anEventReplayGoesOnWhereItEnded(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.publish((0..<3_000).map { World.event("e\($0)") })
            try world.register([world.endpoint("ep_1")])
            let range = EventReplay.Range(since: SystemClock.wallMilliseconds() - 600_000)
            let first = EventReplayJob(world.kafka, world.topics, to: "ep_1", range)
            var second: EventReplayJob.Outcome?
            // Another run takes over in the middle of the first.
            first.onProgress = { progress in
                guard second == nil, progress.acted >= 1_200 else { return }
                second = try? EventReplayJob(world.kafka, world.topics, to: "ep_1", range).run()
            }
            #expect(throws: KafkaError.self) { try first.run() }
            let replayed = try world.records(world.topics.replay)
            #expect(Set(replayed.compactMap { $0.headers["martlet-delivery-id"] }).count == 3_000)
            #expect(replayed.count == 3_000)
            #expect((1...2_999).contains(second?.counts.replayed ?? 0))
        }
    }

    /// What an operator is told of a failing endpoint: its breaker, when it is probed, what waits; and what a test request brings.
    static func anOperatorSeesWhyAnEndpointFails(_ brokers: String?) async throws {
        try await run(brokers, answer: { path, _ in path == "/ep_bad" ? 503 : 200 }) { world in
            let bad = world.endpoint("ep_bad") {
                // Not the operational events that its failing brings.
                ($0.schedule, $0.types) = (RetrySchedule(delaysMilliseconds: [60_000]) ?? .standard, [.prefix("order")])
            }
            try world.register([bad, world.endpoint("ep_good")])
            try world.start { $0.lane.breaker.openMilliseconds = 120_000 }
            try world.publish((0..<20).map { World.event("e\($0)") })
            func reports() throws -> [EndpointReport] { try EndpointReports.read(world.kafka, world.topics, withBacklog: true) }
            try world.wait("the breaker is open and all is written") {
                let reports = try reports()
                return reports.first?.health?.breaker == .open && reports.first?.backlog?.waiting == 20
                    && reports.allSatisfy { $0.partitionLag == 0 }
            }
            let all = try reports()
            #expect(all.map(\.id) == ["ep_bad", "ep_good"])
            #expect((5...20).contains(all[0].backlog?.retrying ?? 0))
            #expect((all[0].health?.openUntilMilliseconds ?? 0) > SystemClock.wallMilliseconds())
            #expect(all[0].health?.failingSinceMilliseconds != nil && all[0].disabled == nil)
            #expect(all[1].backlog == EndpointBacklog() && all[1].health?.failingSinceMilliseconds == nil)
            let unknown = try EndpointReports.read(world.kafka, world.topics, only: "ep_none", withBacklog: false)
            #expect(unknown.count == 1 && unknown[0].endpoint == nil && unknown[0].health == nil)

            let rules = EndpointURL.Rules(
                allowHTTP: true, addresses: AddressPolicy(allowed: [Network("127.0.0.0/8")].compactMap(\.self)))
            func test(_ endpoint: Endpoint, _ rules: EndpointURL.Rules) -> EndpointTrial.Exchange? {
                EndpointTrial(PreparedEndpoint(endpoint, rules: rules), .init(addresses: rules.addresses))
                    .send(World.event("test", type: "martlet.test"))
            }
            let before = world.requests.count
            #expect(test(bad, rules)?.result.status == 503)
            #expect(world.requests.count == before + 1 && world.requests.last?.isSigned == true)
            #expect(world.requests.last?.body.contains("martlet.test") == true)
            #expect(test(bad, EndpointURL.Rules()) == nil)
        }
    }

    /// The doctor finds nothing wrong where nothing is, and leaves nothing behind; it names what is missing or set too low.
    static func theDoctorFindsWhatIsWrong(_ brokers: String?) async throws {
        try await run(brokers) { world in
            func examine(_ topics: Topics) throws -> [Finding] {
                var doctor = KafkaDoctor(world.kafka, topics, tiers: World.tiers)
                try doctor.examine(probeWrites: true)
                return doctor.findings
            }
            let healthy = try examine(world.topics)
            #expect(!healthy.contains { $0.level == .wrong }, "\(healthy)")
            for topic in [world.topics.deliveries, world.topics.deadLetters] {
                #expect(try world.records(topic).isEmpty)
            }
            guard brokers != nil else {
                // The embedded cluster tells no settings, and makes every topic that is asked for.
                #expect(healthy.count { $0.level == .unchecked } == 2)
                return
            }
            #expect(healthy.contains { $0.level == .ok && $0.area == "clock" })
            #expect(healthy.contains { $0.level == .risk && $0.advice?.contains("offsets.retention.minutes=20160") == true })

            let sick = Topics(prefix: world.topics.prefix + "sick.")
            let made = sick.specifications(partitions: 4, replicationFactor: 1, tiers: World.tiers).filter { $0.name != sick.deadLetters }
            let failures = try TopicAdmin(world.kafka).create(
                made.map { topic in
                    var settings = topic.settings
                    if topic.name == sick.replay { settings["retention.ms"] = "3600000" }
                    if topic.name == sick.deliveries { settings["message.timestamp.type"] = "CreateTime" }
                    return .init(
                        topic.name, partitions: topic.name == sick.health ? 2 : topic.partitions,
                        settings: settings.map { ($0.key, $0.value) })
                }, replicationFactor: 1)
            #expect(failures.isEmpty)
            let found = try examine(sick)
            func finds(_ text: String, _ advice: String) -> Bool {
                found.contains { $0.level == .wrong && $0.text.contains(text) && $0.advice?.contains(advice) == true }
            }
            #expect(finds("dlq is missing", "topics create"), "\(found)")
            #expect(finds("health has 2 partitions", "topics grow"), "\(found)")
            #expect(finds("replay keeps records for 1 h", "retention.ms"), "\(found)")
        }
    }

    /// What a worker has disabled by itself isn't replayed into parking again; an operator's edit lifts that.
    static func aReplayToADisabledEndpointWaitsForAnOperator(_ brokers: String?) async throws {
        try await run(brokers, answer: { _, number in number == 1 ? 410 : 200 }) { world in
            var gone = world.endpoint("ep_gone") { ($0.types, $0.maxConcurrency) = ([.prefix("order")], 1) }
            try world.register([gone])
            try world.start()
            try world.publish((0..<3).map { World.event("e\($0)") })
            try world.wait("gone and parked") { try world.letters().count == 3 }
            func replay() throws -> LetterPlan.Counts {
                try DeadLetterJob(world.kafka, world.topics, .replay(to: nil), LetterFilter()).run()
            }
            #expect(try replay() == .init(skipped: [.paused: 3]))
            #expect(throws: EventReplayJob.Refusal.self) {
                try EventReplayJob(world.kafka, world.topics, to: "ep_gone", .init(since: 0)).run()
            }
            gone.version = 2
            try world.register([gone])
            #expect(try replay().total == 3)
            try world.wait("delivered") { world.requests.count == 4 }
            #expect(world.stopWorker() == 0)
        }
    }
}
