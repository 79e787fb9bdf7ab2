internal import ArgumentParsing
internal import JSON
internal import Martlet
internal import MartletWorker

/// `martlet secrets ...`
enum SecretsCommands {
    private static let dryRun = Flag("dry-run", "counts what it would do, and writes nothing")

    static let command: Command = Command(
        "secrets", "Keys that seal endpoints' secrets in the registry.", children: [generateKey, status, rewrap])

    private static let generateKey: Command = Command(
        "generate-key", "Prints a line for a key file: a new key of 32 random bytes.",
        flags: [Flag("id", "ID", "the key's id; it stands beside whatever it seals", default: "k1")],
        examples: [("the first key", "martlet secrets generate-key --id k2026 > martlet.keys")]
    ) { arguments in
        let id = arguments.text("id") ?? "k1"
        guard Identifiers.isName(id) else { throw arguments.bad("id", id, "1 to 64 of A-Z a-z 0-9 _ -") }
        Terminal(arguments).print(KeyRing.newLine(id: id))
        return 0
    }

    private static let status: Command = Command(
        "status", "Counts endpoints by the keys that their secrets are sealed with.",
        flags: [Settings.output] + Settings.keys + Settings.connection,
        examples: [("may the old key go?", "martlet secrets status -b localhost:9092 --key-file martlet.keys")]
    ) { arguments in
        let keys = try Settings.keyRing(arguments)
        let counts = Counts(try EndpointCommands.store(arguments).load(), keys)
        counts.print(Terminal(arguments), arguments, keys)
        return counts.missing.isEmpty ? 0 : 1
    }

    private static let rewrap: Command = Command(
        "rewrap", "Seals all secrets with the first key: those in plain, and those that other keys have sealed.",
        details:
            "Give the new key as the first and the old ones behind it, to all workers before to this command; then the old ones may go.",
        flags: [dryRun, Settings.output] + Settings.keys + Settings.connection,
        examples: [("move to a new key", "martlet secrets rewrap -b localhost:9092 --key-file martlet.keys")]
    ) { arguments in
        let keys = try Settings.keyRing(arguments)
        guard let first = keys.ids.first else {
            throw UsageError("no key is given", hint: "'martlet secrets generate-key > FILE', then --key-file FILE")
        }
        let terminal = Terminal(arguments)
        func changes(_ rows: [String: RegistryStore.Row]) throws -> [Endpoint] {
            try rows.values.sorted { $0.id < $1.id }.compactMap { row in
                guard let endpoint = row.endpoint, endpoint.hasPlainSecrets || !endpoint.keyIDs.subtracting([first]).isEmpty else {
                    return nil
                }
                // Not an edit: the version stays, and with it what was judged of it.
                do throws(Endpoint.Invalid) { return try endpoint.opened(keys) } catch {
                    throw CommandFailure(1, "'\(row.id)': \(error)\n  nothing was written")
                }
            }
        }
        let store = try EndpointCommands.store(arguments)
        var count = 0
        if arguments.isOn("dry-run") {
            count = try changes(try store.load()).count
        } else {
            count = try store.update { rows in try changes(rows).map { .put($0) } }.count
        }
        let verb = arguments.isOn("dry-run") ? "would seal" : "sealed"
        if arguments.text("output") == "json" {
            terminal.print(JSONValue.object([.init("sealed", .integer(count)), .init("kek", .string(first))]).prettyText)
        } else {
            terminal.print("\(verb) the secrets of \(Terminal.count(count, "endpoint")) with the key '\(first)'")
        }
        return 0
    }

    private struct Counts {
        /// Endpoints by key; those with anything in plain under nil.
        var byKey: [String?: Int] = [:]
        var unreadable = 0
        /// Keys that are in use and not given.
        var missing: [String] = []

        init(_ rows: [String: RegistryStore.Row], _ keys: KeyRing) {
            for row in rows.values {
                guard let endpoint = row.endpoint else {
                    unreadable += 1
                    continue
                }
                for key in endpoint.keyIDs { byKey[key, default: 0] += 1 }
                if endpoint.hasPlainSecrets { byKey[nil, default: 0] += 1 }
            }
            missing = byKey.keys.compactMap(\.self).filter { !keys.ids.contains($0) }.sorted()
        }

        func print(_ terminal: Terminal, _ arguments: Arguments, _ keys: KeyRing) {
            let names = (keys.ids + missing).map { Optional($0) } + [nil]
            if arguments.text("output") == "json" {
                return terminal.print(
                    JSONValue.array(
                        names.map {
                            .object([
                                .init("kek", $0.map { .string($0) } ?? .null), .init("endpoints", .integer(byKey[$0] ?? 0)),
                                .init("isGiven", .bool($0.map { keys.ids.contains($0) } ?? true)),
                            ])
                        }
                    ).prettyText)
            }
            let rows = names.map { name in
                [
                    name ?? "in plain", String(byKey[name] ?? 0),
                    name.map { $0 == keys.ids.first ? "seals" : keys.ids.contains($0) ? "opens" : "not given here" } ?? "",
                ]
            }
            terminal.print(terminal.table(["KEY", "ENDPOINTS", "USE"], rows, numeric: [1]))
            if unreadable > 0 { terminal.note("\(Terminal.count(unreadable, "record")) can't be read by this version") }
        }
    }
}
