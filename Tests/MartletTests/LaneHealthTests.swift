import Martlet
import Testing

/// Failing for long disables, whatever restarts between.
struct LaneHealthTests {
    static let hour: Int64 = 3_600_000
    private static let answeredBadly = (AttemptOutcome.retry(hintMilliseconds: nil), AttemptOutcome.BreakerSignal.success)

    /// A delivery with one attempt that ends like this; the health records that it brought.
    private func attempt(
        _ bench: inout LaneTests.Bench, _ end: (AttemptOutcome, AttemptOutcome.BreakerSignal) = answeredBadly
    ) -> (started: Bool, health: [HealthRecord]) {
        _ = bench.core.takeCommands()
        guard let token = bench.read(), bench.starts() == [token] else { return (false, []) }
        bench.core.attemptEnded(token, end.0, end.1)
        let commands = bench.core.takeCommands()
        bench.core.produced(token, .acknowledged)
        _ = bench.core.takeCommands()
        return (true, commands.compactMap { if case .publishHealth(let record) = $0 { record } else { nil } })
    }

    @Test func failingFor120HoursWith100AttemptsDisables() throws {
        var bench = try LaneTests.Bench()
        // 99 attempts within five days: not yet; the 100th after them does it.
        for _ in 0..<99 {
            let (started, health) = attempt(&bench)
            #expect(started && health.allSatisfy { $0.disabled == nil })
            bench.pass(Self.hour)
        }
        bench.pass(21 * Self.hour)
        #expect(attempt(&bench).health.last?.disabled?.reason == "failing")
        // From now on it is parked.
        #expect(!attempt(&bench).started)
        bench.register(version: 2)
        #expect(attempt(&bench).started)
    }

    /// A disabling that the brokers didn't take is written again, until they do; not when the partition has gone.
    @Test func healthThatWasNotWrittenIsWrittenAgain() throws {
        func health(_ bench: inout LaneTests.Bench) -> [HealthRecord] {
            bench.core.takeCommands().compactMap { if case .publishHealth(let record) = $0 { record } else { nil } }
        }
        var bench = try LaneTests.Bench()
        #expect(attempt(&bench, (.gone, .success)).health.map(\.disabled?.reason) == ["gone"])
        for _ in 0..<3 {
            bench.core.healthNotWritten("ep")
            #expect(health(&bench).isEmpty && bench.core.nextDeadlineMonotonic == bench.now.monotonic + 500)
            bench.pass(500)
            #expect(health(&bench).map(\.disabled?.reason) == ["gone"])
        }
        bench.pass(60_000)
        #expect(health(&bench).isEmpty)
        bench.core.healthNotWritten("ep")
        bench.core.disown(bench.core.ownedStreams)
        bench.pass(1_000)
        #expect(health(&bench).isEmpty)
    }

    @Test func neitherTimeNorAttemptsAloneDisable() throws {
        var bench = try LaneTests.Bench()
        for _ in 0..<500 { #expect(attempt(&bench).health.isEmpty) }
        var rare = try LaneTests.Bench()
        for _ in 0..<50 {
            #expect(attempt(&rare).health.allSatisfy { $0.disabled == nil })
            rare.pass(10 * Self.hour)
        }
    }

    @Test func aSuccessBetweenStartsAnew() throws {
        var bench = try LaneTests.Bench()
        for number in 0..<300 {
            let isGood = number % 110 == 109
            let (started, health) = attempt(&bench, isGood ? (.delivered, .success) : Self.answeredBadly)
            #expect(started)
            #expect(health.allSatisfy { $0.disabled == nil })
            // Whoever comes after must know that it is well again.
            if isGood { #expect(health.last.map { $0.failingSinceMilliseconds == nil } == true) }
            bench.pass(Self.hour)
        }
    }

    /// An endpoint that answers 404 opens no breaker, and workers are restarted every day: it is disabled all the same.
    @Test func restartsDoNotForgetForHowLong() throws {
        var bench = try LaneTests.Bench()
        var last: HealthRecord?
        var published = 0
        var disabledAfter: Int64?
        for number in 0..<200 {
            if number % 24 == 23 {
                let now = bench.now
                bench = try LaneTests.Bench()
                bench.pass(now.wall - bench.now.wall)
                bench.core.setLease(untilMonotonic: .max)
                if let last { bench.core.healthRead(last, partition: 0, isRestoring: true) }
            }
            let (started, health) = attempt(&bench)
            guard started else { break }
            published += health.count
            last = health.last ?? last
            if last?.disabled != nil { disabledAfter = disabledAfter ?? Int64(number) }
            bench.pass(Self.hour)
        }
        #expect((120...130).contains(disabledAfter ?? 0))
        // And not a record per attempt.
        #expect(published <= 130)
    }
}
