/// The configuration reference from the same description as everything else.
public enum Reference {
    public static func markdown(root: Command, globals: [Flag]) -> String {
        var page = """
            # Configuration reference

            Made by `\(root.name) config --reference`; do not edit. Every setting is a flag, an environment variable and a key of the YAML file
            given by `--config` (or `\(CommandLineParser.environmentName("config"))`). Flags win over the environment, the environment over the file,
            the file over the default. Lists are YAML lists or comma-separated; `kafka:` is a map of librdkafka properties. `\(root.name) config` prints what
            is in force and where it came from.

            ```yaml
            brokers: [kafka-1:9092, kafka-2:9092]
            lanes: 2
            kafka:
              security.protocol: SASL_SSL
              sasl.mechanism: SCRAM-SHA-512
              sasl.username: martlet
            ```

            ## Every command
            """
        page += "\n\n" + table(globals)
        for (path, command) in leaves(root, [root.name]) where !command.flags.isEmpty {
            page += "\n## \(path.joined(separator: " "))\n\n\(command.summary)\n\n" + table(command.flags)
        }
        if page.hasSuffix("\n") { page.removeLast() }
        return page
    }

    private static func leaves(_ command: Command, _ path: [String]) -> [(path: [String], command: Command)] {
        command.children.isEmpty ? [(path, command)] : command.children.flatMap { leaves($0, path + [$0.name]) }
    }

    private static func table(_ flags: [Flag]) -> String {
        var rows = "| flag | environment | default | meaning |\n|---|---|---|---|\n"
        for flag in flags {
            let name = "`--\(flag.name)\(flag.placeholder.map { " \($0)" } ?? "")`".split(separator: "|", omittingEmptySubsequences: false)
                .joined(separator: "\\|")
            let choices = flag.choices.isEmpty ? "" : " (\(flag.choices.joined(separator: ", ")))"
            let kind = (flag.repeated ? "; repeatable" : "") + (flag.secret ? "; secret" : "")
            rows +=
                "| \(name) | `\(CommandLineParser.environmentName(flag.name))` | \(flag.defaultValue.map { "`\($0)`" } ?? "") | \(flag.help)\(choices)\(kind) |\n"
        }
        return rows
    }
}
