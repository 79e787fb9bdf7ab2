import Foundation
import MartletSimulator
import Testing

struct SimulationTests {
    /// A failing seed is printed with what broke; `scripts/simulate --seed N` shows its trace.
    @Test(arguments: 0..<12) func nothingIsLostWhateverFails(_ group: Int) {
        for seed in UInt64(group * 5)..<UInt64(group * 5 + 5) {
            var simulation = Simulation(seed: seed)
            let report = simulation.run()
            #expect(report.violations.isEmpty, "scripts/simulate --seed \(seed): \(report.violations.first ?? "")")
        }
    }

    @Test func oneSeedGivesOneTrace() {
        var (first, second) = (Simulation(seed: 7, trace: true), Simulation(seed: 7, trace: true))
        #expect(first.run() == second.run() && first.trace == second.trace && !first.trace.isEmpty)
    }

    /// Swift seeds its hashing per process: an order of a set or dictionary that decided something would show here.
    @Test func oneSeedGivesOneTraceInTwoProcesses() throws {
        let binary = Bundle.main.executableURL?.deletingLastPathComponent().appendingPathComponent("martlet-simulate")
        let found = try #require(
            [binary, URL(fileURLWithPath: ".build/debug/martlet-simulate")].compactMap(\.self).first {
                FileManager.default.isExecutableFile(atPath: $0.path)
            })
        func trace() throws -> Data {
            let process = Process()
            process.executableURL = found
            process.arguments = ["11", "--trace"]
            let pipe = Pipe()
            process.standardOutput = pipe
            try process.run()
            let data = pipe.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
            return data
        }
        let (first, second) = (try trace(), try trace())
        #expect(first.count > 10_000 && first == second)
    }
}

/// The simulator itself is tested: deliberate mistakes must be noticed. One that isn't means that an invariant is missing.
struct DefectTests {
    /// Seeds within which each mistake must be caught.
    static let seedLimit: UInt64 = 300

    @Test func eachDefectIsCaught() async {
        let rows = await withTaskGroup(of: (Defect, UInt64?, String).self) { group in
            for defect in Defect.all { group.addTask { Self.hunt(defect) } }
            var rows: [(Defect, UInt64?, String)] = []
            for await row in group { rows.append(row) }
            return rows
        }
        #expect(rows.count >= 20)
        print("defect                          caught by seed  as")
        for (defect, seed, violation) in rows.sorted(by: { $0.0.description < $1.0.description }) {
            let name = defect.description.padding(toLength: 32, withPad: " ", startingAt: 0)
            print("\(name)\((seed.map(String.init) ?? "never").padding(toLength: 16, withPad: " ", startingAt: 0))\(violation.prefix(110))")
            #expect(seed != nil, "\(defect) isn't caught within \(Self.seedLimit) seeds")
        }
    }

    private static func hunt(_ defect: Defect) -> (Defect, UInt64?, String) {
        for seed in 1...seedLimit {
            var scenario = Scenario(seed: seed)
            scenario.defect = defect
            var simulation = Simulation(seed: seed, scenario: scenario)
            if let violation = simulation.run().violations.first { return (defect, seed, violation) }
        }
        return (defect, nil, "")
    }
}
