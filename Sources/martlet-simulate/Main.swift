internal import EventLoop
internal import Glibc
internal import Martlet
internal import MartletSimulator
private import Synchronization

/// Runs seeds of the simulation on all cores: `martlet-simulate 1..20000`, or one with its trace: `martlet-simulate 17 --trace`.
/// Exit 1 when a seed breaks an invariant.
@main
enum Main {
    private static func note(_ text: String) { _ = Array(text.utf8).withUnsafeBytes { write(2, $0.baseAddress, $0.count) } }

    private final class Shared: Sendable {
        let totals: Mutex<Totals>
        init(next: UInt64) { totals = Mutex(Totals(next: next)) }
    }

    struct Totals: Sendable {
        var next: UInt64
        var done = 0
        var sums = Simulation.Report(seed: 0)
        var failures: [(seed: UInt64, violation: String)] = []
    }

    static func main() {
        let words = CommandLine.arguments.dropFirst()
        if words.first == "dead-endpoint" { deadEndpoint(records: words.dropFirst().first.flatMap { Int($0) } ?? 1_000_000) }
        let bounds = (words.first ?? "").split(separator: ".", omittingEmptySubsequences: true).compactMap { UInt64($0) }
        guard (1...2).contains(bounds.count), bounds[0] <= bounds[bounds.count - 1] else {
            print("usage: martlet-simulate FIRST..LAST, or SEED --trace")
            exit(2)
        }
        if words.contains("--trace") { trace(bounds[0]) }
        run(bounds[0], bounds[bounds.count - 1])
    }

    /// Its first ten minutes with a large backlog, and a small one until all of it has expired.
    private static func deadEndpoint(records: Int) -> Never {
        var large = DeadEndpoint(records: records)
        var small = DeadEndpoint(records: 1_000)
        let (minutes, week) = (large.run(milliseconds: 600_000), small.run(milliseconds: 8 * 86_400_000))
        print("a dead endpoint with \(minutes.records) records, ten minutes: \(minutes.requests) requests, \(minutes.writes) writes")
        print("  of one record at most \(minutes.mostWritesOfOneRecord)")
        print("with \(week.records) records until all have ended: \(week.dead) dead letters after \(week.milliseconds / 3_600_000) h")
        print(
            "  \(week.requests) requests, of one record at most \(week.mostWritesOfOneRecord) writes; the bound is \(RetryTier.rewriteLimit)"
        )
        let isGood =
            minutes.requests < 100 && week.left == 0
            && max(minutes.mostWritesOfOneRecord, week.mostWritesOfOneRecord) <= RetryTier.rewriteLimit
        exit(isGood ? 0 : 1)
    }

    private static func trace(_ seed: UInt64) -> Never {
        var simulation = Simulation(seed: seed, trace: true)
        let report = simulation.run()
        print("seed \(seed): \(Scenario(seed: seed))")
        for line in simulation.trace { print(line) }
        for violation in report.violations { print("VIOLATION \(violation)") }
        print("\(report)")
        exit(report.violations.isEmpty ? 0 : 1)
    }

    private static func run(_ first: UInt64, _ last: UInt64) -> Never {
        let shared = Shared(next: first)
        let started = SystemClock.monotonicMilliseconds()
        let threads = (0..<max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))).map { number in
            WorkerThread("simulate-\(number)") { work(shared, last: last) }
        }
        let isTerminal = isatty(2) == 1
        var lastLine: Int64 = started
        while true {
            let (done, failures) = shared.totals.withLock { ($0.done, $0.failures.count) }
            let now = SystemClock.monotonicMilliseconds()
            // A line that moves for people, one per half minute for a log.
            if isTerminal || now - lastLine >= 30_000 {
                note("\(isTerminal ? "\r" : "")\(done) of \(last - first + 1) seeds, \(failures) failed\(isTerminal ? "" : "\n")")
                lastLine = now
            }
            if done == Int(last - first + 1) { break }
            _ = WakeUp.sleep(milliseconds: 200)
        }
        for thread in threads { thread.join() }
        if isTerminal { note("\r\u{1b}[K") }
        let result = shared.totals.withLock { $0 }
        for failure in result.failures.sorted(by: { $0.seed < $1.seed }).prefix(20) {
            print("seed \(failure.seed): \(failure.violation)\n  again, with its trace: scripts/simulate --seed \(failure.seed)")
        }
        let (seconds, sums) = (Double(SystemClock.monotonicMilliseconds() - started) / 1_000, result.sums)
        print("\(result.done) seeds in \(seconds) s: \(result.failures.count) failed")
        print(
            "  \(sums.deliveries) deliveries, \(sums.delivered) received, \(sums.duplicates) repeated, \(sums.lost) removed by retention, \(sums.rewrites) rewrites, \(sums.holds) holds, \(sums.crashes) crashes, \(sums.otherFaults) faults in all, \(sums.egressFailures) broken egresses"
        )
        exit(result.failures.isEmpty ? 0 : 1)
    }

    private static func work(_ shared: Shared, last: UInt64) {
        while true {
            let seed = shared.totals.withLock { state in
                defer { state.next += 1 }
                return state.next
            }
            guard seed <= last else { return }
            var simulation = Simulation(seed: seed)
            let report = simulation.run()
            shared.totals.withLock { state in
                state.done += 1
                state.sums.add(report)
                if let violation = report.violations.first { state.failures.append((seed, violation)) }
            }
        }
    }
}
