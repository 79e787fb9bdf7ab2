internal import ArgumentParsing
internal import EventLoop
internal import HTTPDelivery
internal import JSON
internal import Martlet
internal import MartletWorker
internal import WebhookSigning

/// `martlet endpoint test`
enum EndpointTestCommand {
    static let eventType = "martlet.test"

    static let command: Command = Command(
        "test", "Sends a signed test event at once, and shows request, response and timing.",
        details:
            "The request goes from this machine, past queues, breakers and limits, and leaves no trace on any topic. Exit code 0 for a 2xx answer, else 1.",
        flags: [
            Flag("type", "TYPE", "event type of the test event", default: eventType),
            Flag("data", "JSON|@FILE|-", "data of the test event; a sentence unless given"),
            Flag("ca-bundle", "FILE", "certificates that the receiver is checked against", default: "/etc/ssl/certs/ca-certificates.crt"),
            Settings.extraAuthorities, Settings.egressProxy, Settings.transport,
            Flag("reveal-secret", "print the values of the endpoint's own headers, and of a static secret header"), Settings.output,
        ] + Settings.urlRules + Settings.keys + Settings.connection,
        positionals: [Positional("ID", "the endpoint's id")],
        examples: [("does it answer?", "martlet endpoint test ep_test -b localhost:9092")]
    ) { arguments in
        let wanted = arguments.positionals[0]
        let rules = try Settings.rules(arguments)
        guard let row = try EndpointCommands.store(arguments).load()[wanted] else { throw EndpointCommands.notFound(wanted) }
        guard var endpoint = row.endpoint else { throw CommandFailure(1, "the record of '\(wanted)' can't be read: \(row.problem ?? "")") }
        endpoint = try endpoint.opened(try Settings.keyRing(arguments))
        let prepared = PreparedEndpoint(endpoint, rules: rules)
        var transport = TransportConfiguration(addresses: rules.addresses)
        transport.caBundlePath = arguments.text("ca-bundle") ?? transport.caBundlePath
        transport.extraAuthoritiesPath = try Settings.extraAuthorities(arguments)
        transport.transport = arguments.text("transport").flatMap(TransportKind.init) ?? transport.transport
        transport.proxy = try Settings.egressProxy(arguments)
        let event = try event(endpoint, arguments)
        guard let exchange = EndpointTrial(prepared, transport).send(event) else {
            throw CommandFailure(1, "'\(wanted)' can't be sent to: \(prepared.refusal ?? "")")
        }
        ExchangePage(endpoint, prepared.redactedURL, exchange).print(Terminal(arguments), arguments)
        return 200..<300 ~= exchange.result.status ?? 0 && exchange.result.error == nil ? 0 : 1
    }

    private static func event(_ endpoint: Endpoint, _ arguments: Arguments) throws -> Event {
        let data: [UInt8]
        switch arguments.text("data") {
        case nil:
            let text = JSONValue.object([
                .init("endpointId", .string(endpoint.id)), .init("message", .string("This is a test. No action is needed.")),
            ])
            data = Array(text.text.utf8)
        case let given? where given == "-" || given.hasPrefix("@"):
            data = try Files.readBytes(given == "-" ? "-" : String(given.dropFirst()))
        case let given?: data = Array(given.utf8)
        }
        let event = Event(
            id: Identifiers.newEventID(), source: "/martlet", type: try arguments.required("type"), tenant: endpoint.tenant,
            contentType: "application/json", data: data)
        do { try event.validate() } catch { throw UsageError("the test event: \(error)") }
        return event
    }
}

/// What was sent, what came, and what it means.
private struct ExchangePage {
    private let endpoint: Endpoint
    private let url: String
    private let exchange: EndpointTrial.Exchange
    private var result: HTTPResult { exchange.result }

    init(_ endpoint: Endpoint, _ url: String, _ exchange: EndpointTrial.Exchange) {
        (self.endpoint, self.url, self.exchange) = (endpoint, url, exchange)
    }

    private func headers(_ arguments: Arguments) -> [(name: String, value: String)] {
        let own = exchange.headers.count - exchange.ownHeaders
        return exchange.headers.enumerated().map { index, header in
            // A static header is the secret itself.
            let isSecret = index >= own || endpoint.signature.isTheSecret && header.name == endpoint.signature.headerName
            return (header.name, isSecret && !arguments.isOn("reveal-secret") ? "***" : header.value)
        }
    }

    func print(_ terminal: Terminal, _ arguments: Arguments) {
        if arguments.text("output") == "json" { return terminal.print(json(arguments).prettyText) }
        func block(_ text: String) -> String {
            text.split(separator: "\n", omittingEmptySubsequences: false).map { "  " + Terminal.safe(String($0)) }.joined(separator: "\n")
        }
        if endpoint.state != .enabled { terminal.note("'\(endpoint.id)' is \(endpoint.state.rawValue); it is tested all the same") }
        terminal.print(terminal.paint("POST \(url)", .bold))
        let headers = headers(arguments)
        let width = headers.map(\.name.count).max() ?? 0
        for header in headers {
            terminal.print(
                "  " + terminal.paint(header.name, .grey) + String(repeating: " ", count: width + 2 - header.name.count)
                    + Terminal.safe(header.value))
        }
        terminal.print(
            "\n" + block((try? JSONValue.parse(exchange.body))?.prettyText ?? String(decoding: exchange.body, as: UTF8.self)) + "\n")
        let isGood = 200..<300 ~= result.status ?? 0 && result.error == nil
        terminal.print(terminal.paint(headline, isGood ? .green : .red) + "  " + terminal.paint(timing, .grey))
        if !result.excerpt.isEmpty { terminal.print(block(String(decoding: result.excerpt, as: UTF8.self))) }
        terminal.print("\n" + meaning)
        terminal.print(
            """

            A receiver should
              - check \(check)
              - answer 2xx and do nothing for a webhook-id that it has seen: deliveries may be repeated
              - answer within \(Quantity.text(milliseconds: endpoint.timeouts.totalMilliseconds)), and do slow work afterwards
            """)
    }

    /// By the endpoint's scheme.
    private var check: String {
        let name = endpoint.signature.headerName
        let fresh = "\n  - refuse a timestamp more than five minutes from its clock"
        switch endpoint.signature {
        case .standard:
            return "\(name): HMAC-SHA256 (v1) or ed25519 (v1a) of \"{webhook-id}.{webhook-timestamp}.{body}\", over the bytes as they came"
                + fresh
        case .github: return "\(name): sha256= and the hexadecimal HMAC-SHA256 of the body's bytes as they came"
        case .shopify: return "\(name): the base64 HMAC-SHA256 of the body's bytes as they came"
        case .stripe: return "\(name): v1 is the hexadecimal HMAC-SHA256 of \"{t}.{body}\", over the bytes as they came" + fresh
        case .staticHeader: return "\(name): the secret that both know, compared in constant time"
        }
    }

    private var headline: String {
        if let error = result.error { return "\(error.kind.rawValue): \(Terminal.safe(error.text))" }
        return result.status.map { "answered \($0)" } ?? "no answer"
    }

    private var timing: String {
        func milliseconds(_ value: Int64) -> String { "\(value / 1_000).\(value / 100 % 10) ms" }
        let phases = [
            ("dns", result.timings.dns), ("connect", result.timings.connect), ("tls", result.timings.tls),
            ("first byte", result.timings.firstByte),
        ].compactMap { name, value in value.map { "\(name) \(milliseconds($0))" } }
        return milliseconds(result.timings.total) + (phases.isEmpty ? "" : " (\(phases.joined(separator: ", ")))")
    }

    /// What would become of a delivery, and what to look at.
    private var meaning: String {
        let next =
            endpoint.schedule.delaysMilliseconds.first.map { "tried again after \(Quantity.text(milliseconds: $0))" } ?? "a dead letter"
        if let error = result.error {
            let advice: [ErrorClass: String] = [
                .dns: "its host name doesn't resolve from here",
                .connect: "nothing accepts connections there: firewall, port, or it is down",
                .refusedAddress: "its address lies in a network that deliveries may not reach; see --allow-network",
                .tls: "its certificate or its TLS version isn't acceptable: expired, wrong name, unknown authority, or older than TLS 1.2",
                .timeout: "it didn't answer in time; it should answer first and work afterwards",
                .reset: "it closed the connection before it answered", .protocol: "it doesn't speak HTTP/1.1 properly",
                .tooLarge: "its answer's headers are too large",
            ]
            return "A delivery would be \(next): \(advice[error.kind] ?? "the request failed")."
        }
        switch result.status ?? 0 {
        case 200..<300: return "A delivery would be done."
        case 300..<400: return "A delivery would be \(next): redirects are never followed. Register the address that it redirects to."
        case 401, 403: return "A delivery would be \(next): does it check the signature with this endpoint's secret, or want credentials?"
        case 404, 405: return "A delivery would be \(next): is the path right, and does it accept POST?"
        case 410: return "A delivery would be a dead letter, and the endpoint disabled: 410 says that it is gone for good."
        case 429, 503:
            return "A delivery would be \(next), or after its Retry-After\(result.retryAfter.map { " (\(Terminal.safe($0)))" } ?? "")."
        default: return "A delivery would be \(next)."
        }
    }

    private func json(_ arguments: Arguments) -> JSONValue {
        func milliseconds(_ value: Int64?) -> JSONValue { value.map { .integer($0 / 1_000) } ?? .null }
        let timings = result.timings
        return .object([
            .init("endpointId", .string(endpoint.id)), .init("url", .string(url)),
            .init(
                "request",
                .object([
                    .init("headers", .object(headers(arguments).map { .init($0.name, .string($0.value)) })),
                    .init("body", .string(String(decoding: exchange.body, as: UTF8.self))),
                ])), .init("status", result.status.map { .integer($0) } ?? .null),
            .init("errorClass", result.error.map { .string($0.kind.rawValue) } ?? .null),
            .init("error", result.error.map { .string($0.text) } ?? .null),
            .init(
                "durationMs",
                .object([
                    .init("total", milliseconds(timings.total)), .init("dns", milliseconds(timings.dns)),
                    .init("connect", milliseconds(timings.connect)), .init("tls", milliseconds(timings.tls)),
                    .init("firstByte", milliseconds(timings.firstByte)),
                ])), .init("responseExcerpt", .string(String(decoding: result.excerpt, as: UTF8.self))),
            .init("meaning", .string(meaning)),
        ])
    }
}
