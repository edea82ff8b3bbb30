/*
 * A slow disk for one process: every fsync, fdatasync and msync takes SLOWDISK_MS longer. For LD_PRELOAD; built by the tests.
 *   cc -shared -fPIC -o slowdisk.so slowdisk.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_for_the_disk(void) {
  const char *ms = getenv("SLOWDISK_MS");
  long delay_ms = ms ? atol(ms) : 0;
  struct timespec left = {delay_ms / 1000, delay_ms % 1000 * 1000000};
  while (nanosleep(&left, &left) == -1 && errno == EINTR) continue;
}

#define SLOW(name, parameters, arguments)                            \
  int name parameters {                                              \
    static int (*real) parameters;                                   \
    if (!real) real = (int(*) parameters)dlsym(RTLD_NEXT, #name);    \
    wait_for_the_disk();                                             \
    return real arguments;                                           \
  }

SLOW(fsync, (int fd), (fd))
SLOW(fdatasync, (int fd), (fd))
SLOW(msync, (void *address, size_t length, int flags), (address, length, flags))
