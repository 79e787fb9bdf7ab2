/// What librdkafka may hold before it is read, and how much has been read since its fetcher was last made to look. It fetches while both are below
/// their bounds.
struct Prefetch {
    let messages: Int
    /// Of values and keys; nothing else is counted.
    let kilobytes: Int
    private var read = (messages: 0, bytes: 0)

    /// `messages` unless given: three for five kilobytes, since headers, which librdkafka doesn't count, and what it notes of a message take
    /// two thirds of one. So small ones don't take a multiple of `kilobytes` (but for what the last fetch brings).
    init(kilobytes: Int, messages: Int? = nil) { (self.kilobytes, self.messages) = (kilobytes, messages ?? kilobytes * 3 / 5) }

    /// True when half of a bound has been read since the last time, and so may be free: time to fetch again.
    mutating func isHalfRead(messages: Int, bytes: Int) -> Bool {
        read.messages += messages
        read.bytes += bytes
        guard read.bytes * 2 >= kilobytes << 10 || read.messages * 2 >= self.messages else { return false }
        read = (0, 0)
        return true
    }
}
