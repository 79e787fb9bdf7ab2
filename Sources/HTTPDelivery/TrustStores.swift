internal import CLinux
internal import COpenSSL
internal import Glibc

/// The trusted certificates of one thread: the deployment's, and for endpoints with authorities of their own both together. Parsing the
/// bundle takes 20 ms, so it is done once.
final class TrustStores {
    /// What libcurl reads, and keeps: the bundle, or bundle and extra file together, in memory.
    let bundlePath: String
    private let memory: Int32
    private var deployment: (certificates: [OpaquePointer], store: OpaquePointer?)?
    private var stores: [UInt64: OpaquePointer] = [:]
    private static let storeLimit = 1_000

    /// `extraPath`: authorities that are trusted besides, PEM.
    init(bundlePath: String, extraPath: String?) {
        guard let extraPath, let file = Self.joined([bundlePath, extraPath]) else {
            (self.bundlePath, memory) = (bundlePath, -1)
            return
        }
        (self.bundlePath, memory) = ("/proc/self/fd/\(file)", file)
    }

    deinit {
        for certificate in deployment?.certificates ?? [] { X509_free(certificate) }
        if let store = deployment?.store { X509_STORE_free(store) }
        for store in stores.values { X509_STORE_free(store) }
        if memory >= 0 { close(memory) }
    }

    private static func joined(_ paths: [String]) -> Int32? {
        let file = martlet_memory_file()
        guard file >= 0 else { return nil }
        for path in paths {
            let input = open(path, O_RDONLY | O_CLOEXEC)
            guard input >= 0 else { continue }
            defer { close(input) }
            var chunk = [UInt8](repeating: 0, count: 65_536)
            while true {
                let count = read(input, &chunk, chunk.count)
                guard count > 0, write(file, chunk, count) == count else { break }
            }
            _ = write(file, "\n", 1)
        }
        return file
    }

    /// The deployment's authorities, and the endpoint's.
    func storeOfAll(for identity: TLSIdentity?) -> OpaquePointer? { identity.flatMap(store) ?? loaded().store }

    private func loaded() -> (certificates: [OpaquePointer], store: OpaquePointer?) {
        if let deployment { return deployment }
        let certificates = BIO_new_file(bundlePath, "r").map(Self.certificates) ?? []
        let made = (certificates, Self.store(certificates))
        deployment = made
        return made
    }

    /// nil: the deployment's authorities are all.
    func store(for identity: TLSIdentity) -> OpaquePointer? {
        guard !identity.authorities.isEmpty else { return nil }
        if let known = stores[identity.number] { return known }
        if stores.count >= Self.storeLimit {
            for store in stores.values { X509_STORE_free(store) }
            stores = [:]
        }
        let own = Self.certificates(in: identity.authorities)
        defer { for certificate in own { X509_free(certificate) } }
        guard let store = Self.store(loaded().certificates + own) else { return nil }
        stores[identity.number] = store
        return store
    }

    private static func store(_ certificates: [OpaquePointer]) -> OpaquePointer? {
        guard let store = X509_STORE_new() else { return nil }
        for certificate in certificates { X509_STORE_add_cert(store, certificate) }
        ERR_clear_error()
        return store
    }

    /// Of PEM text; each is the caller's to free.
    static func certificates(in pem: [UInt8]) -> [OpaquePointer] {
        pem.withUnsafeBytes { BIO_new_mem_buf($0.baseAddress, Int32($0.count)).map(certificates) } ?? []
    }

    /// Consumes `bio`.
    private static func certificates(_ bio: OpaquePointer) -> [OpaquePointer] {
        defer {
            BIO_free(bio)
            ERR_clear_error()
        }
        var found: [OpaquePointer] = []
        while let certificate = martlet_read_certificate(bio) { found.append(certificate) }
        return found
    }
}
