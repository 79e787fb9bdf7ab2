import Foundation
import Testing

/// The built program, run as a user runs it.
struct CommandLineTests {
    /// `swift test` runs in the package's folder.
    static let binary = URL(fileURLWithPath: ".build/debug/martlet")

    static func run(_ words: [String], environment: [String: String] = [:], input: String = "") throws -> (
        code: Int32, out: String, error: String
    ) {
        let process = Process()
        process.executableURL = binary
        process.arguments = words
        process.environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("MARTLET_") }.merging(environment) { $1 }
        let (out, error, standardInput) = (Pipe(), Pipe(), Pipe())
        (process.standardOutput, process.standardError, process.standardInput) = (out, error, standardInput)
        try process.run()
        standardInput.fileHandleForWriting.write(Data(input.utf8))
        try standardInput.fileHandleForWriting.close()
        let text = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let errorText = String(decoding: error.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text, errorText)
    }

    @Test(arguments: [
        ["--help"], ["worker", "--help"], ["endpoint", "create", "-h"], ["help", "topics", "create"], ["publish", "--help"],
        ["listen", "--help"], ["dev", "--help"], ["apply", "--help"], ["dlq", "replay", "--help"], ["attempts", "tail", "--help"], [],
    ])
    func helpHasExamples(_ words: [String]) throws {
        let result = try Self.run(words)
        #expect(result.code == 0 && result.out.contains("Examples") && result.out.contains("martlet ") && !result.out.contains("\u{1b}"))
    }

    @Test(
        arguments: [
            (["wroker"], 2, "did you mean 'worker'"), (["worker", "--brokr", "x:1"], 2, "did you mean '--brokers'"),
            (["worker"], 2, "--brokers is missing"),
            (["worker", "-b", "nonsense"], 2, "isn't HOST:PORT"),
            (["worker", "-b", "127.0.0.1:1", "--kafka", "securty.protocol=x"], 2, "no property 'securty.protocol'"),
            (["worker", "-b", "127.0.0.1:1", "--kafka", "acks=0"], 2, "set by Martlet itself"),
            (["worker", "-b", "127.0.0.1:1", "--session-timeout", "1s"], 2, "15s to 30m"),
            (["worker", "-b", "127.0.0.1:1", "--lanes", "0"], 2, "whole number from 1"),
            (["worker", "-b", "127.0.0.1:1", "--ca-bundle", "/nowhere"], 2, "/nowhere"),
            (["endpoint", "create", "--url", "http://example.com/", "--dry-run"], 2, "--allow-http"),
            (["endpoint", "create", "--url", "https://10.0.0.1/", "--dry-run"], 2, "10.0.0.1"),
            (["endpoint", "create", "--url", "https://example.com/", "--types", "a*", "--dry-run"], 2, "prefix.*"),
            (["endpoint", "create", "--url", "https://example.com/", "--header", "Host: x", "--dry-run"], 2, "'Host' is reserved"),
            (["endpoint", "create", "--url", "https://example.com/", "--rate", "5", "--dry-run"], 2, "100/s"),
            (["endpoint", "create", "--dry-run"], 2, "--url is missing"),
            (["endpoint", "create", "--url", "https://example.com/", "--secret", "hunter2", "--dry-run"], 2, "whsec_"),
            (["completion", "tcsh"], 2, "bash, zsh, fish"),
            (["publish", "-b", "127.0.0.1:1", "--type", "t", "--source", "/s", "--data", "{"], 2, "isn't valid JSON"),
            (["apply", "-f", "/nowhere.yaml", "-b", "127.0.0.1:1"], 2, "/nowhere.yaml"),
            (["listen", "--secret", "x"], 2, "whsec_"),
            (["dlq", "replay", "-b", "127.0.0.1:1"], 2, "--yes"),
            (["dlq", "replay", "-b", "127.0.0.1:1", "--yes", "--rate", "5/week"], 2, "200/s"),
            (["dlq", "list", "-b", "127.0.0.1:1", "--reason", "bad"], 2, "endpoint-deleted"),
            (["dlq", "list", "-b", "127.0.0.1:1", "--since", "2026-02-30"], 2, "2h for two hours ago"),
            (["dlq", "list", "-b", "127.0.0.1:1", "--status", "0"], 2, "100 to 599"),
            (["dlq", "purge", "-b", "127.0.0.1:1", "--yes", "--id", "ep_1"], 2, "dlv_"),
            (["dlq", "stats", "-b", "127.0.0.1:1", "--from-file", "/nowhere"], 2, "/nowhere"),
            (["attempts", "tail", "-b", "127.0.0.1:1", "--since", "now"], 2, "2h for two hours ago"),
            (["attempts", "tail", "-b", "127.0.0.1:1"], 3, "check --brokers"),
        ] as [([String], Int32, String)])
    func mistakesAreExplained(_ words: [String], _ code: Int32, _ part: String) throws {
        let result = try Self.run(words)
        #expect(result.code == code && result.error.contains(part) && result.out.isEmpty, "\(result)")
        #expect(!result.error.contains("hunter2"))
    }

    @Test(arguments: [
        ["worker", "-b", "127.0.0.1:1"], ["topics", "create", "-b", "127.0.0.1:1"], ["endpoint", "list", "-b", "127.0.0.1:1"],
    ]) func unreachableBrokersAreExitCode3(_ words: [String]) throws {
        let result = try Self.run(words)
        #expect(result.code == 3 && result.error.contains("martlet: "), "\(result)")
    }

    @Test func aDryRunNeedsNoBroker() throws {
        let result = try Self.run([
            "endpoint", "create", "--url", "https://example.com/a", "--types", "order.*,invoice.paid", "--rate", "100/s", "--dry-run", "-o",
            "json",
        ])
        #expect(
            result.code == 0 && result.out.contains("\"plain\": \"whsec_") && result.out.contains("\"perMs\": 1000")
                && result.out.contains("\"id\": \"ep_"))
    }

    @Test func configSaysWhereAValueCameFromAndHidesSecrets() throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID().uuidString).yaml")
        try "lanes: 3\nkafka:\n  sasl.password: hunter2\n".write(to: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: file) }
        let result = try Self.run(
            ["config", "-c", file.path, "-b", "a:1"], environment: ["MARTLET_ROLES": "delivery", "MARTLET_KAFKA_SASL_USERNAME": "u"])
        #expect(result.code == 0 && !result.out.contains("hunter2") && result.out.contains("sasl.password=***"))
        for part in ["lanes", "file \(file.path)", "environment MARTLET_ROLES", "flag", "default"] {
            #expect(result.out.contains(part), "\(part)")
        }
    }

    @Test func theConfigurationReferenceIsUpToDate() throws {
        let page = try String(contentsOf: URL(fileURLWithPath: "docs/configuration.md"), encoding: .utf8)
        #expect(
            try Self.run(["config", "--reference"]).out == page, "run: .build/debug/martlet config --reference > docs/configuration.md")
    }

    @Test func completionScriptsAreAcceptedByBash() throws {
        let script = try Self.run(["completion", "bash"]).out
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        let input = Pipe()
        let output = Pipe()
        (process.standardInput, process.standardOutput) = (input, output)
        try process.run()
        input.fileHandleForWriting.write(
            Data(
                (script
                    + "\nCOMP_WORDS=(martlet endpoint cr); COMP_CWORD=2; _martlet; echo \"${COMPREPLY[@]}\"\nCOMP_WORDS=(martlet endpoint create --ur); COMP_CWORD=3; _martlet; echo \"${COMPREPLY[@]}\"\n")
                    .utf8))
        try input.fileHandleForWriting.close()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0 && text == "create\n--url\n", "\(text)")
    }
}
