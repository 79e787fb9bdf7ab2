internal import CMicrohttpd
internal import Glibc

/// A small HTTP/1.1 server on libmicrohttpd with its own threads. The handler runs on one of them and may block only in the
/// `threadPerConnection` mode.
public final class HTTPServer: @unchecked Sendable {
    public struct Configuration: Sendable {
        /// An IPv4 address; loopback unless said otherwise.
        public var address: String
        /// 0: any free one (see `port`).
        public var port: UInt16
        public var connectionLimit = 1_024
        public var idleTimeoutSeconds = 30
        public var bodyLimitBytes = 4 << 20
        public var threadPerConnection = false
        public init(address: String = "127.0.0.1", port: UInt16) { (self.address, self.port) = (address, port) }
    }

    public struct Request: Sendable {
        public var method: String
        public var path: String
        /// In the order received; names as sent.
        public var headers: [(name: String, value: String)]
        public var body: [UInt8]

        /// The first value of a header, whatever the case of its name.
        public func header(_ name: String) -> String? { headers.first { $0.name.lowercased() == name }?.value }
    }

    public struct Response: Sendable {
        public enum Delivery: Sendable, Equatable {
            case whole
            /// The connection is reset instead of an answer.
            case reset
            /// One byte of the body each so many milliseconds (needs `threadPerConnection`).
            case drip(milliseconds: UInt32)
        }
        public var status: Int
        public var headers: [(name: String, value: String)]
        public var body: [UInt8]
        public var delivery = Delivery.whole
        public init(_ status: Int, headers: [(name: String, value: String)] = [], body: String = "") {
            (self.status, self.headers, self.body) = (status, headers, Array(body.utf8))
        }
    }

    public struct StartError: Error, CustomStringConvertible {
        public var description: String
    }

    fileprivate let handler: @Sendable (Request) -> Response
    fileprivate let bodyLimit: Int
    private var daemon: OpaquePointer?
    /// The port that it listens on.
    public private(set) var port: UInt16 = 0

    public init(_ configuration: Configuration, handler: @escaping @Sendable (Request) -> Response) throws(StartError) {
        self.handler = handler
        bodyLimit = configuration.bodyLimitBytes
        var address = in_addr()
        guard inet_pton(AF_INET, configuration.address, &address) == 1 else {
            throw StartError(description: "cannot listen on '\(configuration.address)': not an IPv4 address")
        }
        daemon = martlet_mhd_start(
            configuration.threadPerConnection ? 1 : 0, UInt32(bigEndian: address.s_addr), configuration.port,
            UInt32(configuration.connectionLimit), UInt32(configuration.idleTimeoutSeconds), onRequest, onCompleted,
            Unmanaged.passUnretained(self).toOpaque())
        guard let daemon else {
            throw StartError(
                description: "cannot listen on \(configuration.address):\(configuration.port): \(String(cString: strerror(errno)))")
        }
        port = martlet_mhd_port(daemon)
    }

    /// Stops listening and waits for the handlers that run.
    public func stop() {
        if let daemon { MHD_stop_daemon(daemon) }
        daemon = nil
    }

    deinit { stop() }
}

/// What is collected of one request until it is whole; owned by the connection's context pointer.
private final class Pending {
    var body: [UInt8] = []
    var tooLarge = false
}

/// Runs on libmicrohttpd's threads: once with no body, then per chunk, then with size 0. Pointers live until it returns.
private func onRequest(
    _ context: UnsafeMutableRawPointer?, _ connection: OpaquePointer?, _ url: UnsafePointer<CChar>?, _ method: UnsafePointer<CChar>?,
    _ version: UnsafePointer<CChar>?, _ upload: UnsafePointer<CChar>?, _ size: UnsafeMutablePointer<Int>?,
    _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> MHD_Result {
    guard let context, let connection, let url, let method, let size, let state else { return .NO }
    let server = Unmanaged<HTTPServer>.fromOpaque(context).takeUnretainedValue()
    guard let known = state.pointee else {
        state.pointee = Unmanaged.passRetained(Pending()).toOpaque()
        return .YES
    }
    let pending = Unmanaged<Pending>.fromOpaque(known).takeUnretainedValue()
    if size.pointee > 0 {
        if pending.body.count + size.pointee > server.bodyLimit {
            pending.tooLarge = true
        } else if let upload {
            pending.body += UnsafeRawBufferPointer(start: upload, count: size.pointee)
        }
        size.pointee = 0
        return .YES
    }
    if pending.tooLarge { return send(.init(413), on: connection) }
    var headers: [(name: String, value: String)] = []
    withUnsafeMutablePointer(to: &headers) { headers in
        _ = MHD_get_connection_values(
            connection, .HEADER_KIND,
            { context, _, name, value in
                context?.assumingMemoryBound(to: [(name: String, value: String)].self).pointee.append(
                    (name.map { String(cString: $0) } ?? "", value.map { String(cString: $0) } ?? ""))
                return .YES
            }, headers)
    }
    let request = HTTPServer.Request(method: String(cString: method), path: String(cString: url), headers: headers, body: pending.body)
    return send(server.handler(request), on: connection)
}

private func onCompleted(
    _ context: UnsafeMutableRawPointer?, _ connection: OpaquePointer?, _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    _ reason: MHD_RequestTerminationCode
) {
    if let pending = state?.pointee { Unmanaged<Pending>.fromOpaque(pending).release() }
    state?.pointee = nil
}

private final class Dripping {
    let body: [UInt8]
    let microseconds: UInt32
    init(_ body: [UInt8], milliseconds: UInt32) { (self.body, microseconds) = (body, UInt32(clamping: UInt64(milliseconds) * 1_000)) }
}

private func send(_ response: HTTPServer.Response, on connection: OpaquePointer) -> MHD_Result {
    let made: OpaquePointer?
    switch response.delivery {
    case .reset:
        martlet_mhd_reset(connection)
        return .NO
    case .drip(let milliseconds):
        let dripping = Unmanaged.passRetained(Dripping(response.body, milliseconds: milliseconds))
        made = MHD_create_response_from_callback(
            UInt64(response.body.count), 1,
            { context, position, buffer, _ in
                guard let context, let buffer else { return -1 }
                let dripping = Unmanaged<Dripping>.fromOpaque(context).takeUnretainedValue()
                usleep(dripping.microseconds)
                buffer[0] = CChar(bitPattern: dripping.body[Int(position)])
                return 1
            }, dripping.toOpaque(), { if let context = $0 { Unmanaged<Dripping>.fromOpaque(context).release() } })
    case .whole:
        var body = response.body
        made = MHD_create_response_from_buffer(body.count, &body, .RESPMEM_MUST_COPY)
    }
    guard let made else { return .NO }
    defer { MHD_destroy_response(made) }
    for header in response.headers { MHD_add_response_header(made, header.name, header.value) }
    return MHD_queue_response(connection, UInt32(response.status), made)
}
