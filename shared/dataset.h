/*
 * dataset.h - the contract in Redis (contract 1), in one place: key names, manifest, states, events.
 *
 *   nwm:jobs                       set     the jobs
 *   nwm:JOB:datasets               set     the ids of the job
 *   nwm:{JOB:ID}                   hash    the manifest of the newest load
 *   nwm:{JOB:ID}:RUN.NONCE         list    the items, in order, one per element
 *   nwm:{JOB:ID}:lease             string  the token of whoever is loading
 *   nwm:{JOB:ID}:consumer          string  the token of whoever is consuming
 *   nwm:JOB:events                 channel "ID STATE RUN ITEMS"
 *
 * "nwm:" is the prefix that --prefix replaces. Nothing here talks to Redis.
 */
#ifndef NWM_DATASET_H
#define NWM_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/digest.h"
#include "shared/fault.h"
#include "shared/mem.h"

enum { CONTRACT = 1, DATASET_NAME_MAX = 64, DATASET_NONCE_LEN = 12, DATASET_EDGE_MAX = 256, DATASET_WINDOW = 256 };

struct redisReply;

/* JOB and ID: 1 to 64 of A-Z a-z 0-9 . _ - */
bool dataset_name_is_valid(const char *name);
/* Ids sort as numbers if all are numeric (then bytes), else as bytes. Sorts in place. */
void dataset_sort_ids(char **ids, size_t n);

/* Key names; the caller frees. */
char *dataset_jobs_key(const char *prefix);
char *dataset_set_key(const char *prefix, const char *job);
char *dataset_events_channel(const char *prefix, const char *job);
char *dataset_manifest_key(const char *prefix, const char *job, const char *id);
char *dataset_lease_key(const char *prefix, const char *job, const char *id);
char *dataset_consumer_key(const char *prefix, const char *job, const char *id);
char *dataset_list_key(const char *prefix, const char *job, const char *id, uint64_t run, const char *nonce);
/* 12 random hex digits and a NUL, from the system's random source. */
void dataset_nonce(char nonce[DATASET_NONCE_LEN + 1]);

enum dataset_state {
    DATASET_MISSING, /* no manifest: not loaded yet, dropped, or expired */
    DATASET_LOADING,
    DATASET_READY,
    DATASET_FAILED,
    DATASET_CONSUMED,
    DATASET_DROPPED,
};
/* "loading" …; DATASET_MISSING is "missing". */
const char *dataset_state_name(enum dataset_state state);

/* A manifest as read. Strings are NULL where the field is absent; all memory belongs to the manifest. */
struct manifest {
    enum dataset_state state;
    uint64_t run;
    char *list, *token, *order, *source;
    int64_t lease_ms;
    uint64_t items, bytes, max_item;
    /* Beyond contract 1, optional: the most bytes any DATASET_WINDOW consecutive items hold (all of them, if fewer); 0
     * when absent. It lets a merger size batches by what neighbours really weigh when one item is far larger than the
     * rest. */
    uint64_t max_window;
    struct bytes first, last; /* at most DATASET_EDGE_MAX bytes each; data NULL when absent */
    bool has_digest;
    struct digest digest;
    /* State consumed, and not by another make: how many items are consumed; the last of them is still in the list unless it is the last of
     * all. Whoever consumes or did (NULL: it was given back), and what that one needs to know of the items that are gone. */
    bool has_consumed;
    uint64_t consumed;
    char *consumer, *consumed_at;
    int64_t started, finished; /* Unix seconds of Redis's clock, 0 when absent */
    /* state failed */
    char *error, *message, *traceback;
    char *at; /* optional: where in the source, "line 18" */
    int exit;
};

/* Reads the reply of HGETALL (an array, or RESP3's map). Absent key: state DATASET_MISSING. A contract other than 1, an
 * unknown state, a number that is none, a loading manifest without run and token, a ready one without run, list, items,
 * bytes and max_item or with numbers that contradict each other is BadContract, naming the field; a key that is no hash
 * is WrongType. Fields it does not know are ignored: other makes may add some.
 * The caller says what it is about (fault_about), and calls manifest_fini() in every case. */
struct fault *manifest_read(struct manifest *m, const struct redisReply *reply) MUST_CHECK;
void manifest_fini(struct manifest *m);

/* The fault a failed manifest stands for, with its origin: "worker host-a:4211, run 3, part-2.txt line 18". */
struct fault *manifest_fault(const struct manifest *m, const char *job, const char *id);
/* "host-a:4211" of the token host-a:4211:NONCE, for people. The caller frees. */
char *manifest_worker(const struct manifest *m);

/* An event's text, "ID STATE RUN ITEMS", taken apart. id points into text (id_len bytes). False when it is not one. */
bool dataset_parse_event(const char *text, size_t len, struct bytes *id, enum dataset_state *state);

#endif
