/*
 * drop.h - taking datasets away again (--drop, --all, --force), saying what went.
 */
#ifndef NWM_DROP_H
#define NWM_DROP_H

#include "shared/conn.h"
#include "shared/fault.h"
#include "shared/options.h"

/* Drops the dataset, or every dataset of the job, and prints one line for each. Busy while a lease is held, unless
 * forced (with
 * --all before anything is removed, as far as can be seen then). NoDatasets when there is nothing to drop. */
struct fault *drop_datasets(struct conn *conn, const struct options *o) MUST_CHECK;

#endif
