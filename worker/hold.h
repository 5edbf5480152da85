/*
 * hold.h - how a worker gets hold of its dataset, and keeps it when connections break.
 *
 *   lost → connect again → reclaim the list ┬ it has what was acknowledged, or more: go on behind that
 *                                           ├ it has less: read the source again from there, or Lost
 *                                           ├ no manifest: begin anew, then as above
 *                                           ├ ready: it was the answer that was lost
 *                                           └ another's: LeaseLost
 */
#ifndef NWM_HOLD_H
#define NWM_HOLD_H

#include "shared/fault.h"
#include "worker/work.h"

/* Connects and begins the load: line and claim. The first connect is not tried twice. */
struct fault *hold_begin(struct work *w) MUST_CHECK;
/* Starts the thread that renews the lease. */
struct fault *hold_lease(struct work *w) MUST_CHECK;
/* Ends it. */
void hold_end_lease(struct work *w);
/* After the fault `why` of anything in a load, which it takes: NULL when the load can go on, reading from the source
 * (which may have been rewound, with a new checker) and adding to the loader, unless w->sealed says that it is done. Else
 * the fault that ends it: after --timeout without progress at the latest, which is an item acknowledged that never was
 * before. */
struct fault *hold_regain(struct work *w, struct fault *why) MUST_CHECK;
/* While items are read again: are they what they were? Between any two of them, and at the end. Changed. */
struct fault *hold_compare(struct work *w, bool end) MUST_CHECK;

#endif
