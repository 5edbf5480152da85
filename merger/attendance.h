/*
 * attendance.h - the members of a roster, as the array they are in: who takes part, found by their ids and put into their order.
 */
#ifndef NWM_ATTENDANCE_H
#define NWM_ATTENDANCE_H

#include "merger/roster.h"

/* An array of `count` members that take part, and behind them, with --partial, those that are left out, each with its fault. */
struct attendance {
    struct member *members;
    size_t count;       /* that take part */
    size_t left_out;    /* behind them */
    size_t unseen;      /* of the left out one, which stands for those of -w that nobody ever saw: how many */
    struct fault *late; /* what ends the merge when all that is wrong is that some did not come in time */
};

void attendance_fini(struct attendance *a);
/* A new one that takes part; only while none is left out. */
struct member *attendance_add(struct attendance *a, const char *job, const char *id, bool is_plain);
/* Adds those datasets that are not there yet. */
void attendance_add_new(struct attendance *a, const char *job, char *const *ids, size_t n);
/* Takes those out that `is_done`; only while none is left out. */
void attendance_remove(struct attendance *a, bool (*is_done)(const struct member *m));
/* Those that take part: datasets in the order of their ids (dataset_sort_ids), then the lists as they were given. */
void attendance_sort(struct attendance *a);
/* How many that take part are datasets, not plain lists. */
size_t attendance_datasets(const struct attendance *a);

#endif
