/*
 * stats.h - --stats: what a merge did and where its time went, for people (text) or programs (json, one line).
 */
#ifndef NWM_STATS_H
#define NWM_STATS_H

#include "merger/session.h"
#include "shared/fault.h"
#include "shared/options.h"
#include "shared/order.h"

/* To standard error or --stats-file. fault: what ended the merge, NULL when it is complete. Output when the file cannot be written. */
struct fault *stats_print(const struct options *o, const struct roster *r, const struct session *s,
                          const struct order *order, uint64_t bytes, const struct fault *fault) MUST_CHECK;

#endif
