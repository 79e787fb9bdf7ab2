internal import CLinux
internal import EventLoop
internal import Glibc

/// HTTP/1.1 over TCP and TLS on the owner's event loop. A request on a kept connection costs one write and one read.
///
/// Life of a request: *waiting* (its name is looked up, its addresses are vetted, a connection is made, 250 ms apart where there are several
/// (RFC 8305), and TLS is agreed on), then *open* (it is written, the response is read). A kept connection goes to *open* at once; if it turns
/// out that the peer closed it before the first byte of a response, the request starts again on a new one, once.
///
/// Here: the seam, deadlines, the table of connections. `Dialing`: until a connection stands. `Exchanging`: request and response on it.
final class DirectTransport: HTTPTransport {
    /// Of connections, from their opening: after that a name is looked up again.
    static let lifeMicroseconds: Int64 = 300_000_000
    static let idleMicroseconds: Int64 = 90_000_000
    static let nextAddressMicroseconds: Int64 = 250_000
    /// Addresses of a name that are tried, and at once.
    static let addressLimit = 8
    static let attemptLimit = 3
    static let bufferBytes = 16_640

    let loop: EventLoop
    let tokens: UInt64
    let resolver: Resolver
    let contexts: TLSContexts
    let configuration: TransportConfiguration
    var policy: AddressPolicy
    var policyNumber = 0

    var connections: [Connection?] = []
    var connectionCount = 0
    var generation: UInt16 = 0
    var pool = ConnectionPool()
    /// Of which no byte is written yet.
    var waiting: [UInt64: Exchange] = [:]
    /// Connections whose requests `flush` writes, by their tokens.
    var unwritten: [UInt64] = []
    var finished: [HTTPResult] = []
    var handedOver: [HTTPResult] = []
    private(set) var inFlight = 0
    var deadlines = DeadlineHeap()
    var now: Int64 = 0
    var buffer = [UInt8](repeating: 0, count: bufferBytes)
    var scratch: [UInt8] = []
    /// Ended, memory for requests to come: the one that ended last lies in the caches still.
    private var spare: [Exchange] = []
    private static let spareLimit = 512

    /// Watches descriptors with tokens from `tokens` on, less than 2³² of them. `resolver`: served by its owner.
    init(_ loop: EventLoop, tokens: UInt64, _ configuration: TransportConfiguration, _ resolver: Resolver, _ trust: TrustStores) {
        (self.loop, self.tokens, self.configuration, self.resolver) = (loop, tokens, configuration, resolver)
        contexts = TLSContexts(trust)
        policy = configuration.addresses
        _ = Self.isPipeIgnored
    }

    /// OpenSSL writes without MSG_NOSIGNAL.
    static let isPipeIgnored: Void = martlet_ignore_sigpipe()

    deinit {
        for case let connection? in connections {
            connection.exchange?.attempts = []
            connection.exchange = nil
            Glibc.close(connection.fd)
        }
    }

    func setAddressPolicy(_ policy: AddressPolicy) {
        self.policy = policy
        policyNumber += 1
    }

    // MARK: start

    func start(_ request: consuming HTTPRequest, nowMicroseconds: Int64) {
        now = nowMicroseconds
        inFlight += 1
        let exchange = begun(request)
        guard exchange.request.headers.isSafe else { return finish(exchange, (.protocol, "a header has a control character")) }
        if let kept = takeKept(exchange.request.target.origin) {
            exchange.isOnKept = true
            kept.begin(exchange)
            arm(kept, exchange.deadline)
            return unwritten.append(token(kept))
        }
        wait(exchange)
    }

    private func begun(_ request: consuming HTTPRequest) -> Exchange {
        // Perhaps somebody holds it yet, who would take the next request for the last.
        guard var exchange = spare.popLast(), isKnownUniquelyReferenced(&exchange) else { return Exchange(request, nowMicroseconds: now) }
        exchange.begin(request, nowMicroseconds: now)
        return exchange
    }

    func emptyLines() -> HeaderLines { HeaderLines(in: spare.last?.takeLines() ?? []) }

    func token(_ connection: Connection) -> UInt64 {
        tokens + UInt64(connection.generation & 0xfff) << 20 + UInt64(truncatingIfNeeded: connection.fd)
    }

    /// nil: it is gone, whatever has its number now.
    func connection(_ token: UInt64) -> Connection? {
        let number = Int((token - tokens) & 0xf_ffff)
        guard number < connections.count, let connection = connections[number] else { return nil }
        return UInt64(connection.generation & 0xfff) == (token - tokens) >> 20 ? connection : nil
    }

    // MARK: connections

    func close(_ number: Int, politely: Bool = true) {
        guard let connection = connections[number] else { return }
        if politely, connection.phase == .open { connection.tls?.close() }
        pool.remove(number)
        connections[number] = nil
        connectionCount -= 1
        connection.exchange = nil
        // Closing ends the watching, too.
        Glibc.close(connection.fd)
    }

    func drop(_ connection: Connection) {
        if connections[Int(connection.fd)] === connection { close(Int(connection.fd), politely: false) }
    }

    func handle(_ ready: EventLoop.Ready, nowMicroseconds: Int64) {
        now = nowMicroseconds
        guard let connection = connection(ready.token) else { return }
        switch connection.phase {
        case .connecting: connected(connection)
        case .handshaking: shakeHands(connection)
        case .open:
            guard connection.exchange != nil else { return idle(connection) }
            if !connection.isAllSent { write(connection) }
            read(connection)
        }
    }

    func watch(_ connection: Connection, _ interest: EventLoop.Interest) {
        guard connection.interest != interest else { return }
        connection.interest = interest
        loop.change(connection.fd, for: interest, token: token(connection))
    }

    func fail(_ exchange: Exchange, _ connection: Connection, _ kind: ErrorClass, _ text: String) {
        drop(connection)
        finish(exchange, (kind, text), connection)
    }

    // MARK: ends

    /// `connection`: the one that it was on, with what came of its response. nil: it never had one.
    func finish(_ exchange: Exchange, _ error: (ErrorClass, String)?, _ connection: Connection? = nil) {
        if !waiting.isEmpty, waiting[exchange.request.token] === exchange { waiting[exchange.request.token] = nil }
        if !exchange.attempts.isEmpty { dropAttempts(exchange) }
        var timings = exchange.timings
        timings.total = now - exchange.startedMicroseconds
        inFlight -= 1
        let token = exchange.request.token
        if exchange.end(), spare.count < Self.spareLimit { spare.append(exchange) }
        finished.append(
            HTTPResult(
                token: token, status: connection?.reader.status, error: error.map { (kind: $0.0, text: $0.1) },
                retryAfter: connection?.reader.retryAfter, excerpt: connection?.reader.excerpt ?? [], timings: timings))
    }

    func cancel(_ token: UInt64) {
        if let exchange = waiting[token] { return finish(exchange, (.cancelled, "cancelled")) }
        for case let connection? in connections {
            guard let exchange = connection.exchange, exchange.request.token == token else { continue }
            return fail(exchange, connection, .cancelled, "cancelled")
        }
    }

    func cancelUnsent() {
        for token in waiting.keys.sorted() { cancel(token) }
        for case let connection? in connections where connection.writer.written == 0 {
            if let exchange = connection.exchange { fail(exchange, connection, .cancelled, "cancelled") }
        }
    }

    func cancelAll() {
        for token in waiting.keys.sorted() { cancel(token) }
        for case let connection? in connections {
            if let exchange = connection.exchange { fail(exchange, connection, .cancelled, "cancelled") }
        }
    }

    // MARK: time

    func arm(_ exchange: Exchange) {
        let at = exchange.waitDeadline
        guard at < exchange.armed || exchange.armed <= now else { return }
        exchange.armed = at
        deadlines.insert(.init(at: at, key: exchange.request.token, isWaiting: true))
    }

    /// A timer that is there already may come too early; it is set anew then.
    func arm(_ connection: Connection, _ at: Int64) {
        guard at < connection.armed else { return }
        connection.armed = at
        deadlines.insert(.init(at: at, key: token(connection), isWaiting: false))
    }

    /// One after another: what a write needs of the processor's caches is still there for the next one.
    func flush() {
        guard !unwritten.isEmpty else { return }
        for token in unwritten { if let connection = connection(token), connection.writer.written == 0 { write(connection) } }
        unwritten.removeAll(keepingCapacity: true)
    }

    func advance(nowMicroseconds: Int64) {
        now = nowMicroseconds
        flush()
        while let entry = deadlines.first, entry.at <= now {
            deadlines.removeFirst()
            if entry.isWaiting {
                if let exchange = waiting[entry.key], exchange.armed == entry.at { waitIsOver(exchange) }
            } else if let connection = connection(entry.key), connection.armed == entry.at {
                connection.armed = .max
                guard let exchange = connection.exchange, connection.phase == .open else { continue }
                if exchange.deadline > now {
                    arm(connection, exchange.deadline)
                } else {
                    fail(exchange, connection, .timeout, "no complete response in time")
                }
            }
        }
        while let (oldest, since) = pool.longestIdle, since + Self.idleMicroseconds <= now { close(oldest) }
    }

    var nextDeadlineMicroseconds: Int64? {
        if !finished.isEmpty || !unwritten.isEmpty { return 0 }
        let idle = pool.longestIdle.map { $0.since + Self.idleMicroseconds } ?? .max
        let next = min(deadlines.first?.at ?? .max, idle)
        return next == .max ? nil : next
    }

    func drain(_ body: (HTTPResult) -> Void) {
        while !finished.isEmpty {
            swap(&finished, &handedOver)
            for result in handedOver { body(result) }
            handedOver.removeAll(keepingCapacity: true)
        }
    }
}
