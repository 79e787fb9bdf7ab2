internal import ArgumentParsing
internal import EventLoop
internal import JSON
internal import Martlet
internal import MartletWorker
internal import WebhookSigning
internal import YAML

/// `martlet apply`
enum ApplyCommand {
    static let command: Command = Command(
        "apply", "Makes the registry as a file says: creates, changes and, with --prune, removes endpoints.",
        details:
            "The file is YAML with a list under 'endpoints:', of the fields of an endpoint record; 'id' is required. Secrets that the file leaves out are kept, or made for a new endpoint. Applying twice changes nothing the second time.",
        flags: [
            Flag("file", short: "f", "FILE", "the endpoints; - is standard input"),
            Flag("dry-run", "shows the differences and writes nothing"),
            Flag("prune", "removes endpoints that the file doesn't name"),
        ] + Settings.urlRules + Settings.keys + Settings.connection,
        examples: [("see what would change", "martlet apply -f endpoints.yaml -b localhost:9092 --dry-run")]
    ) { arguments in
        let terminal = Terminal(arguments)
        let wanted = try read(try arguments.required("file"), arguments)
        let store = try EndpointCommands.store(arguments)
        let keys = try Settings.keyRing(arguments)
        var plan = Plan()
        if arguments.isOn("dry-run") {
            plan = try Plan(
                wanted, try store.load(), keys: keys, prune: arguments.isOn("prune"), nowMilliseconds: SystemClock.wallMilliseconds())
        } else {
            _ = try store.update { rows in
                plan = try Plan(wanted, rows, keys: keys, prune: arguments.isOn("prune"), nowMilliseconds: SystemClock.wallMilliseconds())
                return plan.writes
            }
        }
        for line in plan.lines {
            let colour: Terminal.Colour = line.hasPrefix("+") ? .green : line.hasPrefix("-") ? .red : line.hasPrefix("~") ? .yellow : .grey
            terminal.print(terminal.paint(line, colour))
        }
        let counts = "created \(plan.created), changed \(plan.changed), removed \(plan.removed), left \(plan.unchanged) as they were"
        terminal.note(arguments.isOn("dry-run") ? "dry run, nothing written; would have \(counts)" : counts)
        return 0
    }

    private static func read(_ file: String, _ arguments: Arguments) throws -> [(endpoint: Endpoint, hasSecrets: Bool)] {
        let document: JSONValue
        do { document = try YAMLDocument.parse(try Files.read(file)) } catch let error as YAMLDocument.ParseError {
            throw UsageError("\(file): \(error)")
        }
        if let other = document.members?.first(where: { $0.name != "endpoints" }) {
            throw UsageError("\(file): '\(other.name)' isn't known; expected 'endpoints:'")
        }
        guard let list = document["endpoints"]?.arrayValue else { throw UsageError("\(file): expected a list under 'endpoints:'") }
        let rules = try Settings.rules(arguments)
        var ids: Set<String> = []
        return try list.enumerated().map { index, element in
            do {
                let endpoint = try Endpoint(json: element)
                if let typo = endpoint.unknown.first(where: { $0.name != "metadata" }) {
                    throw Endpoint.Invalid(typo.name, "isn't a field of an endpoint")
                }
                for (field, known) in [("rate", ["n", "perMs", "burst"]), ("timeoutsMs", ["connect", "total"])] {
                    if let typo = element[field]?.members?.first(where: { !known.contains($0.name) }) {
                        throw Endpoint.Invalid("\(field).\(typo.name)", "isn't known")
                    }
                }
                try endpoint.validate(rules: rules)
                guard ids.insert(endpoint.id).inserted else { throw Endpoint.Invalid("id", "'\(endpoint.id)' stands twice") }
                return (endpoint, !endpoint.secrets.isEmpty)
            } catch let error as Endpoint.Invalid {
                throw UsageError("\(file): endpoint \(element["id"]?.stringValue.map { "'\($0)'" } ?? "number \(index + 1)"): \(error)")
            }
        }
    }

    /// The differences between file and registry.
    struct Plan {
        var writes: [RegistryStore.Write] = []
        var lines: [String] = []
        var created = 0
        var changed = 0
        var removed = 0
        var unchanged = 0

        init() {}

        init(
            _ wanted: [(endpoint: Endpoint, hasSecrets: Bool)], _ rows: [String: RegistryStore.Row], keys: KeyRing, prune: Bool,
            nowMilliseconds now: Int64
        ) throws {
            for (given, hasSecrets) in wanted {
                var endpoint = given
                endpoint.updatedMilliseconds = now
                if let row = rows[endpoint.id], row.endpoint == nil {
                    throw CommandFailure(5, "the record of '\(row.id)' can't be read (\(row.problem ?? "")); this version would destroy it")
                }
                guard var old = rows[endpoint.id]?.endpoint else {
                    endpoint.createdMilliseconds = now
                    endpoint.version = 1
                    if !hasSecrets { endpoint.secrets = [.init(id: "s\(now)-1", createdMilliseconds: now, plain: Secret.generate())] }
                    created += 1
                    lines.append("+ \(endpoint.id)  \(endpoint.tenant)  \(EndpointCommands.redacted(endpoint.url))")
                    writes.append(.put(endpoint))
                    continue
                }
                // What a file gives is compared with what is sealed: that needs the keys.
                if hasSecrets || !endpoint.headers.isEmpty || endpoint.auth != nil || endpoint.tenant != old.tenant {
                    old = try old.opened(keys)
                }
                let sameSecrets =
                    !hasSecrets
                    || old.secrets.map { [$0.text.plain, "\($0.expiresMilliseconds ?? 0)"] }
                        == endpoint.secrets.map { [$0.text.plain, "\($0.expiresMilliseconds ?? 0)"] }
                if sameSecrets { endpoint.secrets = old.secrets }
                (endpoint.createdMilliseconds, endpoint.version, endpoint.unknown) = (
                    old.createdMilliseconds, old.version + 1, Self.merged(old.unknown, endpoint.unknown)
                )
                let differences = endpoint.differences(from: old) + (sameSecrets ? [] : ["secrets: changed"])
                guard !differences.isEmpty else {
                    unchanged += 1
                    continue
                }
                changed += 1
                lines += ["~ \(endpoint.id)"] + differences.map { "    " + $0 }
                writes.append(.put(endpoint))
            }
            guard prune else { return }
            let named = Set(wanted.map(\.endpoint.id))
            for id in rows.keys.sorted() where !named.contains(id) && rows[id]?.endpoint != nil {
                removed += 1
                lines.append("- \(id)")
                writes.append(.delete(id: id))
            }
        }

        /// What a newer version wrote stays; what the file says wins.
        private static func merged(_ old: [JSONValue.Member], _ new: [JSONValue.Member]) -> [JSONValue.Member] {
            old.filter { member in !new.contains { $0.name == member.name } } + new
        }
    }
}
