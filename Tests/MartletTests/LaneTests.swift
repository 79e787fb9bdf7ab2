import HTTPDelivery
import Martlet
import Testing

/// `#require` can't take a call that mutates.
func must<Value>(_ value: Value?, _ location: SourceLocation = #_sourceLocation) throws -> Value {
    try #require(value, sourceLocation: location)
}

/// One lane, one endpoint's world: what an operator would notice, command by command.
struct LaneTests {
    struct Bench: ~Copyable {
        var core: LaneStateMachine
        var now = LaneTime(monotonic: 0, wall: 1_000_000_000)
        var nextOffset: Int64 = 0
        static let stream = StreamID(topic: 0, partition: 0)
        static let retry = StreamID(topic: 2, partition: 0)

        init(_ change: (inout Endpoint) -> Void = { _ in }, settings change2: (inout LaneSettings) -> Void = { _ in }) throws {
            var settings = LaneSettings()
            settings.tiers = ["5s", "30s"].compactMap { RetryTier(name: $0) }
            change2(&settings)
            core = LaneStateMachine(settings, topicDelays: [0, 0, 5_000, 30_000], seed: 1)
            core.advance(to: now)
            register(change)
            core.registryAt(position: 10, freshAsOf: 0)
            try core.own(Self.stream, committed: 0, metadata: "")
            try core.own(Self.retry, committed: 0, metadata: "")
            core.setLease(untilMonotonic: .max)
        }

        mutating func register(version: Int = 1, id: String = "ep", _ change: (inout Endpoint) -> Void = { _ in }) {
            var endpoint = Endpoint(id: id, url: "https://example.com/")
            endpoint.secrets = [.init(id: "s", createdMilliseconds: 0, plain: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
            endpoint.version = version
            change(&endpoint)
            core.registryChanged(.set(.readable(PreparedEndpoint(endpoint, rules: .init()))))
        }

        mutating func pass(_ milliseconds: Int64) {
            now = LaneTime(monotonic: now.monotonic + milliseconds, wall: now.wall + milliseconds)
            core.advance(to: now)
        }

        @discardableResult mutating func read(
            _ endpoint: String = "ep", attempts: Int = 0, dueIn: Int64 = 0, age: Int64 = 0, registryOffset: Int64 = 0, isHome: Bool = true,
            from stream: StreamID = Bench.stream
        ) -> RecordToken? {
            nextOffset += 1
            let facts = DeliveryFacts(
                endpointID: endpoint, attempts: attempts, dueMilliseconds: now.wall + dueIn, ageFromMilliseconds: now.wall - age,
                registryOffset: registryOffset, bytes: 10, isHome: isHome)
            return core.received(stream, offset: nextOffset - 1, appendWall: now.wall, facts)
        }

        mutating func starts() -> [RecordToken] { core.takeCommands().compactMap { if case .start(let token) = $0 { token } else { nil } } }
        mutating func produced() -> [Successor] {
            core.takeCommands().compactMap { if case .produce(_, let successor) = $0 { successor } else { nil } }
        }
        func committed() -> Int64? { core.commits(of: [Self.stream], onlyChanged: false).first?.offset }
    }

    static let failed = AttemptOutcome.retry(hintMilliseconds: nil)

    @Test func successCompletes() throws {
        var bench = try Bench()
        let token = try must(bench.read())
        #expect(bench.starts() == [token] && bench.committed() == 0)
        bench.core.attemptEnded(token, .delivered, .success)
        #expect(bench.core.takeCommands() == [.logAttempt(token, attempt: 1, .delivered), .release(token)])
        #expect(bench.committed() == 1)
        bench.core.attemptEnded(token, .delivered, .success)
        #expect(bench.core.takeCommands().isEmpty)
    }

    @Test func failureIsDoneOnlyWhenItsSuccessorIsAcknowledged() throws {
        var bench = try Bench()
        let token = try must(bench.read())
        _ = bench.starts()
        bench.core.attemptEnded(token, Self.failed, .failure)
        guard case .retry(let tier, let due, 1)? = bench.produced().first else {
            Issue.record("no retry")
            return
        }
        #expect(tier.name == "5s" && due >= bench.now.wall + 5_000 && bench.committed() == 0)
        bench.core.produced(token, .transient)
        #expect(bench.core.readBudget(Bench.stream) == 0 && bench.produced().isEmpty)
        bench.pass(500)
        #expect(bench.produced().count == 1)
        bench.core.produced(token, .acknowledged)
        #expect(bench.committed() == 1 && bench.core.readBudget(Bench.stream) > 0)
    }

    @Test func aRefusedSuccessorBecomesAnOversizeLetter() throws {
        var bench = try Bench()
        let token = try must(bench.read())
        _ = bench.starts()
        bench.core.attemptEnded(token, Self.failed, .failure)
        _ = bench.produced()
        bench.core.produced(token, .refused)
        #expect(bench.produced() == [.dead(.oversize, attempts: 1)])
    }

    @Test func aRetryTopicsHeadIsLookedAtWhenItsDelayHasPassed() throws {
        var bench = try Bench()
        let token = try must(bench.read(attempts: 1, dueIn: 5_200, from: Bench.retry))
        #expect(bench.core.isAside(token) && bench.core.readBudget(Bench.retry) == 0)
        bench.pass(4_999)
        #expect(bench.starts().isEmpty)
        bench.pass(1)
        #expect(bench.starts().isEmpty && bench.core.readBudget(Bench.retry) > 0)
        bench.pass(199)
        #expect(bench.starts().isEmpty)
        bench.pass(1)
        #expect(bench.starts() == [token])
    }

    @Test func aRecordDueLaterHopsOn() throws {
        var bench = try Bench()
        _ = bench.read(attempts: 1, dueIn: 40_000, from: Bench.retry)
        bench.pass(5_000)
        guard case .retry(let tier, let due, 1)? = bench.produced().first else {
            Issue.record("no hop")
            return
        }
        #expect(tier.name == "30s" && due == bench.now.wall + 35_000)
    }

    @Test func exhaustedExpiredDeletedRefused() throws {
        var bench = try Bench { $0.schedule = RetrySchedule(delaysMilliseconds: []) ?? .standard }
        let token = try must(bench.read())
        _ = bench.starts()
        bench.core.attemptEnded(token, Self.failed, .failure)
        #expect(bench.core.takeCommands().contains(.logAttempt(token, attempt: 1, .dead(.exhausted))))
        bench.read(dueIn: -8 * 86_400_000, age: 8 * 86_400_000)
        #expect(bench.produced() == [.dead(.expired, attempts: 0)])
        bench.read("ep_unknown")
        #expect(bench.produced() == [.dead(.endpointDeleted, attempts: 0)])
        bench.register(version: 2) { $0.url = "http://10.0.0.1/" }
        bench.read()
        #expect(bench.produced() == [.dead(.refused, attempts: 0)])
        bench.read(isHome: false)
        #expect(bench.produced() == [.home])
    }

    @Test func goneDisablesUntilAnOperatorEdits() throws {
        var bench = try Bench()
        let tokens = (0..<6).compactMap { _ in bench.read() }
        let started = bench.starts()
        #expect(started.count == 4)
        bench.core.attemptEnded(started[0], .gone, .success)
        let commands = bench.core.takeCommands()
        #expect(commands.contains(.produce(started[0], .dead(.gone, attempts: 1))))
        #expect(
            commands.contains {
                if case .publishHealth(let record) = $0 {
                    record.disabled?.reason == "gone" && record.disabled?.endpointVersion == 1
                } else {
                    false
                }
            })
        #expect(tokens.suffix(2).allSatisfy { commands.contains(.produce($0, .dead(.parked, attempts: 0))) })
        bench.read(attempts: 3)
        #expect(bench.produced() == [.dead(.parked, attempts: 3)])
        bench.register(version: 2)
        let token = bench.read()
        #expect(bench.starts() == [token])
    }

    @Test func aRecreatedEndpointIsNotDisabledByItsPast() throws {
        var bench = try Bench()
        let token = try must(bench.read())
        _ = bench.starts()
        bench.core.attemptEnded(token, .gone, .success)
        _ = bench.core.takeCommands()
        bench.core.registryChanged(.deleted(id: "ep"))
        let later = bench.now.wall + 1
        bench.register { $0.createdMilliseconds = later }
        let next = bench.read()
        #expect(bench.starts() == [next])
    }

    @Test func aRecreatedTopicIsReadFromItsStart() throws {
        var bench = try Bench()
        for _ in 0..<10 { bench.read() }
        let running = bench.starts()
        #expect(bench.core.restart(Bench.stream, at: 0) == 0)
        bench.nextOffset = 0
        let again = bench.read()
        #expect(again != nil && bench.committed() == 0)
        // What was in flight from the old topic ends without a trace in the new one.
        for token in running { bench.core.attemptEnded(token, .delivered, .success) }
        #expect(bench.committed() == 0)
        _ = try must(bench.read())
    }

    @Test func pausingParksWhatWaits() throws {
        var bench = try Bench { $0.maxConcurrency = 1 }
        bench.read()
        let second = try must(bench.read())
        #expect(bench.starts().count == 1)
        bench.register(version: 2) { $0.state = .paused }
        #expect(bench.core.takeCommands() == [.produce(second, .dead(.parked, attempts: 0))])
    }

    @Test func unknownIsNotDeleted() throws {
        var bench = try Bench()
        let token = try must(bench.read("ep_new", registryOffset: 15))
        #expect(bench.core.takeCommands().isEmpty)
        // A view that was complete before the record was read says nothing about it.
        bench.core.registryAt(position: 10, freshAsOf: bench.now.monotonic)
        #expect(bench.core.takeCommands().isEmpty)
        bench.register(id: "ep_new")
        bench.core.registryAt(position: 16, freshAsOf: 0)
        #expect(bench.starts() == [token])
        // One that was complete afterwards does: the record's writer read what is no longer there.
        bench.read("ep_gone", registryOffset: 99)
        #expect(bench.core.takeCommands().isEmpty)
        bench.core.registryAt(position: 16, freshAsOf: bench.now.monotonic + 1)
        #expect(bench.produced() == [.dead(.endpointDeleted, attempts: 0)])
    }

    @Test func anOpenBreakerSpendsNoAttemptAndProbesOnce() throws {
        var bench = try Bench()
        let first = (0..<4).compactMap { _ in bench.read() } + [bench.read()].compactMap(\.self)
        for token in bench.starts() { bench.core.attemptEnded(token, Self.failed, .failure) }
        for token in bench.starts() { bench.core.attemptEnded(token, Self.failed, .failure) }
        #expect(first.count == 5 && bench.core.breakerCounts.open == 1)
        _ = bench.core.takeCommands()
        bench.read(age: 400_000)
        guard case .retry(_, let due, 0)? = bench.produced().first else {
            Issue.record("not deferred")
            return
        }
        #expect(due >= bench.now.wall + 100_000)
        bench.pass(60_000)
        let waiting = (0..<3).compactMap { _ in bench.read() }
        #expect(bench.starts() == [waiting[0]])
        bench.core.attemptEnded(waiting[0], .delivered, .success)
        #expect(bench.starts() == [waiting[1]])
    }

    /// A request from before the breaker opened ends while the probe is under way: it lets no second probe out.
    @Test func aLateAnswerIsNoProbe() throws {
        var bench = try Bench()
        for _ in 0..<100 { bench.read() }
        // The limit grows to 64, so that it still allows two after five failures.
        var running = bench.starts()
        for _ in 0..<60 {
            bench.core.attemptEnded(running.removeFirst(), .delivered, .success)
            running += bench.starts()
        }
        while running.count > 6 {
            bench.core.attemptEnded(running.removeFirst(), .delivered, .success)
            running += bench.starts()
        }
        let late = try must(running.popLast())
        for token in running { bench.core.attemptEnded(token, Self.failed, .failure) }
        #expect(bench.core.breakerCounts.open == 1)
        _ = bench.core.takeCommands()
        bench.pass(60_000)
        for _ in 0..<3 { bench.read() }
        try #require(bench.core.inFlight == 1)
        #expect(bench.starts().count == 1)
        bench.core.attemptEnded(late, .delivered, .success)
        #expect(bench.starts().isEmpty && bench.core.breakerCounts.halfOpen == 1)
    }

    @Test func nothingStaysInMemoryForLong() throws {
        var bench = try Bench { $0.maxConcurrency = 1 }
        bench.read(age: 100_000)
        bench.read(age: 100_000)
        _ = bench.starts()
        bench.pass(4_999)
        #expect(bench.produced().isEmpty)
        bench.pass(1)
        guard case .retry(_, let due, 0)? = bench.produced().first else {
            Issue.record("not moved")
            return
        }
        #expect(due >= bench.now.wall + 25_000)
    }

    /// A record is deferred by a quarter of its age at least: at most 51 times in 7 days, whatever the breaker does.
    @Test func rewritesAreBounded() throws {
        var bench = try Bench(settings: { $0.residencyLimitMilliseconds = 1 })
        var (age, rewrites) = (Int64(5_000), 0)
        bench.core.healthRead(
            {
                var record = HealthRecord(endpointID: "ep", writer: "x", updatedMilliseconds: 0)
                (record.breaker, record.openUntilMilliseconds) = (.open, bench.now.wall + 8 * 86_400_000)
                return record
            }(), partition: 0, isRestoring: true)
        var token = bench.read(age: age)
        while token != nil, rewrites < 100 {
            guard case .retry(_, let due, _)? = bench.produced().first, let done = token else { break }
            rewrites += 1
            bench.core.produced(done, .acknowledged)
            // As if the breaker were about to close each time: the age alone decides.
            let quarter = max(age / 4, 5_000)
            age += min(quarter, due - bench.now.wall)
            token = age < 7 * 86_400_000 ? bench.read(age: age) : nil
        }
        #expect(rewrites <= 51, "\(rewrites)")
    }

    @Test func firstAttemptsGoFirstAndEveryFifthStartIsARetry() throws {
        var bench = try Bench { $0.maxConcurrency = 1 }
        bench.read()
        var running = try must(bench.starts().first)
        let retried = Set((0..<4).compactMap { _ in bench.read(attempts: 1) })
        for _ in 0..<20 { bench.read() }
        var kinds = ""
        for _ in 0..<20 {
            bench.core.attemptEnded(running, .delivered, .success)
            running = try must(bench.starts().first)
            kinds += retried.contains(running) ? "r" : "f"
        }
        #expect(
            kinds == "fffrffffrffffrffffrf"
                || kinds.split(separator: "r").allSatisfy { $0.count <= 4 } && kinds.filter { $0 == "r" }.count == 4, "\(kinds)")
    }

    @Test func withoutALeaseNothingStarts() throws {
        var bench = try Bench()
        bench.core.loseLease()
        bench.read()
        #expect(bench.starts().isEmpty)
        bench.core.setLease(untilMonotonic: bench.now.monotonic + 100)
        #expect(bench.starts().count == 1)
        bench.pass(100)
        bench.read()
        #expect(bench.starts().isEmpty)
    }

    @Test func whatIsInFlightWhenAPartitionComesBackIsNotStartedAgain() throws {
        var bench = try Bench()
        let token = try must(bench.read())
        _ = bench.starts()
        bench.core.disown([Bench.stream])
        try bench.core.own(Bench.stream, committed: 0, metadata: "")
        bench.nextOffset = 0
        #expect(bench.read() == nil)
        let next = bench.read()
        #expect(bench.starts() == [next] && bench.committed() == 0)
        bench.core.attemptEnded(token, .delivered, .success)
        #expect(bench.committed() == 1)
    }

    @Test func aCompletionCountsAlsoBeforeItsRecordIsReadAgain() throws {
        var bench = try Bench()
        let token = try must(bench.read())
        _ = bench.starts()
        bench.core.disown([Bench.stream])
        try bench.core.own(Bench.stream, committed: 0, metadata: "")
        bench.core.attemptEnded(token, .delivered, .success)
        bench.nextOffset = 0
        #expect(bench.read() == nil && bench.starts().isEmpty && bench.committed() == 1)
    }

    @Test func aFailureAfterThePartitionIsGoneWritesNothing() throws {
        var bench = try Bench()
        let token = try must(bench.read())
        _ = bench.starts()
        bench.core.disown([Bench.stream])
        bench.core.attemptEnded(token, Self.failed, .failure)
        #expect(bench.produced().isEmpty)
    }

    @Test func drainingFinishesWhatIsInFlightAndLeavesTheRest() throws {
        var bench = try Bench { $0.maxConcurrency = 1 }
        let first = try must(bench.read())
        bench.read()
        #expect(bench.starts() == [first])
        bench.core.drain()
        #expect(!bench.core.isDrained && bench.core.readBudget(Bench.stream) == 0)
        bench.core.attemptEnded(first, .delivered, .success)
        #expect(bench.starts().isEmpty && bench.core.isDrained && bench.committed() == 1)
    }

    @Test func aRateLimitIsKept() throws {
        var bench = try Bench { $0.rate = RateLimit(n: 10, perMilliseconds: 1_000) }
        for _ in 0..<30 { bench.read() }
        var starts = 0
        for _ in 0..<1_000 {
            bench.pass(1)
            for token in bench.starts() {
                starts += 1
                bench.core.attemptEnded(token, .delivered, .success)
            }
        }
        #expect((9...10).contains(starts), "\(starts)")
    }

    @Test func foreignHealthIsAnswered() throws {
        var bench = try Bench()
        bench.read()
        _ = bench.starts()
        bench.core.healthRead(HealthRecord(endpointID: "ep", writer: "zombie", updatedMilliseconds: 0), partition: 0, isRestoring: false)
        #expect(bench.core.takeCommands().contains { if case .publishHealth = $0 { true } else { false } })
        bench.core.healthRead(HealthRecord(endpointID: "ep", writer: "worker", updatedMilliseconds: 0), partition: 0, isRestoring: false)
        #expect(bench.core.takeCommands().isEmpty)
    }
}
