/*
 * verify.h - --verify: the same result by another way.
 *
 * Every dataset is fetched whole, over connections of its own, one plain LRANGE after the other; everything is sorted in memory with
 * qsort by full comparisons (no heap, no normalised keys, no read-ahead), and each item the merge writes is compared with
 * what that gave. Holds all data in memory, outside --memory.
 */
#ifndef NWM_VERIFY_H
#define NWM_VERIFY_H

#include "merger/batch.h"
#include "merger/merge.h"
#include "merger/roster.h"
#include "shared/fault.h"
#include "shared/options.h"
#include "shared/order.h"

struct verify;

/* Fetches and sorts. With --partial a dataset that cannot be fetched is left out of the roster, which is then to be settled. Roster, order and options must outlive it. */
struct fault *verify_new(const struct options *o, struct roster *r, const struct order *order, struct verify **out)
    MUST_CHECK;
/* Which streams the merge left out (--partial), their items being left out here too. The merge must outlive the comparing. */
void verify_follow(struct verify *v, const struct merge *m);
void verify_free(struct verify *v);
/* A merge_observer; context is the verify. */
void verify_observe(void *verify, const struct batch *batch, uint32_t from, uint32_t to);
/* NULL when everything was equal, or Mismatch with the first difference. */
struct fault *verify_result(const struct verify *v) MUST_CHECK;

#endif
