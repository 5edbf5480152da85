/*
 * lease.h - the heartbeat: a thread with a connection of its own that renews the lease, however slow the input is.
 *
 * It shares the claim, which nobody writes any more, and one flag with the main thread; no lock is held while it talks.
 */
#ifndef NWM_LEASE_H
#define NWM_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/conn.h"
#include "shared/endpoint.h"
#include "shared/fault.h"
#include "shared/script.h"

struct lease;

/* Connects and starts the thread, which renews at every third of the lease; what fails for now it tries again, for as
 * long as the lease, or timeout_ms if that is longer. The claim (begun) must outlive it. What conn_open() says, but
 * Unreachable and Timeout, and LeaseLost when there is no thread to be had. */
struct fault *lease_start(const struct endpoint *e, const struct claim *claim, int64_t timeout_ms, struct lease **out)
    MUST_CHECK;
/* Cheap. NULL while all is well; else, once, why the lease is over: LeaseLost, or what kept it from being renewed for
 * so long. */
struct fault *lease_check(struct lease *l) MUST_CHECK;
/* Has the thread given up, whether that was told or not? */
bool lease_is_over(struct lease *l);
/* Was that because the dataset is another's, or gone? */
bool lease_was_lost(struct lease *l);
/* Ends the thread (a heartbeat on its way is waited for, two seconds at most). Returns its connection if that is usable, with
 * nothing outstanding on it, for a farewell: it stays the lease's. NULL is fine. */
struct conn *lease_stop(struct lease *l);
/* After lease_stop(). NULL is fine. */
void lease_free(struct lease *l);

#endif
