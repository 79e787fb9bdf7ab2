internal import EventLoop
internal import Glibc

// From a request without a connection to one that stands: names, addresses, TCP, TLS.
extension DirectTransport {
    func wait(_ exchange: Exchange) {
        exchange.waits(nowMicroseconds: now)
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
    func connect(_ exchange: Exchange, _ addresses: [IPAddress]) {
        if let refused = addresses.first(where: { !policy.allows($0) }) { return refuse(exchange, refused) }
        exchange.addresses = Self.alternating(addresses).prefix(Self.addressLimit)
        exchange.connectDeadline = now + exchange.request.timeouts.connectMilliseconds * 1_000
        tryNextAddress(exchange)
    }

    func refuse(_ exchange: Exchange, _ address: IPAddress) {
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
    func tryNextAddress(_ exchange: Exchange) {
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

    /// Idle connections give way.
    func makeRoom() {
        while connectionCount >= configuration.inFlightLimit + configuration.idlePool, let oldest = pool.longestIdle?.connection {
            close(oldest)
        }
    }

    func connected(_ connection: Connection) {
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

    func shakeHands(_ connection: Connection) {
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

    func opened(_ connection: Connection, _ exchange: Exchange) {
        guard isStillAllowed(connection) else { return refuse(exchange, connection.address) }
        waiting[exchange.request.token] = nil
        exchange.attempts = []
        connection.phase = .open
        begin(exchange, on: connection)
        // What came with the end of the handshake lies in OpenSSL, and no event tells of it.
        if connection.exchange === exchange, connection.tls?.hasPending == true { read(connection) }
    }

    func waitIsOver(_ exchange: Exchange) {
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

    func dropAttempts(_ exchange: Exchange, but kept: Connection? = nil) {
        let attempts = exchange.attempts
        exchange.attempts = []
        for attempt in attempts where attempt !== kept { drop(attempt) }
    }
}
