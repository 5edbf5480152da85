/*
 * consume.h - --consume: items go from Redis once they are safe, so that its memory falls while the merge runs.
 *
 * Scripts are sent while the merge goes on, and their answers taken in later turns of the loop.
 *
 * Every dataset is claimed before anything is read: one consumer at a time, by a lease that is renewed while the merge runs, also
 * while its output is blocked. Items are removed in batches (--checkpoint-every), by scripts that may be repeated (script_consume.h):
 *
 *     with -o    after the checkpoint that covers them is on the disk: each item is in Redis or in FILE.nwm-part, or in both, and
 *                the same command takes it up exactly once, whatever was killed when. The claim is that of the checkpoint, whose
 *                lock only one process has, so a lease that still runs does not stand in its way.
 *     to a pipe  after they were written. What was written and not yet removed comes again after a crash.
 *
 * The end, with -o: everything synced, checkpoint, all removed, checkpoint complete, rename, checkpoint removed.
 */
#ifndef NWM_CONSUME_H
#define NWM_CONSUME_H

#include <stdbool.h>
#include <stdint.h>

#include "merger/merge.h"
#include "merger/resume.h"
#include "merger/roster.h"
#include "shared/fault.h"
#include "shared/options.h"

struct consume;

/* Claims every member of the roster. resume: with -o, begun; else NULL. Busy, Consumed (by another, or beyond the checkpoint), Vanished,
 * Changed. consume_free() in every case; everything given must outlive it. */
struct fault *consume_new(const struct options *o, struct roster *r, struct resume *resume, struct consume **out)
    MUST_CHECK;
/* NULL is fine. */
void consume_free(struct consume *c);

/* What the stream of that member needs to know: the list's new name, and where to begin. The strings stay the consume's. */
void consume_spec(const struct consume *c, size_t stream, struct stream_spec *spec);

/* Once a turn. Renews leases when it is time. To a pipe also removes what was written; appended, written: bytes of the output. */
struct fault *consume_turn(struct consume *c, const struct merge *m, uint64_t appended, uint64_t written) MUST_CHECK;
/* When the loop must not wait any longer, in ms from now. */
int64_t consume_wake_ms(const struct consume *c);
/* With -o: before every checkpoint. What it says is in the output is held there from now on. */
void consume_hold(struct consume *c, const struct merge *m);
/* What the merge has written is safe: begins to remove it, unless it is still about what was safe before. The answers are taken in later
 * turns: LeaseLost, Changed, Vanished. */
struct fault *consume_saved(struct consume *c, const struct merge *m) MUST_CHECK;
/* The same, and waits until it is done. */
struct fault *consume_finish(struct consume *c, const struct merge *m) MUST_CHECK;

/* The merge ended early: gives the leases up, and the datasets of which no item is held in a file. Asks once, whatever happened before;
 * false when that was not answered. */
bool consume_release(struct consume *c);
/* The merge is complete, and its output where it belongs: what is left (--limit) is free to be consumed. Only then may the checkpoint go:
 * nobody else could give it back. */
struct fault *consume_give_back(struct consume *c) MUST_CHECK;
/* The same for a merge that an earlier process completed: who consumed, according to its checkpoint. */
struct fault *consume_settle(const struct options *o, struct roster *r, const char *who) MUST_CHECK;

/* A place in a dataset as the manifest keeps it, but for the number of items; the caller frees. */
char *consume_place_text(const struct stream_mark *at);
/* Reads what that writes, and nothing else. */
bool consume_read_place(const char *text, struct stream_mark *at);

#endif
