/*
 * stream.h - the remote iterator: one dataset, read lazily in batches, some of them ahead.
 *
 * A stream names its dataset, not a connection. It asks its link for ranges, in order, and hands the batches on in order:
 *
 *     given out         arrived           asked for         not asked for yet
 *     0 … taken         … arrived         … asked           … items
 *
 * Every range but the first begins one item early: the item before it must still be what it was (it is compared by length and
 * XXH3-128), and each batch must bring exactly the items asked for. So the end is never a guess: it is there when as many items
 * arrived as the manifest says, the first and the last are those the manifest shows, and the digest of all is the manifest's.
 * Everything else is Vanished, Changed or Mismatch.
 *
 *     OPEN ──all items taken──▶ ENDED
 *       └────anything wrong───▶ FAILED
 */
#ifndef NWM_STREAM_H
#define NWM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "merger/batch.h"
#include "shared/digest.h"
#include "shared/fault.h"
#include "shared/mem.h"

struct link;
struct stream;

/* A place between two items of a dataset, and what is known of the items before it. */
struct stream_mark {
    uint64_t items, bytes; /* before it; without separators */
    struct digest digest;  /* of them */
    struct digest tail;    /* of the one right before it */
    size_t tail_len;
};

/* What is known of a dataset before its first item. Strings are copied. */
struct stream_spec {
    const char *name; /* "demo:2", or the key of a plain list: for faults */
    const char *tag;  /* the id, for --tag */
    const char *list; /* the key of the items; may be NULL when there are none */
    uint64_t items;
    /* From the manifest, 0 when not known (plain lists). */
    uint64_t bytes, max_item, max_window;
    struct bytes first, last; /* data NULL when not known */
    bool has_digest;
    struct digest digest;
    bool is_plain;           /* a list no worker made */
    struct stream_mark from; /* where to begin: all zero, or where an earlier merge came to */
    struct stream_mark base; /* what is before this place is not the merge's, but was consumed before it began */
    bool from_end;           /* ranges count from the list's end: its head is being trimmed */
};

enum stream_state { STREAM_OPEN, STREAM_ENDED, STREAM_FAILED };

enum stream_next {
    STREAM_BATCH, /* here it is */
    STREAM_WAIT,  /* not arrived yet */
    STREAM_END,   /* every item was given out, and all that could be proven was */
    STREAM_FAULT, /* stream_fault() says why */
};

struct stream *stream_new(const struct stream_spec *spec, char separator);
void stream_free(struct stream *s);
/* The link it asks; may be replaced while nothing is outstanding. */
void stream_set_link(struct stream *s, struct link *l);
struct link *stream_link(const struct stream *s);

const struct stream_spec *stream_spec(const struct stream *s);
enum stream_state stream_state(const struct stream *s);
/* The fault of a failed stream; stays the stream's. */
const struct fault *stream_fault(const struct stream *s);
/* The same, now the caller's. */
struct fault *stream_take_fault(struct stream *s);
/* Ends it as failed; takes the fault. The first one stays. */
void stream_fail(struct stream *s, struct fault *fault);

/* Items not asked for yet. */
uint64_t stream_unasked(const struct stream *s);
/* Asks for the next n items (at most stream_unasked), reserving memory for them. */
void stream_ask(struct stream *s, uint64_t n);
/* The memory that n further items can come to hold at most, with what is re-read and the index; for plain lists an
 * estimate from what was seen. */
size_t stream_weight(const struct stream *s, uint64_t n);
/* Items that fit into so many bytes, at least 1: the typical item decides, and no more than can come to 1 MB. */
uint64_t stream_items_in(const struct stream *s, size_t bytes);
/* Bytes held or reserved: batches asked for, arrived, and given out but not returned. */
size_t stream_memory(const struct stream *s);
/* Of that: asked for and not here yet. */
size_t stream_reserved(const struct stream *s);

/* The next batch, now the caller's until stream_return(). Its items begin at *from (1 when item 0 is the one re-read, which
 * the caller may use to check order across the border); *number is the number of item *from in the dataset, from 1. */
enum stream_next stream_next(struct stream *s, struct batch **batch, uint32_t *from, uint64_t *number);
void stream_return(struct stream *s, struct batch *batch);
/* The place right before item `next` of the batch that was given out and not returned yet; with batch NULL (none is) the place behind
 * all that were given out. */
struct stream_mark stream_mark(const struct stream *s, const struct batch *batch, uint32_t next);

/* What --stats and the receipt tell. Times in ms. */
struct stream_stats {
    uint64_t items, bytes, batches;
    uint64_t stalls; /* how often the merge had to wait for this stream */
    uint64_t stalled_us;
};
struct stream_stats *stream_stats(struct stream *s);
const struct digest *stream_digest(const struct stream *s);

#endif
