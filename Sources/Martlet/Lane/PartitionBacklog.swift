/// Which records of a lane partition still wait, by what the group has committed: for reports.
public struct PartitionBacklog: Sendable {
    /// Where reading begins: the committed offset, or the lowest hold below it.
    public let start: Int64
    private let committed: Int64
    private let holds: [UInt64: Hold]
    private var tracker: OffsetTracker

    public init(committed: Int64, metadata: String) throws(CommitMetadata.Unreadable) {
        let (decoded, _) = try CommitMetadata.decode(metadata, committed: committed)
        self.committed = committed
        holds = decoded.holds
        tracker = OffsetTracker(start: committed, completed: decoded.completed)
        start = min(committed, holds.values.map(\.offset).min() ?? committed)
    }

    /// Records are given in the order of their offsets.
    public mutating func waits(offset: Int64, endpointID: String) -> Bool {
        let isOpen = offset >= committed && tracker.begin(offset) == .fresh
        // What a hold covers counts as complete for the watermark, and waits all the same.
        return isOpen || holds[Hold.hash(endpointID)].map { offset >= $0.offset } ?? false
    }
}

/// What waits for one endpoint.
public struct EndpointBacklog: Sendable, Equatable {
    public var waiting = 0
    /// Of those, attempted before.
    public var retrying = 0
    /// What the age of the oldest counts from, and when the next is due; Unix milliseconds.
    public var oldestMilliseconds: Int64?
    public var nextDueMilliseconds: Int64?
    /// A record that was written again counts once, though its predecessor isn't committed yet.
    private var seen: Set<Int> = []
    public init() {}

    public mutating func add(_ delivery: DeliveryHeaders) {
        guard seen.insert(delivery.deliveryID.hashValue).inserted else { return }
        waiting += 1
        if delivery.attempt > 0 { retrying += 1 }
        oldestMilliseconds = min(oldestMilliseconds ?? .max, delivery.ageFromMilliseconds)
        nextDueMilliseconds = min(nextDueMilliseconds ?? .max, delivery.dueMilliseconds)
    }
}
