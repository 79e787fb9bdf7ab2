internal import ArgumentParsing
internal import Cryptography
internal import EventLoop
internal import HTTPDelivery
internal import JSON
internal import Kafka
internal import Martlet
internal import MartletWorker

/// `martlet doctor`
enum DoctorCommand {
    /// Hosts of registered endpoints that are looked up.
    private static let hostLimit = 5

    static let command: Command = Command(
        "doctor", "Checks brokers, topics, access rights, clock, egress and keys, and says what to do.",
        details:
            "Run it where workers run, with their settings. It only reads, unless --probe-writes is given. Exit code 0 if nothing is wrong (risks aside), 3 without brokers, 4 if topics are wrong, else 1.",
        flags: [
            Flag("probe-writes", "also writes a record to every topic, in transactions that are aborted, so that nobody sees it"),
            Flag("resolve", "HOST", "look these names up, instead of some endpoints' hosts", repeated: true),
            Flag("input-topics", "TOPICS", "topics to fan out beside the events topic", repeated: true),
            Flag("ca-bundle", "FILE", "certificates that receivers are checked against", default: "/etc/ssl/certs/ca-certificates.crt"),
            Settings.extraAuthorities, Settings.egressProxy,
            Settings.retryTiers, Settings.output,
        ] + Settings.urlRules + Settings.keys + Settings.connection,
        examples: [
            ("before the first worker, and at 3 a.m.", "martlet doctor -b localhost:9092"),
            ("access rights for writing, too", "martlet doctor -b localhost:9092 --probe-writes"),
        ]
    ) { arguments in
        let terminal = Terminal(arguments)
        let (kafka, topics) = (try Settings.kafka(arguments), try Settings.topics(arguments))
        let rules = try Settings.rules(arguments)
        var findings: [Finding] = []
        var isUnreachable = false
        var doctor = KafkaDoctor(kafka, topics, tiers: try Settings.tiers(arguments))
        do throws(KafkaError) {
            try doctor.examine(inputs: arguments.list("input-topics"), probeWrites: arguments.isOn("probe-writes"))
            findings += doctor.findings
        } catch {
            isUnreachable = error.isUnreachable
            findings += doctor.findings
            findings.append(
                Finding(
                    .wrong, "brokers", "\(error)", advice: "check --brokers, the network, and --kafka settings for TLS or SASL"))
        }
        findings.append(clock())
        if !isUnreachable {
            do {
                let rows = try EndpointCommands.store(arguments).load().values.sorted { $0.id < $1.id }
                findings += endpoints(rows, rules, try Settings.keyRing(arguments))
                if try Settings.egressProxy(arguments) != nil {
                    findings.append(Finding(.unchecked, "dns", "hosts: the egress proxy resolves them, and must refuse private addresses"))
                } else {
                    findings += egress(hosts(rows, rules, arguments), rules)
                }
            } catch {
                findings.append(
                    Finding(.wrong, "endpoints", "the registry can't be read: \(error)", advice: "see what is said of topics and access"))
            }
        }
        findings.append(authorities(arguments.text("ca-bundle") ?? ""))
        if let extra = try Settings.extraAuthorities(arguments) { findings.append(authorities(extra)) }
        print(findings, terminal, arguments)
        if isUnreachable { return 3 }
        let wrong = findings.filter { $0.level == .wrong }
        if wrong.contains(where: { $0.area == "topics" }) { return 4 }
        return wrong.isEmpty ? 0 : 1
    }

    private static func clock() -> Finding {
        let state = ClockDiscipline.state
        if state.isSynchronised { return Finding(.ok, "clock", "NTP keeps this machine's clock, within \(state.errorMilliseconds) ms") }
        return Finding(
            .risk, "clock", "nothing keeps this machine's clock, as far as its kernel knows",
            advice: "run NTP (chrony, systemd-timesyncd); receivers refuse signatures that are five minutes off")
    }

    private static func endpoints(_ rows: [RegistryStore.Row], _ rules: EndpointURL.Rules, _ keys: KeyRing) -> [Finding] {
        var findings: [Finding] = []
        for row in rows {
            guard let endpoint = row.endpoint else {
                findings.append(
                    Finding(
                        .wrong, "endpoints", "the record of '\(Terminal.safe(row.id))' can't be read: \(Terminal.safe(row.problem ?? ""))",
                        advice: "run the version that wrote it, or write it again"))
                continue
            }
            let opened: Endpoint
            do throws(Endpoint.Invalid) { opened = try endpoint.opened(keys) } catch {
                findings.append(
                    Finding(
                        .wrong, "keys", "'\(endpoint.id)': \(error.reason)",
                        advice: "a worker without this key parks the endpoint's deliveries"))
                continue
            }
            guard let refusal = PreparedEndpoint(opened, rules: rules).refusal else { continue }
            findings.append(
                Finding(
                    .wrong, "endpoints", "'\(endpoint.id)' can't be delivered to: \(refusal)",
                    advice: "see 'martlet endpoint update \(endpoint.id) --help'; are the worker's --allow-... flags given here, too?"))
        }
        if findings.isEmpty {
            findings.append(Finding(.ok, "endpoints", "\(rows.count) registered, all with an address and a signing secret"))
        }
        return findings
    }

    private static func hosts(_ rows: [RegistryStore.Row], _ rules: EndpointURL.Rules, _ arguments: Arguments) -> [String] {
        if !arguments.list("resolve").isEmpty { return arguments.list("resolve") }
        var hosts: [String] = []
        for row in rows where row.endpoint?.state == .enabled && hosts.count < hostLimit {
            guard let url = row.endpoint.flatMap({ try? EndpointURL($0.url, rules: rules) }), case .name(let name) = url.host else {
                continue
            }
            if !hosts.contains(name) { hosts.append(name) }
        }
        return hosts
    }

    private static func egress(_ hosts: [String], _ rules: EndpointURL.Rules) -> [Finding] {
        guard !hosts.isEmpty else {
            return [
                Finding(.unchecked, "dns", "no endpoint has a host name to look up", advice: "name one: --resolve hooks.example.com")
            ]
        }
        return Lookup.all(hosts).map { host, answer in
            switch answer {
            case .addresses(let addresses):
                let refused = addresses.filter { !rules.addresses.allows($0) }
                guard !refused.isEmpty else {
                    return Finding(.ok, "dns", "\(host) is \(addresses.prefix(4).map { "\($0)" }.joined(separator: ", "))")
                }
                return Finding(
                    .wrong, "dns", "\(host) is \(refused.map { "\($0)" }.joined(separator: ", ")), which the address policy refuses",
                    advice: "a private address needs --allow-network; else the name is wrong, or an attack")
            case .failed(let why):
                return Finding(
                    .wrong, "dns", "\(host) can't be resolved: \(why)",
                    advice: "does this machine's /etc/resolv.conf work, and does the name exist?")
            case nil: return Finding(.wrong, "dns", "\(host): no answer in time", advice: "does this machine's /etc/resolv.conf work?")
            }
        }
    }

    private static func authorities(_ path: String) -> Finding {
        guard let file = CertificateFile(path: path), file.certificates > 0 else {
            return Finding(
                .wrong, "tls", "\(path) has no certificates: every https receiver will be refused",
                advice: "install the package ca-certificates, or give --ca-bundle")
        }
        let expired = file.expired > 0 ? ", \(file.expired) of them expired" : ""
        return Finding(
            file.expired == file.certificates ? .wrong : .ok, "tls", "\(file.certificates) authorities are trusted\(expired) (\(path))",
            advice: file.expired == file.certificates ? "update the package ca-certificates" : nil)
    }

    private static func print(_ findings: [Finding], _ terminal: Terminal, _ arguments: Arguments) {
        if arguments.text("output") == "json" {
            return terminal.print(
                JSONValue.array(
                    findings.map {
                        .object([
                            .init("level", .string($0.level.rawValue)), .init("area", .string($0.area)), .init("text", .string($0.text)),
                            .init("advice", $0.advice.map { .string($0) } ?? .null),
                        ])
                    }
                ).prettyText)
        }
        let looks: [Finding.Level: (String, Terminal.Colour)] = [
            .ok: ("ok   ", .green), .unchecked: ("-    ", .grey), .risk: ("risk ", .yellow), .wrong: ("wrong", .red),
        ]
        for finding in findings {
            let (word, colour) = looks[finding.level] ?? ("", .grey)
            terminal.print(
                "\(terminal.paint(word, colour))  \(finding.area + String(repeating: " ", count: max(0, 10 - finding.area.count)))\(finding.text)"
            )
            if let advice = finding.advice { terminal.print(String(repeating: " ", count: 17) + terminal.paint("→ ", colour) + advice) }
        }
        let counts = [(Finding.Level.wrong, "wrong"), (.risk, "at risk")].map { level, word in
            "\(findings.count { $0.level == level }) \(word)"
        }
        terminal.note(counts.joined(separator: ", "))
    }
}

/// Looks names up as workers do.
private enum Lookup {
    static func all(_ hosts: [String]) -> [(String, Resolver.Answer?)] {
        let loop = EventLoop()
        let resolver = Resolver(loop, tokens: 0)
        let answers = Answers()
        for host in hosts { resolver.resolve(host, nowMicroseconds: SystemClock.monotonicMicroseconds()) { answers.of[host] = $0 } }
        let deadline = SystemClock.monotonicMilliseconds() + 2 * Int64(Resolver.lookupTimeoutMilliseconds)
        while answers.of.count < Set(hosts).count, SystemClock.monotonicMilliseconds() < deadline {
            loop.wait(milliseconds: 50) { resolver.handle($0, nowMicroseconds: SystemClock.monotonicMicroseconds()) }
            resolver.advance(nowMicroseconds: SystemClock.monotonicMicroseconds())
        }
        return hosts.map { ($0, answers.of[$0]) }
    }

    private final class Answers {
        var of: [String: Resolver.Answer] = [:]
    }
}
