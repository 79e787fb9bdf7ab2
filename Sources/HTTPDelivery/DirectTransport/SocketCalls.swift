internal import CLinux
internal import Glibc

/// The system calls of the direct transport: the only place, beside `TLSStream`, where it touches memory by address.
enum SocketCalls {
    /// A socket that is connecting; or the error.
    static func connect(_ address: IPAddress, _ port: UInt16) -> (fd: Int32, error: Int32) {
        let fd = martlet_connect(address.family == .v6 ? 1 : 0, address.high, address.low, port)
        return fd >= 0 ? (fd, 0) : (-1, -fd)
    }

    /// How a connection attempt stands: 0, EINPROGRESS, or why it failed. An event that was meant for an earlier socket of this number says
    /// nothing.
    static func connectionError(_ fd: Int32) -> Int32 { martlet_connection_error(fd) }

    /// A request's parts, each from its offset on, in one call.
    static func send(
        _ fd: Int32, _ start: [UInt8], _ lines: [UInt8], _ body: UnsafeRawBufferPointer, from offsets: RequestWriter.Offsets
    ) -> StreamAnswer {
        precondition(offsets.start <= start.count && offsets.lines <= lines.count && offsets.body <= body.count)
        let count = martlet_send(
            fd, start, offsets.start, start.count, lines, offsets.lines, lines.count, body.baseAddress, offsets.body, body.count)
        if count >= 0 { return .bytes(count) }
        return errno == EAGAIN || errno == EINTR ? .wantsWrite : .failed(.reset, text(errno))
    }

    static func receive(_ fd: Int32, _ buffer: inout [UInt8]) -> StreamAnswer {
        let count = buffer.withUnsafeMutableBytes { recv(fd, $0.baseAddress, $0.count, 0) }
        if count > 0 { return .bytes(count) }
        if count == 0 { return .ended }
        return errno == EAGAIN || errno == EINTR ? .wantsRead : .failed(.reset, text(errno))
    }

    static func text(_ error: Int32) -> String { String(cString: strerror(error)) }

    static let isOutOfDescriptors: Set<Int32> = [EMFILE, ENFILE]
}
