#include <ares.h>
#include <netdb.h>
#include <sys/socket.h>
#include <netinet/in.h>
