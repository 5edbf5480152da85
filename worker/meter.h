/*
 * meter.h - the progress line of a load: items, bytes, rate, share of the file, time left.
 */
#ifndef NWM_METER_H
#define NWM_METER_H

#include <stdint.h>

#include "shared/script.h"

struct meter {
    const char *subject; /* "demo:2"; somebody else's */
    int64_t began, next; /* clock_ms() */
};

/* Draws only on a terminal; the clock decides how often, however often meter_show() is called. */
void meter_init(struct meter *m, const char *subject);
/* read of size bytes of the source; size is 0 when nobody knows. */
void meter_show(struct meter *m, const struct totals *t, uint64_t read, uint64_t size);
/* Takes the line away. */
void meter_clear(const struct meter *m);

#endif
