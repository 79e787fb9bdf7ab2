internal import Cryptography
internal import EventLoop
internal import Glibc
internal import HTTPServing
internal import JSON
internal import WebhookSigning
private import Synchronization

/// A receiver that verifies signatures and misbehaves on request.
final class Receiver: Sendable {
    struct Behaviour: Sendable {
        var status = 200
        var delayMilliseconds: UInt32 = 0
        /// Of requests, chosen at random.
        var failing: Double = 0
        /// The first so many requests fail, then it recovers.
        var failFirst = 0
        var failStatus = 500
        var hangs = false
        var resets = false
        var dripMilliseconds: UInt32?
        var retryAfter: String?
        init() {}
    }

    struct Delivery: Sendable {
        var arrivedMilliseconds: Int64
        var path: String
        var headers: [(name: String, value: String)]
        var body: [UInt8]
        var verdict: Verifier.Verdict?
        var status: Int
        /// What its sender saw: a status, or why it saw none.
        var answer: String

        func header(_ name: String) -> String? { headers.first { $0.name.lowercased() == name }?.value }

        var json: JSONValue {
            .object([
                .init("arrivedMs", .integer(arrivedMilliseconds)), .init("path", .string(path)),
                .init("headers", .object(headers.map { .init($0.name.lowercased(), .string($0.value)) })),
                .init("bytes", .integer(body.count)), .init("sha256", .string(Hex.encode(SHA256.digest(body)))),
                .init("verdict", verdict.map { .string($0.rawValue) } ?? .null), .init("answer", .string(answer)),
            ])
        }
    }

    private let verifier: Verifier?
    private let behaviour: @Sendable (String) -> Behaviour
    private let onDelivery: @Sendable (Delivery) -> Void
    private let counts = Mutex<[String: Int]>([:])
    private let isStopping = Atomic<Bool>(false)
    private let server = Mutex<HTTPServer?>(nil)

    /// `behaviour` of a path; `onDelivery` is called on the server's threads, one call at a time per connection.
    init(secrets: [Secret], behaviour: @escaping @Sendable (String) -> Behaviour, onDelivery: @escaping @Sendable (Delivery) -> Void) {
        verifier = secrets.isEmpty ? nil : Verifier(secrets: secrets)
        (self.behaviour, self.onDelivery) = (behaviour, onDelivery)
    }

    /// Returns the port.
    func start(address: String, port: UInt16) throws -> UInt16 {
        var options = HTTPServer.Configuration(address: address, port: port)
        // A thread per connection, so that slow answers don't hold the others up.
        options.threadPerConnection = true
        options.connectionLimit = 4_096
        options.idleTimeoutSeconds = 120
        let made = try HTTPServer(options) { [self] in answer($0) }
        server.withLock { $0 = made }
        return made.port
    }

    func stop() {
        isStopping.store(true, ordering: .relaxed)
        server.withLock { $0 }?.stop()
    }

    private func answer(_ request: HTTPServer.Request) -> HTTPServer.Response {
        let arrived = SystemClock.wallMilliseconds()
        let behaviour = behaviour(request.path)
        let number = counts.withLock { counts in
            counts[request.path, default: 0] += 1
            return counts[request.path] ?? 0
        }
        let fails = number <= behaviour.failFirst || (behaviour.failing > 0 && Double.random(in: 0..<1) < behaviour.failing)
        let status = fails ? behaviour.failStatus : behaviour.status
        let verdict = verifier?.verify(
            id: request.header("webhook-id"), timestamp: request.header("webhook-timestamp"),
            signature: request.header("webhook-signature"),
            body: request.body, nowSeconds: arrived / 1_000)
        // A bad signature is refused, as a real receiver would.
        let refused = verdict.map { $0 != .valid } ?? false
        let word = behaviour.hangs ? "hang" : behaviour.resets ? "reset" : String(refused ? 401 : status)
        onDelivery(
            Delivery(
                arrivedMilliseconds: arrived, path: request.path, headers: request.headers, body: request.body, verdict: verdict,
                status: refused ? 401 : status, answer: word))
        if behaviour.delayMilliseconds > 0 { wait(Int(behaviour.delayMilliseconds)) }
        if behaviour.hangs { wait(600_000) }
        var response = HTTPServer.Response(
            refused ? 401 : status, headers: [("content-type", "text/plain")], body: "martlet receiver: \(word)\n")
        if let retryAfter = behaviour.retryAfter, status >= 300 { response.headers.append(("retry-after", retryAfter)) }
        if behaviour.resets { response.delivery = .reset }
        if let drip = behaviour.dripMilliseconds { response.delivery = .drip(milliseconds: drip) }
        return response
    }

    private func wait(_ milliseconds: Int) {
        var left = milliseconds
        while left > 0, !isStopping.load(ordering: .relaxed) {
            usleep(UInt32(min(left, 50)) * 1_000)
            left -= 50
        }
    }
}
