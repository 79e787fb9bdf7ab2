// The reference's requests over libcurl's multi interface, driven by the caller's epoll, as in libcurl's own examples. An event of libcurl's
// has an odd `data.u64`.
#include <curl/curl.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>

static CURLM *multi;
static CURL **easies;
static struct curl_slist **lists;
static int curl_epoll;
// When libcurl wants to be called whatever happens; 0: not at all.
static double curl_due;

static int curl_on_socket(CURL *h, curl_socket_t fd, int what, void *me, void *known) {
    (void)h, (void)me, (void)known;
    if (what == CURL_POLL_REMOVE) return epoll_ctl(curl_epoll, EPOLL_CTL_DEL, fd, NULL), 0;
    struct epoll_event e = {.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0), .data.u64 = (uint64_t)fd << 1 | 1};
    if (epoll_ctl(curl_epoll, EPOLL_CTL_ADD, fd, &e)) epoll_ctl(curl_epoll, EPOLL_CTL_MOD, fd, &e);
    return 0;
}
static int curl_on_timer(CURLM *m, long ms, void *me) { (void)m, (void)me; curl_due = ms < 0 ? 0 : now_seconds() + ms / 1e3; return 0; }
static size_t curl_on_body(char *b, size_t s, size_t n, void *me) { (void)b, (void)me; return s * n; }

static void curl_open(int count, int epoll) {
    curl_epoll = epoll;
    multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, curl_on_socket);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, curl_on_timer);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)count * 2);
    lists = calloc(count, sizeof *lists);
    easies = calloc(count, sizeof *easies);
    for (long i = 0; i < count; i++) {
        easies[i] = curl_easy_init();
        curl_easy_setopt(easies[i], CURLOPT_PRIVATE, (void *)i);
        curl_easy_setopt(easies[i], CURLOPT_POST, 1L);
        curl_easy_setopt(easies[i], CURLOPT_WRITEFUNCTION, curl_on_body);
        curl_easy_setopt(easies[i], CURLOPT_TIMEOUT_MS, 15000L);
        curl_easy_setopt(easies[i], CURLOPT_NOSIGNAL, 1L);
    }
}

// `url`: NULL for the one of before. `body` must stay.
static void curl_post(int i, const char *url, const char *id, const char *time, const char *signature, const void *body, long size) {
    char line[160];
    curl_slist_free_all(lists[i]);
    lists[i] = curl_slist_append(NULL, "content-type: application/json");
    snprintf(line, sizeof line, "webhook-id: %s", id), curl_slist_append(lists[i], line);
    snprintf(line, sizeof line, "webhook-timestamp: %s", time), curl_slist_append(lists[i], line);
    snprintf(line, sizeof line, "webhook-signature: v1,%s", signature), curl_slist_append(lists[i], line);
    if (url) curl_easy_setopt(easies[i], CURLOPT_URL, url);
    curl_easy_setopt(easies[i], CURLOPT_HTTPHEADER, lists[i]);
    curl_easy_setopt(easies[i], CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easies[i], CURLOPT_POSTFIELDSIZE, size);
    curl_multi_add_handle(multi, easies[i]);
}

// How long epoll may wait, in milliseconds, `most` at most.
static int curl_wait(int most) {
    if (!curl_due) return most;
    double left = (curl_due - now_seconds()) * 1e3;
    return left <= 0 ? 0 : left < most ? (int)left + 1 : most;
}

// After epoll's wait: serves libcurl's events among these, and calls `done` for each request that was answered with 200; it knows no other end.
static void curl_turn(struct epoll_event *events, int count, void (*done)(int)) {
    int running, left;
    for (int i = 0; i < count; i++)
        if (events[i].data.u64 & 1)
            curl_multi_socket_action(multi, events[i].data.u64 >> 1, (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0), &running);
    if (curl_due && curl_due <= now_seconds()) {
        curl_due = 0;
        curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    for (CURLMsg *m; (m = curl_multi_info_read(multi, &left));) {
        long i, status = 0;
        if (m->data.result) fail(curl_easy_strerror(m->data.result));
        CURL *h = m->easy_handle;
        curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200) fail("an answer that isn't expected");
        curl_easy_getinfo(h, CURLINFO_PRIVATE, (char **)&i);
        curl_multi_remove_handle(multi, h);
        done(i);
    }
}
