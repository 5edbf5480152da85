/*
 * redis_compat.h - every difference between hiredis 0.14 and 1.x, and the only place that includes hiredis.
 */
#ifndef NWM_REDIS_COMPAT_H
#define NWM_REDIS_COMPAT_H

#include <hiredis/hiredis.h>

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

#endif
