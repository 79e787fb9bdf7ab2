import MartletSimulator
import Testing

struct SimulationTests {
    /// A failing seed is printed with what broke: `Simulation(seed: N).run()` repeats it to the last command.
    @Test(arguments: [(0.0, 40), (0.01, 80), (0.05, 80)]) func nothingIsLostWhateverFails(_ faults: Double, _ seeds: Int) {
        var options = Simulation.Options()
        options.faults = faults
        var crashes = 0
        for seed in 0..<UInt64(seeds) {
            var simulation = Simulation(seed: seed, options: options)
            let report = simulation.run()
            crashes += report.crashes
            #expect(report.violations.isEmpty, "seed \(seed), faults \(faults): \(report.violations.first ?? "")")
            if !report.violations.isEmpty { break }
        }
        #expect(faults == 0 || crashes > seeds)
    }

    @Test func oneSeedGivesOneTrace() {
        var (first, second) = (Simulation(seed: 7), Simulation(seed: 7))
        #expect(first.run() == second.run())
    }
}
