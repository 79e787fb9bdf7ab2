import Martlet
import Testing

/// Ordered endpoints, command by command. `bench.read` gives records the offsets 0, 1, 2, ...
struct LaneOrderTests {
    private static let stream = LaneTests.Bench.stream
    private static func bench() throws -> LaneTests.Bench { try LaneTests.Bench { $0.ordering = .strict } }

    private static func again(_ bench: inout LaneTests.Bench, _ offset: Int64) -> RecordToken? {
        bench.core.receivedAgain(
            stream, offset: offset, DeliveryFacts(endpointID: "ep", ageFromMilliseconds: bench.now.wall, bytes: 10))
    }

    /// As many failed heads as a partition may hold: `e0`, `e1`, ...
    private static func takeEveryHold(_ bench: inout LaneTests.Bench, _ numbers: Range<Int> = 0..<Hold.limit) throws {
        for number in numbers {
            bench.register(id: "e\(number)") { $0.ordering = .strict }
            let head = try must(bench.read("e\(number)"))
            #expect(bench.starts() == [head])
            bench.core.attemptEnded(head, LaneTests.failed, .failure)
        }
    }

    @Test func oneAtATimeInOrder() throws {
        var bench = try Self.bench()
        let tokens = try (0..<3).map { _ in try must(bench.read()) }
        for token in tokens {
            #expect(bench.starts() == [token])
            bench.core.attemptEnded(token, .delivered, .success)
        }
        #expect(bench.committed() == 3)
    }

    @Test func aFailedHeadHoldsItsEndpointAlone() throws {
        var bench = try Self.bench()
        bench.register(id: "other")
        let head = try must(bench.read())
        _ = bench.read()
        #expect(bench.starts() == [head])
        bench.core.attemptEnded(head, LaneTests.failed, .failure)
        // Nothing is written to a retry topic: both are under the hold, and the watermark passes them.
        #expect(bench.produced().isEmpty)
        let commit = try #require(bench.core.commits(of: [Self.stream], onlyChanged: false).first)
        let hold = try #require(try CommitMetadata.decode(commit.metadata, committed: commit.offset).metadata.holds[Hold.hash("ep")])
        #expect(commit.offset == 2 && hold.offset == 0 && hold.attempts == 1 && hold.dueMilliseconds >= bench.now.wall + 5_000)
        let other = try must(bench.read("other"))
        #expect(bench.starts() == [other])
        #expect(bench.read() == nil && bench.core.heldEndpoints == 1)
    }

    @Test func aDueHoldIsReadAgainAndHandedOver() throws {
        var bench = try Self.bench()
        let head = try must(bench.read())
        _ = bench.read()
        _ = bench.starts()
        bench.core.attemptEnded(head, LaneTests.failed, .failure)
        _ = bench.core.takeCommands()
        bench.pass(6_000)
        #expect(bench.core.takeCommands() == [.readAgain(Self.stream, from: 0)])
        let first = try must(Self.again(&bench, 0))
        let second = try must(Self.again(&bench, 1))
        // Met the main reading: what comes next waits behind these.
        let third = try must(bench.read())
        #expect(bench.core.takeCommands().prefix(2) == [.stopReadingAgain, .start(first)])
        for (token, next) in [(first, second), (second, third)] {
            bench.core.attemptEnded(token, .delivered, .success)
            #expect(bench.starts() == [next])
        }
        #expect(bench.core.heldEndpoints == 0)
        bench.core.attemptEnded(third, .delivered, .success)
        #expect(bench.core.commits(of: [Self.stream], onlyChanged: false).first == .init(stream: Self.stream, offset: 3, metadata: ""))
    }

    @Test func aNewOwnerGoesOnAtTheHold() throws {
        var bench = try Self.bench()
        let metadata = CommitMetadata(holds: [Hold.hash("ep"): Hold(offset: 1, dueMilliseconds: bench.now.wall + 2_000, attempts: 2)])
        try bench.core.own(Self.stream, committed: 3, metadata: metadata.encoded(committed: 3))
        bench.nextOffset = 3
        #expect(bench.read() == nil)
        bench.pass(1_000)
        #expect(bench.core.takeCommands().isEmpty)
        bench.pass(2_000)
        #expect(bench.core.takeCommands() == [.readAgain(Self.stream, from: 1)])
        let head = try must(Self.again(&bench, 1))
        _ = Self.again(&bench, 3)
        _ = bench.core.takeCommands()
        bench.core.attemptEnded(head, LaneTests.failed, .failure)
        // The attempts go on counting.
        #expect(bench.core.takeCommands().contains { if case .logAttempt(head, attempt: 3, .retry) = $0 { true } else { false } })
    }

    @Test func aPausedHoldIsParkedAtOnce() throws {
        var bench = try Self.bench()
        let head = try must(bench.read())
        _ = bench.starts()
        bench.core.attemptEnded(head, LaneTests.failed, .failure)
        _ = bench.core.takeCommands()
        bench.register(version: 2) {
            $0.ordering = .strict
            $0.state = .paused
        }
        #expect(bench.core.takeCommands() == [.readAgain(Self.stream, from: 0)])
        let again = try must(Self.again(&bench, 0))
        #expect(bench.produced() == [.dead(.parked, attempts: 1)])
        bench.core.produced(again, .acknowledged)
        #expect(bench.core.heldEndpoints == 0)
    }

    /// Each waits for the one before it to be on the dead-letter topic, and for nothing else.
    @Test func aPausedSequenceIsParkedOneAfterTheOther() throws {
        var bench = try LaneTests.Bench {
            $0.ordering = .strict
            $0.state = .paused
        }
        for _ in 0..<3 { _ = bench.read() }
        for _ in 0..<3 {
            let moves = bench.core.takeCommands().compactMap { if case .produce(let token, .dead(.parked, _)) = $0 { token } else { nil } }
            #expect(moves.count == 1)
            for token in moves { bench.core.produced(token, .acknowledged) }
        }
        #expect(bench.committed() == 3)
    }

    @Test func atTheLimitOfHoldsThePartitionIsNotReadAndTheStuckAreDisabled() throws {
        var bench = try Self.bench()
        try Self.takeEveryHold(&bench, 0..<Hold.limit - 1)
        #expect(bench.core.readBudget(Self.stream) > 0)
        try Self.takeEveryHold(&bench, Hold.limit - 1..<Hold.limit)
        _ = bench.core.takeCommands()
        #expect(bench.core.readBudget(Self.stream) == 0)
        let commit = try #require(bench.core.commits(of: [Self.stream], onlyChanged: false).first)
        #expect(commit.metadata.utf8.count <= CommitMetadata.lengthLimit)
        bench.pass(3_600_000)
        bench.core.setLease(untilMonotonic: .max)
        let disabled = bench.core.takeCommands().filter {
            if case .publishEvent(let event) = $0 { event.reason == "hold-limit" } else { false }
        }
        #expect(disabled.count == Hold.limit)
    }

    /// Who finds no room for a hold waits on in memory; the lane goes on.
    @Test func whoFindsNoRoomForAHoldWaitsAndTheLaneGoesOn() throws {
        var bench = try Self.bench()
        bench.register(id: "late") { $0.ordering = .strict }
        let first = try must(bench.read("late"))
        let second = try must(bench.read("late"))
        #expect(bench.starts() == [first])
        try Self.takeEveryHold(&bench)
        // Beyond what a record may wait in memory: there is nowhere else.
        for _ in 0..<20 { bench.pass(1_000) }
        _ = bench.core.takeCommands()
        bench.core.attemptEnded(first, .delivered, .success)
        bench.pass(1)
        #expect(bench.starts().contains(second))
    }

    /// A head that failed when there was no room waits in memory; once there is room, its hold knows of its attempts and its due time.
    @Test func aHeadThatFoundNoRoomKeepsItsAttempts() throws {
        var bench = try Self.bench()
        try Self.takeEveryHold(&bench)
        bench.register(id: "late") { $0.ordering = .strict }
        bench.core.endReached(Self.stream, offset: bench.nextOffset)
        let head = try must(bench.read("late"))
        #expect(bench.starts() == [head])
        bench.core.attemptEnded(head, LaneTests.failed, .failure)
        #expect(bench.core.heldEndpoints == Hold.limit)
        let due = bench.now.wall + 5_000
        // One of the others becomes free: paused, read again, parked.
        bench.register(version: 2, id: "e0") { ($0.ordering, $0.state) = (.strict, .paused) }
        _ = bench.core.takeCommands()
        let again = try must(
            bench.core.receivedAgain(Self.stream, offset: 0, DeliveryFacts(endpointID: "e0", ageFromMilliseconds: bench.now.wall, bytes: 1))
        )
        bench.core.readAgainReached(Self.stream, offset: bench.nextOffset)
        _ = bench.core.takeCommands()
        bench.core.produced(again, .acknowledged)
        #expect(bench.core.heldEndpoints == Hold.limit - 1)
        // A second record of the late one is spilt after its time in memory: the sequence goes under a hold.
        _ = bench.read("late")
        bench.pass(4_000)
        bench.core.advance(to: LaneTime(monotonic: bench.now.monotonic + 2_000, wall: bench.now.wall))
        let commit = try #require(bench.core.commits(of: [Self.stream], onlyChanged: false).first)
        let hold = try #require(try CommitMetadata.decode(commit.metadata, committed: commit.offset).metadata.holds[Hold.hash("late")])
        #expect(hold.attempts == 1 && hold.dueMilliseconds >= due)
    }

    /// What slow ordered endpoints have read again doesn't count among what their partition may have unfinished.
    @Test func catchingUpDoesNotFillThePartition() throws {
        var bench = try LaneTests.Bench(
            { $0.ordering = .strict }, settings: { ($0.unfinishedLimit, $0.catchUpLimit) = (20, 16) })
        let head = try must(bench.read())
        for _ in 0..<15 { _ = bench.read() }
        #expect(bench.starts() == [head])
        bench.core.attemptEnded(head, LaneTests.failed, .failure)
        bench.pass(6_000)
        #expect(bench.core.takeCommands().last == .readAgain(Self.stream, from: 0))
        for offset in 0..<16 { #expect(Self.again(&bench, Int64(offset)) != nil) }
        #expect(bench.core.readBudget(Self.stream) == 20)
    }

    /// A takeover: neither the main reading nor a hold starts before the partition's health is known.
    @Test func nothingStartsBeforeTheHealthIsRead() throws {
        var bench = try Self.bench()
        let metadata = CommitMetadata(holds: [Hold.hash("ep"): Hold(offset: 0, dueMilliseconds: 0, attempts: 1)]).encoded(committed: 5)
        bench.core.disown(bench.core.ownedStreams)
        try bench.core.own(Self.stream, committed: 5, metadata: metadata)
        bench.core.beginRestoring([0])
        bench.core.endReached(Self.stream, offset: 5)
        #expect(bench.core.readBudget(Self.stream) == 0 && bench.core.takeCommands().isEmpty)
        var gone = HealthRecord(endpointID: "ep", writer: "another", updatedMilliseconds: bench.now.wall)
        gone.disabled = .init(reason: "gone", atMilliseconds: bench.now.wall, endpointVersion: 1)
        bench.core.healthRead(gone, partition: 0, isRestoring: true)
        bench.pass(5_000)
        #expect(bench.core.takeCommands().isEmpty)
        bench.core.restored(0)
        bench.pass(1)
        #expect(bench.core.takeCommands() == [.readAgain(Self.stream, from: 0)] && bench.core.readBudget(Self.stream) > 0)
        _ = Self.again(&bench, 0)
        #expect(bench.core.takeCommands().contains { if case .produce(_, .dead(.parked, _)) = $0 { true } else { false } })
    }

    /// A hold that a new owner's main reading has yet to reach is read again once it has, long before the partition's end.
    @Test func anInheritedHoldDoesNotWaitForTheEnd() throws {
        var bench = try Self.bench()
        bench.register(id: "other")
        let metadata = CommitMetadata(
            completed: .init(incomplete: [], highestCompleted: 1),
            holds: [Hold.hash("ep"): Hold(offset: 1, dueMilliseconds: 0, attempts: 1)]
        ).encoded(committed: 0)
        bench.core.disown(bench.core.ownedStreams)
        try bench.core.own(Self.stream, committed: 0, metadata: metadata)
        _ = bench.core.takeCommands()
        _ = bench.read("other")
        _ = bench.read("ep")
        for _ in 0..<5 { _ = bench.read("other") }
        bench.pass(300)
        #expect(bench.core.takeCommands().contains(.readAgain(Self.stream, from: 1)))
    }

    /// At the limit of holds, an hour after a takeover the stuck are disabled, though none of them has failed again and none is known but
    /// by its hash.
    @Test func theLimitOfHoldsOutlivesATakeover() throws {
        var bench = try Self.bench()
        let due = bench.now.wall + 24 * 3_600_000
        var holds: [UInt64: Hold] = [:]
        for number in 0..<Hold.limit {
            bench.register(id: "e\(number)") { $0.ordering = .strict }
            holds[Hold.hash("e\(number)")] = Hold(offset: Int64(number), dueMilliseconds: due, attempts: 5)
        }
        bench.core.disown(bench.core.ownedStreams)
        try bench.core.own(Self.stream, committed: 48, metadata: CommitMetadata(holds: holds).encoded(committed: 48))
        bench.core.endReached(Self.stream, offset: 48)
        bench.pass(3_599_000)
        #expect(bench.core.takeCommands().isEmpty && bench.core.readBudget(Self.stream) == 0)
        bench.pass(2_000)
        let disabled = bench.core.takeCommands().compactMap {
            if case .publishHealth(let record) = $0 { record.disabled?.reason } else { nil }
        }
        #expect(disabled.count == Hold.limit && disabled.allSatisfy { $0 == "hold-limit" })
    }

    /// All holds of a partition and a list of what was done above the watermark: what the predecessor had read is read again, or no hold
    /// could ever end.
    @Test func aFullPartitionThatIsTakenOverGoesOn() throws {
        var bench = try Self.bench()
        var holds: [UInt64: Hold] = [:]
        for number in 0..<Hold.limit { holds[Hold.hash("e\(number)")] = Hold(offset: Int64(number), dueMilliseconds: 0, attempts: 1) }
        let metadata = CommitMetadata(completed: .init(incomplete: [], highestCompleted: 60), holds: holds).encoded(committed: 48)
        bench.core.disown(bench.core.ownedStreams)
        try bench.core.own(Self.stream, committed: 48, metadata: metadata)
        #expect(bench.core.readBudget(Self.stream) > 0)
        bench.core.endReached(Self.stream, offset: 61)
        #expect(bench.core.readBudget(Self.stream) == 0)
    }

    /// Large bodies: one record is always taken, more only within the bytes that one endpoint may have.
    @Test func catchingUpIsBoundedInBytes() throws {
        var bench = try Self.bench()
        let tokens = try (0..<4).map { _ in try must(bench.read()) }
        #expect(bench.starts() == [tokens[0]])
        bench.core.attemptEnded(tokens[0], LaneTests.failed, .failure)
        bench.pass(6_000)
        #expect(bench.core.takeCommands().last == .readAgain(Self.stream, from: 0))
        let taken = (0..<4).map { offset in
            bench.core.receivedAgain(
                Self.stream, offset: offset, DeliveryFacts(endpointID: "ep", ageFromMilliseconds: bench.now.wall, bytes: 200 << 10))
        }
        #expect(taken.map { $0 != nil } == [true, true, false, false])
        #expect(bench.core.takeCommands().contains(.stopReadingAgain))
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func holdsSurviveTheMetadata(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let committed = Int64.random(in: 0...1_000_000, using: &generator)
        var holds: [UInt64: Hold] = [:]
        for number in 0..<Int.random(in: 1...Hold.limit, using: &generator) {
            holds[Hold.hash("ep_\(number)")] = Hold(
                offset: Int64.random(in: max(0, committed - 50_000)...committed + 50_000, using: &generator),
                dueMilliseconds: Int64.random(in: 0...2_000_000_000, using: &generator) * 1_000,
                attempts: Int.random(in: 0...50, using: &generator))
        }
        let text = CommitMetadata(holds: holds).encoded(committed: committed)
        #expect(
            try CommitMetadata.decode(text, committed: committed).metadata.holds == holds && text.utf8.count <= CommitMetadata.lengthLimit)
    }
}

struct LaneLimitTests {
    @Test func aTenantsRateIsSharedFairly() throws {
        var bench = try LaneTests.Bench(settings: { $0.tenantRate = RateLimit(n: 10, perMilliseconds: 1_000, burst: 1) })
        for number in 0..<4 { bench.register(id: "e\(number)") { $0.tenant = "acme" } }
        for _ in 0..<5 { for number in 0..<4 { _ = bench.read("e\(number)") } }
        var starts: [RecordToken] = []
        for _ in 0..<30 {
            bench.pass(100)
            let now = bench.starts()
            #expect(now.count <= 1)
            starts += now
            for token in now { bench.core.attemptEnded(token, .delivered, .success) }
            if starts.count == 4 { break }
        }
        // Each of the four had its turn: slots are taken in the order of reading.
        #expect(Set(starts.compactMap { $0.slot % 4 }).count == 4)
    }

    @Test func aWorkersRateHoldsForAllEndpoints() throws {
        var bench = try LaneTests.Bench(settings: { $0.rate = RateLimit(n: 10, perMilliseconds: 1_000, burst: 1) })
        for number in 0..<10 {
            bench.register(id: "e\(number)")
            _ = bench.read("e\(number)")
        }
        var count = 0
        for _ in 0..<100 {
            bench.pass(10)
            count += bench.starts().count
        }
        #expect((9...11).contains(count))
    }
}

struct EgressMonitorTests {
    @Test func manyHostsFailingIsOurFault() {
        var monitor = EgressMonitor()
        for number in 0..<19 { _ = monitor.failed(host: UInt64(number % 5), now: Int64(number) * 100) }
        #expect(!monitor.isBroken)
        let broke = monitor.failed(host: 0, now: 1_900)
        #expect(broke && monitor.nextProbe == 2_900 && !monitor.seeks && monitor.isUntried(5) && !monitor.isUntried(4))
        monitor.probed(1, now: 3_000, isKnown: true)
        #expect(monitor.nextProbe == 4_000 && !monitor.seeks)
        let brokeAgain = monitor.failed(host: 5, now: 3_010)
        monitor.probed(0, now: 4_000, isKnown: false)
        #expect(!brokeAgain && !monitor.isUntried(5) && monitor.seeks && monitor.nextProbe == 4_000)
        let resumed = monitor.reached(host: 1, now: 7_100)
        #expect(resumed && !monitor.isBroken)
    }

    @Test func fewHostsOrSomeSuccessesAreTheReceiversFault() {
        var few = EgressMonitor()
        for number in 0..<100 { _ = few.failed(host: UInt64(number % 4), now: 0) }
        var mixed = EgressMonitor()
        for number in 0..<100 {
            let host = UInt64(number % 10)
            _ = number % 4 == 0 ? mixed.reached(host: host, now: 0) : mixed.failed(host: host, now: 0)
        }
        var slow = EgressMonitor()
        for number in 0..<100 { _ = slow.failed(host: UInt64(number % 10), now: Int64(number) * 1_000) }
        #expect(!few.isBroken && !mixed.isBroken && !slow.isBroken)
    }

    @Test func whileBrokenNoAttemptIsSpentAndOneProbeEndsIt() throws {
        var bench = try LaneTests.Bench()
        var tokens: [RecordToken] = []
        for number in 0..<10 {
            bench.register(id: "e\(number)") { $0.url = "https://host-\(number).example.com/" }
            for _ in 0..<4 { tokens.append(try must(bench.read("e\(number)"))) }
        }
        let started = bench.starts()
        #expect(started.count == 40)
        for token in started.prefix(20) { bench.core.attemptEnded(token, LaneTests.failed, .unreachable) }
        #expect(bench.core.isEgressBroken == true)
        let written = bench.core.counters.retried
        for token in started.dropFirst(20) { bench.core.attemptEnded(token, LaneTests.failed, .unreachable) }
        #expect(bench.core.counters.retried == written && bench.starts().isEmpty && bench.core.readBudget(LaneTests.Bench.stream) == 0)
        bench.pass(5_000)
        let probe = bench.starts()
        #expect(probe.count == 1)
        bench.core.attemptEnded(probe[0], .delivered, .success)
        #expect(!bench.core.isEgressBroken && bench.starts().count > 1)
    }

    /// Many dead receivers at once look like a broken egress: a healthy one must get its deliveries all the same.
    @Test func manyDeadHostsDoNotHoldAHealthyOne() throws {
        var bench = try LaneTests.Bench()
        bench.register(id: "healthy") { $0.url = "https://healthy.example.com/" }
        for number in 0..<20 { bench.register(id: "e\(number)") { $0.url = "https://host-\(number).example.com/" } }
        for turn in 0..<160 { _ = bench.read("e\(turn % 20)") }
        var (waits, unread, longest): ([RecordToken: Int64], Int64?, Int64) = ([:], nil, 0)
        var delivered = 0
        for tick in 0..<3_000 {
            // A delivery to the healthy one comes every second; it can be read when the lane reads.
            if tick % 50 == 49, unread == nil { unread = bench.now.monotonic }
            if let since = unread, bench.core.readBudget(LaneTests.Bench.stream) > 0, let token = bench.read("healthy") {
                (waits[token], unread) = (since, nil)
            }
            for token in bench.starts() {
                if let since = waits.removeValue(forKey: token) {
                    longest = max(longest, bench.now.monotonic - since)
                    delivered += 1
                    bench.core.attemptEnded(token, .delivered, .success)
                } else {
                    bench.core.attemptEnded(token, LaneTests.failed, .unreachable)
                }
            }
            bench.pass(20)
        }
        #expect(bench.core.counters.egressFailures > 0 && delivered >= 50)
        #expect(longest <= 3_500, "\(longest) ms")
    }

    /// Ordered endpoints only: what fails goes under holds, and nothing is left in memory that could be tried.
    @Test func aBrokenEgressWithOrderedEndpointsOnlyEnds() throws {
        var bench = try LaneTests.Bench()
        for number in 0..<22 {
            bench.register(id: "e\(number)") { ($0.url, $0.ordering) = ("https://host-\(number).example.com/", .strict) }
            _ = bench.read("e\(number)")
        }
        bench.core.endReached(LaneTests.Bench.stream, offset: bench.nextOffset)
        var again: (position: Int64, isReading: Bool) = (0, false)
        var delivered: Set<Int64> = []
        for tick in 0..<3_000 where delivered.count < 22 {
            let isBroken = tick < 600
            for command in bench.core.takeCommands() {
                switch command {
                case .start(let token):
                    let offset = bench.core.place(of: token)?.offset ?? -1
                    if !isBroken { delivered.insert(offset) }
                    bench.core.attemptEnded(token, isBroken ? LaneTests.failed : .delivered, isBroken ? .unreachable : .success)
                case .readAgain(_, let from): again = (from, true)
                case .stopReadingAgain: again.isReading = false
                default: break
                }
            }
            if again.isReading, bench.core.readAgainBudget(LaneTests.Bench.stream) > 0 {
                if again.position < 22 {
                    _ = bench.core.receivedAgain(
                        LaneTests.Bench.stream, offset: again.position,
                        DeliveryFacts(endpointID: "e\(again.position)", ageFromMilliseconds: bench.now.wall, bytes: 10))
                    again.position += 1
                } else {
                    bench.core.readAgainReached(LaneTests.Bench.stream, offset: bench.nextOffset)
                }
            }
            bench.pass(20)
        }
        #expect(delivered.count == 22 && !bench.core.isEgressBroken)
    }

    /// With nothing but dead hosts in memory reading goes on, and what is read waits in retry topics: no bound is full for ever.
    @Test func whileBrokenMemoryIsNotFullForEver() throws {
        var bench = try LaneTests.Bench(settings: { $0.unfinishedLimit = 100 })
        bench.register(id: "healthy") { $0.url = "https://healthy.example.com/" }
        for number in 0..<20 { bench.register(id: "e\(number)") { $0.url = "https://host-\(number).example.com/" } }
        var (read, isDelivered) = (0, false)
        for _ in 0..<6_000 where !isDelivered {
            var budget = bench.core.readBudget(LaneTests.Bench.stream)
            while budget > 0 {
                budget -= 1
                read += 1
                _ = bench.read(read == 400 ? "healthy" : "e\(read % 20)")
            }
            for command in bench.core.takeCommands() {
                switch command {
                case .start(let token):
                    let isHealthy = bench.core.endpoint(of: token)?.endpoint.id == "healthy"
                    isDelivered = isDelivered || isHealthy
                    bench.core.attemptEnded(token, isHealthy ? .delivered : LaneTests.failed, isHealthy ? .success : .unreachable)
                case .produce(let token, _): bench.core.produced(token, .acknowledged)
                default: break
                }
            }
            bench.pass(20)
        }
        #expect(isDelivered)
    }
}
