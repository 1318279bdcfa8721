/* Preloaded into an agent: a disk that takes its time. What must not be done before something is durable has a long moment in which
 * to be done all the same. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int fdatasync(int fd) {
    static const struct timespec time = {0, 200 * 1000 * 1000};
    nanosleep(&time, 0);
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return real(fd);
}
