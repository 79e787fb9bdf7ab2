internal import Cryptography
public import HTTPDelivery
internal import JSON

/// What a receiver wants to see of whoever calls it, beside the signature: one more header.
public enum Authentication: Sendable, Equatable {
    case basic(user: String, password: SecretText)
    case bearer(SecretText)
    /// An API key in a header of its own.
    case header(name: String, value: SecretText)
    /// A bearer token that is asked for.
    case oauth2(OAuthClient)

    /// `basic:USER:PASSWORD`, `bearer:TOKEN` or `header:NAME:VALUE`.
    public init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        switch (parts.first, parts.count) {
        case ("basic", 3): self = .basic(user: parts[1], password: .plain(parts[2]))
        case ("header", 3): self = .header(name: parts[1], value: .plain(String(parts[2].drop { $0 == " " })))
        case ("bearer", 2...): self = .bearer(.plain(parts.dropFirst().joined(separator: ":")))
        default: return nil
        }
    }

    var secret: SecretText {
        get {
            switch self {
            case .basic(_, let secret), .bearer(let secret), .header(_, let secret): secret
            case .oauth2(let client): client.secret
            }
        }
        set {
            switch self {
            case .basic(let user, _): self = .basic(user: user, password: newValue)
            case .bearer: self = .bearer(newValue)
            case .header(let name, _): self = .header(name: name, value: newValue)
            case .oauth2(var client):
                client.secret = newValue
                self = .oauth2(client)
            }
        }
    }

    public var headerName: String { if case .header(let name, _) = self { name } else { "authorization" } }

    /// nil while its secret is sealed, and for a token that must be asked for.
    public var header: HTTPHeader? {
        guard let plain = secret.plain else { return nil }
        switch self {
        case .basic(let user, _): return HTTPHeader("authorization", "Basic " + Base64.encode(Array("\(user):\(plain)".utf8)))
        case .bearer: return HTTPHeader("authorization", "Bearer " + plain)
        case .header(let name, _): return HTTPHeader(name, plain)
        case .oauth2: return nil
        }
    }

    public var oauth: OAuthClient? { if case .oauth2(let client) = self { client } else { nil } }

    // MARK: `{type, user, password}`, `{type, token}`, `{type, name, value}`, `{type, tokenUrl, clientId, clientSecret, scope, audience}`

    init(json: JSONValue) throws(Endpoint.Invalid) {
        guard let members = json.members else { throw Endpoint.Invalid("auth", "expected an object, found \(json.kind)") }
        let fields = FieldReader(members, under: "auth.")
        let known: [String: Set<String>] = [
            "basic": ["user", "password"], "bearer": ["token"], "header": ["name", "value"],
            "oauth2": ["tokenUrl", "clientId", "clientSecret", "scope", "audience"],
        ]
        let type = try fields.string("type") ?? ""
        guard let names = known[type] else {
            throw Endpoint.Invalid("auth.type", "'\(type.prefix(64))' isn't one of basic, bearer, header, oauth2")
        }
        if let other = members.first(where: { $0.name != "type" && !names.contains($0.name) }) {
            throw Endpoint.Invalid("auth.\(other.name.prefix(64))", "isn't a field of '\(type)'")
        }
        func text(_ name: String) throws(Endpoint.Invalid) -> String {
            guard let text = try fields.string(name) else { throw Endpoint.Invalid("auth.\(name)", "is missing") }
            return text
        }
        func secret(_ name: String) throws(Endpoint.Invalid) -> SecretText {
            guard let value = json[name], let secret = SecretText(json: value) else {
                throw Endpoint.Invalid("auth.\(name)", "expected a string, or 'sealed' with kek, nonce and ciphertext")
            }
            return secret
        }
        switch type {
        case "basic": self = .basic(user: try text("user"), password: try secret("password"))
        case "bearer": self = .bearer(try secret("token"))
        case "oauth2":
            self = .oauth2(
                OAuthClient(
                    tokenURL: try text("tokenUrl"), clientID: try text("clientId"), secret: try secret("clientSecret"),
                    scope: try fields.string("scope"), audience: try fields.string("audience")))
        default: self = .header(name: try text("name"), value: try secret("value"))
        }
    }

    func json(reveal: Bool) -> JSONValue {
        func hidden(_ secret: SecretText) -> JSONValue { reveal ? secret.json : "***" }
        switch self {
        case .basic(let user, let password):
            return .object([.init("type", "basic"), .init("user", .string(user)), .init("password", hidden(password))])
        case .bearer(let token): return .object([.init("type", "bearer"), .init("token", hidden(token))])
        case .header(let name, let value):
            return .object([.init("type", "header"), .init("name", .string(name)), .init("value", hidden(value))])
        case .oauth2(let client):
            var members: [JSONValue.Member] = [
                .init("type", "oauth2"), .init("tokenUrl", .string(client.tokenURL)), .init("clientId", .string(client.clientID)),
                .init("clientSecret", hidden(client.secret)),
            ]
            if let scope = client.scope { members.append(.init("scope", .string(scope))) }
            if let audience = client.audience { members.append(.init("audience", .string(audience))) }
            return .object(members)
        }
    }

    /// What is wrong with it; nil: nothing.
    func refusal(beside headers: [String], rules: EndpointURL.Rules) -> String? {
        if case .oauth2(let client) = self, let refusal = client.refusal(rules: rules) { return refusal }
        if case .basic(let user, _) = self, user.contains(":") || !user.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }) {
            return "a user name has no colon and only ASCII characters"
        }
        if let clash = headers.first(where: { $0.lowercased() == headerName.lowercased() }) {
            return "the header '\(clash)' is given twice: as a header of the endpoint, and by 'auth'"
        }
        // What is sealed was checked before it was.
        return HeaderRules.refusal(name: headerName, value: header?.value ?? "")
    }
}
