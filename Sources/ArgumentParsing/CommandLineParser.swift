internal import JSON
internal import YAML

/// Parses a command line against a tree of commands, with the conventions of GNU getopt_long.
public struct CommandLineParser: Sendable {
    public enum Outcome: Sendable {
        case run(Arguments)
        /// `--help` was asked for at this path of the tree.
        case help([Command])
    }

    public var root: Command
    /// On every command.
    public var globals: [Flag]
    /// A flag that takes `NAME=VALUE`; the environment and the file may give it as `MARTLET_<FLAG>_<NAME>` and as a map.
    public var freeSettings: String?
    public static let environmentPrefix = "MARTLET_"

    public init(root: Command, globals: [Flag], freeSettings: String? = nil) {
        (self.root, self.globals, self.freeSettings) = (root, globals, freeSettings)
    }

    public static func environmentName(_ flag: String) -> String {
        environmentPrefix + flag.uppercased().split(separator: "-").joined(separator: "_")
    }

    /// `readFile` gives a file's text, or throws a `UsageError`.
    public func parse(
        _ words: [String], environment: [String: String], readFile: (String) throws -> String
    ) throws -> Outcome {
        var words = words[...]
        var path = [root]
        if words.first == "help" {
            words = words.dropFirst()
            while let word = words.popFirst() { path.append(try child(of: path, named: word)) }
            return .help(path)
        }
        while !path[path.count - 1].children.isEmpty, let word = words.first, !word.hasPrefix("-") {
            path.append(try child(of: path, named: word))
            words = words.dropFirst()
        }
        let command = path[path.count - 1]
        var arguments = Arguments(command: command)
        let flags = command.flags + globals
        if try take(words, flags, path, into: &arguments) { return .help(path) }
        guard command.run != nil else {
            if words.isEmpty { return .help(path) }
            throw UsageError("'\(name(path))' needs a command", hint: "one of: \(command.children.map(\.name).joined(separator: ", "))")
        }
        try takeEnvironment(environment, flags, into: &arguments)
        if let file = arguments.text("config") ?? environment[Self.environmentName("config")] {
            try takeFile(file, try readFile(file), flags, into: &arguments)
        }
        for flag in flags where arguments.values[flag.name] == nil {
            if let value = flag.defaultValue { arguments.values[flag.name] = flag.repeated ? split(value, flag) : [value] }
            arguments.origins[flag.name] = .builtIn
        }
        try check(arguments, flags, path)
        return .run(arguments)
    }

    private func name(_ path: [Command]) -> String { path.map(\.name).joined(separator: " ") }
    private func split(_ value: String, _ flag: Flag) -> [String] {
        flag.isCommaSeparated ? value.split(separator: ",").map(String.init) : [value]
    }

    private func child(of path: [Command], named word: String) throws(UsageError) -> Command {
        let children = path[path.count - 1].children
        if let found = children.first(where: { $0.name == word }) { return found }
        let guess = closest(to: word, among: children.map(\.name)).map { "did you mean '\($0)'? " } ?? ""
        throw UsageError("'\(word)' isn't a command of '\(name(path))'", hint: "\(guess)see '\(name(path)) --help'")
    }

    /// True when help was asked for.
    private func take(_ given: ArraySlice<String>, _ flags: [Flag], _ path: [Command], into arguments: inout Arguments) throws(UsageError)
        -> Bool
    {
        var words = given
        while let word = words.popFirst() {
            if word == "--" {
                arguments.positionals += words
                break
            }
            guard word.hasPrefix("-"), word != "-" else {
                arguments.positionals.append(word)
                continue
            }
            var text = word
            var attached: String?
            if word.hasPrefix("--"), let equals = word.firstIndex(of: "=") {
                text = String(word[..<equals])
                attached = String(word[word.index(after: equals)...])
            } else if !word.hasPrefix("--"), word.count > 2 {
                text = String(word.prefix(2))
                attached = String(word.dropFirst(2))
            }
            if text == "--help" || text == "-h" { return true }
            guard let flag = flags.first(where: { text == "--\($0.name)" || ($0.short != nil && text == "-\($0.short!)") }) else {
                let guess = closest(to: String(text.drop { $0 == "-" }), among: flags.map(\.name)).map { "did you mean '--\($0)'? " } ?? ""
                throw UsageError("'\(name(path))' has no flag '\(text)'", hint: "\(guess)see '\(name(path)) --help'")
            }
            var value = "true"
            if flag.placeholder != nil {
                guard let taken = attached ?? words.popFirst() else {
                    throw UsageError("\(text) needs a value (\(flag.placeholder ?? ""))", hint: "see '\(name(path)) --help'")
                }
                value = taken
            } else if let attached {
                guard attached == "true" || attached == "false" else { throw UsageError("\(text) takes no value") }
                value = attached
            }
            if flag.repeated {
                arguments.values[flag.name, default: []] += split(value, flag)
            } else {
                arguments.values[flag.name] = [value]
            }
            arguments.origins[flag.name] = .flag
        }
        return false
    }

    private func takeEnvironment(_ environment: [String: String], _ flags: [Flag], into arguments: inout Arguments) throws(UsageError) {
        for flag in flags where arguments.values[flag.name] == nil {
            guard let value = environment[Self.environmentName(flag.name)], !value.isEmpty else { continue }
            arguments.values[flag.name] = flag.repeated ? split(value, flag) : [value]
            arguments.origins[flag.name] = .environment(Self.environmentName(flag.name))
        }
        guard let free = freeSettings, flags.contains(where: { $0.name == free }) else { return }
        let prefix = Self.environmentName(free) + "_"
        let found = environment.keys.filter { $0.hasPrefix(prefix) }.sorted()
        let settings = found.map {
            "\($0.dropFirst(prefix.count).lowercased().split(separator: "_").joined(separator: "."))=\(environment[$0] ?? "")"
        }
        guard !settings.isEmpty else { return }
        // Earlier ones lose against later ones with the same name, so the flags stay last.
        arguments.values[free] = settings + arguments.list(free)
        if arguments.origins[free] == nil { arguments.origins[free] = .environment("\(prefix)*") }
    }

    private func takeFile(_ file: String, _ text: String, _ flags: [Flag], into arguments: inout Arguments) throws {
        let document: JSONValue
        do { document = try YAMLDocument.parse(text) } catch { throw UsageError("\(file): \(error)") }
        guard let members = document.members ?? (document.isNull ? [] : nil) else {
            throw UsageError("\(file): expected 'name: value' lines, found \(document.kind)")
        }
        let known = allFlags(of: root) + globals
        for member in members {
            guard known.contains(where: { $0.name == member.name }) else {
                let guess = closest(to: member.name, among: known.map(\.name)).map { "did you mean '\($0)'?" }
                throw UsageError("\(file): no command has a setting '\(member.name)'", hint: guess)
            }
            guard let flag = flags.first(where: { $0.name == member.name }) else { continue }
            let values = try texts(of: member.value, flag, file)
            if flag.name == freeSettings {
                arguments.values[flag.name] = values + arguments.list(flag.name)
            } else if arguments.values[flag.name] == nil {
                arguments.values[flag.name] = values
            } else {
                continue
            }
            if arguments.origins[flag.name] == nil { arguments.origins[flag.name] = .file(file) }
        }
    }

    private func texts(of value: JSONValue, _ flag: Flag, _ file: String) throws(UsageError) -> [String] {
        func scalar(_ value: JSONValue) throws(UsageError) -> String {
            switch value {
            case .string(let text), .number(let text): return text
            case .bool(let on): return on ? "true" : "false"
            default: throw UsageError("\(file): '\(flag.name)' can't be \(value.kind)")
            }
        }
        switch value {
        case .array(let elements) where flag.repeated:
            var texts: [String] = []
            for element in elements { texts.append(try scalar(element)) }
            return texts
        case .object(let members) where flag.name == freeSettings:
            var texts: [String] = []
            for member in members { texts.append("\(member.name)=\(try scalar(member.value))") }
            return texts
        default:
            let text = try scalar(value)
            return flag.repeated ? split(text, flag) : [text]
        }
    }

    private func allFlags(of command: Command) -> [Flag] { command.flags + command.children.flatMap { allFlags(of: $0) } }

    private func check(_ arguments: Arguments, _ flags: [Flag], _ path: [Command]) throws(UsageError) {
        for flag in flags {
            for value in arguments.list(flag.name) {
                if flag.placeholder == nil, value != "true", value != "false" { throw arguments.bad(flag.name, value, "true or false") }
                if !flag.choices.isEmpty, !flag.choices.contains(value) {
                    throw arguments.bad(flag.name, value, "one of \(flag.choices.joined(separator: ", "))")
                }
            }
        }
        let positionals = arguments.command.positionals
        if arguments.positionals.count > positionals.count {
            throw UsageError(
                "'\(name(path))' doesn't take '\(arguments.positionals[positionals.count])'", hint: "see '\(name(path)) --help'")
        }
        if arguments.positionals.count < positionals.count(where: \.required) {
            throw UsageError("'\(name(path))' needs \(positionals[arguments.positionals.count].name)", hint: "see '\(name(path)) --help'")
        }
    }
}
