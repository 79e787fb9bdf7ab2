/// How many requests an endpoint gets at once: slow start from 4, one more per success, up to the ceiling; after the first failure
/// additive increase (one more per limit's worth of successes) and halving.
///
/// | state | a success | a failure |
/// |---|---|---|
/// | slow start, from 4 | limit + 1 | half, at least 1; steady from now on |
/// | steady | limit + 1 after `limit` of them | half, at least 1 |
/// | at the ceiling | stays | half |
public struct ConcurrencyLimit: Sendable, Equatable {
    public static let start = 4
    public static let defaultCeiling = 64

    public private(set) var limit: Int
    private var ceiling: Int
    private var isSlowStart = true
    private var successes = 0

    public init(ceiling: Int) {
        self.ceiling = ceiling
        limit = min(Self.start, ceiling)
    }

    public mutating func setCeiling(_ new: Int) {
        ceiling = new
        limit = min(limit, new)
    }

    public mutating func succeeded() {
        guard limit < ceiling else { return }
        successes += 1
        guard isSlowStart || successes >= limit else { return }
        limit += 1
        successes = 0
    }

    public mutating func failed() {
        isSlowStart = false
        successes = 0
        limit = max(1, limit / 2)
    }
}
