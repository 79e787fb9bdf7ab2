import EventLoop
import Foundation
import Kafka
import Martlet
import Testing

@testable import MartletWorker

/// What the simulator proves of the state machine, seen through the real drivers: breaker, limits, order, revoke, crash.
extension Scenarios {
    static func breakerOpensAndRecovers(_ brokers: String?) async throws {
        // Fails until the breaker has opened and a probe has failed, then answers.
        try await run(brokers, answer: { path, number in path == "/ep_sick" && number <= 6 ? 503 : 200 }) { world in
            try world.register([
                world.endpoint("ep_sick") {
                    $0.types = [.exact("order.created")]
                    $0.schedule = RetrySchedule(delaysMilliseconds: Array(repeating: 100, count: 20)) ?? .standard
                }, world.endpoint("ep_watcher") { $0.types = [.prefix("martlet.endpoint")] },
            ])
            try world.start()
            try world.publish((0..<8).map { World.event("e\($0)") })
            try world.wait("all delivered") {
                Set(world.requests.filter { $0.path == "/ep_sick" }.map(\.id)).count == 8 && world.requests.count >= 6 + 8
            }
            try world.wait("failing and recovered are told") {
                let bodies = world.requests.filter { $0.path == "/ep_watcher" }.map(\.body)
                return bodies.contains { $0.contains("martlet.endpoint.failing") && $0.contains("\"endpointId\":\"ep_sick\"") }
                    && bodies.contains { $0.contains("martlet.endpoint.recovered") }
            }
            #expect(world.stopWorker() == 0)
            // While open nothing was sent: six failures, eight successes, no attempt beyond them.
            #expect(world.requests.count { $0.path == "/ep_sick" } == 14)
            #expect(try world.letters().isEmpty)
            let health = try world.records(world.topics.health).filter { $0.key == "ep_sick" }.compactMap(\.value)
            #expect(health.contains { $0.contains("\"breaker\":\"open\"") } && health.last?.contains("\"breaker\":\"closed\"") == true)
        }
    }

    static func limitsAreKept(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.register([
                world.endpoint("ep_slow") { $0.rate = RateLimit(n: 20, perMilliseconds: 1_000, burst: 2) }, world.endpoint("ep_free"),
            ])
            try world.start()
            try world.publish((0..<40).map { World.event("e\($0)") })
            try world.wait("80 deliveries") { world.requests.count >= 80 }
            #expect(world.stopWorker() == 0)
            // By what the worker's own records say of when it started each attempt.
            let starts = try world.records(world.topics.attempts).filter { $0.key == "ep_slow" }.compactMap { started($0.value) }.sorted()
            #expect(starts.count == 40)
            for (index, start) in starts.enumerated() {
                let within = starts[index...].prefix { $0 - start <= 1_000 }.count
                #expect(within <= 20 + 2 + 1, "\(within) starts within a second")
            }
            #expect(world.requests.count { $0.path == "/ep_free" } == 40)
        }
    }

    private static func started(_ record: String?) -> Int64? {
        record?.components(separatedBy: "\"startedMs\":").last.flatMap { Int64($0.prefix { $0.isNumber }) }
    }

    static func orderIsKept(_ brokers: String?) async throws {
        // The third request fails, and some later ones.
        let failing: Set<Int> = [3, 4, 9, 17]
        try await run(brokers, answer: { path, number in path == "/ep_strict" && failing.contains(number) ? 500 : 200 }) { world in
            try world.register([
                world.endpoint("ep_strict") {
                    $0.ordering = .strict
                    $0.schedule = RetrySchedule(delaysMilliseconds: [100, 200, 300]) ?? .standard
                }, world.endpoint("ep_free"),
            ])
            try world.start()
            let events = (0..<60).map { World.event("e\($0)") }
            // One partition: there is one order.
            try world.produce(
                events.map { OutgoingRecord(topic: world.topics.events, partition: 0, key: nil, value: $0.data, headers: $0.binaryHeaders) }
            )
            try world.wait("all delivered") { Set(world.requests.filter { $0.path == "/ep_strict" }.map(\.id)).count == 60 }
            try world.wait("the free one has all") { world.requests.count { $0.path == "/ep_free" } == 60 }
            // A failed request is followed by itself, and nothing else is repeated.
            let ids = world.requests.filter { $0.path == "/ep_strict" }.map(\.id)
            var delivered: [String] = []
            for id in ids where delivered.last != id { delivered.append(id) }
            #expect(ids.count == 60 + failing.count && delivered == events.map(\.messageID))
            #expect(world.stopWorker() == 0)
            for tier in World.tiers { #expect(try world.records(world.topics.retry(tier)).isEmpty) }
        }
    }

    static func aRevokeLosesNothing(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.register([world.endpoint("ep_1"), world.endpoint("ep_2") { $0.ordering = .strict }])
            try world.start()
            try world.publish((0..<200).map { World.event("a\($0)") })
            try world.wait("some deliveries") { world.requests.count > 50 }
            // Another joins, and the first one leaves.
            let first = try world.startAnother(name: "second")
            try world.publish((0..<200).map { World.event("b\($0)") })
            #expect(first() == 0)
            try world.wait("800 deliveries") { Set(world.requests.map { $0.path + $0.id }).count == 800 }
            #expect(world.stopWorker() == 0)
        }
    }

    static func aCrashLosesNothing(_ brokers: String?) async throws {
        try await run(brokers) { world in
            try world.register([world.endpoint("ep_1"), world.endpoint("ep_2") { $0.ordering = .strict }])
            try world.publish((0..<300).map { World.event("e\($0)") })
            let process = Process()
            process.executableURL = URL(fileURLWithPath: ".build/debug/martlet")
            process.arguments = [
                "worker", "-b", world.kafka.brokers, "--topic-prefix", world.topics.prefix, "--allow-http", "--allow-network",
                "127.0.0.0/8",
                "--session-timeout", "15s", "--retry-tiers", World.tiers.map(\.name).joined(separator: ","), "--http-listen", "none",
                "--log-level", "error", "--lanes", "1",
            ]
            process.environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("MARTLET_") }
            try process.run()
            try world.wait("some deliveries") { world.requests.count > 30 }
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            let before = world.requests.count
            try world.start()
            try world.wait("600 deliveries") { Set(world.requests.map { $0.path + $0.id }).count == 600 }
            #expect(world.stopWorker() == 0)
            #expect(try world.letters().isEmpty && world.requests.allSatisfy(\.isSigned) && before < 600)
        }
    }
}
