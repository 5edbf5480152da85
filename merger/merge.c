#include "merger/merge.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "merger/batch.h"
#include "merger/heap.h"
#include "merger/keys.h"
#include "shared/mem.h"

/* Where items are written one by one (--tag, -u), a run ends here, so that it fits into a sink that has room. */
enum { PIECE_ITEMS = 512, PIECE_BYTES = 64 * 1024 };

/* The first item of a stream that is not written yet, and where it is. */
struct front {
    struct batch *batch; /* NULL before the first one came */
    uint64_t norm;       /* of item next; of the last one when the batch is used up */
    uint32_t next;       /* view.count: used up, the next batch is wanted */
    uint32_t from;       /* the first new item of the batch */
    uint64_t number;     /* of item `from` in its dataset, from 1 */
    bool left_out;       /* --partial: it failed in time, and is to end like one without items */
    struct batch *kept;  /* its batch then, which the heap still looks at */
    struct batch
        view; /* a copy of *batch: with thousands of streams each look there is a cache miss (K: 15 % of the CPU) */
};

struct merge {
    struct merge_options options;
    struct stream **streams;
    struct front *fronts;
    size_t n;
    struct heap *heap;
    struct keys keys;
    uint64_t rekeyed; /* how often the keys were made anew */
    struct fetch *fetch;
    struct sink *sink;

    size_t begun; /* streams whose first item is in the heap, or that are empty */
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

static bool items_tie(void *context, uint32_t a, uint32_t b)
{
    struct merge *m = context;
    keys_tied(&m->keys);
    size_t alen, blen;
    const char *aitem = batch_item(&m->fronts[a].view, m->fronts[a].next, &alen);
    const char *bitem = batch_item(&m->fronts[b].view, m->fronts[b].next, &blen);
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
    for (size_t i = 0; i < n; i++) m->total += stream_spec(streams[i])->items;
    m->items = options->past.items;
    m->walked = options->past.walked;
    struct bytes last = options->past.last;
    if (last.data) remember_last(m, last.data, last.len, order_norm(options->order, last.data, last.len, 0));
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

static const char *front_item(const struct front *f, size_t *len)
{
    return batch_item(&f->view, f->next < f->view.count ? f->next : f->view.count - 1, len);
}

static uint64_t front_norm(void *context, uint32_t stream)
{
    struct merge *m = context;
    struct front *f = &m->fronts[stream];
    size_t len;
    const char *item = front_item(f, &len);
    keys_norm(&m->keys, item, len, &f->norm);
    return f->norm;
}

/* After the prefix became another: every key in the heap anew. Their order stays what it is. */
static void rekey(struct merge *m)
{
    m->rekeyed++;
    heap_rekey(m->heap, front_norm, m);
}

static __attribute__((noinline)) uint64_t norm_of_stranger(struct merge *m, const char *item, size_t len)
{
    keys_shorten(&m->keys, item, len);
    rekey(m);
    uint64_t norm = 0;
    keys_norm(&m->keys, item, len, &norm);
    return norm;
}

static inline uint64_t norm_of(struct merge *m, const struct batch *b, uint32_t i)
{
    size_t len;
    const char *item = batch_item(b, i, &len);
    uint64_t norm;
    if (__builtin_expect(keys_norm(&m->keys, item, len, &norm), 1)) return norm;
    return norm_of_stranger(m, item, len);
}

/* What all first items share becomes the prefix. */
static void lengthen_prefix(struct merge *m)
{
    size_t before = m->keys.prefix.len;
    bool begun = false;
    for (size_t i = 0; i < m->n; i++) {
        size_t len;
        if (!m->fronts[i].batch) continue;
        const char *item = front_item(&m->fronts[i], &len);
        if (begun) {
            keys_shorten(&m->keys, item, len);
        } else {
            keys_restart(&m->keys, item, len);
        }
        begun = true;
    }
    if (m->keys.prefix.len <= before) m->keys.patience *= 2;
    rekey(m);
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

/* Item `at` follows at - 1; their norms are equal or fall. */
static __attribute__((noinline)) bool falls(struct merge *m, const struct batch *b, uint32_t at, uint64_t before,
                                            uint64_t norm)
{
    if (norm < before) return true;
    if (norm_is_exact(norm)) return false;
    keys_tied(&m->keys);
    size_t len, before_len;
    const char *item = batch_item(b, at, &len);
    const char *before_item = batch_item(b, at - 1, &before_len);
    return order_compare(m->options.order, before_item, before_len, item, len) > 0;
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
    f->batch = NULL; /* used up: when the heap comes to it, it ends */
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

/* Takes the next batch of a stream whose front is used up. STREAM_BATCH: its front is an item again. */
static enum stream_next refill(struct merge *m, size_t i)
{
    struct front *f = &m->fronts[i];
    if (f->left_out) return STREAM_END;
    bool had_batch = f->batch != NULL;
    if (had_batch) {
        stream_return(m->streams[i], f->batch);
        f->batch = NULL;
        fetch_consumed(m->fetch, i);
    }
    enum stream_next what = stream_next(m->streams[i], &f->batch, &f->from, &f->number);
    if (what == STREAM_FAULT && leave_out(m, i)) return STREAM_END;
    if (what != STREAM_BATCH) return what;
    f->view = *f->batch;
    f->next = f->from;
    f->norm = norm_of(m, f->batch, f->next);
    if (f->from == 0) return STREAM_BATCH;
    uint64_t before = norm_of(m, f->batch, f->next - 1);
    f->norm = norm_of(m, f->batch, f->next); /* the one before may have changed the prefix */
    if (f->norm > before || !falls(m, f->batch, f->next, before, f->norm)) return STREAM_BATCH;
    report_unsorted(m, i, f->next);
    return STREAM_FAULT;
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
        if (what == STREAM_BATCH) heap_push(m->heap, m->fronts[m->begun].norm, (uint32_t)m->begun);
    }
    return STREAM_BATCH;
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

/* How far the top's stream can be followed: the first item from f->next on that does not come before the second smallest
 * entry, at most `most` items and bytes away. Leaves f->next and f->norm at that item, or f->next at the end of the batch.
 * False: the item at f->next is out of order. */
static bool follow(struct merge *m, struct heap_entry top, uint64_t most, size_t most_bytes)
{
    struct front *f = &m->fronts[top.stream];
    const struct batch *b = &f->view;
    struct heap_entry second = {UINT64_MAX, UINT32_MAX};
    bool alone = !heap_second(m->heap, &second);
    uint32_t start = f->next, i = start + 1;
    uint32_t stop = most < b->count - start ? start + (uint32_t)most : b->count;
    size_t begin = batch_start(b, start);
    uint64_t norm = f->norm, rekeyed = m->rekeyed;
    for (; i < b->count; i++) {
        uint64_t before = norm;
        norm = norm_of(m, b, i);
        if (__builtin_expect(rekeyed != m->rekeyed, 0)) {
            rekeyed = m->rekeyed;
            before = norm_of(m, b, i - 1);
            heap_second(m->heap, &second);
        }
        if (norm <= before && falls(m, b, i, before, norm)) {
            f->next = i;
            return false;
        }
        if (i >= stop || b->ends[i] - begin > most_bytes) break;
        if (norm < second.key) continue;
        if (norm > second.key && !alone) break;
        f->next = i; /* where the heap's tie-break looks */
        if (!alone && !heap_before(m->heap, (struct heap_entry){norm, top.stream}, second)) break;
    }
    f->next = i;
    f->norm = norm;
    return true;
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

static void write_singly(struct merge *m, size_t stream, const struct batch *b, uint32_t from, uint32_t to)
{
    const char *tag = stream_spec(m->streams[stream])->tag;
    for (uint32_t i = from; i < to && !at_limit(m); i++) {
        size_t len;
        const char *item = batch_item(b, i, &len);
        if (m->options.unique && repeats_last(m, item, len)) continue;
        if (m->options.tag) {
            sink_append(m->sink, tag, strlen(tag));
            sink_append(m->sink, "\t", 1);
        }
        sink_append(m->sink, item, len + 1);
        observe(m, b, i, i + 1);
    }
}

/* So many items, with their tags, fit into a piece. A plain list's tag is its key, of any length. */
static uint64_t items_in_piece(const struct merge *m, size_t stream)
{
    if (!m->options.tag) return PIECE_ITEMS;
    uint64_t n = PIECE_BYTES / (strlen(stream_spec(m->streams[stream])->tag) + 1);
    return n > PIECE_ITEMS ? PIECE_ITEMS : n > 0 ? n : 1;
}

/* Writes the run at the top. False: the stream turned out to be unsorted behind what was written. */
static bool write_run(struct merge *m, uint64_t quota)
{
    struct heap_entry top = heap_top(m->heap);
    struct front *f = &m->fronts[top.stream];
    const struct batch *b = &f->view;
    uint32_t from = f->next;
    bool singly = m->options.tag || m->options.unique;
    if (singly && quota > items_in_piece(m, top.stream)) quota = items_in_piece(m, top.stream);
    if (m->options.has_limit && quota > m->options.limit - m->items) quota = m->options.limit - m->items;
    bool sorted = follow(m, top, quota, singly ? PIECE_BYTES : SIZE_MAX);
    m->walked += f->next - from;
    if (singly) {
        write_singly(m, top.stream, b, from, f->next);
    } else {
        size_t begin = batch_start(b, from);
        sink_append(m->sink, b->bytes + begin, batch_start(b, f->next) - begin);
        observe(m, b, from, f->next);
    }
    if (!sorted) {
        report_unsorted(m, top.stream, f->next);
    } else if (f->next < b->count) {
        heap_replace_top(m->heap, f->norm);
    }
    return sorted;
}

/* The top's stream has used up its batch: the next one, or its end. */
static enum stream_next refill_top(struct merge *m)
{
    uint32_t stream = heap_top(m->heap).stream;
    enum stream_next what = refill(m, stream);
    m->waits_for = stream;
    if (what == STREAM_BATCH) heap_replace_top(m->heap, m->fronts[stream].norm);
    if (what == STREAM_END) heap_pop(m->heap);
    return what;
}

static bool top_is_used_up(const struct merge *m)
{
    const struct front *f = &m->fronts[heap_top(m->heap).stream];
    return !f->batch || f->next == f->view.count;
}

/* Follows and writes runs for as long as nothing has to be asked for. False: a stream turned out to be unsorted. */
static bool write_runs(struct merge *m, uint64_t until)
{
    while (m->walked < until && !at_limit(m) && sink_has_room(m->sink)) {
        if (!write_run(m, until - m->walked)) return false;
        if (top_is_used_up(m)) break;
    }
    return true;
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
