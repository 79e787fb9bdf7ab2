import HTTPDelivery
import Testing

@testable import Martlet

struct OffsetTrackerTests {
    @Test func commitsTheLowestIncomplete() {
        var tracker = OffsetTracker(start: 10)
        for offset in Int64(10)...14 { #expect(tracker.begin(offset) == .fresh) }
        tracker.complete(12)
        tracker.complete(11)
        #expect(tracker.watermark == 10 && tracker.completed == .init(incomplete: [], highestCompleted: 12))
        tracker.complete(10)
        #expect(tracker.watermark == 13 && tracker.completed == nil && tracker.incomplete == 2)
        let (again, unknown) = (tracker.complete(12), tracker.complete(99))
        #expect(!again && !unknown)
        #expect(tracker.begin(12) == .alreadyDone)
    }

    @Test func gapsAndTheEndCountAsComplete() {
        var tracker = OffsetTracker(start: 0)
        tracker.endReached(5)
        #expect(tracker.watermark == 5)
        _ = tracker.begin(9)
        #expect(tracker.watermark == 9)
        tracker.complete(9)
        tracker.endReached(12)
        #expect(tracker.watermark == 12 && tracker.next == 12)
        _ = tracker.begin(12)
        _ = tracker.begin(20)
        tracker.complete(20)
        tracker.complete(12)
        #expect(tracker.watermark == 21)
    }

    @Test func skipsWhatAPredecessorFinished() {
        var tracker = OffsetTracker(start: 100, completed: .init(incomplete: [103, 105], highestCompleted: 107))
        let fresh = (Int64(100)...110).filter { tracker.begin($0) == .fresh }
        #expect(fresh == [100, 103, 105, 108, 109, 110])
        for offset in fresh { tracker.complete(offset) }
        #expect(tracker.watermark == 111)
    }

    /// A commit before everything was read again must not forget what a predecessor has done.
    @Test func passesOnWhatIsNotReadAgainYet() {
        let inherited = CommitMetadata.Completed(incomplete: [13, 17], highestCompleted: 20)
        var tracker = OffsetTracker(start: 10, completed: inherited)
        #expect(tracker.completed == inherited)
        for offset in 10...14 as ClosedRange<Int64> { _ = tracker.begin(offset) }
        tracker.complete(10)
        #expect(tracker.watermark == 13 && tracker.completed == .init(incomplete: [17], highestCompleted: 20))
        for offset in 15...25 as ClosedRange<Int64> { _ = tracker.begin(offset) }
        #expect(tracker.completed == .init(incomplete: [17], highestCompleted: 20))
    }

    /// The committed offset counts as incomplete for whoever reads the metadata: it mustn't be one that a predecessor has done.
    @Test func neverCommitsAnOffsetThatAPredecessorHasDone() {
        var tracker = OffsetTracker(start: 10, completed: .init(incomplete: [13], highestCompleted: 20))
        _ = tracker.begin(10)
        tracker.complete(10)
        #expect(tracker.watermark == 13 && tracker.completed == .init(incomplete: [], highestCompleted: 20))
        for offset in 11...13 as ClosedRange<Int64> { _ = tracker.begin(offset) }
        #expect(tracker.watermark == 13 && tracker.completed == .init(incomplete: [], highestCompleted: 20))
        tracker.complete(13)
        #expect(tracker.watermark == 21 && tracker.completed == nil)
        _ = tracker.begin(14)
        #expect(tracker.watermark == 21)
        tracker.endReached(21)
        _ = tracker.begin(21)
        #expect(tracker.watermark == 21 && tracker.completed == nil)
    }

    /// Against a plain set, over random orders, gaps and restarts through the metadata's text.
    @Test(arguments: 0..<40 as Range<UInt64>) func agreesWithAModel(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var tracker = OffsetTracker(start: 0)
        var (done, open): (Set<Int64>, Set<Int64>) = ([], [])
        var next: Int64 = 0
        for _ in 0..<3_000 {
            switch Int.random(in: 0..<10, using: &generator) {
            case 0..<5 where open.count < 300:
                if Int.random(in: 0..<8, using: &generator) == 0 {
                    for gap in next..<next + 3 { done.insert(gap) }
                    next += 3
                }
                if tracker.begin(next) == .fresh { open.insert(next) }
                next += 1
            case 5..<9:
                guard let offset = open.sorted().randomElement(using: &generator) else { continue }
                tracker.complete(offset)
                open.remove(offset)
                done.insert(offset)
            case 9 where Int.random(in: 0..<40, using: &generator) == 0:
                // A crash: what is in the metadata is remembered, what was in flight is read again.
                let text = CommitMetadata(completed: tracker.completed).encoded(committed: tracker.watermark)
                let decoded = try CommitMetadata.decode(text, committed: tracker.watermark)
                tracker = OffsetTracker(start: tracker.watermark, completed: decoded.metadata.completed)
                let known = decoded.metadata.completed?.highestCompleted ?? tracker.watermark - 1
                var again: Set<Int64> = []
                let upTo = next
                next = tracker.watermark
                while next < upTo {
                    if tracker.begin(next) == .fresh { again.insert(next) } else { #expect(done.contains(next), "seed \(seed)") }
                    next += 1
                }
                #expect(open.isSubset(of: again), "seed \(seed)")
                #expect(again.subtracting(open).allSatisfy { $0 > known || done.contains($0) }, "seed \(seed)")
                open = again
                done = done.filter { !again.contains($0) }
            default: break
            }
            #expect(tracker.watermark == open.min() ?? tracker.next, "seed \(seed)")
            #expect(tracker.incomplete == open.count, "seed \(seed)")
        }
    }

    @Test func metadataFitsForAThousandIncompleteOverTheSpan() throws {
        var tracker = OffsetTracker(start: 1_000_000)
        for offset in Int64(0)..<OffsetTracker.spanLimit { _ = tracker.begin(1_000_000 + offset) }
        for offset in Int64(0)..<OffsetTracker.spanLimit where offset % 131 != 0 { tracker.complete(1_000_000 + offset) }
        let text = CommitMetadata(completed: tracker.completed).encoded(committed: tracker.watermark)
        #expect(text.utf8.count < 3_000)
        #expect(try CommitMetadata.decode(text, committed: tracker.watermark).metadata.completed == tracker.completed)
    }
}

struct CommitMetadataTests {
    @Test func cutsWhatDoesNotFitAndStaysTrue() throws {
        let incomplete = (0..<20_000).map { Int64($0) * 3 + 1 }
        let text = CommitMetadata(completed: .init(incomplete: incomplete, highestCompleted: 70_000), cursor: "ep_x").encoded(committed: 0)
        #expect(text.utf8.count <= CommitMetadata.lengthLimit && text.hasPrefix("c1:ep_x w1:"))
        let decoded = try #require(try CommitMetadata.decode(text, committed: 0).metadata.completed)
        #expect(decoded.incomplete == Array(incomplete.prefix(decoded.incomplete.count)))
        #expect(!incomplete.contains(decoded.highestCompleted) && decoded.highestCompleted <= incomplete[decoded.incomplete.count])
    }

    @Test(arguments: ["w1:", "w1:!!!", "w1:gA", "w1:AA", "w1:____________________"]) func anUnreadableWatermarkIsIgnoredAndTold(
        _ text: String
    ) throws {
        let (metadata, unreadable) = try CommitMetadata.decode(text, committed: 5)
        #expect(metadata.completed == nil && unreadable)
    }

    @Test(arguments: ["h1:", "h1:AAAA", "h1:AAAAAAAAAAAAAA h1:AAAAAAAAAAAAAA", "x9:1", "garbage", "c1:", "c1:a/b"])
    func whatMustNotBeIgnoredStopsThePartition(_ text: String) {
        #expect(throws: CommitMetadata.Unreadable.self) { try CommitMetadata.decode(text, committed: 0) }
    }
}

struct RetryTests {
    @Test func scheduleWithJitterIsNeverEarlyAndExhausts() {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<200 {
            for (attempt, step) in RetrySchedule.standard.delaysMilliseconds.enumerated() {
                let delay = RetrySchedule.standard.delay(afterAttempts: attempt + 1, hintMilliseconds: nil, using: &generator) ?? 0
                #expect(delay >= step && delay <= step + min(step / 10, 900_000))
            }
        }
        #expect(RetrySchedule.standard.delay(afterAttempts: 10, hintMilliseconds: nil, using: &generator) == nil)
        #expect(RetrySchedule.standard.delaysMilliseconds.reduce(0, +) == 75 * 3_600_000 + 2_105_000)
        let none = RetrySchedule(delaysMilliseconds: [])?.delay(afterAttempts: 1, hintMilliseconds: nil, using: &generator)
        #expect(none == nil)
    }

    @Test func aHintLengthensUpToTheLongestStep() throws {
        var generator = SeededGenerator(seed: 1)
        let schedule = try #require(RetrySchedule(delaysMilliseconds: [1_000, 60_000]))
        #expect(try #require(schedule.delay(afterAttempts: 1, hintMilliseconds: 30_000, using: &generator)) >= 30_000)
        #expect(try #require(schedule.delay(afterAttempts: 1, hintMilliseconds: 9_000_000, using: &generator)) <= 60_100)
        #expect(try #require(schedule.delay(afterAttempts: 2, hintMilliseconds: 5, using: &generator)) >= 60_000)
    }

    @Test func anyDueTimeWithinADayTakesAtMost28Hops() {
        var worst = 0
        for due in stride(from: Int64(1_000), through: 86_400_000, by: 61_007) {
            var (remaining, hops) = (due, 0)
            while remaining >= 5_000, let tier = RetryTier.choose(RetryTier.defaults, remainingMilliseconds: remaining) {
                // A look comes a moment after the tier's delay.
                remaining -= tier.delayMilliseconds + 10
                hops += 1
            }
            worst = max(worst, hops)
        }
        #expect(worst <= 28, "\(worst)")
    }

    @Test(arguments: ["", "5", "s", "0s", "-5s", "1.5s", "1d"]) func badTiers(_ name: String) { #expect(RetryTier(name: name) == nil) }

    @Test(
        arguments: [
            (200, .delivered, .success), (204, .delivered, .success), (410, .gone, .success),
            (301, .retry(hintMilliseconds: nil), .success), (404, .retry(hintMilliseconds: nil), .success),
            (408, .retry(hintMilliseconds: nil), .failure), (429, .retry(hintMilliseconds: 9_000), .failure),
            (503, .retry(hintMilliseconds: 9_000), .failure), (500, .retry(hintMilliseconds: nil), .failure),
        ] as [(Int, AttemptOutcome, AttemptOutcome.BreakerSignal)])
    func statuses(_ status: Int, _ outcome: AttemptOutcome, _ signal: AttemptOutcome.BreakerSignal) {
        let (found, foundSignal) = AttemptOutcome.classify(HTTPResult(token: 0, status: status, retryAfter: "9"), nowMilliseconds: 0)
        #expect(found == outcome && foundSignal == signal)
    }

    @Test(arguments: ErrorClass.allCases) func transportErrorsRetry(_ kind: ErrorClass) {
        let (outcome, signal) = AttemptOutcome.classify(HTTPResult(token: 0, status: 200, error: (kind, "")), nowMilliseconds: 0)
        #expect(
            kind == .cancelled
                ? outcome == .cancelled && signal == .none
                : outcome == .retry(hintMilliseconds: nil) && signal == (kind == .dns || kind == .connect ? .unreachable : .failure))
    }
}

struct LimiterTests {
    /// Of an interval that is no whole number, nothing adds up: a million starts at 3/s take no less than a million thirds of a second.
    @Test func neverAStartTooManyOverDays() {
        var limiter = RateLimiter(RateLimit(n: 3, perMilliseconds: 1_000, burst: 1), emptyAtMilliseconds: 0)
        var now: Int64 = 0
        for _ in 0..<1_000_000 {
            now = limiter.earliestStartMilliseconds(now: now)
            limiter.charge(now: now)
        }
        // Starts lie at whole milliseconds: 334 instead of 333⅓.
        #expect(now >= 1_000_000 * 1_000 / 3 && now <= 1_000_000 * 334 + 1_000)
    }

    @Test func exactOverAnyWindow() throws {
        for (n, burst) in [(10, 1), (10, 5), (7, 3), (1_000, 1)] {
            var limiter = RateLimiter(RateLimit(n: n, perMilliseconds: 1_000, burst: burst), emptyAtMilliseconds: 0)
            var starts: [Int64] = []
            var now: Int64 = 0
            while now < 10_000 {
                let earliest = limiter.earliestStartMilliseconds(now: now)
                if earliest <= now {
                    limiter.charge(now: now)
                    starts.append(now)
                } else {
                    now = earliest
                }
            }
            for (index, start) in starts.enumerated() {
                let inWindow = starts[index...].prefix { $0 < start + 1_000 }.count
                #expect(inWindow <= n + burst, "\(n)/\(burst): \(inWindow)")
            }
            #expect(starts.count >= n * 10 - n - 2 && starts.count <= n * 10 + burst)
            #expect(starts.first.map { $0 > 0 } == true)
        }
    }

    @Test func askingCostsNothing() {
        var limiter = RateLimiter(RateLimit(n: 1, perMilliseconds: 1_000), emptyAtMilliseconds: 0)
        for _ in 0..<100 { #expect(limiter.earliestStartMilliseconds(now: 5_000) == 5_000) }
        limiter.charge(now: 5_000)
        #expect(limiter.earliestStartMilliseconds(now: 5_000) == 6_000)
    }

    @Test func concurrencyGrowsAndHalves() {
        var limit = ConcurrencyLimit(ceiling: 64)
        #expect(limit.limit == 4)
        for _ in 0..<60 { limit.succeeded() }
        #expect(limit.limit == 64)
        limit.succeeded()
        #expect(limit.limit == 64)
        limit.failed()
        #expect(limit.limit == 32)
        for _ in 0..<32 { limit.succeeded() }
        #expect(limit.limit == 33)
        for _ in 0..<20 { limit.failed() }
        #expect(limit.limit == 1)
        #expect(ConcurrencyLimit(ceiling: 2).limit == 2)
    }
}

struct CircuitBreakerTests {
    @Test func fiveInARowOpenIt() {
        var generator = SeededGenerator(seed: 3)
        var breaker = CircuitBreaker()
        for count in 1...5 { #expect(breaker.failed(now: 1_000, using: &generator) == (count == 5)) }
        guard case .open(let until) = breaker.state else {
            Issue.record("not open")
            return
        }
        #expect((25_000...37_000).contains(until))
        #expect(breaker.earliestStart(now: 1_000) == until)
        breaker.started(now: until)
        #expect(breaker.earliestStart(now: until) == nil)
        let closed = breaker.succeeded(now: until)
        #expect(!closed)
        #expect(breaker.earliestStart(now: until) == until)
        for count in 2...3 {
            breaker.started(now: until)
            #expect(breaker.succeeded(now: until) == (count == 3))
        }
        #expect(breaker.state == .closed && breaker.opens == 0)
    }

    @Test func aFailedProbeDoublesTheTimeUpToTheCap() {
        var generator = SeededGenerator(seed: 3)
        var breaker = CircuitBreaker()
        for _ in 0..<5 { _ = breaker.failed(now: 0, using: &generator) }
        var spans: [Int64] = []
        for _ in 0..<8 {
            guard case .open(let until) = breaker.state else { break }
            breaker.started(now: until)
            _ = breaker.failed(now: until, using: &generator)
            if case .open(let next) = breaker.state { spans.append(next - until) }
        }
        let expected: [Int64] = [60, 120, 240, 480, 600, 600, 600, 600].map { $0 * 1_000 }
        #expect(zip(spans, expected).allSatisfy { abs($0 - $1) <= $1 / 5 } && spans.count == 8, "\(spans)")
    }

    @Test func halfOfTwentyWithinAMinuteOpenIt() {
        var generator = SeededGenerator(seed: 3)
        var breaker = CircuitBreaker()
        for turn in 0..<9 {
            _ = breaker.succeeded(now: Int64(turn) * 1_000)
            let opened = breaker.failed(now: Int64(turn) * 1_000, using: &generator)
            #expect(!opened)
        }
        _ = breaker.succeeded(now: 9_000)
        let opened = breaker.failed(now: 9_000, using: &generator)
        #expect(opened)
        var slow = CircuitBreaker()
        for turn in 0..<60 {
            _ = slow.succeeded(now: Int64(turn) * 10_000)
            let opened = slow.failed(now: Int64(turn) * 10_000, using: &generator)
            #expect(!opened)
        }
    }

    /// A success and a failure each `step` milliseconds, nine times: two short of opening.
    private static func nearlyOpen(step: Int64, _ generator: inout SeededGenerator) -> CircuitBreaker {
        var breaker = CircuitBreaker()
        for turn in Int64(0)..<9 {
            _ = breaker.succeeded(now: turn * step)
            let opened = breaker.failed(now: turn * step, using: &generator)
            #expect(!opened)
        }
        return breaker
    }

    @Test func theWholeMinuteCounts() {
        var generator = SeededGenerator(seed: 3)
        var breaker = Self.nearlyOpen(step: 6_000, &generator)
        _ = breaker.succeeded(now: 50_000)
        let opened = breaker.failed(now: 50_000, using: &generator)
        #expect(opened)
    }

    /// Also while what came last is still being counted together.
    @Test(arguments: [(Int64(59_999), true), (60_000, false)]) func whatIsAMinuteOldDoesNotCount(_ now: Int64, _ opens: Bool) {
        var generator = SeededGenerator(seed: 3)
        var breaker = Self.nearlyOpen(step: 1_000, &generator)
        _ = breaker.succeeded(now: 55_000)
        let opened = breaker.failed(now: now, using: &generator)
        #expect(opened == opens)
    }

    @Test func whatOpenedItDoesNotCountOnceItIsClosed() {
        var generator = SeededGenerator(seed: 3)
        var breaker = Self.nearlyOpen(step: 1_000, &generator)
        _ = breaker.succeeded(now: 9_000)
        _ = breaker.failed(now: 9_000, using: &generator)
        guard case .open(let until) = breaker.state, until < 55_000 else {
            Issue.record("not open, or for too long: \(breaker.state)")
            return
        }
        for _ in 0..<3 {
            breaker.started(now: until)
            _ = breaker.succeeded(now: until)
        }
        let opened = breaker.failed(now: until, using: &generator)
        #expect(!opened && breaker.state == .closed)
    }

    @Test func lateAnswersChangeNothingWhileOpen() {
        var generator = SeededGenerator(seed: 3)
        var breaker = CircuitBreaker()
        for _ in 0..<5 { _ = breaker.failed(now: 0, using: &generator) }
        let state = breaker.state
        _ = breaker.succeeded(now: 1)
        _ = breaker.failed(now: 1, using: &generator)
        breaker.endedWithoutVerdict()
        #expect(breaker.state == state)
    }
}
