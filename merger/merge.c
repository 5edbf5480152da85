#include "merger/merge.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "merger/batch.h"
#include "merger/heap.h"
#include "merger/keys.h"
#include "shared/mem.h"

/* Where items are written one by one (--tag, -u), a run ends here, so that it fits into a sink that has room. */
enum { PIECE_BYTES = 64 * 1024 };

/* How far a front knows its items ahead. Norms are made and checked in one go, not one between two matches of the tournament: fewer
 * guesses of the processor go wrong (user time of N 39 to 28 ns an item, of L 56 to 45, of R 37 to 28, with the tournament). */
enum { AHEAD = 32 };
/* So many streams do not fit into the cache: contenders of the tournament that lost to the top so late are fetched before they are
 * asked for (K: user time 118 to 105 ns an item). */
enum { MANY = 256, LATE = 8 };

/* An item that was looked at: its norm, and where it is in the block, with its separator. */
struct seen {
    uint64_t norm;
    uint32_t begin, end;
};

/* The first item of a stream that is not written yet, and what is known of those behind it. */
struct front {
    const char *bytes;       /* of the batch */
    uint32_t next;           /* count: used up, the next batch is wanted */
    uint32_t known;          /* items next..known-1 were seen, and are in order: at least two, unless no more are */
    uint32_t count, from;    /* items of the batch, and the first new one of them */
    struct batch *batch;     /* NULL before the first one came */
    uint64_t number;         /* of item `from` in its dataset, from 1 */
    bool broken;             /* item `known` sorts before the one before it */
    bool left_out;           /* --partial: it failed in time, and is to end like one without items */
    struct batch *kept;      /* its batch then, which the heap still looks at */
    struct seen seen[AHEAD]; /* item i at i % AHEAD */
};

/* Where a stream's first item is, and what is known of the one behind it: what its front says, which is not in the cache either. */
struct place {
    const char *item;
    const struct seen *seen;
};

struct merge {
    struct merge_options options;
    struct stream **streams;
    struct front *fronts;
    uint64_t *upcoming; /* of each stream, the norm of the item behind its first one */
    struct place *
        places; /* of each stream, where there are MANY; at times of an item before, since they only tell what to fetch */
    size_t n;
    struct heap *heap;
    struct keys keys;
    bool is_bytes; /* order_is_bytes() */
    bool stale;    /* norms were made anew, and the heap does not know yet */
    bool runs;     /* the top is of the same stream as the one before: maybe it goes on like that */
    struct fetch *fetch;
    struct sink *sink;

    size_t begun; /* streams whose first item is here, or that are empty */
    bool playing; /* all of them, and they are in the heap */
    size_t waits_for;
    uint64_t items;  /* written */
    uint64_t walked; /* seen: with -u more than were written */
    uint64_t total;  /* of all streams that take part */
    size_t left_out; /* streams that do not */
    bool limited;

    struct buf last; /* -u: the item written last */
    uint64_t last_norm;
    bool has_last;
};

static inline struct seen *seen_at(struct front *f, uint32_t i) { return &f->seen[i % AHEAD]; }

static inline const char *item_at(struct front *f, uint32_t i, size_t *len)
{
    const struct seen *item = seen_at(f, i);
    *len = item->end - item->begin - 1;
    return f->bytes + item->begin;
}

static bool items_tie(void *context, uint32_t a, uint32_t b)
{
    struct merge *m = context;
    keys_tied(&m->keys);
    size_t alen, blen;
    const char *aitem = item_at(&m->fronts[a], m->fronts[a].next, &alen);
    const char *bitem = item_at(&m->fronts[b], m->fronts[b].next, &blen);
    int c = order_compare(m->options.order, aitem, alen, bitem, blen);
    return c != 0 ? c < 0 : a < b;
}

/* -u: what the next items are compared with. */
static void remember_last(struct merge *m, const char *item, size_t len, uint64_t norm)
{
    m->last.len = 0;
    buf_append(&m->last, item, len);
    m->last_norm = norm;
    m->has_last = true;
}

struct merge *merge_new(struct stream **streams, size_t n, struct fetch *fetch, struct sink *sink,
                        const struct merge_options *options)
{
    struct merge *m = mem_zalloc(sizeof *m);
    m->options = *options;
    m->streams = streams;
    m->n = n;
    m->fetch = fetch;
    m->sink = sink;
    m->fronts = mem_zalloc((n + 1) * sizeof *m->fronts);
    m->places = mem_zalloc((n + 1) * sizeof *m->places);
    m->upcoming = mem_zalloc((n + 1) * sizeof *m->upcoming);
    for (size_t i = 0; i < n; i++) m->total += stream_spec(streams[i])->items - stream_spec(streams[i])->base.items;
    m->items = options->past.items;
    m->walked = options->past.walked;
    struct bytes last = options->past.last;
    if (last.data) remember_last(m, last.data, last.len, order_norm(options->order, last.data, last.len, 0));
    m->is_bytes = order_is_bytes(options->order);
    m->heap = heap_new(n, items_tie, m);
    keys_init(&m->keys, options->order, n);
    return m;
}

void merge_free(struct merge *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->n; i++) {
        struct batch *b = m->fronts[i].batch ? m->fronts[i].batch : m->fronts[i].kept;
        if (b) stream_return(m->streams[i], b);
    }
    heap_free(m->heap);
    keys_fini(&m->keys);
    buf_free(&m->last);
    free(m->fronts);
    free(m->upcoming);
    free(m->places);
    free(m);
}

size_t merge_waits_for(const struct merge *m) { return m->waits_for; }
uint64_t merge_items(const struct merge *m) { return m->items; }
struct merge_past merge_past(const struct merge *m)
{
    struct merge_past past = {.items = m->items, .walked = m->walked};
    if (m->has_last) past.last = (struct bytes){.data = m->last.data ? m->last.data : "", .len = m->last.len};
    return past;
}

struct stream_mark merge_mark(const struct merge *m, size_t stream)
{
    const struct front *f = &m->fronts[stream];
    return stream_mark(m->streams[stream], f->batch, f->next);
}

bool merge_is_limited(const struct merge *m) { return m->limited; }
bool merge_left_out(const struct merge *m, size_t stream) { return m->fronts[stream].left_out; }
size_t merge_left_out_count(const struct merge *m) { return m->left_out; }

/* ---- normalised keys --------------------------------------------------------------------------------------------- */

static uint64_t front_norm(void *context, uint32_t stream)
{
    struct merge *m = context;
    struct front *f = &m->fronts[stream];
    return seen_at(f, f->next)->norm;
}

/* After the prefix became another: every norm that is known anew. The heap hears of it when its top is replaced. */
static void rekey(struct merge *m)
{
    m->stale = true;
    for (size_t s = 0; s < m->n; s++) {
        struct front *f = &m->fronts[s];
        for (uint32_t i = f->next; i < f->known; i++) {
            size_t len;
            const char *item = item_at(f, i, &len);
            keys_norm(&m->keys, item, len, &seen_at(f, i)->norm);
        }
        m->upcoming[s] = seen_at(f, f->next + 1)->norm;
    }
}

static __attribute__((noinline)) uint64_t norm_of_stranger(struct merge *m, const char *item, size_t len)
{
    keys_shorten(&m->keys, item, len);
    rekey(m);
    uint64_t norm = 0;
    keys_norm(&m->keys, item, len, &norm);
    return norm;
}

static inline uint64_t norm_of(struct merge *m, const char *item, size_t len)
{
    uint64_t norm;
    if (__builtin_expect(keys_norm(&m->keys, item, len, &norm), 1)) return norm;
    return norm_of_stranger(m, item, len);
}

static void replace_top(struct merge *m, uint64_t norm)
{
    if (__builtin_expect(!m->stale, 1)) {
        heap_replace_top(m->heap, norm);
    } else {
        heap_rekey(m->heap, front_norm, m);
        m->stale = false;
    }
}

/* What all items that have norms share becomes the prefix: items are sorted, so of each stream the first and the last decide. */
static void lengthen_prefix(struct merge *m)
{
    size_t before = m->keys.prefix.len;
    bool begun = false;
    for (size_t s = 0; s < m->n; s++) {
        struct front *f = &m->fronts[s];
        if (f->next == f->known) continue;
        const uint32_t ends[] = {f->next, f->known - 1};
        for (int e = 0; e < 2; e++) {
            size_t len;
            const char *item = item_at(f, ends[e], &len);
            if (begun) {
                keys_shorten(&m->keys, item, len);
            } else {
                keys_restart(&m->keys, item, len);
            }
            begun = true;
        }
    }
    if (m->keys.prefix.len <= before) m->keys.patience *= 2;
    rekey(m);
    heap_rekey(m->heap, front_norm, m);
    m->stale = false;
}

/* ---- order within a stream --------------------------------------------------------------------------------------- */

static void report_unsorted(struct merge *m, size_t stream, uint32_t at)
{
    const struct front *f = &m->fronts[stream];
    size_t len, before_len;
    const char *item = batch_item(f->batch, at, &len);
    const char *before = batch_item(f->batch, at - 1, &before_len);
    char *quoted = mem_quote(item, len), *before_quoted = mem_quote(before, before_len);
    uint64_t number = f->number + at - f->from;
    struct fault *fault =
        fault_new(FAULT_UNSORTED, "item %" PRIu64 " %s sorts before item %" PRIu64 " %s; sort the input with: %s",
                  number, quoted, number - 1, before_quoted, order_sort_command(m->options.order));
    fault_frame(fault, "check order %s at item %" PRIu64, order_name(m->options.order), number);
    fault_frame(fault, "merge list %s", stream_spec(m->streams[stream])->list);
    stream_fail(m->streams[stream], fault);
    free(quoted);
    free(before_quoted);
}

/* Item `at` follows at - 1; their norms do not tell. */
static __attribute__((noinline)) bool falls(struct merge *m, const struct front *f, uint32_t at)
{
    keys_tied(&m->keys);
    size_t len, before_len;
    const char *item = batch_item(f->batch, at, &len);
    const char *before = batch_item(f->batch, at - 1, &before_len);
    return order_compare(m->options.order, before, before_len, item, len) > 0;
}

/* Is item `at` in order behind the one before? */
static inline bool is_behind(struct merge *m, struct front *f, uint32_t at, uint64_t norm)
{
    if (at == f->next) return at == 0 || !falls(m, f, at); /* the one before was re-read, and is not among the seen */
    uint64_t before = seen_at(f, at - 1)->norm;
    return norm > before || (norm == before && (norm_is_exact(norm) || !falls(m, f, at)));
}

/* Item `at` of a batch, whose bytes are these: its norm, and whether it is in order. */
static inline uint64_t look_at(struct merge *m, struct front *f, uint32_t at, const char *item, size_t len)
{
    uint64_t norm;
    if (m->is_bytes && at > f->next) {
        const struct seen *before = seen_at(f, at - 1);
        if (order_norm_after(m->options.order, f->bytes + before->begin, before->end - before->begin - 1, item, len,
                             m->keys.prefix.len, &norm, &f->broken))
            return norm;
    }
    norm = norm_of(m, item, len);
    f->broken = !is_behind(m, f, at, norm);
    return norm;
}

/* Looks at the items that come, until AHEAD are known, and checks that they are in order. */
static __attribute__((noinline)) void look_ahead(struct merge *m, struct front *f)
{
    const uint32_t *ends = f->batch->ends;
    const uint32_t end = f->count - f->next < AHEAD ? f->count : f->next + AHEAD;
    uint32_t begin = (uint32_t)batch_start(f->batch, f->known);
    for (uint32_t i = f->known; i < end; f->known = ++i) {
        const uint32_t item_end = ends[i];
        uint64_t norm = look_at(m, f, i, f->bytes + begin, item_end - begin - 1);
        *seen_at(f, i) = (struct seen){norm, begin, item_end};
        if (__builtin_expect(f->broken, 0)) return;
        begin = item_end;
    }
}

/* ---- streams that are left out ----------------------------------------------------------------------------------- */

/* Nothing of it was written, nor, with -u, compared with what was. */
static bool is_untouched(const struct front *f)
{
    return !f->number || (f->number == 1 && f->batch && f->next == f->from);
}

/* False: there are too many already, or it is too late for this one. */
static bool leave_out(struct merge *m, size_t i)
{
    struct front *f = &m->fronts[i];
    if (m->left_out >= m->options.may_leave_out || !is_untouched(f)) return false;
    f->left_out = true;
    f->kept = f->batch;
    f->batch = NULL;
    f->count = f->next; /* used up: when the heap comes to it, it ends */
    m->total -= stream_spec(m->streams[i])->items;
    m->left_out++;
    return true;
}

/* Those that failed since the last turn, while their first batch waits for its turn. */
static void leave_out_failed(struct merge *m)
{
    for (size_t i = 0; i < m->n && m->left_out < m->options.may_leave_out; i++)
        if (stream_state(m->streams[i]) == STREAM_FAILED && !m->fronts[i].left_out) leave_out(m, i);
}

/* ---- the next batch of a stream ---------------------------------------------------------------------------------- */

/* Before anything is taken from a front: is there something it may take? */
static bool is_in_order(struct merge *m, size_t stream)
{
    const struct front *f = &m->fronts[stream];
    if (f->next < f->known || !f->broken) return true;
    report_unsorted(m, stream, f->known);
    return false;
}

/* Takes the next batch of a stream whose front is used up. STREAM_BATCH: its front is an item again. */
static enum stream_next refill(struct merge *m, size_t i)
{
    struct front *f = &m->fronts[i];
    if (f->left_out) return STREAM_END;
    if (f->batch) {
        stream_return(m->streams[i], f->batch);
        f->batch = NULL;
        f->next = f->known = f->count = 0;
        fetch_consumed(m->fetch, i);
    }
    struct batch *b;
    uint32_t from;
    uint64_t number;
    enum stream_next what = stream_next(m->streams[i], &b, &from, &number);
    if (what == STREAM_FAULT && leave_out(m, i)) return STREAM_END;
    if (what != STREAM_BATCH) return what;
    f->bytes = b->bytes;
    f->count = b->count;
    f->batch = b;
    f->number = number;
    f->from = f->next = f->known = from;
    look_ahead(m, f);
    m->upcoming[i] = seen_at(f, from + 1)->norm;
    return is_in_order(m, i) ? STREAM_BATCH : STREAM_FAULT;
}

/* Every stream must show its first item before the smallest is known. */
static enum stream_next begin_streams(struct merge *m)
{
    for (; m->begun < m->n; m->begun++) {
        enum stream_next what = refill(m, m->begun);
        if (what == STREAM_WAIT || what == STREAM_FAULT) {
            m->waits_for = m->begun;
            return what;
        }
    }
    if (m->playing) return STREAM_BATCH;
    m->playing = true;
    for (size_t i = 0; i < m->n; i++)
        if (m->fronts[i].batch) heap_enter(m->heap, front_norm(m, (uint32_t)i), (uint32_t)i);
    heap_play(m->heap);
    m->stale = false;
    return STREAM_BATCH;
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

/* Would item i of the top's stream come before the second smallest entry? */
static bool comes_first(struct merge *m, uint32_t stream, uint32_t i, struct heap_entry second)
{
    struct front *f = &m->fronts[stream];
    uint64_t norm = seen_at(f, i)->norm;
    if (norm != second.key) return norm < second.key;
    const uint32_t next = f->next;
    f->next = i; /* where the heap's tie-break looks */
    bool first = heap_before(m->heap, (struct heap_entry){norm, stream}, second);
    f->next = next;
    return first;
}

/* How far the top's stream can be followed: the first item that does not come before the second smallest entry, among those that
 * were seen, at most `most` items away. */
static uint32_t run_end(struct merge *m, uint32_t stream, uint64_t most)
{
    const struct front *f = &m->fronts[stream];
    uint32_t low = f->next + 1, high = most < f->known - f->next ? f->next + (uint32_t)most : f->known;
    struct heap_entry second;
    if (!heap_second(m->heap, &second)) return high;
    if (low == high || !comes_first(m, stream, low, second)) return low;
    if (comes_first(m, stream, high - 1, second)) return high;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (comes_first(m, stream, middle, second)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return high;
}

static bool repeats_last(struct merge *m, const char *item, size_t len)
{
    uint64_t norm = order_norm(m->options.order, item, len, 0);
    bool same = m->has_last && norm == m->last_norm &&
                (norm_is_exact(norm) || order_compare(m->options.order, m->last.data, m->last.len, item, len) == 0);
    if (!same) remember_last(m, item, len, norm);
    return same;
}

static void observe(struct merge *m, const struct batch *b, uint32_t from, uint32_t to)
{
    m->items += to - from;
    if (m->options.observer) m->options.observer(m->options.observer_context, b, from, to);
}

static bool at_limit(const struct merge *m) { return m->options.has_limit && m->items >= m->options.limit; }

static void write_singly(struct merge *m, size_t stream, struct front *f, uint32_t from, uint32_t to)
{
    const char *tag = stream_spec(m->streams[stream])->tag;
    for (uint32_t i = from; i < to && !at_limit(m); i++) {
        size_t len;
        const char *item = item_at(f, i, &len);
        if (m->options.unique && repeats_last(m, item, len)) continue;
        if (m->options.tag) {
            sink_append(m->sink, tag, strlen(tag));
            sink_append(m->sink, "\t", 1);
        }
        sink_append(m->sink, item, len + 1);
        observe(m, f->batch, i, i + 1);
    }
}

/* So many items may be written before the limit and the quota are looked at again. */
static uint64_t most_items(const struct merge *m, uint64_t quota)
{
    uint64_t left = m->options.has_limit ? m->options.limit - m->items : UINT64_MAX;
    return quota < left ? quota : left;
}

/* Where a run has to end that is written item by item. */
static uint32_t piece_end(const struct merge *m, size_t stream, uint32_t to)
{
    struct front *f = &m->fronts[stream];
    size_t begin = seen_at(f, f->next)->begin;
    size_t tag = m->options.tag ? strlen(stream_spec(m->streams[stream])->tag) + 1 : 0;
    while (to > f->next + 1 && seen_at(f, to - 1)->end - begin + (to - f->next) * tag > PIECE_BYTES) to--;
    return to;
}

/* With thousands of streams nothing of the next top is in the cache. What is of those that may be it soon is fetched. */
static inline void fetch_contenders(struct merge *m)
{
    for (size_t i = 1; i < LATE; i++) {
        uint32_t stream = heap_contender(m->heap, i);
        __builtin_prefetch(&m->fronts[stream]);
        __builtin_prefetch(m->places[stream].item);
        __builtin_prefetch(m->places[stream].seen);
    }
}

enum written { WRITTEN, WRITTEN_UP, WRITTEN_BROKEN };

/* Writes the run at the top: one item, unless its stream was the top before. Leaves the next item of the stream there, or its batch
 * used up. WRITTEN_BROKEN: the stream turned out to be unsorted behind what was written. */
static enum written write_run(struct merge *m, uint64_t quota)
{
    uint32_t stream = heap_top(m->heap).stream;
    struct front *f = &m->fronts[stream];
    uint64_t norm = m->upcoming[stream];
    const uint32_t from = f->next;
    uint32_t to = from + 1;
    if (from == f->count) return WRITTEN_UP;
    if (m->runs) to = run_end(m, stream, most_items(m, quota));
    if (m->options.tag || m->options.unique) {
        to = piece_end(m, stream, to);
        write_singly(m, stream, f, from, to);
    } else {
        uint32_t begin = seen_at(f, from)->begin;
        sink_append(m->sink, f->bytes + begin, seen_at(f, to - 1)->end - begin);
        observe(m, f->batch, from, to);
    }
    m->walked += to - from;
    f->next = to;
    if (to == f->count) return WRITTEN_UP;
    if (f->known - to < 2 && f->known < f->count && !f->broken) {
        look_ahead(m, f);
        norm = seen_at(f, to)->norm;
    }
    if (to == f->known) {
        report_unsorted(m, stream, to);
        return WRITTEN_BROKEN;
    }
    if (m->runs) norm = seen_at(f, to)->norm;
    m->upcoming[stream] = seen_at(f, to + 1)->norm;
    replace_top(m, norm);
    m->runs = heap_top(m->heap).stream == stream;
    if (m->n >= MANY) {
        m->places[stream] = (struct place){f->bytes + seen_at(f, to)->begin, seen_at(f, to + 1)};
        fetch_contenders(m);
    }
    return WRITTEN;
}

/* The top's stream has used up its batch: the next one, or its end. */
static enum stream_next refill_top(struct merge *m)
{
    uint32_t stream = heap_top(m->heap).stream;
    enum stream_next what = refill(m, stream);
    m->waits_for = stream;
    if (what == STREAM_BATCH) replace_top(m, front_norm(m, stream));
    if (what == STREAM_END) heap_pop(m->heap);
    return what;
}

static bool top_is_used_up(const struct merge *m)
{
    const struct front *f = &m->fronts[heap_top(m->heap).stream];
    return f->next == f->count;
}

/* Follows and writes runs for as long as nothing has to be asked for. False: a stream turned out to be unsorted. */
static bool write_runs(struct merge *m, uint64_t until)
{
    enum written what = WRITTEN;
    while (what == WRITTEN && m->walked < until && !at_limit(m) && sink_has_room(m->sink))
        what = write_run(m, until - m->walked);
    return what != WRITTEN_BROKEN;
}

enum merge_turn merge_turn(struct merge *m, uint64_t quota)
{
    uint64_t until = m->walked + quota;
    if (m->options.may_leave_out > 0) leave_out_failed(m);
    /* Before anything is waited for: of a limit of 0 nothing was asked. */
    enum stream_next what = at_limit(m) ? STREAM_END : begin_streams(m);
    bool all_have_items = m->begun == m->n && heap_size(m->heap) > 0 && !top_is_used_up(m);
    if (all_have_items && keys_want_longer(&m->keys)) lengthen_prefix(m);
    while (what != STREAM_WAIT && what != STREAM_FAULT) {
        if (!sink_has_room(m->sink)) return MERGE_BLOCKED;
        if (at_limit(m)) {
            m->limited = m->walked < m->total;
            return MERGE_DONE;
        }
        if (heap_size(m->heap) == 0) return MERGE_DONE;
        if (top_is_used_up(m)) {
            what = refill_top(m);
        } else if (m->walked >= until) {
            return MERGE_MORE;
        } else if (!write_runs(m, until)) {
            return MERGE_FAILED;
        }
    }
    return what == STREAM_WAIT ? MERGE_DRY : MERGE_FAILED;
}
