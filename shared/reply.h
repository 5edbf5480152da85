/*
 * reply.h - what a server's error reply means, and what to do about it.
 */
#ifndef NWM_REPLY_H
#define NWM_REPLY_H

#include "shared/fault.h"
#include "shared/redis_compat.h"

/* NULL unless it is an error reply; then its fault with a sentence of advice for the errors a server is known to answer
 * with (-OOM -LOADING -READONLY -MISCONF -NOREPLICAS -MASTERDOWN -MOVED -NOAUTH -NOPERM -WRONGPASS -WRONGTYPE -BUSY …).
 * doing: "RPUSHX nwm:{demo:2}:1.…", for the message. */
struct fault *reply_fault(const redisReply *reply, const char *doing);

#endif
