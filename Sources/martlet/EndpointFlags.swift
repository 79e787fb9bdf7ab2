internal import ArgumentParsing
internal import HTTPDelivery
internal import Martlet
internal import WebhookSigning

/// The flags that describe an endpoint, and how they change one.
enum EndpointFlags {
    static let flags: [Flag] = [
        Flag("tenant", "NAME", "whose events it receives", default: "default"),
        Flag("url", "URL", "where deliveries are sent"),
        Flag("types", "TYPES", "event types: exact, 'prefix.*', or '*'", default: "*", repeated: true),
        Flag("description", "TEXT", "what it is for"),
        Flag(
            "secret", "SECRET", "signing secret (whsec_... or whsk_...), newest first; made when none is given", repeated: true,
            secret: true),
        Flag(
            "signature", "SCHEME",
            "how deliveries are signed: standard, github, shopify, stripe, or static:NAME, a header with the secret itself",
            default: "standard"),
        Flag(
            "auth", "AUTH", "credentials of every request: basic:USER:PASSWORD, bearer:TOKEN, header:NAME:VALUE, or none",
            isCommaSeparated: false, secret: true),
        Flag("oauth-token-url", "URL", "OAuth 2.0 client credentials: where access tokens come from"),
        Flag("oauth-client-id", "ID", "OAuth 2.0: the client's id"),
        Flag("oauth-client-secret", "SECRET", "OAuth 2.0: the client's secret", secret: true),
        Flag("oauth-scope", "SCOPE", "OAuth 2.0: what the token is for, if the token endpoint wants to know"),
        Flag("oauth-audience", "AUDIENCE", "OAuth 2.0: whom the token is for, if the token endpoint wants to know"),
        Flag("tls-ca", "FILE", "PEM file with authorities that are trusted for this endpoint besides the worker's, or none"),
        Flag("tls-certificate", "FILE", "PEM file with the client certificate and its chain, or none"),
        Flag("tls-key", "FILE", "PEM file with the client certificate's key, without a passphrase"),
        Flag("header", "NAME:VALUE", "header of every request", repeated: true, isCommaSeparated: false, secret: true),
        Flag("body-format", "FORMAT", "shape of the body", default: "standard", choices: Endpoint.BodyFormat.allCases.map(\.rawValue)),
        Flag("schedule", "DELAYS", "delays between attempts", default: "5s,5m,30m,2h,5h,10h,14h,20h,24h", repeated: true),
        Flag("max-age", "DURATION", "older deliveries go to the dead-letter topic", default: "7d"),
        Flag("timeout", "DURATION", "of a whole request", default: "15s"),
        Flag("connect-timeout", "DURATION", "of the connection's set-up", default: "5s"),
        Flag("rate", "N/UNIT", "at most so many starts per s, m or h; none unless given"),
        Flag("burst", "N", "starts that may come at once within --rate; 1, or what 10 ms bring of a rate above 100/s, unless given"),
        Flag("max-concurrency", "N", "most requests at once", default: "64"),
        Flag(
            "ordering", "ORDER", "strict: one delivery at a time, in order; a failing one holds up the next", default: "none",
            choices: Endpoint.Ordering.allCases.map(\.rawValue)),
        Flag(
            "transport", "KIND", "how requests are sent: direct, curl, or as the worker is set", default: "worker",
            choices: TransportKind.allCases.map(\.rawValue) + ["worker"]),
        Flag("trace", "pass traceparent and tracestate on to the receiver"),
    ]

    /// For `update`: without defaults, so that only what is given changes.
    static let changes: [Flag] = flags.map { flag in
        var flag = flag
        flag.defaultValue = nil
        return flag
    }

    static func apply(_ arguments: Arguments, to endpoint: inout Endpoint, nowMilliseconds: Int64) throws {
        if let tenant = arguments.text("tenant") {
            guard Identifiers.isName(tenant) else { throw arguments.bad("tenant", tenant, "1 to 64 of A-Z a-z 0-9 _ -") }
            endpoint.tenant = tenant
        }
        if let url = arguments.text("url") { endpoint.url = url }
        if !arguments.list("types").isEmpty { endpoint.types = try Endpoint.patterns(arguments.list("types")) }
        if let text = arguments.text("description") { endpoint.description = text.isEmpty ? nil : text }
        if !arguments.list("secret").isEmpty {
            endpoint.secrets = arguments.list("secret").enumerated().map {
                .init(id: "s\(nowMilliseconds)-\($0 + 1)", createdMilliseconds: nowMilliseconds, plain: $1)
            }
        }
        if let text = arguments.text("signature") {
            guard let scheme = SignatureScheme(text) else {
                throw arguments.bad("signature", text, "one of standard, github, shopify, stripe, static:HEADER-NAME")
            }
            endpoint.signature = scheme
        }
        if let text = arguments.text("auth") {
            let auth = text == "none" ? nil : Authentication(text)
            guard auth != nil || text == "none" else {
                throw UsageError("--auth: expected basic:USER:PASSWORD, bearer:TOKEN, header:NAME:VALUE or none")
            }
            endpoint.auth = auth
        }
        try applyOAuth(arguments, to: &endpoint)
        try applyTLS(arguments, to: &endpoint)
        if arguments.isGiven("header") { endpoint.headers = try headers(arguments) }
        if let format = arguments.text("body-format").flatMap(Endpoint.BodyFormat.init) { endpoint.bodyFormat = format }
        if !arguments.list("schedule").isEmpty { endpoint.schedule = try schedule(arguments) }
        if let age = try arguments.milliseconds("max-age") { endpoint.maxAgeMilliseconds = age }
        if let total = try arguments.milliseconds("timeout") { endpoint.timeouts.totalMilliseconds = total }
        if let connect = try arguments.milliseconds("connect-timeout") { endpoint.timeouts.connectMilliseconds = connect }
        if let rate = arguments.text("rate") {
            let burst = try arguments.integer("burst", in: 1...1_000_000)
            if rate == "none" {
                endpoint.rate = nil
            } else {
                guard let limit = RateLimit(rate, burst: burst ?? endpoint.rate?.burst) else {
                    throw arguments.bad("rate", rate, "a rate such as 100/s or 6000/m, or 'none'")
                }
                endpoint.rate = limit
            }
        } else if arguments.isGiven("burst"), endpoint.rate == nil {
            throw UsageError("--burst needs --rate")
        } else if let burst = try arguments.integer("burst", in: 1...1_000_000) {
            endpoint.rate?.burst = burst
        }
        if let limit = try arguments.integer("max-concurrency", in: 1...1_024) { endpoint.maxConcurrency = limit }
        if let ordering = arguments.text("ordering").flatMap(Endpoint.Ordering.init) { endpoint.ordering = ordering }
        if let text = arguments.text("transport") { endpoint.transport = TransportKind(rawValue: text) }
        if arguments.isGiven("trace") { endpoint.sendsTrace = arguments.isOn("trace") }
    }

    private static func applyOAuth(_ arguments: Arguments, to endpoint: inout Endpoint) throws {
        let names = ["token-url", "client-id", "client-secret", "scope", "audience"]
        guard names.contains(where: { arguments.isGiven("oauth-" + $0) }) else { return }
        guard !arguments.isGiven("auth") else { throw UsageError("--auth and --oauth-... exclude each other") }
        let old = endpoint.auth?.oauth
        func needed(_ name: String, _ old: String?) throws -> String {
            guard let text = arguments.text("oauth-" + name) ?? old else { throw UsageError("--oauth-\(name) is missing") }
            return text
        }
        let secret = try arguments.text("oauth-client-secret").map { .plain($0) } ?? old?.secret ?? .plain(needed("client-secret", nil))
        endpoint.auth = .oauth2(
            OAuthClient(
                tokenURL: try needed("token-url", old?.tokenURL), clientID: try needed("client-id", old?.clientID), secret: secret,
                scope: arguments.text("oauth-scope") ?? old?.scope, audience: arguments.text("oauth-audience") ?? old?.audience))
    }

    private static func applyTLS(_ arguments: Arguments, to endpoint: inout Endpoint) throws {
        var tls = endpoint.tls ?? EndpointTLS()
        func file(_ name: String) throws -> String? {
            guard let path = arguments.text(name), path != "none" else { return nil }
            return try Files.read(path)
        }
        if arguments.isGiven("tls-ca") { tls.authorities = try file("tls-ca") }
        if arguments.isGiven("tls-certificate") {
            tls.certificate = try file("tls-certificate")
            tls.key = try file("tls-key").map { .plain($0) }
        } else if arguments.isGiven("tls-key") {
            throw UsageError("--tls-key needs --tls-certificate")
        }
        endpoint.tls = tls.isEmpty ? nil : tls
    }

    private static func headers(_ arguments: Arguments) throws -> [Endpoint.StoredHeader] {
        try arguments.list("header").map { text in
            let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            // The value may be a secret: only the name is shown.
            guard parts.count == 2 else {
                throw UsageError("--header: expected NAME:VALUE", hint: "for example --header 'x-team: payments'")
            }
            let value = parts[1].drop { $0 == " " }
            return Endpoint.StoredHeader(String(parts[0]), String(value))
        }
    }

    private static func schedule(_ arguments: Arguments) throws -> RetrySchedule {
        let delays = try arguments.list("schedule").map { text in
            guard let delay = Quantity.milliseconds(text) else { throw arguments.bad("schedule", text, "a duration such as 5s, 5m or 2h") }
            return delay
        }
        guard let schedule = RetrySchedule(delaysMilliseconds: delays) else {
            throw UsageError("--schedule: at most \(RetrySchedule.lengthLimit) delays, each from 1ms to 7d")
        }
        return schedule
    }
}
