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
    /// Open streams that keep OpenSSL's buffers between requests, up to 34 KB each: two allocations and two releases less per request. All
    /// others let go of theirs.
    private(set) var bufferedStreams = 0
    static let bufferedStreamLimit = 512

    init(_ trust: TrustStores) { self.trust = trust }

    deinit {
        for entry in contexts.values { SSL_CTX_free(entry.context) }
        for session in sessions.values.joined() { SSL_SESSION_free(session) }
    }

    /// A stream over a connected socket, before its handshake.
    func stream(_ fd: Int32, _ url: EndpointURL, _ origin: Origin, _ identity: TLSIdentity?) throws(Unusable) -> TLSStream {
        guard let ssl = SSL_new(try context(identity)) else { throw Unusable(text: "TLS: out of memory") }
        let keepsBuffers = bufferedStreams < Self.bufferedStreamLimit
        let stream = TLSStream(ssl, origin, self, keepsBuffers: keepsBuffers)
        if keepsBuffers {
            bufferedStreams += 1
            martlet_tls_keep_buffers(ssl)
        }
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

    /// One that keeps its buffers is no more.
    func bufferedStreamEnded() { bufferedStreams -= 1 }

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
    func keep(_ session: OpaquePointer, _ origin: Origin) -> Bool {
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
