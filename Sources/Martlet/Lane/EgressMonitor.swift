/// Tells our own broken egress from receivers that fail.
///
/// | state | means | becomes |
/// |---|---|---|
/// | working | attempts count as usual | broken: of ≥ 20 attempts to ≥ 5 hosts within 10 s, ≥ 80 % failed at DNS or connect |
/// | broken | nothing is read, no attempt is spent, no breaker opens; one delivery is tried every 5 s | working: any attempt got further |
///
/// Times are monotonic milliseconds.
public struct EgressMonitor: Sendable, Equatable {
    public struct Settings: Sendable, Equatable {
        public var windowMilliseconds: Int64 = 10_000
        public var minimumAttempts = 20
        public var minimumHosts = 5
        public var failedPercent = 80
        public var probeMilliseconds: Int64 = 5_000
        public init() {}
    }

    private struct Bucket: Sendable, Equatable {
        var start: Int64
        var attempts = 0
        var failed = 0
        /// Distinct hosts, as many as matter.
        var hosts: [UInt64] = []
    }

    private let settings: Settings
    private var buckets: [Bucket] = []
    /// When the next delivery may be tried; nil: working.
    public private(set) var nextProbe: Int64?

    public init(_ settings: Settings = Settings()) { self.settings = settings }

    public var isBroken: Bool { nextProbe != nil }

    /// An attempt got as far as the receiver. True when that ends a broken state.
    public mutating func reached(host: UInt64, now: Int64) -> Bool {
        if nextProbe != nil {
            nextProbe = nil
            buckets = []
            return true
        }
        count(host, failed: false, now)
        return false
    }

    /// An attempt failed at DNS or connect. True when that begins a broken state.
    public mutating func failed(host: UInt64, now: Int64) -> Bool {
        guard nextProbe == nil else { return false }
        count(host, failed: true, now)
        let attempts = buckets.reduce(0) { $0 + $1.attempts }
        let failures = buckets.reduce(0) { $0 + $1.failed }
        guard attempts >= settings.minimumAttempts, failures * 100 >= attempts * settings.failedPercent,
            Set(buckets.flatMap(\.hosts)).count >= settings.minimumHosts
        else { return false }
        nextProbe = now + settings.probeMilliseconds
        return true
    }

    /// A delivery is being tried.
    public mutating func probed(now: Int64) { if nextProbe != nil { nextProbe = now + settings.probeMilliseconds } }

    private mutating func count(_ host: UInt64, failed: Bool, _ now: Int64) {
        if buckets.last.map({ now - $0.start >= settings.windowMilliseconds / 10 }) ?? true {
            buckets.removeAll { now - $0.start >= settings.windowMilliseconds }
            buckets.append(Bucket(start: now))
        }
        let last = buckets.count - 1
        buckets[last].attempts += 1
        if failed { buckets[last].failed += 1 }
        if buckets[last].hosts.count < settings.minimumHosts, !buckets[last].hosts.contains(host) { buckets[last].hosts.append(host) }
    }
}
