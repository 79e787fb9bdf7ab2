internal import COpenSSL

/// Certificates and keys in PEM, as text.
public enum PEM {
    /// How many certificates the text holds; 0 for one that can't be read.
    public static func certificates(in text: String) -> Int {
        with(text) { bio in
            var count = 0
            while let certificate = martlet_read_certificate(bio) {
                count += 1
                X509_free(certificate)
            }
            return count
        }
    }

    /// Whether the first certificate of `certificate` belongs to the private key; nil: one of them can't be read (a key with a passphrase
    /// can't).
    public static func matches(certificate: String, key: String) -> Bool? {
        guard let first = with(certificate, martlet_read_certificate) else { return nil }
        defer { X509_free(first) }
        guard let key = with(key, martlet_read_key) else { return nil }
        defer { EVP_PKEY_free(key) }
        return X509_check_private_key(first, key) == 1
    }

    private static func with<Value>(_ text: String, _ body: (OpaquePointer) -> Value) -> Value {
        let bytes = Array(text.utf8)
        return bytes.withUnsafeBytes { bytes in
            guard let bio = BIO_new_mem_buf(bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 1), Int32(bytes.count)) else {
                fatalError("OpenSSL: out of memory")
            }
            defer {
                BIO_free(bio)
                ERR_clear_error()
            }
            return body(bio)
        }
    }
}
