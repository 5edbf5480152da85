/*
 * verdict.h - what a manifest, as one look found it, means for a merge: ready, not yet, or a fault.
 */
#ifndef NWM_VERDICT_H
#define NWM_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "merger/roster.h"
#include "shared/fault.h"
#include "shared/options.h"

struct verdict_terms {
    const struct options *options;
    int64_t since_s;       /* loads that began before are not there yet */
    bool accepts_consumed; /* a merge that goes on: a checkpoint knows what is consumed */
};

/* Decides about a dataset that was not decided yet: it becomes ready, gets a fault (that of its worker; WorkerLost, Consumed), or stays as it
 * is. True when it moves: it is ready, or its worker is alive. */
bool verdict(const struct verdict_terms *terms, struct member *m);

/* Consumed, saying how much of it. */
struct fault *verdict_consumed(const struct member *m) MUST_CHECK;

#endif
