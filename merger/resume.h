/*
 * resume.h - --resume: a merge that another process can go on with, exactly.
 *
 * Every now and then (--checkpoint-every) what is written so far is synced, and then FILE.nwm-checkpoint says how far that is, in
 * the output and in each dataset. After whatever ended the process, the same command takes the temporary up at the recorded byte
 * and each dataset at the recorded item.
 *
 *     merging   FILE.nwm-part is right up to the recorded byte; what is behind is dropped
 *     complete  FILE.nwm-part is the result, or FILE is it already: rename, remove the checkpoint
 *
 * What does not fit is refused with the reason: the datasets are other loads (Changed), the command asks for something else (Usage,
 * OrderConflict), one of the two files was changed (Changed).
 */
#ifndef NWM_RESUME_H
#define NWM_RESUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "merger/merge.h"
#include "merger/roster.h"
#include "merger/sink.h"
#include "merger/stream.h"
#include "shared/fault.h"
#include "shared/options.h"
#include "shared/order.h"

struct resume;

/* Opens the sink, locked (Busy while another merger writes FILE), and reads the checkpoint. Both are to be freed in every case; the sink
 * must outlive the resume. */
struct fault *resume_open(const struct options *o, struct sink **sink, struct resume **out) MUST_CHECK;
/* NULL is fine. */
void resume_free(struct resume *r);

/* What a checkpoint tells of an earlier merge that was complete. */
enum resume_past {
    RESUME_NO_PAST, /* nothing */
    RESUME_SAME,    /* it was this very merge: FILE is the result now, and nothing is left to do */
    RESUME_ANOTHER, /* it was another one, which is done with: FILE is its result, and this merge begins afresh */
};
/* Once roster_open() ended, with `fault`: was an earlier merge complete, so that only its last steps are missing? Those up to the rename are
 * done, even if the datasets are gone by now. Returns the fault, or what went wrong; with RESUME_SAME NULL. */
struct fault *resume_settle(struct resume *r, struct roster *roster, struct fault *fault, enum resume_past *past)
    MUST_CHECK;
/* The last step: the checkpoint is removed; RESUME_SAME: and the receipt printed. */
struct fault *resume_settled(struct resume *r, enum resume_past past) MUST_CHECK;

/* A checkpoint of a merge that is not complete was found. */
bool resume_is_found(const struct resume *r);
/* When all members are ready: takes up the temporary where the checkpoint says, or starts afresh without one. Roster and order must
 * outlive the resume. */
struct fault *resume_begin(struct resume *r, const struct roster *roster, const struct order *order) MUST_CHECK;
/* Where that is: in a dataset (struct stream_spec's from and base), and for the merge. */
struct stream_mark resume_mark(const struct resume *r, size_t stream);
struct stream_mark resume_base(const struct resume *r, size_t stream);
/* --consume: who consumes, according to the checkpoint (NULL: there is none); from now on according to every one, the first of which
 * is written here if there was none; and where a dataset of which nothing was written yet begins. */
const char *resume_consumer(const struct resume *r);
struct fault *resume_set_consumer(struct resume *r, const char *who) MUST_CHECK;
void resume_set_place(struct resume *r, size_t stream, const struct stream_mark *base, const struct stream_mark *at);
struct merge_past resume_past(const struct resume *r);

/* Is it time for a checkpoint, with so many bytes written or appended? */
bool resume_is_due(const struct resume *r, uint64_t bytes);
/* Syncs the output and writes a checkpoint. The sink must have nothing pending. After a fault no further one is written: the last one
 * that worked stays. */
struct fault *resume_save(struct resume *r, const struct merge *m) MUST_CHECK;
/* The same, as complete: before sink_finish(). */
struct fault *resume_complete(struct resume *r, const struct merge *m) MUST_CHECK;
/* After sink_finish(): removes the checkpoint, unless another merger has begun to write FILE meanwhile, whose it is then. */
struct fault *resume_remove(struct resume *r) MUST_CHECK;

/* The merge did not begin: a checkpoint that only this process has written goes. */
void resume_forget(struct resume *r);

/* After that fault: says what is kept, if anything is. */
void resume_tell(const struct resume *r, const struct fault *fault);

#endif
