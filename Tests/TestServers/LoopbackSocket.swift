public import Foundation

/// A socket on a free loopback port.
public enum LoopbackSocket {
    /// `host`: the last number of 127.0.0.x.
    public static func bound(_ kind: __socket_type, port: UInt16 = 0, host: UInt32 = 1) -> (descriptor: Int32, port: UInt16) {
        let fd = socket(AF_INET, Int32(kind.rawValue), 0)
        var address = address(port: port, host: host)
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(fd, $0, size)
                _ = getsockname(fd, $0, &size)
            }
        }
        return (fd, UInt16(bigEndian: address.sin_port))
    }

    /// One that listens; `backlog` connections wait to be taken.
    public static func listening(backlog: Int32, port: UInt16 = 0, host: UInt32 = 1) -> (descriptor: Int32, port: UInt16) {
        let made = bound(SOCK_STREAM, port: port, host: host)
        listen(made.descriptor, backlog)
        return made
    }

    public static func address(port: UInt16, host: UInt32 = 1) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = (0x7f00_0000 + host).bigEndian
        address.sin_port = port.bigEndian
        return address
    }
}
