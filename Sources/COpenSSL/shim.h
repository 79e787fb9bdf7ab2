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
// Swift can't see macros with arguments.
// A read ends after each message that is no content, instead of going on for as long as more of them arrive; and chains of certificates are
// bounded, as sessions keep them.
static inline void martlet_tls_bound_messages(SSL_CTX *context) {
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_max_cert_list(context, 65536);
}
static inline SSL_CTX *martlet_tls_client(void) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context) return NULL;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    // Sessions are kept per origin by the owner.
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    martlet_tls_bound_messages(context);
    // A record's header and its content in one read.
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    // An authority that isn't a root may be trusted, too, as libcurl has it.
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
    static const unsigned char protocols[] = "\x08http/1.1";
    SSL_CTX_set_alpn_protos(context, protocols, sizeof protocols - 1);
    return context;
}
static inline void martlet_tls_keep_buffers(SSL *ssl) { SSL_clear_mode(ssl, SSL_MODE_RELEASE_BUFFERS); }
static inline int martlet_tls_set_server_name(SSL *ssl, const char *name) { return SSL_set_tlsext_host_name(ssl, (char *)name); }
#include <openssl/x509v3.h>
static inline int martlet_tls_check_name(SSL *ssl, const char *name) {
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name);
}
// How much a call may read off the wire: OpenSSL goes on by itself over messages that are no content (tickets, key updates), for as long as
// more of them arrive. The BIO's argument is what is left.
static long martlet_tls_on_bio(BIO *bio, int operation, const char *data, size_t size, int number, long other, int result, size_t *count) {
    (void)data, (void)size, (void)number, (void)other;
    long left = (long)BIO_get_callback_arg(bio);
    if (operation == BIO_CB_READ && left <= 0) {
        BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
        return -1;
    }
    if (operation == (BIO_CB_READ | BIO_CB_RETURN) && result > 0 && count) BIO_set_callback_arg(bio, (char *)(left - (long)*count));
    return result;
}
static inline void martlet_tls_watch_reads(SSL *ssl) { BIO_set_callback_ex(SSL_get_rbio(ssl), martlet_tls_on_bio); }
static inline void martlet_tls_set_budget(SSL *ssl, long bytes) { BIO_set_callback_arg(SSL_get_rbio(ssl), (char *)bytes); }
static inline long martlet_tls_budget_left(SSL *ssl) { return (long)BIO_get_callback_arg(SSL_get_rbio(ssl)); }
static inline int martlet_tls_add_to_chain(SSL_CTX *context, X509 *certificate) { return SSL_CTX_add1_chain_cert(context, certificate); }
#include <openssl/sha.h>
#include <string.h>
// HMAC-SHA256 with both halves of the key hashed beforehand: a code costs two copies of 112 bytes and no allocation, where duplicating an
// EVP context costs several. These calls are deprecated in favour of EVP, and part of every OpenSSL 3.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
typedef struct { SHA256_CTX inner, outer; } martlet_hmac;
static inline void martlet_sha256(const void *bytes, size_t count, unsigned char *out) {
    SHA256_CTX context;
    SHA256_Init(&context);
    SHA256_Update(&context, bytes, count);
    SHA256_Final(out, &context);
}
static inline SHA256_CTX martlet_sha256_begin(void) {
    SHA256_CTX context;
    SHA256_Init(&context);
    return context;
}
static inline void martlet_sha256_add(SHA256_CTX *context, const void *bytes, size_t count) { SHA256_Update(context, bytes, count); }
static inline void martlet_sha256_end(SHA256_CTX *context, unsigned char *out) { SHA256_Final(out, context); }
static inline void martlet_hmac_prepare(martlet_hmac *hmac, const void *key, size_t count) {
    unsigned char block[64] = {0}, pad[64];
    if (count > sizeof block) martlet_sha256(key, count, block);
    else if (count) memcpy(block, key, count);
    for (int i = 0; i < 64; i++) pad[i] = block[i] ^ 0x36;
    SHA256_Init(&hmac->inner);
    SHA256_Update(&hmac->inner, pad, sizeof pad);
    for (int i = 0; i < 64; i++) pad[i] = block[i] ^ 0x5c;
    SHA256_Init(&hmac->outer);
    SHA256_Update(&hmac->outer, pad, sizeof pad);
    OPENSSL_cleanse(block, sizeof block);
    OPENSSL_cleanse(pad, sizeof pad);
}
static inline void martlet_hmac_code(const martlet_hmac *hmac, const void *head, size_t head_count, const void *body, size_t body_count, unsigned char *out) {
    SHA256_CTX context = hmac->inner;
    SHA256_Update(&context, head, head_count);
    SHA256_Update(&context, body, body_count);
    SHA256_Final(out, &context);
    context = hmac->outer;
    SHA256_Update(&context, out, 32);
    SHA256_Final(out, &context);
}
#pragma clang diagnostic pop
