internal import ArgumentParsing
internal import EventLoop
internal import HTTPDelivery
internal import JSON
internal import Martlet
internal import MartletWorker
internal import WebhookSigning

/// `martlet endpoint ...`
enum EndpointCommands {
    private static let dryRun = Flag("dry-run", "checks everything and writes nothing; needs no broker")
    private static let expectVersion = Flag("expect-version", "N", "refuse (exit 5) unless the endpoint has this version")
    private static let reveal = Flag("reveal-secret", "print secrets and header values")
    private static let replayFlags = [
        Flag("no-replay", "leaves what was parked on the dead-letter topic"),
        Flag("settle", "DURATION", "replays until for so long nothing more was parked", default: "30s"),
    ]
    private static let id = Positional("ID", "the endpoint's id")

    static let command: Command = Command(
        "endpoint", "Registers and manages the endpoints that receive deliveries.",
        children: [
            create, list, show, update, state("enable", .enabled), state("disable", .disabled), state("pause", .paused),
            rotateSecret, EndpointTestCommand.command, EndpointHealthCommand.command, delete,
        ])

    private static let create: Command = Command(
        "create", "Registers an endpoint and prints it, its secret included this once.",
        flags: [Flag("id", "ID", "chosen id; made when none is given")] + EndpointFlags.flags + [dryRun, Settings.output]
            + Settings.urlRules + Settings.keys + Settings.connection,
        examples: [
            (
                "an endpoint for all order events of a tenant",
                "martlet endpoint create -b localhost:9092 --tenant acme --url https://acme.example.com/hooks --types 'order.*'"
            ),
            ("check a definition without a broker", "martlet endpoint create --url https://acme.example.com/hooks --rate 100/s --dry-run"),
        ]
    ) { arguments in
        let now = SystemClock.wallMilliseconds()
        var endpoint = Endpoint(id: arguments.text("id") ?? Identifiers.newEndpoint(), url: try arguments.required("url"))
        guard Identifiers.isName(endpoint.id) else { throw arguments.bad("id", endpoint.id, "1 to 64 of A-Z a-z 0-9 _ -") }
        try EndpointFlags.apply(arguments, to: &endpoint, nowMilliseconds: now)
        if endpoint.secrets.isEmpty { endpoint.secrets = [.init(id: "s\(now)-1", createdMilliseconds: now, plain: Secret.generate())] }
        (endpoint.createdMilliseconds, endpoint.updatedMilliseconds) = (now, now)
        try validate(endpoint, arguments)
        if !arguments.isOn("dry-run") {
            let made = endpoint
            _ = try store(arguments).update { rows in
                guard rows[made.id] == nil else {
                    throw CommandFailure(
                        5, "the endpoint '\(made.id)' exists already\n  change it with 'martlet endpoint update \(made.id)'")
                }
                return [.put(made)]
            }
        }
        print(endpoint, arguments, reveal: true)
        return 0
    }

    private static let list: Command = Command(
        "list", "Lists endpoints.",
        flags: [Flag("tenant", "NAME", "only this tenant's"), Settings.listOutput] + Settings.keys + Settings.connection,
        examples: [("the endpoints of one tenant", "martlet endpoint list -b localhost:9092 --tenant acme")]
    ) { arguments in
        let terminal = Terminal(arguments)
        let rows = try store(arguments).load().values.sorted { $0.id < $1.id }
            .filter { row in arguments.text("tenant").map { row.endpoint?.tenant == $0 } ?? true }
        switch arguments.text("output") {
        case "json": terminal.print(JSONValue.array(rows.map(json)).prettyText)
        case "jsonl": for row in rows { terminal.print(json(row).text) }
        default:
            let cells = rows.map { row -> [String] in
                guard let endpoint = row.endpoint else { return [row.id, "?", "unreadable", "?", "", Terminal.safe(row.problem ?? "")] }
                let types = endpoint.types.map(\.description).joined(separator: ",")
                return [
                    row.id, endpoint.tenant, endpoint.state.rawValue, String(endpoint.version),
                    types.count > 30 ? types.prefix(29) + "…" : types, redacted(endpoint.url),
                ]
            }
            terminal.print(terminal.table(["ID", "TENANT", "STATE", "VERSION", "TYPES", "URL"], cells))
        }
        return 0
    }

    private static let show: Command = Command(
        "show", "Shows one endpoint.", flags: [reveal, Settings.output] + Settings.keys + Settings.connection, positionals: [id],
        examples: [("as JSON", "martlet endpoint show ep_test -b localhost:9092 -o json")]
    ) { arguments in
        let wanted = arguments.positionals[0]
        guard let row = try store(arguments).load()[wanted] else { throw notFound(wanted) }
        guard var endpoint = row.endpoint else { throw CommandFailure(1, "the record of '\(wanted)' can't be read: \(row.problem ?? "")") }
        if arguments.isOn("reveal-secret") { endpoint = try endpoint.opened(try Settings.keyRing(arguments)) }
        print(endpoint, arguments, reveal: arguments.isOn("reveal-secret"))
        return 0
    }

    private static let update: Command = Command(
        "update", "Changes what is given and leaves the rest.",
        flags: EndpointFlags.changes + [expectVersion, dryRun, Settings.output] + Settings.urlRules + Settings.keys + Settings.connection,
        positionals: [id],
        examples: [
            ("a new address", "martlet endpoint update ep_test -b localhost:9092 --url https://new.example.com/hooks"),
            ("no rate limit any more", "martlet endpoint update ep_test -b localhost:9092 --rate none"),
        ]
    ) { arguments in
        // Without a broker only the given values can be checked.
        if arguments.isOn("dry-run") {
            guard Identifiers.isName(arguments.positionals[0]) else {
                throw UsageError("'\(arguments.positionals[0])' isn't an endpoint id")
            }
            var endpoint = Endpoint(id: arguments.positionals[0], url: arguments.text("url") ?? "https://unchanged.martlet.dev/")
            // Whether it has a rate is unknown here.
            endpoint.rate = RateLimit(n: 1, perMilliseconds: 1_000)
            try EndpointFlags.apply(arguments, to: &endpoint, nowMilliseconds: 0)
            try validate(endpoint, arguments)
            Terminal(arguments).note("the changes are valid; nothing was written")
            return 0
        }
        let changed = try change(arguments) { endpoint, now in
            try EndpointFlags.apply(arguments, to: &endpoint, nowMilliseconds: now)
            try validate(endpoint, arguments)
        }
        print(changed, arguments, reveal: false)
        return 0
    }

    private static func state(_ name: String, _ state: Endpoint.State) -> Command {
        let summaries = [
            "enable": "Lets deliveries flow again, also after an automatic disabling, and replays what was parked.",
            "disable": "Ends deliveries: they are parked on the dead-letter topic.",
            "pause": "Holds deliveries back for a while: they are parked on the dead-letter topic.",
        ]
        return Command(
            name, summaries[name] ?? "",
            flags: [Flag("reason", "TEXT", "why; kept in the record"), expectVersion, dryRun, Settings.output]
                + (state == .enabled ? replayFlags : []) + Settings.keys + Settings.connection,
            positionals: [id], examples: [("with a reason", "martlet endpoint \(name) ep_test -b localhost:9092 --reason 'ticket 4711'")]
        ) { arguments in
            if arguments.isOn("dry-run") {
                guard Identifiers.isName(arguments.positionals[0]) else {
                    throw UsageError("'\(arguments.positionals[0])' isn't an endpoint id")
                }
                Terminal(arguments).note("would \(name) '\(arguments.positionals[0])'; nothing was written")
                return 0
            }
            // Always a new version: it cancels what was judged of an older one.
            let changed = try change(arguments) { endpoint, _ in
                endpoint.state = state
                endpoint.reason = arguments.text("reason")
            }
            print(changed, arguments, reveal: false)
            if state == .enabled, !arguments.isOn("no-replay") {
                try DeadLetterCommands.replayParked(
                    changed.id, settleMilliseconds: try arguments.milliseconds("settle") ?? 30_000, arguments)
            }
            return 0
        }
    }

    private static let rotateSecret: Command = Command(
        "rotate-secret", "Makes a new signing secret, and prints it this once; the old one signs beside it for a while.",
        flags: [
            Flag("grace", "DURATION", "how long the old secret goes on signing, 0s to 7d", default: "24h"),
            Flag("secret", "SECRET", "the new secret (whsec_... or whsk_...); made when none is given", secret: true), expectVersion,
            Settings.output,
        ] + Settings.urlRules + Settings.keys + Settings.connection,
        positionals: [id],
        examples: [
            ("receivers take the new one within a day", "martlet endpoint rotate-secret ep_test -b localhost:9092"),
            ("the old one is known to others", "martlet endpoint rotate-secret ep_test -b localhost:9092 --grace 0s"),
        ]
    ) { arguments in
        let grace = try arguments.milliseconds("grace") ?? 86_400_000
        guard (0...Endpoint.graceLimitMilliseconds).contains(grace) else {
            throw arguments.bad("grace", arguments.text("grace") ?? "", "a duration from 0s to 7d")
        }
        let given = arguments.text("secret")
        let changed = try change(arguments) { endpoint, now in
            let new = Endpoint.StoredSecret(id: "s\(now)-1", createdMilliseconds: now, plain: given ?? Secret.generate())
            endpoint.rotateSecret(to: new, graceMilliseconds: grace, nowMilliseconds: now)
            try validate(endpoint, arguments)
        }
        print(changed, arguments, reveal: false, only: changed.secrets.first?.id)
        if !changed.signature.takesSeveralSecrets {
            Terminal(arguments).note(
                "the scheme '\(changed.signature)' has room for one secret: from now on the new one signs alone, whatever --grace says")
        }
        return 0
    }

    private static let delete: Command = Command(
        "delete", "Removes an endpoint; what is still under way to it goes to the dead-letter topic.",
        flags: [expectVersion, dryRun] + Settings.keys + Settings.connection, positionals: [id],
        examples: [("remove it", "martlet endpoint delete ep_test -b localhost:9092")]
    ) { arguments in
        let wanted = arguments.positionals[0]
        guard Identifiers.isName(wanted) else { throw UsageError("'\(wanted)' isn't an endpoint id") }
        if !arguments.isOn("dry-run") {
            _ = try store(arguments).update { rows in
                guard let row = rows[wanted] else { throw notFound(wanted) }
                try checkVersion(row.endpoint?.version, arguments)
                return [.delete(id: wanted)]
            }
        }
        Terminal(arguments).note(arguments.isOn("dry-run") ? "would delete '\(wanted)'; nothing was written" : "deleted '\(wanted)'")
        return 0
    }

    // MARK: shared

    static func store(_ arguments: Arguments) throws -> RegistryStore {
        RegistryStore(try Settings.kafka(arguments), try Settings.topics(arguments), keys: try Settings.keyRing(arguments))
    }

    static func notFound(_ id: String) -> CommandFailure {
        CommandFailure(5, "no endpoint '\(id)'\n  'martlet endpoint list' shows all")
    }

    private static func validate(_ endpoint: Endpoint, _ arguments: Arguments) throws {
        do { try endpoint.validate(rules: try Settings.rules(arguments)) } catch let error as Endpoint.Invalid {
            throw UsageError("\(error)")
        }
    }

    private static func checkVersion(_ version: Int?, _ arguments: Arguments) throws {
        guard let expected = try arguments.integer("expect-version", in: 1...Int.max), expected != version else { return }
        throw CommandFailure(5, "version conflict: expected \(expected), found \(version.map { String($0) } ?? "an unreadable record")")
    }

    private static func change(_ arguments: Arguments, _ body: (inout Endpoint, Int64) throws -> Void) throws -> Endpoint {
        let wanted = arguments.positionals[0]
        var changed: Endpoint?
        _ = try store(arguments).update { rows in
            guard let row = rows[wanted] else { throw notFound(wanted) }
            guard var endpoint = row.endpoint else {
                throw CommandFailure(1, "the record of '\(wanted)' can't be read: \(row.problem ?? "")")
            }
            try checkVersion(endpoint.version, arguments)
            // With the keys at hand they are sealed anew; without, what is sealed stays as it is.
            let keys = try Settings.keyRing(arguments)
            if !keys.isEmpty { endpoint = try endpoint.opened(keys) }
            let tenant = endpoint.tenant
            let now = SystemClock.wallMilliseconds()
            try body(&endpoint, now)
            guard endpoint.tenant == tenant || endpoint.keyIDs.isEmpty else {
                throw UsageError(
                    "'\(wanted)' has secrets that are sealed for the tenant '\(tenant)'", hint: "give --key-file or --secret-keys")
            }
            endpoint.version += 1
            endpoint.updatedMilliseconds = now
            changed = endpoint
            return [.put(endpoint)]
        }
        guard let changed else { throw notFound(wanted) }
        return changed
    }

    static func redacted(_ url: String) -> String { String(Terminal.safe(url).prefix { $0 != "?" }) }

    private static func json(_ row: RegistryStore.Row) -> JSONValue {
        row.endpoint?.shown()
            ?? .object([.init("id", .string(row.id)), .init("unreadable", .string(row.problem ?? ""))])
    }

    private static func print(_ endpoint: Endpoint, _ arguments: Arguments, reveal: Bool, only: String? = nil) {
        let terminal = Terminal(arguments)
        let json = reveal ? endpoint.json(revealSecrets: true) : endpoint.shown(only: only)
        if arguments.text("output") == "json" { return terminal.print(json.prettyText) }
        for member in json.members ?? [] where member.name != "v" {
            let text: String
            switch member.value {
            case .array(let list):
                text = list.map {
                    $0.stringValue ?? $0["plain"]?.stringValue ?? $0["sealed"]?["kek"]?.stringValue.map { "sealed with \($0)" } ?? $0.text
                }.joined(separator: ", ")
            case .string(let value): text = value
            case .object(let members) where member.name == "auth":
                text = members.map { $0.value.stringValue ?? "***" }.joined(separator: " ")
            default: text = member.value.text
            }
            terminal.print(
                terminal.paint(member.name + String(repeating: " ", count: max(1, 16 - member.name.count)), .grey) + Terminal.safe(text))
        }
    }
}
