/*
 * checker.h - every item on its way in: is it in order, and what do they add up to?
 */
#ifndef NWM_CHECKER_H
#define NWM_CHECKER_H

#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/order.h"
#include "shared/script.h"

struct checker;

/* The order must outlive the checker. */
struct checker *checker_new(const struct order *order);
void checker_free(struct checker *c);

/* Compares the item with the one before, whose bytes must still be there, and counts it. Unsorted, naming both items
 * and their numbers, with a hint; the item is then not counted. */
struct fault *checker_add(struct checker *c, struct bytes item) MUST_CHECK;
/* What was added so far, but for totals.last. */
const struct totals *checker_so_far(const struct checker *c);
/* What it all adds up to; nothing is added after this. totals.last is filled in here, from the last item, whose bytes must
 * still be there; first and last then belong to the checker. */
const struct totals *checker_totals(struct checker *c);
/* Are these the bytes of the first, or the last, item? Told by length and hash, so that none has to be kept. After
 * checker_totals(). */
bool checker_is_first(const struct checker *c, struct bytes item);
bool checker_is_last(const struct checker *c, struct bytes item);

#endif
