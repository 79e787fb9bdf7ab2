internal import EventLoop
internal import HTTPDelivery
internal import Kafka
internal import Logging
internal import Martlet
internal import MartletWorker
internal import WebhookSigning
private import Synchronization

/// Broker, topics, receiver and worker in this process: what `martlet dev` runs on.
final class DevStack: Sendable {
    static let partitions = 8

    let kafka: KafkaSettings
    let topics = Topics()
    let receiver: Receiver
    let receiverPort: UInt16
    let rules: EndpointURL.Rules
    private let cluster: EmbeddedCluster
    private let worker = Mutex<Worker?>(nil)
    private let workerThread = Mutex<WorkerThread?>(nil)
    private let workerExit = Atomic<Int>(-1)

    init(
        secret: String, tiers: [RetryTier], behaviour: @escaping @Sendable (String) -> Receiver.Behaviour,
        onDelivery: @escaping @Sendable (Receiver.Delivery) -> Void
    ) throws {
        let specifications = topics.specifications(partitions: Self.partitions, replicationFactor: 1, tiers: tiers)
        cluster = try EmbeddedCluster(topics: specifications.map { ($0.name, $0.partitions) })
        kafka = cluster.settings
        receiver = Receiver(secrets: [try Secret(secret)], behaviour: behaviour, onDelivery: onDelivery)
        receiverPort = try receiver.start(address: "127.0.0.1", port: 0)
        rules = EndpointURL.Rules(allowHTTP: true, addresses: AddressPolicy(allowed: [Network("127.0.0.0/8")].compactMap(\.self)))
    }

    func register(_ endpoints: [Endpoint]) throws { _ = try RegistryStore(kafka, topics).update { _ in endpoints.map { .put($0) } } }

    /// Starts the worker on a thread of its own and waits until it is ready.
    func startWorker(_ log: Logger, _ configure: (inout WorkerConfiguration) -> Void) throws {
        var configuration = WorkerConfiguration(kafka: kafka, name: "dev")
        configuration.urlRules = rules
        configuration.log = log
        configure(&configuration)
        let made = try Worker.checked(configuration)
        worker.withLock { $0 = made }
        workerThread.withLock { $0 = WorkerThread("worker") { [self] in workerExit.store(Int(made.run()), ordering: .releasing) } }
        while !made.isReady {
            if workerHasEnded { throw CommandFailure(1, "the worker ended while it started") }
            _ = WakeUp.sleep(milliseconds: 20)
        }
    }

    var workerHasEnded: Bool { workerExit.load(ordering: .acquiring) >= 0 }

    func serve(_ address: String, _ port: UInt16) throws -> any Sendable { try worker.withLock { $0 }?.serve(address: address, port: port) }

    /// Drains the worker, stops the receiver; returns the worker's exit code.
    func stop() -> Int32 {
        worker.withLock { $0 }?.drain()
        workerThread.withLock { $0 }?.join()
        receiver.stop()
        return Int32(max(0, workerExit.load(ordering: .acquiring)))
    }
}
