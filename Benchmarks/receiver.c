// A receiver that takes its time: answers every request with 200 after a fixed delay, on one thread, for tens of thousands of connections.
//
//   receiver --port P --delay-ms N [--log FILE]
//
// The log has a line for each request when all of it has come: the Unix time in seconds and its webhook-id. Without one it looks once a
// millisecond, so that an answer takes up to two more.
#include "common.h"
#include <arpa/inet.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

// How many bytes of the request's body are missing, by descriptor; -1: its head isn't complete.
static struct { long missing; char head[2048]; int size; unsigned generation; } *state;
// The delay is the same for all: what is due first came first.
static struct { double at; int fd; unsigned generation; } *queue;
static long first, last, room = 1 << 20;

int main(int count, char **words) {
    int port = 0, delay = 50, limit = 1 << 17;
    FILE *log = NULL;
    for (int i = 1; i + 1 < count; i += 2) {
        if (!strcmp(words[i], "--port")) port = atoi(words[i + 1]);
        else if (!strcmp(words[i], "--delay-ms")) delay = atoi(words[i + 1]);
        else if (!strcmp(words[i], "--log") && !(log = fopen(words[i + 1], "w"))) fail("--log can't be written");
    }
    state = calloc(limit, sizeof *state);
    queue = malloc(room * sizeof *queue);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f000001)};
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 65535)) return perror("receiver"), 1;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    static struct epoll_event events[1024];
    static char buffer[65536];
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (;;) {
        // Else most requests would wake it, which costs who sends them, as no receiver elsewhere does.
        if (!log) usleep(1000);
        int wait = !log ? 0 : first == last ? 1000 : (int)((queue[first % room].at - now_seconds()) * 1000 + 0.999);
        int ready = epoll_wait(epoll, events, 1024, wait < 0 ? 0 : wait);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                for (int peer; (peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    if (peer >= limit) { close(peer); continue; }
                    state[peer].missing = -1;
                    state[peer].size = 0;
                    epoll_ctl(epoll, EPOLL_CTL_ADD, peer, &(struct epoll_event){.events = EPOLLIN, .data.fd = peer});
                }
                continue;
            }
            long n = recv(fd, buffer, sizeof buffer, 0);
            if (n <= 0) {
                // The next one of that number isn't meant by what still waits.
                state[fd].generation++;
                close(fd);
                continue;
            }
            if (state[fd].missing < 0) {
                long part = n < (long)sizeof state[fd].head - 1 - state[fd].size ? n : (long)sizeof state[fd].head - 1 - state[fd].size;
                memcpy(state[fd].head + state[fd].size, buffer, part);
                int before = state[fd].size;
                state[fd].size += part;
                state[fd].head[state[fd].size] = 0;
                char *end = strstr(state[fd].head, "\r\n\r\n"), *length = strcasestr(state[fd].head, "content-length:");
                if (!end) continue;
                state[fd].missing = (length ? atol(length + 15) : 0) - (n - (end + 4 - state[fd].head - before));
            } else {
                state[fd].missing -= n;
            }
            if (state[fd].missing > 0) continue;
            state[fd].missing = -1;
            state[fd].size = 0;
            char *id = log ? strcasestr(state[fd].head, "webhook-id:") : NULL;
            if (id) fprintf(log, "%.6f %.*s\n", unix_seconds(), (int)strcspn(id + 12, "\r"), id + 12), fflush(log);
            queue[last % room].at = now_seconds() + delay / 1e3;
            queue[last % room].generation = state[fd].generation;
            queue[last++ % room].fd = fd;
        }
        for (double t = now_seconds(); first != last && queue[first % room].at <= t; first++) {
            int fd = queue[first % room].fd;
            if (queue[first % room].generation == state[fd].generation && send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) continue;
        }
    }
}
