/// Completion scripts for bash, zsh and fish from the tree of commands.
public enum Completion {
    public static let shells = ["bash", "zsh", "fish"]

    public static func script(shell: String, root: Command, globals: [Flag]) -> String? {
        switch shell {
        case "bash": bash(root, globals)
        case "zsh": "#compdef \(root.name)\nautoload -U +X bashcompinit && bashcompinit\n" + bash(root, globals)
        case "fish": fish(root, globals)
        default: nil
        }
    }

    /// Every node of the tree with the words that lead to it.
    private static func nodes(_ command: Command, _ path: [String]) -> [(path: [String], command: Command)] {
        [(path, command)] + command.children.flatMap { nodes($0, path + [$0.name]) }
    }

    private static func bash(_ root: Command, _ globals: [Flag]) -> String {
        var cases = ""
        for (path, command) in nodes(root, []) {
            let words = command.children.map(\.name) + (command.children.isEmpty ? command.flags + globals : []).map { "--\($0.name)" }
            cases += "        \"\(path.joined(separator: " "))\") words=\"\(words.joined(separator: " "))\" ;;\n"
        }
        var choices = ""
        for flag in nodes(root, []).flatMap({ $0.command.flags }) + globals where !flag.choices.isEmpty {
            let line =
                "        --\(flag.name)) COMPREPLY=($(compgen -W \"\(flag.choices.joined(separator: " "))\" -- \"$current\")); return ;;\n"
            if !choices.contains("--\(flag.name))") { choices += line }
        }
        return """
            _\(root.name)() {
                local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} path="" word words=""
                case "$previous" in
            \(choices)        *) ;;
                esac
                for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
                    case "$word" in -*) break ;; *) path="${path:+$path }$word" ;; esac
                done
                case "$path" in
            \(cases)        *) return ;;
                esac
                COMPREPLY=($(compgen -W "$words" -- "$current"))
            }
            complete -o default -F _\(root.name) \(root.name)

            """
    }

    private static func fish(_ root: Command, _ globals: [Flag]) -> String {
        func quoted(_ text: String) -> String {
            "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "\\'") + "'"
        }
        var out = ""
        for (path, command) in nodes(root, []) {
            let here =
                path.isEmpty
                ? "__fish_use_subcommand"
                : path.map { "__fish_seen_subcommand_from \($0)" }.joined(separator: "; and ")
            for child in command.children {
                let others = command.children.map(\.name).joined(separator: " ")
                let condition = path.isEmpty ? here : "\(here); and not __fish_seen_subcommand_from \(others)"
                out += "complete -c \(root.name) -f -n \(quoted(condition)) -a \(child.name) -d \(quoted(child.summary))\n"
            }
            guard command.children.isEmpty else { continue }
            for flag in command.flags {
                let values =
                    flag.placeholder == nil ? "" : flag.choices.isEmpty ? " -r" : " -x -a \(quoted(flag.choices.joined(separator: " ")))"
                out += "complete -c \(root.name) -n \(quoted(here)) -l \(flag.name)\(values) -d \(quoted(flag.help))\n"
            }
        }
        for flag in globals {
            out += "complete -c \(root.name) -l \(flag.name)\(flag.placeholder == nil ? "" : " -r") -d \(quoted(flag.help))\n"
        }
        return out
    }
}
