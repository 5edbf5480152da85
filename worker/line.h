/*
 * line.h - the worker's way to Redis: a connection, and after it broke another one, for as long as that makes sense.
 *
 * The first connect says at once when nobody is there. Later a broken connection, and a server that for now takes no
 * writes (it is loading, or a replica since a failover), are tried again, with longer and longer pauses (backoff.h),
 * until --timeout has passed without progress.
 */
#ifndef NWM_LINE_H
#define NWM_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/conn.h"
#include "shared/endpoint.h"
#include "shared/fault.h"

struct line;

/* Connects. The endpoint must outlive the line; client_name is copied. The login is the caller's to do, with
 * line_greet(). What conn_connect() says. */
struct fault *line_open(struct endpoint *e, const char *client_name, int64_t timeout_ms, struct line **out) MUST_CHECK;
/* NULL is fine. */
void line_close(struct line *l);
/* Logs in on the first connection. */
struct fault *line_greet(struct line *l) MUST_CHECK;
/* The connection of now; NULL after line_again() failed. */
struct conn *line_conn(const struct line *l);

/* From here on what the server refuses for now counts as something that passes, not as the wrong server. */
void line_settled(struct line *l);
/* Something was done: the time of failures begins anew with the next. */
void line_progress(struct line *l);
/* The connection that line_again() opened serves: its waits have all of --timeout again. */
void line_allow(struct line *l);

/* How long it has been failing without progress, s. */
double line_outage_s(const struct line *l);

/* Is this a fault that another connection may be without? */
bool line_may_return(const struct line *l, const struct fault *f);
/* Is the connection broken, as far as can be seen without waiting? Replies that have come are thrown away. */
bool line_is_dead(struct line *l);
/* After a fault that may pass, which it takes: closes the connection and opens another. NULL when there is one, ready
 * for use, whose waits end when the time is over. Else why not: what went wrong last, and for how long it was tried. */
struct fault *line_again(struct line *l, struct fault *why) MUST_CHECK;

#endif
