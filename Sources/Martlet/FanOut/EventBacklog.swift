/// Whether events wait to be read. While they do, a delivery may as well wait a few milliseconds more, and goes through a producer that waits for
/// its requests to fill. The change from one producer to another comes when nothing is outstanding, which keeps the order.
public struct EventBacklog: Sendable {
    /// After so many readings in a row that left events unread there is a backlog. Where they come one by one hardly one in a thousand does.
    public static let readings = 4
    /// Without such a reading for so long it is over.
    public static let restMilliseconds: Int64 = 20
    /// A change that isn't done by then is given up: a broker may be away, and what goes to others waits for it. Or so much is outstanding that
    /// requests are full without it.
    public static let changeMilliseconds: Int64 = 200
    /// Until the next try after one that was given up.
    public static let pauseMilliseconds: Int64 = 5_000

    private var isThere = false
    private var inARow = 0
    private var latest: Int64 = .min / 2
    private var isGathering = false
    private var changingSince: Int64?
    private var noChangeBefore: Int64 = .min

    public init() {}

    /// After each reading. `now`: monotonic milliseconds.
    public mutating func read(hasMore: Bool, now: Int64) {
        if hasMore { latest = now }
        inARow = hasMore ? inARow + 1 : 0
        isThere = isThere ? now - latest < Self.restMilliseconds : inARow >= Self.readings
    }

    /// Before writing: whether deliveries go through the producer that waits; nil: a change waits for what is outstanding, nothing may be
    /// written yet.
    public mutating func gathers(outstanding: @autoclosure () -> Int, now: Int64) -> Bool? {
        let since = changingSince ?? now
        changingSince = nil
        guard isThere != isGathering, now >= noChangeBefore else { return isGathering }
        if outstanding() == 0 {
            isGathering = isThere
        } else if now - since >= Self.changeMilliseconds {
            noChangeBefore = now + Self.pauseMilliseconds
        } else {
            changingSince = since
            return nil
        }
        return isGathering
    }
}
