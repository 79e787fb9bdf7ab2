/// How far the brokers' clock is ahead of ours, learnt from acknowledgements: a record appended at `t` (brokers) between its sending and its
/// acknowledgement (ours) says that the difference lies between `t - acknowledged` and `t - sent`. The estimate moves as little as each of
/// them demands, so it follows a stepped clock and isn't shaken by slow answers.
///
/// Due times and tiers are kept in the brokers' time: workers with different clocks agree on them.
public struct BrokerClock: Sendable, Equatable {
    /// To be added to our wall clock, milliseconds.
    public private(set) var aheadMilliseconds: Int64 = 0
    private static let limitMilliseconds: Int64 = 2 * 86_400_000

    public init() {}

    /// Of a record with append-time stamp: our wall clock when it was handed to the producer and when its acknowledgement arrived.
    public mutating func acknowledged(appended: Int64, sent: Int64, acknowledged: Int64) {
        // The stamp has whole milliseconds.
        let (low, high) = (appended - acknowledged, appended + 1 - sent)
        // Librdkafka's embedded cluster stamps with a constant: what is days away is no clock.
        guard low <= high, abs(low) < Self.limitMilliseconds else { return }
        aheadMilliseconds = min(max(aheadMilliseconds, low), high)
    }
}
