private import Synchronization

/// A number with one writer: relaxed load and store, no locked instruction. Any thread may read.
public final class Gauge: Sendable {
    private let value = Atomic<Int>(0)
    public init() {}
    public var current: Int { value.load(ordering: .relaxed) }
    public func set(_ new: Int) { value.store(new, ordering: .relaxed) }
    public func add(_ amount: Int = 1) { set(current &+ amount) }
}

/// Cumulative buckets over fixed upper bounds in seconds; one writer.
public final class Histogram: Sendable {
    public let boundsSeconds: [Double]
    private let buckets: [Gauge]
    private let sumMicroseconds = Gauge()

    /// 1 ms to 60 s: the range in which an HTTP attempt ends.
    public static let attemptBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60]
    /// 5 ms to 3 days: from acceptance to delivery, retries included.
    public static let endToEndBounds = [
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200, 28_800, 86_400, 259_200,
    ]

    public init(boundsSeconds: [Double]) {
        self.boundsSeconds = boundsSeconds
        buckets = (0...boundsSeconds.count).map { _ in Gauge() }
    }

    public func observe(microseconds: Int) {
        let seconds = Double(microseconds) / 1e6
        buckets[boundsSeconds.firstIndex { seconds <= $0 } ?? boundsSeconds.count].add()
        sumMicroseconds.add(microseconds)
    }

    public var snapshot: Snapshot { Snapshot(counts: buckets.map(\.current), sumSeconds: Double(sumMicroseconds.current) / 1e6) }

    public struct Snapshot: Sendable {
        public var counts: [Int]
        public var sumSeconds: Double
        public static func + (left: Self, right: Self) -> Self {
            Self(counts: zip(left.counts, right.counts).map { $0 + $1 }, sumSeconds: left.sumSeconds + right.sumSeconds)
        }
    }
}

/// Writes the Prometheus text format 0.0.4. Samples of one family must follow its `family` call.
public struct Exposition: Sendable {
    public private(set) var text = ""
    public enum Kind: String, Sendable { case counter, gauge, histogram }
    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    public init() {}

    public mutating func family(_ name: String, _ kind: Kind, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
    }

    public mutating func sample(_ name: String, _ labels: KeyValuePairs<String, String> = [:], _ value: Double) {
        text += name
        append(labels.map { ($0.key, $0.value) })
        text += value == value.rounded() && abs(value) < 1e15 ? " \(Int(value))\n" : " \(value)\n"
    }

    public mutating func histogram(_ name: String, bounds: [Double], _ snapshot: Histogram.Snapshot) {
        var total = 0
        for (index, count) in snapshot.counts.enumerated() {
            total += count
            text += "\(name)_bucket"
            append([("le", index < bounds.count ? trimmed(bounds[index]) : "+Inf")])
            text += " \(total)\n"
        }
        text += "\(name)_sum \(snapshot.sumSeconds)\n\(name)_count \(total)\n"
    }

    private func trimmed(_ bound: Double) -> String { bound == bound.rounded() ? "\(Int(bound))" : "\(bound)" }

    private mutating func append(_ labels: [(String, String)]) {
        guard !labels.isEmpty else { return }
        let pairs = labels.map { name, value in
            var escaped = ""
            for character in value.unicodeScalars {
                switch character {
                case "\\": escaped += "\\\\"
                case "\"": escaped += "\\\""
                case "\n": escaped += "\\n"
                default: escaped.unicodeScalars.append(character)
                }
            }
            return "\(name)=\"\(escaped)\""
        }
        text += "{\(pairs.joined(separator: ","))}"
    }
}
