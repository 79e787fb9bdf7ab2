/// A delivery URL that passed every rule of registration, in canonical form: lower-case scheme and host, no trailing dot, no userinfo, no
/// fragment, ASCII only. There is one parser, and what it accepted is rebuilt from its parts, so no later reader can understand it otherwise.
public struct EndpointURL: Hashable, Sendable, CustomStringConvertible {
    public enum Host: Hashable, Sendable {
        case name(String)
        case address(IPAddress)
    }

    public let isTLS: Bool
    public let host: Host
    public let port: UInt16
    /// Path and query, starting with `/`.
    public let target: String

    public struct Rules: Sendable {
        public var allowHTTP: Bool
        public var addresses: AddressPolicy
        public init(allowHTTP: Bool = false, addresses: AddressPolicy = AddressPolicy()) {
            (self.allowHTTP, self.addresses) = (allowHTTP, addresses)
        }
    }

    public struct Refusal: Error, CustomStringConvertible, Equatable {
        public var description: String
    }

    public static let lengthLimitBytes = 2_048

    public var hostText: String {
        switch host {
        case .name(let name): name
        case .address(let address): address.family == .v4 ? "\(address)" : "[\(address)]"
        }
    }

    private var isDefaultPort: Bool { port == (isTLS ? 443 : 80) }
    /// The value of the `Host` header.
    public var authority: String { isDefaultPort ? hostText : "\(hostText):\(port)" }
    public var description: String { "\(isTLS ? "https" : "http")://\(authority)\(target)" }
    /// Without the query, which may hold secrets: for logs and attempt records.
    public var redacted: String { "\(isTLS ? "https" : "http")://\(authority)\(target.prefix { $0 != "?" })" }

    public init(_ text: String, rules: Rules) throws(Refusal) {
        let bytes = Array(text.utf8)
        guard bytes.count <= Self.lengthLimitBytes else {
            throw Refusal(description: "the URL has \(bytes.count) bytes; at most \(Self.lengthLimitBytes) are allowed")
        }
        if let bad = bytes.first(where: { $0 < 0x21 || $0 == 0x7f }) {
            throw Refusal(description: "the URL contains \(bad == 0x20 ? "a space" : "a control byte"); percent-encode it")
        }
        guard !bytes.contains(where: { $0 > 0x7f }) else {
            throw Refusal(
                description: "the URL contains a byte that isn't ASCII; write international names as xn--... and percent-encode paths")
        }
        guard !text.contains("\\") else { throw Refusal(description: "the URL contains a backslash") }
        guard !text.contains("#") else { throw Refusal(description: "the URL has a fragment (#...), which is never sent") }
        guard let colon = text.firstIndex(of: ":") else { throw Refusal(description: "the URL has no scheme; write https://...") }
        let scheme = text[..<colon].lowercased()
        switch scheme {
        case "https": isTLS = true
        case "http":
            guard rules.allowHTTP else {
                throw Refusal(description: "plain http isn't allowed here; use https, or --allow-http for development")
            }
            isTLS = false
        default: throw Refusal(description: "the scheme '\(scheme.prefix(32))' isn't supported; use https")
        }
        let rest = text[text.index(after: colon)...]
        guard rest.hasPrefix("//") else { throw Refusal(description: "the URL needs '//' and a host after its scheme") }
        let authorityAndTarget = rest.dropFirst(2)
        let authority = authorityAndTarget.prefix { $0 != "/" && $0 != "?" }
        let target = authorityAndTarget.dropFirst(authority.count)
        self.target = target.isEmpty ? "/" : target.hasPrefix("/") ? String(target) : "/" + target
        guard !authority.contains("@") else {
            throw Refusal(description: "the URL has a user name or password before '@'; use a header or auth setting")
        }
        let (hostPart, portPart) = try Self.split(authority)
        host = try Self.host(hostPart, rules)
        port = try Self.port(portPart, isTLS: isTLS)
    }

    private static func split(_ authority: Substring) throws(Refusal) -> (Substring, Substring?) {
        if authority.hasPrefix("[") {
            guard let close = authority.firstIndex(of: "]") else { throw Refusal(description: "the URL's IPv6 address has no ']'") }
            let after = authority[authority.index(after: close)...]
            guard after.isEmpty || after.hasPrefix(":") else {
                throw Refusal(description: "the URL has something between ']' and the port")
            }
            return (authority[...close], after.isEmpty ? nil : after.dropFirst())
        }
        let parts = authority.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        return (parts[0], parts.count > 1 ? parts[1] : nil)
    }

    private static func port(_ text: Substring?, isTLS: Bool) throws(Refusal) -> UInt16 {
        guard let text else { return isTLS ? 443 : 80 }
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 &- 48 < 10 }), let port = UInt16(text) else {
            throw Refusal(description: "'\(text.prefix(16))' isn't a port")
        }
        guard port == 443 || port == 80 || port >= 1024 else {
            throw Refusal(description: "port \(port) isn't allowed: 443, 80, or 1024 and above")
        }
        return port
    }

    private static func host(_ text: Substring, _ rules: Rules) throws(Refusal) -> Host {
        guard !text.isEmpty else { throw Refusal(description: "the URL has no host") }
        let address: IPAddress?
        if text.hasPrefix("[") {
            let inner = text.dropFirst().dropLast()
            guard !inner.contains("%") else { throw Refusal(description: "the URL's IPv6 address has a zone id") }
            address = IPAddress(inner)
            guard let address, address.family == .v6 else { throw Refusal(description: "'\(text)' isn't an IPv6 address") }
            guard address.unmapped == address else {
                throw Refusal(description: "'\(text)' is an IPv4 address in disguise; write four decimal numbers")
            }
        } else {
            address = IPAddress(text)
        }
        if let address {
            guard rules.addresses.allows(address) else {
                throw Refusal(
                    description: "the address \(address) is private, reserved or refused; --allow-network opens a network for development")
            }
            return .address(address)
        }
        return .name(try name(text.lowercased()))
    }

    private static let refusedSuffixes = ["localhost", "local", "internal", "home.arpa", "arpa", "onion", "test", "example", "invalid"]

    private static func name(_ given: String) throws(Refusal) -> String {
        let name = given.hasSuffix(".") ? String(given.dropLast()) : given
        guard name.utf8.count <= 253 else { throw Refusal(description: "the host name is longer than 253 bytes") }
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        for label in labels {
            guard (1...63).contains(label.utf8.count), !label.hasPrefix("-"), !label.hasSuffix("-"),
                label.utf8.allSatisfy({ $0 &- 97 < 26 || $0 &- 48 < 10 || $0 == 45 || $0 == 95 })
            else { throw Refusal(description: "'\(name.prefix(64))' isn't a host name: letters, digits and '-', labels of 1 to 63") }
        }
        guard let last = labels.last, !last.utf8.allSatisfy({ $0 &- 48 < 10 }), !last.hasPrefix("0x") else {
            throw Refusal(description: "'\(name)' is an odd spelling of an IPv4 address; write four decimal numbers")
        }
        for suffix in refusedSuffixes where name == suffix || name.hasSuffix("." + suffix) {
            throw Refusal(description: "names under '\(suffix)' aren't public; --allow-network opens addresses, written as numbers")
        }
        guard labels.count > 1 else { throw Refusal(description: "'\(name)' is a single-label name; give the full name") }
        return name
    }
}
