internal import COpenSSL

public enum SHA256 {
    /// 32 bytes.
    public static func digest(_ bytes: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 32
        let done = EVP_Digest(bytes, bytes.count, &out, &length, EVP_sha256(), nil)
        precondition(done == 1, "SHA-256 is part of every OpenSSL")
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

/// HMAC-SHA256 with a key that is prepared once: each code duplicates the prepared context.
/// Safe to share: the prepared context is only ever read.
public final class HMACSHA256: @unchecked Sendable {
    private let prepared: OpaquePointer

    public init(key: [UInt8]) {
        let algorithm = EVP_MAC_fetch(nil, "HMAC", nil)
        prepared = EVP_MAC_CTX_new(algorithm)
        EVP_MAC_free(algorithm)
        var name = Array("SHA256".utf8CString)
        let done = name.withUnsafeMutableBufferPointer { name in
            var parameters = [OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name.baseAddress, 0), OSSL_PARAM_construct_end()]
            // OpenSSL takes a null key for "no key given": an empty one needs an address.
            return (key.isEmpty ? [0] : key).withUnsafeBufferPointer { EVP_MAC_init(prepared, $0.baseAddress, key.count, &parameters) }
        }
        precondition(done == 1, "HMAC-SHA256 is part of every OpenSSL")
    }

    deinit { EVP_MAC_CTX_free(prepared) }

    /// 32 bytes: the code of `parts` in their order.
    public func code(_ parts: UnsafeRawBufferPointer...) -> [UInt8] {
        let context = EVP_MAC_CTX_dup(prepared)
        defer { EVP_MAC_CTX_free(context) }
        for part in parts where part.count > 0 {
            EVP_MAC_update(context, part.baseAddress?.assumingMemoryBound(to: UInt8.self), part.count)
        }
        var out = [UInt8](repeating: 0, count: 32)
        var length = 32
        let done = EVP_MAC_final(context, &out, &length, 32)
        precondition(done == 1 && length == 32, "an HMAC context that was initialised gives 32 bytes")
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
