internal import COpenSSL

public enum SHA256 {
    /// 32 bytes.
    public static func digest(_ bytes: [UInt8]) -> [UInt8] {
        let digest = inlineDigest(bytes.span)
        return digest.indices.map { digest[$0] }
    }

    /// The same without an array for the result.
    public static func inlineDigest(_ bytes: Span<UInt8>) -> InlineArray<32, UInt8> {
        var out = InlineArray<32, UInt8>(repeating: 0)
        var span = out.mutableSpan
        bytes.withUnsafeBufferPointer { bytes in
            span.withUnsafeMutableBufferPointer { martlet_sha256(bytes.baseAddress, bytes.count, $0.baseAddress) }
        }
        return out
    }
}

/// SHA-256 of what comes piece by piece.
public struct SHA256Stream {
    private var context = martlet_sha256_begin()

    public init() {}

    public mutating func update(_ bytes: Span<UInt8>) {
        bytes.withUnsafeBufferPointer { martlet_sha256_add(&context, $0.baseAddress, $0.count) }
    }

    /// Nothing may follow.
    public mutating func finish() -> InlineArray<32, UInt8> {
        var out = InlineArray<32, UInt8>(repeating: 0)
        var span = out.mutableSpan
        span.withUnsafeMutableBufferPointer { martlet_sha256_end(&context, $0.baseAddress) }
        return out
    }
}

public enum SecureRandom {
    /// Bytes from the system's generator, fit for keys.
    public static func bytes(_ count: Int) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: count)
        precondition(RAND_bytes(&out, Int32(count)) == 1, "the system's random generator failed")
        return out
    }
}

/// Compares without telling by its time where the first difference is.
public func constantTimeEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.count == right.count && CRYPTO_memcmp(left, right, left.count) == 0
}

/// HMAC-SHA256 with a key that is prepared once.
public struct HMACSHA256: Sendable {
    private let prepared: martlet_hmac

    public init(key: [UInt8]) {
        var prepared = martlet_hmac()
        martlet_hmac_prepare(&prepared, key, key.count)
        self.prepared = prepared
    }

    public func code(_ body: UnsafeRawBufferPointer) -> [UInt8] { code([], body) }

    /// 32 bytes: the code of `head` and `body`, one after the other.
    public func code(_ head: [UInt8], _ body: UnsafeRawBufferPointer) -> [UInt8] {
        let code = code(head.span, body)
        return code.indices.map { code[$0] }
    }

    public func code(_ head: Span<UInt8>, _ body: UnsafeRawBufferPointer) -> InlineArray<32, UInt8> {
        var out = InlineArray<32, UInt8>(repeating: 0)
        var span = out.mutableSpan
        withUnsafePointer(to: prepared) { prepared in
            head.withUnsafeBufferPointer { head in
                span.withUnsafeMutableBufferPointer {
                    martlet_hmac_code(prepared, head.baseAddress, head.count, body.baseAddress, body.count, $0.baseAddress)
                }
            }
        }
        return out
    }
}

/// Ed25519 keys, raw: 32-byte seed, 32-byte public key, 64-byte signature.
public final class Ed25519: @unchecked Sendable {
    private let key: OpaquePointer

    /// Nil unless `seed` has 32 bytes.
    public init?(seed: [UInt8]) {
        guard seed.count == 32, let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, 32) else { return nil }
        self.key = key
    }

    /// A key that can only verify. Nil unless `publicKey` has 32 bytes.
    public init?(publicKey: [UInt8]) {
        guard publicKey.count == 32, let key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, publicKey, 32) else { return nil }
        self.key = key
    }

    deinit { EVP_PKEY_free(key) }

    public var publicKey: [UInt8] {
        var out = [UInt8](repeating: 0, count: 32)
        var length = 32
        EVP_PKEY_get_raw_public_key(key, &out, &length)
        return out
    }

    /// 64 bytes; nil when this is only a public key.
    public func sign(_ message: [UInt8]) -> [UInt8]? {
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        var out = [UInt8](repeating: 0, count: 64)
        var length = 64
        guard EVP_DigestSignInit(context, nil, nil, nil, key) == 1,
            EVP_DigestSign(context, &out, &length, message, message.count) == 1
        else {
            ERR_clear_error()
            return nil
        }
        return out
    }

    public func verify(_ signature: [UInt8], of message: [UInt8]) -> Bool {
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        defer { ERR_clear_error() }
        return signature.count == 64 && EVP_DigestVerifyInit(context, nil, nil, nil, key) == 1
            && EVP_DigestVerify(context, signature, 64, message, message.count) == 1
    }
}
