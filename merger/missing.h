/*
 * missing.h - datasets that did not come, or cannot be had: the one fault that names them all, and with --partial what it takes
 * to go on without them.
 */
#ifndef NWM_MISSING_H
#define NWM_MISSING_H

#include "merger/attendance.h"

/* Timeout, naming those that are not ready, and how many of -w have not shown up. */
struct fault *missing_timed_out(const struct options *o, const struct attendance *a) MUST_CHECK;
/* --partial: who is not ready by now gets a fault. away: the server that could not be reached and may have it, or NULL. */
void missing_give_up(const struct options *o, struct attendance *a, const struct fault *away);
/* --partial: members with a fault are left out. Fails as the merge would without --partial when they are too many (--max-missing), or
 * all, or when what is wrong with one is no accident (Usage: an id on two servers). */
struct fault *missing_settle(const struct options *o, struct attendance *a) MUST_CHECK;

/* How many datasets, or plain lists, are left out. */
size_t missing_datasets(const struct attendance *a);
size_t missing_lists(const struct attendance *a);

#endif
