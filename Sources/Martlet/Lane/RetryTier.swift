/// One retry topic: a fixed delay from a record's append to the look at its due time. Together they are a timer wheel: any due time is
/// reached by hops.
///
/// | tier | 5s | 30s | 5m | 30m | 2h | 8h |
/// |---|---|---|---|---|---|---|
/// | taken for what remains of | < 29.1 s | < 4 m 51 s | < 29 m 4 s | < 1 h 56 m | < 7 h 45 m | the rest |
public struct RetryTier: Sendable, Hashable, Comparable {
    public var name: String
    public var delayMilliseconds: Int64

    /// `30s`, `5m`, ...: the end of the topic's name.
    public init?(name: String) {
        let units: [(String, Int64)] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]
        for (unit, scale) in units where name.hasSuffix(unit) {
            guard let number = Int64(name.dropLast(unit.count)), number > 0, number < 1_000_000 else { continue }
            self.name = name
            delayMilliseconds = number * scale
            return
        }
        return nil
    }

    /// With the default tiers and a maximum age of 7 days: how often a delivery may be deferred (each time by at least a quarter of its age),
    /// and how often it may be written for that (each deferral in at most ten hops).
    public static let deferralLimit = 52
    public static let rewriteLimit = 200

    public static let defaults = ["5s", "30s", "5m", "30m", "2h", "8h"].compactMap { RetryTier(name: $0) }
    public static func < (left: Self, right: Self) -> Bool { left.delayMilliseconds < right.delayMilliseconds }

    /// Where a record that is due in `remaining` waits: the largest tier not above it, else the smallest. A tier counts as not above it when
    /// it is later by less than a thirty-second: without that, a hop that took a few milliseconds would cost ten hops to smaller tiers.
    public static func choose(_ tiers: [RetryTier], remainingMilliseconds remaining: Int64) -> RetryTier? {
        var best: RetryTier?
        for tier in tiers where tier.delayMilliseconds - tier.delayMilliseconds / 32 <= remaining {
            if best.map({ $0 < tier }) ?? true { best = tier }
        }
        return best ?? tiers.min()
    }

    /// A wait whose end nobody was promised, made longer to whole delays of one tier: at most ten hops (30 s to 5 m), often one.
    public static func roundUp(_ tiers: [RetryTier], milliseconds: Int64) -> Int64 {
        guard let delay = choose(tiers, remainingMilliseconds: milliseconds)?.delayMilliseconds else { return milliseconds }
        return max(1, (milliseconds + delay - 1) / delay) * delay
    }
}
