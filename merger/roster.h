/*
 * roster.h - which datasets take part, and waiting until they are ready.
 *
 * The manifest is the truth, pub/sub the wake-up, a look every second the guarantee: whatever order events come in, and
 * whether any comes at all, the next look sees what is. A look reads manifest and lease of a dataset in one MULTI.
 *
 * A dataset is, to the roster, in one of these:
 *   ready      its manifest says so (and it began since --since)
 *   waited for missing, older than --since, or loading under a live lease
 *   wrong      failed, consumed, lost (loading, and no lease in two looks one lease apart), or not understood: it has a fault
 *
 * The control connections stay open during the merge: plain lists are watched on them, and at the end they tell whether all
 * lists still have the length they were read with. One that was lost is replaced (control.h), but for the lists watched on it.
 */
#ifndef NWM_ROSTER_H
#define NWM_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "merger/stream.h"
#include "shared/conn.h"
#include "shared/dataset.h"
#include "shared/fault.h"
#include "shared/options.h"

struct control;
struct roster;

/* One dataset or plain list, as the last look saw it. Owned by the roster. */
struct member {
    char *name;    /* "demo:2", or the key of a plain list */
    char *id;      /* the id, or the key */
    size_t server; /* index of the endpoint; only once found */
    bool found;
    bool is_plain;
    struct manifest manifest; /* of a plain list: list and items only */
    uint64_t removed;         /* items that --consume may have taken off the list's head */
    int64_t lease_left_ms;    /* < 0: nobody holds it */
    int64_t leaseless_since;  /* clock_ms() of the first look that saw it loading without a lease; 0: none did */
    bool ready;
    bool is_used_up; /* --consume: ready, and nothing is left of it; not there any more when roster_wait() is done */
    bool is_stale;   /* older than --since */
    bool is_late;    /* its fault is only that it did not come in time */
    struct fault *fault;
};

/* Connects to every server and finds the members. Unreachable, Denied, NoDatasets (naming the jobs there are), WrongCount, Usage (an id on
 * two servers). The options must outlive the roster. */
struct fault *roster_open(const struct options *o, struct roster **out) MUST_CHECK;
void roster_free(struct roster *r);

/* One look at every member that is neither ready nor wrong. */
struct fault *roster_look(struct roster *r) MUST_CHECK;
/* --consume that goes on: datasets that are consumed, in part or to their end, are ready: the checkpoint knows how far. */
void roster_accept_consumed(struct roster *r);
/* Looks until all are ready, or with --partial until all are ready or wrong or the time is over; those that are wrong are then left
 * out (roster_settle). The first fault in stream order, or Timeout naming those that did not come; further members' faults stay
 * with them (member.fault). */
struct fault *roster_wait(struct roster *r) MUST_CHECK;

/* --partial. Of this member something went wrong while nothing of it was written; takes the fault. */
void roster_leave_out(struct roster *r, size_t i, struct fault *fault);
/* Members with a fault are left out: they take part no longer, and those behind them move up. Fails as without --partial when they
 * are more than --max-missing, or all. Without --partial: the first such fault. */
struct fault *roster_settle(struct roster *r) MUST_CHECK;
/* How many more may fail. */
size_t roster_may_leave_out(const struct roster *r);
/* The datasets that are left out, and the plain lists. */
size_t roster_missing(const struct roster *r);
size_t roster_missing_lists(const struct roster *r);
/* The members left out, each with its fault; one of them, "?", may stand for several datasets of -w that nobody saw. */
size_t roster_left_out(const struct roster *r);
const struct member *roster_left_out_member(const struct roster *r, size_t i);

/* Prints the faults that members still have: all that are known, beyond the one that was returned; also of those left out. */
void roster_print_faults(const struct roster *r);

size_t roster_size(const struct roster *r);
const struct member *roster_member(const struct roster *r, size_t i);
size_t roster_servers(const struct roster *r);
/* The control conversation with a server. */
struct control *roster_control(struct roster *r, size_t server);
const struct endpoint *roster_endpoint(const struct roster *r, size_t server);
/* Redis's clock at the start, in Unix seconds. */
int64_t roster_now(const struct roster *r);

/* --consume gave the list a new name, or removed items from its head. */
void roster_set_list(struct roster *r, size_t i, const char *list, uint64_t removed);

/* The order the datasets are sealed with, which the merge adopts; a dataset that differs, or another order on the command line, is
 * OrderConflict. The caller frees *out. */
struct fault *roster_order(const struct roster *r, struct order **out) MUST_CHECK;

/* What a stream needs to know of a ready member; borrows the member's strings. */
struct stream_spec roster_spec(const struct member *m);

/* The jobs on all servers, sorted, without doubles: an array of strings, freed by the caller with its strings. */
struct fault *roster_jobs(struct roster *r, char ***jobs, size_t *n) MUST_CHECK;
/* Connects without looking for members, for roster_jobs() alone. */
struct fault *roster_connect(const struct options *o, struct roster **out) MUST_CHECK;

#endif
