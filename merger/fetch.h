/*
 * fetch.h - what to ask for next: read-ahead for all streams under one memory cap.
 *
 * Each stream has a window, the bytes it may hold and have asked for. All windows together, with the fixed buffers, stay
 * under the cap whatever the items turn out to weigh, because a window is charged with the most a reply can hold.
 *
 *   - Windows start small, and so do batches, one stream after another: the first item comes quickly, `--limit 10` reads little, and with
 *     thousands of streams the merge is under way while what comes next is fetched. When the merge has used up a batch, the
 *     stream's window becomes what keeps the connection busy: streams that are not being consumed (disjoint ranges) keep their
 *     few items and cost nothing, and one that is followed alone has the connection for itself.
 *   - A stream the merge waits for, on a connection that is not busy, gets more: up to an even share of half the memory, and then
 *     of the other half as long as there is some; when it is used up, the others give theirs back.
 *   - What is on its way on a connection is what its server can send in two round trips, at most 8 MB, however many streams
 *     share it. The streams that the merge waits for go first, and may ask for one batch more than that.
 */
#ifndef NWM_FETCH_H
#define NWM_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "merger/stream.h"
#include "shared/fault.h"

struct fetch;

struct fetch_limits {
    size_t memory;       /* the cap of --memory, in bytes */
    size_t fixed;        /* of which taken elsewhere: output buffer, connections */
    size_t batch;        /* --batch: items a request, 0 = adapt */
    bool has_item_limit; /* --limit without -u: no stream is read further than this */
    uint64_t item_limit;
};

/* NoMemory, saying what suffices, when not even one item a stream fits. The streams stay the caller's and must outlive it. */
struct fault *fetch_new(struct stream **streams, size_t n, const struct fetch_limits *limits, struct fetch **out)
    MUST_CHECK;
void fetch_free(struct fetch *f);

/* The merge used up a batch of this stream. */
void fetch_consumed(struct fetch *f, size_t stream);
/* The merge waits for this stream. */
void fetch_stalled(struct fetch *f, size_t stream);
/* Something arrived: it may want to ask. */
void fetch_touch(struct fetch *f, size_t stream);
/* Its connection is a new one, in place of one that was lost (with all other streams of that server). It begins with a few items: a
 * connection that never lasts long still brings the merge on. */
void fetch_reconnected(struct fetch *f, size_t stream);

/* Asks for whatever may be asked for now. Once per turn of the loop; cheap when nothing changed. */
void fetch_ask(struct fetch *f);

#endif
