internal import ArgumentParsing
internal import JSON

/// `martlet completion` and `martlet config`
enum OtherCommands {
    static let completion: Command = Command(
        "completion", "Prints a completion script for a shell.", positionals: [Positional("SHELL", "bash, zsh or fish")],
        examples: [
            ("bash, for this session", "source <(martlet completion bash)"),
            ("fish, for good", "martlet completion fish > ~/.config/fish/completions/martlet.fish"),
        ]
    ) { arguments in
        guard let script = Completion.script(shell: arguments.positionals[0], root: Root.command, globals: Settings.globals) else {
            throw UsageError(
                "'\(arguments.positionals[0])' isn't a shell that is supported",
                hint: "one of: \(Completion.shells.joined(separator: ", "))")
        }
        Terminal(arguments).print(script)
        return 0
    }

    /// Takes every flag of the worker, so that what it prints is what the worker would use.
    static let config: Command = Command(
        "config", "Prints the worker's effective settings and where each came from; secrets masked.",
        flags: WorkerCommand.command.flags + [
            Settings.output, Flag("reference", "prints the reference of all settings as Markdown instead"),
        ],
        examples: [("with a file", "martlet config --config martlet.yaml"), ("for a script", "martlet config -o json")]
    ) { arguments in
        let terminal = Terminal(arguments)
        if arguments.isOn("reference") {
            terminal.print(Reference.markdown(root: Root.command, globals: Settings.globals))
            return 0
        }
        let flags = arguments.command.flags.filter { $0.name != "output" && $0.name != "reference" } + Settings.globals
        let rows = flags.map { flag -> [String] in
            let values = arguments.list(flag.name).map { flag.secret ? masked($0) : $0 }
            return [
                flag.name, values.isEmpty ? "-" : values.joined(separator: ","), (arguments.origins[flag.name] ?? .builtIn).description,
            ]
        }
        if arguments.text("output") == "json" {
            terminal.print(
                JSONValue.array(
                    rows.map { .object([.init("name", .string($0[0])), .init("value", .string($0[1])), .init("from", .string($0[2]))]) }
                ).prettyText)
        } else {
            terminal.print(terminal.table(["SETTING", "VALUE", "FROM"], rows))
        }
        return 0
    }

    /// `sasl.password=hunter2` → `sasl.password=***`
    private static func masked(_ value: String) -> String {
        let name = value.prefix { $0 != "=" }
        return name.count == value.count ? "***" : "\(name)=***"
    }
}
