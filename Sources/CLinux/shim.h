#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timex.h>
// What `import Glibc` lacks. epoll_event's data is a packed union: Swift gets plain integers instead.
static inline int martlet_epoll_control(int epoll, int operation, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event;
    event.events = events;
    event.data.u64 = token;
    return epoll_ctl(epoll, operation, fd, &event);
}
static inline uint32_t martlet_epoll_events(const struct epoll_event *events, int index) { return events[index].events; }
static inline uint64_t martlet_epoll_token(const struct epoll_event *events, int index) { return events[index].data.u64; }
static inline void martlet_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
// Whether the kernel's clock is disciplined by NTP, and its estimated error in microseconds.
static inline int martlet_clock_is_synchronised(long *error) {
    struct timex state;
    state.modes = 0;
    int answer = adjtimex(&state);
    *error = state.maxerror;
    return answer >= 0 && answer != TIME_ERROR && !(state.status & STA_UNSYNC);
}
#include <sys/syscall.h>
#include <unistd.h>
// A file in memory, closed on exec.
static inline int martlet_memory_file(void) { return (int)syscall(SYS_memfd_create, "martlet", 1u); }
#include <sys/socket.h>
#include <sys/uio.h>
// Of three buffers what lies between an offset and their size, in one call, without SIGPIPE.
static inline long martlet_send(int fd, const void *first, size_t first_from, size_t first_size, const void *second, size_t second_from, size_t second_size,
                                const void *third, size_t third_from, size_t third_size) {
    struct iovec parts[3] = {{(char *)first + first_from, first_size - first_from}, {(char *)second + second_from, second_size - second_from}, {(char *)third + third_from, third_size - third_from}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
// A TCP socket that doesn't block and is connecting to the address, whose 128 bits are in host order; or -errno.
static inline int martlet_connect(int is_v6, uint64_t high, uint64_t low, uint16_t port) {
    int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int result;
    if (is_v6) {
        uint64_t words[2] = {htobe64(high), htobe64(low)};
        struct sockaddr_in6 target = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        __builtin_memcpy(&target.sin6_addr, words, sizeof words);
        result = connect(fd, (struct sockaddr *)&target, sizeof target);
    } else {
        struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl((uint32_t)low)};
        result = connect(fd, (struct sockaddr *)&target, sizeof target);
    }
    if (result == 0 || errno == EINPROGRESS) return fd;
    int error = errno;
    close(fd);
    return -error;
}
// 0: connected, and from now on without Nagle's delay; EINPROGRESS: not yet; else why not.
static inline int martlet_connection_error(int fd) {
    int error = 0, one = 1;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
    if (error) return error;
    struct sockaddr_storage peer;
    size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) != 0) return EINPROGRESS;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return 0;
}
static inline void martlet_ignore_sigpipe(void) { signal(SIGPIPE, SIG_IGN); }
// As many descriptors as the system lets this process have; the common soft limit of 1,024 is fewer than a lane may need.
static inline void martlet_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}
#include <malloc.h>
// Gives freed memory back to the system, of all threads.
static inline void martlet_give_back_memory(void) { malloc_trim(0); }
