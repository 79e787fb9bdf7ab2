internal import COpenSSL

/// One TLS connection's state over a socket that doesn't block.
final class TLSStream {
    private let ssl: OpaquePointer
    private let origin: Origin
    private weak var contexts: TLSContexts?
    /// OpenSSL's, between requests.
    let keepsBuffers: Bool
    static let recordBytes = 16_384
    /// Off the wire, in one call.
    private static let callBytes = 65_536
    /// Off the wire, since the handshake began.
    private(set) var bytesRead = 0

    init(_ ssl: OpaquePointer, _ origin: Origin, _ contexts: TLSContexts, keepsBuffers: Bool) {
        (self.ssl, self.origin, self.contexts, self.keepsBuffers) = (ssl, origin, contexts, keepsBuffers)
        SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
    }

    deinit {
        SSL_free(ssl)
        if keepsBuffers { contexts?.bufferedStreamEnded() }
    }

    static func of(_ ssl: OpaquePointer) -> TLSStream? {
        SSL_get_ex_data(ssl, 0).map { Unmanaged<TLSStream>.fromOpaque($0).takeUnretainedValue() }
    }

    func keep(_ session: OpaquePointer) -> Bool {
        contexts?.keep(session, origin) ?? false
    }

    /// `bytes(0)`: done.
    func handshake() -> StreamAnswer {
        let result = budgeted { SSL_do_handshake(ssl) }
        return result == 1 ? .bytes(0) : failure(result)
    }

    private func budgeted(_ call: () -> Int32) -> Int32 {
        ERR_clear_error()
        martlet_tls_set_budget(ssl, Self.callBytes)
        defer { bytesRead += Self.callBytes - martlet_tls_budget_left(ssl) }
        return call()
    }

    /// Bytes of the stream that came, if need be after others that are no one's but TLS's.
    func read(_ buffer: inout [UInt8]) -> StreamAnswer {
        let count = budgeted { buffer.withUnsafeMutableBytes { SSL_read(ssl, $0.baseAddress, Int32($0.count)) } }
        return count > 0 ? .bytes(Int(count)) : failure(count)
    }

    /// A request's parts, each from its offset on; as much as goes into one record. After `wantsRead` or `wantsWrite` it must be called
    /// with the same arguments. `scratch`: for the record that holds several.
    func write(
        _ start: [UInt8], _ lines: [UInt8], _ body: UnsafeRawBufferPointer, from offsets: RequestWriter.Offsets,
        _ scratch: inout [UInt8]
    ) -> StreamAnswer {
        ERR_clear_error()
        let count = Self.withRecord(start, lines, body, from: offsets, &scratch) { SSL_write(ssl, $0.baseAddress, Int32($0.count)) }
        return count > 0 ? .bytes(Int(count)) : failure(count)
    }

    /// Calls `write` with what is left and fits one record: gathered in `scratch` as long as some of the head is in it.
    static func withRecord<Result>(
        _ start: [UInt8], _ lines: [UInt8], _ body: UnsafeRawBufferPointer, from offsets: RequestWriter.Offsets,
        _ scratch: inout [UInt8], _ write: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        guard offsets.start < start.count || offsets.lines < lines.count else {
            return write(UnsafeRawBufferPointer(rebasing: body[offsets.body...].prefix(recordBytes)))
        }
        scratch.removeAll(keepingCapacity: true)
        scratch.append(contentsOf: start[offsets.start...])
        scratch.append(contentsOf: lines[offsets.lines...])
        scratch.append(contentsOf: body.prefix(max(0, recordBytes - scratch.count)))
        return scratch.withUnsafeBytes(write)
    }

    /// Whether bytes that have arrived wait to be read.
    var hasPending: Bool { SSL_has_pending(ssl) == 1 }

    /// Says goodbye, as far as that doesn't block.
    func close() {
        ERR_clear_error()
        SSL_shutdown(ssl)
        ERR_clear_error()
    }

    private func failure(_ result: Int32) -> StreamAnswer {
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .wantsRead
        case SSL_ERROR_WANT_WRITE: return .wantsWrite
        case SSL_ERROR_ZERO_RETURN: return .ended
        case SSL_ERROR_SYSCALL: return .failed(.reset, "the connection was reset")
        default:
            let code = ERR_peek_error()
            // The stream's end without TLS's own: nothing was promised that could be missing, which the framing tells.
            if UInt32(truncatingIfNeeded: code & 0x7f_ffff) == UInt32(SSL_R_UNEXPECTED_EOF_WHILE_READING) {
                return .failed(.reset, "the stream ended without close_notify")
            }
            let verdict = SSL_get_verify_result(ssl)
            let reason = verdict != Int(X509_V_OK) ? X509_verify_cert_error_string(verdict) : ERR_reason_error_string(code)
            return .failed(.tls, "TLS: " + (reason.map { String(cString: $0) } ?? "the handshake failed"))
        }
    }
}
