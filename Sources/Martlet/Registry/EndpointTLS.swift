internal import Cryptography
internal import HTTPDelivery
internal import JSON

/// What TLS to an endpoint needs beyond the deployment's settings, as its record holds it: `{ca, certificate, key}` in PEM.
public struct EndpointTLS: Sendable, Equatable {
    /// Authorities that are trusted besides the deployment's.
    public var authorities: String?
    /// The client certificate, with its chain, and its key.
    public var certificate: String?
    public var key: SecretText?

    static let lengthLimit = 65_536

    public init(authorities: String? = nil, certificate: String? = nil, key: SecretText? = nil) {
        (self.authorities, self.certificate, self.key) = (authorities, certificate, key)
    }

    public var isEmpty: Bool { authorities == nil && certificate == nil && key == nil }

    init(json: JSONValue) throws(Endpoint.Invalid) {
        guard let members = json.members else { throw Endpoint.Invalid("tls", "expected an object, found \(json.kind)") }
        if let other = members.first(where: { !["ca", "certificate", "key"].contains($0.name) }) {
            throw Endpoint.Invalid("tls.\(other.name.prefix(64))", "isn't supported by this version")
        }
        let fields = FieldReader(members, under: "tls.")
        authorities = try fields.string("ca")
        certificate = try fields.string("certificate")
        if let value = json["key"], !value.isNull {
            guard let secret = SecretText(json: value) else {
                throw Endpoint.Invalid("tls.key", "expected a string, or 'sealed' with kek, nonce and ciphertext")
            }
            key = secret
        }
    }

    func json(reveal: Bool) -> JSONValue {
        var members: [JSONValue.Member] = []
        if let authorities { members.append(.init("ca", .string(authorities))) }
        if let certificate { members.append(.init("certificate", .string(certificate))) }
        if let key { members.append(.init("key", reveal ? key.json : "***")) }
        return .object(members)
    }

    /// What is wrong with it. What is sealed was checked before it was.
    func validate() throws(Endpoint.Invalid) {
        for (name, text) in [("ca", authorities), ("certificate", certificate), ("key", key?.plain)] {
            if let text, text.utf8.count > Self.lengthLimit { throw Endpoint.Invalid("tls.\(name)", "at most \(Self.lengthLimit) bytes") }
        }
        if let authorities, PEM.certificates(in: authorities) == 0 { throw Endpoint.Invalid("tls.ca", "holds no certificate in PEM") }
        guard (certificate == nil) == (key == nil) else {
            throw Endpoint.Invalid("tls", "a client certificate needs its key, and a key its certificate")
        }
        guard let certificate, let key = key?.plain else { return }
        switch PEM.matches(certificate: certificate, key: key) {
        case true?: break
        case false?: throw Endpoint.Invalid("tls.key", "isn't the key of the certificate")
        case nil: throw Endpoint.Invalid("tls", "certificate or key can't be read: PEM, the key without a passphrase")
        }
    }

    /// nil while its key is sealed, and when there is nothing.
    var identity: TLSIdentity? {
        guard !isEmpty, key == nil || key?.plain != nil else { return nil }
        return TLSIdentity(
            authorities: Array((authorities ?? "").utf8), certificate: Array((certificate ?? "").utf8), key: Array((key?.plain ?? "").utf8))
    }
}
