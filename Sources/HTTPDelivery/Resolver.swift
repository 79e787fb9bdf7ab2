internal import CCares
public import EventLoop

/// DNS through c-ares on the owner's event loop: bounded lookups, time-to-live respected within limits, failures remembered briefly, one
/// lookup per name however many wait. For one thread.
public final class Resolver {
    public enum Answer {
        case addresses([IPAddress])
        case failed(String)
    }

    public static let lookupTimeoutMilliseconds = 5_000
    static let minimumLifeMicroseconds: Int64 = 5_000_000
    static let maximumLifeMicroseconds: Int64 = 300_000_000
    static let cacheLimit = 20_000

    private let loop: EventLoop
    private let tokens: UInt64
    private var channel: ares_channel?
    private var cache: [String: (answer: Answer, expires: Int64)] = [:]
    private var waiting: [String: [(Answer) -> Void]] = [:]
    private var now: Int64 = 0

    /// Descriptors are watched with `tokens + fd`.
    /// `servers`: `ADDRESS:PORT`, comma-separated, instead of the system's.
    public init(_ loop: EventLoop, tokens: UInt64, servers: String? = nil) {
        self.loop = loop
        self.tokens = tokens
        _ = Self.libraryReady
        var options = ares_options()
        options.timeout = 2_000
        options.tries = 2
        options.sock_state_cb = { context, fd, readable, writable in
            guard let context else { return }
            Unmanaged<Resolver>.fromOpaque(context).takeUnretainedValue().watch(fd, readable != 0, writable != 0)
        }
        options.sock_state_cb_data = Unmanaged.passUnretained(self).toOpaque()
        let mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB
        ares_init_options(&channel, &options, Int32(mask))
        if let channel, let servers { ares_set_servers_ports_csv(channel, servers) }
    }

    deinit { if let channel { ares_destroy(channel) } }

    private static let libraryReady: Bool = ares_library_init(ARES_LIB_INIT_ALL) == 0

    private func watch(_ fd: ares_socket_t, _ readable: Bool, _ writable: Bool) {
        guard readable || writable else { return loop.forget(fd) }
        var interest: EventLoop.Interest = []
        if readable { interest.insert(.readable) }
        if writable { interest.insert(.writable) }
        loop.watch(fd, for: interest, token: tokens + UInt64(fd))
    }

    /// Calls `body` with the answer: at once when it is known, else from `handle` or `advance`.
    public func resolve(_ name: String, nowMicroseconds: Int64, _ body: @escaping (Answer) -> Void) {
        now = nowMicroseconds
        if let known = cache[name], known.expires > nowMicroseconds { return body(known.answer) }
        guard let channel else { return body(.failed("the resolver could not be set up")) }
        guard waiting[name] == nil else {
            waiting[name]?.append(body)
            return
        }
        waiting[name] = [body]
        var hints = ares_addrinfo_hints()
        hints.ai_family = AF_UNSPEC
        hints.ai_flags = ARES_AI_NOSORT
        let lookup = Unmanaged.passRetained(Lookup(self, name)).toOpaque()
        // Called once: from this call, from `process`, or from `ares_destroy`.
        ares_getaddrinfo(
            channel, name, nil, &hints,
            { context, status, _, result in
                guard let context else { return }
                let lookup = Unmanaged<Lookup>.fromOpaque(context).takeRetainedValue()
                lookup.resolver?.finish(lookup.name, status, result)
                if let result { ares_freeaddrinfo(result) }
            }, lookup)
    }

    private final class Lookup {
        weak var resolver: Resolver?
        let name: String
        init(_ resolver: Resolver, _ name: String) { (self.resolver, self.name) = (resolver, name) }
    }

    private func finish(_ name: String, _ status: Int32, _ result: UnsafeMutablePointer<ares_addrinfo>?) {
        var addresses: [IPAddress] = []
        var life = Self.maximumLifeMicroseconds
        var node = result?.pointee.nodes
        while let entry = node?.pointee {
            if let address = entry.ai_addr.flatMap({ IPAddress($0) }), !addresses.contains(address) { addresses.append(address) }
            life = min(life, Int64(entry.ai_ttl) * 1_000_000)
            node = entry.ai_next
        }
        let failed = status != ARES_SUCCESS || addresses.isEmpty
        let answer: Answer = failed ? .failed(String(cString: ares_strerror(status))) : .addresses(addresses)
        if cache.count >= Self.cacheLimit { cache = cache.filter { $0.value.expires > now } }
        if cache.count >= Self.cacheLimit { cache.removeAll() }
        cache[name] = (answer, now + (failed ? Self.minimumLifeMicroseconds : max(life, Self.minimumLifeMicroseconds)))
        for body in waiting.removeValue(forKey: name) ?? [] { body(answer) }
    }

    public func handle(_ ready: EventLoop.Ready, nowMicroseconds: Int64) {
        now = nowMicroseconds
        guard let channel else { return }
        let fd = ares_socket_t(truncatingIfNeeded: ready.token - tokens)
        let failed = !ready.interest.isDisjoint(with: .failed)
        ares_process_fd(
            channel, ready.interest.contains(.readable) || failed ? fd : -1, ready.interest.contains(.writable) ? fd : -1)
    }

    public func advance(nowMicroseconds: Int64) {
        now = nowMicroseconds
        guard let channel, !waiting.isEmpty else { return }
        ares_process_fd(channel, -1, -1)
    }

    public var nextDeadlineMicroseconds: Int64? { waiting.isEmpty ? nil : now + 100_000 }
}
