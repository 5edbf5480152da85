/*
 * shim_clock - a library for LD_PRELOAD that lets the wall clock jump: for this program alone, and for nothing that runs by
 * CLOCK_MONOTONIC.
 *
 *     LD_PRELOAD=…/shim_clock.so NWM_SHIM='N SECONDS' nwm-merger …    from the N-th look at it on, it is SECONDS (which may be
 *                                                                     negative) off, and with N looks more twice that, and so on
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_long seen;

/* How far off this look is, in seconds. */
static time_t jump(void)
{
    long every = 0, seconds = 0;
    const char *plan = getenv("NWM_SHIM");
    if (!plan || sscanf(plan, "%ld %ld", &every, &seconds) != 2 || every < 1) return 0;
    return (time_t)((atomic_fetch_add(&seen, 1) + 1) / every * seconds);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += jump();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec t;
    if (clock_gettime(CLOCK_REALTIME, &t) != 0) return -1;
    now->tv_sec = t.tv_sec;
    now->tv_usec = t.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec t;
    if (clock_gettime(CLOCK_REALTIME, &t) != 0) return (time_t)-1;
    if (out) *out = t.tv_sec;
    return t.tv_sec;
}
