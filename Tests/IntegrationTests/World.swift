import EventLoop
import Foundation
import HTTPDelivery
import HTTPServing
import JSON
import Kafka
import Logging
import Martlet
import Synchronization
import Testing
import WebhookSigning

@testable import MartletWorker

/// A cluster (embedded or real) with fresh topics, a recording receiver and a worker.
final class World: Sendable {
    static let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    static let partitions = 4
    static let tiers = ["100ms", "400ms", "1s"].compactMap { RetryTier(name: $0) }

    struct Request: Sendable {
        var path: String
        var id: String
        var body: String
        var isSigned: Bool
    }

    let kafka: KafkaSettings
    let topics: Topics
    private let cluster: EmbeddedCluster?
    private let server: HTTPServer
    private let received: Received
    private let worker = Mutex<(Worker, WorkerThread)?>(nil)
    let exitCode = Atomic<Int>(-1)

    private final class Received: Sendable {
        let requests = Mutex<(list: [Request], byPath: [String: Int])>(([], [:]))
    }

    /// `answer` gives the status for the n-th request (from 1) of a path; `recordBytes` bounds a topic's records, on a real Kafka.
    init(
        realBrokers: String?, recordBytes: (topic: @Sendable (Topics) -> String, bytes: Int)? = nil,
        answer: @escaping @Sendable (String, Int) -> Int = { _, _ in 200 }
    ) throws {
        topics = Topics(prefix: realBrokers == nil ? "martlet." : "it\(UInt32.random(in: 0 ... .max)).")
        var specifications = topics.specifications(partitions: Self.partitions, replicationFactor: 1, tiers: Self.tiers)
        if let recordBytes, let place = specifications.firstIndex(where: { [topics] in $0.name == recordBytes.topic(topics) }) {
            specifications[place].settings["max.message.bytes"] = String(recordBytes.bytes)
        }
        if let realBrokers {
            cluster = nil
            kafka = KafkaSettings(brokers: realBrokers, log: { _, _ in })
            let failures = try TopicAdmin(kafka).create(
                specifications.map { .init($0.name, partitions: $0.partitions, settings: $0.settings.map { ($0.key, $0.value) }) },
                replicationFactor: 1)
            #expect(failures.isEmpty)
        } else {
            let made = try EmbeddedCluster(topics: specifications.map { ($0.name, $0.partitions) })
            cluster = made
            kafka = made.settings
        }
        let received = Received()
        self.received = received
        let verifier = Verifier(secrets: [try Secret(Self.secret)])
        server = try HTTPServer(.init(port: 0)) { request in
            let verdict = verifier.verify(
                id: request.header("webhook-id"), timestamp: request.header("webhook-timestamp"),
                signature: request.header("webhook-signature"), body: request.body,
                nowSeconds: SystemClock.wallMilliseconds() / 1_000)
            let number = received.requests.withLock { all in
                all.list.append(
                    Request(
                        path: request.path, id: request.header("webhook-id") ?? "", body: String(decoding: request.body, as: UTF8.self),
                        isSigned: verdict == .valid))
                all.byPath[request.path, default: 0] += 1
                return all.byPath[request.path] ?? 0
            }
            return .init(answer(request.path, number))
        }
    }

    var requests: [Request] { received.requests.withLock { $0.list } }

    func endpoint(_ id: String, _ change: (inout Endpoint) -> Void = { _ in }) -> Endpoint {
        var endpoint = Endpoint(id: id, url: "http://127.0.0.1:\(server.port)/\(id)")
        endpoint.secrets = [.init(id: "s", createdMilliseconds: 0, plain: Self.secret)]
        endpoint.schedule = RetrySchedule(delaysMilliseconds: [100, 400]) ?? .standard
        change(&endpoint)
        return endpoint
    }

    func register(_ endpoints: [Endpoint]) throws { _ = try RegistryStore(kafka, topics).update { _ in endpoints.map { .put($0) } } }

    func start(_ change: (inout WorkerConfiguration) -> Void = { _ in }) throws {
        var configuration = WorkerConfiguration(kafka: kafka, name: "test")
        configuration.topics = topics
        configuration.urlRules = .init(allowHTTP: true, addresses: AddressPolicy(allowed: [Network("127.0.0.0/8")].compactMap(\.self)))
        configuration.lane.tiers = Self.tiers
        configuration.lane.breaker.openMilliseconds = 300
        configuration.sessionTimeoutMilliseconds = 15_000
        configuration.log = Logger(level: .error)
        change(&configuration)
        let made = try Worker.checked(configuration)
        exitCode.store(-1, ordering: .releasing)
        let thread = WorkerThread("worker") { [self] in exitCode.store(Int(made.run()), ordering: .releasing) }
        worker.withLock { $0 = (made, thread) }
        try wait("the worker is ready") { made.isReady }
    }

    /// Starts a second worker; the result drains the first one and gives its exit code.
    func startAnother(name: String) throws -> () -> Int {
        guard let (old, thread) = worker.withLock({ $0 }) else { return { -1 } }
        try start { $0.name = name }
        return { [self] in
            old.drain()
            thread.join()
            return exitCode.load(ordering: .acquiring)
        }
    }

    var metrics: String { worker.withLock { $0?.0.metricsText ?? "" } }

    /// Drains the worker; its exit code.
    @discardableResult func stopWorker() -> Int {
        guard let (worker, thread) = worker.withLock({ $0 }) else { return 0 }
        worker.drain()
        thread.join()
        self.worker.withLock { $0 = nil }
        return exitCode.load(ordering: .acquiring)
    }

    func stop() {
        stopWorker()
        server.stop()
    }

    /// Waits for what others do; the bound is only there to fail instead of hanging.
    func wait(_ what: String, _ condition: () throws -> Bool) throws {
        let deadline = SystemClock.monotonicMilliseconds() + 40_000
        while try !condition() {
            guard SystemClock.monotonicMilliseconds() < deadline else {
                throw KafkaError(.timedOut, "waited in vain: \(what); requests so far: \(requests.count)")
            }
            _ = WakeUp.sleep(milliseconds: 10)
        }
    }

    /// `given`: a producer that is there already; else one is made.
    func produce(_ records: [OutgoingRecord], through given: Producer? = nil) throws {
        let producer = try given ?? Producer(kafka)
        for record in records { #expect(producer.produce(record, token: 0) == .queued) }
        let isFlushed = producer.flush(milliseconds: 20_000) { #expect($0.error == nil) }
        #expect(isFlushed)
    }

    func publish(_ events: [Event], through producer: Producer? = nil) throws {
        let records = events.map { OutgoingRecord(topic: topics.events, key: Array($0.id.utf8), value: $0.data, headers: $0.binaryHeaders) }
        try produce(records, through: producer)
    }

    static func event(_ id: String, type: String = "order.created", tenant: String = "default") -> Event {
        Event(id: id, source: "/test", type: type, tenant: tenant, contentType: "application/json", data: Array("{\"id\":\"\(id)\"}".utf8))
    }

    struct Letter: Sendable {
        var key: String
        var headers: [String: String]
        var body: String?
        var reason: String { headers["martlet-reason"] ?? "" }
    }

    func records(_ topic: String) throws -> [(key: String, headers: [String: String], value: String?)] {
        var all: [(key: String, headers: [String: String], value: String?)] = []
        try TopicReader.scan(kafka, (0..<Int32(Self.partitions)).map { TopicPartition(topic, $0) }) { message in
            let headers = Dictionary(message.headers.map { ($0.name, String(decoding: $0.value, as: UTF8.self)) }) { first, _ in first }
            all.append(
                (
                    message.key.map { String(decoding: $0, as: UTF8.self) } ?? "", headers,
                    message.value.map { String(decoding: $0, as: UTF8.self) }
                ))
        }
        return all
    }

    func letters() throws -> [Letter] { try records(topics.deadLetters).map { Letter(key: $0.key, headers: $0.headers, body: $0.value) } }
}
