/*
 * checkpoint.h - how far a merge came, as a file that another process can go on from: FILE.nwm-checkpoint.
 *
 * Text, a line each, "name=value", in a fixed order; the last line is the digest of all before it. Bytes that are no printable
 * ASCII, blanks and '%' stand as %XX. There is exactly one text for each checkpoint: whatever else is in the file is refused, so a
 * file that was cut, mixed or edited is never gone on from. No password and no URL is in it: tokens tell one load from another.
 */
#ifndef NWM_CHECKPOINT_H
#define NWM_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "merger/stream.h"
#include "shared/digest.h"
#include "shared/fault.h"
#include "shared/mem.h"

/* One dataset of the merge. */
struct checkpoint_stream {
    char *id, *token, *list;
    uint64_t run, items;     /* as in its manifest */
    struct stream_mark at;   /* what of it is in the output, */
    struct stream_mark base; /* but for what is before here (struct stream_spec); items and digest only */
};

/* All zero is a valid empty one. Strings and array belong to it. */
struct checkpoint {
    bool complete; /* everything is in the temporary, which only has to be renamed */
    char *job, *order;
    char *consumer; /* with --consume its token, else NULL */
    bool unique, tag;
    char separator;
    bool has_limit;
    uint64_t limit;
    uint64_t walked, items; /* seen, and written: struct merge_past */
    uint64_t bytes;         /* of the output */
    struct digest digest;   /* of those bytes */
    bool has_last;
    uint64_t last_len; /* -u: the length of the item written last, which is the end of the output */
    struct checkpoint_stream *streams;
    size_t count;
};

void checkpoint_fini(struct checkpoint *c);

/* As text, appended. */
void checkpoint_format(const struct checkpoint *c, struct buf *out);
/* Changed, saying which line is wrong, for everything checkpoint_format() would not have written. checkpoint_fini() in every case. */
struct fault *checkpoint_parse(struct checkpoint *c, const char *text, size_t len) MUST_CHECK;

/* Reads it. *found is false when there is no such file. Output when it cannot be read, else as checkpoint_parse(). */
struct fault *checkpoint_read(struct checkpoint *c, const char *path, bool *found) MUST_CHECK;
/* Replaces it, atomically: written into `aside`, synced, renamed. The directory is the caller's to sync. Output. */
struct fault *checkpoint_write(const struct checkpoint *c, const char *path, const char *aside) MUST_CHECK;

#endif
