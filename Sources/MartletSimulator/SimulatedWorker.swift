internal import Martlet

/// One worker in the simulated world: the real state machine and what its driver would keep.
struct SimulatedWorker {
    var core: LaneStateMachine
    var positions: [StreamID: Int64] = [:]
    var items: [RecordToken: SimulatedRecord] = [:]
    var partitions: Set<Int32> = []
    /// Frozen until then; it knows nothing of what happens meanwhile.
    var suspendedUntil: Int64 = 0
    /// The group's generation that it believes in: the brokers refuse commits of an older one.
    var generation = 0
}

/// What is on its way back to a worker.
enum SimulatedArrival {
    case attempt(RecordToken, delivery: Int, AttemptOutcome, AttemptOutcome.BreakerSignal)
    case acknowledgement(RecordToken, LaneStateMachine.ProduceResult)
}

/// How a receiver answers at a moment.
enum SimulatedReceiver: CaseIterable {
    case healthy, flaky, down, recovers, gone, slow

    func answer(now: Int64, recoversAt: Int64, using generator: inout SeededGenerator) -> (
        AttemptOutcome, AttemptOutcome.BreakerSignal, delay: Int64
    ) {
        let delay = Int64.random(in: 1...40, using: &generator)
        let failure = (AttemptOutcome.retry(hintMilliseconds: nil), AttemptOutcome.BreakerSignal.failure)
        switch self {
        case .healthy: return (.delivered, .success, delay)
        case .flaky: return Int.random(in: 0..<3, using: &generator) == 0 ? (failure.0, failure.1, delay) : (.delivered, .success, delay)
        case .down: return (failure.0, failure.1, delay)
        case .recovers: return now < recoversAt ? (failure.0, failure.1, delay) : (.delivered, .success, delay)
        case .gone: return (.gone, .success, delay)
        case .slow: return (.delivered, .success, Int64.random(in: 1_000...9_000, using: &generator))
        }
    }
}
