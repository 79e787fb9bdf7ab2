import Foundation
import HTTPServing
import Testing
import TestServers

struct HTTPServerTests {
    /// libmicrohttpd's loop over epoll takes 128 events at once, and waits for more when these were all.
    @Test(.serialized, arguments: [127, 128, 129, 256]) func allThatAskAtOnceAreAnswered(_ count: Int) throws {
        let (began, mayEnd) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let server = try HTTPServer(.init(port: 0)) { request in
            if request.path == "/slow" {
                began.signal()
                mayEnd.wait()
            }
            return .init(200, body: "ok")
        }
        defer { server.stop() }
        let connections = (0...count).map { _ in connect(server.port) }
        defer { for connection in connections { close(connection) } }
        for connection in connections {
            ask(connection, "/")
            #expect(isAnswered(connection))
        }
        // While the server's thread is busy, all others ask.
        ask(connections[0], "/slow")
        try #require(began.wait(timeout: .now() + 10) == .success)
        for connection in connections.dropFirst() { ask(connection, "/") }
        mayEnd.signal()
        #expect(connections.allSatisfy(isAnswered))
    }

    private func connect(_ port: UInt16) -> Int32 {
        let made = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = LoopbackSocket.address(port: port)
        // Only there to fail instead of hanging.
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(made, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        #expect(result == 0)
        return made
    }

    private func ask(_ connection: Int32, _ path: String) {
        let request = Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8)
        #expect(send(connection, request, request.count, Int32(MSG_NOSIGNAL)) == request.count)
    }

    private func isAnswered(_ connection: Int32) -> Bool {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1_024)
        while !bytes.ends(with: "\r\n\r\nok".utf8) {
            let count = recv(connection, &buffer, buffer.count, 0)
            guard count > 0 else { return false }
            bytes += buffer[..<count]
        }
        return true
    }
}

extension [UInt8] {
    fileprivate func ends(with other: String.UTF8View) -> Bool { suffix(other.count).elementsEqual(other) }
}
