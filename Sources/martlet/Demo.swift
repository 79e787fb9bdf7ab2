internal import ArgumentParsing
internal import EventLoop
internal import Glibc
internal import Kafka
internal import Logging
internal import Martlet
internal import MartletWorker
internal import WebhookSigning
private import Synchronization

/// `martlet dev --demo`: a shop's events for several tenants, to receivers of which some misbehave; at the end a balance that is counted
/// from the receivers' records and the topics, not from the worker's counters.
struct Demo {
    static let eventCount = 1_000
    static let deadlineMilliseconds: Int64 = 60_000
    private static let tiers = ["500ms", "1s", "2s"].compactMap { RetryTier(name: $0) }

    private struct Place {
        var id: String
        var tenant: String
        var types: [String]
        var story: String
    }

    private static let places = [
        Place(id: "ep_acme_orders", tenant: "acme", types: ["order.*"], story: "healthy"),
        Place(id: "ep_acme_ledger", tenant: "acme", types: ["invoice.*", "refund.requested"], story: "fails twice, recovers"),
        Place(id: "ep_globex_all", tenant: "globex", types: ["order.*", "invoice.*", "refund.*", "product.*"], story: "slow (100 ms)"),
        Place(id: "ep_globex_down", tenant: "globex", types: ["order.*"], story: "always down"),
        Place(id: "ep_initech_gone", tenant: "initech", types: ["invoice.*"], story: "answers 410"),
        Place(id: "ep_initech_shop", tenant: "initech", types: ["product.variant.*", "order.created"], story: "healthy"),
    ]

    private let arguments: Arguments
    private let terminal: Terminal
    private let deadPort = ClosedPort()
    init(_ arguments: Arguments) { (self.arguments, terminal) = (arguments, Terminal(arguments)) }

    /// What the receivers recorded: delivery ids answered with 2xx after a valid signature, and bad signatures.
    private final class Records: Sendable {
        struct State: Sendable {
            var delivered: [String: Set<String>] = [:]
            var badSignatures = 0
        }
        let state = Mutex(State())

        func add(_ delivery: Receiver.Delivery) {
            let endpoint = String(delivery.path.dropFirst())
            let id = delivery.header("webhook-id") ?? ""
            state.withLock { state in
                if delivery.verdict != .valid { state.badSignatures += 1 }
                if (200..<300).contains(delivery.status) {
                    state.delivered[endpoint, default: []].insert(Identifiers.delivery(messageID: id, endpointID: endpoint))
                }
            }
        }
    }

    func run() throws -> Int32 {
        let secret = Secret.generate()
        let records = Records()
        let stack = try DevStack(secret: secret, tiers: Self.tiers, behaviour: Self.behaviour) { records.add($0) }
        try stack.register(Self.places.map { endpoint($0, stack, secret) })
        var log = Settings.logger(arguments)
        if !arguments.isGiven("log-level") { log.level = .error }
        terminal.note("embedded broker at \(stack.kafka.brokers); \(Self.places.count) endpoints of 3 tenants; the worker starts")
        try stack.startWorker(log) { configuration in
            configuration.lane.tiers = Self.tiers
            configuration.lane.breaker.openMilliseconds = 1_000
            configuration.lane.breaker.openLimitMilliseconds = 4_000
        }
        let started = SystemClock.monotonicMilliseconds()
        let publisher = try BulkPublisher(stack.kafka, stack.topics.events)
        for number in 0..<Self.eventCount { try publisher.publish(Self.event(number)) }
        try publisher.finish()
        let balance = try settle(stack, records, started)
        let code = stack.stop()
        return report(balance, records, workerCode: code)
    }

    private func endpoint(_ place: Place, _ stack: DevStack, _ secret: String) -> Endpoint {
        let port = place.story == "always down" ? deadPort.number : stack.receiverPort
        var endpoint = Endpoint(id: place.id, url: "http://127.0.0.1:\(port)/\(place.id)")
        endpoint.tenant = place.tenant
        endpoint.types = place.types.compactMap { TypePattern($0) }
        endpoint.secrets = [.init(id: "s1", createdMilliseconds: SystemClock.wallMilliseconds(), plain: secret)]
        endpoint.schedule = RetrySchedule(delaysMilliseconds: [500, 1_000, 2_000]) ?? .standard
        endpoint.maxAgeMilliseconds = 10_000
        return endpoint
    }

    private static let behaviour: @Sendable (String) -> Receiver.Behaviour = { path in
        var behaviour = Receiver.Behaviour()
        switch path {
        case "/ep_acme_ledger":
            behaviour.failFirst = 2
            behaviour.failStatus = 503
        case "/ep_globex_all": behaviour.delayMilliseconds = 100
        case "/ep_initech_gone": behaviour.status = 410
        default: break
        }
        return behaviour
    }

    private static func event(_ number: Int) -> Event {
        let tenants = ["acme", "globex", "initech"]
        let types = ["order.created", "order.paid", "invoice.issued", "refund.requested", "product.variant.updated"]
        var event = Event(
            id: "demo-\(number)", source: "/shop", type: types[number % types.count], tenant: tenants[number / types.count % tenants.count],
            contentType: "application/json",
            data: Array("{\"number\":\(number),\"amount\":\"\(number % 97).90\",\"currency\":\"EUR\"}".utf8))
        event.subject = "order/\(number)"
        return event
    }

    /// What the topics say, by endpoint.
    private struct Balance {
        var events = 0
        var deliveries: [String: Set<String>] = [:]
        var dead: [String: Set<String>] = [:]
        var parked: [String: Set<String>] = [:]
        var deadReasons: [String: Int] = [:]
        var attempts: [String: Int] = [:]
        var expected = 0
        var isSettled = false
        func count(_ table: [String: Set<String>]) -> Int { table.values.reduce(0) { $0 + $1.count } }
    }

    /// Follows the topics until every delivery has ended, or the time is over.
    private func settle(_ stack: DevStack, _ records: Records, _ started: Int64) throws -> Balance {
        var balance = Balance()
        balance.expected = Self.expectedDeliveries()
        let reader = try TopicReader(stack.kafka)
        let followed = [stack.topics.events, stack.topics.deliveries, stack.topics.deadLetters, stack.topics.attempts]
        for topic in followed {
            for partition in 0..<Int32(DevStack.partitions) { try reader.start(TopicPartition(topic, partition), from: .beginning) }
        }
        var shown: Int64 = 0
        while SystemClock.monotonicMilliseconds() - started < Self.deadlineMilliseconds, !stack.workerHasEnded {
            if let (at, event) = reader.next(waitMilliseconds: 50), case .message(let message) = event {
                take(message, at.topic, stack.topics, &balance)
            }
            let delivered = records.state.withLock { $0.delivered.values.reduce(0) { $0 + $1.count } }
            let ended = delivered + balance.count(balance.dead) + balance.count(balance.parked)
            let now = SystemClock.monotonicMilliseconds()
            if now - shown >= 250 {
                shown = now
                terminal.progress(
                    "\((now - started) / 1_000) s  events \(balance.events)  deliveries \(balance.count(balance.deliveries))  delivered \(delivered)  dead \(balance.count(balance.dead))  parked \(balance.count(balance.parked))"
                )
            }
            if balance.events == Self.eventCount, ended >= balance.expected, balance.count(balance.deliveries) >= balance.expected {
                balance.isSettled = true
                break
            }
        }
        terminal.endProgress()
        return balance
    }

    private func take(_ message: KafkaMessage, _ topic: String, _ topics: Topics, _ balance: inout Balance) {
        if topic == topics.events {
            // The shop's own: what Martlet tells about failing endpoints isn't part of the balance.
            let isOperational = message.headers.contains { $0.name == "ce_type" && $0.value.starts(with: Array("martlet.".utf8)) }
            return balance.events += isOperational ? 0 : 1
        }
        if topic == topics.attempts {
            return balance.attempts[message.key.map { String(decoding: $0, as: UTF8.self) } ?? "", default: 0] += 1
        }
        guard message.value != nil, let headers = try? DeliveryHeaders(headers: { body in message.forEachHeader(body) }) else { return }
        if topic == topics.deliveries {
            balance.deliveries[headers.endpointID, default: []].insert(headers.deliveryID)
        } else if headers.reason == DeadReason.parked.rawValue {
            balance.parked[headers.endpointID, default: []].insert(headers.deliveryID)
        } else {
            balance.dead[headers.endpointID, default: []].insert(headers.deliveryID)
            balance.deadReasons["\(headers.endpointID) \(headers.reason ?? "?")", default: 0] += 1
        }
    }

    /// By the patterns themselves, not by the index that fan-out uses.
    private static func expectedDeliveries() -> Int {
        (0..<eventCount).reduce(0) { total, number in
            let event = event(number)
            return total
                + places.count { place in
                    place.tenant == event.tenant && place.types.contains { TypePattern($0)?.matches(event.type) ?? false }
                }
        }
    }

    private func report(_ balance: Balance, _ records: Records, workerCode: Int32) -> Int32 {
        let seen = records.state.withLock { $0 }
        var total = (deliveries: 0, delivered: 0, dead: 0, parked: 0, lost: 0, doubled: 0)
        let rows = Self.places.map { place -> [String] in
            let all = balance.deliveries[place.id] ?? []
            let delivered = (seen.delivered[place.id] ?? []).intersection(all)
            let dead = (balance.dead[place.id] ?? []).subtracting(delivered)
            let parked = (balance.parked[place.id] ?? []).subtracting(delivered).subtracting(dead)
            let lost = all.subtracting(delivered).subtracting(dead).subtracting(parked)
            total.deliveries += all.count
            total.delivered += delivered.count
            total.dead += dead.count
            total.parked += parked.count
            total.lost += lost.count
            total.doubled += (balance.dead[place.id] ?? []).count + (balance.parked[place.id] ?? []).count - dead.count - parked.count
            let reasons = balance.deadReasons.filter { $0.key.hasPrefix(place.id + " ") }.sorted { $0.key < $1.key }
                .map { "\($0.key.dropFirst(place.id.count + 1)) \($0.value)" }.joined(separator: ", ")
            return [place.id, place.tenant, place.story]
                + [all.count, balance.attempts[place.id] ?? 0, delivered.count, dead.count, parked.count].map { String($0) } + [reasons]
        }
        terminal.print(
            terminal.table(
                ["ENDPOINT", "TENANT", "RECEIVER", "DELIVERIES", "ATTEMPTS", "DELIVERED", "DEAD", "PARKED", "REASONS"], rows,
                numeric: [3, 4, 5, 6, 7]))
        let lost = total.lost + abs(balance.expected - total.deliveries)
        terminal.print(
            "\naccepted \(balance.events) events, \(total.deliveries) deliveries: \(total.delivered) delivered, \(total.dead) dead-lettered, \(total.parked) parked, \(lost) lost"
        )
        if seen.badSignatures > 0 { terminal.note("martlet: \(seen.badSignatures) requests had a bad signature") }
        if total.doubled > 0 { terminal.note("martlet: \(total.doubled) deliveries ended twice") }
        if !balance.isSettled { terminal.note("martlet: not everything ended within \(Self.deadlineMilliseconds / 1_000) s") }
        let isExact = balance.isSettled && lost == 0 && total.doubled == 0 && seen.badSignatures == 0 && balance.events == Self.eventCount
        return isExact && workerCode == 0 ? 0 : 1
    }
}

/// A port of the loopback address that is taken and refuses every connection.
private final class ClosedPort: Sendable {
    private let descriptor: Int32
    let number: UInt16

    init() {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        descriptor = fd
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(fd, $0, size)
                _ = getsockname(fd, $0, &size)
            }
        }
        number = UInt16(bigEndian: address.sin_port)
    }

    deinit { close(descriptor) }
}
