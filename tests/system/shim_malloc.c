/*
 * shim_malloc - a library for LD_PRELOAD that lets a program's allocations fail.
 *
 *     LD_PRELOAD=…/shim_malloc.so NWM_SHIM='N once' nwm-merger …      the N-th allocation fails, from 1
 *     LD_PRELOAD=…/shim_malloc.so NWM_SHIM='N on'   nwm-merger …      and every one behind it
 *     LD_PRELOAD=…/shim_malloc.so NWM_SHIM_COUNT=FILE nwm-merger …    none fails; how many there were goes into FILE
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* glibc's own, under the names that stay when malloc is replaced; dlsym would allocate. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static atomic_long seen;
static long first_to_fail; /* 0: none; read from the environment once, before main */
static bool and_on;

__attribute__((constructor)) static void read_plan(void)
{
    const char *plan = getenv("NWM_SHIM");
    if (!plan) return;
    atomic_store(&seen, 0);
    first_to_fail = atol(plan);
    and_on = strstr(plan, " on") != NULL;
}

__attribute__((destructor)) static void tell_count(void)
{
    const char *path = getenv("NWM_SHIM_COUNT");
    char text[24], *at = text + sizeof text;
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    if (fd < 0) return;
    for (long n = atomic_load(&seen); n > 0; n /= 10) *--at = (char)('0' + n % 10);
    if (write(fd, at, (size_t)(text + sizeof text - at)) < 0) _exit(1);
    close(fd);
}

static bool fails(void)
{
    long n = atomic_fetch_add(&seen, 1) + 1;
    if (!first_to_fail || n < first_to_fail || (n > first_to_fail && !and_on)) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t size) { return fails() ? NULL : __libc_realloc(old, size); }
