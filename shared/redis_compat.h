/*
 * redis_compat.h - every difference between hiredis 0.14 and 1.x, and the only place that includes hiredis.
 */
#ifndef NWM_REDIS_COMPAT_H
#define NWM_REDIS_COMPAT_H

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if HIREDIS_MAJOR >= 1
#define NWM_HIREDIS_1 1
/* createArray(task, n): the count's type changed. */
typedef size_t nwm_array_count;
#else
#define NWM_HIREDIS_1 0
typedef int nwm_array_count;
#endif

/* hiredis_ssl comes with 1.x; the Makefile sets NWM_TLS=1 where pkg-config finds it. */
#ifndef NWM_TLS
#define NWM_TLS 0
#endif

/* Reads what has arrived on a non-blocking context, through TLS where it has it: how many bytes, 0 for none now, -1 with the context's err
 * and errstr set when the connection is over. */
static inline ssize_t redis_read(redisContext *c, char *into, size_t size)
{
#if NWM_HIREDIS_1
    return c->funcs->read(c, into, size);
#else
    ssize_t n = read(c->fd, into, size);
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) return n > 0 ? n : 0;
    c->err = n == 0 ? REDIS_ERR_EOF : REDIS_ERR_IO;
    snprintf(c->errstr, sizeof c->errstr, "%s", n == 0 ? "Server closed the connection" : strerror(errno));
    return -1;
#endif
}

#endif
