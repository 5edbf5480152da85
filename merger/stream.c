#include "merger/stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "merger/link.h"
#include "shared/dataset.h"
#include "shared/order.h"

enum {
    REPLY_LIMIT = 1000 * 1000,         /* no command moves more than 1 MB (or one item, and what is around it) */
    AROUND = 256 * 1024,               /* the most that may come with an item that is larger than that */
    ITEM_PROTOCOL = 16,                /* "$123456\r\n…\r\n" around an item */
    ITEM_INDEX = 1 + sizeof(uint32_t), /* the separator and the entry in the index */
    UNKNOWN_ITEM = 256,                /* what an item of a plain list is taken to weigh before any was seen */
};

/* A manifest is what others wrote: sums of its numbers stay below this, so that they cannot overflow. */
#define ABSURD (UINT64_MAX / 4)

struct arrived {
    struct arrived *next;
    struct batch *batch;
    uint32_t from;
    uint64_t number;
    struct stream_mark after; /* the place behind it */
};

/* One range that is out: what it will bring. */
struct asked {
    struct asked *next;
    uint64_t start, n; /* new items; one more is re-read unless start is 0 */
    size_t reserved;
};

struct stream {
    struct stream_spec spec;
    char separator;
    struct link *link;
    enum stream_state state;
    struct fault *fault;

    uint64_t asked_items, arrived_items, taken_items;
    struct asked *out_first, *out_last;
    struct arrived *in_first, *in_last;
    size_t reserved, held;

    uint64_t seen_max;  /* the largest item so far; what plain lists are judged by */
    struct digest tail; /* of the last item that arrived */
    size_t tail_len;
    struct digest digest;
    struct stream_mark given;     /* the place behind the batch that was given out last, */
    struct stream_mark held_from; /* and the one before it */
    uint32_t held_first;          /* its first new item */
    struct stream_stats stats;
};

static char *copy_or_null(const char *text) { return text ? mem_strdup(text) : NULL; }

static void begin_at(struct stream *s, const struct stream_mark *from)
{
    s->asked_items = s->arrived_items = s->taken_items = from->items;
    s->digest = from->digest;
    s->tail = from->tail;
    s->tail_len = from->tail_len;
    s->stats.items = from->items;
    s->stats.bytes = from->bytes;
    s->given = *from;
    if (from->items == s->spec.items) s->state = STREAM_ENDED;
}

struct stream *stream_new(const struct stream_spec *spec, char separator)
{
    struct stream *s = mem_zalloc(sizeof *s);
    s->spec = *spec;
    s->spec.name = mem_strdup(spec->name);
    s->spec.tag = mem_strdup(spec->tag);
    s->spec.list = copy_or_null(spec->list);
    if (spec->first.data) s->spec.first.data = mem_dup(spec->first.data, spec->first.len);
    if (spec->last.data) s->spec.last.data = mem_dup(spec->last.data, spec->last.len);
    s->separator = separator;
    begin_at(s, &spec->from);
    return s;
}

void stream_free(struct stream *s)
{
    if (!s) return;
    while (s->in_first) {
        struct arrived *a = s->in_first;
        s->in_first = a->next;
        batch_free(a->batch);
        free(a);
    }
    while (s->out_first) {
        struct asked *a = s->out_first;
        s->out_first = a->next;
        free(a);
    }
    fault_free(s->fault);
    free((char *)s->spec.name);
    free((char *)s->spec.tag);
    free((char *)s->spec.list);
    free((char *)s->spec.first.data);
    free((char *)s->spec.last.data);
    free(s);
}

void stream_set_link(struct stream *s, struct link *l) { s->link = l; }
struct link *stream_link(const struct stream *s) { return s->link; }
const struct stream_spec *stream_spec(const struct stream *s) { return &s->spec; }
enum stream_state stream_state(const struct stream *s) { return s->state; }
const struct fault *stream_fault(const struct stream *s) { return s->fault; }
struct stream_stats *stream_stats(struct stream *s) { return &s->stats; }
const struct digest *stream_digest(const struct stream *s) { return &s->digest; }
uint64_t stream_unasked(const struct stream *s) { return s->spec.items - s->asked_items; }
size_t stream_memory(const struct stream *s) { return s->reserved + s->held; }
size_t stream_reserved(const struct stream *s) { return s->reserved; }

struct fault *stream_take_fault(struct stream *s)
{
    struct fault *fault = s->fault;
    s->fault = NULL;
    return fault;
}

void stream_fail(struct stream *s, struct fault *fault)
{
    if (s->state == STREAM_FAILED) {
        fault_free(fault);
        return;
    }
    s->state = STREAM_FAILED;
    s->fault = fault_about(fault, "%s", s->spec.name);
}

/* ---- how much ---------------------------------------------------------------------------------------------------- */

/* The most bytes that n neighbouring items can hold. The manifest's window bounds what its largest item alone would exaggerate. */
static uint64_t most_bytes(const struct stream *s, uint64_t n)
{
    const struct stream_spec *spec = &s->spec;
    uint64_t max = spec->max_item ? spec->max_item : s->seen_max ? 2 * s->seen_max : UNKNOWN_ITEM;
    uint64_t most;
    if (__builtin_mul_overflow(n, max, &most)) most = UINT64_MAX;
    if (spec->max_window > 0) {
        uint64_t windows = (n + DATASET_WINDOW - 1) / DATASET_WINDOW;
        if (windows < most / spec->max_window) most = windows * spec->max_window;
    }
    if (!spec->is_plain && most > spec->bytes) most = spec->bytes;
    return most < ABSURD ? most : ABSURD;
}

size_t stream_weight(const struct stream *s, uint64_t n)
{
    uint64_t count = n + (s->asked_items > 0);
    uint64_t index = count < ABSURD / ITEM_INDEX ? count * ITEM_INDEX : ABSURD;
    return (size_t)(most_bytes(s, count) + index + sizeof(struct batch));
}

static uint64_t typical_item(const struct stream *s)
{
    if (s->spec.is_plain) return s->stats.items ? s->stats.bytes / s->stats.items : UNKNOWN_ITEM;
    uint64_t typical = s->spec.items ? s->spec.bytes / s->spec.items : 0;
    return typical < ABSURD ? typical : ABSURD;
}

/* One item beyond the limit must not make every request of its list one for a single item: three of 1 MB among 600,000 small
 * ones took 23 s then, and 0.2 s with their neighbours around them (measured). */
static uint64_t reply_limit(const struct stream *s)
{
    uint64_t max = s->spec.max_item < ABSURD ? s->spec.max_item : ABSURD;
    return max + AROUND > REPLY_LIMIT ? max + AROUND : REPLY_LIMIT;
}

/* The largest n with most_bytes(n) and the protocol around it within one reply's limit. */
static uint64_t items_in_reply(const struct stream *s)
{
    uint64_t limit = reply_limit(s);
    uint64_t low = 1, high = REPLY_LIMIT / ITEM_PROTOCOL;
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (most_bytes(s, middle + 1) + (middle + 1) * ITEM_PROTOCOL <= limit) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

uint64_t stream_items_in(const struct stream *s, size_t bytes)
{
    uint64_t n = bytes / (typical_item(s) + ITEM_INDEX);
    uint64_t limit = items_in_reply(s);
    if (n > limit) n = limit;
    return n ? n : 1;
}

/* ---- arrival ----------------------------------------------------------------------------------------------------- */

static void digest_of(const char *item, size_t len, struct digest *out)
{
    *out = (struct digest){0, 0};
    digest_add_item(out, item, len);
}

static bool is_edge(struct bytes edge, const char *item, size_t len)
{
    size_t shown = len < DATASET_EDGE_MAX ? len : DATASET_EDGE_MAX;
    return edge.len == shown && memcmp(edge.data, item, shown) == 0;
}

static struct fault *changed(const struct stream *s, uint64_t item, const char *how)
{
    return fault_new(FAULT_CHANGED, "item %" PRIu64 " of list %s %s: the list was changed after it was ready", item,
                     s->spec.list, how);
}

static struct fault *check_count(const struct stream *s, const struct asked *a, const struct batch *b)
{
    uint64_t want = a->n + (a->start > 0);
    if (b->count == want) return NULL;
    if (b->count == 0)
        return fault_new(FAULT_VANISHED,
                         "list %s is gone after %" PRIu64 " of %" PRIu64
                         " items: dropped, expired, or replaced by a new load",
                         s->spec.list, a->start, s->spec.items);
    return fault_new(FAULT_CHANGED,
                     "list %s brought %" PRIu32 " items where %" PRIu64 " were asked for (from item %" PRIu64
                     " of %" PRIu64 "): the list was changed after it was ready",
                     s->spec.list, b->count, want, a->start + (a->start == 0), s->spec.items);
}

static struct fault *check_re_read(const struct stream *s, const struct batch *b)
{
    size_t len;
    const char *item = batch_item(b, 0, &len);
    struct digest now;
    digest_of(item, len, &now);
    if (len == s->tail_len && digest_equal(&now, &s->tail)) return NULL;
    return changed(s, s->arrived_items, "is no longer what it was");
}

static struct fault *check_edges(const struct stream *s, const struct asked *a, const struct batch *b, uint32_t from)
{
    size_t len;
    const char *item = batch_item(b, from, &len);
    if (a->start == 0 && s->spec.first.data && !is_edge(s->spec.first, item, len))
        return changed(s, 1, "is not the first item of the manifest");
    item = batch_item(b, b->count - 1, &len);
    if (a->start + a->n == s->spec.items && s->spec.last.data && !is_edge(s->spec.last, item, len))
        return changed(s, s->spec.items, "is not the last item of the manifest");
    return NULL;
}

static struct fault *check_separator(const struct stream *s, const struct asked *a, const struct batch *b,
                                     uint32_t from)
{
    uint32_t at;
    if (!batch_holds_separator(b, s->separator, &at)) return NULL;
    size_t len;
    const char *item = batch_item(b, at, &len);
    char *quoted = mem_quote(item, len);
    struct fault *fault =
        fault_new(FAULT_BAD_ITEM, "item %" PRIu64 " %s holds %s, which separates items in the output; %s",
                  a->start + 1 + at - from, quoted, s->separator ? "a newline" : "a NUL byte",
                  s->separator ? "merge with -z, which separates by NUL bytes" : "merge without -z");
    free(quoted);
    return fault;
}

/* What arrived so far, as a place. */
static struct stream_mark mark_of_arrived(const struct stream *s)
{
    return (struct stream_mark){
        .items = s->stats.items,
        .bytes = s->stats.bytes,
        .digest = s->digest,
        .tail = s->tail,
        .tail_len = s->tail_len,
    };
}

/* One pass over the new items while they are in the cache: digest, sizes. */
static void take_stock(struct stream *s, const struct batch *b, uint32_t from)
{
    size_t len = 0;
    const char *item = NULL;
    for (uint32_t i = from; i < b->count; i++) {
        item = batch_item(b, i, &len);
        digest_add_item(&s->digest, item, len);
        if (len > s->seen_max) s->seen_max = len;
        s->stats.bytes += len;
    }
    s->tail_len = len;
    digest_of(item, len, &s->tail);
    s->stats.items += b->count - from;
    s->stats.batches++;
}

static struct fault *check_whole(const struct stream *s)
{
    if (s->arrived_items < s->spec.items) return NULL;
    if (!s->spec.is_plain && s->stats.bytes != s->spec.bytes)
        return fault_new(FAULT_CHANGED, "list %s holds %" PRIu64 " bytes where the manifest says %" PRIu64,
                         s->spec.list, s->stats.bytes, s->spec.bytes);
    if (s->spec.has_digest && !digest_equal(&s->digest, &s->spec.digest)) {
        char now[DIGEST_TEXT], then[DIGEST_TEXT];
        digest_text(&s->digest, now);
        digest_text(&s->spec.digest, then);
        return fault_new(FAULT_MISMATCH,
                         "the items of list %s have digest %s where the manifest says %s: an item was changed",
                         s->spec.list, now, then);
    }
    return NULL;
}

static struct fault *accept(struct stream *s, const struct asked *a, struct batch *b)
{
    uint32_t from = a->start > 0;
    struct fault *fault = check_count(s, a, b);
    if (!fault && from) fault = check_re_read(s, b);
    if (!fault) fault = check_separator(s, a, b, from);
    if (!fault) fault = check_edges(s, a, b, from);
    if (fault) return fault;
    take_stock(s, b, from);
    s->arrived_items += a->n;
    fault = check_whole(s);
    if (fault) return fault;

    struct arrived *in = mem_zalloc(sizeof *in);
    *in = (struct arrived){.batch = b, .from = from, .number = a->start + 1, .after = mark_of_arrived(s)};
    if (s->in_last) {
        s->in_last->next = in;
    } else {
        s->in_first = in;
    }
    s->in_last = in;
    s->held += batch_memory(b);
    return NULL;
}

static struct asked *pop_asked(struct stream *s)
{
    struct asked *a = s->out_first;
    s->out_first = a->next;
    if (!s->out_first) s->out_last = NULL;
    s->reserved -= a->reserved;
    return a;
}

/* To be asked again; those behind it come back as well, for the link is down. */
static void put_back(struct stream *s, const struct asked *a)
{
    if (a->start < s->asked_items) s->asked_items = a->start;
}

/* The link's callback. An error reply fails the stream, or where it may pass, the link; a dead link puts the range back to be asked
 * again. */
static void on_reply(void *owner, void *reply)
{
    struct stream *s = owner;
    struct asked *a = pop_asked(s);
    struct fault *fault = NULL;
    if (!reply) {
        put_back(s, a);
    } else if (s->state != STREAM_OPEN) {
        decoded_free(reply);
    } else if (decoded_is_batch(reply)) {
        fault = accept(s, a, reply);
        if (fault) decoded_free(reply);
    } else {
        char *doing = mem_printf("LRANGE %s", s->spec.list);
        fault = reply_fault(reply, doing);
        if (!fault)
            fault = fault_new(FAULT_PROTOCOL, "LRANGE %s was answered with something that is no list", s->spec.list);
        free(doing);
        decoded_free(reply);
    }
    if (fault && fault_may_pass(fault)) {
        put_back(s, a);
        link_break(s->link, fault);
    } else if (fault) {
        fault_frame(fault, "read items %" PRIu64 " to %" PRIu64 " of %s", a->start + 1, a->start + a->n, s->spec.name);
        stream_fail(s, fault);
    }
    free(a);
}

/* ---- asking and giving ------------------------------------------------------------------------------------------- */

void stream_ask(struct stream *s, uint64_t n)
{
    struct asked *a = mem_zalloc(sizeof *a);
    *a = (struct asked){.start = s->asked_items, .n = n, .reserved = stream_weight(s, n)};
    if (s->out_last) {
        s->out_last->next = a;
    } else {
        s->out_first = a;
    }
    s->out_last = a;
    s->reserved += a->reserved;
    uint64_t first = a->start > 0 ? a->start - 1 : 0;
    size_t hint = (size_t)((n + 1) * typical_item(s) + (n + 1) * typical_item(s) / 8);
    if (hint > a->reserved) hint = a->reserved;
    s->asked_items += n;
    struct expectation reply = {
        .want = (uint32_t)(n + a->start - first),
        .max_item = s->spec.max_item,
        .bytes_hint = hint,
        .memory_most = a->reserved,
    };
    /* Whatever was trimmed off the head, the distance from the end stays what it is. */
    int64_t origin = s->spec.from_end ? (int64_t)s->spec.items : 0;
    link_ask_range(s->link, s->spec.list, (int64_t)first - origin, (int64_t)(a->start + n - 1) - origin, &reply,
                   on_reply, s);
}

enum stream_next stream_next(struct stream *s, struct batch **batch, uint32_t *from, uint64_t *number)
{
    struct arrived *a = s->in_first;
    if (a) {
        s->in_first = a->next;
        if (!s->in_first) s->in_last = NULL;
        *batch = a->batch;
        *from = a->from;
        *number = a->number;
        s->taken_items += a->batch->count - a->from;
        s->held_from = s->given;
        s->held_first = a->from;
        s->given = a->after;
        free(a);
        return STREAM_BATCH;
    }
    if (s->state == STREAM_FAILED) return STREAM_FAULT;
    if (s->taken_items < s->spec.items) return STREAM_WAIT;
    s->state = STREAM_ENDED;
    return STREAM_END;
}

void stream_return(struct stream *s, struct batch *batch)
{
    s->held -= batch_memory(batch);
    batch_free(batch);
}

struct stream_mark stream_mark(const struct stream *s, const struct batch *batch, uint32_t next)
{
    if (!batch || next == batch->count) return s->given;
    struct stream_mark mark = s->held_from;
    for (uint32_t i = s->held_first; i < next; i++) {
        size_t len;
        const char *item = batch_item(batch, i, &len);
        digest_add_item(&mark.digest, item, len);
        mark.bytes += len;
        mark.items++;
        if (i + 1 < next) continue;
        digest_of(item, len, &mark.tail);
        mark.tail_len = len;
    }
    return mark;
}
