/*
 * lifeline.h - the connection to one server for as long as a merge needs it: a link, and another one when that is lost.
 *
 * What a lost link leaves behind is tried again with backoff (shared/backoff.h), until --timeout has passed since the server
 * last did something for us. What cannot pass by itself (a refused password, bytes that are no protocol) and silence on a
 * connection that stands (Timeout, link.h) are the end at once.
 *
 *     UP ──link lost──▶ WAITS ──its time has come──▶ TRIES ──greeted──▶ back: the caller looks at the data, then
 *      ▲                  ▲                            │                      │
 *      │                  └───────── failed ───────────┘◀──lifeline_failed()──┤
 *      └──────────────────────────────lifeline_adopt()────────────────────────┘
 *
 * The streams keep the lost link, which takes no requests, until the new one has been adopted. Callbacks only wake the loop:
 * lifeline_turn() does the work, once a turn, while the link is down and something is still wanted from it.
 */
#ifndef NWM_LIFELINE_H
#define NWM_LIFELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "merger/link.h"

struct lifeline;

/* Starts connecting; arguments as of link_new(). */
struct lifeline *lifeline_new(struct event_base *base, const struct endpoint *e, const char *client_name,
                              char separator, int64_t timeout_ms);
void lifeline_free(struct lifeline *l);

/* The link to ask. */
struct link *lifeline_link(const struct lifeline *l);

/* Only while that link is down. *back: a new link is greeted, and lifeline_adopt() or lifeline_failed() is due. A fault is the
 * last word: Unreachable or Timeout with what went wrong last and for how long, or what cannot pass. */
struct fault *lifeline_turn(struct lifeline *l, bool *back) MUST_CHECK;
/* The new link becomes lifeline_link(); the lost one is freed, so the streams must be told now. */
void lifeline_adopt(struct lifeline *l);
/* The new link did not do; takes the fault. NULL, or the last word as above. */
struct fault *lifeline_failed(struct lifeline *l, struct fault *fault) MUST_CHECK;

/* While held, no clock of this server runs: whoever reads the output is the slow side. */
void lifeline_hold(struct lifeline *l, bool held);

/* How often it came back. */
uint64_t lifeline_reconnects(const struct lifeline *l);

#endif
