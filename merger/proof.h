/*
 * proof.h - --check FILE: is this file what the datasets merge to?
 *
 * The manifests say how many items and bytes there are and what their digests add up to; the order is the one they are sealed
 * with. A file of so many items, in order, each with its separator, with that sum of digests, is the merge, but for the order
 * among items whose keys are equal. The lists are not read: they may be gone, consumed, or on their way out.
 */
#ifndef NWM_PROOF_H
#define NWM_PROOF_H

#include "merger/roster.h"
#include "shared/fault.h"
#include "shared/options.h"
#include "shared/order.h"

/* Reads o->check_file once, in memory bounded by the largest item, and prints one line on standard error, unless --quiet. Every
 * member of the roster must be ready or consumed.
 * Unsorted, naming the line; Mismatch, naming what differs, or the datasets that have no digest; NoInput; Interrupted. */
struct fault *proof_check(const struct options *o, const struct roster *r, const struct order *order) MUST_CHECK;

#endif
