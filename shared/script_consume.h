/*
 * script_consume.h - how a ready dataset is consumed: by one merger at a time, items going from the head of its list.
 *
 *   ready ──claim──▶ consumed, in part ──trim … trim──▶ consumed, list and lease gone
 *     ▲                     │
 *     └──────release────────┘ while nothing was trimmed, nor is held in a file
 *
 * A claim takes the lease nwm:{JOB:ID}:consumer, gives the list a fresh name, so that whoever reads it under the old one finds
 * nothing, and puts the manifest in state consumed, so that nobody begins to. The manifest then says how many items are
 * consumed, and by whom. A list holds its last consumed item still, until all are: the next range read from it begins there.
 *
 * Every script compares the dataset's token and the consumer's first, and is safe to repeat. They are sent and answered
 * separately, so that those of many datasets can be on their way at once.
 */
#ifndef NWM_SCRIPT_CONSUME_H
#define NWM_SCRIPT_CONSUME_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/conn.h"
#include "shared/dataset.h"
#include "shared/fault.h"

/* One dataset, and who consumes it. Strings are the caller's. */
struct consumer {
    const char *name; /* "demo:2", for faults */
    const char *manifest, *lease, *channel, *id;
    const char *token; /* of the load */
    const char *who;   /* HOST:PID:NONCE of the consumer */
    const char *nonce; /* for the list's new name */
    int64_t lease_ms;
};

/* What a claim brought; strings are the caller's to free. */
struct claimed {
    char *list;        /* the list's new name */
    uint64_t consumed; /* items that are consumed already */
    char *at;          /* what the trim that consumed them said, or NULL */
};

/* most: as many items may be gone that another consumed (UINT64_MAX: any number). holds: items that go from here are then in a file of
 * this consumer only, so nobody else may claim it until it was given back. What another holds so, and beyond `most`: Consumed. Busy while
 * another holds the lease; Vanished, Changed. */
void script_claim_send(struct conn *conn, const struct consumer *c, uint64_t most, bool holds);
struct fault *script_claim_take(struct conn *conn, const struct consumer *c, struct claimed *out) MUST_CHECK;

/* The first `to` items are consumed: removes them, and renews the lease. at: what the manifest is to say about them. All `of` them:
 * list and lease go. LeaseLost when another consumer has it, Changed when it was loaded anew or the list has not the length it should
 * have, Vanished. */
void script_trim_send(struct conn *conn, const struct consumer *c, uint64_t to, const char *at);
struct fault *script_trim_take(struct conn *conn, const struct consumer *c) MUST_CHECK;

/* Renews the lease, or takes it again. Faults as above. */
void script_renew_send(struct conn *conn, const struct consumer *c);
struct fault *script_renew_take(struct conn *conn, const struct consumer *c) MUST_CHECK;

/* Gives the lease up. gives_back: and the dataset, what is left of which may be consumed by whoever comes; one of which nothing is gone is
 * ready again. */
void script_release_send(struct conn *conn, const struct consumer *c, bool gives_back);
struct fault *script_release_take(struct conn *conn, const struct consumer *c) MUST_CHECK;

#endif
