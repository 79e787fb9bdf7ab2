import Foundation
import TestServers

/// A listener whose queue is full: further connections are neither taken nor refused.
final class FullListener {
    private let listener: Int32
    private var clients: [Int32] = []
    let port: UInt16

    /// `host`: the last number of 127.0.0.x.
    init(port wanted: UInt16 = 0, host: UInt32 = 1) {
        (listener, port) = LoopbackSocket.listening(backlog: 0, port: wanted, host: host)
        var address = LoopbackSocket.address(port: port, host: host)
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        for _ in 0..<4 {
            let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
            withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = connect(client, $0, size) }
            }
            clients.append(client)
        }
    }

    func stop() {
        for client in clients { close(client) }
        close(listener)
    }
}
