/// Which addresses may be dialled. Checked on every address of a name before connecting, on the address dialled, and again whenever a
/// kept connection is used.
public struct AddressPolicy: Sendable {
    /// Networks that the operator opened (development, private deployments).
    public var allowed: [Network]
    /// Networks that the operator closed beside the built-in ones; they win over `allowed`.
    public var refused: [Network]
    /// The host's own addresses: refused like private ones, whatever range they lie in.
    public var own: Set<IPAddress>

    public init(allowed: [Network] = [], refused: [Network] = [], own: [IPAddress] = []) {
        (self.allowed, self.refused, self.own) = (allowed, refused, Set(own.map(\.unmapped)))
    }

    /// Special-purpose IPv4 ranges (IANA registry), multicast, class E, and one cloud provider's platform address.
    static let refusedV4 = networks([
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
        "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
    ])
    static let globalV6 = networks(["2000::/3"])
    static let refusedV6 = networks(["2001::/23", "2001:db8::/32", "3fff::/20", "2002::/16", "2620:4f:8000::/48"])

    private static func networks(_ texts: [String]) -> [Network] { texts.compactMap(Network.init) }

    public func allows(_ given: IPAddress) -> Bool {
        let address = given.unmapped
        if refused.contains(where: { $0.contains(address) }) { return false }
        if let embedded = address.behindNAT64 { return allowed.contains { $0.contains(address) } && allows(embedded) }
        if allowed.contains(where: { $0.contains(address) }) { return true }
        if own.contains(address) { return false }
        switch address.family {
        case .v4: return !Self.refusedV4.contains { $0.contains(address) }
        case .v6: return Self.globalV6.contains { $0.contains(address) } && !Self.refusedV6.contains { $0.contains(address) }
        }
    }
}
