import Cryptography
import Foundation
import HTTPDelivery
import Kafka
import Martlet
import Testing

@testable import MartletWorker

/// What an operator and a receiver see of the protections.
extension Scenarios {
    static func sealedSecretsSignAndAMissingKeyParks(_ brokers: String?) async throws {
        try await run(brokers) { world in
            let keys = try KeyRing(lines: ["k1:" + Base64.encode(SecureRandom.bytes(32))])
            let store = RegistryStore(world.kafka, world.topics, keys: keys)
            _ = try store.update { _ in [.put(world.endpoint("ep_sealed"))] }
            // Whoever has no key can't add a secret in plain, but can pause.
            let plain = world.endpoint("ep_plain")
            #expect(throws: Endpoint.Invalid.self) { try world.register([plain]) }
            let rows = try RegistryStore(world.kafka, world.topics).load()
            #expect(rows["ep_sealed"]?.endpoint?.keyIDs == ["k1"])
            var onTopic = ""
            try TopicReader.scan(world.kafka, [TopicPartition(world.topics.endpoints, 0)]) { message in
                onTopic += message.value.map { String(decoding: $0, as: UTF8.self) } ?? ""
            }
            #expect(onTopic.contains("ciphertext") && !onTopic.contains("whsec_"))

            try world.start { $0.keys = keys }
            try world.publish((0..<5).map { World.event("e\($0)") })
            try world.wait("all delivered") { world.requests.count == 5 }
            #expect(world.stopWorker() == 0)
            #expect(world.requests.allSatisfy { $0.isSigned })

            try world.start()
            try world.publish((5..<10).map { World.event("e\($0)") })
            try world.wait("all parked") { try world.letters().count == 5 }
            #expect(world.stopWorker() == 0)
            #expect(world.requests.count == 5)
            let letters = try world.letters()
            #expect(letters.allSatisfy { $0.reason == "parked" })
        }
    }
}
