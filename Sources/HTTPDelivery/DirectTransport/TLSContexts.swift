internal import COpenSSL

/// TLS as a client, for one thread: one OpenSSL context per trust set and client identity, and the sessions that may be resumed.
final class TLSContexts {
    /// What can't be used as it is: why.
    struct Unusable: Error { var text: String }

    private let trust: TrustStores
    private var contexts: [UInt64?: (identity: TLSIdentity?, context: OpaquePointer)] = [:]
    private var sessions: [Origin: [OpaquePointer]] = [:]
    private var sessionCount = 0
    private static let contextLimit = 1_000
    private static let sessionsPerOrigin = 64
    private static let sessionLimit = 512
    private static let ticketBytes = 4_096

    init(_ trust: TrustStores) { self.trust = trust }

    deinit {
        for entry in contexts.values { SSL_CTX_free(entry.context) }
        for session in sessions.values.joined() { SSL_SESSION_free(session) }
    }

    /// A stream over a connected socket, before its handshake.
    func stream(_ fd: Int32, _ url: EndpointURL, _ origin: Origin, _ identity: TLSIdentity?) throws(Unusable) -> TLSStream {
        guard let ssl = SSL_new(try context(identity)) else { throw Unusable(text: "TLS: out of memory") }
        let stream = TLSStream(ssl, origin, self)
        SSL_set_fd(ssl, fd)
        martlet_tls_watch_reads(ssl)
        switch url.host {
        case .name(let name):
            martlet_tls_set_server_name(ssl, name)
            guard martlet_tls_check_name(ssl, name) == 1 else { throw Unusable(text: "TLS: the name can't be checked") }
        case .address(let address):
            guard X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), "\(address)") == 1 else {
                throw Unusable(text: "TLS: the address can't be checked")
            }
        }
        if let session = takeSession(origin) {
            SSL_set_session(ssl, session)
            SSL_SESSION_free(session)
        }
        SSL_set_connect_state(ssl)
        return stream
    }

    private func context(_ identity: TLSIdentity?) throws(Unusable) -> OpaquePointer {
        let key = identity?.number
        if let known = contexts[key] { return known.context }
        if contexts.count >= Self.contextLimit {
            // Streams that use one hold it themselves.
            for entry in contexts.values { SSL_CTX_free(entry.context) }
            contexts = [:]
            dropSessions()
        }
        guard let store = trust.storeOfAll(for: identity), let context = martlet_tls_client() else {
            throw Unusable(text: "TLS: out of memory")
        }
        SSL_CTX_set1_cert_store(context, store)
        if let identity, !identity.certificate.isEmpty {
            guard Self.show(identity, context) else {
                SSL_CTX_free(context)
                ERR_clear_error()
                throw Unusable(text: "TLS: the client certificate and its key can't be used")
            }
        }
        SSL_CTX_sess_set_new_cb(context) { ssl, session in
            guard let ssl, let session, let stream = TLSStream.of(ssl) else { return 0 }
            return stream.keep(session) ? 1 : 0
        }
        contexts[key] = (identity, context)
        return context
    }

    private static func show(_ identity: TLSIdentity, _ context: OpaquePointer) -> Bool {
        let chain = TrustStores.certificates(in: identity.certificate)
        defer { for certificate in chain { X509_free(certificate) } }
        guard let first = chain.first, SSL_CTX_use_certificate(context, first) == 1 else { return false }
        for certificate in chain.dropFirst() { martlet_tls_add_to_chain(context, certificate) }
        let key = identity.key.withUnsafeBytes { bytes -> OpaquePointer? in
            guard let bio = BIO_new_mem_buf(bytes.baseAddress, Int32(bytes.count)) else { return nil }
            defer { BIO_free(bio) }
            return martlet_read_key(bio)
        }
        guard let key else { return false }
        defer { EVP_PKEY_free(key) }
        return SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1
    }

    // MARK: sessions, each used once

    private func takeSession(_ origin: Origin) -> OpaquePointer? {
        guard let session = sessions[origin]?.popLast() else { return nil }
        sessionCount -= 1
        if sessions[origin]?.isEmpty == true { sessions[origin] = nil }
        return session
    }

    private func dropSessions() {
        for session in sessions.values.joined() { SSL_SESSION_free(session) }
        (sessions, sessionCount) = ([:], 0)
    }

    /// Takes over the reference when it says yes: tickets are as large as the peer likes.
    fileprivate func keep(_ session: OpaquePointer, _ origin: Origin) -> Bool {
        var (ticket, size): (UnsafePointer<UInt8>?, Int) = (nil, 0)
        SSL_SESSION_get0_ticket(session, &ticket, &size)
        guard size <= Self.ticketBytes else { return false }
        if sessionCount >= Self.sessionLimit, let other = sessions.keys.first {
            let dropped = sessions.removeValue(forKey: other) ?? []
            sessionCount -= dropped.count
            for old in dropped { SSL_SESSION_free(old) }
        }
        sessions[origin, default: []].append(session)
        sessionCount += 1
        if let count = sessions[origin]?.count, count > Self.sessionsPerOrigin, let oldest = sessions[origin]?.removeFirst() {
            SSL_SESSION_free(oldest)
            sessionCount -= 1
        }
        return true
    }
}

/// One TLS connection's state over a socket that doesn't block.
final class TLSStream {
    enum Answer {
        case bytes(Int)
        case wantsRead, wantsWrite
        case ended
        case failed(ErrorClass, String)
    }

    private let ssl: OpaquePointer
    private let origin: Origin
    private weak var contexts: TLSContexts?
    private static let recordBytes = 16_384
    /// Off the wire, in one call.
    private static let callBytes = 65_536
    /// Off the wire, since the handshake began.
    private(set) var bytesRead = 0

    fileprivate init(_ ssl: OpaquePointer, _ origin: Origin, _ contexts: TLSContexts) {
        (self.ssl, self.origin, self.contexts) = (ssl, origin, contexts)
        SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
    }

    deinit { SSL_free(ssl) }

    fileprivate static func of(_ ssl: OpaquePointer) -> TLSStream? {
        SSL_get_ex_data(ssl, 0).map { Unmanaged<TLSStream>.fromOpaque($0).takeUnretainedValue() }
    }

    fileprivate func keep(_ session: OpaquePointer) -> Bool {
        contexts?.keep(session, origin) ?? false
    }

    /// `bytes(0)`: done.
    func handshake() -> Answer {
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
    func read(_ buffer: inout [UInt8]) -> Answer {
        let count = budgeted { buffer.withUnsafeMutableBytes { SSL_read(ssl, $0.baseAddress, Int32($0.count)) } }
        return count > 0 ? .bytes(Int(count)) : failure(count)
    }

    /// Head and body from `offset` of the two together; as many as go into one record. After `wantsRead` or `wantsWrite` it must be called
    /// with the same arguments. `scratch`: for the record that holds both.
    func write(_ head: [UInt8], _ body: UnsafeRawBufferPointer, from offset: Int, _ scratch: inout [UInt8]) -> Answer {
        ERR_clear_error()
        let count: Int32
        if offset < head.count {
            scratch.removeAll(keepingCapacity: true)
            scratch.append(contentsOf: head[offset...])
            scratch.append(contentsOf: body.prefix(max(0, Self.recordBytes - scratch.count)))
            count = scratch.withUnsafeBytes { SSL_write(ssl, $0.baseAddress, Int32($0.count)) }
        } else {
            let rest = body[(offset - head.count)...].prefix(Self.recordBytes)
            count = SSL_write(ssl, UnsafeRawBufferPointer(rebasing: rest).baseAddress, Int32(rest.count))
        }
        return count > 0 ? .bytes(Int(count)) : failure(count)
    }

    /// Whether bytes that have arrived wait to be read.
    var hasPending: Bool { SSL_has_pending(ssl) == 1 }

    /// Says goodbye, as far as that doesn't block.
    func close() {
        ERR_clear_error()
        SSL_shutdown(ssl)
        ERR_clear_error()
    }

    private func failure(_ result: Int32) -> Answer {
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
