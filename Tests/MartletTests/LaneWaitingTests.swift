import Martlet
import Testing

/// Tiers, residency and shares of bounds: where a delivery waits that can't start.
struct LaneWaitingTests {
    typealias Bench = LaneTests.Bench

    static func bench(_ change: (inout Endpoint) -> Void = { _ in }, _ settings: (inout LaneSettings) -> Void = { _ in }) throws -> Bench {
        try Bench(change, settings: settings)
    }

    /// Reads a record of so many bytes.
    static func read(_ bench: inout Bench, _ endpoint: String = "ep", bytes: Int, partition: Int32 = 0) -> RecordToken? {
        bench.nextOffset += 1
        let facts = DeliveryFacts(
            endpointID: endpoint, dueMilliseconds: bench.now.wall, ageFromMilliseconds: bench.now.wall, bytes: bytes)
        return bench.core.received(
            StreamID(topic: 0, partition: partition), offset: bench.nextOffset - 1, appendWall: bench.now.wall, facts)
    }

    static func moved(_ bench: inout Bench) -> [RecordToken] {
        bench.core.takeCommands().compactMap { if case .produce(let token, .retry) = $0 { token } else { nil } }
    }

    // MARK: tiers

    /// Every due time within 40 s of a head of the 5 s tier, in steps that meet all bounds.
    @Test(arguments: Array(stride(from: Int64(0), through: 40_000, by: 250)) + [4_999, 5_001, 9_999, 10_001])
    func aHeadStartsIsHeldOrHops(_ dueIn: Int64) throws {
        var bench = try Self.bench()
        let token = bench.read(attempts: 2, dueIn: dueIn, from: Bench.retry)
        let due = bench.now.wall + dueIn
        bench.pass(4_999)
        #expect(bench.core.takeCommands().isEmpty)
        bench.pass(1)
        let left = due - bench.now.wall
        let commands = bench.core.takeCommands()
        if left <= 0 {
            #expect(commands == [token.map { .start($0) }].compactMap(\.self))
        } else if left < 5_000 {
            #expect(commands.isEmpty)
            bench.pass(left - 1)
            #expect(bench.starts().isEmpty)
            bench.pass(1)
            #expect(bench.starts() == [token].compactMap(\.self))
        } else {
            guard case .produce(_, .retry(let tier, due, 2))? = commands.first, commands.count == 1 else {
                Issue.record("no hop with the same due time: \(commands)")
                return
            }
            #expect(tier.name == (left >= 30_000 - 30_000 / 32 ? "30s" : "5s"))
        }
    }

    @Test func tiersWaitIndependently() throws {
        var bench = try Self.bench()
        let slow = StreamID(topic: 3, partition: 0)
        try bench.core.own(slow, committed: 0, metadata: "")
        let late = bench.read(attempts: 1, dueIn: 30_000, from: slow)
        bench.nextOffset = 0
        let early = bench.read(attempts: 1, dueIn: 5_000, from: Bench.retry)
        #expect(bench.core.readBudget(slow) == 0 && bench.core.readBudget(Bench.retry) == 0 && bench.core.readBudget(Bench.stream) > 0)
        bench.pass(5_000)
        #expect(bench.starts() == [early].compactMap(\.self) && bench.core.readBudget(slow) == 0)
        bench.pass(24_999)
        #expect(bench.starts().isEmpty)
        bench.pass(1)
        #expect(bench.starts() == [late].compactMap(\.self) && bench.core.readBudget(slow) > 0)
    }

    /// What a fetch brought in one go behind the head is looked at by its own time.
    @Test func allThatIsKeptAsideIsLookedAtInItsTurn() throws {
        var bench = try Self.bench()
        var tokens: [RecordToken] = []
        for _ in 0..<4 {
            if let token = bench.read(attempts: 1, dueIn: 5_000, from: Bench.retry) { tokens.append(token) }
            bench.pass(100)
        }
        bench.pass(4_600)
        for token in tokens {
            #expect(bench.starts() == [token])
            bench.core.attemptEnded(token, .delivered, .success)
            _ = bench.core.takeCommands()
            bench.pass(100)
        }
        #expect(tokens.count == 4)
    }

    // MARK: residency

    /// For every age up to its end: the wait of a deferral is that of the breaker or a quarter of the age, rounded up by less than a tier.
    @Test(arguments: [0, 1, 19_999, 20_000, 60_000, 3_600_000, 86_400_000, 6 * 86_400_000, 7 * 86_400_000 - 10_001] as [Int64])
    func aDeferralWaitsForAQuarterOfTheAge(_ age: Int64) throws {
        for wait in [5_001, 30_000, 600_000] as [Int64] {
            var bench = try Self.bench { _ in
            } _: {
                $0.tiers = RetryTier.defaults
            }
            var health = HealthRecord(endpointID: "ep", writer: "x", updatedMilliseconds: 0)
            (health.breaker, health.openUntilMilliseconds) = (.open, bench.now.wall + wait)
            bench.core.healthRead(health, partition: 0, isRestoring: true)
            bench.read(age: age)
            guard case .retry(let tier, let due, 0)? = bench.produced().first else {
                Issue.record("not deferred: age \(age), wait \(wait)")
                continue
            }
            let (waited, expiry) = (due - bench.now.wall, bench.now.wall - age + 7 * 86_400_000)
            let least = max(wait, age / 4)
            #expect(due == expiry || waited >= least, "age \(age), wait \(wait): \(waited)")
            #expect(due <= expiry && waited < least + max(tier.delayMilliseconds, least / 4 + 5_000), "age \(age), wait \(wait): \(waited)")
        }
    }

    /// Whatever the breaker does and however late each hop is: from any first wait to the end of its age.
    @Test(arguments: 0..<300 as Range<UInt64>) func deferralsAndWritesAreBounded(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let week: Int64 = 7 * 86_400_000
        var (age, deferrals, writes): (Int64, Int, Int) = (.random(in: 5_000...60_000, using: &generator), 0, 0)
        while age < week {
            deferrals += 1
            let asked = Bool.random(using: &generator) ? 0 : Int64.random(in: 0...600_000, using: &generator)
            let due = min(week, age + RetryTier.roundUp(RetryTier.defaults, milliseconds: max(asked, age / 4)))
            while due - age >= 5_000, let tier = RetryTier.choose(RetryTier.defaults, remainingMilliseconds: due - age) {
                age += tier.delayMilliseconds + .random(in: 0...150, using: &generator)
                writes += 1
            }
            age = max(age, due)
            // It is admitted to memory, and can't start again.
            age += .random(in: 0...5_000, using: &generator)
        }
        #expect(deferrals <= RetryTier.deferralLimit && writes <= RetryTier.rewriteLimit, "seed \(seed): \(deferrals), \(writes)")
    }

    /// Each delivery would wake the lane once more, 5 s after it was done.
    @Test func aLaneWithNothingToDoSleeps() throws {
        var bench = try Self.bench()
        for _ in 0..<10 {
            let token = try must(bench.read())
            #expect(bench.starts() == [token])
            bench.core.attemptEnded(token, .delivered, .success)
            _ = bench.core.takeCommands()
            bench.pass(1)
            #expect(bench.core.nextDeadlineMonotonic == nil)
        }
        // One that waits has its deadline, also behind those that are gone.
        bench.core.loseLease()
        let waiting = try must(bench.read())
        #expect(bench.core.nextDeadlineMonotonic == bench.now.monotonic + 5_000)
        bench.pass(5_000)
        #expect(Self.moved(&bench) == [waiting])
    }

    /// What waits for the registry holds back its endpoint's later records, also after one of several has left for a retry topic.
    @Test func whatWaitsForTheRegistryKeepsItsPlace() throws {
        var bench = try Self.bench()
        bench.register(id: "other")
        bench.read(registryOffset: 20)
        bench.pass(3_000)
        let second = bench.read(registryOffset: 20)
        bench.core.registryAt(position: 12, freshAsOf: 0)
        bench.pass(2_000)
        #expect(Self.moved(&bench).count == 1)
        let third = bench.read()
        let neighbour = bench.read("other")
        #expect(bench.starts() == [neighbour].compactMap(\.self))
        bench.core.registryAt(position: 20, freshAsOf: 0)
        #expect(bench.starts() == [second, third].compactMap(\.self))
    }

    // MARK: shares

    /// 16 may be unfinished; at half of that, one endpoint keeps 2 that waited for long.
    /// What an endpoint's rate won't let start in time isn't kept in memory, even for a moment: its neighbours' share isn't touched.
    @Test func whatARateHoldsBackIsDeferredAtOnce() throws {
        var bench = try LaneTests.Bench({ $0.rate = RateLimit(n: 1, perMilliseconds: 1_000) })
        for _ in 0..<1_000 { _ = bench.read() }
        var deferred = 0
        for command in bench.core.takeCommands() {
            guard case .produce(let token, .retry(_, _, 0)) = command else { continue }
            deferred += 1
            bench.core.produced(token, .acknowledged)
        }
        #expect((990...996).contains(deferred) && bench.core.readBudget(LaneTests.Bench.stream) > 990)
    }

    /// In flight counts, too: with half of a bound used no endpoint gets more than an eighth of it.
    @Test func oneEndpointKeepsItsShareInFlight() throws {
        var bench = try LaneTests.Bench({ $0.maxConcurrency = 1_000 }, settings: { $0.unfinishedLimit = 80 })
        bench.register(id: "other") { $0.maxConcurrency = 1_000 }
        // Fast at first: its concurrency grows.
        for _ in 0..<2_000 {
            if let token = bench.read() {
                for started in bench.starts() { bench.core.attemptEnded(started, .delivered, .success) }; _ = token
            }
        }
        for _ in 0..<60 { _ = bench.read() }
        let started = bench.starts()
        // Up to half it may go; beyond that only up to its share.
        #expect(started.count <= 40, "\(started.count)")
        bench.pass(600)
        #expect(bench.core.readBudget(LaneTests.Bench.stream) >= 80 / 4)
        let other = bench.read("other")
        #expect(other != nil && bench.starts() == [other])
    }

    @Test func oneEndpointKeepsItsShareOfTheRecords() throws {
        var bench = try Self.bench {
            $0.maxConcurrency = 1
        } _: {
            $0.unfinishedLimit = 16
        }
        bench.register(id: "other") { $0.maxConcurrency = 1 }
        for _ in 0..<6 { bench.read() }
        for _ in 0..<3 { bench.read("other") }
        #expect(bench.starts().count == 2)
        bench.pass(499)
        bench.read()
        #expect(Self.moved(&bench).isEmpty)
        bench.pass(1)
        bench.read()
        // Of the seven that wait, five are old; two may stay with what came since.
        let moved = Self.moved(&bench)
        #expect(moved.count == 5)
        // The neighbour has two, its share; with a third one its oldest goes.
        bench.read("other")
        #expect(Self.moved(&bench).count == 1)
        for token in moved { bench.core.produced(token, .acknowledged) }
        #expect(bench.core.readBudget(Bench.stream) > 0)
    }

    /// The same by bytes: 8,000 of a partition, so 1,000 of one endpoint.
    @Test func oneEndpointKeepsItsShareOfTheBytes() throws {
        var bench = try Self.bench {
            $0.maxConcurrency = 1
        } _: {
            $0.unfinishedLimitBytes = 8_000
        }
        for _ in 0..<10 { _ = Self.read(&bench, bytes: 450) }
        #expect(bench.starts().count == 1)
        bench.pass(500)
        _ = Self.read(&bench, bytes: 450)
        // Nine waited for long and one is new: of 4,500 bytes at most 1,000 stay.
        #expect(Self.moved(&bench).count == 8)
    }

    /// What a revoke dropped doesn't count any more when the partition comes back, also with a request under way all the while.
    @Test func aRevokeGivesBackWhatWaited() throws {
        var bench = try Self.bench {
            $0.maxConcurrency = 1
        } _: {
            $0.unfinishedLimitBytes = 8_000
        }
        bench.register(id: "other") { $0.maxConcurrency = 1 }
        for _ in 0..<3 { _ = Self.read(&bench, bytes: 450) }
        #expect(bench.starts().count == 1)
        bench.core.disown([Bench.stream])
        try bench.core.own(Bench.stream, committed: 0, metadata: "")
        bench.nextOffset = 0
        for _ in 0..<3 { _ = Self.read(&bench, bytes: 450) }
        for _ in 0..<6 { _ = Self.read(&bench, "other", bytes: 450) }
        bench.pass(500)
        _ = bench.core.takeCommands()
        // Three wait now, 1,350 bytes: one goes, as 1,000 may stay.
        _ = Self.read(&bench, bytes: 450)
        #expect(Self.moved(&bench).count == 1)
    }

    @Test func aPartitionIsReadUpToItsBounds() throws {
        var bench = try Self.bench {
            $0.maxConcurrency = 1
        } _: {
            ($0.unfinishedLimit, $0.unfinishedLimitBytes) = (100, 1_000)
        }
        #expect(bench.core.readBudget(Bench.stream) == 100)
        let token = Self.read(&bench, bytes: 600)
        #expect(bench.core.readBudget(Bench.stream) == 99)
        // The last one may pass the bound: its size isn't known before it is read.
        _ = Self.read(&bench, bytes: 600)
        #expect(bench.core.readBudget(Bench.stream) == 0)
        _ = bench.starts()
        if let token { bench.core.attemptEnded(token, .delivered, .success) }
        #expect(bench.core.readBudget(Bench.stream) == 99)
    }

    /// What is complete behind one that isn't has to fit into a commit.
    @Test func aPartitionIsReadNoFurtherThanItsSpan() throws {
        var bench = try Self.bench()
        let head = try must(Self.read(&bench, bytes: 1))
        bench.nextOffset = OffsetTracker.spanLimit - 2
        _ = Self.read(&bench, bytes: 1)
        #expect(bench.core.readBudget(Bench.stream) > 0)
        _ = Self.read(&bench, bytes: 1)
        #expect(bench.core.readBudget(Bench.stream) == 0)
        _ = bench.starts()
        bench.core.attemptEnded(head, .delivered, .success)
        #expect(bench.core.readBudget(Bench.stream) > 0)
    }

    @Test func aPartitionThatGoesIsNotRead() throws {
        var bench = try Self.bench()
        bench.core.beginRevoke([Bench.stream])
        #expect(bench.core.readBudget(Bench.stream) == 0 && bench.core.readBudget(Bench.retry) > 0)
    }

    /// Of one that nothing was ever committed of, the log may begin anywhere.
    @Test func aPartitionWithoutACommitBeginsWhereItsLogDoes() throws {
        var bench = try Self.bench()
        let streams = [1, 2].map { StreamID(topic: 0, partition: $0) }
        for stream in streams { try bench.core.own(stream, committed: nil, metadata: "") }
        #expect(bench.core.commits(of: streams, onlyChanged: false).isEmpty)
        bench.nextOffset = 7
        let token = try must(Self.read(&bench, bytes: 1, partition: 1))
        bench.core.endReached(streams[1], offset: 9)
        #expect(bench.core.commits(of: streams, onlyChanged: false).map(\.offset) == [7, 9])
        _ = bench.starts()
        bench.core.attemptEnded(token, .delivered, .success)
        #expect(bench.core.commits(of: streams, onlyChanged: false).map(\.offset) == [8, 9])
    }

    /// What one partition holds counts for all of the lane.
    @Test func theLanesMemoryBoundsAllItsPartitions() throws {
        var bench = try Self.bench {
            $0.maxConcurrency = 1
        } _: {
            $0.memoryLimitBytes = 1_000
        }
        let other = StreamID(topic: 0, partition: 1)
        try bench.core.own(other, committed: 0, metadata: "")
        let token = Self.read(&bench, bytes: 1_000)
        #expect(bench.core.readBudget(Bench.stream) == 0 && bench.core.readBudget(other) == 0)
        _ = bench.starts()
        if let token { bench.core.attemptEnded(token, .delivered, .success) }
        #expect(bench.core.readBudget(other) > 0)
    }

    /// Every partition keeps half of its bound, whatever the others hold.
    @Test func aLaneOfManyRecordsReadsHalfAsMuchOfEachPartition() throws {
        var bench = try Self.bench {
            $0.maxConcurrency = 1
        } _: {
            ($0.unfinishedLimit, $0.laneUnfinishedLimit) = (20, 15)
        }
        let other = StreamID(topic: 0, partition: 1)
        try bench.core.own(other, committed: 0, metadata: "")
        let tokens = (0..<14).compactMap { _ in Self.read(&bench, bytes: 1) }
        #expect(bench.core.readBudget(Bench.stream) == 6 && bench.core.readBudget(other) == 20)
        _ = Self.read(&bench, bytes: 1)
        #expect(bench.core.readBudget(Bench.stream) == 0 && bench.core.readBudget(other) == 10)
        _ = bench.starts()
        bench.core.attemptEnded(tokens[0], .delivered, .success)
        #expect(bench.core.readBudget(Bench.stream) == 6 && bench.core.readBudget(other) == 20)
    }
}
