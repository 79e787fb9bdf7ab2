internal import Martlet

/// How a receiver behaves.
enum SimulatedReceiver: CaseIterable {
    case healthy, flaky, down, recovers, gone, slow, hangs, busy, loses, misdeployed

    struct Answer {
        var outcome: AttemptOutcome
        var signal: AttemptOutcome.BreakerSignal
        var delay: Int64
        /// It has the delivery, whatever the worker hears.
        var isReceived: Bool
    }

    func answer(now: Int64, recoversAt: Int64, using generator: inout SeededGenerator) -> Answer {
        let delay = Int64.random(in: 1...40, using: &generator)
        let failure = Answer(outcome: .retry(hintMilliseconds: nil), signal: .failure, delay: delay, isReceived: false)
        let success = Answer(outcome: .delivered, signal: .success, delay: delay, isReceived: true)
        switch self {
        case .healthy: return success
        case .flaky: return Int.random(in: 0..<3, using: &generator) == 0 ? failure : success
        case .down: return failure
        case .recovers: return now < recoversAt ? failure : success
        case .gone: return Answer(outcome: .gone, signal: .success, delay: delay, isReceived: false)
        case .slow:
            return Answer(outcome: .delivered, signal: .success, delay: .random(in: 1_000...7_000, using: &generator), isReceived: true)
        case .hangs:
            guard now < recoversAt else { return success }
            return Answer(outcome: .retry(hintMilliseconds: nil), signal: .failure, delay: 8_000, isReceived: false)
        case .busy:
            guard Int.random(in: 0..<2, using: &generator) == 0 else { return success }
            return Answer(
                outcome: .retry(hintMilliseconds: .random(in: 0...90_000, using: &generator)), signal: .failure, delay: delay,
                isReceived: false)
        case .loses:
            // The connection is lost after the request was read: received, and yet a failure.
            guard Int.random(in: 0..<4, using: &generator) == 0 else { return success }
            return Answer(outcome: .retry(hintMilliseconds: nil), signal: .failure, delay: delay, isReceived: true)
        case .misdeployed:
            guard now < recoversAt else { return success }
            return Answer(outcome: .retry(hintMilliseconds: nil), signal: .success, delay: delay, isReceived: false)
        }
    }
}
