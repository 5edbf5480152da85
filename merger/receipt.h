/*
 * receipt.h - the line at the end of a merge: what was merged, and that it is complete.
 */
#ifndef NWM_RECEIPT_H
#define NWM_RECEIPT_H

#include "merger/roster.h"
#include "merger/session.h"
#include "shared/mem.h"
#include "shared/options.h"
#include "shared/order.h"

/* On standard error, unless --quiet. Only after the output is finished. */
void receipt_print(const struct options *o, const struct roster *r, const struct session *s, const struct order *order);

/* Appends "8 of 8 datasets of job demo" where the number was asked for, "8 datasets of job demo, as found" where it was not. */
void receipt_sources(struct buf *line, const struct options *o, const struct roster *r);

#endif
