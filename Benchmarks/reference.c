// What a delivery costs at least: the worker's work in C, on one thread, as tight as it goes. Consumes all partitions of a topic through one
// queue, signs each record (HMAC-SHA256 over id, time and body), POSTs its value over kept connections with one sendmsg and one recv, and
// writes an attempt record for it. No retries, no limits, no registry: a yardstick, not a worker.
//
//   reference --brokers B --topic T --attempts T --partitions N --count N --port P[,P...] [--connections N] [--ca FILE] [--from beginning|end]
//             So many are in flight at most, over as many connections as that takes where there are several ports.
//   ... --curl                                                             the same over libcurl, as one would write it by hand
//   ... --fresh resumed|full --ca FILE                                     a TLS connection for each request, as many at a time
//   reference --curl --count N --port P [--connections N] [--bytes N]      a bare libcurl loop, without Kafka
//
// Prints one line of JSON: deliveries, seconds from the first to the last, so many a second (with Kafka, from a twentieth of them until seven tenths
// are done), CPU in microseconds per delivery, the most memory.
#include "common.h"
#include "libcurl.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>

static const char *brokers, *topic, *attempts_topic, *ca, *fresh;
static int partitions = 24, port, ports[1000], port_count, connection_count = 64, use_curl, body_bytes = 1024, is_from_end;
static long wanted;

// ---- signing

static SHA256_CTX inner, outer;
static void prepare_key(void) {
    unsigned char key[64] = "0123456789abcdef0123456789abcdef", pad[64];
    for (int i = 0; i < 64; i++) pad[i] = key[i] ^ 0x36;
    SHA256_Init(&inner);
    SHA256_Update(&inner, pad, 64);
    for (int i = 0; i < 64; i++) pad[i] = key[i] ^ 0x5c;
    SHA256_Init(&outer);
    SHA256_Update(&outer, pad, 64);
}
static int sign(char *out, const char *id, size_t id_size, const char *time, size_t time_size, const void *body, size_t size) {
    unsigned char code[32];
    SHA256_CTX c = inner;
    SHA256_Update(&c, id, id_size);
    SHA256_Update(&c, ".", 1);
    SHA256_Update(&c, time, time_size);
    SHA256_Update(&c, ".", 1);
    SHA256_Update(&c, body, size);
    SHA256_Final(code, &c);
    c = outer;
    SHA256_Update(&c, code, 32);
    SHA256_Final(code, &c);
    return EVP_EncodeBlock((unsigned char *)out, code, 32);
}

// ---- connections

struct connection {
    struct connection *next_idle;
    int fd, port, shaking;
    unsigned watched;
    SSL *ssl;
    rd_kafka_message_t *message;
    char head[1024];
    size_t head_size, sent;
    double started;
    char id[64];
    int id_size;
};
// Of each port those that wait for a request, the last one first; over libcurl, which has connections of its own, all are the first one's.
static struct connection *connections, *idle[1000];
static int opened, in_flight, epoll;
static double cpu_of_opening, time_of_opening;
static SSL_CTX *tls;
static SSL_SESSION *session;
static char buffer[65536], record[32768 + 1024];

static int on_session(SSL *s, SSL_SESSION *made) {
    (void)s;
    if (session) SSL_SESSION_free(session);
    session = made;
    return 1;
}

static void watch(struct connection *c, unsigned events) {
    if (c->watched == events) return;
    epoll_ctl(epoll, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = events, .data.ptr = c});
    c->watched = events;
}

static void open_connection(struct connection *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | (fresh ? SOCK_NONBLOCK : 0), 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(ports[c->port]), .sin_addr.s_addr = htonl(0x7f000001)};
    if (connect(c->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) fail("cannot connect");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (tls) {
        c->ssl = SSL_new(tls);
        SSL_set_fd(c->ssl, c->fd);
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->ssl), "127.0.0.1");
        if (session) SSL_set_session(c->ssl, session);
        if (!fresh && SSL_connect(c->ssl) != 1) fail("the TLS handshake failed");
    }
    c->watched = 0;
    if ((c->shaking = fresh != NULL)) return;
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(c, EPOLLIN);
}

static void close_connection(struct connection *c) {
    SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
}

static void put(struct connection *c) { c->next_idle = idle[c->port], idle[c->port] = c; }
static struct connection *take(int port) {
    struct connection *c = idle[port];
    if (c) {
        idle[port] = c->next_idle;
        if (fresh) open_connection(c);
        return c;
    }
    c = &connections[opened++];
    c->port = port;
    if (use_curl) return c;
    // Connections are kept: what making one takes is no delivery's.
    double cpu = seconds_of(CLOCK_THREAD_CPUTIME_ID), now = now_seconds();
    open_connection(c);
    cpu_of_opening += seconds_of(CLOCK_THREAD_CPUTIME_ID) - cpu;
    time_of_opening += now_seconds() - now;
    return c;
}

static void write_more(struct connection *c) {
    size_t total = c->head_size + c->message->len;
    while (c->sent < total) {
        ssize_t n;
        if (c->ssl) {
            ERR_clear_error();
            if (c->sent < c->head_size) {
                size_t part = c->message->len < 16384 - c->head_size ? c->message->len : 16384 - c->head_size;
                memcpy(record, c->head, c->head_size);
                memcpy(record + c->head_size, c->message->payload, part);
                n = SSL_write(c->ssl, record, c->head_size + part);
            } else {
                n = SSL_write(c->ssl, (char *)c->message->payload + c->sent - c->head_size, total - c->sent);
            }
            if (n <= 0) n = SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_WRITE ? -2 : -1;
        } else {
            size_t skip = c->sent > c->head_size ? c->sent - c->head_size : 0, first = c->sent < c->head_size ? c->sent : c->head_size;
            struct iovec parts[2] = {{c->head + first, c->head_size - first}, {(char *)c->message->payload + skip, c->message->len - skip}};
            struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2};
            n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
            if (n < 0) n = errno == EAGAIN ? -2 : -1;
        }
        if (n == -1) fail("a write failed");
        if (n == -2) {
            watch(c, EPOLLIN | EPOLLOUT);
            return;
        }
        c->sent += n;
    }
    watch(c, EPOLLIN);
}

// Of a fresh connection, whose request is sent behind it.
static void shake(struct connection *c) {
    ERR_clear_error();
    int code = SSL_connect(c->ssl), wants = code == 1 ? 0 : SSL_get_error(c->ssl, code);
    if (wants == SSL_ERROR_WANT_READ || wants == SSL_ERROR_WANT_WRITE) {
        watch(c, wants == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLIN | EPOLLOUT);
        return;
    }
    if (wants) fail("the TLS handshake failed");
    c->shaking = 0;
    write_more(c);
}

// Texts put together at `p`; no format is read for them.
#define TEXT(s) (memcpy(p, s, sizeof s - 1), p += sizeof s - 1)
#define BYTES(b, n) (memcpy(p, b, n), p += n)
static char *number_text(char *p, unsigned long number) {
    char digits[24];
    int at = sizeof digits;
    do digits[--at] = '0' + number % 10;
    while (number /= 10);
    return BYTES(digits + at, sizeof digits - at);
}

static long wall_seconds;
static char wall_text[24];
static int wall_size;

static void deliver(rd_kafka_message_t *m) {
    rd_kafka_headers_t *headers;
    const void *id = "dlv_none", *endpoint = "ep_0";
    size_t id_size = 8, endpoint_size = 4;
    if (!rd_kafka_message_headers(m, &headers)) {
        rd_kafka_header_get_last(headers, "martlet-delivery-id", &id, &id_size);
        rd_kafka_header_get_last(headers, "martlet-endpoint-id", &endpoint, &endpoint_size);
    }
    // ep_0, ep_1, ... are spread over the receivers in turn.
    int number = 0;
    for (size_t i = 3; i < endpoint_size; i++) number = number * 10 + ((const char *)endpoint)[i] - '0';
    struct connection *c = take(use_curl ? 0 : number % port_count);
    in_flight++;
    char signature[64];
    int signature_size = sign(signature, id, id_size, wall_text, wall_size, m->payload, m->len);
    c->id_size = id_size < sizeof c->id ? id_size : sizeof c->id - 1;
    memcpy(c->id, id, c->id_size);
    c->id[c->id_size] = 0;
    c->message = m;
    c->started = now_seconds();
    if (use_curl) {
        char url[128];
        snprintf(url, sizeof url, "http://127.0.0.1:%d/%.*s", ports[number % port_count], (int)endpoint_size, (const char *)endpoint);
        curl_post(c - connections, url, c->id, wall_text, signature, m->payload, m->len);
        return;
    }
    char *p = c->head;
    TEXT("POST /");
    BYTES(endpoint, endpoint_size);
    TEXT(" HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-type: application/json\r\nuser-agent: reference\r\nAccept: */*\r\nwebhook-id: ");
    BYTES(id, id_size);
    TEXT("\r\nwebhook-timestamp: ");
    BYTES(wall_text, wall_size);
    TEXT("\r\nwebhook-signature: v1,");
    BYTES(signature, signature_size);
    TEXT("\r\nContent-Length: ");
    p = number_text(p, m->len);
    TEXT("\r\n\r\n");
    c->head_size = p - c->head;
    c->sent = 0;
    if (c->shaking) shake(c);
    else write_more(c);
}

// ---- with Kafka

static rd_kafka_t *producer;
static rd_kafka_topic_t *attempts;
static long done, written;
static double ended;

// Its attempt record, and its place is free again.
static void finished(int number) {
    struct connection *c = &connections[number];
    char text[1024], *p = text;
    TEXT("{\"v\":1,\"deliveryId\":\"");
    BYTES(c->id, c->id_size);
    TEXT("\",\"messageId\":\"");
    BYTES(c->id, c->id_size);
    TEXT("\",\"endpointId\":\"");
    BYTES(c->message->key, c->message->key_len);
    TEXT("\",\"tenant\":\"default\",\"type\":\"bench.made\",\"url\":\"http://127.0.0.1/\",\"attempt\":1,\"startedMs\":");
    BYTES(wall_text, wall_size);
    TEXT("000,\"durationMs\":{\"total\":");
    p = number_text(p, (long)((now_seconds() - c->started) * 1e3));
    TEXT(",\"dns\":null,\"connect\":null,\"tls\":null,\"firstByte\":1},\"status\":200,\"outcome\":\"delivered\",\"errorClass\":null,\"error\":null,"
         "\"responseExcerpt\":null,\"nextAttemptMs\":null,\"deadReason\":null,\"worker\":\"reference\",\"traceId\":null}");
    int size = p - text;
    rd_kafka_resp_err_t error = rd_kafka_producev(producer, RD_KAFKA_V_RKT(attempts), RD_KAFKA_V_KEY(c->message->key, c->message->key_len), RD_KAFKA_V_VALUE(text, size),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    if (error) fail(rd_kafka_err2str(error));
    written++;
    rd_kafka_message_destroy(c->message);
    c->message = NULL;
    if (++done == wanted) ended = now_seconds();
    if (is_mark(done, wanted)) mark(done, now_seconds() - time_of_opening);
    in_flight--;
    if (fresh) close_connection(c);
    put(c);
}

static void worker(void) {
    rd_kafka_t *consumer = reader(brokers, topic, partitions, is_from_end);
    producer = client(RD_KAFKA_PRODUCER, brokers, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR, (const char *[][2]){
        {"enable.idempotence", "true"}, {"linger.ms", "100"}, {"compression.type", "lz4"}, {"queue.buffering.max.messages", "1000000"}, {"socket.nagle.disable", "true"}, {NULL, NULL}});
    attempts = rd_kafka_topic_new(producer, attempts_topic, NULL);
    rd_kafka_queue_t *reports = rd_kafka_queue_get_main(producer), *queue = rd_kafka_queue_get_consumer(consumer);
    int wake = eventfd(0, EFD_NONBLOCK), report_wake = eventfd(0, EFD_NONBLOCK);
    uint64_t one = 1;
    rd_kafka_queue_io_event_enable(queue, wake, &one, sizeof one);
    rd_kafka_queue_io_event_enable(reports, report_wake, &one, sizeof one);
    epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &(struct epoll_event){.events = EPOLLIN, .data.ptr = NULL});
    epoll_ctl(epoll, EPOLL_CTL_ADD, report_wake, &(struct epoll_event){.events = EPOLLIN, .data.ptr = NULL});

    rd_kafka_message_t *batch[1000];
    int have = 0, at = 0;
    long acknowledged = 0;
    double started = 0, cpu = cpu_seconds();
    struct epoll_event events[256];
    while (done < wanted || acknowledged < written) {
        int ready = epoll_wait(epoll, events, 256, at < have && in_flight < connection_count ? 0 : curl_wait(100));
        time_t wall = time(NULL);
        if (wall != wall_seconds) wall_size = sprintf(wall_text, "%ld", wall_seconds = wall);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.u64 & 1) continue;
            struct connection *c = events[i].data.ptr;
            if (!c) {
                if (read(wake, &one, 8) < 0 && read(report_wake, &one, 8) < 0) continue;
                one = 1;
                continue;
            }
            if (c->shaking) { shake(c); continue; }
            if (events[i].events & EPOLLOUT) write_more(c);
            if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
            if (c->ssl) ERR_clear_error();
            ssize_t n = c->ssl ? SSL_read(c->ssl, buffer, sizeof buffer) : recv(c->fd, buffer, sizeof buffer, 0);
            if (n <= 0 && c->ssl && SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ) continue;
            // The receiver is ours: a whole answer without a body in one piece.
            if (n < 16 || !c->message || memcmp(buffer + 9, "200", 3) || memcmp(buffer + n - 4, "\r\n\r\n", 4)) fail("an answer that isn't expected");
            finished(c - connections);
        }
        if (use_curl) curl_turn(events, ready, finished);
        for (rd_kafka_event_t *e; (e = rd_kafka_queue_poll(reports, 0)); rd_kafka_event_destroy(e))
            if (rd_kafka_event_type(e) == RD_KAFKA_EVENT_DR) acknowledged += rd_kafka_event_message_count(e);
        while (in_flight < connection_count) {
            if (at == have) {
                // No more than can be sent now: what waits here has left the caches by then.
                have = rd_kafka_consume_batch_queue(queue, 0, batch, connection_count - in_flight < 1000 ? connection_count - in_flight : 1000);
                at = 0;
                if (have <= 0) { have = 0; break; }
            }
            rd_kafka_message_t *m = batch[at++];
            if (m->err) { rd_kafka_message_destroy(m); continue; }
            if (!started) started = now_seconds(), cpu = cpu_seconds();
            was_read(m);
            deliver(m);
        }
    }
    report(wanted, started + time_of_opening, ended, cpu + cpu_of_opening);
    fflush(stdout);
    _exit(0);
}

// ---- over libcurl, without Kafka

static long posted, answered;
static char *same_body;
static void post_again(int i) {
    char time_text[24], signature[64];
    int size = sprintf(time_text, "%ld", time(NULL));
    sign(signature, "dlv_aaaaaaaaaaaaaaaaaaaaaaaaaa", 30, time_text, size, same_body, body_bytes);
    curl_post(i, NULL, "dlv_aaaaaaaaaaaaaaaaaaaaaaaaaa", time_text, signature, same_body, body_bytes);
    posted++;
}
static void was_answered(int i) {
    answered++;
    if (posted < wanted) post_again(i);
}

static void curl_loop(void) {
    char url[64];
    same_body = malloc(body_bytes);
    memset(same_body, 'x', body_bytes);
    sprintf(url, "http://127.0.0.1:%d/ep_0", port);
    double started = now_seconds(), cpu = cpu_seconds();
    for (int i = 0; i < connection_count; i++) {
        curl_easy_setopt(easies[i], CURLOPT_URL, url);
        post_again(i);
    }
    struct epoll_event events[256];
    while (answered < wanted) {
        int ready = epoll_wait(epoll, events, 256, curl_wait(1000));
        curl_turn(events, ready, was_answered);
    }
    report(wanted, started, now_seconds(), cpu);
}

int main(int count, char **words) {
    for (int i = 1; i < count; i++) {
        char *name = words[i], *value = i + 1 < count ? words[i + 1] : "";
        if (!strcmp(name, "--curl")) { use_curl = 1; continue; }
        else if (!strcmp(name, "--brokers")) brokers = value;
        else if (!strcmp(name, "--topic")) topic = value;
        else if (!strcmp(name, "--attempts")) attempts_topic = value;
        else if (!strcmp(name, "--partitions")) partitions = atoi(value);
        else if (!strcmp(name, "--count")) wanted = atol(value);
        else if (!strcmp(name, "--port")) {
            for (char *at = value; port_count < 1000 && *at; at += *at == ',') ports[port_count++] = strtol(at, &at, 10);
            port = ports[0];
        }
        else if (!strcmp(name, "--fresh")) fresh = value;
        else if (!strcmp(name, "--from")) is_from_end = is_end(value);
        else if (!strcmp(name, "--connections")) connection_count = atoi(value);
        else if (!strcmp(name, "--bytes")) body_bytes = atoi(value);
        else if (!strcmp(name, "--ca")) ca = value;
        else fail("unknown argument; see the top of reference.c");
        i++;
    }
    if (!wanted || !port || (fresh && !ca) || (!use_curl && !brokers) || (brokers && (!topic || !attempts_topic))) fail("arguments are missing; see the top of reference.c");
    if (use_curl && ca) fail("--curl is over plain HTTP");
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(0);
    prepare_key();
    if (use_curl) curl_open(connection_count, epoll);
    if (use_curl && !brokers) return curl_loop(), 0;
    if (ca) {
        tls = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_read_ahead(tls, 1);
        if (SSL_CTX_load_verify_locations(tls, ca, NULL) != 1) fail("--ca can't be read");
        SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    }
    if (fresh) {
        SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        if (!strcmp(fresh, "resumed")) SSL_CTX_sess_set_new_cb(tls, on_session);
    }
    // More than that are never in flight to any of the receivers.
    connections = calloc((size_t)(connection_count < 4 ? 4 : connection_count) * (use_curl ? 1 : port_count), sizeof *connections);
    // Four of each are mostly enough for 64 in flight to a hundred.
    int first = use_curl || port_count == 1 || connection_count > 4 * port_count ? connection_count : 4 * port_count;
    for (int i = 0; i < first; i++) {
        connections[i].port = use_curl ? 0 : i % port_count;
        if (!use_curl && !fresh) open_connection(&connections[i]);
        put(&connections[i]);
    }
    opened = first;
    worker();
}
