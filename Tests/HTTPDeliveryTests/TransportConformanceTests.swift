import EventLoop
import HTTPDelivery
import HTTPServing
import Synchronization
import Testing

final class Bytes: BodyBytes {
    private let storage: UnsafeMutableRawBufferPointer
    init(_ text: String) {
        storage = .allocate(byteCount: text.utf8.count, alignment: 1)
        storage.copyBytes(from: text.utf8)
    }
    deinit { storage.deallocate() }
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(storage) }
}

/// What every transport must do, run on each of them.
@Suite(.serialized) struct TransportConformanceTests {
    typealias Kind = TransportKind

    static let rules = EndpointURL.Rules(allowHTTP: true, addresses: AddressPolicy(allowed: [Network("127.0.0.0/8")].compactMap(\.self)))

    /// Drives a transport until `count` requests have ended.
    static func send(
        _ kind: Kind, _ urls: [String], body: String = "{}", headers: [HTTPHeader] = [],
        timeouts: Timeouts = Timeouts(connectMilliseconds: 2_000, totalMilliseconds: 3_000),
        addresses: AddressPolicy = rules.addresses, sequential: Bool = false, bundle: String = "/etc/ssl/certs/ca-certificates.crt",
        extra: String? = nil, tls: [TLSIdentity?] = [nil], proxy: EgressProxy? = nil, nameServers: String? = nil, idlePool: Int? = nil,
        rules: EndpointURL.Rules = rules, between: (any HTTPTransport, Int) -> Void = { _, _ in },
        whileWaiting: (any HTTPTransport) -> Void = { _ in }
    ) throws -> [HTTPResult] {
        let loop = EventLoop()
        var configuration = TransportConfiguration(addresses: addresses)
        (configuration.caBundlePath, configuration.extraAuthoritiesPath, configuration.proxy) = (bundle, extra, proxy)
        configuration.nameServers = nameServers
        configuration.transport = kind
        configuration.idlePool = idlePool ?? configuration.idlePool
        let transport = DeliveryTransport(loop, tokens: 1 << 40, configuration)
        var results: [HTTPResult] = []
        var next = 0
        func start() throws {
            let url = try EndpointURL(urls[next], rules: rules)
            transport.start(
                HTTPRequest(
                    token: UInt64(next), target: RequestTarget(url, tls: tls[next % tls.count]), headers: HeaderLines(headers),
                    body: Bytes(body), timeouts: timeouts),
                nowMicroseconds: SystemClock.monotonicMicroseconds())
            next += 1
        }
        while next < (sequential ? 1 : urls.count) { try start() }
        while results.count < urls.count {
            let now = SystemClock.monotonicMicroseconds()
            let wait = transport.nextDeadlineMicroseconds.map { max(0, Int(($0 - now + 999) / 1_000)) } ?? 1_000
            whileWaiting(transport)
            loop.wait(milliseconds: min(wait, 50)) { transport.handle($0, nowMicroseconds: SystemClock.monotonicMicroseconds()) }
            transport.advance(nowMicroseconds: SystemClock.monotonicMicroseconds())
            let before = results.count
            transport.drain { results.append($0) }
            if results.count > before { between(transport, results.count) }
            if sequential, results.count > before, next < urls.count { try start() }
        }
        return results.sorted { $0.token < $1.token }
    }

    @Test(arguments: Kind.allCases) func deliversBodyAndHeaders(_ kind: Kind) throws {
        let seen = Mutex<[HTTPServer.Request]>([])
        let server = try HTTPServer(.init(port: 0)) { request in
            seen.withLock { $0.append(request) }
            return .init(204)
        }
        defer { server.stop() }
        let results = try Self.send(
            kind, ["http://127.0.0.1:\(server.port)/hook?x=1"], body: "{\"a\":1}",
            headers: [.init("webhook-id", "msg_1"), .init("x-empty", "")])
        #expect(results[0].status == 204 && results[0].error == nil)
        #expect(results[0].timings.total > 0 && results[0].timings.connect != nil)
        let request = try #require(seen.withLock { $0 }.first)
        #expect(request.method == "POST" && request.path == "/hook" && request.body == Array("{\"a\":1}".utf8))
        #expect(request.header("webhook-id") == "msg_1" && request.header("x-empty") == "" && request.header("content-length") == "7")
        #expect(request.header("expect") == nil && request.header("accept-encoding") == nil && request.header("transfer-encoding") == nil)
    }

    @Test(arguments: Kind.allCases) func valuesWithColons(_ kind: Kind) throws {
        let seen = Mutex<[HTTPServer.Request]>([])
        let server = try HTTPServer(.init(port: 0)) { request in
            seen.withLock { $0.append(request) }
            return .init(204)
        }
        defer { server.stop() }
        let values = ["x-note": "see: ", "x-empty": "", "x-both": "a: b: "]
        _ = try Self.send(kind, ["http://127.0.0.1:\(server.port)/"], headers: values.map { HTTPHeader($0, $1) })
        let request = try #require(seen.withLock { $0 }.first)
        // Spaces at a value's end are no part of it (RFC 9110, 5.5).
        for (name, value) in values { #expect(request.header(name)?.split(separator: " ") == value.split(separator: " ")) }
    }

    /// What follows a response that is longer than a small buffer would be taken for the next one's.
    @Test(arguments: Kind.allCases, [10, 1_500]) func bytesBehindAResponseSpoilTheConnection(_ kind: Kind, _ size: Int) throws {
        let body = String(repeating: "b", count: size)
        let stray = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        let server = RawServer(
            [Array("HTTP/1.1 500 No\r\nContent-Length: \(size)\r\n\r\n\(body)\(stray)".utf8)], after: .keep)
        defer { server.stop() }
        let results = try Self.send(kind, Array(repeating: "http://127.0.0.1:\(server.port)/", count: 2), sequential: true)
        #expect(results.allSatisfy { $0.status == 500 })
    }

    @Test(arguments: Kind.allCases, ["http/1.1 500 No", "HTTP/x 500 No", "HTTP/1.1500 No", "HTTP/1.1 x"])
    func oddStatusLinesAreNoSuccess(_ kind: Kind, _ line: String) throws {
        let server = RawServer([Array("\(line)\r\nContent-Length: 0\r\n\r\n".utf8)])
        defer { server.stop() }
        let result = try Self.send(kind, ["http://127.0.0.1:\(server.port)/"])[0]
        #expect(result.error?.kind == .protocol)
    }

    @Test(arguments: Kind.allCases) func manyAndLongHeaders(_ kind: Kind) throws {
        let seen = Mutex<[HTTPServer.Request]>([])
        let server = try HTTPServer(.init(port: 0)) { request in
            seen.withLock { $0.append(request) }
            return .init(204)
        }
        defer { server.stop() }
        let headers = (0..<60).map { HTTPHeader("x-\($0)", String(repeating: "v", count: $0 * 5)) } + [HTTPHeader("accept", "text/plain")]
        let urls = Array(repeating: "http://127.0.0.1:\(server.port)/", count: 2)
        #expect(try Self.send(kind, urls, headers: headers, sequential: true).allSatisfy { $0.status == 204 })
        for request in seen.withLock({ $0 }) {
            for header in headers { #expect(request.header(header.name) == header.value, "\(header.name)") }
        }
    }

    @Test(arguments: Kind.allCases) func pathsGoOutAsTheyStand(_ kind: Kind) throws {
        let server = RawServer([Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8)], after: .close)
        defer { server.stop() }
        let paths = ["/", "/a/../b", "/a/./%2e%2e/c?to=../d&e=%20", "/?q", "/a//b;c=d?"]
        let results = try Self.send(kind, paths.map { "http://127.0.0.1:\(server.port)\($0)" }, sequential: true)
        #expect(results.allSatisfy { $0.status == 200 })
        #expect(server.requestLines == paths.map { "POST \($0) HTTP/1.1" })
    }

    @Test(arguments: Kind.allCases) func sendsEmptyBodies(_ kind: Kind) throws {
        let server = try HTTPServer(.init(port: 0)) { .init($0.body.isEmpty && $0.header("content-length") == "0" ? 200 : 500) }
        defer { server.stop() }
        #expect(try Self.send(kind, ["http://127.0.0.1:\(server.port)/"], body: "")[0].status == 200)
    }

    @Test(arguments: Kind.allCases) func keepsConnections(_ kind: Kind) throws {
        let answer = Array("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".utf8)
        let server = RawServer([answer], after: .close)
        defer { server.stop() }
        // Closed by the peer each time: every request gets a new connection, none fails.
        let results = try Self.send(kind, Array(repeating: "http://127.0.0.1:\(server.port)/", count: 3), sequential: true)
        #expect(results.allSatisfy { $0.status == 200 && $0.error == nil })
        #expect(server.connections.load(ordering: .relaxed) == 3)
        let keeping = try HTTPServer(.init(port: 0)) { _ in .init(200) }
        defer { keeping.stop() }
        let kept = try Self.send(kind, Array(repeating: "http://127.0.0.1:\(keeping.port)/", count: 3), sequential: true)
        #expect(kept[0].timings.connect != nil && kept[1].timings.connect == nil && kept[2].timings.connect == nil)
    }

    struct Answer: Sendable, CustomTestStringConvertible {
        var name: String
        var bytes: [UInt8]
        var after = RawServer.After.close
        var status: Int?
        var error: ErrorClass?
        var testDescription: String { name }
    }

    static let answers = [
        Answer(
            name: "301 isn't followed", bytes: Array("HTTP/1.1 301 M\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".utf8),
            status: 301),
        Answer(
            name: "chunked", bytes: Array("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".utf8), status: 200),
        Answer(name: "delimited by the close", bytes: Array("HTTP/1.0 200 OK\r\n\r\nbody".utf8), status: 200),
        Answer(
            name: "100 before 200", bytes: Array("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8),
            status: 200),
        Answer(name: "nothing", bytes: [], error: .reset),
        Answer(name: "reset", bytes: [], after: .reset, error: .reset),
        Answer(name: "reset in the head", bytes: Array("HTTP/1.1 20".utf8), after: .reset, error: .reset),
        Answer(name: "no HTTP", bytes: Array("SSH-2.0-OpenSSH\r\n\r\n".utf8), error: .protocol),
        Answer(
            name: "body shorter than said", bytes: Array("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".utf8), status: 200,
            error: .protocol),
        Answer(
            name: "bad chunk", bytes: Array("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".utf8), status: 200,
            error: .protocol),
        Answer(
            name: "endless headers",
            bytes: Array(("HTTP/1.1 200 OK\r\n" + String(repeating: "x-a: \(String(repeating: "b", count: 100))\r\n", count: 2_000)).utf8),
            after: .keep, error: .tooLarge),
        Answer(
            name: "one endless header line", bytes: Array(("HTTP/1.1 200 OK\r\nx: " + String(repeating: "b", count: 200_000)).utf8),
            after: .keep, error: .tooLarge),
        Answer(
            name: "endless 1xx", bytes: Array(String(repeating: "HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n", count: 10_000).utf8),
            after: .keep, error: .tooLarge),
        Answer(
            name: "a body over the cap is judged by its status",
            bytes: Array(("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + String(repeating: "b", count: 200_000)).utf8),
            after: .keep, status: 200),
        Answer(name: "hangs", bytes: [], after: .keep, error: .timeout),
        Answer(
            name: "hangs in the body", bytes: Array("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na".utf8), after: .keep, status: 200,
            error: .timeout),
    ]

    @Test(arguments: Kind.allCases, answers) func classifies(_ kind: Kind, _ answer: Answer) throws {
        let server = RawServer([answer.bytes], after: answer.after)
        let timeouts = Timeouts(connectMilliseconds: 500, totalMilliseconds: 700)
        let result = try Self.send(kind, ["http://127.0.0.1:\(server.port)/"], timeouts: timeouts)[0]
        server.stop()
        #expect(result.error?.kind == answer.error, "\(result)")
        if let status = answer.status { #expect(result.status == status, "\(result)") }
        #expect(result.excerpt.count <= ResponseLimits.excerptBytes)
    }

    @Test(arguments: Kind.allCases) func readsRetryAfterAndTheExcerpt(_ kind: Kind) throws {
        let body = String(repeating: "e", count: 5_000)
        let server = try HTTPServer(.init(port: 0)) { _ in .init(503, headers: [("Retry-After", "17")], body: body) }
        defer { server.stop() }
        let result = try Self.send(kind, ["http://127.0.0.1:\(server.port)/"])[0]
        #expect(result.status == 503 && result.retryAfter == "17" && result.excerpt == Array(body.utf8.prefix(1_024)))
    }

    @Test(arguments: Kind.allCases) func refusedConnections(_ kind: Kind) throws {
        let server = RawServer([[]])
        server.stop()
        #expect(try Self.send(kind, ["http://127.0.0.1:\(server.port)/"])[0].error?.kind == .connect)
    }

    /// A connection that nobody takes is a failure to connect, not of a receiver that is slow; and what isn't on the wire yet can be
    /// taken back, while what is goes on.
    @Test(arguments: Kind.allCases) func connectionsThatNobodyTakes(_ kind: Kind) throws {
        let full = FullListener()
        defer { full.stop() }
        let url = "http://127.0.0.1:\(full.port)/"
        let late = try Self.send(kind, [url], timeouts: Timeouts(connectMilliseconds: 300, totalMilliseconds: 900))[0]
        #expect(late.error?.kind == .connect, "\(late)")
        let hanging = RawServer([[]], after: .keep)
        let results = try Self.send(
            kind, [url, "http://127.0.0.1:\(hanging.port)/"], timeouts: Timeouts(connectMilliseconds: 600, totalMilliseconds: 900),
            whileWaiting: { transport in if hanging.heads.load(ordering: .relaxed) > 0 { transport.cancelUnsent() } })
        hanging.stop()
        #expect(results[0].error?.kind == .cancelled && results[1].error?.kind == .timeout, "\(results)")
    }

    /// Gate C holds alone: the registration's rules are open here, the policy at connect is not.
    @Test(arguments: Kind.allCases) func refusesAddressesAtConnect(_ kind: Kind) throws {
        let server = RawServer([Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8)])
        defer { server.stop() }
        let result = try Self.send(kind, ["http://127.0.0.1:\(server.port)/"], addresses: AddressPolicy())[0]
        #expect(result.error?.kind == .refusedAddress && result.status == nil)
        #expect(server.connections.load(ordering: .relaxed) == 0)
    }

    @Test(arguments: Kind.allCases) func namesThatDoNotExist(_ kind: Kind) throws {
        let result = try Self.send(
            kind, ["http://does-not-exist.martlet-test.net/"], timeouts: Timeouts(connectMilliseconds: 1_000, totalMilliseconds: 1_500))[0]
        #expect(result.error?.kind == .dns)
    }

    @Test(arguments: Kind.allCases) func aHangingReceiverDoesNotHoldTheOthers(_ kind: Kind) throws {
        let hanging = RawServer([[]], after: .keep)
        let healthy = try HTTPServer(.init(port: 0)) { _ in .init(200) }
        defer { healthy.stop() }
        let results = try Self.send(
            kind, ["http://127.0.0.1:\(hanging.port)/"] + Array(repeating: "http://127.0.0.1:\(healthy.port)/", count: 20),
            timeouts: Timeouts(connectMilliseconds: 500, totalMilliseconds: 800))
        hanging.stop()
        #expect(results[0].error?.kind == .timeout)
        #expect(results.dropFirst().allSatisfy { $0.status == 200 && $0.timings.total < 700_000 })
    }
}
