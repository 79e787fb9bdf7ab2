import JSON
import Logging
import Metrics
import Synchronization
import Testing

private final class Lines: Sendable {
    private let all = Mutex<[String]>([])
    func add(_ line: [UInt8]) { all.withLock { $0.append(String(decoding: line, as: UTF8.self)) } }
    var text: [String] { all.withLock { $0 } }
}

struct LoggingTests {
    @Test func textIsOneReadableLine() {
        let lines = Lines()
        Logger(write: lines.add).with("lane", "3").warning("it\nbroke", ["n": .integer(5), "why": "two words"])
        #expect(lines.text.count == 1)
        #expect(lines.text[0].hasSuffix("Z WARNING it broke lane=3 n=5 why=\"two words\"\n"), "\(lines.text)")
    }

    @Test func jsonIsOneObject() throws {
        let lines = Lines()
        Logger(format: .json, write: lines.add).error("say \"x\"\n", ["a": "b\n"])
        let value = try JSONValue.parse(lines.text[0])
        #expect(
            value["level"]?.stringValue == "error" && value["message"]?.stringValue == "say \"x\"\n" && value["a"]?.stringValue == "b\n")
        #expect(lines.text[0].filter { $0 == "\n" }.count == 1)
    }

    @Test func aLineBelowTheLevelIsNotBuilt() {
        let lines = Lines()
        var built = 0
        func costly() -> String {
            built += 1
            return "x"
        }
        Logger(level: .warning, write: lines.add).info(costly())
        #expect(built == 0 && lines.text.isEmpty)
    }
}

struct MetricsTests {
    @Test func histogramsAreCumulative() {
        let histogram = Histogram(boundsSeconds: [0.01, 0.1, 1])
        for microseconds in [5_000, 10_000, 50_000, 2_000_000] { histogram.observe(microseconds: microseconds) }
        var page = Exposition()
        page.family("x_seconds", .histogram, "help")
        page.histogram("x_seconds", bounds: histogram.boundsSeconds, histogram.snapshot)
        #expect(
            page.text
                == "# HELP x_seconds help\n# TYPE x_seconds histogram\nx_seconds_bucket{le=\"0.01\"} 2\nx_seconds_bucket{le=\"0.1\"} 3\nx_seconds_bucket{le=\"1\"} 3\nx_seconds_bucket{le=\"+Inf\"} 4\nx_seconds_sum 2.065\nx_seconds_count 4\n"
        )
    }

    @Test func labelsAreEscaped() {
        var page = Exposition()
        page.sample("x", ["l": "a\"b\\c\nd"], 1.5)
        #expect(page.text == "x{l=\"a\\\"b\\\\c\\nd\"} 1.5\n")
    }
}
