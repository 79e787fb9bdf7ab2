internal import CLinux
internal import EventLoop
internal import Glibc

/// HTTP/1.1 over TCP and TLS on the owner's event loop. A request on a kept connection costs one write and one read.
///
/// Life of a request: *waiting* (its name is looked up, its addresses are vetted, a connection is made, 250 ms apart where there are several
/// (RFC 8305), and TLS is agreed on), then *open* (it is written, the response is read). A kept connection goes to *open* at once; if it turns
/// out that the peer closed it before the first byte of a response, the request starts again on a new one, once.
final class DirectTransport: HTTPTransport {
    /// Of connections, from their opening: after that a name is looked up again.
    static let lifeMicroseconds: Int64 = 300_000_000
    static let idleMicroseconds: Int64 = 90_000_000
    static let nextAddressMicroseconds: Int64 = 250_000
    /// Addresses of a name that are tried, and at once.
    static let addressLimit = 8
    static let attemptLimit = 3
    private static let bufferBytes = 16_640

    private let loop: EventLoop
    private let tokens: UInt64
    private let resolver: Resolver
    private let contexts: TLSContexts
    private let configuration: TransportConfiguration
    private var policy: AddressPolicy
    private var policyNumber = 0

    private var connections: [Connection?] = []
    private var connectionCount = 0
    private var generation: UInt16 = 0
    private var pool = ConnectionPool()
    /// Of which no byte is written yet.
    private var waiting: [UInt64: Exchange] = [:]
    private var finished: [HTTPResult] = []
    private var handedOver: [HTTPResult] = []
    private(set) var inFlight = 0
    private var deadlines = DeadlineHeap()
    var now: Int64 = 0
    private var buffer = [UInt8](repeating: 0, count: bufferBytes)
    private var scratch: [UInt8] = []

    /// Watches descriptors with tokens from `tokens` on, less than 2³² of them. `resolver`: served by its owner.
    init(_ loop: EventLoop, tokens: UInt64, _ configuration: TransportConfiguration, _ resolver: Resolver, _ trust: TrustStores) {
        (self.loop, self.tokens, self.configuration, self.resolver) = (loop, tokens, configuration, resolver)
        contexts = TLSContexts(trust)
        policy = configuration.addresses
        _ = Self.isPipeIgnored
    }

    /// OpenSSL writes without MSG_NOSIGNAL.
    private static let isPipeIgnored: Void = martlet_ignore_sigpipe()

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

    func start(_ request: HTTPRequest, nowMicroseconds: Int64) {
        now = nowMicroseconds
        inFlight += 1
        let exchange = Exchange(request, nowMicroseconds: now)
        guard request.headers.isSafe else { return finish(exchange, (.protocol, "a header has a control character")) }
        if let kept = takeKept(request.target.origin) {
            exchange.isOnKept = true
            return begin(exchange, on: kept)
        }
        wait(exchange)
    }

    private func wait(_ exchange: Exchange) {
        exchange.waitingSince = now
        waiting[exchange.request.token] = exchange
        switch exchange.request.target.url.host {
        case .address(let address): connect(exchange, [address])
        case .name(let name):
            resolver.resolve(name, nowMicroseconds: now) { [weak self, weak exchange] answer in
                guard let self, let exchange, waiting[exchange.request.token] === exchange, exchange.attempts.isEmpty else { return }
                switch answer {
                case .addresses(let addresses):
                    exchange.timings.dns = now - exchange.startedMicroseconds
                    connect(exchange, addresses)
                case .failed(let reason): finish(exchange, (.dns, "cannot resolve \(name): \(reason)"))
                }
            }
            if waiting[exchange.request.token] === exchange { arm(exchange) }
        }
    }

    /// Every address must be allowed: one refused address refuses the name.
    private func connect(_ exchange: Exchange, _ addresses: [IPAddress]) {
        if let refused = addresses.first(where: { !policy.allows($0) }) { return refuse(exchange, refused) }
        exchange.addresses = Self.alternating(addresses).prefix(Self.addressLimit)
        exchange.connectDeadline = now + exchange.request.timeouts.connectMilliseconds * 1_000
        tryNextAddress(exchange)
    }

    private func refuse(_ exchange: Exchange, _ address: IPAddress) {
        finish(exchange, (.refusedAddress, "the address \(address) is refused by the address policy"))
    }

    /// IPv6 first, then in turns (RFC 8305 section 4).
    static func alternating(_ addresses: [IPAddress]) -> [IPAddress] {
        let (six, four) = (addresses.filter { $0.family == .v6 }, addresses.filter { $0.family == .v4 })
        var order: [IPAddress] = []
        for index in 0..<max(six.count, four.count) {
            if index < six.count { order.append(six[index]) }
            if index < four.count { order.append(four[index]) }
        }
        return order
    }

    /// The one place that dials.
    private func tryNextAddress(_ exchange: Exchange) {
        let target = exchange.request.target
        while let address = exchange.addresses.popFirst() {
            guard policy.allows(address) else { return refuse(exchange, address) }
            makeRoom()
            var (fd, error) = SocketCalls.connect(address, target.url.port)
            if SocketCalls.isOutOfDescriptors.contains(error), let oldest = pool.longestIdle?.connection {
                close(oldest)
                (fd, error) = SocketCalls.connect(address, target.url.port)
            }
            guard fd >= 0 else {
                exchange.lastError = SocketCalls.text(error)
                continue
            }
            generation &+= 1
            let connection = Connection(
                fd, generation: generation, target.origin, address, policyNumber: policyNumber, nowMicroseconds: now)
            connection.exchange = exchange
            if exchange.attempts.count >= Self.attemptLimit { drop(exchange.attempts.removeFirst()) }
            exchange.attempts.append(connection)
            while connections.count <= Int(fd) { connections.append(nil) }
            connections[Int(fd)] = connection
            connectionCount += 1
            loop.watch(fd, for: .writable, token: token(connection))
            exchange.nextTry = now + Self.nextAddressMicroseconds
            return arm(exchange)
        }
        if exchange.attempts.isEmpty { finish(exchange, (.connect, "cannot connect: \(exchange.lastError)")) } else { arm(exchange) }
    }

    private func token(_ connection: Connection) -> UInt64 {
        tokens + UInt64(connection.generation & 0xfff) << 20 + UInt64(truncatingIfNeeded: connection.fd)
    }

    /// nil: it is gone, whatever has its number now.
    private func connection(_ token: UInt64) -> Connection? {
        let number = Int((token - tokens) & 0xf_ffff)
        guard number < connections.count, let connection = connections[number] else { return nil }
        return UInt64(connection.generation & 0xfff) == (token - tokens) >> 20 ? connection : nil
    }

    /// Idle connections give way.
    private func makeRoom() {
        while connectionCount >= configuration.inFlightLimit + configuration.idlePool, let oldest = pool.longestIdle?.connection {
            close(oldest)
        }
    }

    // MARK: connections

    private func takeKept(_ origin: Origin) -> Connection? {
        while let number = pool.take(origin), let connection = connections[number] {
            guard isStillAllowed(connection) else {
                close(number)
                continue
            }
            if now - connection.openedMicroseconds < Self.lifeMicroseconds { return connection }
            close(number)
        }
        return nil
    }

    /// The policy may have changed since it was dialled, or used last.
    private func isStillAllowed(_ connection: Connection) -> Bool {
        guard connection.policyNumber != policyNumber else { return true }
        guard policy.allows(connection.address) else { return false }
        connection.policyNumber = policyNumber
        return true
    }

    private func begin(_ exchange: Exchange, on connection: Connection) {
        connection.begin(exchange)
        arm(connection, exchange.deadline)
        write(connection)
    }

    private func close(_ number: Int, politely: Bool = true) {
        guard let connection = connections[number] else { return }
        if politely, connection.phase == .open { connection.tls?.close() }
        pool.remove(number)
        connections[number] = nil
        connectionCount -= 1
        connection.exchange = nil
        // Closing ends the watching, too.
        Glibc.close(connection.fd)
    }

    private func drop(_ connection: Connection) {
        if connections[Int(connection.fd)] === connection { close(Int(connection.fd), politely: false) }
    }

    private func dropAttempts(_ exchange: Exchange, but kept: Connection? = nil) {
        let attempts = exchange.attempts
        exchange.attempts = []
        for attempt in attempts where attempt !== kept { drop(attempt) }
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

    private func connected(_ connection: Connection) {
        guard let exchange = connection.exchange else { return drop(connection) }
        let error = SocketCalls.connectionError(connection.fd)
        if error == EINPROGRESS { return }
        guard error == 0 else {
            exchange.lastError = SocketCalls.text(error)
            exchange.attempts.removeAll { $0 === connection }
            drop(connection)
            return exchange.attempts.isEmpty || exchange.addresses.isEmpty == false ? tryNextAddress(exchange) : ()
        }
        guard isStillAllowed(connection) else { return refuse(exchange, connection.address) }
        // The first one wins.
        dropAttempts(exchange, but: connection)
        exchange.attempts = [connection]
        exchange.addresses = []
        exchange.timings.connect = now - exchange.startedMicroseconds
        guard connection.origin.isTLS else { return opened(connection, exchange) }
        do throws(TLSContexts.Unusable) {
            let target = exchange.request.target
            connection.tls = try contexts.stream(connection.fd, target.url, target.origin, target.tls)
        } catch {
            return fail(exchange, connection, .tls, error.text)
        }
        connection.phase = .handshaking
        shakeHands(connection)
    }

    private func shakeHands(_ connection: Connection) {
        guard let exchange = connection.exchange, let tls = connection.tls else { return drop(connection) }
        switch tls.handshake() {
        case .bytes:
            exchange.timings.tls = now - exchange.startedMicroseconds
            opened(connection, exchange)
        case .wantsRead: watch(connection, .readable)
        case .wantsWrite: watch(connection, [.readable, .writable])
        case .ended: fail(exchange, connection, .tls, "TLS: the receiver closed the connection within the handshake")
        case .failed(let kind, let text): fail(exchange, connection, kind == .reset ? .tls : kind, text)
        }
    }

    private func opened(_ connection: Connection, _ exchange: Exchange) {
        guard isStillAllowed(connection) else { return refuse(exchange, connection.address) }
        waiting[exchange.request.token] = nil
        exchange.attempts = []
        connection.phase = .open
        begin(exchange, on: connection)
        // What came with the end of the handshake lies in OpenSSL, and no event tells of it.
        if connection.exchange === exchange, connection.tls?.hasPending == true { read(connection) }
    }

    private func watch(_ connection: Connection, _ interest: EventLoop.Interest) {
        guard connection.interest != interest else { return }
        connection.interest = interest
        loop.change(connection.fd, for: interest, token: token(connection))
    }

    // MARK: open

    private func write(_ connection: Connection) {
        guard let exchange = connection.exchange else { return }
        while !connection.isAllSent {
            switch connection.write(exchange, &scratch) {
            case .bytes(let count): connection.sent += count
            case .wantsWrite: return watch(connection, [.readable, .writable])
            case .wantsRead: return watch(connection, .readable)
            case .ended: return broken(connection, exchange, .reset, "the receiver closed the connection")
            case .failed(let kind, let text):
                // What the receiver said before it closed counts for more than that it closed.
                if kind == .reset { read(connection) }
                return connection.exchange === exchange ? broken(connection, exchange, kind, text) : ()
            }
        }
        watch(connection, .readable)
    }

    private func read(_ connection: Connection) {
        guard let exchange = connection.exchange else { return }
        while true {
            switch connection.read(&buffer) {
            case .bytes(let count):
                if !connection.reader.hasBegun { exchange.timings.firstByte = now - exchange.startedMicroseconds }
                switch connection.reader.read(buffer.span.extracting(0..<count)) {
                case .more: if connection.tls == nil, count < Self.bufferBytes { return }
                // A full buffer: perhaps there is more than the response.
                case .complete: return complete(connection, exchange, isAll: count < Self.bufferBytes)
                case .failed(let kind, let text): return fail(exchange, connection, kind, text)
                }
            case .wantsRead where connection.isFlooded:
                return fail(exchange, connection, .tooLarge, "too much came over TLS that is no response")
            case .wantsRead: return watch(connection, connection.isAllSent ? .readable : connection.interest)
            case .wantsWrite: return watch(connection, [.readable, .writable])
            case .ended:
                if !connection.reader.hasBegun, exchange.isOnKept { return startAgain(connection, exchange) }
                switch connection.reader.ended() {
                case .failed(let kind, let text): return fail(exchange, connection, kind, text)
                case .complete, .more: return complete(connection, exchange)
                }
            case .failed(let kind, let text): return broken(connection, exchange, kind, text)
            }
        }
    }

    private func broken(_ connection: Connection, _ exchange: Exchange, _ kind: ErrorClass, _ text: String) {
        if !connection.reader.hasBegun, exchange.isOnKept { return startAgain(connection, exchange) }
        fail(exchange, connection, kind, text)
    }

    /// The peer had closed the kept connection: the request never was its affair.
    private func startAgain(_ connection: Connection, _ exchange: Exchange) {
        drop(connection)
        exchange.isOnKept = false
        exchange.timings = Timings()
        wait(exchange)
    }

    private func complete(_ connection: Connection, _ exchange: Exchange, isAll: Bool = true) {
        let reader = connection.reader
        let isKept =
            reader.mayKeep && isAll && connection.isAllSent && connection.tls?.hasPending != true
            && now - connection.openedMicroseconds < Self.lifeMicroseconds
        connection.exchange = nil
        if isKept {
            pool.put(Int(connection.fd), connection.origin, nowMicroseconds: now)
            while pool.count > configuration.idlePool, let oldest = pool.longestIdle?.connection { close(oldest) }
        } else {
            close(Int(connection.fd))
        }
        finish(exchange, nil, reader)
    }

    private func fail(_ exchange: Exchange, _ connection: Connection?, _ kind: ErrorClass, _ text: String) {
        let reader = connection?.reader
        if let connection { drop(connection) }
        finish(exchange, (kind, text), reader)
    }

    /// Nobody asked: what comes now closes the connection, TLS's own messages aside.
    private func idle(_ connection: Connection) {
        if connection.tls != nil, case .wantsRead = connection.read(&buffer), !connection.isFlooded { return }
        close(Int(connection.fd))
    }

    // MARK: ends

    private func finish(_ exchange: Exchange, _ error: (ErrorClass, String)?, _ reader: ResponseReader? = nil) {
        if waiting[exchange.request.token] === exchange { waiting[exchange.request.token] = nil }
        if !exchange.attempts.isEmpty { dropAttempts(exchange) }
        var timings = exchange.timings
        timings.total = now - exchange.startedMicroseconds
        inFlight -= 1
        finished.append(
            HTTPResult(
                token: exchange.request.token, status: reader?.status, error: error.map { (kind: $0.0, text: $0.1) },
                retryAfter: reader?.retryAfter, excerpt: reader?.excerpt ?? [], timings: timings))
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
        for case let connection? in connections where connection.sent == 0 {
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

    private func arm(_ exchange: Exchange) {
        let at = exchange.waitDeadline
        guard at < exchange.armed || exchange.armed <= now else { return }
        exchange.armed = at
        deadlines.insert(.init(at: at, key: exchange.request.token, isWaiting: true))
    }

    /// A timer that is there already may come too early; it is set anew then.
    private func arm(_ connection: Connection, _ at: Int64) {
        guard at < connection.armed else { return }
        connection.armed = at
        deadlines.insert(.init(at: at, key: token(connection), isWaiting: false))
    }

    func advance(nowMicroseconds: Int64) {
        now = nowMicroseconds
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

    private func waitIsOver(_ exchange: Exchange) {
        exchange.armed = .max
        if exchange.waitDeadline > now { return arm(exchange) }
        if exchange.attempts.isEmpty { return finish(exchange, (.dns, "the name was not resolved in time")) }
        if now >= min(exchange.deadline, exchange.connectDeadline) {
            // With TCP up it is the receiver that is slow; without, a failure of the network, ours or theirs.
            let isUp = exchange.attempts.contains { $0.phase == .handshaking }
            return finish(exchange, isUp ? (.timeout, "no TLS handshake in time") : (.connect, "no connection in time"))
        }
        tryNextAddress(exchange)
    }

    var nextDeadlineMicroseconds: Int64? {
        if !finished.isEmpty { return 0 }
        let idle = pool.longestIdle.map { $0.since + Self.idleMicroseconds }
        return [deadlines.first?.at, idle].compactMap(\.self).min()
    }

    func drain(_ body: (HTTPResult) -> Void) {
        while !finished.isEmpty {
            swap(&finished, &handedOver)
            for result in handedOver { body(result) }
            handedOver.removeAll(keepingCapacity: true)
        }
    }
}
