/*
 * script.h - the changes of state a dataset goes through, each one Lua script that Redis runs as a whole.
 *
 *   join → begin → heartbeat …, reclaim … → ready | fail          drop
 *
 * Every script compares the token before it writes, publishes its event itself ("ID STATE RUN ITEMS") and is safe to
 * repeat: a worker whose reply was lost asks again and gets the same answer. Scripts touch only keys with the dataset's
 * hash tag, and run on Redis 5 to 8 and Valkey. They are sent as text (EVAL): a load needs
 * a handful, of a kilobyte each.
 *
 * Out of memory: Redis refuses a script's first write when that could need memory, and none after it. Each script
 * therefore begins its writing with one that needs none, so that a full Redis still learns of the failure it caused.
 */
#ifndef NWM_SCRIPT_H
#define NWM_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/conn.h"
#include "shared/dataset.h"
#include "shared/digest.h"
#include "shared/fault.h"
#include "shared/mem.h"

/* A worker's claim on a dataset: which keys, whose token, and since script_begin() which run and list. Threads may share
 * it: once begun only nonce, run and the names of the list change, and a heartbeat looks at none of them. */
struct claim {
    char *job, *id;
    char *jobs, *set, *manifest, *lease, *channel; /* key names */
    char nonce[DATASET_NONCE_LEN + 1];
    char *token;         /* HOST:PID:NONCE */
    int64_t lease_ms;    /* how long the lease runs from each heartbeat */
    int64_t patience_ms; /* how long its worker tries to go on after a lost connection */
    uint64_t run;        /* 0 until begun */
    char *list;          /* NULL until begun */
    char *next_list;     /* what script_reclaim() is about to call it; else NULL */
};

/* A claim by this process, with a fresh nonce. Copies its arguments. */
void claim_init(struct claim *c, const char *prefix, const char *job, const char *id, int64_t lease_ms);
void claim_fini(struct claim *c);
/* --timeout; 0 before that. */
void claim_set_patience(struct claim *c, int64_t timeout_ms);
/* How long an unfinished list outlives the last heartbeat, ms: a net under workers that die, and longer than one that lives may be away. */
int64_t claim_list_expiry_ms(const struct claim *c);

/* What a finished load adds up to. first and last hold at most DATASET_EDGE_MAX bytes and belong to somebody else. */
struct totals {
    uint64_t items, bytes, max_item, max_window;
    struct bytes first, last;
    struct digest digest;
};

/* Enters the job and the id into their sets; before begin, at every heartbeat and before ready, should somebody have removed them. */
struct fault *script_join(struct conn *conn, const struct claim *c) MUST_CHECK;

/* Begins a load: takes the lease, replaces the manifest, counts the run, names the list (both are set in *c). A ready
 * list of the run before gets keep_ms more, an unfinished one goes. source: "part-2.txt", for people. DuplicateWorker
 * while another's lease runs; BadContract over a manifest of a later contract. */
struct fault *script_begin(struct conn *conn, struct claim *c, const char *order, const char *source, int64_t keep_ms)
    MUST_CHECK;

/* Renews the lease and the unfinished list's expiry; an expired lease is taken again while the token is still ours.
 * LeaseLost when it is not. */
struct fault *script_heartbeat(struct conn *conn, const struct claim *c) MUST_CHECK;

/* What became of a dataset while its worker had no connection. */
struct reclaimed {
    enum {
        RECLAIM_GONE,
        RECLAIM_READY,
        RECLAIM_OURS
    } how;             /* there is no manifest, or an older one; the seal was applied; still loading */
    uint64_t items;    /* RECLAIM_OURS: what the list holds */
    struct bytes last; /* its last item, in `reply`; data NULL when there is none, or it is too long */
    struct redisReply *reply;
};

/* After a lost connection, before anything is pushed again: the list gets a fresh name (c->list afterwards), so that
 * what the old connection still delivers reaches no list, and only then its length is told. Renews lease and expiry.
 * last_most: up to which length the last item is wanted. LeaseLost when the dataset is another's. The caller calls
 * reclaimed_fini(), after a fault too. */
struct fault *script_reclaim(struct conn *conn, struct claim *c, size_t last_most, struct reclaimed *out) MUST_CHECK;
void reclaimed_fini(struct reclaimed *r);

/* Seals it: Redis counts the list itself and refuses another count (Changed). ttl_ms: 0, or when list and manifest
 * expire. */
struct fault *script_ready(struct conn *conn, const struct claim *c, const struct totals *t, int64_t ttl_ms) MUST_CHECK;

/* Records why it failed, removes the list and gives the lease up. at: where in the source ("line 18"), or NULL.
 * LeaseLost when the dataset is another's by now; then nothing was written, and nothing is wrong with that. */
struct fault *script_fail(struct conn *conn, const struct claim *c, const struct totals *t, const struct fault *why,
                          const char *at) MUST_CHECK;

/* What script_drop() removed. */
struct dropped {
    bool found; /* false: there was neither manifest nor lease, and the rest is empty */
    uint64_t run, items, bytes;
    char *list; /* NULL when there was none; the caller's */
};

/* Removes list, manifest and lease. The sets are the caller's to leave (script_leave), last. Only the key names of *c
 * are used. Busy while a lease is held, unless forced. */
struct fault *script_drop(struct conn *conn, const struct claim *c, bool force, struct dropped *out) MUST_CHECK;
/* Takes the id out of its job, and the job out of the jobs when it was the last; but not while there is a manifest again: a new load has
 * begun. *was_there: was the id in the set? */
struct fault *script_leave(struct conn *conn, const struct claim *c, bool *was_there) MUST_CHECK;

#endif
