private import Synchronization

/// What TLS to one receiver needs beyond the deployment's settings, in PEM: authorities that are trusted besides, and a client certificate
/// with its key. Immutable, and shared by all lanes. A connection is kept for requests of the same identity only.
public final class TLSIdentity: Sendable {
    /// Empty: none beside the deployment's.
    public let authorities: [UInt8]
    /// The certificate and its chain; empty: none is shown.
    public let certificate: [UInt8]
    public let key: [UInt8]
    /// Of this one alone, as long as the process lives.
    let number = TLSIdentity.count.wrappingAdd(1, ordering: .relaxed).newValue
    private static let count = Atomic<UInt64>(0)

    public init(authorities: [UInt8] = [], certificate: [UInt8] = [], key: [UInt8] = []) {
        (self.authorities, self.certificate, self.key) = (authorities, certificate, key)
    }
}
