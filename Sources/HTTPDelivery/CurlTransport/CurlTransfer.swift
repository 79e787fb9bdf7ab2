internal import CLibcurl
internal import COpenSSL

/// One easy handle and what it collects. Reused from request to request; libcurl's callbacks get its address and run on the transport's
/// thread, inside a call into the multi handle.
final class CurlTransfer {
    private let easy: UnsafeMutableRawPointer
    private let url: OpaquePointer
    var addresses: AddressPolicy { didSet { lastAllowed = nil } }
    private let proxy: EgressProxy?
    private let trust: TrustStores
    private var errorText = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))
    private var request: HTTPRequest?
    private let headerList = HeaderList()
    private var resolveList: UnsafeMutablePointer<curl_slist>?
    private var startedMicroseconds: Int64 = 0
    private var resolvedMicroseconds: Int64?
    private var isAttached = false
    private(set) var token: UInt64 = 0

    private var status: Int?
    private var headerBytes = 0
    private var bodyBytes = 0
    private var excerpt: [UInt8] = []
    private var retryAfter: String?
    private var isChunked = false
    private var cut: Cut?

    /// Why one of our callbacks ended the transfer.
    private enum Cut {
        case body
        case headers
        case coding
        case statusLine
        case address(String)
    }

    init(_ transport: CurlTransport, _ configuration: TransportConfiguration, _ trust: TrustStores) {
        guard let easy = curl_easy_init() else { fatalError("libcurl: out of memory") }
        guard let url = curl_url() else { fatalError("libcurl: out of memory") }
        (self.easy, self.url) = (easy, url)
        (addresses, proxy, self.trust) = (configuration.addresses, configuration.proxy, trust)
        errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
        let me = Unmanaged.passUnretained(self).toOpaque()
        martlet_setopt_pointer(easy, CURLOPT_PRIVATE, me)
        martlet_setopt_long(easy, CURLOPT_NOSIGNAL, 1)
        martlet_setopt_long(easy, CURLOPT_POST, 1)
        martlet_setopt_long(easy, CURLOPT_FOLLOWLOCATION, 0)
        martlet_setopt_pointer(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        martlet_setopt_long(easy, CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
        // Proxy variables of the environment must not take requests round the address policy.
        martlet_setopt_pointer(easy, CURLOPT_PROXY, proxy?.text ?? "")
        martlet_setopt_pointer(easy, CURLOPT_NOPROXY, proxy == nil ? "*" : "")
        martlet_setopt_long(easy, CURLOPT_HTTPPROXYTUNNEL, 1)
        martlet_setopt_long(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        martlet_setopt_pointer(easy, CURLOPT_ERRORBUFFER, errorText)
        martlet_setopt_long(easy, CURLOPT_MAXLIFETIME_CONN, 300)
        martlet_setopt_long(easy, CURLOPT_MAXAGE_CONN, 90)
        martlet_setopt_long(easy, CURLOPT_SSL_VERIFYPEER, 1)
        martlet_setopt_long(easy, CURLOPT_SSL_VERIFYHOST, 2)
        martlet_setopt_long(easy, CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2))
        // With the default CApath the parsed store isn't kept, and each connection parses the bundle again (20 ms).
        martlet_setopt_pointer(easy, CURLOPT_CAPATH, nil)
        martlet_setopt_pointer(easy, CURLOPT_CAINFO, trust.bundlePath)
        martlet_setopt_pointer(easy, CURLOPT_SSL_CTX_DATA, me)
        martlet_setopt_tls(easy) { _, context, me in
            guard let transfer = CurlTransfer.from(me), let context else { return CURLE_SSL_CERTPROBLEM }
            return transfer.prepareTLS(OpaquePointer(context))
        }
        martlet_setopt_pointer(easy, CURLOPT_HEADERDATA, me)
        martlet_setopt_data(easy, CURLOPT_HEADERFUNCTION) { CurlTransfer.from($3)?.header($0, $1 * $2) ?? 0 }
        martlet_setopt_pointer(easy, CURLOPT_WRITEDATA, me)
        martlet_setopt_data(easy, CURLOPT_WRITEFUNCTION) { CurlTransfer.from($3)?.body($0, $1 * $2) ?? 0 }
        martlet_setopt_pointer(easy, CURLOPT_OPENSOCKETDATA, me)
        martlet_setopt_open(easy) { context, _, address in
            guard let transfer = CurlTransfer.from(context), let address else { return CURL_SOCKET_BAD }
            return transfer.open(address)
        }
        // A connection outlives the transfer that made it.
        martlet_setopt_pointer(easy, CURLOPT_CLOSESOCKETDATA, Unmanaged.passUnretained(transport).toOpaque())
        martlet_setopt_close(easy) { context, socket in
            guard let context else { return -1 }
            return Unmanaged<CurlTransport>.fromOpaque(context).takeUnretainedValue().close(socket)
        }
        martlet_setopt_pointer(easy, CURLOPT_PREREQDATA, me)
        martlet_setopt_prereq(easy) { context, address, _, _, _ in
            guard let transfer = CurlTransfer.from(context), let address else { return CURL_PREREQFUNC_ABORT }
            return transfer.mayUse(String(cString: address)) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT
        }
    }

    deinit {
        curl_easy_cleanup(easy)
        curl_url_cleanup(url)
        errorText.deallocate()
        curl_slist_free_all(resolveList)
    }

    static func of(_ easy: UnsafeMutableRawPointer) -> CurlTransfer? {
        var context: UnsafeMutableRawPointer?
        martlet_getinfo_pointer(easy, CURLINFO_PRIVATE, &context)
        return from(context)
    }

    private static func from(_ context: UnsafeMutableRawPointer?) -> CurlTransfer? {
        context.map { Unmanaged<CurlTransfer>.fromOpaque($0).takeUnretainedValue() }
    }

    // MARK: life of a request

    func prepare(_ request: HTTPRequest, startedMicroseconds: Int64) {
        self.request = request
        self.startedMicroseconds = startedMicroseconds
        token = request.token
        (status, headerBytes, bodyBytes, retryAfter, cut, resolvedMicroseconds) = (nil, 0, 0, nil, nil, nil)
        (isSent, isChunked) = (false, false)
        excerpt.removeAll(keepingCapacity: true)
        errorText[0] = 0
    }

    var resolveDeadlineMicroseconds: Int64 {
        let limit = min(request?.timeouts.totalMilliseconds ?? 0, Int64(Resolver.lookupTimeoutMilliseconds))
        return startedMicroseconds + limit * 1_000
    }

    /// libcurl sends what it is given: a line's end in a header would begin another one.
    var hasSafeHeaders: Bool { request?.headers.isSafe ?? false }

    func attach(_ multi: UnsafeMutableRawPointer, _ vetted: [IPAddress], nowMicroseconds: Int64) -> Bool {
        guard let request else { return false }
        guard setTarget(request.target) else { return false }
        var list: String {
            vetted.prefix(DirectTransport.addressLimit).map { $0.family == .v4 ? "\($0)" : "[\($0)]" }.joined(separator: ",")
        }
        if let proxy {
            if proxy.address == nil { resolveList = curl_slist_append(nil, "+\(proxy.host):\(proxy.port):\(list)") }
        } else if case .name(let name) = request.target.url.host {
            resolvedMicroseconds = nowMicroseconds - startedMicroseconds
            resolveList = curl_slist_append(nil, "+\(name):\(request.target.url.port):\(list)")
        }
        setIdentity(request.target.tls)
        if resolveList != nil { martlet_setopt_pointer(easy, CURLOPT_RESOLVE, resolveList) }
        // "Accept: */*" is libcurl's own, unless there is one.
        martlet_setopt_pointer(easy, CURLOPT_HTTPHEADER, headerList.fill(request.headers.bytes, "Expect:"))
        let spent = (nowMicroseconds - startedMicroseconds) / 1_000
        set(CURLOPT_TIMEOUT_MS, Int(max(1, request.timeouts.totalMilliseconds - spent)), &last.timeout)
        set(CURLOPT_CONNECTTIMEOUT_MS, Int(max(1, request.timeouts.connectMilliseconds)), &last.connectTimeout)
        // Not copied: `request` holds the body until the transfer is detached.
        let bytes = request.body.bytes
        martlet_setopt_off(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(bytes.count))
        martlet_setopt_pointer(easy, CURLOPT_POSTFIELDS, bytes.baseAddress ?? UnsafeRawPointer(Self.nothing))
        isAttached = curl_multi_add_handle(multi, easy) == CURLM_OK
        return isAttached
    }

    /// What the handle has from its last request, mostly one like this.
    private var last = (timeout: -1, connectTimeout: -1)

    private func set(_ option: CURLoption, _ value: Int, _ last: inout Int) {
        if value != last { martlet_setopt_long(easy, option, value) }
        last = value
    }

    /// The URL is parsed when it changes, not for each request.
    private func setTarget(_ target: RequestTarget) -> Bool {
        guard lastTarget !== target else { return true }
        lastTarget = nil
        guard curl_url_set(url, CURLUPART_URL, target.url.description, UInt32(CURLU_PATH_AS_IS)) == CURLUE_OK else { return false }
        // What libcurl remembers of the one before.
        martlet_setopt_pointer(easy, CURLOPT_URL, nil)
        martlet_setopt_pointer(easy, CURLOPT_CURLU, UnsafeRawPointer(url))
        lastTarget = target
        return true
    }
    private var lastTarget: RequestTarget?

    /// Authorities and client certificate go in as blobs: libcurl keeps a connection, and a session, for the same ones only.
    private func setIdentity(_ identity: TLSIdentity?) {
        func set(_ option: CURLoption, _ pem: [UInt8]?) {
            guard let pem, !pem.isEmpty else {
                martlet_setopt_blob(easy, option, nil, 0)
                return
            }
            pem.withUnsafeBytes { _ = martlet_setopt_blob(easy, option, $0.baseAddress, $0.count) }
        }
        guard identity != nil || hasIdentity else { return }
        hasIdentity = identity != nil
        set(CURLOPT_CAINFO_BLOB, identity?.authorities)
        set(CURLOPT_SSLCERT_BLOB, identity?.certificate)
        set(CURLOPT_SSLKEY_BLOB, identity?.key)
    }
    private var hasIdentity = false

    private func prepareTLS(_ context: OpaquePointer) -> CURLcode {
        martlet_tls_bound_messages(context)
        guard let identity = request?.target.tls, !identity.authorities.isEmpty else { return CURLE_OK }
        // The blob holds the endpoint's own authorities only; the deployment's are trusted as well, from a store that is parsed once.
        guard let store = trust.store(for: identity) else { return CURLE_SSL_CERTPROBLEM }
        SSL_CTX_set1_cert_store(context, store)
        return CURLE_OK
    }

    /// A place for the address of an empty body: libcurl takes a null pointer for "read the body from a callback".
    nonisolated(unsafe) private static let nothing = UnsafeMutablePointer<UInt8>.allocate(capacity: 1)

    func detach(_ multi: UnsafeMutableRawPointer) {
        if isAttached { curl_multi_remove_handle(multi, easy) }
        isAttached = false
        martlet_setopt_pointer(easy, CURLOPT_HTTPHEADER, nil)
        if resolveList != nil { martlet_setopt_pointer(easy, CURLOPT_RESOLVE, nil) }
        curl_slist_free_all(resolveList)
        (resolveList, request) = (nil, nil)
    }

    // MARK: callbacks

    private func open(_ given: UnsafeMutablePointer<curl_sockaddr>) -> curl_socket_t {
        let address = withUnsafePointer(to: &given.pointee.addr) { IPAddress($0) }
        // Behind a proxy this is the proxy's address, which the operator chose.
        guard proxy != nil || address.map(addresses.allows) == true else {
            cut = .address(address.map(String.init(describing:)) ?? "of an unknown family")
            return CURL_SOCKET_BAD
        }
        return socket(given.pointee.family, given.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue), given.pointee.`protocol`)
    }

    private func mayUse(_ text: String) -> Bool {
        guard proxy != nil || text == lastAllowed || IPAddress(text).map(addresses.allows) == true else {
            cut = .address(text)
            return false
        }
        lastAllowed = text
        isSent = true
        return true
    }
    /// By the present policy: most requests go where the one before went.
    private var lastAllowed: String?

    private func header(_ bytes: UnsafeMutablePointer<CChar>?, _ count: Int) -> Int {
        headerBytes += count
        guard headerBytes <= ResponseLimits.headerBytes, let bytes else {
            cut = .headers
            return 0
        }
        let line = UnsafeRawBufferPointer(start: bytes, count: count)
        if Self.begins(line, with: "http/") {
            // libcurl takes one that it can't read for a 200.
            guard Self.isStatus(line) else {
                cut = .statusLine
                return 0
            }
            (retryAfter, isChunked) = (nil, false)
        }
        if let text = Self.value(of: "retry-after:", in: line) { retryAfter = text }
        // libcurl would undo any other coding, several times over, before we see a byte: work without bound for a few bytes.
        if let coding = Self.value(of: "transfer-encoding:", in: line) {
            guard line.count <= Self.codingLineLimit, coding.lowercased() == "chunked", !isChunked else {
                cut = .coding
                return 0
            }
            isChunked = true
        }
        return count
    }

    /// A longer one could hide something behind what is looked at.
    private static let codingLineLimit = 64

    /// `name` in lower case, with its colon; nil: another header. At most 64 bytes of the value.
    private static func value(of name: StaticString, in line: UnsafeRawBufferPointer) -> String? {
        guard begins(line, with: name) else { return nil }
        let length = name.utf8CodeUnitCount
        return RetryAfterText.read(Array(line.prefix(length + 80)).span, from: length)
    }

    /// `HTTP/1.`, a digit, a space, and a digit of the status.
    private static func isStatus(_ line: UnsafeRawBufferPointer) -> Bool {
        line.count > 10 && line.starts(with: "HTTP/1.".utf8) && line[7] &- 48 < 10 && line[8] == 0x20 && line[9] &- 48 < 10
    }

    /// With more behind it. `name` in lower case.
    private static func begins(_ line: UnsafeRawBufferPointer, with name: StaticString) -> Bool {
        guard line.count > name.utf8CodeUnitCount else { return false }
        for index in 0..<name.utf8CodeUnitCount {
            let byte = line[index]
            guard byte | (byte &- 65 < 26 ? 0x20 : 0) == name.utf8Start[index] else { return false }
        }
        return true
    }

    private func body(_ bytes: UnsafeMutablePointer<CChar>?, _ count: Int) -> Int {
        let read = UnsafeRawBufferPointer(start: bytes, count: count)
        excerpt += read.prefix(max(0, (request?.excerptBytes ?? 0) - excerpt.count))
        bodyBytes += count
        if bodyBytes > ResponseLimits.bodyBytes {
            cut = .body
            return 0
        }
        return count
    }

    /// Whether libcurl may have begun to write the request: it asks just before that.
    private(set) var isSent = false

    private func microseconds(_ info: CURLINFO) -> Int64 {
        var value: curl_off_t = 0
        martlet_getinfo_off(easy, info, &value)
        return Int64(value)
    }

    // MARK: outcome

    func result(nowMicroseconds: Int64) -> HTTPResult {
        var code = 0
        martlet_getinfo_long(easy, CURLINFO_RESPONSE_CODE, &code)
        // A handle that was used before keeps its last answer's until it runs.
        if isAttached, headerBytes > 0, code >= 200 { status = code }
        var result = HTTPResult(token: token, status: status, retryAfter: retryAfter, excerpt: excerpt)
        result.timings.total = nowMicroseconds - startedMicroseconds
        result.timings.dns = resolvedMicroseconds
        guard isAttached else { return result }
        let offset = resolvedMicroseconds ?? 0
        func phase(_ info: CURLINFO) -> Int64? {
            let value = microseconds(info)
            return value > 0 ? value + offset : nil
        }
        var connects = 0
        martlet_getinfo_long(easy, CURLINFO_NUM_CONNECTS, &connects)
        if connects > 0 {
            result.timings.connect = phase(CURLINFO_CONNECT_TIME_T)
            result.timings.tls = phase(CURLINFO_APPCONNECT_TIME_T)
        }
        result.timings.firstByte = phase(CURLINFO_STARTTRANSFER_TIME_T)
        return result
    }

    /// nil: a whole response came, or one that is judged by its status.
    func failure(_ code: CURLcode) -> (ErrorClass, String)? {
        switch cut {
        case .body: return nil
        case .headers: return (.tooLarge, "the response's headers exceed \(ResponseLimits.headerBytes) bytes")
        case .coding: return (.protocol, "the response has a transfer coding other than chunked")
        case .statusLine: return (.protocol, "the response's status line isn't HTTP/1.x and a status")
        case .address(let address): return (.refusedAddress, "the address \(address) is refused by the address policy")
        case nil: break
        }
        let text = String(cString: curl_easy_strerror(code))
        var tunnelStatus = 0
        if proxy != nil { martlet_getinfo_long(easy, CURLINFO_HTTP_CONNECTCODE, &tunnelStatus) }
        if tunnelStatus >= 300 { return (.connect, "the egress proxy answered \(tunnelStatus)") }
        // With TLS 1.3 a receiver refuses the client's certificate, or its absence, only after the handshake.
        if code != CURLE_OK, headerBytes == 0, String(cString: errorText).contains("alert") { return (.tls, String(cString: errorText)) }
        switch code {
        case CURLE_OK: return nil
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: return (.dns, text)
        case CURLE_PROXY: return (.connect, "the egress proxy: \(errorText[0] == 0 ? text : String(cString: errorText))")
        case CURLE_COULDNT_CONNECT: return (.connect, text)
        case CURLE_OPERATION_TIMEDOUT:
            // Nobody answered at all: a failure of the network, ours or theirs, rather than a slow receiver.
            return microseconds(CURLINFO_CONNECT_TIME_T) == 0 ? (.connect, "no connection in time") : (.timeout, text)
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER, CURLE_SSL_CACERT_BADFILE,
            CURLE_SSL_ISSUER_ERROR, CURLE_SSL_PINNEDPUBKEYNOTMATCH, CURLE_SSL_INVALIDCERTSTATUS, CURLE_USE_SSL_FAILED:
            return (.tls, text)
        case CURLE_GOT_NOTHING, CURLE_SEND_ERROR: return (.reset, text)
        case CURLE_RECV_ERROR:
            // Also libcurl's answer to broken chunks: then the socket itself had no error.
            var systemError = 0
            martlet_getinfo_long(easy, CURLINFO_OS_ERRNO, &systemError)
            return systemError == 0 && headerBytes > 0 ? (.protocol, "broken response framing") : (.reset, text)
        // libcurl 7.88 says so of a hostile header line of 200 KB; it is not our memory.
        case CURLE_OUT_OF_MEMORY where headerBytes > 0: return (.tooLarge, "a response header line is too long")
        default: return (.protocol, text)
        }
    }
}
