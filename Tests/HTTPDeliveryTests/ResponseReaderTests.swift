import Cryptography
@testable import HTTPDelivery
import Testing

/// The reader of responses, byte by byte: each sample in every split gives the same outcome.
struct ResponseReaderTests {
    struct Outcome: Equatable, CustomStringConvertible {
        var status: Int?
        var error: ErrorClass?
        var retryAfter: String?
        var excerpt = ""
        var isKept = false
        /// Whether the end of the stream was needed.
        var needsEnd = false

        var description: String {
            "status \(status.map(String.init) ?? "-"), error \(error?.rawValue ?? "-"), retry-after \(retryAfter ?? "-"), excerpt '\(excerpt)', kept \(isKept), needs the end \(needsEnd)"
        }
    }

    /// Reads `pieces`, and the end of the stream when more is wanted.
    static func read(_ pieces: [[UInt8]], excerptBytes: Int = 64) -> Outcome {
        var reader = ResponseReader(excerptBytes: excerptBytes)
        var progress = ResponseReader.Progress.more
        var isDone = false
        for piece in pieces {
            if isDone {
                // What lies behind the end is the owner's to notice: it comes while nobody asked.
                if !piece.isEmpty { isDone = true }
                continue
            }
            progress = reader.read(piece.span)
            if case .more = progress { continue }
            isDone = true
        }
        var outcome = Outcome(isKept: reader.mayKeep)
        if case .more = progress {
            outcome.needsEnd = true
            progress = reader.ended()
        }
        outcome.isKept = reader.mayKeep
        if case .failed(let kind, _) = progress { outcome.error = kind }
        (outcome.status, outcome.retryAfter) = (reader.status, reader.retryAfter)
        outcome.excerpt = String(decoding: reader.excerpt, as: UTF8.self)
        if outcome.error != nil { outcome.isKept = false }
        return outcome
    }

    struct Sample: Sendable, CustomTestStringConvertible {
        var name: String
        var text: String
        var outcome: Outcome
        var testDescription: String { name }
        init(
            _ name: String, _ text: String, _ status: Int?, _ error: ErrorClass? = nil, retryAfter: String? = nil, _ excerpt: String = "",
            kept: Bool = false, end: Bool = false
        ) {
            (self.name, self.text) = (name, text)
            outcome = Outcome(status: status, error: error, retryAfter: retryAfter, excerpt: excerpt, isKept: kept, needsEnd: end)
        }
    }

    static let samples = [
        Sample("no body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, kept: true),
        Sample("a length", "HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello", 200, nil, "hello", kept: true),
        Sample("no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, kept: true),
        Sample("204 has no body", "HTTP/1.1 204 No Content\r\n\r\n", 204, kept: true),
        Sample("204 whatever it says", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204),
        Sample("304 has no body", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304),
        Sample(
            "a name that is no token", "HTTP/1.1 200 OK\r\nTransfer-Encoding\u{b}: chunked\r\nContent-Length: 2\r\n\r\nok", 200, nil, "ok"),
        Sample(
            "something behind a chunk's size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 x\r\nok\r\n0\r\n\r\n", 200, nil, "ok"
        ),
        Sample("close", "HTTP/1.1 200 OK\r\nConnection: Keep-Alive, Close\r\nContent-Length: 0\r\n\r\n", 200),
        Sample("HTTP/1.0 closes", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        Sample("HTTP/1.0 may keep", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", 200, kept: true),
        Sample("to the end of the stream", "HTTP/1.1 200 OK\r\n\r\nall of it", 200, nil, "all of it", end: true),
        Sample(
            "chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n0a;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", 200, nil,
            "ab0123456789", kept: true),
        Sample(
            "trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n000\r\nRetry-After: 7\r\n\r\n", 200, nil, "a",
            kept: true
        ),
        Sample(
            "100 before",
            "HTTP/1.1 100 Continue\r\nRetry-After: 1\r\n\r\nHTTP/1.1 503 No\r\nRetry-After:  120 \r\nContent-Length: 0\r\n\r\n", 503,
            retryAfter: "120", kept: true),
        Sample(
            "103 with a length", "HTTP/1.1 103 Early\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200,
            kept: true),
        Sample("101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", nil, .protocol),
        Sample("the same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 200, nil, "a"),
        Sample("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", nil, .protocol),
        Sample("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na", nil, .protocol),
        Sample(
            "length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200, nil,
            "a"),
        Sample("a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", nil, .protocol),
        Sample("an endless length", "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000000\r\n\r\na", nil, .protocol),
        Sample("a length of hex", "HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\na", nil, .protocol),
        Sample("no length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", nil, .protocol),
        Sample("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\na", nil, .protocol),
        Sample("a space before another colon", "HTTP/1.1 200 OK\r\nX-Other : 1\r\nContent-Length: 0\r\n\r\n", 200),
        Sample("a folded length", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\na", nil, .protocol),
        Sample("a folded header", "HTTP/1.1 200 OK\r\nX-Other: 1\r\n\t2\r\nContent-Length: 0\r\n\r\n", 200),
        Sample("names that end their lines", "HTTP/1.1 200 OK\r\nConnection\r\nRetry-After\r\nContent-Length: 0\r\n\r\n", 200),
        Sample("a framing name that ends its line", "HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n", nil, .protocol),
        Sample("no colon", "HTTP/1.1 200 OK\r\nwhatever\r\nContent-Length: 0\r\n\r\n", 200),
        Sample("gzip, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", nil, .protocol),
        Sample(
            "chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", nil, .protocol),
        Sample("LF alone", "HTTP/1.1 200 OK\nContent-Length: 1\n\na", 200, nil, "a"),
        Sample("a lone CR", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n", nil, .protocol),
        Sample("NUL", "HTTP/1.1 200 OK\r\nX: a\u{0}b\r\nContent-Length: 0\r\n\r\n", nil, .protocol),
        Sample("HTTP/2", "HTTP/2 200\r\n\r\n", nil, .protocol),
        Sample("SSH", "SSH-2.0-OpenSSH_9\r\n", nil, .protocol),
        Sample("HTML", "<html>", nil, .protocol),
        Sample("four digits", "HTTP/1.1 2000 OK\r\n\r\n", nil, .protocol),
        Sample("two digits", "HTTP/1.1 20 OK\r\n\r\n", nil, .protocol),
        Sample("a status below 100", "HTTP/1.1 099 OK\r\n\r\n", nil, .protocol),
        Sample("nothing", "", nil, .reset, end: true),
        Sample("half a head", "HTTP/1.1 200 OK\r\nContent-Le", nil, .reset, end: true),
        Sample("half a body", "HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nhalf", 500, .protocol, "half", end: true),
        Sample("half the chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", 200, .protocol, "ab", end: true),
        Sample("no chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nab\r\n", 200, .protocol),
        Sample("a negative chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n", 200, .protocol),
        Sample("a huge chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 200, .protocol),
        Sample("a chunk longer than it says", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 200, .protocol, "a"),
        Sample(
            "the longest Retry-After",
            "HTTP/1.1 429 Slow\r\nRETRY-AFTER: \(String(repeating: "9", count: 200))\r\nContent-Length: 0\r\n\r\n", 429,
            retryAfter: String(repeating: "9", count: 64), kept: true),
        Sample(
            "a date", "HTTP/1.1 429 Slow\r\nRetry-After: Wed, 21 Oct  2015 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n", 429,
            retryAfter: "Wed, 21 Oct 2015 07:28:00 GMT", kept: true),
        Sample(
            "an excerpt at its bound", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n\(String(repeating: "e", count: 100))", 200, nil,
            String(repeating: "e", count: 64), kept: true),
    ]

    @Test(arguments: samples) func everySplit(_ sample: Sample) {
        let bytes = Array(sample.text.utf8)
        #expect(Self.read([bytes]) == sample.outcome)
        #expect(Self.read(bytes.map { [$0] }) == sample.outcome)
        for first in 0...bytes.count {
            #expect(Self.read([Array(bytes[..<first]), Array(bytes[first...])]) == sample.outcome, "split at \(first)")
        }
        // Three pieces, a quarter of all ways.
        for first in stride(from: 0, through: bytes.count, by: 2) {
            for second in stride(from: first, through: bytes.count, by: 2) {
                let pieces = [Array(bytes[..<first]), Array(bytes[first..<second]), Array(bytes[second...])]
                guard Self.read(pieces) == sample.outcome else {
                    Issue.record("split at \(first) and \(second)")
                    return
                }
            }
        }
    }

    /// RFC 9110, 5.6.2: a name with anything else in it, and the connection isn't used again.
    @Test func eachByteOfAName() {
        let others = Set("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".utf8)
        // Of the framing, or refused anywhere in a head.
        let apart: Set<UInt8> = [0, 0x0a, 0x0d, UInt8(ascii: ":")]
        for byte in UInt8.min...UInt8.max where !apart.contains(byte) {
            for name in [[byte], Array("X-Name-".utf8) + [byte] + Array("-of-it".utf8)] {
                let outcome = Self.read([
                    Array("HTTP/1.1 200 OK\r\n".utf8) + name + Array(": 1\r\nContent-Length: 0\r\n\r\n".utf8)
                ])
                #expect(outcome.status == 200 && outcome.isKept == others.contains(byte), "\(byte)")
            }
        }
    }

    /// What comes in one piece with the end of a response, and doesn't belong to it, ends the connection.
    @Test(arguments: samples.filter { $0.outcome.isKept }) func moreThanAnnounced(_ sample: Sample) {
        var reader = ResponseReader()
        let bytes = Array((sample.text + "H").utf8)
        guard case .complete = reader.read(bytes.span) else {
            Issue.record("not complete")
            return
        }
        #expect(!reader.mayKeep && reader.status == sample.outcome.status)
    }

    private func endless(_ head: String, _ piece: String, upTo limit: Int = 4 << 20) -> (ResponseReader, ResponseReader.Progress, Int) {
        var reader = ResponseReader()
        var progress = reader.read(Array(head.utf8).span)
        let more = Array(String(repeating: piece, count: max(1, 1_000 / piece.utf8.count)).utf8)
        var read = 0
        while case .more = progress, read < limit {
            progress = reader.read(more.span)
            read += more.count
        }
        return (reader, progress, read)
    }

    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"), ("HTTP/1.1 200 OK\r\nX: ", "a"), ("", "HTTP/1.1 103 Early\r\n\r\n"),
        ("HTTP/1.1 200 ", "OK "),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X-Trailer: a\r\n"),
    ]) func headsAreBounded(_ head: String, _ piece: String) {
        let (reader, progress, read) = endless(head, piece)
        guard case .failed(.tooLarge, _) = progress else {
            Issue.record("\(progress) after \(read) bytes")
            return
        }
        #expect(read <= ResponseLimits.headerBytes + 2_000 && reader.excerpt.isEmpty)
    }

    @Test func bodiesAreCutAndJudgedByTheirStatus() {
        for head in [
            "HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 500 No\r\nContent-Length: 9999999\r\n\r\n",
            "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        ] {
            let (reader, progress, read) = endless(head, "a")
            guard case .complete = progress else {
                Issue.record("\(progress) after \(read) bytes")
                return
            }
            #expect(reader.status == 500 && !reader.mayKeep && read <= ResponseLimits.bodyBytes + 2_000 && reader.excerpt.count == 1_024)
        }
    }

    @Test func chunkSizesAreBounded() {
        for piece in ["1;\(String(repeating: "x", count: 500))\r\na\r\n", ";"] {
            let (reader, progress, read) = endless(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (piece == ";" ? "5" : ""), piece)
            guard case .failed(.tooLarge, _) = progress else {
                Issue.record("\(progress) after \(read) bytes")
                return
            }
            #expect(reader.status == 200 && read <= ResponseReader.chunkOverheadBytes + ResponseLimits.bodyBytes)
        }
        // The longest body, a byte a chunk, is within the bound.
        var reader = ResponseReader()
        _ = reader.read(Array("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".utf8).span)
        for _ in 0..<ResponseLimits.bodyBytes {
            guard case .more = reader.read(Array("1\r\na\r\n".utf8).span) else {
                Issue.record("a body within its bound was cut")
                return
            }
        }
        guard case .complete = reader.read(Array("0\r\n\r\n".utf8).span) else {
            Issue.record("not complete")
            return
        }
        #expect(reader.mayKeep)
    }
}

struct RequestHeadTests {
    /// All of a request but its body.
    private func start(_ url: String, _ headers: HeaderLines, bodyBytes: Int) throws -> [UInt8] {
        var headers = headers
        let target = RequestTarget(try EndpointURL(url, rules: .init(allowHTTP: true, addresses: ConnectGateTests.everything)))
        return target.start + headers.takeFramed(bodyBytes: bodyBytes)
    }

    @Test func isWrittenByteByByte() throws {
        let head = try start(
            "http://127.0.0.1:8080/a?b=c",
            HeaderLines([.init("webhook-id", "msg_1"), .init("x-empty", "")]), bodyBytes: 1_234)
        #expect(
            String(decoding: head, as: UTF8.self)
                == "POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nwebhook-id: msg_1\r\nx-empty: \r\nAccept: */*\r\nContent-Length: 1234\r\n\r\n"
        )
        let own = try start("https://example.com", HeaderLines([.init("ACCEPT", "text/plain")]), bodyBytes: 0)
        #expect(
            String(decoding: own, as: UTF8.self)
                == "POST / HTTP/1.1\r\nHost: example.com\r\nACCEPT: text/plain\r\nContent-Length: 0\r\n\r\n")
        #expect(
            String(decoding: try start("http://[::1]:8080/", HeaderLines(), bodyBytes: 1), as: UTF8.self).contains(
                "Host: [::1]:8080\r\n"))
    }

    /// Every byte in a name and in a value: what could begin another line gets neither in nor out.
    @Test func everyByte() {
        for byte in UInt8.min...UInt8.max {
            var lines = HeaderLines()
            lines.append(HeaderName("x")) { $0 += [UInt8(ascii: "a"), byte, UInt8(ascii: "b")] }
            let isFit = byte >= 0x20 && byte != 0x7f || byte == 0x09
            #expect(lines.isSafe == isFit && (lines.bytes.isEmpty == !isFit), "value byte \(byte)")
        }
        for scalar in (0..<0x80).compactMap(Unicode.Scalar.init as (Int) -> Unicode.Scalar?) {
            var lines = HeaderLines()
            lines.append("x\(Character(scalar))y", "v")
            #expect(lines.isSafe == (scalar.value > 0x20 && scalar.value < 0x7f && scalar != ":"), "name byte \(scalar.value)")
        }
        var lines = HeaderLines([.init("a", "1"), .init("", "2"), .init("b", "3")])
        #expect(!lines.isSafe && lines.list == [.init("a", "1"), .init("b", "3")])
        lines.append("c", "4")
        #expect(!lines.isSafe)
    }

    @Test func numbers() {
        for number in [0, 1, 9, 10, 99, 100, 1_234_567_890_123, .max, -1, .min] {
            var out: [UInt8] = []
            Decimal.append(number, to: &out)
            #expect(String(decoding: out, as: UTF8.self) == String(number))
        }
    }
}
