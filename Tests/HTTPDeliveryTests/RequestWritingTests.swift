import Glibc
@testable import HTTPDelivery
import Testing

/// A request goes out in as many pieces as the socket, or TLS, takes: after each what is left of it, and nothing else.
struct RequestWritingTests {
    private static let start = Array("POST /hook HTTP/1.1\r\nHost: example.com\r\n".utf8)

    private static func lines() -> HeaderLines {
        HeaderLines([HTTPHeader("content-type", "application/json"), HTTPHeader("webhook-id", "msg_1"), HTTPHeader("x-empty", "")])
    }

    private static func request(bodyBytes: Int) -> (lines: [UInt8], body: [UInt8], whole: [UInt8]) {
        var framed = lines()
        let lines = framed.takeFramed(bodyBytes: bodyBytes)
        let body = (0..<bodyBytes).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        return (lines, body, start + lines + body)
    }

    @Test func theHeadIsWhatItShouldBe() {
        #expect(
            String(decoding: Self.request(bodyBytes: 12).whole.prefix(150), as: UTF8.self)
                .hasPrefix(
                    "POST /hook HTTP/1.1\r\nHost: example.com\r\ncontent-type: application/json\r\nwebhook-id: msg_1\r\nx-empty: \r\nAccept: */*\r\nContent-Length: 12\r\n\r\n"
                ))
    }

    /// When so much of a request is written.
    private static func offsets(at written: Int, _ lines: [UInt8], bodyBytes: Int) -> RequestWriter.Offsets {
        var writer = RequestWriter(start: start.count, lines: lines.count, body: bodyBytes)
        writer.wrote(written)
        return writer.offsets
    }

    /// Every split in three of requests with and without each of their parts.
    @Test(arguments: [0, 3], [1, 4]) func everySplit(_ start: Int, _ lines: Int) {
        for body in [0, 1, 5] {
            let parts = [Array(0..<start), Array(start..<(start + lines)), Array((start + lines)..<(start + lines + body))]
            let whole = Array(parts.joined())
            for first in 0...whole.count {
                for second in first...whole.count {
                    var writer = RequestWriter(start: start, lines: lines, body: body)
                    var written: [Int] = []
                    for end in [first, second, whole.count] {
                        #expect(writer.written == written.count && writer.isDone == (written.count == whole.count))
                        let offsets = writer.offsets
                        let left = parts[0][offsets.start...] + parts[1][offsets.lines...] + parts[2][offsets.body...]
                        #expect(Array(left) == Array(whole[written.count...]))
                        writer.wrote(end - written.count)
                        written += left.prefix(end - written.count)
                    }
                    #expect(written == whole && writer.isDone)
                    #expect(writer.offsets == .init(start: start, lines: lines, body: body))
                }
            }
        }
    }

    @Test(arguments: [0, 1, 300]) func overTCPFromEachOffset(_ bodyBytes: Int) {
        let (lines, body, whole) = Self.request(bodyBytes: bodyBytes)
        var pair: [Int32] = [0, 0]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        defer { for end in pair { close(end) } }
        var buffer = [UInt8](repeating: 0, count: whole.count + 1)
        for offset in 0..<whole.count {
            let offsets = Self.offsets(at: offset, lines, bodyBytes: bodyBytes)
            let answer = body.withUnsafeBytes { SocketCalls.send(pair[0], Self.start, lines, $0, from: offsets) }
            guard case .bytes(let sent) = answer else {
                Issue.record("\(answer) at \(offset)")
                return
            }
            let count = read(pair[1], &buffer, buffer.count)
            #expect(sent == whole.count - offset && buffer.prefix(count).elementsEqual(whole[offset...]), "at \(offset)")
        }
    }

    /// What doesn't fit the socket's buffer goes out from where the last piece ended.
    @Test func overTCPInTheSocketsOwnPieces() {
        let (lines, body, whole) = Self.request(bodyBytes: 2_000_000)
        var pair: [Int32] = [0, 0]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        defer { for end in pair { close(end) } }
        var (received, pieces) = ([UInt8](), 0)
        var writer = RequestWriter(start: Self.start.count, lines: lines.count, body: body.count)
        var buffer = [UInt8](repeating: 0, count: 70_001)
        while received.count < whole.count {
            if !writer.isDone {
                switch body.withUnsafeBytes({ SocketCalls.send(pair[0], Self.start, lines, $0, from: writer.offsets) }) {
                case .bytes(let count):
                    writer.wrote(count)
                    pieces += 1
                case .wantsWrite: break
                case let other:
                    Issue.record("\(other)")
                    return
                }
            }
            let count = read(pair[1], &buffer, buffer.count)
            received += buffer.prefix(count)
        }
        #expect(received == whole && pieces > 2)
    }

    @Test(arguments: [0, 1, 300, 16_000, 40_000]) func overTLSFromEachOffset(_ bodyBytes: Int) {
        let (lines, body, whole) = Self.request(bodyBytes: bodyBytes)
        var scratch: [UInt8] = []
        // Each where something begins or ends, and some of a long body.
        let step = bodyBytes > 300 ? 61 : 1
        for offset in (0..<whole.count).filter({ $0 < 400 || $0 % step == 0 || whole.count - $0 < 5 }) {
            let offsets = Self.offsets(at: offset, lines, bodyBytes: bodyBytes)
            let record = body.withUnsafeBytes { TLSStream.withRecord(Self.start, lines, $0, from: offsets, &scratch) { Array($0) } }
            #expect(record == Array(whole[offset...].prefix(TLSStream.recordBytes)), "at \(offset)")
        }
    }

    /// A mark that would be one character with the space before it, a colon, nothing.
    @Test(arguments: ["\u{595}x", "a: b", ":", "", " ", "a\u{301}"]) func linesReadAsTheyWereWritten(_ value: String) {
        let headers = [HTTPHeader("x-first", value), HTTPHeader("x-last", value)]
        #expect(HeaderLines(headers).list.elementsEqual(headers) { $0.name == $1.name && Array($0.value.utf8) == Array($1.value.utf8) })
    }

    @Test(arguments: ["a\r\nx: y", "a\nb", "a\rb", "a\u{0}", "\u{7f}", "a\u{1}"]) func aValueThatCouldBeAnotherLineIsRefused(
        _ value: String
    ) {
        var lines = Self.lines()
        let before = lines.bytes
        lines.append("x-more", value)
        #expect(!lines.isSafe && lines.bytes == before)
        lines.append("x-fine", "a\tb \u{e4}")
        #expect(!lines.isSafe && lines.list.last?.value == "a\tb \u{e4}")
    }
}
