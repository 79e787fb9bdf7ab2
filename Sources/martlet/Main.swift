internal import ArgumentParsing
internal import Glibc
internal import Kafka
internal import Martlet
internal import MartletWorker

@main
enum Main {
    static func main() {
        signal(SIGPIPE, SIG_IGN)
        exit(run(Array(CommandLine.arguments.dropFirst())))
    }

    static let parser = CommandLineParser(root: Root.command, globals: Settings.globals, freeSettings: "kafka")

    static func run(_ words: [String]) -> Int32 {
        let terminal = Terminal(nil)
        do {
            switch try parser.parse(words, environment: environment(), readFile: Files.read) {
            case .help(let path):
                terminal.print(HelpPage(coloured: terminal.isColoured).text(path, globals: Settings.globals))
                return 0
            case .run(let arguments): return try arguments.command.run?(arguments) ?? 0
            }
        } catch {
            terminal.note("martlet: \(error)")
            if let error = error as? KafkaError, let advice = advice(error) { terminal.note("  \(advice)") }
            return exitCode(of: error)
        }
    }

    private static func advice(_ error: KafkaError) -> String? {
        if error.isUnreachable { return "check --brokers, the network, and --kafka settings for TLS or SASL" }
        return error.isUnknownTopic ? "run 'martlet topics create', or check --topic-prefix" : nil
    }

    /// As the contract says; see docs/contracts.md.
    static func exitCode(of error: any Error) -> Int32 {
        switch error {
        case is UsageError, is Endpoint.Invalid: return 2
        case let failure as StartFailure: return failure.exitCode
        case let failure as CommandFailure: return failure.exitCode
        case let error as KafkaError:
            if error.code == .configuration { return 2 }
            return error.isUnreachable ? 3 : error.isUnknownTopic ? 4 : 1
        default: return 1
        }
    }

    static func environment() -> [String: String] {
        var all: [String: String] = [:]
        var entry = environ
        while let text = entry.pointee {
            let parts = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if parts.count == 2 { all[String(parts[0])] = String(parts[1]) }
            entry += 1
        }
        return all
    }
}
