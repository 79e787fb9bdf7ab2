internal import CLibcurl
internal import EventLoop
internal import Glibc

/// Requests over libcurl's multi interface, driven by the owner's event loop. HTTP/1.1; no redirects; no proxy from the environment.
final class CurlTransport: HTTPTransport {
    private let loop: EventLoop
    private let tokens: UInt64
    private let resolver: Resolver
    private let trust: TrustStores
    private(set) var configuration: TransportConfiguration
    private let multi: UnsafeMutableRawPointer
    private var transfers: [UInt64: CurlTransfer] = [:]
    private var resolving: [UInt64] = []
    private var idle: [CurlTransfer] = []
    private var finished: [HTTPResult] = []
    private var timerDeadline: Int64?
    /// By descriptor. A kept connection's stays with the event loop from request to request: two system calls less for each.
    private var sockets: [Socket] = []
    private struct Socket {
        var watched: EventLoop.Interest = []
        var isWanted = false
    }
    var now: Int64 = 0

    /// Watches descriptors with `tokens + fd`. `resolver`: served by its owner.
    init(_ loop: EventLoop, tokens: UInt64, _ configuration: TransportConfiguration, _ resolver: Resolver, _ trust: TrustStores) {
        (self.loop, self.tokens, self.configuration) = (loop, tokens, configuration)
        (self.resolver, self.trust) = (resolver, trust)
        _ = Self.libraryReady
        guard let multi = curl_multi_init() else { fatalError("libcurl: out of memory") }
        self.multi = multi
        // Counts connections in use, too: below the number in flight, reuse would fall to zero.
        martlet_multi_setopt_long(multi, CURLMOPT_MAXCONNECTS, configuration.inFlightLimit + configuration.idlePool)
        martlet_multi_setopt_long(multi, CURLMOPT_PIPELINING, 0)
        martlet_multi_setopt_pointer(multi, CURLMOPT_SOCKETDATA, Unmanaged.passUnretained(self).toOpaque())
        martlet_multi_setopt_pointer(multi, CURLMOPT_TIMERDATA, Unmanaged.passUnretained(self).toOpaque())
        // Both run on this thread, inside a call that we made into the multi handle.
        martlet_multi_setopt_socket(multi) { _, fd, what, context, _ in
            guard let context else { return 0 }
            Unmanaged<CurlTransport>.fromOpaque(context).takeUnretainedValue().watch(fd, what)
            return 0
        }
        martlet_multi_setopt_timer(multi) { _, milliseconds, context in
            guard let context else { return 0 }
            let transport = Unmanaged<CurlTransport>.fromOpaque(context).takeUnretainedValue()
            transport.timerDeadline = milliseconds < 0 ? nil : transport.now + Int64(milliseconds) * 1_000
            return 0
        }
    }

    deinit {
        for transfer in transfers.values { transfer.detach(multi) }
        transfers = [:]
        idle = []
        curl_multi_cleanup(multi)
    }

    private static let libraryReady: Bool = martlet_global_init() == CURLE_OK

    private func watch(_ fd: curl_socket_t, _ what: Int32) {
        while sockets.count <= Int(fd) { sockets.append(Socket()) }
        let interest: EventLoop.Interest
        switch what {
        case CURL_POLL_IN: interest = .readable
        case CURL_POLL_OUT: interest = .writable
        case CURL_POLL_INOUT: interest = [.readable, .writable]
        default: return sockets[Int(fd)].isWanted = false
        }
        sockets[Int(fd)].isWanted = true
        guard sockets[Int(fd)].watched != interest else { return }
        sockets[Int(fd)].watched = interest
        loop.watch(fd, for: interest, token: tokens + UInt64(fd))
    }

    func close(_ fd: curl_socket_t) -> Int32 {
        if Int(fd) < sockets.count { sockets[Int(fd)] = Socket() }
        return Glibc.close(fd)
    }

    func setAddressPolicy(_ policy: AddressPolicy) {
        configuration.addresses = policy
        for transfer in transfers.values { transfer.addresses = policy }
        for transfer in idle { transfer.addresses = policy }
    }

    var inFlight: Int { transfers.count + finished.count }

    func flush() {}

    func start(_ request: consuming HTTPRequest, nowMicroseconds: Int64) {
        now = nowMicroseconds
        let transfer = idle.popLast() ?? CurlTransfer(self, configuration, trust)
        transfer.prepare(request, startedMicroseconds: nowMicroseconds)
        transfers[request.token] = transfer
        switch request.target.url.host {
        case .address(let address):
            guard mayReach([address], request.token) else { return }
            if let proxy = configuration.proxy { reach(proxy, request.token) } else { connect(request.token, [address]) }
        case .name(let name):
            if let proxy = configuration.proxy { return reach(proxy, request.token) }
            resolve(name, request.token) { [weak self] addresses in
                guard let self, mayReach(addresses, request.token) else { return }
                connect(request.token, addresses)
            }
        }
    }

    /// The proxy's address isn't subject to the policy: the operator chose it.
    private func reach(_ proxy: EgressProxy, _ token: UInt64) {
        if let address = proxy.address { return connect(token, [address]) }
        resolve(proxy.host, token) { [weak self] in self?.connect(token, $0) }
    }

    private func resolve(_ name: String, _ token: UInt64, _ body: @escaping ([IPAddress]) -> Void) {
        resolving.append(token)
        resolver.resolve(name, nowMicroseconds: now) { [weak self] answer in
            guard let self, let place = resolving.firstIndex(of: token) else { return }
            resolving.swapAt(place, resolving.count - 1)
            resolving.removeLast()
            switch answer {
            case .addresses(let addresses): body(addresses)
            case .failed(let reason): finish(token, (.dns, "cannot resolve \(name): \(reason)"))
            }
        }
    }

    /// Every address must be allowed: one refused address refuses the name.
    private func mayReach(_ addresses: [IPAddress], _ token: UInt64) -> Bool {
        guard let refused = addresses.first(where: { !configuration.addresses.allows($0) }) else { return true }
        finish(token, (.refusedAddress, "the address \(refused) is refused by the address policy"))
        return false
    }

    private func connect(_ token: UInt64, _ addresses: [IPAddress]) {
        guard let transfer = transfers[token] else { return }
        guard transfer.hasSafeHeaders else { return finish(token, (.protocol, "a header has a control character")) }
        guard transfer.attach(multi, addresses, nowMicroseconds: now) else {
            return finish(token, (.protocol, "libcurl refused the request"))
        }
    }

    func cancel(_ token: UInt64) {
        guard transfers[token] != nil else { return }
        resolving.removeAll { $0 == token }
        finish(token, (.cancelled, "cancelled"))
    }

    func cancelUnsent() { for token in transfers.keys.sorted() where transfers[token]?.isSent == false { cancel(token) } }

    func cancelAll() { for token in transfers.keys.sorted() { cancel(token) } }

    private func finish(_ token: UInt64, _ error: (ErrorClass, String)?) {
        guard let transfer = transfers.removeValue(forKey: token) else { return }
        var result = transfer.result(nowMicroseconds: now)
        if let error { result.error = error }
        transfer.detach(multi)
        finished.append(result)
        if idle.count < configuration.idlePool { idle.append(transfer) }
    }

    func handle(_ ready: EventLoop.Ready, nowMicroseconds: Int64) {
        now = nowMicroseconds
        let fd = curl_socket_t(truncatingIfNeeded: ready.token - tokens)
        // Closed in this very batch; its number may be another's by now.
        guard !sockets[Int(fd)].watched.isEmpty else { return }
        // A kept connection that its receiver closes: libcurl sees it when it looks for one.
        guard sockets[Int(fd)].isWanted else {
            sockets[Int(fd)].watched = []
            return loop.forget(fd)
        }
        var what: Int32 = 0
        if ready.interest.contains(.readable) { what |= CURL_CSELECT_IN }
        if ready.interest.contains(.writable) { what |= CURL_CSELECT_OUT }
        if !ready.interest.isDisjoint(with: .failed) { what |= CURL_CSELECT_ERR }
        act(fd, what)
    }

    func advance(nowMicroseconds: Int64) {
        now = nowMicroseconds
        for token in resolving {
            if let transfer = transfers[token], transfer.resolveDeadlineMicroseconds <= now {
                resolving.removeAll { $0 == token }
                finish(token, (.dns, "the name was not resolved in time"))
            }
        }
        if let deadline = timerDeadline, deadline <= nowMicroseconds {
            timerDeadline = nil
            act(CURL_SOCKET_BAD, 0)
        }
    }

    private func act(_ socket: curl_socket_t, _ what: Int32) {
        var running: Int32 = 0
        curl_multi_socket_action(multi, socket, what, &running)
        var left: Int32 = 0
        while let message = curl_multi_info_read(multi, &left) {
            guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle else { continue }
            let code = martlet_message_result(message)
            guard let transfer = CurlTransfer.of(easy) else { continue }
            finish(transfer.token, transfer.failure(code))
        }
    }

    var nextDeadlineMicroseconds: Int64? {
        if !finished.isEmpty { return 0 }
        // Lookups are served by the resolver's deadline; how long they may take is seen to at every turn.
        return timerDeadline
    }

    func drain(_ body: (HTTPResult) -> Void) {
        while !finished.isEmpty {
            let batch = finished
            finished.removeAll(keepingCapacity: true)
            for result in batch { body(result) }
        }
    }
}
