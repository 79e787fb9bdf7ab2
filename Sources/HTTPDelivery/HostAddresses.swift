internal import CCares
internal import CLibcurl
internal import CLinux
internal import Glibc

extension IPAddress {
    /// The addresses of this host's interfaces, as they are now.
    public static func ofThisHost() -> [IPAddress] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var found: Set<IPAddress> = []
        var entry = list
        while let interface = entry?.pointee {
            if let address = interface.ifa_addr.flatMap({ IPAddress($0) }) { found.insert(address) }
            entry = interface.ifa_next
        }
        return found.sorted { ($0.high, $0.low) < ($1.high, $1.low) }
    }
}
