import ArgumentParsing
import Testing

struct CommandLineParserTests {
    static let parser = CommandLineParser(
        root: Command(
            "tool", "A tool.",
            children: [
                Command(
                    "send", "Sends.",
                    flags: [
                        Flag("brokers", short: "b", "LIST", "where", repeated: true), Flag("count", "N", "how many", default: "3"),
                        Flag("force", short: "f", "anyway"),
                        Flag("format", "F", "shape", default: "text", choices: ["text", "json"]),
                        Flag("kafka", "NAME=VALUE", "properties", repeated: true, isCommaSeparated: false, secret: true),
                    ], positionals: [Positional("WHAT", "the thing")]
                ) { _ in 0 },
                Command("group", "Groups.", children: [Command("inner", "Inner.") { _ in 0 }]),
            ]),
        globals: [Flag("config", short: "c", "FILE", "settings")], freeSettings: "kafka")

    static func parse(_ words: [String], _ environment: [String: String] = [:], file: String = "") throws -> Arguments {
        switch try parser.parse(words, environment: environment, readFile: { _ in file }) {
        case .run(let arguments): return arguments
        case .help: throw UsageError("help")
        }
    }

    @Test func takesTheFormsOfGetopt() throws {
        let arguments = try Self.parse(["send", "-b", "a:1,b:2", "--brokers=c:3", "--count", "7", "-f", "--", "-x"])
        #expect(arguments.list("brokers") == ["a:1", "b:2", "c:3"])
        #expect(try arguments.integer("count", in: 1...10) == 7)
        #expect(arguments.isOn("force"))
        #expect(arguments.positionals == ["-x"])
        #expect(try Self.parse(["send", "-ba:1", "x"]).list("brokers") == ["a:1"])
    }

    @Test func flagsWinOverEnvironmentOverFileOverDefault() throws {
        let file = "count: 5\nformat: json\nkafka:\n  a.b: 1\n  c.d: 2\n"
        let environment = ["MARTLET_COUNT": "6", "MARTLET_KAFKA_A_B": "9"]
        let all = try Self.parse(["send", "x", "-c", "f.yaml", "--count", "7", "--kafka", "c.d=8"], environment, file: file)
        #expect(all.text("count") == "7" && all.origins["count"] == .flag)
        #expect(all.text("format") == "json" && all.origins["format"] == .file("f.yaml"))
        #expect(all.list("kafka") == ["a.b=1", "c.d=2", "a.b=9", "c.d=8"])
        let less = try Self.parse(["send", "x", "-c", "f.yaml"], environment, file: file)
        #expect(less.text("count") == "6" && less.origins["count"] == .environment("MARTLET_COUNT"))
        let least = try Self.parse(["send", "x"])
        #expect(least.text("count") == "3" && least.origins["count"] == .builtIn && !least.isGiven("count"))
    }

    @Test(arguments: [
        (["snd"], "did you mean 'send'"), (["send", "x", "--cuont", "1"], "did you mean '--count'"),
        (["send", "x", "--count"], "needs a value"),
        (["send"], "needs WHAT"), (["send", "x", "y"], "doesn't take 'y'"), (["send", "x", "--format", "xml"], "one of text, json"),
        (["send", "x", "--force=maybe"], "takes no value"), (["group", "x"], "isn't a command of 'tool group'"),
    ])
    func explainsMistakes(_ words: [String], _ part: String) {
        do {
            _ = try Self.parse(words)
            Issue.record("accepted")
        } catch { #expect("\(error)".contains(part), "\(error)") }
    }

    @Test(arguments: [
        ("cuont: 1", "did you mean 'count'"), ("count: [1]", "can't be a list"), ("- a", "expected 'name: value'"),
        ("a: 1\na: 2", "line 2"), ("format: xml", "from file f.yaml"),
    ])
    func explainsMistakesOfTheFile(_ file: String, _ part: String) {
        do {
            _ = try Self.parse(["send", "x", "-c", "f.yaml"], file: file)
            Issue.record("accepted")
        } catch { #expect("\(error)".contains(part), "\(error)") }
    }

    @Test func helpShowsWhatAnOperatorNeeds() throws {
        guard case .help(let path) = try Self.parser.parse(["send", "--help"], environment: [:], readFile: { _ in "" }) else {
            Issue.record("no help")
            return
        }
        let text = HelpPage(coloured: false).text(path, globals: Self.parser.globals)
        for part in [
            "Usage", "tool send WHAT [flags]", "-b, --brokers LIST", "[default: 3]", "(text, json)", "[repeatable]", "--config FILE",
        ] { #expect(text.contains(part), "\(part) in \(text)") }
        #expect(text.split(separator: "\n").allSatisfy { $0.count <= 100 })
    }

    @Test(arguments: [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000)] as [(String, Int64)])
    func durations(_ text: String, _ milliseconds: Int64) {
        #expect(Quantity.milliseconds(text) == milliseconds)
        #expect(Quantity.milliseconds(Quantity.text(milliseconds: milliseconds)) == milliseconds)
    }

    @Test(arguments: ["", "5", "s", "-5s", "1.5s", "5 s", "99999999999999999999d", "9223372036854775807h"]) func badDurations(
        _ text: String
    ) { #expect(Quantity.milliseconds(text) == nil) }

    @Test(arguments: Completion.shells) func completionNamesEverything(_ shell: String) throws {
        let script = try #require(Completion.script(shell: shell, root: Self.parser.root, globals: Self.parser.globals))
        for word in ["send", "group", "inner", "brokers", "format"] { #expect(script.contains(word)) }
    }
}
