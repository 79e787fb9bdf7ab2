/// Stops requests to an endpoint that fails.
///
/// | state | means | becomes |
/// |---|---|---|
/// | closed | requests flow | open: 5 failures in a row, or ≥ 50 % of ≥ 20 in 60 s |
/// | open | nothing is sent until `untilMilliseconds` | half-open: when that time has come |
/// | half-open | one probe at a time | closed: 3 successes; open, for twice as long: a failure |
///
/// Times are monotonic milliseconds. An open time is 30 s × 2ᵏ, at most 10 min, ± 20 %.
public struct CircuitBreaker: Sendable, Equatable {
    public struct Settings: Sendable, Equatable {
        public var consecutiveFailures = 5
        public var windowMilliseconds: Int64 = 60_000
        public var windowMinimum = 20
        public var openMilliseconds: Int64 = 30_000
        public var openLimitMilliseconds: Int64 = 600_000
        public var successesToClose = 3
        public init() {}
    }

    public enum State: Sendable, Equatable {
        case closed
        case open(untilMilliseconds: Int64)
        case halfOpen(probing: Bool, successes: Int)
    }

    public private(set) var state = State.closed
    /// How often it opened since it was last closed.
    public private(set) var opens = 0
    private var failuresInARow = 0
    /// The window's part that is being counted; those before it, some of which may have left the window, are in `earlier`.
    private var latest: Bucket?
    private var earlier: [Bucket] = []
    public let settings: Settings

    private struct Bucket: Sendable, Equatable {
        var startMilliseconds: Int64
        var successes = 0
        var failures = 0
    }

    public init(_ settings: Settings = Settings()) { self.settings = settings }

    /// As remembered in `martlet.health`.
    public init(_ settings: Settings, openUntilMilliseconds: Int64, opens: Int) {
        self.settings = settings
        self.opens = opens
        state = .open(untilMilliseconds: openUntilMilliseconds)
    }

    public var isHalfOpen: Bool { if case .halfOpen = state { true } else { false } }

    /// The earliest start that the breaker allows; nil: not before the probe under way has ended.
    public func earliestStart(now: Int64) -> Int64? {
        switch state {
        case .closed: now
        case .open(let until): max(now, until)
        case .halfOpen(let probing, _): probing ? nil : now
        }
    }

    /// A request starts. The caller has asked `earliestStart`.
    public mutating func started(now: Int64) {
        switch state {
        case .closed: break
        case .open: state = .halfOpen(probing: true, successes: 0)
        case .halfOpen(_, let successes): state = .halfOpen(probing: true, successes: successes)
        }
    }

    /// A request ended without a verdict (cancelled, or an answer that says nothing about health): a probe may be sent again.
    public mutating func endedWithoutVerdict() {
        if case .halfOpen(_, let successes) = state { state = .halfOpen(probing: false, successes: successes) }
    }

    /// True when the state changed in a way worth remembering.
    public mutating func succeeded(now: Int64) -> Bool {
        failuresInARow = 0
        switch state {
        case .closed:
            count(success: true, now)
            return false
        // A request that started before the breaker opened: its success says nothing about the failures since.
        case .open: return false
        case .halfOpen(_, let successes):
            guard successes + 1 >= settings.successesToClose else {
                state = .halfOpen(probing: false, successes: successes + 1)
                return false
            }
            state = .closed
            opens = 0
            forget()
            return true
        }
    }

    public mutating func failed(now: Int64, using generator: inout some RandomNumberGenerator) -> Bool {
        failuresInARow += 1
        switch state {
        case .closed:
            count(success: false, now)
            let (successes, failures) = counts(now)
            let manyFailed = successes + failures >= settings.windowMinimum && failures * 2 >= successes + failures
            guard failuresInARow >= settings.consecutiveFailures || manyFailed else { return false }
        case .open: return false
        case .halfOpen: break
        }
        let base = settings.openMilliseconds << Int64(min(opens, 20))
        let capped = min(base, settings.openLimitMilliseconds)
        state = .open(untilMilliseconds: now + capped + Int64.random(in: -capped / 5...capped / 5, using: &generator))
        opens += 1
        failuresInARow = 0
        forget()
        return true
    }

    private mutating func count(success: Bool, _ now: Int64) {
        if latest.map({ $0.startMilliseconds + max(1, settings.windowMilliseconds / 6) <= now }) ?? true {
            if let latest { earlier.append(latest) }
            earlier.removeAll { $0.startMilliseconds + settings.windowMilliseconds <= now }
            latest = Bucket(startMilliseconds: now)
        }
        if success { latest?.successes += 1 } else { latest?.failures += 1 }
    }

    /// Of the last `windowMilliseconds`.
    private func counts(_ now: Int64) -> (successes: Int, failures: Int) {
        var sum = (successes: latest?.successes ?? 0, failures: latest?.failures ?? 0)
        for bucket in earlier where bucket.startMilliseconds + settings.windowMilliseconds > now {
            sum.successes += bucket.successes
            sum.failures += bucket.failures
        }
        return sum
    }

    private mutating func forget() { (latest, earlier) = (nil, []) }
}
