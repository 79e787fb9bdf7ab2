internal import COpenSSL

/// A file of certificates in PEM.
public struct CertificateFile: Sendable, Equatable {
    public var certificates = 0
    public var expired = 0

    /// nil: the file can't be read.
    public init?(path: String) {
        guard let bio = BIO_new_file(path, "r") else {
            ERR_clear_error()
            return nil
        }
        defer {
            BIO_free(bio)
            ERR_clear_error()
        }
        while let certificate = martlet_read_certificate(bio) {
            certificates += 1
            if martlet_is_expired(certificate) != 0 { expired += 1 }
            X509_free(certificate)
        }
    }
}
