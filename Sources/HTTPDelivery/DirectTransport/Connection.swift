internal import EventLoop

/// One request under way.
final class Exchange {
    private(set) var request: HTTPRequest
    private(set) var startedMicroseconds: Int64
    var timings = Timings()
    /// All of the request between its first lines, which are the target's, and its body.
    private(set) var lines: [UInt8]
    /// Whether it was put on a connection that had served before: one that the peer may just have closed.
    var isOnKept = false
    /// Vetted, in the order of trying; those not tried yet.
    var addresses: ArraySlice<IPAddress> = []
    /// Connections under way for it: more than one when an address is slow to answer.
    var attempts: [Connection] = []
    var connectDeadline = Int64.max
    /// When the next address is tried beside the one under way.
    var nextTry = Int64.max
    var lastError = ""
    /// When the transport looks at it next, while it has no connection.
    var armed = Int64.max
    /// Since when it has no connection.
    private(set) var waitingSince: Int64
    /// Whether it ever had none: what it waited for may still know of it.
    private var hasWaited = false

    init(_ given: consuming HTTPRequest, nowMicroseconds now: Int64) {
        var given = given
        lines = given.headers.takeFramed(bodyBytes: given.body.bytes.count)
        (request, startedMicroseconds, waitingSince) = (given, now, now)
    }

    func waits(nowMicroseconds now: Int64) { (waitingSince, hasWaited) = (now, true) }

    /// When it has ended: lets go of the request's body. False: no other request may have its place in memory.
    func end() -> Bool {
        request.body = NoBody.only
        (timings, isOnKept) = (Timings(), false)
        return !hasWaited && lines.capacity <= Self.lineLimit
    }
    private static let lineLimit = 4_096

    /// The same for another request, whose lines had these ones' memory, after `end`.
    func begin(_ given: consuming HTTPRequest, nowMicroseconds now: Int64) {
        var given = given
        lines = given.headers.takeFramed(bodyBytes: given.body.bytes.count)
        (request, startedMicroseconds, waitingSince) = (given, now, now)
    }

    /// The memory of its lines, empty.
    func takeLines() -> [UInt8] {
        var taken: [UInt8] = []
        swap(&taken, &lines)
        taken.removeAll(keepingCapacity: true)
        return taken
    }

    var deadline: Int64 { startedMicroseconds + request.timeouts.totalMilliseconds * 1_000 }

    /// Of the phase before a connection stands.
    var waitDeadline: Int64 {
        if attempts.isEmpty { return min(deadline, waitingSince + Int64(Resolver.lookupTimeoutMilliseconds) * 1_000) }
        return min(deadline, connectDeadline, addresses.isEmpty ? .max : nextTry)
    }
}

private final class NoBody: BodyBytes, Sendable {
    static let only = NoBody()
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }
}

/// One TCP connection, with TLS or without.
final class Connection {
    enum Phase { case connecting, handshaking, open }

    let fd: Int32
    /// Tells it from others that had its number.
    let generation: UInt16
    let origin: Origin
    let address: IPAddress
    let openedMicroseconds: Int64
    var phase = Phase.connecting
    var tls: TLSStream?
    /// nil: kept for the next one.
    var exchange: Exchange?
    var reader = ResponseReader()
    var writer = RequestWriter()
    /// What the event loop watches it for.
    var interest = EventLoop.Interest.writable
    /// Of the address policy that last allowed it.
    var policyNumber: Int
    /// When the transport looks at it next.
    var armed = Int64.max

    init(_ fd: Int32, generation: UInt16, _ origin: Origin, _ address: IPAddress, policyNumber: Int, nowMicroseconds: Int64) {
        (self.fd, self.generation, self.origin, self.address) = (fd, generation, origin, address)
        (self.policyNumber, openedMicroseconds) = (policyNumber, nowMicroseconds)
    }

    func begin(_ exchange: Exchange) {
        self.exchange = exchange
        (bytesBefore, contentBytes) = (tls?.bytesRead ?? 0, 0)
        reader = ResponseReader(excerptBytes: exchange.request.excerptBytes)
        writer = RequestWriter(
            start: exchange.request.target.start.count, lines: exchange.lines.count, body: exchange.request.body.bytes.count)
    }

    /// Nothing waits to be written.
    var isAllSent: Bool { exchange == nil || writer.isDone }

    private var bytesBefore = 0
    private var contentBytes = 0
    /// More came over TLS, since the last request began, than its content explains: tickets, key updates, empty records. Each costs time
    /// inside OpenSSL, and no timer runs meanwhile.
    var isFlooded: Bool { tls != nil && (tls?.bytesRead ?? 0) - bytesBefore - contentBytes > Self.overheadBytes }
    private static let overheadBytes = 262_144

    func write(_ exchange: Exchange, _ scratch: inout [UInt8]) -> StreamAnswer {
        let (start, body) = (exchange.request.target.start, exchange.request.body.bytes)
        guard let tls else { return SocketCalls.send(fd, start, exchange.lines, body, from: writer.offsets) }
        return tls.write(start, exchange.lines, body, from: writer.offsets, &scratch)
    }

    func read(_ buffer: inout [UInt8]) -> StreamAnswer {
        guard let tls else { return SocketCalls.receive(fd, &buffer) }
        let answer = tls.read(&buffer)
        if case .bytes(let count) = answer { contentBytes += count }
        return answer
    }
}

/// What came of a try to read or write, on a socket or through TLS.
enum StreamAnswer {
    case bytes(Int)
    case wantsRead, wantsWrite
    /// In order: nothing more will come.
    case ended
    case failed(ErrorClass, String)
}
