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
