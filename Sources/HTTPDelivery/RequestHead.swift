internal import Cryptography

/// Header lines as they go over the wire, `name: value` and CR LF each. A name or value with a byte that could begin another line never
/// gets in: it makes the whole unsendable instead.
public struct HeaderLines: Sendable {
    public private(set) var bytes: [UInt8] = []
    /// False once something was refused; such a request ends without a byte on the wire.
    public private(set) var isSafe = true
    private(set) var hasAccept = false

    public init() {}

    /// None yet, but memory that others have left: `memory` is empty.
    init(in memory: [UInt8]) { bytes = memory }

    public init(_ headers: [HTTPHeader]) { for header in headers { append(header.name, header.value) } }

    public mutating func reserveCapacity(_ count: Int) { bytes.reserveCapacity(count) }

    public mutating func append(_ name: String, _ value: String) { append(HeaderName(name), value) }

    public mutating func append(_ name: HeaderName, _ value: String) { append(name) { $0.append(contentsOf: value.utf8) } }

    /// `write` appends the value's bytes, and nothing else.
    public mutating func append(_ name: HeaderName, _ write: (inout [UInt8]) -> Void) {
        let start = bytes.count
        bytes.append(contentsOf: name.bytes)
        let end = bytes.count
        write(&bytes)
        guard Self.isFit(bytes.span.extracting(end..<bytes.count)), name.isFit else {
            bytes.removeSubrange(start...)
            isSafe = false
            return
        }
        hasAccept = hasAccept || name.isAccept
        bytes.append(0x0d)
        bytes.append(0x0a)
    }

    /// No control byte but a tab.
    private static func isFit(_ value: Span<UInt8>) -> Bool {
        // Numbers instead of conditions, and no way out: so many bytes are looked at at once.
        var odd: UInt8 = 0
        for index in value.indices {
            let byte = value[index]
            odd |= (byte < 0x20 ? 1 : 0) & (byte != 0x09 ? 1 : 0) | (byte == 0x7f ? 1 : 0)
        }
        return odd == 0
    }

    public mutating func append(_ other: HeaderLines) {
        bytes.append(contentsOf: other.bytes)
        isSafe = isSafe && other.isSafe
        hasAccept = hasAccept || other.hasAccept
    }

    /// The lines, those of the framing, and the end of the head. Leaves nothing behind: the array is handed over, not copied.
    mutating func takeFramed(bodyBytes: Int) -> [UInt8] {
        var lines: [UInt8] = []
        swap(&lines, &bytes)
        if !hasAccept { lines.append("Accept: */*\r\n") }
        lines.append("Content-Length: ")
        Decimal.append(bodyBytes, to: &lines)
        lines.append("\r\n\r\n")
        return lines
    }

    /// Line by line, in order.
    public var list: [HTTPHeader] {
        bytes.split(separator: 0x0a).map { line in
            // By bytes: a space and the mark that begins a value may be one character.
            let name = line.prefix { $0 != UInt8(ascii: ":") }
            return HTTPHeader(
                String(decoding: name, as: UTF8.self), String(decoding: line.dropFirst(name.count + 2).dropLast(), as: UTF8.self))
        }
    }
}

/// The name of a header, checked once for many requests.
public struct HeaderName: Sendable {
    /// With colon and space.
    let bytes: [UInt8]
    /// Visible ASCII, and no colon.
    let isFit: Bool
    let isAccept: Bool

    public init(_ name: String) {
        bytes = Array(name.utf8) + [UInt8(ascii: ":"), 0x20]
        isFit = !name.isEmpty && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: ":") }
        isAccept = name.lowercased() == "accept"
    }
}

/// Which transport carries a request.
public enum TransportKind: String, Sendable, CaseIterable { case direct, curl }

/// Where requests go, prepared once for many of them. Immutable, and shared by all lanes.
public final class RequestTarget: Sendable {
    public let url: EndpointURL
    public let tls: TLSIdentity?
    /// nil: the deployment's choice.
    public let transport: TransportKind?
    let origin: Origin
    /// The request line and `Host`.
    let start: [UInt8]

    public init(_ url: EndpointURL, tls: TLSIdentity? = nil, transport: TransportKind? = nil) {
        (self.url, self.tls, self.transport) = (url, tls, transport)
        origin = Origin(isTLS: url.isTLS, host: url.host, port: url.port, identity: url.isTLS ? tls?.number : nil)
        start = Array("POST \(url.target) HTTP/1.1\r\nHost: \(url.authority)\r\n".utf8)
    }
}

/// What a kept connection, or a TLS session, is good for.
struct Origin: Hashable, Sendable {
    let isTLS: Bool
    let host: EndpointURL.Host
    let port: UInt16
    /// Number of the `TLSIdentity`.
    let identity: UInt64?
    private let hash: Int

    init(isTLS: Bool, host: EndpointURL.Host, port: UInt16, identity: UInt64?) {
        (self.isTLS, self.host, self.port, self.identity) = (isTLS, host, port, identity)
        var hasher = Hasher()
        hasher.combine(isTLS)
        hasher.combine(host)
        hasher.combine(port)
        hasher.combine(identity)
        hash = hasher.finalize()
    }

    func hash(into hasher: inout Hasher) { hasher.combine(hash) }
}
