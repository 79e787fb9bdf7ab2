import EventLoop
import Foundation
@testable import HTTPDelivery
import HTTPServing
import Synchronization
import TestServers
import Testing

/// Connections that are used again, and the ones that can't be.
@Suite(.serialized) struct KeptConnectionTests {
    typealias Kind = TransportConformanceTests.Kind
    static let answer = Array("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".utf8)

    /// The peer closes a kept connection when the next request comes: the request starts again on a new one, and nobody notices.
    @Test(arguments: Kind.allCases) func aRequestThatMeetsTheCloseStartsAgain(_ kind: Kind) throws {
        let server = ConversationServer { request, _ in request == 1 ? .answer(Self.answer) : .close }
        defer { server.stop() }
        let url = "http://127.0.0.1:\(server.port)/"
        let results = try TransportConformanceTests.send(kind, [url, url, url], sequential: true)
        #expect(results.map(\.status) == [200, 200, 200] && results.allSatisfy { $0.error == nil }, "\(results)")
        #expect(server.connections.load(ordering: .relaxed) == 3)
    }

    /// What came of one isn't the next one's.
    @Test(arguments: Kind.allCases) func nothingOfAnAnswerIsLeftForTheNext(_ kind: Kind) throws {
        let busy = Array("HTTP/1.1 503 Busy\r\nRetry-After: 17\r\nContent-Length: 4\r\n\r\nbusy".utf8)
        let server = ConversationServer { request, _ in
            .answer(request == 1 ? busy : Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8))
        }
        defer { server.stop() }
        let url = "http://127.0.0.1:\(server.port)/"
        let results = try TransportConformanceTests.send(kind, [url, url], sequential: true)
        #expect(results[0].status == 503 && results[0].retryAfter == "17" && results[0].excerpt == Array("busy".utf8), "\(results)")
        #expect(results[1].status == 200 && results[1].retryAfter == nil && results[1].excerpt.isEmpty, "\(results)")
        #expect(server.connections.load(ordering: .relaxed) == 1)
    }

    /// There is no room for another idle connection: the answer that came on it counts all the same.
    @Test func anAnswerOutlivesItsConnection() throws {
        let server = ConversationServer { _, _ in .answer(Self.answer) }
        defer { server.stop() }
        let url = "http://127.0.0.1:\(server.port)/"
        let results = try TransportConformanceTests.send(.direct, [url, url], sequential: true, idlePool: 0)
        #expect(results.allSatisfy { $0.status == 200 && $0.error == nil && $0.excerpt == Array("ok".utf8) }, "\(results)")
        #expect(server.connections.load(ordering: .relaxed) == 2)
    }

    /// Cut short, it says what had come by then.
    @Test func whatCameBeforeAFailureIsTold() throws {
        let cut = Array("HTTP/1.1 503 Busy\r\nRetry-After: 17\r\nContent-Length: 10\r\n\r\nab".utf8)
        let server = ConversationServer { _, _ in .answerAndClose(cut) }
        defer { server.stop() }
        let result = try TransportConformanceTests.send(.direct, ["http://127.0.0.1:\(server.port)/"])[0]
        #expect(result.error?.kind == .protocol && result.status == 503, "\(result)")
        #expect(result.retryAfter == "17" && result.excerpt == Array("ab".utf8), "\(result)")
    }

    /// Called off when a part of its answer has come: it ends once, with what was there, and the next one meets nothing of it.
    @Test func calledOffWithinItsAnswer() throws {
        let part = Array("HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\nab".utf8)
        let server = ConversationServer { _, connection in .answer(connection == 1 ? part : Self.answer) }
        defer { server.stop() }
        let (loop, rules) = (EventLoop(), TransportConformanceTests.rules)
        let configuration = TransportConfiguration(addresses: rules.addresses)
        let transport = DirectTransport(
            loop, tokens: 1 << 40, configuration, Resolver(loop, tokens: 2 << 40, servers: nil),
            TrustStores(bundlePath: configuration.caBundlePath, extraPath: nil))
        let target = RequestTarget(try EndpointURL("http://127.0.0.1:\(server.port)/", rules: rules))
        func start(_ token: UInt64) {
            transport.start(
                HTTPRequest(token: token, target: target, headers: HeaderLines(), body: Bytes("{}"), timeouts: Timeouts()),
                nowMicroseconds: SystemClock.monotonicMicroseconds())
        }
        // Its own timeout ends it where the answer doesn't come.
        func turn(while isWaiting: () -> Bool) {
            while transport.inFlight > 0, isWaiting() {
                transport.advance(nowMicroseconds: SystemClock.monotonicMicroseconds())
                loop.wait(milliseconds: 50) { transport.handle($0, nowMicroseconds: SystemClock.monotonicMicroseconds()) }
            }
        }
        var results: [HTTPResult] = []
        start(1)
        turn { transport.connections.allSatisfy { $0?.reader.status == nil } }
        transport.cancel(1)
        transport.cancel(1)
        start(2)
        turn { true }
        transport.drain { results.append($0) }
        #expect(results.map(\.token) == [1, 2], "\(results)")
        #expect(results.first?.error?.kind == .cancelled && results.first?.status == 503, "\(results)")
        #expect(results.first?.excerpt == Array("ab".utf8), "\(results)")
        #expect(results.last?.error == nil && results.last?.status == 200 && results.last?.excerpt == Array("ok".utf8), "\(results)")
        #expect(server.connections.load(ordering: .relaxed) == 2 && transport.inFlight == 0)
    }

    /// Once: a receiver that closes new connections as well fails the request.
    @Test(arguments: Kind.allCases) func onceOnly(_ kind: Kind) throws {
        let server = ConversationServer { request, connection in request == 1 && connection == 1 ? .answer(Self.answer) : .close }
        defer { server.stop() }
        let url = "http://127.0.0.1:\(server.port)/"
        let results = try TransportConformanceTests.send(kind, [url, url], sequential: true)
        #expect(results[0].status == 200 && results[1].status == nil && results[1].error?.kind == .reset, "\(results)")
        #expect(server.connections.load(ordering: .relaxed) == 2)
    }

    /// After the first byte of an answer it is an attempt like any other.
    @Test(arguments: Kind.allCases) func notAfterTheFirstByte(_ kind: Kind) throws {
        let server = ConversationServer { request, _ in
            request == 1 ? .answer(Self.answer) : .answerAndClose(Array("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab".utf8))
        }
        defer { server.stop() }
        let url = "http://127.0.0.1:\(server.port)/"
        let results = try TransportConformanceTests.send(kind, [url, url], sequential: true)
        #expect(results[1].error?.kind == .protocol && server.connections.load(ordering: .relaxed) == 1, "\(results)")
    }

    /// Bytes that nobody asked for could be taken for the next answer: such a connection isn't used again.
    @Test(arguments: Kind.allCases) func moreThanAnAnswerEndsTheConnection(_ kind: Kind) throws {
        let smuggled = Self.answer + Array("HTTP/1.1 500 Smuggled\r\nContent-Length: 0\r\n\r\n".utf8)
        let server = ConversationServer { _, _ in .answer(smuggled) }
        defer { server.stop() }
        let url = "http://127.0.0.1:\(server.port)/"
        let results = try TransportConformanceTests.send(kind, [url, url, url], sequential: true)
        #expect(results.map(\.status) == [200, 200, 200], "\(results)")
        #expect(server.connections.load(ordering: .relaxed) == 3)
    }

    /// Answers whose framing is doubtful are read, and end the connection.
    @Test(arguments: [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "HTTP/1.1 200 OK\r\nX-Odd : 1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ]) func doubtfulFraming(_ text: String) throws {
        let server = ConversationServer { _, _ in .answer(Array(text.utf8)) }
        defer { server.stop() }
        let url = "http://127.0.0.1:\(server.port)/"
        let results = try TransportConformanceTests.send(.direct, [url, url], sequential: true)
        #expect(results.allSatisfy { $0.status == 200 && $0.error == nil && $0.excerpt == Array("ok".utf8) }, "\(results)")
        #expect(server.connections.load(ordering: .relaxed) == 2)
    }

    /// A large body goes out in pieces while the receiver reads slowly; an answer before the end of it counts, and ends the connection.
    @Test(arguments: Kind.allCases) func largeBodies(_ kind: Kind) throws {
        let seen = Mutex<[Int]>([])
        let server = try HTTPServer(.init(port: 0)) { request in
            seen.withLock { $0.append(request.body.count) }
            return .init(200)
        }
        defer { server.stop() }
        let url = "http://127.0.0.1:\(server.port)/"
        let results = try TransportConformanceTests.send(kind, [url, url], body: String(repeating: "b", count: 900_000), sequential: true)
        #expect(results.map(\.status) == [200, 200] && seen.withLock { $0 } == [900_000, 900_000], "\(results)")
        let early = ConversationServer { _, _ in .answer(Array("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n".utf8)) }
        defer { early.stop() }
        let refused = try TransportConformanceTests.send(
            kind, ["http://127.0.0.1:\(early.port)/"], body: String(repeating: "b", count: 900_000))[0]
        #expect(refused.status == 413, "\(refused)")
    }

    /// A request has its place in memory after another: it goes out as it is, and of the one before nothing is held.
    @Test func nothingOfARequestIsLeftForTheNext() throws {
        let seen = Mutex<[(header: String?, body: String)]>([])
        let server = try HTTPServer(.init(port: 0)) { request in
            seen.withLock { $0.append((request.header("x-number"), String(decoding: request.body, as: UTF8.self))) }
            return .init(200)
        }
        defer { server.stop() }
        let loop = EventLoop()
        let rules = TransportConformanceTests.rules
        let transport = DeliveryTransport(loop, tokens: 1 << 40, TransportConfiguration(addresses: rules.addresses))
        let target = RequestTarget(try EndpointURL("http://127.0.0.1:\(server.port)/", rules: rules))
        let sizes = [3, 900, 1, 0, 40]
        weak var last: Bytes?
        for (number, size) in sizes.enumerated() {
            var lines = transport.emptyLines()
            // The first one waited for a connection and left no place; the second one's is the third one's.
            #expect((lines.bytes.capacity > 0) == (number >= 2), "\(number)")
            lines.append("x-number", String(repeating: "\(number)", count: 1 + size))
            do {
                let body = Bytes(String(repeating: "b", count: size))
                last = body
                transport.start(
                    HTTPRequest(token: UInt64(number), target: target, headers: lines, body: body, timeouts: Timeouts()),
                    nowMicroseconds: SystemClock.monotonicMicroseconds())
            }
            #expect(last != nil)
            var result: HTTPResult?
            while result == nil {
                transport.advance(nowMicroseconds: SystemClock.monotonicMicroseconds())
                loop.wait(milliseconds: 50) { transport.handle($0, nowMicroseconds: SystemClock.monotonicMicroseconds()) }
                transport.drain { result = $0 }
            }
            #expect(result?.token == UInt64(number) && result?.status == 200 && last == nil, "\(number)")
        }
        #expect(seen.withLock { $0.map(\.body.count) } == sizes)
        #expect(seen.withLock { $0.map(\.header) } == sizes.enumerated().map { String(repeating: "\($0)", count: 1 + $1) })
    }

    /// In the place of another one it is as a new one would be. One that waited leaves none: an answer to what it waited for could come
    /// later, and be taken for one to another request's question.
    @Test func aRequestInTheirPlaceIsLikeANewOne() throws {
        let target = RequestTarget(try EndpointURL("http://127.0.0.1:8080/", rules: TransportConformanceTests.rules))
        func request(_ token: UInt64, _ header: String) -> HTTPRequest {
            var request = HTTPRequest(
                token: token, target: target, headers: HeaderLines([HTTPHeader("x", header)]), body: Bytes("{}"), timeouts: Timeouts())
            request.excerptBytes = Int(token)
            return request
        }
        func look(_ exchange: Exchange) -> [String] {
            [
                "\(exchange.request.token)", "\(exchange.request.excerptBytes)", String(decoding: exchange.lines, as: UTF8.self),
                "\(exchange.request.body.bytes.count)", "\(exchange.startedMicroseconds)", "\(exchange.deadline)", "\(exchange.timings)",
                "\(exchange.isOnKept)", "\(exchange.waitDeadline)",
            ]
        }
        let exchange = Exchange(request(1, "before"), nowMicroseconds: 1)
        exchange.isOnKept = true
        (exchange.timings.total, exchange.timings.firstByte) = (5, 3)
        #expect(exchange.end() && exchange.request.body.bytes.isEmpty)
        exchange.begin(request(2, "after"), nowMicroseconds: 2)
        #expect(look(exchange) == look(Exchange(request(2, "after"), nowMicroseconds: 2)))
        exchange.waits(nowMicroseconds: 3)
        #expect(!exchange.end())
        #expect(!Exchange(request(3, String(repeating: "x", count: 5_000)), nowMicroseconds: 4).end(), "too much memory to keep")
    }

    /// Of several addresses the first that answers is used: at once after a refusal, a quarter of a second beside one that is silent.
    @Test func severalAddresses() throws {
        let server = try HTTPServer(.init(port: 0)) { _ in .init(200) }
        defer { server.stop() }
        let silent = FullListener(port: UInt16(server.port), host: 2)
        defer { silent.stop() }
        let dns = DNSServer { name, _ in
            switch name.split(separator: ".").first {
            case "refused": ["127.0.0.3", "127.0.0.1"]
            case "silent": ["127.0.0.2", "127.0.0.1"]
            case "many": (10...17).map { "127.0.0.\($0)" } + ["127.0.0.1"]
            default: ["127.0.0.3"]
            }
        }
        defer { dns.stop() }
        func send(_ name: String) throws -> HTTPResult {
            try TransportConformanceTests.send(
                .direct, ["http://\(name).martlet-test.net:\(server.port)/"], nameServers: "127.0.0.1:\(dns.port)")[0]
        }
        let refused = try send("refused")
        #expect(refused.status == 200 && refused.timings.total < 200_000, "\(refused)")
        let silentFirst = try send("silent")
        #expect(
            silentFirst.status == 200 && silentFirst.timings.connect ?? 0 >= 250_000 && silentFirst.timings.total < 900_000,
            "\(silentFirst)")
        #expect(try send("gone").error?.kind == .connect)
        // Eight are tried, whatever a name has.
        #expect(try send("many").error?.kind == .connect)
        func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
        #expect(
            DirectTransport.alternating([
                try address("1.1.1.1"), try address("1.1.1.2"), try address("2606::1"), try address("2606::2"), try address("2606::3"),
            ]).map(\.description)
                == ["2606::1", "1.1.1.1", "2606::2", "1.1.1.2", "2606::3"])
    }
}

/// A server that decides for each request of each connection, both counted from 1.
final class ConversationServer: Sendable {
    enum Reply: Sendable {
        case answer([UInt8])
        case answerAndClose([UInt8])
        case close
    }
    private let listener: Int32
    let port: UInt16
    let connections = Atomic<Int>(0)
    private let threads = Mutex<[WorkerThread]>([])

    init(_ reply: @escaping @Sendable (_ request: Int, _ connection: Int) -> Reply) {
        (listener, port) = LoopbackSocket.listening(backlog: 64)
        let made = WorkerThread("conversation") { [self] in
            while true {
                let peer = accept(listener, nil, nil)
                guard peer >= 0 else { return }
                let number = connections.add(1, ordering: .relaxed).newValue
                let thread = WorkerThread("conversation-\(number)") { Self.talk(peer, number, reply) }
                threads.withLock { $0.append(thread) }
            }
        }
        threads.withLock { $0.append(made) }
    }

    private static func talk(_ peer: Int32, _ connection: Int, _ reply: (Int, Int) -> Reply) {
        defer { close(peer) }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        var number = 0
        while true {
            // One request comes in one piece, as far as its head goes.
            guard read(peer, &buffer, buffer.count) > 0 else { return }
            number += 1
            switch reply(number, connection) {
            case .answer(let bytes): _ = send(peer, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            case .answerAndClose(let bytes):
                _ = send(peer, bytes, bytes.count, Int32(MSG_NOSIGNAL))
                return
            case .close: return
            }
        }
    }

    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }
}

struct ConnectionPoolTests {
    private func origin(_ port: UInt16) -> Origin { Origin(isTLS: false, host: .name("a.example.com"), port: port, identity: nil) }

    /// Against lists, in random order: the newest of an origin comes first, the longest idle of all is known, what was removed is gone.
    @Test func behavesAsListsDo() {
        for seed in UInt64(1)...50 {
            var random = DifferentialTests.Random(state: seed)
            var pool = ConnectionPool()
            var model: [(connection: Int, port: UInt16, since: Int64)] = []
            // Of those that stand, in use or not.
            var homes: [Int: UInt16] = [:]
            for step in 0..<500 {
                let port = UInt16(random.below(4))
                switch random.below(4) {
                case 0, 1:
                    let connection = random.below(40)
                    guard !model.contains(where: { $0.connection == connection }) else { continue }
                    let home = homes[connection] ?? port
                    homes[connection] = home
                    pool.put(connection, origin(home), nowMicroseconds: Int64(step))
                    model.append((connection, home, Int64(step)))
                case 2:
                    let expected = model.lastIndex { $0.port == port }
                    #expect(pool.take(origin(port)) == expected.map { model[$0].connection }, "seed \(seed), step \(step)")
                    if let expected { model.remove(at: expected) }
                default:
                    let connection = random.below(50)
                    pool.remove(connection)
                    homes[connection] = nil
                    model.removeAll { $0.connection == connection }
                }
                #expect(
                    pool.count == model.count && pool.longestIdle?.connection == model.first?.connection
                        && pool.longestIdle?.since == model.first?.since, "seed \(seed), step \(step)")
            }
        }
    }

    @Test func deadlinesComeInOrder() {
        for seed in UInt64(1)...50 {
            var random = DifferentialTests.Random(state: seed)
            var heap = DeadlineHeap()
            var model: [Int64] = []
            for _ in 0..<300 {
                if random.below(3) > 0 {
                    let at = Int64(random.below(1_000))
                    heap.insert(.init(at: at, key: 0, isWaiting: false))
                    model.append(at)
                } else {
                    #expect(heap.first?.at == model.min(), "seed \(seed)")
                    if let least = model.min(), let index = model.firstIndex(of: least) { model.remove(at: index) }
                    heap.removeFirst()
                }
            }
            #expect(heap.first?.at == model.min(), "seed \(seed)")
        }
    }
}
