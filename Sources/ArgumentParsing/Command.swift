/// One flag of a command. The same description gives parsing, help, completion, the environment variable and the key in the
/// configuration file.
public struct Flag: Sendable {
    public var name: String
    public var short: Character?
    /// What stands for the value in the help (`HOST:PORT`); nil makes it a switch.
    public var placeholder: String?
    public var help: String
    /// Shown in the help and used when nothing else gives a value.
    public var defaultValue: String?
    /// May be given several times.
    public var repeated: Bool
    /// A repeated flag's value may also be a comma-separated list.
    public var isCommaSeparated: Bool
    /// Never printed.
    public var secret: Bool
    public var choices: [String]

    /// A switch.
    public init(_ name: String, short: Character? = nil, _ help: String) {
        (self.name, self.short, self.help) = (name, short, help)
        (repeated, isCommaSeparated, secret, choices) = (false, false, false, [])
    }

    /// A flag with a value.
    public init(
        _ name: String, short: Character? = nil, _ placeholder: String, _ help: String, default defaultValue: String? = nil,
        repeated: Bool = false, isCommaSeparated: Bool = true, secret: Bool = false, choices: [String] = []
    ) {
        (self.name, self.short, self.placeholder, self.help) = (name, short, placeholder, help)
        (self.defaultValue, self.repeated, self.secret, self.choices) = (defaultValue, repeated, secret, choices)
        self.isCommaSeparated = isCommaSeparated
    }
}

public struct Positional: Sendable {
    public var name: String
    public var help: String
    public var required: Bool
    public init(_ name: String, _ help: String, required: Bool = true) { (self.name, self.help, self.required) = (name, help, required) }
}

/// A command, or a group of commands when it has children.
public struct Command: Sendable {
    public var name: String
    public var summary: String
    public var details: String
    public var flags: [Flag]
    public var positionals: [Positional]
    /// What it does, and the line to type.
    public var examples: [(does: String, line: String)]
    public var children: [Command]
    public var run: (@Sendable (Arguments) throws -> Int32)?

    public init(
        _ name: String, _ summary: String, details: String = "", flags: [Flag] = [], positionals: [Positional] = [],
        examples: [(does: String, line: String)] = [], children: [Command] = [], run: (@Sendable (Arguments) throws -> Int32)? = nil
    ) {
        (self.name, self.summary, self.details, self.flags) = (name, summary, details, flags)
        (self.positionals, self.examples, self.children, self.run) = (positionals, examples, children, run)
    }
}

/// Something wrong with what the user gave: exit code 2. `hint` says what to do.
public struct UsageError: Error, CustomStringConvertible, Equatable {
    public var message: String
    public var hint: String?
    public init(_ message: String, hint: String? = nil) { (self.message, self.hint) = (message, hint) }
    public var description: String { hint.map { "\(message)\n  \($0)" } ?? message }
}

/// The candidate that a misspelt word most likely meant: at most two edits away, or three for long words.
public func closest(to word: String, among candidates: [String]) -> String? {
    let limit = word.count > 7 ? 3 : word.count > 3 ? 2 : 1
    let ranked = candidates.map { ($0, editDistance(Array(word), Array($0))) }.filter { $0.1 <= limit }
    return ranked.min { $0.1 < $1.1 }?.0
}

private func editDistance(_ left: [Character], _ right: [Character]) -> Int {
    var row = Array(0...right.count)
    for (i, character) in left.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, other) in right.enumerated() {
            let replaced = diagonal + (character == other ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
        }
    }
    return row[right.count]
}
