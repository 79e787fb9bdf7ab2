internal import EventLoop
internal import Glibc
internal import MartletSimulator
private import Synchronization

/// Runs seeds of the simulation on all cores: `martlet-simulate 1..20000 [fault rate]`. Exit 1 when a seed breaks an invariant.
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
        var delivered = 0
        var duplicates = 0
        var crashes = 0
        var rewrites = 0
        var failures: [(seed: UInt64, faults: Double, violation: String)] = []
    }

    /// Scenarios take turns by seed, so that any range of seeds has all of them.
    static let faultRates = [0.0, 0.005, 0.02, 0.05]

    static func main() {
        let words = CommandLine.arguments.dropFirst()
        let bounds = (words.first ?? "").split(separator: ".", omittingEmptySubsequences: true).compactMap { UInt64($0) }
        guard bounds.count == 2, bounds[0] <= bounds[1] else {
            print("usage: martlet-simulate FIRST..LAST [FAULTS]")
            exit(2)
        }
        let fixed = words.dropFirst().first.flatMap { Double($0) }
        let shared = Shared(next: bounds[0])
        let started = SystemClock.monotonicMilliseconds()
        let threads = (0..<max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))).map { number in
            WorkerThread("simulate-\(number)") { work(shared, last: bounds[1], fixed) }
        }
        let isTerminal = isatty(2) == 1
        while isTerminal {
            let (done, failures) = shared.totals.withLock { ($0.done, $0.failures.count) }
            note("\r\(done) of \(bounds[1] - bounds[0] + 1) seeds, \(failures) failed")
            if done == Int(bounds[1] - bounds[0] + 1) { break }
            _ = WakeUp.sleep(milliseconds: 200)
        }
        for thread in threads { thread.join() }
        if isTerminal { note("\r\u{1b}[K") }
        let result = shared.totals.withLock { $0 }
        for failure in result.failures.sorted(by: { $0.seed < $1.seed }).prefix(20) {
            print(
                "seed \(failure.seed): \(failure.violation)\n  again: scripts/simulate --seeds \(failure.seed)..\(failure.seed) --faults \(failure.faults)"
            )
        }
        let seconds = Double(SystemClock.monotonicMilliseconds() - started) / 1_000
        print(
            "\(result.done) seeds in \(seconds) s: \(result.failures.count) failed; \(result.delivered) deliveries succeeded, \(result.duplicates) duplicates after \(result.crashes) crashes and other faults, \(result.rewrites) rewrites"
        )
        exit(result.failures.isEmpty ? 0 : 1)
    }

    private static func work(_ shared: Shared, last: UInt64, _ fixed: Double?) {
        while true {
            let seed = shared.totals.withLock { state in
                defer { state.next += 1 }
                return state.next
            }
            guard seed <= last else { return }
            var options = Simulation.Options()
            options.faults = fixed ?? faultRates[Int(seed % UInt64(faultRates.count))]
            options.workers = 1 + Int(seed / 4 % 3)
            var simulation = Simulation(seed: seed, options: options)
            let report = simulation.run()
            shared.totals.withLock { state in
                state.done += 1
                state.delivered += report.delivered
                state.duplicates += report.duplicates
                state.crashes += report.crashes
                state.rewrites += report.rewrites
                if let violation = report.violations.first { state.failures.append((seed, options.faults, violation)) }
            }
        }
    }
}
