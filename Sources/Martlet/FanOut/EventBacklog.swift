/// Whether events wait to be read. While they do, a few milliseconds more for a delivery keep nobody waiting, and it goes through a producer
/// that waits for its requests to fill. The change from one producer to another comes when nothing is outstanding, which keeps the order.
public struct EventBacklog: Sendable {
    /// After so many readings in a row that left events unread there is a backlog. Where they come one by one hardly one in a thousand does.
    public static let readings = 4
    /// Without such a reading for so long it is over.
    public static let restMilliseconds: Int64 = 20
    /// A change that isn't done by then is given up: a broker may be away, and what goes to others would wait for it.
    public static let changeMilliseconds: Int64 = 100
    /// Until the next try after one that was given up.
    public static let pauseMilliseconds: Int64 = 5_000

    private var isThere = false
    private var inARow = 0
    private var latest: Int64 = .min / 2
    /// Whether deliveries go through the producer that waits.
    public private(set) var isGathering = false
    private var changingSince: Int64?
    private var noChangeBefore: Int64 = .min

    public init() {}

    /// After each reading. `now`: monotonic milliseconds.
    public mutating func read(hasMore: Bool, now: Int64) {
        if hasMore { latest = now }
        inARow = hasMore ? inARow + 1 : 0
        isThere = isThere ? now - latest < Self.restMilliseconds : inARow >= Self.readings
    }

    /// Before writing: false while a change waits for what is outstanding. Look at `isGathering` after it.
    public mutating func mayWrite(outstanding: @autoclosure () -> Int, now: Int64) -> Bool {
        let since = changingSince ?? now
        changingSince = nil
        guard isThere != isGathering, now >= noChangeBefore else { return true }
        if outstanding() == 0 {
            isGathering = isThere
        } else if now - since >= Self.changeMilliseconds {
            noChangeBefore = now + Self.pauseMilliseconds
        } else {
            changingSince = since
            return false
        }
        return true
    }
}
