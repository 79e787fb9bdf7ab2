import EventLoop
import Foundation
import HTTPDelivery
import HTTPServing
import Synchronization
import Testing

/// Receivers that misbehave, on each transport: every attempt ends at its bound, classified; neighbours and memory don't suffer.
@Suite(.serialized) struct HostileReceiverTests {
    typealias Kind = TransportConformanceTests.Kind
    static let timeouts = Timeouts(connectMilliseconds: 500, totalMilliseconds: 900)

    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        var script: RawServer.Script
        var status: Int?
        var error: ErrorClass?
        /// Of the direct transport, where it ends sooner.
        var direct: ErrorClass?
        var testDescription: String { name }
    }

    private static func text(_ text: String) -> [UInt8] { Array(text.utf8) }

    /// Answers that are taken say that the connection is closed: the next request would meet that on a kept one (`TransportConformanceTests`).
    static let cases = [
        Case(
            name: "a head that drips", script: .drip(text("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Long: "), then: text("a")),
            error: .timeout),
        Case(
            name: "a body that drips", script: .drip(text("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"), then: text("a")),
            status: 200,
            error: .timeout),
        Case(
            name: "endless chunks",
            script: .flood(text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), then: text("5\r\nhello\r\n")), status: 200),
        Case(
            name: "one endless chunk",
            script: .flood(text("HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"), then: text("aaaa")),
            status: 500),
        Case(
            name: "an endless chunk extension",
            script: .flood(text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;"), then: text("aaaaaaaa")), status: 200,
            error: .timeout, direct: .tooLarge),
        Case(
            name: "endless headers", script: .flood(text("HTTP/1.1 200 OK\r\n"), then: text("X-More: aaaaaaaaaaaaaaaa\r\n")),
            error: .tooLarge),
        Case(name: "endless 1xx", script: .flood([], then: text("HTTP/1.1 102 Processing\r\n\r\n")), error: .tooLarge),
        Case(name: "an endless body", script: .flood(text("HTTP/1.1 503 No\r\n\r\n"), then: text("aaaaaaaa")), status: 503),
        Case(name: "HTTP/0.9", script: .once(text("<html>welcome</html>\n")), error: .protocol),
        Case(name: "a reset in the head", script: .reset(text("HTTP/1.1 200 OK\r\nContent-Le")), error: .reset),
        Case(
            name: "a reset in the body", script: .reset(text("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")), status: 200,
            error: .reset),
        Case(name: "more than it said", script: .once(text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more")), status: 200),
        Case(
            name: "less than it said", script: .once(text("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok")), status: 200, error: .protocol
        ),
        Case(name: "a length that is no number", script: .once(text("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n")), error: .protocol),
        Case(
            name: "a transfer coding that would be undone",
            script: .once(text("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n") + bomb),
            error: .protocol),
        Case(
            name: "a bomb of transfer codings",
            script: .once(text("HTTP/1.1 200 OK\r\nTRANSFER-ENCODING:  gzip, gzip, gzip\r\nContent-Type: a\r\n\r\n") + bomb),
            error: .protocol),
        Case(
            name: "codings behind many spaces",
            script: .once(
                text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + String(repeating: " ", count: 72) + ", gzip, gzip\r\n\r\n") + bomb),
            error: .protocol),
        Case(
            name: "chunked twice",
            script: .once(text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n")),
            error: .protocol),
        Case(name: "a negative length", script: .once(text("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")), error: .protocol),
        Case(
            name: "a compressed bomb stays as it is",
            script: .once(text("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1030\r\nConnection: close\r\n\r\n") + bomb),
            status: 200),
        Case(
            name: "a redirect to a private address",
            script: .once(text("HTTP/1.1 307 T\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
            status: 307),
        Case(name: "plain text where TLS was asked for", script: .once(text("HTTP/1.1 200 OK\r\n\r\n")), error: .tls),
    ]
    /// A mebibyte of zeros, compressed, would have this many bytes.
    static let bomb = [UInt8]([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]) + [UInt8](repeating: 0, count: 1_020)

    @Test(arguments: Kind.allCases, cases) func endsAtItsBound(_ kind: Kind, _ hostile: Case) throws {
        let server = RawServer(hostile.script)
        defer { server.stop() }
        let healthy = try HTTPServer(.init(port: 0)) { _ in .init(200) }
        defer { healthy.stop() }
        let scheme = hostile.error == .tls ? "https" : "http"
        let neighbours = Array(repeating: "http://127.0.0.1:\(healthy.port)/", count: 5)
        let results = try TransportConformanceTests.send(
            kind, ["\(scheme)://127.0.0.1:\(server.port)/"] + neighbours, timeouts: Self.timeouts)
        let expected = kind == .direct ? hostile.direct ?? hostile.error : hostile.error
        #expect(results[0].error?.kind == expected, "\(results[0])")
        if let status = hostile.status { #expect(results[0].status == status, "\(results[0])") }
        #expect(results[0].timings.total < 2_000_000 && results[0].excerpt.count <= ResponseLimits.excerptBytes)
        #expect(results.dropFirst().allSatisfy { $0.status == 200 && $0.error == nil })
        // What isn't ended by time is ended by what is read: the rest lies in the system's buffers, whose sizes are bounded.
        if hostile.error != .timeout { #expect(server.bytesSent.load(ordering: .relaxed) < 16 << 20) }
    }

    /// Every case, again and again: what it takes is given back. Less than 40 KiB of each request may stay, where a body that is kept has 64; other
    /// suites in this process may take memory meanwhile, but not every time.
    @Test(arguments: Kind.allCases) func memoryStaysFlat(_ kind: Kind) throws {
        for hostile in Self.cases {
            let expected = kind == .direct ? hostile.direct ?? hostile.error : hostile.error
            let server = RawServer(hostile.script)
            defer { server.stop() }
            // What only time ends is given less of it, and comes less often.
            let count = expected == .timeout ? 15 : 100
            let timeouts = expected == .timeout ? Timeouts(connectMilliseconds: 100, totalMilliseconds: 100) : Self.timeouts
            let urls = Array(repeating: "\(hostile.error == .tls ? "https" : "http")://127.0.0.1:\(server.port)/", count: count)
            var grown = Int.max
            for round in 0..<6 where grown > count * 40 << 10 {
                let before = ProcessUsage.residentBytes()
                let results = try TransportConformanceTests.send(kind, urls, timeouts: timeouts, sequential: true)
                let other = results.first { $0.error?.kind != expected }
                #expect(other == nil, "\(hostile.name): \(String(describing: other))")
                // In the first round caches fill.
                if round > 0 { grown = Int(ProcessUsage.residentBytes() - before) }
            }
            #expect(grown <= count * 40 << 10, "\(hostile.name): \(grown >> 10) KiB more after \(count) requests")
        }
    }

    /// What was compressed isn't opened: the excerpt is what came.
    @Test(arguments: Kind.allCases) func nothingIsDecompressed(_ kind: Kind) throws {
        let server = RawServer(.once(Self.text("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1030\r\n\r\n") + Self.bomb))
        defer { server.stop() }
        let result = try TransportConformanceTests.send(kind, ["http://127.0.0.1:\(server.port)/"])[0]
        #expect(result.excerpt == Array(Self.bomb.prefix(ResponseLimits.excerptBytes)))
    }
}
