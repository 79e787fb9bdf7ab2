public import HTTPDelivery

/// What an attempt's result means for its delivery.
///
/// | result | outcome | counts for the breaker |
/// |---|---|---|
/// | 2xx | delivered | success |
/// | 410 | gone: dead letter, endpoint disabled | success (it answered) |
/// | 408, 425, 429, 5xx | retry; 429 and 503 with their `Retry-After` | failure |
/// | dns, connect | retry | unreachable: a failure, and perhaps our own (`EgressMonitor`) |
/// | tls, timeout, reset, protocol, too-large | retry | failure |
/// | refused-address (names change) | retry | failure |
/// | 3xx (never followed), other 4xx (receivers do misdeploy) | retry | success (it answered) |
/// | cancelled (by us) | not an attempt | neither |
public enum AttemptOutcome: Sendable, Equatable {
    case delivered
    case gone
    case retry(hintMilliseconds: Int64?)
    case cancelled

    public enum BreakerSignal: Sendable, Equatable { case success, failure, unreachable, none }

    public static func classify(_ result: HTTPResult, nowMilliseconds: Int64) -> (outcome: AttemptOutcome, signal: BreakerSignal) {
        if let error = result.error {
            switch error.kind {
            case .cancelled: return (.cancelled, .none)
            case .dns, .connect: return (.retry(hintMilliseconds: nil), .unreachable)
            default: return (.retry(hintMilliseconds: nil), .failure)
            }
        }
        guard let status = result.status else { return (.retry(hintMilliseconds: nil), .failure) }
        switch status {
        case 200..<300: return (.delivered, .success)
        case 410: return (.gone, .success)
        case 408, 425, 429, 500...:
            let hint =
                status == 429 || status == 503
                ? result.retryAfter.flatMap { RetryAfter.milliseconds($0, nowMilliseconds: nowMilliseconds) } : nil
            return (.retry(hintMilliseconds: hint), .failure)
        default: return (.retry(hintMilliseconds: nil), .success)
        }
    }
}
