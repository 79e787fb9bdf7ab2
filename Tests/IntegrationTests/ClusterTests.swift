import Foundation
import HTTPDelivery
import Kafka
import Martlet
import Testing

@testable import MartletWorker

@Suite(.serialized) struct EmbeddedClusterTests {
    @Test func delivers() async throws { try await Scenarios.delivers(nil) }
    @Test func retriesAndGivesUp() async throws { try await Scenarios.retriesAndGivesUp(nil) }
    @Test func anEndpointMovesWhileItIsAsked() async throws { try await Scenarios.anEndpointMovesWhileItIsAsked(nil) }
    @Test func parks() async throws { try await Scenarios.parksForGonePausedAndUnreadable(nil) }
    @Test func poison() async throws { try await Scenarios.poisonEndsOnTheDLQ(nil) }
    @Test func strays() async throws { try await Scenarios.poisonDeliveriesAndStrays(nil) }
    @Test func restarts() async throws { try await Scenarios.restartsWithoutLossOrDuplicate(nil) }
    @Test func goesOnBehindWhatRetentionRemoved() async throws { try await Scenarios.goesOnBehindWhatRetentionRemoved() }
    @Test func aBacklogIsFannedOutInOrder() async throws { try await Scenarios.aBacklogIsFannedOutInOrder(nil) }
    @Test func publishesFromSwift() async throws { try await Scenarios.publishesFromSwift(nil) }
    @Test func breakerOpensAndRecovers() async throws { try await Scenarios.breakerOpensAndRecovers(nil) }
    @Test func limitsAreKept() async throws { try await Scenarios.limitsAreKept(nil) }
    @Test func orderIsKept() async throws { try await Scenarios.orderIsKept(nil) }
    @Test func aRevokeLosesNothing() async throws { try await Scenarios.aRevokeLosesNothing(nil) }
    @Test func aCrashLosesNothing() async throws { try await Scenarios.aCrashLosesNothing(nil) }
    @Test func parkedDeliveriesAreReplayed() async throws { try await Scenarios.parkedDeliveriesAreReplayed(nil) }
    @Test func replayFollowsWhatIsParkedLate() async throws { try await Scenarios.replayFollowsWhatIsParkedLate(nil) }
    @Test func aReplayToADisabledEndpointWaitsForAnOperator() async throws {
        try await Scenarios.aReplayToADisabledEndpointWaitsForAnOperator(nil)
    }
    @Test func nothingSecretIsSaid() async throws { try await Scenarios.nothingSecretIsSaid(nil) }

    @Test func sealedSecretsSignAndAMissingKeyParks() async throws {
        try await Scenarios.sealedSecretsSignAndAMissingKeyParks(nil)
    }
    @Test func theDoctorFindsWhatIsWrong() async throws { try await Scenarios.theDoctorFindsWhatIsWrong(nil) }
    @Test func anOperatorSeesWhyAnEndpointFails() async throws { try await Scenarios.anOperatorSeesWhyAnEndpointFails(nil) }
    @Test func pastEventsReachANewEndpoint() async throws { try await Scenarios.pastEventsReachANewEndpoint(nil) }
    @Test func replayingEndsWhenTheEndpointIsDisabledAgain() async throws {
        try await Scenarios.replayingEndsWhenTheEndpointIsDisabledAgain(nil)
    }
    @Test func aNewerLetterIsNotRemoved() async throws { try await Scenarios.aNewerLetterIsNotRemoved(nil) }
    @Test func accessTokensAreAskedForOnce() async throws { try await Scenarios.accessTokensAreAskedForOnce(nil) }
    @Test(arguments: TransportKind.allCases) func aTokenHostIsRefusedAtTheConnection(_ transport: TransportKind) async throws {
        try await Scenarios.aTokenHostIsRefusedAtTheConnection(nil, transport)
    }
    @Test func aWrongClockHidesNoEvents() async throws { try await Scenarios.aWrongClockHidesNoEvents(nil) }
}

/// The brokers that `scripts/test` started or was given.
private let brokers = ProcessInfo.processInfo.environment["MARTLET_TEST_BROKERS"]

@Suite(.serialized, .enabled(if: brokers != nil)) struct RealKafkaTests {
    @Test func delivers() async throws { try await Scenarios.delivers(brokers) }
    @Test func retriesAndGivesUp() async throws { try await Scenarios.retriesAndGivesUp(brokers) }
    @Test func anEndpointMovesWhileItIsAsked() async throws { try await Scenarios.anEndpointMovesWhileItIsAsked(brokers) }
    @Test func parks() async throws { try await Scenarios.parksForGonePausedAndUnreadable(brokers) }
    @Test func poison() async throws { try await Scenarios.poisonEndsOnTheDLQ(brokers) }
    @Test func strays() async throws { try await Scenarios.poisonDeliveriesAndStrays(brokers) }
    @Test func restarts() async throws { try await Scenarios.restartsWithoutLossOrDuplicate(brokers) }
    @Test func aBacklogIsFannedOutInOrder() async throws { try await Scenarios.aBacklogIsFannedOutInOrder(brokers) }
    @Test func publishesFromSwift() async throws { try await Scenarios.publishesFromSwift(brokers) }
    @Test func breakerOpensAndRecovers() async throws { try await Scenarios.breakerOpensAndRecovers(brokers) }
    @Test func limitsAreKept() async throws { try await Scenarios.limitsAreKept(brokers) }
    @Test func orderIsKept() async throws { try await Scenarios.orderIsKept(brokers) }
    @Test func aRevokeLosesNothing() async throws { try await Scenarios.aRevokeLosesNothing(brokers) }
    @Test func aCrashLosesNothing() async throws { try await Scenarios.aCrashLosesNothing(brokers) }
    @Test func parkedDeliveriesAreReplayed() async throws { try await Scenarios.parkedDeliveriesAreReplayed(brokers) }
    @Test func replayFollowsWhatIsParkedLate() async throws { try await Scenarios.replayFollowsWhatIsParkedLate(brokers) }
    @Test func aReplayToADisabledEndpointWaitsForAnOperator() async throws {
        try await Scenarios.aReplayToADisabledEndpointWaitsForAnOperator(brokers)
    }
    @Test func nothingSecretIsSaid() async throws { try await Scenarios.nothingSecretIsSaid(brokers) }

    @Test func sealedSecretsSignAndAMissingKeyParks() async throws {
        try await Scenarios.sealedSecretsSignAndAMissingKeyParks(brokers)
    }
    @Test func theDoctorFindsWhatIsWrong() async throws { try await Scenarios.theDoctorFindsWhatIsWrong(brokers) }
    @Test func anOperatorSeesWhyAnEndpointFails() async throws { try await Scenarios.anOperatorSeesWhyAnEndpointFails(brokers) }
    @Test func pastEventsReachANewEndpoint() async throws { try await Scenarios.pastEventsReachANewEndpoint(brokers) }
    @Test func replayingEndsWhenTheEndpointIsDisabledAgain() async throws {
        try await Scenarios.replayingEndsWhenTheEndpointIsDisabledAgain(brokers)
    }
    @Test func aNewerLetterIsNotRemoved() async throws { try await Scenarios.aNewerLetterIsNotRemoved(brokers) }
    @Test func accessTokensAreAskedForOnce() async throws { try await Scenarios.accessTokensAreAskedForOnce(brokers) }
    @Test func aWrongClockHidesNoEvents() async throws { try await Scenarios.aWrongClockHidesNoEvents(brokers) }
    @Test func anEventReplayGoesOnWhereItEnded() async throws { try await Scenarios.anEventReplayGoesOnWhereItEnded(brokers) }
    @Test func deliversWithoutAnAttemptLog() async throws { try await Scenarios.deliversWithoutAnAttemptLog(brokers) }
    @Test func refusedDeliveriesAreLetters() async throws { try await Scenarios.refusedDeliveriesAreLetters(brokers) }

    /// Needs topics of its own making: counts, settings, growth.
    @Test func topicsAreCheckedAndGrown() async throws {
        try await Scenarios.run(brokers) { world in
            var check = try TopicCheck.run(world.kafka, world.topics, expected: World.tiers, withSettings: true)
            #expect(check.findings.isEmpty && check.partitions == World.partitions && check.tiers == World.tiers)
            check = try TopicCheck.run(
                world.kafka, world.topics, expected: World.tiers + [try #require(RetryTier(name: "9h"))], withSettings: true)
            #expect(check.findings.map(\.topic) == [world.topics.prefix + "retry.9h"] && check.findings[0].isFatal)
            #expect(try TopicAdmin(world.kafka).grow([world.topics.deliveries], to: 6).isEmpty)
            check = try TopicCheck.run(world.kafka, world.topics, expected: World.tiers, withSettings: false)
            #expect(check.findings.contains { $0.topic == world.topics.replay && $0.problem.contains("topics grow") })
            #expect(throws: StartFailure.self) { try world.start() }
        }
    }

    /// Brokers answer before they tell of a topic's partitions: `topics create` and the next command follow each other in scripts.
    @Test func aTopicThatWasCreatedCanBeUsed() throws {
        let kafka = KafkaSettings(brokers: try #require(brokers), log: { _, _ in })
        let name = "created\(UInt32.random(in: 0 ... .max))"
        #expect(try TopicAdmin(kafka).create([.init(name, partitions: 500, settings: [])], replicationFactor: 1).isEmpty)
        #expect(try TopicReader(kafka).watermarks(TopicPartition(name, 499)) == (0, 0))
        #expect(try TopicAdmin(kafka).grow([name], to: 600).isEmpty)
        #expect(try TopicReader(kafka).watermarks(TopicPartition(name, 599)) == (0, 0))
    }

    /// Two writers at once: both changes are there, none is lost.
    @Test func theRegistryIsComparedAndSet() async throws {
        try await Scenarios.run(brokers) { world in
            let store = RegistryStore(world.kafka, world.topics)
            try world.register([world.endpoint("ep_1")])
            let results = await withTaskGroup(of: Bool.self) { group in
                for number in 0..<2 {
                    group.addTask {
                        (try? store.update { rows in
                            guard var endpoint = rows["ep_1"]?.endpoint else { return [] }
                            endpoint.version += 1
                            endpoint.description = (endpoint.description ?? "") + "\(number)"
                            return [.put(endpoint)]
                        }) != nil
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            let endpoint = try #require(try store.load()["ep_1"]?.endpoint)
            #expect(endpoint.version == 1 + results.count { $0 } && endpoint.description?.count == results.count { $0 })
        }
    }

    /// Brokers answer a commit before they have marked it in the partition: a command that follows another one sees what that has written.
    @Test func whatWasWrittenCanBeReadAtOnce() async throws {
        try await Scenarios.run(brokers) { world in
            let store = RegistryStore(world.kafka, world.topics)
            for number in 1...10 {
                try world.register([world.endpoint("ep_\(number)")])
                #expect(try store.load()["ep_\(number)"] != nil)
            }
            // What the command waits with: not before the transaction's end.
            var options = Producer.Options()
            options.transactionalID = world.topics.prefix + "open"
            let producer = try Producer(world.kafka, options)
            try producer.initTransactions()
            try producer.beginTransaction()
            for partition in Int32(0)..<2 {
                let record = OutgoingRecord(topic: world.topics.replay, partition: partition, key: [1], value: [2])
                #expect(producer.produce(record, token: 1) == .queued)
            }
            var written = 0
            #expect(producer.flush(milliseconds: 9_000) { written += $0.error == nil ? 1 : 0 })
            #expect(written == 2)
            #expect(!producer.waitUntilReadable(timeoutMilliseconds: 200))
            try producer.commitTransaction()
            #expect(producer.waitUntilReadable())
        }
    }
}
