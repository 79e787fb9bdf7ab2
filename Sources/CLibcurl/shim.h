#include <curl/curl.h>
// Swift can't call variadic functions: one wrapper per argument type.
static inline CURLcode martlet_setopt_long(CURL *h, CURLoption o, long v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode martlet_setopt_off(CURL *h, CURLoption o, curl_off_t v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode martlet_setopt_pointer(CURL *h, CURLoption o, const void *v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode martlet_setopt_blob(CURL *h, CURLoption o, const void *data, size_t size) {
    struct curl_blob blob = {(void *)data, size, CURL_BLOB_COPY};
    return curl_easy_setopt(h, o, data ? &blob : NULL);
}
typedef CURLcode (*martlet_tls_callback)(CURL *, void *, void *);
static inline CURLcode martlet_setopt_tls(CURL *h, martlet_tls_callback f) { return curl_easy_setopt(h, CURLOPT_SSL_CTX_FUNCTION, f); }
typedef size_t (*martlet_data_callback)(char *, size_t, size_t, void *);
static inline CURLcode martlet_setopt_data(CURL *h, CURLoption o, martlet_data_callback f) { return curl_easy_setopt(h, o, f); }
typedef curl_socket_t (*martlet_open_callback)(void *, curlsocktype, struct curl_sockaddr *);
static inline CURLcode martlet_setopt_open(CURL *h, martlet_open_callback f) { return curl_easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, f); }
static inline CURLcode martlet_setopt_close(CURL *h, int (*f)(void *, curl_socket_t)) { return curl_easy_setopt(h, CURLOPT_CLOSESOCKETFUNCTION, f); }
typedef int (*martlet_prereq_callback)(void *, char *, char *, int, int);
static inline CURLcode martlet_setopt_prereq(CURL *h, martlet_prereq_callback f) { return curl_easy_setopt(h, CURLOPT_PREREQFUNCTION, f); }
static inline CURLcode martlet_getinfo_long(CURL *h, CURLINFO i, long *v) { return curl_easy_getinfo(h, i, v); }
static inline CURLcode martlet_getinfo_off(CURL *h, CURLINFO i, curl_off_t *v) { return curl_easy_getinfo(h, i, v); }
static inline CURLcode martlet_getinfo_pointer(CURL *h, CURLINFO i, void *v) { return curl_easy_getinfo(h, i, (void **)v); }
static inline CURLMcode martlet_multi_setopt_long(CURLM *m, CURLMoption o, long v) { return curl_multi_setopt(m, o, v); }
static inline CURLMcode martlet_multi_setopt_pointer(CURLM *m, CURLMoption o, void *v) { return curl_multi_setopt(m, o, v); }
typedef int (*martlet_socket_callback)(CURL *, curl_socket_t, int, void *, void *);
static inline CURLMcode martlet_multi_setopt_socket(CURLM *m, martlet_socket_callback f) { return curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, f); }
typedef int (*martlet_timer_callback)(CURLM *, long, void *);
static inline CURLMcode martlet_multi_setopt_timer(CURLM *m, martlet_timer_callback f) { return curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, f); }
static inline CURLcode martlet_message_result(CURLMsg *m) { return m->data.result; }
static inline CURLcode martlet_global_init(void) { return curl_global_init(CURL_GLOBAL_ALL); }
