private import CLinux
internal import EventLoop

internal import JSON
internal import Kafka
internal import Logging
internal import Martlet
internal import Metrics
private import Synchronization

/// What changed in the registry, for those who follow it.
struct RegistryUpdate: Sendable {
    var changes: [Registry.Change]
    var position: Int64
    /// Everything that the brokers had acknowledged by this monotonic moment is contained.
    var freshAsOfMonotonic: Int64
}

/// Follows `martlet.endpoints` on a thread of its own and tells the lanes and the fan-out stage.
final class RegistryReader: Sendable {
    /// How often the end of the topic is asked for: half of what fan-out tolerates, and less.
    private static let checkMilliseconds: Int64 = 200

    private let configuration: WorkerConfiguration
    private let followers: [@Sendable (RegistryUpdate) -> Void]
    private let isStopping = Atomic<Bool>(false)
    private let reachedEnd = Atomic<Bool>(false)
    let unreadableRecords = Gauge()
    let endpoints = Gauge()
    private let thread = Mutex<WorkerThread?>(nil)

    init(_ configuration: WorkerConfiguration, followers: [@Sendable (RegistryUpdate) -> Void]) {
        (self.configuration, self.followers) = (configuration, followers)
    }

    func start() { thread.withLock { $0 = WorkerThread("registry") { [self] in run() } } }

    /// Asking brokers that are gone for the topic's end may take minutes, and nobody needs the answer any more.
    func stop() {
        isStopping.store(true, ordering: .relaxed)
        _ = thread.withLock { $0 }?.join(upToMilliseconds: 3_000)
    }

    /// Whether the registry has been read to its end once: nobody joins a group before.
    var isReady: Bool { reachedEnd.load(ordering: .acquiring) }
    private var shouldStop: Bool { isStopping.load(ordering: .relaxed) }

    private func run() {
        let log = configuration.log.with("part", "registry")
        let at = TopicPartition(configuration.topics.endpoints, 0)
        var registry = Registry(rules: configuration.urlRules, keys: configuration.keys)
        while !shouldStop {
            do {
                let reader = try TopicReader(configuration.kafka)
                try reader.start(at, from: .offset(registry.position))
                try follow(reader, at, &registry, log)
            } catch {
                log.warning("registry can't be read; trying again", ["error": .string("\(error)")])
                _ = WakeUp.sleep(milliseconds: 500)
            }
        }
    }

    private func follow(_ reader: TopicReader, _ at: TopicPartition, _ registry: inout Registry, _ log: Logger) throws {
        while !shouldStop {
            let asked = SystemClock.monotonicMilliseconds()
            guard let (_, end) = try? reader.watermarks(at, timeoutMilliseconds: 2_000) else { continue }
            var changes: [Registry.Change] = []
            let readUntil = asked + Self.checkMilliseconds
            while !shouldStop {
                let wait = registry.position < end ? 500 : readUntil - SystemClock.monotonicMilliseconds()
                guard wait > 0 else { break }
                // A new end is waited for here, so that a change arrives as soon as it can be fetched.
                guard let (_, event) = reader.next(waitMilliseconds: Int(min(wait, 500))) else {
                    if registry.position < end { break } else { continue }
                }
                do { try take(event, reader, &registry, &changes, log) } catch {
                    // What was read so far must reach the followers: the position has moved past it.
                    tell(RegistryUpdate(changes: changes, position: registry.position, freshAsOfMonotonic: .min))
                    throw error
                }
                if registry.position >= end, !changes.isEmpty { break }
            }
            // An asked-for end that the brokers gave before `asked` was reached: the view holds all that was acknowledged by then.
            let isFresh = registry.position >= end
            let update = RegistryUpdate(
                changes: changes, position: registry.position, freshAsOfMonotonic: isFresh ? asked : .min)
            tell(update)
            endpoints.set(registry.entries.count)
            if isFresh, !isReady {
                // What was fetched and parsed for it is given back: it is several times what stays.
                martlet_give_back_memory()
                reachedEnd.store(true, ordering: .releasing)
            }
        }
    }

    private func tell(_ update: RegistryUpdate) { for follower in followers { follower(update) } }

    private func take(
        _ event: PartitionEvent, _ reader: TopicReader, _ registry: inout Registry, _ changes: inout [Registry.Change], _ log: Logger
    ) throws {
        switch event {
        case .message(let message):
            // With what else has come: at start-up thousands.
            var messages = [message]
            var other: PartitionEvent?
            while other == nil, messages.count < Self.batchLimit, let (_, event) = reader.next(waitMilliseconds: 0) {
                if case .message(let message) = event { messages.append(message) } else { other = event }
            }
            for (message, record) in zip(messages, decode(messages, registry.decoder)) {
                let change = registry.apply(record, offset: message.offset)
                changes.append(change)
                tellUnreadable(change, message.offset, log)
            }
            if let other { try take(other, reader, &registry, &changes, log) }
        case .end(let offset): registry.advance(to: offset)
        case .outOfRange:
            registry.advance(to: try TopicReader(configuration.kafka).watermarks(TopicPartition(configuration.topics.endpoints, 0)).low)
        case .failed(let error): if !error.isUnreachable { throw error }
        }
    }

    private static let batchLimit = 4_096
    /// From so many on a second thread decodes half of them.
    private static let halvedFrom = 512
    private final class Half: Sendable { let records = Mutex<[RegistryRecord]>([]) }

    private func decode(_ messages: [KafkaMessage], _ decoder: RegistryRecord.Decoder) -> [RegistryRecord] {
        @Sendable func decode(_ messages: ArraySlice<KafkaMessage>) -> [RegistryRecord] {
            messages.map { decoder.decode(key: $0.key.map { Array($0) }, value: $0.value, headers: $0.headers) }
        }
        guard messages.count >= Self.halvedFrom else { return decode(messages[...]) }
        let (middle, half) = (messages.count / 2, Half())
        let thread = WorkerThread("registry-half") {
            let records = decode(messages[middle...])
            half.records.withLock { $0 = records }
        }
        let first = decode(messages[..<middle])
        thread.join()
        return first + half.records.withLock { $0 }
    }

    private func tellUnreadable(_ change: Registry.Change, _ offset: Int64, _ log: Logger) {
        guard case .unreadable(let id, let reason, let entry) = change else { return }
        unreadableRecords.add()
        let effect = entry == nil ? "ignored" : entry?.prepared == nil ? "treated as paused" : "its old version stays"
        log.error(
            "unreadable registry record",
            ["endpoint": .string(id), "offset": .integer(offset), "reason": .string(reason), "effect": .string(effect)])
    }
}
