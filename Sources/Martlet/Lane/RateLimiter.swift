/// GCRA: n starts per window, with a burst. A start is charged when it happens; asking costs nothing.
///
/// | value | is |
/// |---|---|
/// | interval | window ÷ n, rounded up to whole microseconds: never a start too many |
/// | tolerance | interval × (burst − 1) |
/// | earliest start | arrival − tolerance, not before now |
/// | arrival after a start at t | max(arrival, t) + interval |
/// | arrival at a new owner | now + interval + tolerance: the bucket is empty |
public struct RateLimiter: Sendable, Equatable {
    private let intervalMicroseconds: Int64
    private let toleranceMicroseconds: Int64
    /// The theoretical arrival time of the next start.
    private var arrivalMicroseconds: Int64

    /// A new owner starts with an empty bucket: nothing of a burst is saved up from before `nowMilliseconds`.
    public init(_ limit: RateLimit, emptyAtMilliseconds nowMilliseconds: Int64) {
        intervalMicroseconds = max(1, (limit.perMilliseconds * 1_000 + Int64(limit.n) - 1) / Int64(limit.n))
        toleranceMicroseconds = intervalMicroseconds * Int64(limit.burst - 1)
        arrivalMicroseconds = nowMilliseconds * 1_000 + intervalMicroseconds + toleranceMicroseconds
    }

    /// The earliest moment, in milliseconds, at which a start is within the limit.
    public func earliestStartMilliseconds(now: Int64) -> Int64 { max(now, (arrivalMicroseconds - toleranceMicroseconds + 999) / 1_000) }

    /// The same behind `count` others that wait.
    public func earliestStartMilliseconds(now: Int64, behind count: Int) -> Int64 {
        let arrival = max(arrivalMicroseconds, now * 1_000) + intervalMicroseconds * Int64(count)
        return max(now, (arrival - toleranceMicroseconds + 999) / 1_000)
    }

    public mutating func charge(now: Int64) { arrivalMicroseconds = max(arrivalMicroseconds, now * 1_000) + intervalMicroseconds }
}
