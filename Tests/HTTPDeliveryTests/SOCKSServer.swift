import EventLoop
import Foundation
import TestServers
import Synchronization

/// A SOCKS5 proxy that reaches nobody: it notes what was asked for and answers the request itself.
final class SOCKSServer: Sendable {
    private let listener: Int32
    let port: UInt16
    private let name = Mutex("")
    private let thread = Mutex<WorkerThread?>(nil)
    var asked: String { name.withLock { $0 } }

    init(answer: [UInt8]) {
        (listener, port) = LoopbackSocket.listening(backlog: 8)
        let made = WorkerThread("socks") { [self] in serve(answer) }
        thread.withLock { $0 = made }
    }

    private func serve(_ answer: [UInt8]) {
        while true {
            let peer = accept(listener, nil, nil)
            guard peer >= 0 else { return }
            var buffer = [UInt8](repeating: 0, count: 65_536)
            // Version and methods; then version, CONNECT, 0, a name with its length, the port.
            _ = read(peer, &buffer, buffer.count)
            _ = send(peer, [5, 0] as [UInt8], 2, Int32(MSG_NOSIGNAL))
            let count = read(peer, &buffer, buffer.count)
            if count > 7, buffer[0...3] == [5, 1, 0, 3] {
                let length = Int(buffer[4])
                let asked = String(decoding: buffer[5..<5 + length], as: UTF8.self)
                let port = Int(buffer[5 + length]) << 8 | Int(buffer[6 + length])
                name.withLock { $0 = "\(asked):\(port)" }
            }
            _ = send(peer, [5, 0, 0, 1, 127, 0, 0, 1, 0, 80] as [UInt8], 10, Int32(MSG_NOSIGNAL))
            _ = read(peer, &buffer, buffer.count)
            _ = send(peer, answer, answer.count, Int32(MSG_NOSIGNAL))
            close(peer)
        }
    }

    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
        thread.withLock { $0 }?.join()
    }
}
