/// How many records a lane reads in a turn.
public enum ReadingLimit {
    static let most = 512
    /// Of a lane whose places are taken: what it reads may be for retry topics, or for an endpoint's place that is free.
    static let leastWithoutPlaces = 64
    /// Whatever receivers send, and however long: reading goes on.
    static let least = 16

    /// Ready sockets of a turn from which on less begins than ends. More than the places of a lane with few, all of which may end at once.
    static let manyReady = 128

    /// What has just been read is still in the processor's caches when it is sent: no more at once than has a place in flight. And what is
    /// done comes before what is new: while many sockets are `ready`, half as many records as attempts `ended` in this turn. Else a lane that is
    /// as fast as it can be would begin more than it ends, until all places are taken, which makes each delivery dearer.
    public static func records(inFlight: Int, places: Int, ended: Int, ready: Int) -> Int {
        let room = min(most, max(leastWithoutPlaces, places - inFlight))
        return ready >= manyReady ? min(room, max(least, ended / 2)) : room
    }
}
