/* Preloaded into an agent: once the file in CORTEX_TEST_STRIKE exists, the agent is killed where it would start its next
 * process. So the moment between "the intent is durable" and "there is a process" is hit exactly, each time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <unistd.h>

static void strike(void) {
    const char *armed = getenv("CORTEX_TEST_STRIKE");
    if (armed && access(armed, F_OK) == 0) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
}

pid_t fork(void) {
    pid_t (*real)(void) = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");
    strike();
    return real();
}

#define SPAWN(name, first)                                                                             \
    int name(first out, const char *path, const posix_spawn_file_actions_t *actions,                   \
             const posix_spawnattr_t *attributes, char *const argv[], char *const environment[]) {     \
        int (*real)(first, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, \
                    char *const[], char *const[]) = dlsym(RTLD_NEXT, #name);                           \
        strike();                                                                                      \
        return real(out, path, actions, attributes, argv, environment);                                \
    }

SPAWN(posix_spawn, pid_t *)
SPAWN(posix_spawnp, pid_t *)
