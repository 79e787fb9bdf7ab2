/// Reads one HTTP/1.1 response, whatever pieces it comes in, and knows only what a delivery needs: the status, where the response ends,
/// `Retry-After`, the first bytes of the body. A value: bytes in, outcome out.
///
/// Framing (RFC 9112 section 6) is read strictly. What can't be framed ends as a protocol error; what is merely odd is read, and
/// the connection isn't used again:
///
/// | response | read as |
/// |---|---|
/// | `1xx` but 101 | skipped, within the bound of all header bytes |
/// | 204, 304 | no body; one that announces a body all the same: not used again |
/// | `Transfer-Encoding: chunked` | chunks; beside `Content-Length`, or in HTTP/1.0: not used again |
/// | any other, or a second `Transfer-Encoding` | protocol error |
/// | one `Content-Length` of digits | so many bytes; the same twice: not used again; another: protocol error |
/// | none of them | to the end of the stream |
/// | a line that ends with LF alone, a folded line, a name that is no token | not used again; of a framing header: protocol error |
/// | NUL or a lone CR in a line, 101, no `HTTP/1.x` | protocol error |
public struct ResponseReader: Sendable {
    public enum Progress: Sendable {
        case more
        /// Complete, or as much of it as is read: see `mayKeep`.
        case complete
        case failed(ErrorClass, String)
    }

    /// Of the size line of a chunk with its extensions.
    static let chunkLineBytes = 1_024
    /// Of all size lines together: six bytes around each byte of the longest body that is read, and more.
    public static let chunkOverheadBytes = 524_288

    /// The final status, once its head has arrived.
    public private(set) var status: Int?
    public private(set) var retryAfter: String?
    public private(set) var excerpt: [UInt8] = []
    /// Whether the connection may carry another request after `complete`.
    public private(set) var mayKeep = true
    /// Whether a byte has come.
    public private(set) var hasBegun = false

    private enum Phase: Sendable {
        case statusLine, headerLine
        case body, untilClose
        case chunkLine, chunkData, chunkEnd, trailerLine
        case over
    }

    private var phase = Phase.statusLine
    /// The beginning of a line whose end hasn't come.
    private var pending: [UInt8] = []
    private var headBytes = 0
    private var overheadBytes = 0
    private var bodyBytes = 0
    private let excerptLimit: Int
    /// Of the body, or of the chunk.
    private var left = 0

    // Of the head that is being read.
    private var code = 0
    private var isOldVersion = false
    private var length: Int?
    private var isChunked = false
    private var wantsClose = false
    private var wantsKeepAlive = false
    private var isFoldable = true

    public init(excerptBytes: Int = ResponseLimits.excerptBytes) { excerptLimit = excerptBytes }

    mutating func read(_ buffer: [UInt8], _ count: Int) -> Progress { read(buffer.span.extracting(0..<count)) }

    /// Takes the next bytes of the stream. After `complete` or `failed` nothing more is read.
    public mutating func read(_ bytes: Span<UInt8>) -> Progress {
        var at = 0
        if !bytes.isEmpty { hasBegun = true }
        while at < bytes.count {
            switch phase {
            case .body, .chunkData, .untilClose:
                if let end = takeBody(bytes, &at) { return end }
            case .over:
                // More than was announced.
                mayKeep = false
                return .complete
            case .statusLine, .headerLine, .chunkLine, .chunkEnd, .trailerLine:
                let progress = takeLine(bytes, &at)
                if case .more = progress { continue }
                if at < bytes.count { mayKeep = false }
                return progress
            }
        }
        return phase == .over ? .complete : .more
    }

    /// The stream has ended.
    public mutating func ended() -> Progress {
        mayKeep = false
        switch phase {
        case .untilClose, .over: return .complete
        case .statusLine where !hasBegun: return .failed(.reset, "the receiver closed the connection without an answer")
        case .statusLine, .headerLine: return .failed(.reset, "the receiver closed the connection within the response's head")
        default: return .failed(.protocol, "the response ended before its body was complete")
        }
    }

    // MARK: the body

    private mutating func takeBody(_ bytes: Span<UInt8>, _ at: inout Int) -> Progress? {
        let count = phase == .untilClose ? bytes.count - at : min(left, bytes.count - at)
        let wanted = min(count, excerptLimit - excerpt.count)
        if wanted > 0 {
            excerpt.reserveCapacity(min(excerptLimit, excerpt.count + wanted))
            for index in at..<(at + wanted) { excerpt.append(bytes[index]) }
        }
        at += count
        left -= count
        bodyBytes += count
        if bodyBytes > ResponseLimits.bodyBytes {
            // Enough: judged by its status.
            mayKeep = false
            phase = .over
            return .complete
        }
        guard left == 0, phase != .untilClose else { return nil }
        if phase == .chunkData {
            phase = .chunkEnd
            return nil
        }
        phase = .over
        if at < bytes.count { mayKeep = false }
        return .complete
    }

    // MARK: lines

    private mutating func takeLine(_ bytes: Span<UInt8>, _ at: inout Int) -> Progress {
        let start = at
        var hasControl = false
        while at < bytes.count {
            if at + 8 <= bytes.count {
                let plain = Self.plainBytes(bytes.bytes.unsafeLoadUnaligned(fromByteOffset: at, as: UInt64.self))
                at += plain
                if plain == 8 { continue }
            }
            let byte = bytes[at]
            if byte == 0x0a { break }
            // A CR at the line's end is none of them.
            if byte == 0 || byte == 0x0d && (at + 1 == bytes.count || bytes[at + 1] != 0x0a) { hasControl = true }
            at += 1
        }
        let isWhole = at < bytes.count
        if let failure = count(at - start + (isWhole ? 1 : 0)) { return failure }
        guard isWhole else {
            for index in start..<at { pending.append(bytes[index]) }
            return phase == .statusLine && !Self.mayBeHTTP(pending.span) ? Self.noHTTP : .more
        }
        defer { at += 1 }
        if pending.isEmpty { return line(bytes.extracting(start..<at), hasControl) }
        for index in start..<at { pending.append(bytes[index]) }
        let whole = pending
        pending.removeAll()
        hasControl = whole.contains(0) || whole.dropLast().contains(0x0d)
        return line(whole.span, hasControl)
    }

    /// How many of eight bytes, up to the first one that is, aren't below 16, as line ends and NUL are. (The load above is bounds-checked; it is
    /// called unsafe for types of which not all bits are values.)
    private static func plainBytes(_ eight: UInt64) -> Int {
        let eight = UInt64(littleEndian: eight)
        return ((eight &- 0x1010_1010_1010_1010) & ~eight & 0x8080_8080_8080_8080).trailingZeroBitCount >> 3
    }

    /// Bounds what is read besides the body.
    private mutating func count(_ more: Int) -> Progress? {
        switch phase {
        case .chunkLine, .chunkEnd:
            overheadBytes += more
            guard overheadBytes > Self.chunkOverheadBytes || pending.count + more > Self.chunkLineBytes else { return nil }
            return .failed(.tooLarge, "the response's chunk sizes are too long")
        default:
            headBytes += more
            guard headBytes > ResponseLimits.headerBytes else { return nil }
            return .failed(.tooLarge, "the response's headers exceed \(ResponseLimits.headerBytes) bytes")
        }
    }

    /// `given`: without its LF. `hasControl`: a NUL, or a CR before its end.
    private mutating func line(_ given: Span<UInt8>, _ hasControl: Bool) -> Progress {
        var count = given.count
        if count > 0, given[count - 1] == 0x0d { count -= 1 } else { mayKeep = false }
        if hasControl { return .failed(.protocol, "the response has a control byte in its head or chunks") }
        let line = given.extracting(0..<count)
        switch phase {
        case .statusLine: return statusLine(line)
        case .headerLine: return line.isEmpty ? headEnded() : header(line)
        case .chunkLine: return chunkLine(line)
        case .chunkEnd:
            guard line.isEmpty else { return .failed(.protocol, "a chunk of the response is longer than it says") }
            phase = .chunkLine
            return .more
        default:
            if line.isEmpty { phase = .over }
            return line.isEmpty ? .complete : .more
        }
    }

    private static let noHTTP = Progress.failed(.protocol, "the answer isn't HTTP/1.x")

    private static func mayBeHTTP(_ line: Span<UInt8>) -> Bool {
        for index in 0..<min(line.count, version.count) where line[index] != version[index] { return false }
        return true
    }

    private static let version = Array("HTTP/1.".utf8)

    /// `HTTP/1.1 200 OK`; the reason may be missing.
    private mutating func statusLine(_ line: Span<UInt8>) -> Progress {
        guard line.count >= 12, Self.mayBeHTTP(line), line[8] == 0x20, line[7] &- 48 < 10, line.count == 12 || line[12] == 0x20 else {
            return Self.noHTTP
        }
        code = 0
        for index in 9..<12 {
            guard line[index] &- 48 < 10 else { return Self.noHTTP }
            code = code * 10 + Int(line[index] - 48)
        }
        guard code >= 100, code != 101 else { return .failed(.protocol, "the response has the status \(code)") }
        isOldVersion = line[7] == 48
        (length, isChunked, wantsClose, wantsKeepAlive, retryAfter, isFoldable) = (nil, false, false, false, nil, true)
        phase = .headerLine
        return .more
    }

    // MARK: headers

    private static let connection = Array("connection".utf8)
    private static let retryAfterName = Array("retry-after".utf8)
    private static let contentLength = Array("content-length".utf8)
    private static let transferEncoding = Array("transfer-encoding".utf8)

    private mutating func header(_ line: Span<UInt8>) -> Progress {
        if line[0] == 0x20 || line[0] == 0x09 {
            mayKeep = false
            return isFoldable ? .more : .failed(.protocol, "the response folds a framing header")
        }
        var colon = 0
        var isToken = true
        while colon < line.count {
            let byte = line[colon]
            if byte == UInt8(ascii: ":") { break }
            if !Self.isOfToken(byte) { isToken = false }
            colon += 1
        }
        var end = colon
        while end > 0, line[end - 1] == 0x20 || line[end - 1] == 0x09 { end -= 1 }
        // No colon, spaces before it, or a name that is no token: something else might read a header here.
        let isOdd = colon == line.count || colon == 0 || !isToken
        if isOdd { mayKeep = false }
        isFoldable = true
        let start = min(colon + 1, line.count)
        switch end {
        case 10 where colon < line.count && Self.isName(line, end, Self.connection): connectionHeader(line, start)
        case 11 where colon < line.count && Self.isName(line, end, Self.retryAfterName): retryAfter = RetryAfterText.read(line, from: start)
        case 14 where Self.isName(line, end, Self.contentLength):
            isFoldable = false
            return isOdd ? Self.badFraming : lengthHeader(line, start)
        case 17 where Self.isName(line, end, Self.transferEncoding):
            isFoldable = false
            return isOdd ? Self.badFraming : codingHeader(line, start)
        default: break
        }
        return .more
    }

    private static let badFraming = Progress.failed(.protocol, "broken response framing")

    private static func isName(_ line: Span<UInt8>, _ end: Int, _ name: [UInt8]) -> Bool {
        for index in 0..<end where lower(line[index]) != name[index] { return false }
        return true
    }

    /// RFC 9110, 5.6.2.
    private static func isOfToken(_ byte: UInt8) -> Bool {
        // A bit for each of !#$%&'*+-. and the digits, and of ^_`|~ and the letters.
        let bits: UInt64 = byte < 64 ? 0x03ff_6cfa_0000_0000 : byte < 128 ? 0x57ff_ffff_c7ff_fffe : 0
        return bits >> UInt64(byte & 63) & 1 == 1
    }

    private static func lower(_ byte: UInt8) -> UInt8 { byte &- 65 < 26 ? byte | 0x20 : byte }

    /// The value without the spaces around it.
    private static func value(_ line: Span<UInt8>, _ start: Int) -> Range<Int> {
        var (start, end) = (min(start, line.count), line.count)
        while start < end, line[start] == 0x20 || line[start] == 0x09 { start += 1 }
        while end > start, line[end - 1] == 0x20 || line[end - 1] == 0x09 { end -= 1 }
        return start..<end
    }

    private mutating func connectionHeader(_ line: Span<UInt8>, _ start: Int) {
        let value = Self.value(line, start)
        if value.count == Self.keepAlive.count, Self.isName(line.extracting(value), value.count, Self.keepAlive) {
            wantsKeepAlive = true
            return
        }
        var word: [UInt8] = []
        for index in start...line.count {
            let byte = index == line.count ? UInt8(ascii: ",") : Self.lower(line[index])
            if byte == UInt8(ascii: ",") {
                if word == Self.close { wantsClose = true }
                if word == Self.keepAlive { wantsKeepAlive = true }
                word.removeAll(keepingCapacity: true)
            } else if byte != 0x20, byte != 0x09 {
                word.append(byte)
            }
        }
    }

    private static let close = Array("close".utf8)
    private static let keepAlive = Array("keep-alive".utf8)

    private mutating func lengthHeader(_ line: Span<UInt8>, _ start: Int) -> Progress {
        let digits = Self.value(line, start)
        guard (1...18).contains(digits.count) else { return Self.badFraming }
        var number = 0
        for index in digits {
            guard line[index] &- 48 < 10 else { return Self.badFraming }
            number = number * 10 + Int(line[index] - 48)
        }
        if let length {
            mayKeep = false
            if length != number { return .failed(.protocol, "the response has two lengths") }
        }
        length = number
        return .more
    }

    private mutating func codingHeader(_ line: Span<UInt8>, _ start: Int) -> Progress {
        let value = Self.value(line, start)
        var isKnown = value.count == Self.chunked.count && !isChunked
        for (offset, index) in value.enumerated() where isKnown { isKnown = Self.lower(line[index]) == Self.chunked[offset] }
        guard isKnown else { return .failed(.protocol, "the response has a transfer coding other than chunked") }
        isChunked = true
        return .more
    }

    private static let chunked = Array("chunked".utf8)

    private mutating func headEnded() -> Progress {
        if code < 200 {
            phase = .statusLine
            return .more
        }
        status = code
        if wantsClose || isOldVersion && !wantsKeepAlive { mayKeep = false }
        if code == 204 || code == 304 {
            // If it has one all the same, it would be taken for the beginning of the next response.
            if isChunked || length ?? 0 > 0 { mayKeep = false }
            phase = .over
            return .complete
        }
        if isChunked {
            if isOldVersion || length != nil { mayKeep = false }
            phase = .chunkLine
            return .more
        }
        guard let length else {
            mayKeep = false
            phase = .untilClose
            return .more
        }
        left = length
        phase = length == 0 ? .over : .body
        return length == 0 ? .complete : .more
    }

    // MARK: chunks

    private mutating func chunkLine(_ line: Span<UInt8>) -> Progress {
        var (size, digits) = (0, 0)
        for index in 0..<line.count {
            let byte = Self.lower(line[index])
            let digit = byte &- 48 < 10 ? Int(byte - 48) : byte &- 97 < 6 ? Int(byte - 87) : -1
            guard digit >= 0 else {
                guard byte == UInt8(ascii: ";") || byte == 0x20 || byte == 0x09 else { return Self.badChunk }
                var rest = index
                while rest < line.count, line[rest] == 0x20 || line[rest] == 0x09 { rest += 1 }
                if rest < line.count, line[rest] != UInt8(ascii: ";") { mayKeep = false }
                break
            }
            digits += 1
            guard digits <= 15 else { return Self.badChunk }
            size = size << 4 | digit
        }
        guard digits > 0 else { return Self.badChunk }
        left = size
        phase = size == 0 ? .trailerLine : .chunkData
        return .more
    }

    private static let badChunk = Progress.failed(.protocol, "the response has a chunk without a size")
}

/// The value of `Retry-After` as both transports hand it on: printable ASCII, single spaces, at most 64 bytes.
enum RetryAfterText {
    static func read(_ line: Span<UInt8>, from start: Int) -> String {
        var out: [UInt8] = []
        for index in min(start, line.count)..<min(start + 80, line.count) {
            let byte = line[index]
            guard byte >= 0x20, byte < 0x7f, out.count < 64 else { continue }
            if byte == 0x20, out.isEmpty || out.last == 0x20 { continue }
            out.append(byte)
        }
        if out.last == 0x20 { out.removeLast() }
        return String(decoding: out, as: UTF8.self)
    }
}
