import Foundation
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
            counts = try DeadLetterJob(world.kafka, world.topics, .replay(to: nil), filter, limit: 10, rate: 1_000).run()
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
}
