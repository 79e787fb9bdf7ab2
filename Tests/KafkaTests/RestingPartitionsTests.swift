@testable import Kafka
import Testing

struct RestingPartitionsTests {
    typealias Partitions = RestingPartitions
    static let quiet = Partitions.quietMilliseconds

    /// Two partitions, of which the first never rests.
    static func made() -> Partitions { Partitions(intervals: [nil, 1_000]) }

    /// The second one rests from `quiet` on.
    static func resting() -> Partitions {
        var partitions = made()
        partitions.wasRead(1, hadRecords: false, isAtEnd: true, now: 0)
        _ = partitions.changes(now: quiet)
        return partitions
    }

    @Test func restsWhenItsEndIsReachedAndNothingComes() {
        var partitions = Self.made()
        #expect(partitions.changes(now: 10_000).pause.isEmpty)
        for number in 0...1 { partitions.wasRead(number, hadRecords: true, isAtEnd: true, now: 100) }
        #expect(partitions.changes(now: 99 + Self.quiet).pause.isEmpty)
        #expect(partitions.changes(now: 100 + Self.quiet).pause == [1])
        #expect(partitions.changes(now: 101 + Self.quiet).pause.isEmpty, "once")
        #expect(partitions.restable == [1])
    }

    @Test func recordsBehindTheEndBeginItAnew() {
        var partitions = Self.made()
        partitions.wasRead(1, hadRecords: false, isAtEnd: true, now: 0)
        partitions.wasRead(1, hadRecords: true, isAtEnd: false, now: 400)
        #expect(partitions.changes(now: 60_000).pause.isEmpty, "its end isn't reached")
        partitions.wasRead(1, hadRecords: false, isAtEnd: true, now: 60_000)
        #expect(partitions.changes(now: 60_000 + Self.quiet).pause == [1])
    }

    @Test func isLookedAtAgainUntilItsEndIsReached() {
        var partitions = Self.resting()
        #expect(partitions.changes(now: Self.quiet + 999).resume.isEmpty)
        #expect(partitions.changes(now: Self.quiet + 1_000).resume == [1])
        let later = partitions.changes(now: 100_000)
        #expect(later.pause.isEmpty && later.resume.isEmpty, "however long the brokers take to answer")
        partitions.wasRead(1, hadRecords: false, isAtEnd: true, now: 100_000)
        #expect(partitions.changes(now: 100_000).pause == [1], "at once: nothing came")
    }

    @Test func whatALookFindsIsReadToItsEnd() {
        var partitions = Self.resting()
        _ = partitions.changes(now: Self.quiet + 1_000)
        partitions.wasRead(1, hadRecords: true, isAtEnd: false, now: 2_000)
        #expect(partitions.changes(now: 60_000).pause.isEmpty)
        partitions.wasRead(1, hadRecords: true, isAtEnd: true, now: 60_000)
        #expect(partitions.changes(now: 59_999 + Self.quiet).pause.isEmpty)
        #expect(partitions.changes(now: 60_000 + Self.quiet).pause == [1])
    }

    @Test func wakesAtOnceForWhatItsOwnerWrote() {
        var partitions = Self.resting()
        partitions.wake(1, now: Self.quiet)
        #expect(partitions.changes(now: Self.quiet).resume == [1])
        #expect(partitions.changes(now: 60_000).pause.isEmpty, "until its end is reached again")
        partitions.wasRead(1, hadRecords: true, isAtEnd: true, now: 60_000)
        #expect(partitions.changes(now: 60_000 + Self.quiet).pause == [1])
    }

    /// Time for it to be fetched; should that take longer, the next look finds it.
    @Test func isNotPutToRestRightBehindAWrite() {
        var partitions = Self.made()
        partitions.wasRead(1, hadRecords: false, isAtEnd: true, now: 0)
        partitions.wake(1, now: Self.quiet - 1)
        #expect(partitions.changes(now: Self.quiet).pause.isEmpty)
        #expect(partitions.changes(now: 2 * Self.quiet - 1).pause == [1])
    }

    @Test func whatHadBeenFetchedBeforeWakesIt() {
        var partitions = Self.resting()
        partitions.wasRead(1, hadRecords: true, isAtEnd: false, now: Self.quiet + 1)
        #expect(partitions.changes(now: Self.quiet + 1).resume == [1])
    }

    /// Its end had been told before the write.
    @Test func aWriteDuringALookKeepsItWatched() {
        var partitions = Self.resting()
        _ = partitions.changes(now: Self.quiet + 1_000)
        partitions.wake(1, now: 2_000)
        partitions.wasRead(1, hadRecords: false, isAtEnd: true, now: 2_001)
        #expect(partitions.changes(now: 2_000 + Self.quiet).pause.isEmpty)
        #expect(partitions.changes(now: 2_001 + Self.quiet).pause == [1])
    }
}
