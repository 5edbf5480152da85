/*
 * link.h - one connection to Redis on the event loop: requests out, replies in, a clock that notices silence.
 *
 * A link is a non-blocking redisContext with its own libevent events and one FIFO of the requests that are out; the FIFO's
 * head says what the next reply is for. Redis answers in order, so that is all the bookkeeping there is.
 *
 * The callbacks of requests only record what arrived; the work is done once per turn of the loop. A link that goes down
 * calls every outstanding request back with NULL, keeps the reason (link_take_fault) and stays down: whoever wants to go on
 * makes a new one, as lifeline.h does. A link may be freed at any time except from within a callback of its own.
 */
#ifndef NWM_LINK_H
#define NWM_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "merger/decoder.h"
#include "shared/endpoint.h"
#include "shared/fault.h"

struct event_base;
struct link;

enum link_state { LINK_CONNECTING, LINK_UP, LINK_DOWN };

/* A reply arrived: a batch (decoded_is_batch) or a redisReply that is a line, the callee's to free with decoded_free(). NULL: the link went down
 * before it came. */
typedef void link_reply_fn(void *owner, void *reply);

/* Starts connecting. The endpoint must be resolved and outlive the link. timeout_ms bounds the connect, and the silence while
 * anything is outstanding. separator: what the batch decoder puts behind each item. */
struct link *link_new(struct event_base *base, const struct endpoint *e, const char *client_name, char separator,
                      int64_t timeout_ms);
void link_free(struct link *l);

enum link_state link_state(const struct link *l);
const struct endpoint *link_endpoint(const struct link *l);
/* Why it is down: Unreachable, Denied, Timeout, Protocol. The caller's; NULL once taken. */
struct fault *link_take_fault(struct link *l);

/* LRANGE key first last; negative ones count from the end. reply: what it may bring; memory_most is what link_outstanding_bytes() counts for it. Asking only
 * queues: link_flush() sends. On a link that is down, nothing is queued and the callback is not called. */
void link_ask_range(struct link *l, const char *key, int64_t first, int64_t last, const struct expectation *reply,
                    link_reply_fn *fn, void *owner);

/* Takes it down for a reason that only a reply could tell (-LOADING); takes the fault. The other requests that are out are called back
 * with NULL; may be called from within a callback. */
void link_break(struct link *l, struct fault *fault);
/* While held, silence is not held against the server: whoever reads the output is the slow side. */
void link_hold(struct link *l, bool held);
/* Ranges that were answered since it was made, with items: a refusal moves nothing. */
uint64_t link_answered(const struct link *l);
/* clock_ms() when the oldest request that is out was the first one waited for, or the last answer came; 0 when nothing is out.
 * On a link that is down: as it was then. */
int64_t link_waiting_since(const struct link *l);

/* How long reading and decoding took so far, in microseconds: a wait in the event loop is that much shorter than it looks. */
uint64_t link_reading_us(const struct link *l);

/* The round trip to the server in microseconds, as the greeting took it; 0 until the link is up. */
uint64_t link_rtt_us(const struct link *l);

/* Sends what is queued, as far as that goes without waiting; the event loop does the rest. (Holding requests back to send several at once
 * saves system calls and costs more in waiting: 20 % of the wall time of L, measured.) */
void link_flush(struct link *l);
/* Requests whose replies are still to come. */
size_t link_outstanding(const struct link *l);
/* What the ranges among them can bring at most. */
size_t link_outstanding_bytes(const struct link *l);

#endif
