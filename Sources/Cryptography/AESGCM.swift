internal import COpenSSL

/// AES-256-GCM: 32-byte keys, 96-bit nonces, the 16-byte tag at the end of the ciphertext.
public enum AESGCM {
    public static let keyBytes = 32
    public static let nonceBytes = 12
    private static let tagBytes = 16

    /// `nonce` must never be used twice with one key.
    public static func seal(_ plain: [UInt8], key: [UInt8], nonce: [UInt8], associated: [UInt8]) -> [UInt8] {
        precondition(key.count == keyBytes && nonce.count == nonceBytes)
        let context = EVP_CIPHER_CTX_new()
        defer { EVP_CIPHER_CTX_free(context) }
        var out = [UInt8](repeating: 0, count: plain.count + tagBytes)
        var count: Int32 = 0
        let done = out.withUnsafeMutableBufferPointer { out in
            EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nonce) == 1
                && EVP_EncryptUpdate(context, nil, &count, associated, Int32(associated.count)) == 1
                && EVP_EncryptUpdate(context, out.baseAddress, &count, plain, Int32(plain.count)) == 1
                && EVP_EncryptFinal_ex(context, out.baseAddress! + plain.count, &count) == 1
                && EVP_CIPHER_CTX_ctrl(
                    context, EVP_CTRL_AEAD_GET_TAG, Int32(tagBytes), UnsafeMutableRawPointer(out.baseAddress! + plain.count)) == 1
        }
        precondition(done, "AES-256-GCM is part of every OpenSSL")
        return out
    }

    /// nil: the key is another, or a byte of nonce, ciphertext or associated data was changed.
    public static func open(_ sealed: [UInt8], key: [UInt8], nonce: [UInt8], associated: [UInt8]) -> [UInt8]? {
        guard key.count == keyBytes, nonce.count == nonceBytes, sealed.count >= tagBytes else { return nil }
        let context = EVP_CIPHER_CTX_new()
        defer { EVP_CIPHER_CTX_free(context) }
        let length = sealed.count - tagBytes
        var out = [UInt8](repeating: 0, count: length + tagBytes)
        var tag = Array(sealed[length...])
        var count: Int32 = 0
        let isGenuine = out.withUnsafeMutableBufferPointer { out in
            EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nonce) == 1
                && EVP_DecryptUpdate(context, nil, &count, associated, Int32(associated.count)) == 1
                && EVP_DecryptUpdate(context, out.baseAddress, &count, sealed, Int32(length)) == 1
                && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(tagBytes), &tag) == 1
                && EVP_DecryptFinal_ex(context, out.baseAddress! + length, &count) == 1
        }
        ERR_clear_error()
        return isGenuine ? Array(out.prefix(length)) : nil
    }
}
