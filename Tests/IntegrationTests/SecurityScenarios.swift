import Cryptography
import Foundation
import HTTPDelivery
import HTTPServing
import Kafka
import Logging
import Martlet
import Synchronization
import TestServers
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

            let said = Mutex("")
            try world.start {
                $0.log = Logger(level: .info) { line in said.withLock { $0 += String(decoding: line, as: UTF8.self) } }
            }
            try world.publish((5..<10).map { World.event("e\($0)") })
            try world.wait("all parked") { try world.letters().count == 5 }
            #expect(world.stopWorker() == 0)
            #expect(world.requests.count == 5)
            let letters = try world.letters()
            #expect(letters.allSatisfy { $0.reason == "parked" })
            // Whoever is called at night reads there which key is missing, and for whom.
            let lines = said.withLock { $0 }.split(separator: "\n").filter { $0.contains("'k1'") && $0.contains("ep_sealed") }
            #expect(!lines.isEmpty, "\(said.withLock { $0 })")
        }
    }
    /// Secrets of every kind in one endpoint, whose receiver fails and sends all back that it got: none appears in the worker's log at its most
    /// talkative, in metrics, attempts or dead letters' headers.
    static func nothingSecretIsSaid(_ brokers: String?) async throws {
        let said = Mutex("")
        let receiver = try HTTPServer(.init(port: 0)) { request in
            .init(500, body: request.headers.map { "\($0.name): \($0.value)" }.joined(separator: "\n") + "\n" + request.path)
        }
        defer { receiver.stop() }
        try await run(brokers) { world in
            let endpoint = world.endpoint("ep_leaky") {
                $0.url = "http://127.0.0.1:\(receiver.port)/hook?token=planted-query"
                $0.headers = [.init("x-own", "planted-header")]
                $0.auth = Authentication("basic:user:planted-password")
                $0.schedule = RetrySchedule(delaysMilliseconds: [100]) ?? .standard
            }
            try world.register([endpoint])
            try world.start {
                $0.log = Logger(level: .debug) { line in said.withLock { $0 += String(decoding: line, as: UTF8.self) } }
            }
            try world.publish((0..<3).map { World.event("e\($0)") })
            try world.wait("all dead") { try world.letters().count == 3 }
            var all = world.metrics
            #expect(world.stopWorker() == 0)
            all += said.withLock { $0 }
            #expect(all.contains("worker starts"))
            let attempts = try world.records(world.topics.attempts)
            #expect(attempts.count >= 6)
            for attempt in attempts { all += attempt.value ?? "" }
            for letter in try world.letters() { all += letter.headers.map { "\($0)" }.joined() }
            let secret = endpoint.secrets.compactMap(\.text.plain)
            for planted in ["planted-query", "planted-header", "planted-password", "dXNlcjpwbGFudGVk"] + secret {
                #expect(!all.contains(planted), "\(planted)")
            }
        }
    }

    /// The registration knew nothing against a token host's name, or didn't look: at the connection its address is refused, nothing is asked
    /// there, and nothing goes out without a token.
    static func aTokenHostIsRefusedAtTheConnection(_ brokers: String?, _ transport: TransportKind) async throws {
        let asked = Atomic(0)
        let tokens = try HTTPServer(.init(port: 0)) { _ in
            asked.add(1, ordering: .relaxed)
            return .init(200, headers: [("content-type", "application/json")], body: #"{"access_token":"t","token_type":"bearer"}"#)
        }
        defer { tokens.stop() }
        let dns = DNSServer { name, _ in name.hasPrefix("open.") ? ["127.0.0.1"] : ["127.0.0.1", "169.254.169.254"] }
        defer { dns.stop() }
        try await run(brokers) { world in
            func endpoint(_ name: String, _ type: String) -> Endpoint {
                world.endpoint("ep_\(name)") {
                    $0.types = [.exact(type)]
                    $0.auth = .oauth2(
                        OAuthClient(
                            tokenURL: "http://\(name).martlet-test.net:\(tokens.port)/token", clientID: "client", secret: .plain("s3cret")))
                }
            }
            try world.register([endpoint("open", "open.made"), endpoint("closed", "closed.made")])
            try world.start {
                $0.nameServers = "127.0.0.1:\(dns.port)"
                $0.transport = transport
            }
            try world.publish([World.event("e", type: "closed.made")])
            try world.wait("it died") { try world.letters().count == 1 }
            let letter = try world.letters()[0]
            #expect(letter.headers["martlet-last-error"]?.contains("169.254.169.254 is refused") == true, "\(letter)")
            #expect(asked.load(ordering: .relaxed) == 0 && world.requests.isEmpty)
            // The same with a host that may be reached.
            try world.publish([World.event("f", type: "open.made")])
            try world.wait("delivered") { world.requests.count == 1 }
            #expect(asked.load(ordering: .relaxed) == 1)
            #expect(world.stopWorker() == 0)
        }
    }

    /// One token request however many deliveries wait; a receiver's 401 brings a new token; a failing token endpoint is the endpoint's failure.
    static func accessTokensAreAskedForOnce(_ brokers: String?) async throws {
        let asked = Atomic(0)
        let isDown = Atomic(false)
        let authorized = Mutex<[String: Int]>([:])
        let tokens = try HTTPServer(.init(port: 0)) { request in
            if isDown.load(ordering: .relaxed) { return .init(503) }
            let number = asked.add(1, ordering: .relaxed).newValue
            guard request.body == Array("grant_type=client_credentials&scope=hooks".utf8),
                request.header("authorization") == "Basic Y2xpZW50OnMzY3JldA=="
            else { return .init(400) }
            return .init(
                200, headers: [("content-type", "application/json")],
                body: #"{"access_token":"t\#(number)","token_type":"bearer","expires_in":3600}"#)
        }
        defer { tokens.stop() }
        let receiver = try HTTPServer(.init(port: 0)) { request in
            let bearer = request.header("authorization") ?? ""
            // The first token is revoked after ten deliveries.
            let count = authorized.withLock { counts in
                counts[bearer, default: 0] += 1
                return counts[bearer] ?? 0
            }
            guard bearer == "Bearer t1" && count <= 10 || bearer == "Bearer t2" else { return .init(401) }
            return .init(200)
        }
        defer { receiver.stop() }
        try await run(brokers) { world in
            let endpoint = world.endpoint("ep_oauth") {
                $0.url = "http://127.0.0.1:\(receiver.port)/"
                $0.types = [.prefix("order")]
                $0.auth = .oauth2(
                    OAuthClient(
                        tokenURL: "http://127.0.0.1:\(tokens.port)/token", clientID: "client", secret: .plain("s3cret"), scope: "hooks"))
            }
            var other = endpoint
            (other.id, other.types, other.schedule) = (
                "ep_other", [.exact("other.made")], RetrySchedule(delaysMilliseconds: [100]) ?? .standard
            )
            try world.register([endpoint, other])
            try world.start()
            try world.publish((0..<40).map { World.event("e\($0)") })
            func delivered() -> Int {
                authorized.withLock { min(10, $0["Bearer t1"] ?? 0) + ($0["Bearer t2"] ?? 0) }
            }
            try world.wait("all delivered") { delivered() == 40 }
            #expect(asked.load(ordering: .relaxed) == 2)
            // The next endpoint's token can't be had: its deliveries fail with that, and nothing is sent without.
            isDown.store(true, ordering: .relaxed)
            try world.publish([World.event("x", type: "other.made")])
            try world.wait("it died") { try world.letters().count == 1 }
            #expect(try world.letters()[0].headers["martlet-last-error"]?.contains("the token endpoint answered 503") == true)
            #expect(world.stopWorker() == 0)
            #expect(delivered() == 40 && authorized.withLock { $0[""] } == nil)
        }
    }
}
