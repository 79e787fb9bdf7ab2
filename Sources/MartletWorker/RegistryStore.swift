internal import EventLoop
internal import HTTPDelivery
internal import JSON
public import Kafka
public import Martlet

/// Reads and writes `martlet.endpoints` for the command line. Writers are transactional producers with one fixed id: initialising fences
/// every other writer, so reading to the end, checking and committing is compare-and-set. Blocks.
public struct RegistryStore: Sendable {
    public static let transactionalID = "martlet-registry"
    static let tries = 30

    /// An endpoint's record.
    public struct Row: Sendable {
        public var id: String
        /// nil: the record can't be read by this version.
        public var endpoint: Endpoint?
        public var problem: String?
        public var offset: Int64
    }

    public enum Write: Sendable {
        case put(Endpoint)
        case delete(id: String)
    }

    private let kafka: KafkaSettings
    private let topics: Topics

    private let keys: KeyRing

    /// `keys`: the first one seals what is written.
    public init(_ kafka: KafkaSettings, _ topics: Topics, keys: KeyRing = KeyRing()) {
        (self.kafka, self.topics, self.keys) = (kafka, topics, keys)
    }

    /// All endpoints as they are now, in the order of their ids.
    public func load() throws -> [String: Row] {
        var rows: [String: Row] = [:]
        try TopicReader.scan(kafka, [TopicPartition(topics.endpoints, 0)]) { message in
            guard let key = message.key, let id = String(validating: key, as: UTF8.self) else { return }
            guard let value = message.value else {
                rows[id] = nil
                return
            }
            var row = Row(id: id, offset: message.offset)
            do {
                row.endpoint = try Endpoint(json: try JSONValue.parse(value))
            } catch { row.problem = "\(error)" }
            rows[id] = row
        }
        return rows
    }

    /// Decides on what is written with the registry as it is, and writes all of it or nothing. `decide` may be called again after another
    /// writer came between. Returns what was written, when whoever reads the registry finds it there.
    public func update(_ decide: ([String: Row]) throws -> [Write]) throws -> [Write] {
        var lastError: KafkaError?
        for _ in 0..<Self.tries {
            do { return try updateOnce(decide) } catch let error as KafkaError where error.isFatal || error.isFenced {
                lastError = error
                // Writers that fence each other take turns sooner or later.
                _ = WakeUp.sleep(milliseconds: .random(in: 20...400))
            }
        }
        throw lastError ?? KafkaError(.timedOut, "another writer holds the registry")
    }

    private func updateOnce(_ decide: ([String: Row]) throws -> [Write]) throws -> [Write] {
        var options = Producer.Options()
        options.transactionalID = Self.transactionalID
        options.lingerMilliseconds = 0
        // Being fenced by another writer is part of the protocol, not news.
        var quiet = kafka
        quiet.log = { _, _ in }
        let producer = try Producer(quiet, options)
        try producer.initTransactions()
        let rows = try load()
        let writes = try decide(rows)
        guard !writes.isEmpty else { return [] }
        try checkSealing(writes, rows)
        try producer.beginTransaction()
        do {
            for (index, write) in writes.enumerated() {
                while true {
                    let queued = producer.produce(record(of: write), token: UInt64(index))
                    if queued == .queued { break }
                    if case .failed(let error) = queued { throw error }
                    try drain(producer, waitMilliseconds: 50)
                }
            }
            // librdkafka's commit flushes, but leaves the reports to us: they must be in before.
            var refused: KafkaError?
            let isFlushed = producer.flush(milliseconds: options.transactionTimeoutMilliseconds) { refused = $0.error ?? refused }
            guard isFlushed else { throw KafkaError(.timedOut, "the brokers did not acknowledge the change in time") }
            if let refused { throw refused }
            try producer.commitTransaction()
            producer.waitUntilReadable()
        } catch let error as KafkaError {
            try? producer.abortTransaction()
            throw error
        }
        return writes
    }

    /// Where secrets are sealed, none may slip in in plain.
    private func checkSealing(_ writes: [Write], _ rows: [String: Row]) throws {
        guard keys.isEmpty, let key = rows.values.compactMap({ $0.endpoint?.keyIDs.min() }).min() else { return }
        for case .put(let endpoint) in writes where endpoint.hasPlainSecrets {
            throw Endpoint.Invalid(
                "secrets",
                "'\(endpoint.id)' would be written in plain, but this registry's secrets are sealed, as with the key '\(key)'; give --key-file or --secret-keys"
            )
        }
    }

    private func drain(_ producer: Producer, waitMilliseconds: Int) throws {
        var refused: KafkaError?
        producer.drainReports(waitMilliseconds: waitMilliseconds) { if let error = $0.error { refused = error } }
        if let refused { throw refused }
    }

    private func record(of write: Write) -> OutgoingRecord {
        switch write {
        case .put(let endpoint):
            OutgoingRecord(
                topic: topics.endpoints, partition: 0, key: Array(endpoint.id.utf8),
                value: Array(endpoint.sealed(keys).json(revealSecrets: true).text.utf8),
                headers: endpoint.recordHeaders)
        case .delete(let id): OutgoingRecord(topic: topics.endpoints, partition: 0, key: Array(id.utf8), value: nil)
        }
    }
}
