public import EventLoop

/// The bytes of a request body, wherever they lie. Whoever holds the reference keeps them valid and unchanged.
public protocol BodyBytes: AnyObject {
    var bytes: UnsafeRawBufferPointer { get }
}

public struct HTTPHeader: Sendable, Equatable {
    public var name: String
    public var value: String
    public init(_ name: String, _ value: String) { (self.name, self.value) = (name, value) }
}

public struct Timeouts: Sendable, Equatable {
    public var connectMilliseconds: Int64 = 5_000
    /// From the start to the last byte of the response that is read.
    public var totalMilliseconds: Int64 = 15_000
    public init(connectMilliseconds: Int64 = 5_000, totalMilliseconds: Int64 = 15_000) {
        (self.connectMilliseconds, self.totalMilliseconds) = (connectMilliseconds, totalMilliseconds)
    }
}

/// Bounds on what is read of a response.
public enum ResponseLimits {
    public static let headerBytes = 65_536
    public static let bodyBytes = 65_536
    public static let excerptBytes = 1_024
}

/// One POST. Framing headers are the transport's.
public struct HTTPRequest {
    /// Comes back in the result.
    public var token: UInt64
    public var target: RequestTarget
    public var headers: HeaderLines
    public var body: any BodyBytes
    public var timeouts: Timeouts
    /// How much of the response's body is kept.
    public var excerptBytes = ResponseLimits.excerptBytes
    public init(token: UInt64, target: RequestTarget, headers: HeaderLines, body: any BodyBytes, timeouts: Timeouts) {
        (self.token, self.target, self.headers, self.body, self.timeouts) = (token, target, headers, body, timeouts)
    }
}

/// Why no whole response came. The raw values stand in attempt records.
public enum ErrorClass: String, Sendable, CaseIterable {
    case dns
    case refusedAddress = "refused-address"
    case connect, tls, timeout, reset
    case `protocol`
    case tooLarge = "too-large"
    case status, cancelled
}

/// Microseconds since the start of the attempt; nil where the phase did not happen (a kept connection has no connect).
public struct Timings: Sendable, Equatable {
    public var total: Int64 = 0
    public var dns: Int64?
    public var connect: Int64?
    public var tls: Int64?
    public var firstByte: Int64?
    public init(total: Int64 = 0) { self.total = total }
}

public struct HTTPResult: Sendable {
    public var token: UInt64
    /// The final status, when a head arrived. A body cut at its cap, or not read to its end, is judged by it when `error` is nil.
    public var status: Int?
    public var error: (kind: ErrorClass, text: String)?
    public var retryAfter: String?
    /// The first bytes of the response body.
    public var excerpt: [UInt8]
    public var timings: Timings
    public init(
        token: UInt64, status: Int? = nil, error: (kind: ErrorClass, text: String)? = nil, retryAfter: String? = nil, excerpt: [UInt8] = [],
        timings: Timings = Timings()
    ) {
        (self.token, self.status, self.error) = (token, status, error)
        (self.retryAfter, self.excerpt, self.timings) = (retryAfter, excerpt, timings)
    }
}

/// The seam between the lane and a way of sending requests. A transport belongs to one thread and works on that thread's event loop: it
/// watches its descriptors with tokens in the range that it was given and never blocks.
public protocol HTTPTransport: AnyObject {
    /// Takes a request; its result comes from `drain`, also when it can't even be started. It goes out with the next `flush`, or earlier.
    func start(_ request: consuming HTTPRequest, nowMicroseconds: Int64)
    /// From now on, for what is in flight and for kept connections, too.
    func setAddressPolicy(_ policy: AddressPolicy)
    /// Writes what was started; `advance` does that, too.
    func flush()
    /// Ends a request early; its result (`cancelled`) still comes. Unknown tokens are ignored.
    func cancel(_ token: UInt64)
    /// Ends those requests early of which no byte is written yet.
    func cancelUnsent()
    /// Ends all requests early and lets go of their bodies.
    func cancelAll()
    /// A descriptor with one of this transport's tokens is ready.
    func handle(_ ready: EventLoop.Ready, nowMicroseconds: Int64)
    /// Does what is due by time; call at every turn.
    func advance(nowMicroseconds: Int64)
    /// When `advance` must be called next; nil: no deadline.
    var nextDeadlineMicroseconds: Int64? { get }
    /// Requests started and not drained.
    var inFlight: Int { get }
    /// Hands over finished requests.
    func drain(_ body: (HTTPResult) -> Void)
}
