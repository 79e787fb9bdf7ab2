/// The delays between attempts.
///
/// | after failed attempt | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |
/// |---|---|---|---|---|---|---|---|---|---|---|
/// | standard | 5 s | 5 m | 30 m | 2 h | 5 h | 10 h | 14 h | 20 h | 24 h | exhausted |
public struct RetrySchedule: Sendable, Equatable {
    public static let lengthLimit = 50
    static let delayLimitMilliseconds: Int64 = 7 * 86_400_000

    public let delaysMilliseconds: [Int64]

    /// 10 attempts over 75 h 35 m 5 s.
    public static let standard = RetrySchedule(unchecked: [5_000, 300_000, 1_800_000] + [2, 5, 10, 14, 20, 24].map { $0 * 3_600_000 })

    private init(unchecked delays: [Int64]) { delaysMilliseconds = delays }

    /// An empty schedule means one attempt and no retry. nil for too many delays, or one that isn't between 1 ms and 7 days.
    public init?(delaysMilliseconds: [Int64]) {
        guard delaysMilliseconds.count <= Self.lengthLimit,
            delaysMilliseconds.allSatisfy({ (1...Self.delayLimitMilliseconds).contains($0) })
        else { return nil }
        self.init(unchecked: delaysMilliseconds)
    }

    public var longestMilliseconds: Int64 { delaysMilliseconds.max() ?? 0 }

    /// The delay after the failure of attempt number `attempts` (from 1), jitter added; nil when the schedule is exhausted.
    /// `hintMilliseconds` (Retry-After) may lengthen it up to the longest step, never shorten it.
    public func delay(afterAttempts attempts: Int, hintMilliseconds: Int64?, using generator: inout some RandomNumberGenerator) -> Int64? {
        guard attempts >= 1, attempts <= delaysMilliseconds.count else { return nil }
        let step = delaysMilliseconds[attempts - 1]
        let hinted = max(step, min(hintMilliseconds ?? 0, longestMilliseconds))
        return hinted + Int64.random(in: 0...Self.jitterWindowMilliseconds(step: step), using: &generator)
    }

    /// Added, never subtracted: a tenth of the step, at least 2 s for steps over 5 s, at most 15 minutes.
    static func jitterWindowMilliseconds(step: Int64) -> Int64 { min(max(step / 10, step > 5_000 ? 2_000 : 0), 900_000) }
}
