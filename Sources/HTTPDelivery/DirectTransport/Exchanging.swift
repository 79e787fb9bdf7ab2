internal import EventLoop

// A request and its response on a connection that stands, and what becomes of the connection.
extension DirectTransport {
    func takeKept(_ origin: Origin) -> Connection? {
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
    func isStillAllowed(_ connection: Connection) -> Bool {
        guard connection.policyNumber != policyNumber else { return true }
        guard policy.allows(connection.address) else { return false }
        connection.policyNumber = policyNumber
        return true
    }

    func begin(_ exchange: Exchange, on connection: Connection) {
        connection.begin(exchange)
        arm(connection, exchange.deadline)
        write(connection)
    }

    func write(_ connection: Connection) {
        guard let exchange = connection.exchange else { return }
        while !connection.isAllSent {
            switch connection.write(exchange, &scratch) {
            case .bytes(let count): connection.writer.wrote(count)
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

    func read(_ connection: Connection) {
        guard let exchange = connection.exchange else { return }
        while true {
            switch connection.read(&buffer) {
            case .bytes(let count):
                if !connection.reader.hasBegun { exchange.timings.firstByte = now - exchange.startedMicroseconds }
                switch connection.reader.read(buffer, count) {
                case .more where connection.isFlooded:
                    return fail(exchange, connection, .tooLarge, "too much came over TLS that is no response")
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

    func broken(_ connection: Connection, _ exchange: Exchange, _ kind: ErrorClass, _ text: String) {
        if !connection.reader.hasBegun, exchange.isOnKept { return startAgain(connection, exchange) }
        fail(exchange, connection, kind, text)
    }

    /// The peer had closed the kept connection: the request never was its affair.
    func startAgain(_ connection: Connection, _ exchange: Exchange) {
        drop(connection)
        exchange.isOnKept = false
        exchange.timings = Timings()
        wait(exchange)
    }

    func complete(_ connection: Connection, _ exchange: Exchange, isAll: Bool = true) {
        let isKept =
            connection.reader.mayKeep && isAll && connection.isAllSent && connection.tls?.hasPending != true
            && now - connection.openedMicroseconds < Self.lifeMicroseconds
        connection.exchange = nil
        // Before another request can begin on the connection.
        finish(exchange, nil, connection)
        if isKept {
            pool.put(Int(connection.fd), connection.origin, nowMicroseconds: now)
            while pool.count > configuration.idlePool, let oldest = pool.longestIdle?.connection { close(oldest) }
        } else {
            close(Int(connection.fd))
        }
    }

    /// Nobody asked: what comes now closes the connection, TLS's own messages aside.
    func idle(_ connection: Connection) {
        if connection.tls != nil, case .wantsRead = connection.read(&buffer), !connection.isFlooded { return }
        close(Int(connection.fd))
    }
}
