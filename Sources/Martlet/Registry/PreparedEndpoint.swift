public import HTTPDelivery
internal import JSON
private import Synchronization
public import WebhookSigning

/// An endpoint with everything that a delivery needs, which is prepared when the first one does: of many endpoints few have traffic here.
/// Immutable, and shared by all lanes.
public final class PreparedEndpoint: Sendable {
    // What `AtomicLazyReference` does, whose generic code looks its types up at every load: a delivery loads it a dozen times.
    // It comes first, beside the count of references: of many endpoints, most have left the processor's caches.
    private let made = Atomic<Unmanaged<Parts>?>(nil)
    public let endpoint: Endpoint
    private let rules: EndpointURL.Rules

    /// `endpoint`: opened; what is still sealed counts as missing.
    public init(_ endpoint: Endpoint, rules: EndpointURL.Rules) { (self.endpoint, self.rules) = (endpoint, rules) }

    deinit { made.load(ordering: .acquiring)?.release() }

    /// What was made stays as long as this does: it is looked at without being retained.
    private func part<Value>(_ value: (Parts) -> Value) -> Value {
        if let made = made.load(ordering: .acquiring) { return withExtendedLifetime(self) { made._withUnsafeGuaranteedRef(value) } }
        return value(make())
    }

    /// Two lanes may come here at once: the first one's is everyone's.
    private func make() -> Parts {
        let mine = Unmanaged.passRetained(Parts(endpoint, rules))
        let others = made.compareExchange(expected: nil, desired: mine, ordering: .acquiringAndReleasing).original
        guard let others else { return mine.takeUnretainedValue() }
        mine.release()
        return others.takeUnretainedValue()
    }

    /// nil: the URL can't be delivered to under these rules; `refusal` says why.
    public var target: RequestTarget? { part { $0.target } }
    public var isDeliverable: Bool { part { $0.target != nil } }
    public var url: EndpointURL? { part { $0.target?.url } }
    public var refusal: String? { part { $0.refusal } }
    /// Without query and user info, for records and logs; empty without a URL.
    public var redactedURL: String { part { $0.redactedURL } }
    /// Lasting where `refusal` is nil: nothing is sent unsigned.
    public var signer: Signer { part { $0.signer } }
    /// The endpoint's own, its authentication included.
    public var headers: [HTTPHeader] { part { $0.headers } }
    var headerLines: HeaderLines { part { $0.headerLines } }
    var signatureName: HeaderName { part { $0.signatureName } }
    public var timeouts: Timeouts { part { $0.timeouts } }
    var bodyFormat: Endpoint.BodyFormat { part { $0.bodyFormat } }
    var sendsTrace: Bool { part { $0.sendsTrace } }
    /// To tell hosts apart.
    public var hostHash: UInt64 { part { $0.hostHash } }
    /// How its access token is asked for; nil: it needs none.
    public var tokenRequest: TokenRequest? { part { $0.tokenRequest } }
    /// What a receiver must not find its way into a record with: credentials, the URL's query.
    private var sensitive: [String] { part { $0.sensitive } }

    private final class Parts: Sendable {
        // What every delivery needs, beside each other.
        let target: RequestTarget?
        let signer: Signer
        let redactedURL: String
        let bodyFormat: Endpoint.BodyFormat
        let sendsTrace: Bool
        let timeouts: Timeouts
        let signatureName: HeaderName
        let headerLines: HeaderLines
        let tokenRequest: TokenRequest?
        // What few do.
        let refusal: String?
        let headers: [HTTPHeader]
        let hostHash: UInt64
        let sensitive: [String]

        /// One for all endpoints.
        private static let standardName = HeaderName(SignatureScheme.standard.headerName)

        init(_ endpoint: Endpoint, _ rules: EndpointURL.Rules) {
            headers =
                endpoint.headers.compactMap { header in header.text.plain.map { HTTPHeader(header.name, $0) } }
                + (endpoint.auth?.header.map { [$0] } ?? [])
            headerLines = HeaderLines(headers)
            signatureName = endpoint.signature == .standard ? Self.standardName : HeaderName(endpoint.signature.headerName)
            (bodyFormat, sendsTrace, timeouts) = (endpoint.bodyFormat, endpoint.sendsTrace, endpoint.timeouts)
            let tls = endpoint.tls?.identity
            tokenRequest = endpoint.auth?.oauth.flatMap { TokenRequest($0, of: endpoint, tls: tls, rules: rules) }
            signer = Signer(
                endpoint.secrets.compactMap { stored in
                    stored.text.plain.map { ($0, stored.expiresMilliseconds.map { $0 / 1_000 }) }
                }, scheme: endpoint.signature)
            do throws(EndpointURL.Refusal) {
                target = RequestTarget(try EndpointURL(endpoint.url, rules: rules), tls: tls, transport: endpoint.transport)
                refusal =
                    HeaderRules.firstRefusal(headers) ?? endpoint.signatureRefusal
                    ?? endpoint.auth?.refusal(beside: endpoint.headers.map(\.name), rules: rules)
                    ?? endpoint.tlsRefusal
                    ?? (endpoint.keyIDs.isEmpty ? nil : "its secrets are sealed")
                    ?? (signer.isLasting ? nil : "the endpoint has no signing secret, or all of them expire: nothing is sent unsigned")
            } catch {
                target = nil
                refusal = error.description
            }
            redactedURL = target?.url.redacted ?? ""
            hostHash = Hold.hash(target?.url.hostText ?? "")
            sensitive = Self.sensitive(endpoint, headers)
        }

        private static func sensitive(_ endpoint: Endpoint, _ headers: [HTTPHeader]) -> [String] {
            var values = headers.map(\.value) + queryValues(endpoint.url)
            if case .basic(_, let password) = endpoint.auth, let plain = password.plain { values.append(plain) }
            if endpoint.signature.isTheSecret { values += endpoint.secrets.compactMap(\.text.plain) }
            return PreparedEndpoint.longestFirst(PreparedEndpoint.inItsForms(PreparedEndpoint.withParts(values)))
        }

        /// The query of a URL, and the values in it.
        private static func queryValues(_ url: String) -> [String] {
            guard let mark = url.firstIndex(of: "?") else { return [] }
            let query = url[url.index(after: mark)...]
            return [String(query)]
                + query.split(separator: "&").compactMap { pair in pair.firstIndex(of: "=").map { String(pair[pair.index(after: $0)...]) } }
        }
    }
}

extension PreparedEndpoint {
    /// What its receiver answered, without the credentials that it may have sent back.
    public func withoutSecrets(_ given: HTTPResult, bearer: String?) -> HTTPResult {
        guard !given.excerpt.isEmpty else { return given }
        let values = bearer.map { Self.longestFirst(Self.inItsForms(Self.withParts([$0])) + sensitive) } ?? sensitive
        var result = given
        if given.excerpt.count >= ResponseLimits.excerptBytes {
            // One that the end of the excerpt cut is still a part of it.
            let cut = values.map { Self.cutLength(Array($0.utf8), given.excerpt) }.max() ?? 0
            if cut > 0 { result.excerpt = given.excerpt.dropLast(cut) + Array("***".utf8) }
        }
        for value in values where value.utf8.count >= 4 { result.excerpt = Self.hiding(Array(value.utf8), in: result.excerpt) }
        return result
    }

    /// `Basic abc` and `abc`.
    private static func withParts(_ values: [String]) -> [String] {
        values + values.compactMap { value in value.firstIndex(of: " ").map { String(value[value.index(after: $0)...]) } }
    }

    /// As they stand, and as a receiver may have read or written them: percent-decoded, escaped for JSON.
    private static func inItsForms(_ values: [String]) -> [String] {
        values.flatMap { value -> [String] in
            let escaped = String(JSONValue.string(value).text.dropFirst().dropLast())
            return Array(Set([value, percentDecoded(value), escaped])).sorted()
        }
    }

    private static func percentDecoded(_ text: String) -> String {
        var out: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            if byte == UInt8(ascii: "%"), digits.utf8.count == 2, let value = UInt8(digits, radix: 16) {
                out.append(value)
                rest = rest.dropFirst(2)
            } else {
                out.append(byte == UInt8(ascii: "+") ? 0x20 : byte)
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// One may be a part of another, which wouldn't be found any more.
    private static func longestFirst(_ values: [String]) -> [String] { values.sorted { $0.utf8.count > $1.utf8.count } }

    /// How many of the last bytes of `text` are the beginning of `secret`, from four on.
    private static func cutLength(_ secret: [UInt8], _ text: [UInt8]) -> Int {
        guard secret.count > 4, text.count >= 4 else { return 0 }
        return (4..<min(secret.count, text.count + 1)).last { text.suffix($0).elementsEqual(secret.prefix($0)) } ?? 0
    }

    private static func hiding(_ secret: [UInt8], in text: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        var rest = text[...]
        while !rest.isEmpty {
            if rest.starts(with: secret) {
                out += "***".utf8
                rest = rest.dropFirst(secret.count)
            } else {
                out.append(rest.removeFirst())
            }
        }
        return out
    }
}
