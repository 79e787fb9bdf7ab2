/// GCRA: n starts per window, with a burst. A start is charged when it happens; asking costs nothing.
public struct RateLimiter: Sendable, Equatable {
    private let intervalMicroseconds: Int64
    private let toleranceMicroseconds: Int64
    /// The theoretical arrival time of the next start.
    private var arrivalMicroseconds: Int64

    /// A new owner starts with an empty bucket: nothing of a burst is saved up from before `nowMilliseconds`.
    public init(_ limit: RateLimit, emptyAtMilliseconds nowMilliseconds: Int64) {
        intervalMicroseconds = max(1, limit.perMilliseconds * 1_000 / Int64(limit.n))
        toleranceMicroseconds = intervalMicroseconds * Int64(limit.burst - 1)
        arrivalMicroseconds = nowMilliseconds * 1_000 + intervalMicroseconds + toleranceMicroseconds
    }

    /// The earliest moment, in milliseconds, at which a start is within the limit.
    public func earliestStartMilliseconds(now: Int64) -> Int64 { max(now, (arrivalMicroseconds - toleranceMicroseconds + 999) / 1_000) }

    public mutating func charge(now: Int64) { arrivalMicroseconds = max(arrivalMicroseconds, now * 1_000) + intervalMicroseconds }
}
