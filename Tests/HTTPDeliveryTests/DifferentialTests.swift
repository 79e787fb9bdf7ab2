import EventLoop
import Foundation
import HTTPDelivery
import Synchronization
import TestServers
import Testing

/// The direct transport beside libcurl on thousands of generated responses, well-formed, broken and hostile: the same outcome, or one of
/// the differences listed here, each with its reason.
@Suite(.serialized) struct DifferentialTests {
    struct Outcome: Equatable, CustomStringConvertible {
        var status: Int?
        var error: ErrorClass?
        var retryAfter: String?
        var excerpt: [UInt8]
        var description: String {
            "status \(status.map(String.init) ?? "-"), error \(error?.rawValue ?? "-"), retry-after \(retryAfter ?? "-"), \(excerpt.count) bytes"
        }
        init(_ result: HTTPResult) {
            (status, error, retryAfter, excerpt) = (result.status, result.error?.kind, result.retryAfter, result.excerpt)
        }
    }

    /// Where the direct transport is stricter, or sooner, on purpose.
    enum Difference: String, CaseIterable {
        /// Broken, or cut, for both: how far libcurl gets before it gives up, and whether it has a status by then, is its own affair. No other
        /// pair of error classes is taken for the same.
        case bothFail
        /// Framing that can be read in two ways ends as an error in the direct transport, where libcurl reads it in one of them (RFC 9112,
        /// 6.3: a second or listed length, a folded or oddly spelled framing header, a chunk without CR LF).
        case strictFraming
        /// A stream that ends within the head, or within the last chunk, is no answer; libcurl takes the status for one if its line came.
        case cutStream
        /// Control bytes in a head.
        case controlBytes
        /// A status line that isn't `HTTP/1.x` and three digits, or a status below 100 or of 101.
        case statusLine
        /// libcurl gives a header without a colon, or in odd folds, for a broken head; here it only ends the connection.
        case laxHeaders
    }

    static func difference(_ response: Generated, direct: Outcome, curl: Outcome) -> Difference? {
        if direct.error == .protocol || direct.error == .reset, curl.error == .protocol { return .bothFail }
        if direct.error == .protocol, !response.oddities.isDisjoint(with: [.framing, .header]) { return .strictFraming }
        if direct.error == .reset && direct.status == nil || direct.error == .protocol, response.oddities.contains(.cut) {
            return .cutStream
        }
        if direct.error == .protocol, response.oddities.contains(.control) { return .controlBytes }
        if direct.error == .protocol, response.oddities.contains(.statusLine) { return .statusLine }
        if direct.error == nil, curl.error != nil, response.oddities.contains(.header) { return .laxHeaders }
        return nil
    }

    struct Oddities: OptionSet {
        let rawValue: Int
        static let framing = Oddities(rawValue: 1)
        static let control = Oddities(rawValue: 2)
        static let statusLine = Oddities(rawValue: 4)
        static let header = Oddities(rawValue: 8)
        static let cut = Oddities(rawValue: 16)
    }

    struct Generated {
        var bytes: [UInt8] = []
        var oddities: Oddities = []
    }

    /// A response, by seed.
    static func response(_ seed: UInt64) -> Generated {
        var random = Random(state: seed &* 0x9e37_79b9_7f4a_7c15 &+ 1)
        var made = Generated()
        func add(_ text: String) { made.bytes += Array(text.utf8) }
        for _ in 0..<(random.one(in: 8) ? random.below(3) : 0) {
            add("HTTP/1.1 \(random.pick([100, 102, 103])) Wait\r\n\(random.pick(["", "Retry-After: 9\r\n", "Link: a\r\n"]))\r\n")
        }
        let status = random.pick([200, 200, 200, 201, 204, 301, 304, 400, 404, 410, 429, 500, 503, 599])
        var line =
            "\(random.pick(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"])) \(status)\(random.pick([" OK", "", " ", " Not \u{e9}"]))"
        if random.one(in: 40) {
            line = random.pick([
                "HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 20", "HTTP/1.1 2000 OK", "HTTP/2 200", "HTTP/1.1 abc", "http/1.1 200 OK",
                "HTTP/1.1  200 OK", "ICY 200 OK", "HTTP/1.1 099 OK", "HTTP/1.1 101 Switch",
            ])
            made.oddities.insert(.statusLine)
        }
        let end = random.one(in: 30) ? "\n" : "\r\n"
        add(line + end)
        var body: [UInt8] = []
        let size = random.pick([0, 1, 10, 1_000, 2_000, 70_000])
        while body.count < size { withUnsafeBytes(of: random.next()) { body += $0 } }
        body = Array(body.prefix(size))
        let framing = random.pick(["length", "length", "length", "chunked", "chunked", "close", "both", "twice", "odd", "short", "long"])
        var lines: [String] = []
        switch framing {
        case "length": lines = ["Content-Length: \(body.count)"]
        case "chunked": lines = ["Transfer-Encoding: \(random.pick(["chunked", "Chunked", " chunked "]))"]
        case "close": lines = random.one(in: 2) ? ["Connection: close"] : []
        case "both": lines = ["Content-Length: \(body.count)", "Transfer-Encoding: chunked"]
        case "twice":
            lines = ["Content-Length: \(body.count)", "Content-Length: \(random.pick([body.count, body.count + 1]))"]
            made.oddities.insert(.framing)
        case "odd":
            lines = [
                random.pick([
                    "Content-Length: -1", "Content-Length: 1x", "Content-Length: 0x10", "Content-Length:", "Content-Length: 1, 1",
                    "Content-Length : 5", "Content-Length: 99999999999999999999", "Transfer-Encoding: gzip",
                    "Transfer-Encoding: chunked, gzip", "Transfer-Encoding : chunked", "Transfer-Encoding:", "Transfer-Encoding: identity",
                    "Content-Length: 5\r\n 6", "Content-Length: +5",
                ])
            ]
            made.oddities.insert(.framing)
        case "short": lines = ["Content-Length: \(body.count + 1 + random.below(100))"]
        default: lines = ["Content-Length: \(max(0, body.count - 1))"]
        }
        if random.one(in: 3) {
            lines.append(
                "\(random.pick(["Retry-After", "retry-after", "RETRY-AFTER"])): \(random.pick(["1", "120", "Wed, 21 Oct 2015 07:28:00 GMT", "", "soon", String(repeating: "7", count: 90)]))"
            )
        }
        if random.one(in: 3) { lines.append("X-Filler: \(String(repeating: "f", count: random.below(300)))") }
        if random.one(in: 25) {
            lines.append(random.pick(["no colon here", "X-Odd : 1", "X-Fold: a\r\n b", ": no name", " starts with a space"]))
            made.oddities.insert(.header)
        }
        if random.one(in: 40) {
            lines.append(random.pick(["X-Nul: a\u{0}b", "X-Cr: a\rb", "X-Bell: \u{7}"]))
            made.oddities.insert(.control)
        }
        lines.shuffle(using: &random)
        for line in lines { add(line + end) }
        add(end)
        if framing == "chunked" || framing == "both" {
            let isBroken = random.one(in: 8)
            if isBroken { made.oddities.insert(.framing) }
            let fault = random.below(6)
            while !body.isEmpty {
                let count = min(body.count, 1 + random.below(random.pick([5, 500, 20_000])))
                add(
                    "\(String(count, radix: 16, uppercase: random.one(in: 2)))\(random.pick(["", "", ";a=b", " "]))\(isBroken && fault == 0 ? "\n" : "\r\n")"
                )
                made.bytes += body.prefix(count)
                body.removeFirst(count)
                add(isBroken && fault == 1 ? "\n" : isBroken && fault == 2 ? "x\r\n" : "\r\n")
            }
            if isBroken && fault == 3 { add("zz\r\n") }
            if !(isBroken && fault == 4) { add("0\r\n\(random.one(in: 4) ? "X-Trailer: 1\r\n" : "")\r\n") }
        } else {
            made.bytes += body
        }
        // Some end in the middle.
        if random.one(in: 12) {
            made.bytes = Array(made.bytes.prefix(random.below(made.bytes.count + 1)))
            made.oddities.insert(.cut)
        }
        return made
    }

    /// SplitMix64.
    struct Random: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var mixed = (state ^ state >> 30) &* 0xbf58_476d_1ce4_e5b9
            mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
            return mixed ^ mixed >> 31
        }
        mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
        mutating func one(in count: Int) -> Bool { below(count) == 0 }
        mutating func pick<Element>(_ list: [Element]) -> Element { list[below(list.count)] }
    }

    static let count = 4_000

    @Test func sameOutcomeOrAListedDifference() throws {
        let server = SeededServer { Self.response($0).bytes }
        defer { server.stop() }
        var listed: [Difference: Int] = [:]
        for start in stride(from: 0, to: Self.count, by: 200) {
            let urls = (start..<start + 200).map { "http://127.0.0.1:\(server.port)/\($0)" }
            let direct = try TransportConformanceTests.send(.direct, urls)
            let curl = try TransportConformanceTests.send(.curl, urls)
            for seed in start..<start + 200 {
                let (ours, theirs) = (Outcome(direct[seed - start]), Outcome(curl[seed - start]))
                if ours == theirs { continue }
                let response = Self.response(UInt64(seed))
                guard let difference = Self.difference(response, direct: ours, curl: theirs) else {
                    let head = String(decoding: response.bytes.prefix(300), as: UTF8.self).debugDescription
                    Issue.record("seed \(seed): direct has \(ours); curl has \(theirs): \(head)")
                    continue
                }
                listed[difference, default: 0] += 1
            }
        }
        print(
            "\(Self.count) responses: \(Self.count - listed.values.reduce(0, +)) outcomes are the same; differences: \(listed.map { "\($0.key.rawValue) \($0.value)" }.sorted())"
        )
        #expect(listed.values.reduce(0, +) < Self.count / 5)
    }
}

/// Answers each connection with the bytes that the number in its request's path stands for, and closes it.
final class SeededServer: Sendable {
    private let listener: Int32
    let port: UInt16
    private let thread = Mutex<WorkerThread?>(nil)

    init(_ answer: @escaping @Sendable (UInt64) -> [UInt8]) {
        (listener, port) = LoopbackSocket.listening(backlog: 512)
        let made = WorkerThread("seeded-server") { [self] in serve(answer) }
        thread.withLock { $0 = made }
    }

    private func serve(_ answer: (UInt64) -> [UInt8]) {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let peer = accept(listener, nil, nil)
            guard peer >= 0 else { return }
            let count = read(peer, &buffer, buffer.count)
            // POST /NUMBER HTTP/1.1
            let number = buffer.prefix(max(0, count)).dropFirst(6).prefix { $0 &- 48 < 10 }.reduce(UInt64(0)) { $0 * 10 + UInt64($1 - 48) }
            let bytes = answer(number)
            var sent = 0
            while sent < bytes.count {
                let count = bytes.withUnsafeBytes { send(peer, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL)) }
                guard count > 0 else { break }
                sent += count
            }
            // Nothing is left unread: the peer sees an end, and no reset.
            close(peer)
        }
    }

    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
        thread.withLock { $0 }?.join()
    }
}
