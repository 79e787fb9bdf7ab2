/// The receiver's wish in a `Retry-After` header: whole seconds, or an HTTP date.
public enum RetryAfter {
    /// Milliseconds from now; nil for nonsense (negative, fractions, a date in the past or unreadable, more than 10 digits).
    public static func milliseconds(_ text: String, nowMilliseconds: Int64) -> Int64? {
        if (1...10).contains(text.utf8.count), text.utf8.allSatisfy({ $0 &- 48 < 10 }) { return Int64(text).map { $0 * 1_000 } }
        guard let date = Timestamp.httpDate(text), date > nowMilliseconds else { return nil }
        return date - nowMilliseconds
    }
}
