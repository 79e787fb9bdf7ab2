import EventLoop
import Kafka
import Martlet
import Testing

@testable import MartletWorker

/// What may go wrong while letters and events are replayed.
extension Scenarios {
    /// An endpoint that answers 410 to what is replayed is disabled again: then its letters stay, instead of going round for ever.
    static func replayingEndsWhenTheEndpointIsDisabledAgain(_ brokers: String?) async throws {
        try await run(brokers, answer: { _, _ in 410 }) { world in
            let paused = world.endpoint("ep_gone") { ($0.state, $0.types) = (.paused, [.prefix("order")]) }
            try world.register([paused])
            try world.start()
            try world.publish((0..<60).map { World.event("e\($0)") })
            try world.wait("60 letters") { try world.letters().count == 60 }
            var enabled = paused
            (enabled.state, enabled.version) = (.enabled, 2)
            try world.register([enabled])
            var filter = LetterFilter()
            (filter.endpoints, filter.reasons) = (["ep_gone"], ["parked"])
            #expect(throws: DeadLetterJob.NotEnabled.self) {
                try DeadLetterJob(world.kafka, world.topics, .replay(to: nil), filter).run(settleMilliseconds: 30_000)
            }
            #expect(try world.records(world.topics.replay).count < 600)
            #expect(world.stopWorker() == 0)
        }
    }

    /// A letter that dies again while a job works isn't removed with its predecessor.
    static func aNewerLetterIsNotRemoved(_ brokers: String?) async throws {
        try await run(brokers) { world in
            func letter(_ number: Int, _ reason: DeadReason) -> OutgoingRecord {
                var headers = DeliveryHeaders()
                (headers.eventID, headers.source, headers.type, headers.endpointID) = ("e\(number)", "/s", "order.created", "ep_1")
                headers.deliveryID = Identifiers.delivery(messageID: headers.messageID, endpointID: "ep_1")
                let letter = Array("{}".utf8).withUnsafeBytes {
                    DeadLetter.letter(headers, reason: reason, body: $0, source: (world.topics.deliveries, 0, 0))
                }
                return OutgoingRecord(
                    topic: world.topics.deadLetters, partition: 0, key: Array(letter.key.utf8), value: letter.body, headers: letter.headers)
            }
            try world.produce((0..<4).map { letter($0, .exhausted) })
            var filter = LetterFilter()
            filter.reasons = ["exhausted"]
            let job = DeadLetterJob(
                world.kafka, world.topics, .purge, filter, rate: JobRate(count: 1, perMilliseconds: 1_000))
            var isReplaced = false
            job.onProgress = { progress in
                guard !isReplaced, progress.acted >= 1 else { return }
                isReplaced = true
                try? world.produce([letter(3, .parked)])
            }
            let counts = try job.run()
            #expect(isReplaced && counts.total == 3 && counts.skipped == [.replaced: 1])
            var left: [String?] = []
            _ = try DeadLetterReader(world.kafka, world.topics).forEachLive { letter, _ in
                left.append(letter.reason)
                return true
            }
            #expect(left == ["parked"])
        }
    }

    /// A producer's wrong clock doesn't hide the events behind it from a time range.
    static func aWrongClockHidesNoEvents(_ brokers: String?) async throws {
        try await run(brokers) { world in
            let first = SystemClock.wallMilliseconds() - 6 * 3_600_000
            try world.produce(
                (0..<30).map { number in
                    let event = World.event("e\(number)")
                    return OutgoingRecord(
                        topic: world.topics.events, partition: 1, key: nil, value: event.data, headers: event.binaryHeaders,
                        timestampMilliseconds: number == 10 ? first + 5 * 3_600_000 : first + Int64(number) * 1_000)
                })
            try world.register([world.endpoint("ep_1")])
            let range = EventReplay.Range(since: first, until: first + 600_000)
            let job = EventReplayJob(world.kafka, world.topics, inputs: ["^" + world.topics.prefix], to: "ep_1", range)
            let counts = try job.count().counts
            #expect(counts.replayed == 29 && counts.outsideTime == 1)
            #expect(try job.run().counts.replayed == 29)
            // Martlet's own topics aren't taken for events, whatever the expression says.
            #expect(
                try EventReplayJob(world.kafka, world.topics, inputs: ["^" + world.topics.prefix], to: "ep_1", .init(since: 0)).count()
                    .counts.read == 30)
        }
    }
}
