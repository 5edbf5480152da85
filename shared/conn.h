/*
 * conn.h - a conversation with one Redis for code that waits: every wait has a deadline and ends at a signal.
 *
 * The merger's event loop uses link.h instead; this is for the worker, and for what the merger asks once (--status, --jobs,
 * --verify, the first look at a job). Underneath is a non-blocking context and poll(): a server that accepts and never
 * answers costs the timeout, never more, and SIGINT ends any wait at once (Interrupted, see stop.h).
 */
#ifndef NWM_CONN_H
#define NWM_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"
#include "shared/fault.h"

struct conn;

/* Connects (each address in turn), authenticates, selects the database, names the connection.
 * timeout_ms bounds the connect, and later every wait for a reply or for room to send. The endpoint must outlive the conn.
 * Unreachable, Denied, Timeout, Interrupted. */
struct fault *conn_open(struct endpoint *e, const char *client_name, int64_t timeout_ms, struct conn **out) MUST_CHECK;
/* The same for a farewell, after a signal came, which does not end it. */
struct fault *conn_open_at_end(struct endpoint *e, const char *client_name, int64_t timeout_ms, struct conn **out)
    MUST_CHECK;
/* The two halves of conn_open(): the connection, and the login on it. After a failed login the conn is still the
 * caller's, to close. */
struct fault *conn_connect(struct endpoint *e, int64_t timeout_ms, struct conn **out) MUST_CHECK;
struct fault *conn_greet(struct conn *c, const char *client_name) MUST_CHECK;
void conn_close(struct conn *c);
/* After a fault: was it that the connection broke, or that the server still reads its data (LOADING)? Then another
 * connection, later, may do better. */
bool conn_is_lost(const struct conn *c);
/* For a farewell after a signal came: waits go on, bounded by this timeout. */
void conn_set_timeout(struct conn *c, int64_t timeout_ms, bool ends_at_signal);
const struct endpoint *conn_endpoint(const struct conn *c);

/* One command, one reply. *reply is never NULL on success and the caller's (freeReplyObject). An error reply is turned into its
 * fault (reply_fault). */
struct fault *conn_call(struct conn *c, redisReply **reply, size_t argc, const char *const argv[], const size_t *lens)
    MUST_CHECK;
/* The same with words: conn_ask(c, &reply, "LLEN", key, NULL). */
struct fault *conn_ask(struct conn *c, redisReply **reply, ...) MUST_CHECK __attribute__((sentinel));

/* Pipelining: append commands, fetch as many replies later, in order. Appending only buffers. */
void conn_append(struct conn *c, size_t argc, const char *const argv[], const size_t *lens);
void conn_append_words(struct conn *c, ...) __attribute__((sentinel));
/* Ready-made protocol that brings `replies` replies. */
void conn_append_raw(struct conn *c, const char *data, size_t len, size_t replies);
/* Sends what it can without waiting and takes in what has arrived; sets *ready when a reply can be had without waiting. */
struct fault *conn_pump(struct conn *c, bool *ready) MUST_CHECK;
/* The next reply, waited for; the caller's. Error replies come as replies here (REDIS_REPLY_ERROR). */
struct fault *conn_reply(struct conn *c, redisReply **reply) MUST_CHECK;
/* Waits until at most `most` bytes are unsent, taking in what arrives meanwhile: for what is larger than should stand in
 * memory twice. */
struct fault *conn_flush(struct conn *c, size_t most) MUST_CHECK;
/* Replies still to come, and bytes not yet sent. */
size_t conn_outstanding(const struct conn *c);
size_t conn_unsent(const struct conn *c);
/* The descriptor, for waiting on several conversations at once. */
int conn_fd(const struct conn *c);
/* The number of milliseconds of a clock that never jumps; for deadlines everywhere. */
int64_t clock_ms(void);
/* The same in microseconds. */
uint64_t clock_us(void);

#endif
