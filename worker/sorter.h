/*
 * sorter.h - items sorted in memory, stably, for input that is not sorted yet (--sort).
 *
 * Holds everything: memory is that of the items and 24 bytes for each, and as much again for the 24 bytes while it
 * sorts. Data that does not fit is sort(1)'s business, which has temporary files.
 */
#ifndef NWM_SORTER_H
#define NWM_SORTER_H

#include <stdbool.h>

#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/order.h"
#include "shared/pulse.h"

struct sorter;

/* The order must outlive the sorter. */
struct sorter *sorter_new(const struct order *order);
void sorter_free(struct sorter *s);
/* Copies the item. Not after sorter_sort(). */
void sorter_add(struct sorter *s, struct bytes item);
/* Equal items keep the order they came in. Interrupted, or what the pulse says; it can then be called again. */
struct fault *sorter_sort(struct sorter *s, const struct pulse *p) MUST_CHECK;
/* The items in their order, valid until sorter_free(); false at the end. */
bool sorter_next(struct sorter *s, struct bytes *item);
/* From the first one again. */
void sorter_rewind(struct sorter *s);

#endif
