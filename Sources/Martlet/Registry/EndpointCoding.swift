public import HTTPDelivery
public import JSON
internal import WebhookSigning

extension Endpoint {
    /// What is wrong with a definition, with the field's name.
    public struct Invalid: Error, Sendable, Equatable, CustomStringConvertible {
        public var field: String
        public var reason: String
        public var description: String { "\(field): \(reason)" }
        public init(_ field: String, _ reason: String) { (self.field, self.reason) = (field, reason) }
    }

    static let knownFields = [
        "v", "id", "tenant", "url", "description", "types", "state", "reason", "secrets", "signature", "auth", "tls", "headers",
        "bodyFormat",
        "scheduleMs",
        "maxAgeMs", "timeoutsMs", "rate", "maxConcurrency", "ordering", "httpVersion", "transport", "sendsTrace", "createdMs", "updatedMs",
        "version",
    ]
    public init(json: JSONValue) throws(Invalid) {
        guard let members = json.members else { throw Invalid("endpoint", "expected an object, found \(json.kind)") }
        let fields = FieldReader(members)
        if let version = try fields.integer("v", in: 1...Int64.max), version > 1 {
            throw Invalid("v", "record version \(version) is newer than this program")
        }
        guard let id = try fields.string("id"), Identifiers.isName(id) else {
            throw Invalid("id", "1 to 64 of A-Z a-z 0-9 _ - are required")
        }
        guard let url = try fields.string("url") else { throw Invalid("url", "is missing") }
        self.init(id: id, url: url)
        if let value = try fields.string("httpVersion"), value != "1.1" {
            throw Invalid("httpVersion", "'\(value)' isn't supported by this version; '1.1' is")
        }
        transport = try fields.choice("transport")
        if let tenant = try fields.string("tenant") {
            guard Identifiers.isName(tenant) else { throw Invalid("tenant", "must be 1 to 64 of A-Z a-z 0-9 _ -") }
            self.tenant = tenant
        }
        if let text = try fields.string("signature") {
            guard let scheme = SignatureScheme(text) else {
                throw Invalid("signature", "'\(text.prefix(64))' isn't one of standard, github, shopify, stripe, static:HEADER-NAME")
            }
            signature = scheme
        }
        if let object = json["auth"], !object.isNull { auth = try Authentication(json: object) }
        if let object = json["tls"], !object.isNull {
            let read = try EndpointTLS(json: object)
            tls = read.isEmpty ? nil : read
        }
        description = try fields.string("description")
        if let types = try fields.strings("types") { self.types = try Self.patterns(types) }
        state = try fields.choice("state") ?? .enabled
        reason = try fields.string("reason")
        bodyFormat = try fields.choice("bodyFormat") ?? .standard
        if let list = json["secrets"], !list.isNull { secrets = try Self.secrets(list) }
        if let object = json["headers"], !object.isNull {
            guard let members = object.members else { throw Invalid("headers", "expected names and values, found \(object.kind)") }
            for member in members {
                guard let text = SecretText(json: member.value) else {
                    throw Invalid("headers", "'\(member.name.prefix(64))' must be a string")
                }
                headers.append(StoredHeader(member.name, text))
            }
        }
        if let list = json["scheduleMs"], !list.isNull {
            let delays = (list.arrayValue ?? []).map(\.intValue)
            guard list.arrayValue != nil, !delays.contains(nil),
                let schedule = RetrySchedule(delaysMilliseconds: delays.compactMap { $0.map(Int64.init) })
            else {
                throw Invalid(
                    "scheduleMs", "expected a list of up to \(RetrySchedule.lengthLimit) delays in milliseconds, each up to 7 days")
            }
            self.schedule = schedule
        }
        maxAgeMilliseconds = try fields.integer("maxAgeMs", in: 1_000...(30 * 86_400_000)) ?? maxAgeMilliseconds
        if let limits = json["timeoutsMs"], !limits.isNull {
            guard let members = limits.members else { throw Invalid("timeoutsMs", "expected {connect, total}") }
            let inner = FieldReader(members, under: "timeoutsMs.")
            timeouts.connectMilliseconds = try inner.integer("connect", in: 10...60_000) ?? timeouts.connectMilliseconds
            timeouts.totalMilliseconds = try inner.integer("total", in: 10...120_000) ?? timeouts.totalMilliseconds
        }
        if let object = json["rate"], !object.isNull {
            let inner = FieldReader(object.members ?? [], under: "rate.")
            guard let n = try inner.integer("n", in: 1...1_000_000), let per = try inner.integer("perMs", in: 1...86_400_000) else {
                throw Invalid("rate", "expected {n, perMs, burst}")
            }
            rate = RateLimit(n: Int(n), perMilliseconds: per, burst: try inner.integer("burst", in: 1...1_000_000).map { Int($0) })
        }
        if let limit = try fields.integer("maxConcurrency", in: 1...1_024) { maxConcurrency = Int(limit) }
        ordering = try fields.choice("ordering") ?? .none
        if let trace = json["sendsTrace"], !trace.isNull {
            guard let flag = trace.boolValue else { throw Invalid("sendsTrace", "expected true or false, found \(trace.kind)") }
            sendsTrace = flag
        }
        createdMilliseconds = try fields.integer("createdMs", in: 0...Int64.max) ?? 0
        updatedMilliseconds = try fields.integer("updatedMs", in: 0...Int64.max) ?? 0
        version = Int(try fields.integer("version", in: 1...Int64.max) ?? 1)
        unknown = members.filter { member in !Self.knownFields.contains { member.isNamed($0) } }
    }

    public static func patterns(_ texts: [String]) throws(Invalid) -> [TypePattern] {
        guard (1...256).contains(texts.count) else { throw Invalid("types", "1 to 256 types are required; '*' receives everything") }
        var patterns: [TypePattern] = []
        for text in texts {
            guard let pattern = TypePattern(text) else {
                throw Invalid("types", "'\(text.prefix(64))': write an exact type, 'prefix.*', or '*'")
            }
            patterns.append(pattern)
        }
        return patterns
    }

    private static func secrets(_ list: JSONValue) throws(Invalid) -> [StoredSecret] {
        guard let elements = list.arrayValue else { throw Invalid("secrets", "expected a list, found \(list.kind)") }
        var secrets: [StoredSecret] = []
        for element in elements {
            let fields = FieldReader(element.members ?? [], under: "secrets.")
            let text: SecretText
            if let plain = try fields.string("plain") {
                text = .plain(plain)
            } else if let sealed = element["sealed"].flatMap({ SealedText(json: $0) }) {
                text = .sealed(sealed)
            } else {
                throw Invalid("secrets", "expected 'plain', or 'sealed' with kek, nonce and ciphertext")
            }
            secrets.append(
                StoredSecret(
                    id: try fields.string("id") ?? "s\(secrets.count + 1)",
                    createdMilliseconds: try fields.integer("createdMs", in: 0...Int64.max) ?? 0,
                    expiresMilliseconds: try fields.integer("expiresMs", in: 0...Int64.max), text: text))
        }
        return secrets
    }

    /// Everything that registration requires beyond being readable.
    public func validate(rules: EndpointURL.Rules) throws(Invalid) {
        // What workers could not read must not be registered.
        _ = try Endpoint(json: json(revealSecrets: true))
        do { _ = try EndpointURL(url, rules: rules) } catch { throw Invalid("url", error.description) }
        // What is sealed was checked before it was.
        let sent = headers.map { HTTPHeader($0.name, $0.text.plain ?? "") } + (auth.map { [HTTPHeader($0.headerName, "")] } ?? [])
        if let refusal = HeaderRules.firstRefusal(sent) {
            throw Invalid("headers", refusal)
        }
        if let refusal = auth?.refusal(beside: headers.map(\.name), rules: rules) { throw Invalid("auth", refusal) }
        if let signatureRefusal { throw Invalid("signature", signatureRefusal) }
        try tls?.validate()
        for plain in secrets.compactMap(\.text.plain) {
            if let refusal = signature.refusal(ofSecret: plain) { throw Invalid("secrets", refusal) }
        }
        guard !isStrict || maxAgeMilliseconds < Self.strictMaxAgeLimitMilliseconds else {
            throw Invalid(
                "maxAgeMs",
                "of an endpoint with strict ordering must be below \(Self.strictMaxAgeLimitMilliseconds / 3_600_000) h: "
                    + "its backlog is read again from the log, which keeps 14 days")
        }
        guard secrets.count <= 10 else { throw Invalid("secrets", "at most 10 secrets") }
        guard secrets.isEmpty || secrets.contains(where: { $0.expiresMilliseconds == nil }) else {
            throw Invalid("secrets", "at least one must not expire: nothing is sent unsigned")
        }
        if (description?.utf8.count ?? 0) > 1_024 { throw Invalid("description", "at most 1024 bytes") }
    }

    /// What is wrong with the header of its signature; nil: nothing.
    var signatureRefusal: String? {
        let name = signature.headerName
        // Those of the known schemes are reserved for us.
        if signature.isTheSecret, let refusal = HeaderRules.refusal(name: name, value: "") { return refusal }
        let others = headers.map { $0.name.lowercased() } + (auth.map { [$0.headerName.lowercased()] } ?? [])
        if others.contains(name.lowercased()) { return "the header '\(name)' is given twice" }
        return Set(others).count < others.count ? "a header is given twice" : nil
    }

    /// What is wrong with its TLS settings; nil: nothing.
    var tlsRefusal: String? {
        do throws(Invalid) { try tls?.validate() } catch { return error.description }
        return nil
    }

    /// `reveal`: with the secrets in plain, as the topic needs them; without, their ids only, but for the secret `only`.
    public func json(revealSecrets reveal: Bool, only: String? = nil) -> JSONValue {
        var members: [JSONValue.Member] = [
            .init("v", .integer(1)), .init("id", .string(id)), .init("tenant", .string(tenant)), .init("url", .string(url)),
        ]
        func add(_ name: String, _ value: JSONValue?) { if let value { members.append(.init(name, value)) } }
        add("description", description.map { .string($0) })
        add("types", .array(types.map { .string($0.description) }))
        add("state", .string(state.rawValue))
        add("reason", reason.map { .string($0) })
        add("secrets", .array(secrets.map { $0.json(reveal: reveal || $0.id == only) }))
        add("signature", .string(signature.description))
        add("auth", auth?.json(reveal: reveal))
        add("tls", tls.flatMap { $0.isEmpty ? nil : $0.json(reveal: reveal) })
        add("headers", .object(headers.map { .init($0.name, reveal ? $0.text.json : "***") }))
        add("bodyFormat", .string(bodyFormat.rawValue))
        add("scheduleMs", .array(schedule.delaysMilliseconds.map { .integer($0) }))
        add("maxAgeMs", .integer(maxAgeMilliseconds))
        add(
            "timeoutsMs",
            .object([.init("connect", .integer(timeouts.connectMilliseconds)), .init("total", .integer(timeouts.totalMilliseconds))]))
        add(
            "rate",
            rate.map {
                .object([.init("n", .integer($0.n)), .init("perMs", .integer($0.perMilliseconds)), .init("burst", .integer($0.burst))])
            })
        add("maxConcurrency", .integer(maxConcurrency))
        add("ordering", .string(ordering.rawValue))
        if let transport { add("transport", .string(transport.rawValue)) }
        add("sendsTrace", .bool(sendsTrace))
        add("createdMs", .integer(createdMilliseconds))
        add("updatedMs", .integer(updatedMilliseconds))
        add("version", .integer(version))
        return .object(members + unknown)
    }
}

extension Endpoint.StoredSecret {
    fileprivate func json(reveal: Bool) -> JSONValue {
        var members: [JSONValue.Member] = [
            .init("id", .string(id)), .init("scheme", "standard"), .init("createdMs", .integer(createdMilliseconds)),
        ]
        if let expiresMilliseconds { members.append(.init("expiresMs", .integer(expiresMilliseconds))) }
        switch text {
        case .plain(let plain): members.append(.init("plain", reveal ? .string(plain) : "***"))
        case .sealed(let sealed): members.append(.init("sealed", reveal ? sealed.json : .object([.init("kek", .string(sealed.keyID))])))
        }
        return .object(members)
    }
}

/// Typed access to an object's members with errors that name the field.
struct FieldReader {
    private let members: [JSONValue.Member]
    private let path: String

    init(_ members: [JSONValue.Member], under path: String = "") {
        (self.members, self.path) = (members, path)
    }

    private func value(_ name: String) -> JSONValue? {
        guard let index = members.firstIndex(where: { $0.isNamed(name) }), !members[index].value.isNull else { return nil }
        return members[index].value
    }

    func string(_ name: String) throws(Endpoint.Invalid) -> String? {
        guard let value = value(name) else { return nil }
        guard let text = value.stringValue else { throw Endpoint.Invalid(path + name, "expected a string, found \(value.kind)") }
        return text
    }

    func strings(_ name: String) throws(Endpoint.Invalid) -> [String]? {
        guard let value = value(name) else { return nil }
        let texts = (value.arrayValue ?? []).map(\.stringValue)
        guard value.arrayValue != nil, !texts.contains(nil) else { throw Endpoint.Invalid(path + name, "expected a list of strings") }
        return texts.compactMap(\.self)
    }

    func integer(_ name: String, in range: ClosedRange<Int64>) throws(Endpoint.Invalid) -> Int64? {
        guard let value = value(name) else { return nil }
        guard let number = value.intValue, range.contains(Int64(number)) else {
            let bounds = range.upperBound == .max ? "of at least \(range.lowerBound)" : "from \(range.lowerBound) to \(range.upperBound)"
            throw Endpoint.Invalid(path + name, "expected a whole number \(bounds)")
        }
        return Int64(number)
    }

    func choice<Choice: RawRepresentable & CaseIterable>(_ name: String) throws(Endpoint.Invalid) -> Choice?
    where Choice.RawValue == String {
        guard let text = try string(name) else { return nil }
        guard let choice = Choice(rawValue: text) else {
            throw Endpoint.Invalid(
                path + name, "'\(text.prefix(64))' isn't one of \(Choice.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return choice
    }
}
