#include <arpa/inet.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef enum MHD_Result (*martlet_mhd_handler)(void *, struct MHD_Connection *, const char *, const char *, const char *, const char *,
                                               size_t *, void **);
typedef void (*martlet_mhd_completed)(void *, struct MHD_Connection *, void **, enum MHD_RequestTerminationCode);

// The start call is variadic. Listens on an IPv4 address; returns NULL and leaves errno when it can't.
static inline struct MHD_Daemon *martlet_mhd_start(int thread_per_connection, uint32_t address, uint16_t port, unsigned int connections,
                                                   unsigned int timeout_seconds, martlet_mhd_handler handler,
                                                   martlet_mhd_completed completed, void *context) {
    struct sockaddr_in listen_on;
    memset(&listen_on, 0, sizeof listen_on);
    listen_on.sin_family = AF_INET;
    listen_on.sin_addr.s_addr = htonl(address);
    listen_on.sin_port = htons(port);
    // Not epoll: when as many events as it takes at once (128) are all there are, 0.9.75 waits for more before it looks at them.
    unsigned int flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;
    if (thread_per_connection) flags |= MHD_USE_THREAD_PER_CONNECTION;
    return MHD_start_daemon(flags, port, NULL, NULL, handler, context, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&listen_on,
                            MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_CONNECTION_TIMEOUT, timeout_seconds,
                            MHD_OPTION_NOTIFY_COMPLETED, completed, context, MHD_OPTION_END);
}

static inline uint16_t martlet_mhd_port(struct MHD_Daemon *daemon) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info ? info->port : 0;
}

// Resets the connection at once. Its descriptor then leads nowhere, so that libmicrohttpd can end its side as usual.
static inline void martlet_mhd_reset(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct linger hard = {1, 0};
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (info && nowhere >= 0) {
        setsockopt(info->connect_fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        dup2(nowhere, info->connect_fd);
    }
    if (nowhere >= 0) close(nowhere);
}
