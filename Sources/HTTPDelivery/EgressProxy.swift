/// A proxy that all requests go through: HTTP CONNECT, or SOCKS5. Names are resolved by the proxy, so what addresses may be reached is
/// the proxy's to enforce; only addresses written as numbers are still checked here.
public struct EgressProxy: Sendable, Equatable {
    public struct Malformed: Error, CustomStringConvertible, Equatable {
        public var description: String
    }

    /// As libcurl takes it; may hold a password.
    let text: String
    let host: String
    let port: UInt16
    /// nil: a name.
    var address: IPAddress? { IPAddress(host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host) }

    /// `http://[USER:PASSWORD@]HOST:PORT` or `socks5://[USER:PASSWORD@]HOST:PORT`.
    public init(_ given: String) throws(Malformed) {
        let parts = given.split(separator: "://", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, let scheme = ["http": "http", "socks5": "socks5h", "socks5h": "socks5h"][parts[0]] else {
            throw Malformed(description: "expected http://HOST:PORT or socks5://HOST:PORT")
        }
        guard given.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { throw Malformed(description: "only printable ASCII characters") }
        let authority = parts[1].hasSuffix("/") ? String(parts[1].dropLast()) : parts[1]
        guard authority.count(where: { $0 == "@" }) <= 1, !authority.contains("/") else {
            throw Malformed(description: "'@' and '/' in a user name or password are written as %40 and %2F")
        }
        let place = authority.split(separator: "@", omittingEmptySubsequences: false).last.map(String.init) ?? ""
        guard let colon = place.lastIndex(of: ":"), let port = UInt16(place[place.index(after: colon)...]), port > 0,
            colon > place.startIndex,
            !place.contains("/")
        else { throw Malformed(description: "the proxy needs a host and a port") }
        text = scheme + "://" + authority
        host = String(place[..<colon])
        self.port = port
        guard !host.contains(where: { ":[]".contains($0) }) || host.hasPrefix("[") && host.hasSuffix("]") && address?.family == .v6 else {
            throw Malformed(description: "an IPv6 address stands in brackets")
        }
    }
}
