/*
 * merge.h - streams → heap → sink: the merge itself. It knows no Redis and no event loop: it takes batches that have arrived
 * and stops when it would have to wait.
 *
 * The heap holds one entry a stream, keyed with the normalised key of its first item not yet written. The top's stream is
 * followed for as long as its items come before the second smallest entry: such a run is one piece of its block and goes to the
 * sink as one piece. Every item is compared with its predecessor in the stream, so a list that is not sorted is found when it
 * is read and never reaches the output unsorted.
 *
 * Equal keys keep the order of the streams, then of the items, as sort -s does.
 */
#ifndef NWM_MERGE_H
#define NWM_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "merger/fetch.h"
#include "merger/sink.h"
#include "merger/stream.h"
#include "shared/order.h"

struct merge;

/* Sees everything that is written, in order: items from..to-1 of the batch. For --verify. */
typedef void merge_observer(void *context, const struct batch *batch, uint32_t from, uint32_t to);

/* How far a merge came. */
struct merge_past {
    uint64_t items;    /* written */
    uint64_t walked;   /* seen: with -u more than were written */
    struct bytes last; /* -u: the item written last; data NULL when there is none, or without -u. Not owned */
};

struct merge_options {
    const struct order *order;
    bool unique; /* the first of equal keys only */
    bool tag;    /* the stream's tag and a tab before each item */
    bool has_limit;
    uint64_t limit;
    size_t may_leave_out;     /* --partial: so many streams may fail before any of their items was taken */
    merge_observer *observer; /* or NULL */
    void *observer_context;
    struct merge_past past; /* all zero, or what an earlier merge did that this one continues */
};

/* Streams, sink and fetch stay the caller's and must outlive the merge. Order of the streams breaks ties. */
struct merge *merge_new(struct stream **streams, size_t n, struct fetch *fetch, struct sink *sink,
                        const struct merge_options *options);
void merge_free(struct merge *m);

enum merge_turn {
    MERGE_MORE,    /* it could go on: the quota was used up */
    MERGE_DRY,     /* it needs a batch that is not here: merge_waits_for() */
    MERGE_BLOCKED, /* the sink is full */
    MERGE_DONE,    /* everything is in the sink, or the limit is reached */
    MERGE_FAILED,  /* a stream failed: its fault is the stream's, and nothing of it after the fault was written */
};

/* Merges at most `quota` items. Short turns keep the sockets served (unbounded ones: 180 ns an item against 146). */
enum merge_turn merge_turn(struct merge *m, uint64_t quota);
/* The stream a dry merge waits for. */
size_t merge_waits_for(const struct merge *m);
/* Items written. */
uint64_t merge_items(const struct merge *m);
/* How far it came, which is always between two items: all before is in the sink. `last` stays the merge's. */
struct merge_past merge_past(const struct merge *m);
/* The same of one stream: the place behind its last item that was written (or, with -u, left out). */
struct stream_mark merge_mark(const struct merge *m, size_t stream);
/* Did the limit end it, with items left? */
bool merge_is_limited(const struct merge *m);
/* Was this stream left out, having failed in time? Its fault stays with it. */
bool merge_left_out(const struct merge *m, size_t stream);
/* How many were. */
size_t merge_left_out_count(const struct merge *m);

#endif
