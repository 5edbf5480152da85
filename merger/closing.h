/*
 * closing.h - at the end of a merge, when everything was read: is it still what was read?
 *
 * Every list must still have the length it was read with, on the control connections of the roster; and nobody may have touched the
 * plain lists that are watched there since before the first item was asked for.
 */
#ifndef NWM_CLOSING_H
#define NWM_CLOSING_H

#include "merger/roster.h"
#include "shared/fault.h"

/* NULL, or the first of Vanished and Changed in stream order on the first server that has any. */
struct fault *closing_check(struct roster *r) MUST_CHECK;

#endif
