public import EventLoop

/// How requests leave this process.
public struct TransportConfiguration: Sendable {
    public var addresses: AddressPolicy
    /// Of targets that don't choose themselves. Behind a proxy it is always `curl`.
    public var transport = TransportKind.direct
    /// The most requests at once.
    public var inFlightLimit = 10_000
    /// Kept connections beyond those in use.
    public var idlePool = 512
    /// PEM file with the certificates that are trusted.
    public var caBundlePath = "/etc/ssl/certs/ca-certificates.crt"
    /// PEM file with certificates that are trusted besides.
    public var extraAuthoritiesPath: String?
    public var proxy: EgressProxy?
    /// Name servers (`ADDRESS:PORT`, comma-separated) instead of the system's.
    public var nameServers: String?
    public init(addresses: AddressPolicy = AddressPolicy()) { self.addresses = addresses }
}

/// Both transports behind one seam, with one resolver and one address policy: each request goes over the one that its target, or the
/// deployment, chose.
public final class DeliveryTransport: HTTPTransport {
    private let loop: EventLoop
    private let tokens: UInt64
    private var configuration: TransportConfiguration
    private let resolver: Resolver
    private let trust: TrustStores
    private let direct: DirectTransport
    /// Made when it is needed first.
    private var curl: CurlTransport?

    private enum Range {
        static let curl: UInt64 = 1 << 32
        static let resolver: UInt64 = 2 << 32
    }

    /// Watches descriptors with tokens from `tokens` on, less than 2³⁴ of them.
    public init(_ loop: EventLoop, tokens: UInt64, _ configuration: TransportConfiguration) {
        (self.loop, self.tokens, self.configuration) = (loop, tokens, configuration)
        resolver = Resolver(loop, tokens: tokens + Range.resolver, servers: configuration.nameServers)
        trust = TrustStores(bundlePath: configuration.caBundlePath, extraPath: configuration.extraAuthoritiesPath)
        direct = DirectTransport(loop, tokens: tokens, configuration, resolver, trust)
    }

    private func overCurl() -> CurlTransport {
        if let curl { return curl }
        let made = CurlTransport(loop, tokens: tokens + Range.curl, configuration, resolver, trust)
        curl = made
        return made
    }

    public func start(_ request: consuming HTTPRequest, nowMicroseconds: Int64) {
        let kind = configuration.proxy == nil ? request.target.transport ?? configuration.transport : .curl
        switch kind {
        case .direct: direct.start(request, nowMicroseconds: nowMicroseconds)
        case .curl: overCurl().start(request, nowMicroseconds: nowMicroseconds)
        }
    }

    /// For a request's own lines: in memory that an earlier one's have left, where there is some.
    public func emptyLines() -> HeaderLines { direct.emptyLines() }

    public func setAddressPolicy(_ policy: AddressPolicy) {
        configuration.addresses = policy
        direct.setAddressPolicy(policy)
        curl?.setAddressPolicy(policy)
    }

    public func cancel(_ token: UInt64) {
        direct.cancel(token)
        curl?.cancel(token)
    }

    public func cancelUnsent() {
        direct.cancelUnsent()
        curl?.cancelUnsent()
    }

    public func cancelAll() {
        direct.cancelAll()
        curl?.cancelAll()
    }

    public func handle(_ ready: EventLoop.Ready, nowMicroseconds: Int64) {
        let offset = ready.token - tokens
        if offset < Range.curl { return direct.handle(ready, nowMicroseconds: nowMicroseconds) }
        if offset < Range.resolver {
            curl?.handle(ready, nowMicroseconds: nowMicroseconds)
        } else {
            setClock(nowMicroseconds)
            resolver.handle(ready, nowMicroseconds: nowMicroseconds)
        }
    }

    public func flush() { direct.flush() }

    public func advance(nowMicroseconds: Int64) {
        setClock(nowMicroseconds)
        resolver.advance(nowMicroseconds: nowMicroseconds)
        direct.advance(nowMicroseconds: nowMicroseconds)
        curl?.advance(nowMicroseconds: nowMicroseconds)
    }

    /// The resolver's answers come while neither transport is being called.
    private func setClock(_ now: Int64) {
        direct.now = now
        curl?.now = now
    }

    public var nextDeadlineMicroseconds: Int64? {
        let requests = min(direct.nextDeadlineMicroseconds ?? .max, curl?.nextDeadlineMicroseconds ?? .max)
        let next = min(requests, resolver.nextDeadlineMicroseconds ?? .max)
        return next == .max ? nil : next
    }

    public var inFlight: Int { direct.inFlight + (curl?.inFlight ?? 0) }

    public func drain(_ body: (HTTPResult) -> Void) {
        direct.drain(body)
        curl?.drain(body)
    }
}
