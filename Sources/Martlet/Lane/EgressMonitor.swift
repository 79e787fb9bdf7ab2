/// Tells our own broken egress from receivers that fail.
///
/// | state | means | becomes |
/// |---|---|---|
/// | working | attempts count as usual | broken: of ≥ 20 attempts to ≥ 5 hosts within 10 s, ≥ 80 % failed at DNS or connect |
/// | broken | no attempt is spent, no breaker opens; every second some deliveries are tried (below) | working: any attempt got further |
///
/// Many dead hosts at once look the same as a broken egress; a delivery to a healthy one tells them apart. So every second those are tried:
/// one for a host that was reached before and hasn't failed lately, if there is one; else one each for up to 16 hosts that weren't tried
/// yet; else one of the others. Unless the first is there, reading goes on (`seeks`), and what was read waits in retry topics as ever.
///
/// Times are monotonic milliseconds.
public struct EgressMonitor: Sendable, Equatable {
    public struct Settings: Sendable, Equatable {
        public var windowMilliseconds: Int64 = 10_000
        public var minimumAttempts = 20
        public var minimumHosts = 5
        public var failedPercent = 80
        public var probeMilliseconds: Int64 = 1_000
        public var probesAtOnce = 16
        public init() {}
    }

    private struct Bucket: Sendable, Equatable {
        var start: Int64
        var attempts = 0
        var failed = 0
        /// Distinct hosts, as many as matter.
        var hosts: [UInt64] = []
        var failedHosts: Set<UInt64> = []
    }

    /// Of each bucket; further ones are tried like untried ones.
    private static let failedHostsLimit = 1_024
    let settings: Settings
    private var buckets: [Bucket] = []
    /// When the next delivery may be tried; nil: working.
    public private(set) var nextProbe: Int64?
    /// Broken, and nothing in memory is for a host that was reached before and hasn't failed lately.
    public private(set) var seeks = false
    /// While broken: the hosts that failed in the window before, or when they were tried since.
    private var failedHosts: Set<UInt64> = []

    public init(_ settings: Settings = Settings()) { self.settings = settings }

    public var isBroken: Bool { nextProbe != nil }

    /// An attempt got as far as the receiver. True when that ends a broken state.
    public mutating func reached(host: UInt64, now: Int64) -> Bool {
        if nextProbe != nil {
            (nextProbe, seeks, buckets, failedHosts) = (nil, false, [], [])
            return true
        }
        count(host, failed: false, now)
        return false
    }

    /// An attempt failed at DNS or connect. True when that begins a broken state. `isNews`: not a breaker's probe, which says nothing new of
    /// our own egress.
    public mutating func failed(host: UInt64, now: Int64, isNews: Bool = true) -> Bool {
        guard nextProbe == nil else {
            failedHosts.insert(host)
            return false
        }
        if isNews { count(host, failed: true, now) } else { buckets.removeAll { now - $0.start >= settings.windowMilliseconds } }
        let attempts = buckets.reduce(0) { $0 + $1.attempts }
        let failures = buckets.reduce(0) { $0 + $1.failed }
        guard attempts >= settings.minimumAttempts, failures * 100 >= attempts * settings.failedPercent,
            Set(buckets.flatMap(\.hosts)).count >= settings.minimumHosts
        else { return false }
        nextProbe = now + settings.probeMilliseconds
        failedHosts = buckets.reduce(into: []) { $0.formUnion($1.failedHosts) }
        return true
    }

    /// Whether a delivery to the host is worth trying before others.
    public func isUntried(_ host: UInt64) -> Bool { !failedHosts.contains(host) }

    /// `count` deliveries are being tried; `isKnown`: to a host that was reached before.
    public mutating func probed(_ count: Int, now: Int64, isKnown: Bool) {
        guard nextProbe != nil else { return }
        seeks = !isKnown
        if count > 0 { nextProbe = now + settings.probeMilliseconds }
    }

    private mutating func count(_ host: UInt64, failed: Bool, _ now: Int64) {
        if buckets.last.map({ now - $0.start >= settings.windowMilliseconds / 10 }) ?? true {
            buckets.removeAll { now - $0.start >= settings.windowMilliseconds }
            buckets.append(Bucket(start: now))
        }
        let last = buckets.count - 1
        buckets[last].attempts += 1
        if failed {
            buckets[last].failed += 1
            if buckets[last].failedHosts.count < Self.failedHostsLimit { buckets[last].failedHosts.insert(host) }
        }
        if buckets[last].hosts.count < settings.minimumHosts, !buckets[last].hosts.contains(host) { buckets[last].hosts.append(host) }
    }
}
