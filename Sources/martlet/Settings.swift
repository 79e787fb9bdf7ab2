internal import ArgumentParsing
internal import Cryptography
internal import Glibc
internal import HTTPDelivery
internal import JSON
internal import Kafka
internal import Logging
internal import Martlet

/// Flags that several commands share, and what they mean.
enum Settings {
    static let globals: [Flag] = [
        Flag("config", short: "c", "FILE", "YAML file with settings, named like the flags"),
        Flag("log-level", "LEVEL", "least severe log line that is written", default: "info", choices: LogLevel.allCases.map(\.name)),
        Flag("log-format", "FORMAT", "text for people, json for machines", default: "text", choices: LogFormat.allCases.map(\.rawValue)),
        Flag("color", "WHEN", "colour in the output", default: "auto", choices: ["auto", "always", "never"]),
    ]

    static let connection: [Flag] = [
        Flag("brokers", short: "b", "HOST:PORT", "Kafka bootstrap servers", repeated: true),
        Flag(
            "kafka", "NAME=VALUE", "any librdkafka property, such as security.protocol=SASL_SSL; also MARTLET_KAFKA_SECURITY_PROTOCOL",
            repeated: true, isCommaSeparated: false, secret: true),
        Flag("topic-prefix", "TEXT", "start of every topic's name", default: "martlet."),
    ]

    /// What opens and seals secrets.
    static let keys: [Flag] = [
        Flag("key-file", "FILE", "keys of sealed secrets, a line 'ID:KEY' each (32 bytes in base64); the first one seals"),
        Flag(
            "secret-keys", "ID:KEY", "the same without a file, for MARTLET_SECRET_KEYS; before those of the file", repeated: true,
            secret: true),
    ]

    static func keyRing(_ arguments: Arguments) throws -> KeyRing {
        var lines = arguments.list("secret-keys")
        let place = lines.isEmpty ? "--key-file" : "--secret-keys, --key-file"
        if let path = arguments.text("key-file") {
            lines += try Files.read(path).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        }
        do { return try KeyRing(lines: lines) } catch {
            throw UsageError("\(place): \(error)", hint: "'martlet secrets generate-key' makes one")
        }
    }

    static let urlRules: [Flag] = [
        Flag("allow-http", "endpoints may use plain http (development)"),
        Flag("allow-network", "CIDR", "opens an otherwise refused network, by its literal addresses", repeated: true),
        Flag("refuse-network", "CIDR", "refuses a network beside the built-in ones", repeated: true),
    ]

    static let extraAuthorities = Flag("ca-file", "FILE", "PEM file with certificates that are trusted besides those of --ca-bundle")
    static let egressProxy = Flag(
        "egress-proxy", "URL",
        "all requests go through it: http://HOST:PORT (CONNECT) or socks5://HOST:PORT; then the proxy must enforce which addresses may be reached",
        secret: true)

    static let transport = Flag(
        "transport", "KIND",
        "how requests are sent, for endpoints that don't say: direct, or curl (libcurl); through an egress proxy it is always curl",
        default: TransportKind.direct.rawValue, choices: TransportKind.allCases.map(\.rawValue))

    static func extraAuthorities(_ arguments: Arguments) throws -> String? {
        guard let path = arguments.text("ca-file") else { return nil }
        guard let file = CertificateFile(path: path), file.certificates > 0 else {
            throw UsageError("--ca-file: \(path) can't be read, or has no certificates in PEM")
        }
        return path
    }

    static func egressProxy(_ arguments: Arguments) throws -> EgressProxy? {
        guard let text = arguments.text("egress-proxy") else { return nil }
        // It may hold a password: not shown.
        do { return try EgressProxy(text) } catch { throw UsageError("--egress-proxy: \(error)") }
    }

    static let output = Flag(
        "output", short: "o", "FORMAT", "table for people, json for scripts", default: "table", choices: ["table", "json"])
    static let listOutput = Flag(
        "output", short: "o", "FORMAT", "table for people; json, or jsonl with one object per line, for scripts", default: "table",
        choices: ["table", "json", "jsonl"])

    static let retryTiers = Flag(
        "retry-tiers", "DELAYS", "delays of the retry topics, one topic each",
        default: RetryTier.defaults.map(\.name).joined(separator: ","), repeated: true)

    static func logger(_ arguments: Arguments) -> Logger {
        let coloured =
            arguments.text("color") == "always"
            || (arguments.text("color") == "auto" && Terminal.errorIsTerminal && getenv("NO_COLOR") == nil)
        return Logger(
            level: LogLevel(name: arguments.text("log-level") ?? "") ?? .info,
            format: LogFormat(rawValue: arguments.text("log-format") ?? "") ?? .text,
            coloured: coloured)
    }

    static func kafka(_ arguments: Arguments, brokers: String? = nil) throws -> KafkaSettings {
        var settings = KafkaSettings(brokers: try brokers ?? Self.brokers(arguments))
        for setting in arguments.list("kafka") {
            let parts = setting.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty else {
                throw UsageError(
                    "--kafka: expected NAME=VALUE, found '\(parts[0].prefix(64))'", hint: "for example --kafka security.protocol=SASL_SSL")
            }
            settings.properties.removeAll { $0.name == parts[0] }
            settings.properties.append((String(parts[0]), String(parts[1])))
        }
        let log = logger(arguments).with("part", "librdkafka")
        settings.log = { level, text in
            if level <= 3 { log.warning(text) } else { log.debug(text) }
        }
        try settings.validate()
        return settings
    }

    private static func brokers(_ arguments: Arguments) throws -> String {
        let list = arguments.list("brokers")
        guard !list.isEmpty else { _ = try arguments.required("brokers"); return "" }
        for broker in list {
            let port = broker.split(separator: ":").last.flatMap { UInt16($0) }
            guard broker.contains(":"), port != nil else { throw arguments.bad("brokers", broker, "HOST:PORT") }
        }
        return list.joined(separator: ",")
    }

    static func topics(_ arguments: Arguments) throws -> Topics {
        let prefix = arguments.text("topic-prefix") ?? "martlet."
        guard prefix.utf8.count <= 100,
            prefix.utf8.allSatisfy({ $0 &- 97 < 26 || $0 &- 65 < 26 || $0 &- 48 < 10 || [45, 46, 95].contains($0) })
        else {
            throw arguments.bad("topic-prefix", prefix, "a start of topic names: A-Z a-z 0-9 . _ -")
        }
        return Topics(prefix: prefix)
    }

    static func rules(_ arguments: Arguments) throws -> EndpointURL.Rules {
        func networks(_ name: String) throws -> [Network] {
            try arguments.list(name).map { text in
                guard let network = Network(text) else { throw arguments.bad(name, text, "a network such as 10.0.0.0/8 or fd00::/8") }
                return network
            }
        }
        return EndpointURL.Rules(
            allowHTTP: arguments.isOn("allow-http"),
            addresses: AddressPolicy(
                allowed: try networks("allow-network"), refused: try networks("refuse-network"), own: IPAddress.ofThisHost()))
    }

    static func tiers(_ arguments: Arguments) throws -> [RetryTier] {
        let tiers = try arguments.list("retry-tiers").map { name in
            guard let tier = RetryTier(name: name) else { throw arguments.bad("retry-tiers", name, "a delay such as 500ms, 30s, 5m or 8h") }
            return tier
        }
        guard !tiers.isEmpty, Set(tiers.map(\.delayMilliseconds)).count == tiers.count else {
            throw UsageError("--retry-tiers: give at least one delay, each once")
        }
        return tiers.sorted()
    }
}
