/*
 * control.h - the control conversation with one server, which outlives its connections.
 *
 * What is asked on it can be asked again from the beginning: when the connection is lost, or the server says that it will be able to
 * answer later (-LOADING), the question is put once more on a new connection, with backoff (shared/backoff.h). What cannot pass by
 * itself, and silence (Timeout), are the end at once.
 *
 * Plain lists are watched on this connection. A watch ends with it, and then nothing can prove that they stayed as they were: that is
 * Lost, at the first question that finds the connection gone.
 */
#ifndef NWM_CONTROL_H
#define NWM_CONTROL_H

#include <stdint.h>

#include "shared/conn.h"

struct control;

/* Asks on c and takes the replies. Called again from the beginning after it returned a fault that may pass. */
typedef struct fault *control_question(struct conn *c, void *context);

/* Connects, once: the first refusal is the last. patience_ms: how long a question is asked again without success; 0: one lost
 * connection is replaced, no more. Endpoint and client name must outlive it. */
struct fault *control_open(struct endpoint *e, const char *client_name, int64_t timeout_ms, int64_t patience_ms,
                           struct control **out) MUST_CHECK;
void control_close(struct control *c);

/* Whatever the question returns that cannot pass; after the patience, Unreachable with what went wrong last; Lost; Interrupted. */
struct fault *control_ask(struct control *c, control_question *ask, void *context) MUST_CHECK;
/* The same without waiting: one lost connection is replaced, what may pass is returned. For those who have a clock of their own. */
struct fault *control_ask_now(struct control *c, control_question *ask, void *context) MUST_CHECK;

/* From now on this connection cannot be replaced. */
void control_watches(struct control *c);

#endif
