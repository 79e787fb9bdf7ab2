#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
// Swift can't see macros of stacks.
static inline X509 *martlet_read_certificate(BIO *bio) { return PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL); }
static inline int martlet_is_expired(X509 *certificate) { return X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0; }
#include <openssl/ssl.h>
static inline EVP_PKEY *martlet_read_key(BIO *bio) { return PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)""); }
