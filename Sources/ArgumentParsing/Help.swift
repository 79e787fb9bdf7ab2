/// Help texts from the description of a command.
public struct HelpPage: Sendable {
    public var coloured: Bool
    public var width: Int
    public init(coloured: Bool, width: Int = 100) { (self.coloured, self.width) = (coloured, width) }

    public func text(_ path: [Command], globals: [Flag]) -> String {
        let command = path[path.count - 1]
        let name = path.map(\.name).joined(separator: " ")
        var page = "\(command.summary)\n\n"
        if !command.details.isEmpty { page += wrap(command.details, indent: 0) + "\n" }
        page += heading("Usage")
        if command.children.isEmpty {
            let positionals = command.positionals.map { $0.required ? " \($0.name)" : " [\($0.name)]" }.joined()
            page += "  \(name)\(positionals)\(command.flags.isEmpty ? "" : " [flags]")\n"
        } else {
            page += "  \(name) COMMAND [flags]\n\n" + heading("Commands")
            let column = (command.children.map(\.name.count).max() ?? 0) + 4
            for child in command.children { page += row("  \(child.name)", child.summary, column) }
        }
        if !command.positionals.isEmpty {
            page += "\n" + heading("Arguments")
            for positional in command.positionals { page += row("  \(positional.name)", positional.help, 30) }
        }
        if !command.flags.isEmpty {
            page += "\n" + heading("Flags")
            for flag in command.flags { page += line(flag) }
        }
        if command.run != nil || path.count == 1 {
            page += "\n" + heading("Flags of every command")
            for flag in globals { page += line(flag) }
        }
        if !command.examples.isEmpty {
            page += "\n" + heading("Examples")
            for example in command.examples { page += "  \(dim("# \(example.does)"))\n  \(example.line)\n" }
        }
        return page
    }

    private func line(_ flag: Flag) -> String {
        let short = flag.short.map { "-\($0), " } ?? "    "
        var help = flag.help
        if !flag.choices.isEmpty { help += " (\(flag.choices.joined(separator: ", ")))" }
        if flag.repeated { help += " [repeatable]" }
        if let value = flag.defaultValue, flag.placeholder != nil { help += " [default: \(value)]" }
        return row("  \(short)--\(flag.name)\(flag.placeholder.map { " \($0)" } ?? "")", help, 34)
    }

    private func row(_ left: String, _ right: String, _ column: Int) -> String {
        let lines = wrap(right, indent: column).split(separator: "\n", omittingEmptySubsequences: false)
        let first = lines.first.map { String($0.dropFirst(column)) } ?? ""
        var out =
            left.count + 1 < column
            ? left + String(repeating: " ", count: column - left.count) + first + "\n"
            : left + "\n" + String(repeating: " ", count: column) + first + "\n"
        for line in lines.dropFirst() where !line.isEmpty { out += line + "\n" }
        return out
    }

    /// Breaks at spaces; line breaks in the text stay.
    private func wrap(_ text: String, indent: Int) -> String {
        let pad = String(repeating: " ", count: indent)
        var out = ""
        for paragraph in text.split(separator: "\n", omittingEmptySubsequences: false) {
            var line = pad
            var empty = true
            if paragraph.hasPrefix("  ") {
                out += pad + paragraph + "\n"
                continue
            }
            for word in paragraph.split(separator: " ") {
                if !empty, line.count + word.count + 1 > max(width, indent + 20) {
                    out += line + "\n"
                    line = pad
                    empty = true
                }
                line += (empty ? "" : " ") + word
                empty = false
            }
            out += line + "\n"
        }
        return out
    }

    private func heading(_ text: String) -> String { coloured ? "\u{1b}[1m\(text)\u{1b}[0m\n" : "\(text)\n" }
    private func dim(_ text: String) -> String { coloured ? "\u{1b}[2m\(text)\u{1b}[0m" : text }
}
