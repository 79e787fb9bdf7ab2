internal import Cryptography
public import HTTPDelivery
internal import JSON

/// OAuth 2.0 client credentials (RFC 6749, 4.4): what an access token is asked for with.
public struct OAuthClient: Sendable, Equatable {
    public var tokenURL: String
    public var clientID: String
    public var secret: SecretText
    public var scope: String?
    public var audience: String?

    public init(tokenURL: String, clientID: String, secret: SecretText, scope: String? = nil, audience: String? = nil) {
        (self.tokenURL, self.clientID, self.secret) = (tokenURL, clientID, secret)
        (self.scope, self.audience) = (scope, audience)
    }

    /// What is wrong with it; nil: nothing. The token's URL passes the same gate as the endpoint's.
    func refusal(rules: EndpointURL.Rules) -> String? {
        do { _ = try EndpointURL(tokenURL, rules: rules) } catch { return "the token URL: \(error)" }
        for (name, text) in [("client id", clientID), ("client secret", secret.plain), ("scope", scope), ("audience", audience)] {
            guard let text else { continue }
            if text.isEmpty && name != "scope" || text.utf8.count > 4_096 { return "the \(name) has 1 to 4,096 bytes" }
            if !text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) { return "the \(name) has a control character" }
        }
        return nil
    }
}

/// A request for an access token, ready to be sent.
public struct TokenRequest: Sendable {
    /// Over libcurl: token endpoints are no receivers, and few.
    public let target: RequestTarget
    public let headers: HeaderLines
    public let body: [UInt8]
    /// Of the endpoint and of all that the token is asked for with: a token is never used for anything else.
    public let identity: [UInt8]

    /// nil: the URL is refused, or the secret is sealed.
    init?(_ client: OAuthClient, of endpoint: Endpoint, tls: TLSIdentity?, rules: EndpointURL.Rules) {
        guard let url = try? EndpointURL(client.tokenURL, rules: rules), let secret = client.secret.plain else { return nil }
        target = RequestTarget(url, tls: tls, transport: .curl)
        identity = SHA256.digest(
            Identifiers.lengthPrefixed([
                endpoint.tenant, endpoint.id, client.tokenURL, client.clientID, secret, client.scope ?? "", client.audience ?? "",
            ]))
        // RFC 6749, 2.3.1: both are form-encoded before they are joined.
        let credentials = Self.formEncoded(client.clientID) + ":" + Self.formEncoded(secret)
        headers = HeaderLines([
            HTTPHeader("content-type", "application/x-www-form-urlencoded"), HTTPHeader("accept", "application/json"),
            HTTPHeader("user-agent", DeliveryRequest.userAgent),
            HTTPHeader("authorization", "Basic " + Base64.encode(Array(credentials.utf8))),
        ])
        var form = "grant_type=client_credentials"
        if let scope = client.scope { form += "&scope=" + Self.formEncoded(scope) }
        if let audience = client.audience { form += "&audience=" + Self.formEncoded(audience) }
        body = Array(form.utf8)
    }

    static func formEncoded(_ text: String) -> String {
        text.utf8.reduce(into: "") { out, byte in
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "*"):
                out.unicodeScalars.append(Unicode.Scalar(byte))
            case 0x20: out += "+"
            default: out += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
    }
}
