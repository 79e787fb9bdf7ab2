/// Whether a turn of a lane reads new records. While more responses wait than a turn handles it doesn't: what is done comes before what is new,
/// else a lane that is as fast as it can be would have ever more in flight, up to its limit, which makes each of them dearer. But only some
/// turns in a row, as receivers that send byte after byte keep their connections ready for as long as they like.
public struct ResponsesFirst: Sendable {
    public static let turnLimit = 3
    private var turns = 0

    public init() {}

    /// `hasMoreResponses`: as many were ready as a turn takes.
    public mutating func mayRead(hasMoreResponses: Bool) -> Bool {
        turns = hasMoreResponses && turns < Self.turnLimit ? turns + 1 : 0
        return turns == 0
    }
}
