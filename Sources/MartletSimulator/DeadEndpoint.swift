internal import HTTPDelivery
internal import Martlet

/// One endpoint that never answers, with a backlog: how many requests it gets, and how often its records are written. The real state machine
/// with default settings, a log in memory, and a virtual clock.
public struct DeadEndpoint: ~Copyable {
    public struct Report: Sendable, Equatable {
        public var records = 0
        /// Virtual time that passed, milliseconds.
        public var milliseconds: Int64 = 0
        public var requests = 0
        public var writes = 0
        public var mostWritesOfOneRecord = 0
        /// Records that are still under way.
        public var left = 0
        public var dead = 0
    }

    private struct Row {
        var appended: Int64
        var facts: DeliveryFacts
        var writes: Int32
    }

    private var core: LaneStateMachine
    /// By topic: deliveries, replay (empty) and the tiers; what lies below `heads` is done with.
    private var logs: [[Row]]
    private var heads: [Int]
    private var items: [UInt32: (row: Row, token: RecordToken)] = [:]
    private var failing: [RecordToken] = []
    private var now: Int64 = 1_000_000_000
    private var report = Report()
    private let tiers = RetryTier.defaults

    public init(records: Int) {
        core = LaneStateMachine(LaneSettings(), topicDelays: [0, 0] + tiers.map(\.delayMilliseconds), seed: 1)
        logs = Array(repeating: [], count: 2 + tiers.count)
        heads = Array(repeating: 0, count: 2 + tiers.count)
        report.records = records
        report.left = records
        var endpoint = Endpoint(id: "ep_dead", url: "https://dead.martlet.dev/")
        endpoint.secrets = [.init(id: "s", createdMilliseconds: 0, plain: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
        core.advance(to: LaneTime(monotonic: now, wall: now))
        core.registryChanged(.set(.readable(PreparedEndpoint(endpoint, rules: .init()))))
        core.registryAt(position: 1, freshAsOf: now)
        for topic in logs.indices { try? core.own(StreamID(topic: topic, partition: 0), committed: 0, metadata: "") }
        let row = Row(appended: now, facts: DeliveryFacts(endpointID: "ep_dead", ageFromMilliseconds: now, bytes: 1_000), writes: 0)
        logs[0] = Array(repeating: row, count: records)
    }

    /// Goes on until so much virtual time has passed, or every record has ended.
    public mutating func run(milliseconds: Int64) -> Report {
        let start = now
        while now - start < milliseconds, report.left > 0 {
            core.advance(to: LaneTime(monotonic: now, wall: now))
            core.setLease(untilMonotonic: .max)
            for token in failing { core.attemptEnded(token, .retry(hintMilliseconds: nil), .failure) }
            failing = []
            while execute() || read() {}
            // Every read is a turn of a millisecond; else on to what is next.
            let next = min(core.nextDeadlineMonotonic ?? now + 1_000, failing.isEmpty ? .max : now + 1)
            now = max(now + 1, min(next, now + 60_000))
        }
        report.milliseconds = now - start
        return report
    }

    private mutating func read() -> Bool {
        var hasRead = false
        for topic in logs.indices {
            let stream = StreamID(topic: topic, partition: 0)
            var budget = min(core.readBudget(stream), topic < 2 ? 512 : 16)
            while budget > 0, heads[topic] < logs[topic].count {
                budget -= 1
                hasRead = true
                let row = logs[topic][heads[topic]]
                if let token = core.received(stream, offset: Int64(heads[topic]), appendWall: row.appended, row.facts) {
                    items[token.slot] = (row, token)
                }
                heads[topic] += 1
                if core.readBudget(stream) == 0 { break }
            }
        }
        return hasRead
    }

    private mutating func execute() -> Bool {
        let commands = core.takeCommands()
        for command in commands {
            switch command {
            case .start(let token):
                report.requests += 1
                failing.append(token)
            case .produce(let token, let successor):
                write(token, successor)
                core.produced(token, .acknowledged)
            default: break
            }
        }
        return !commands.isEmpty
    }

    private mutating func write(_ token: RecordToken, _ successor: Successor) {
        guard var row = items[token.slot]?.row else { return }
        row.writes += 1
        report.writes += 1
        report.mostWritesOfOneRecord = max(report.mostWritesOfOneRecord, Int(row.writes))
        switch successor {
        case .retry(let tier, let due, let attempts):
            row.appended = now
            (row.facts.attempts, row.facts.dueMilliseconds) = (attempts, due)
            logs[2 + (tiers.firstIndex(of: tier) ?? 0)].append(row)
        case .dead:
            report.dead += 1
            report.left -= 1
        case .home: break
        }
    }
}
