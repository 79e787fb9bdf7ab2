import EventLoop
import Foundation
import Synchronization

/// A name server on loopback: knows A records, and AAAA records where an address has a colon, and may say something else each time it is asked.
public final class DNSServer: Sendable {
    private let descriptor: Int32
    public let port: UInt16
    private let counts = Mutex<[String: Int]>([:])
    private let thread = Mutex<WorkerThread?>(nil)

    /// `answer`: the addresses of a name when it is asked for the n-th time (from 1); nil: there is no such name.
    public init(_ answer: @escaping @Sendable (String, Int) -> [String]?) {
        (descriptor, port) = LoopbackSocket.bound(SOCK_DGRAM)
        let made = WorkerThread("dns") { [self] in serve(answer) }
        thread.withLock { $0 = made }
    }

    /// How often the addresses of a name were asked for.
    public func count(_ name: String) -> Int { counts.withLock { $0[name] ?? 0 } }

    private func serve(_ answer: (String, Int) -> [String]?) {
        var buffer = [UInt8](repeating: 0, count: 1_024)
        while true {
            var peer = sockaddr_storage()
            var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let count = withUnsafeMutablePointer(to: &peer) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(descriptor, &buffer, buffer.count, 0, $0, &size) }
            }
            guard count > 12 else { return }
            let reply = reply(to: Array(buffer[0..<count]), answer)
            _ = withUnsafeMutablePointer(to: &peer) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(descriptor, reply, reply.count, 0, $0, size) }
            }
        }
    }

    private func reply(to query: [UInt8], _ answer: (String, Int) -> [String]?) -> [UInt8] {
        var labels: [String] = []
        var place = 12
        while place < query.count, query[place] > 0 {
            let length = Int(query[place])
            labels.append(String(decoding: query[(place + 1)..<min(query.count, place + 1 + length)], as: UTF8.self))
            place += 1 + length
        }
        let question = query[12..<min(query.count, place + 5)]
        let kind = query.count > place + 2 && query[place + 1] == 0 ? query[place + 2] : 0
        let name = labels.joined(separator: ".")
        var addresses: [String]? = []
        if kind == 1 {
            let number = counts.withLock { counts in
                counts[name, default: 0] += 1
                return counts[name] ?? 1
            }
            addresses = answer(name, number)?.filter { !$0.contains(":") }
        } else if kind == 28 {
            addresses = answer(name, 1)?.filter { $0.contains(":") }
        }
        // Id; response, recursion; one question; so many answers.
        var out =
            Array(query[0..<2]) + [0x81, addresses == nil ? 0x83 : 0x80, 0, 1, 0, UInt8(addresses?.count ?? 0), 0, 0, 0, 0] + question
        for address in addresses ?? [] {
            // The question's name, A or AAAA, IN, a second to live, the address.
            let bytes = Self.bytes(address)
            out += [0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1, 0, UInt8(bytes.count)] + bytes
        }
        return out
    }

    private static func bytes(_ address: String) -> [UInt8] {
        guard address.contains(":") else { return address.split(separator: ".").compactMap { UInt8($0) } }
        var bytes = [UInt8](repeating: 0, count: 16)
        inet_pton(AF_INET6, address, &bytes)
        return bytes
    }

    public func stop() {
        shutdown(descriptor, Int32(SHUT_RDWR))
        thread.withLock { $0 }?.join()
        close(descriptor)
    }
}
