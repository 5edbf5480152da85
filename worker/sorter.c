#include "worker/sorter.h"

#include <stdlib.h>
#include <string.h>

/* Items are copied into chunks of memory that never move; a larger item gets one of its own. */
enum { CHUNK = 1 << 20, SMALL_RUN = 8, BEAT_EVERY = 1 << 16 };

struct entry {
    uint64_t norm;
    const char *data;
    size_t len;
};

struct chunk {
    struct chunk *next;
    size_t used, cap;
    char data[];
};

struct sorter {
    const struct order *order;
    struct chunk *chunks;
    struct entry *entries;
    size_t count, cap, at;
};

struct sorter *sorter_new(const struct order *order)
{
    struct sorter *s = mem_zalloc(sizeof *s);
    s->order = order;
    return s;
}

void sorter_free(struct sorter *s)
{
    if (!s) return;
    for (struct chunk *c = s->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(s->entries);
    free(s);
}

static char *room(struct sorter *s, size_t len)
{
    struct chunk *c = s->chunks;
    if (!c || c->cap - c->used < len) {
        size_t cap = len > CHUNK ? len : CHUNK;
        c = mem_alloc(sizeof *c + cap);
        *c = (struct chunk){.next = s->chunks, .cap = cap};
        s->chunks = c;
    }
    char *at = c->data + c->used;
    c->used += len;
    return at;
}

void sorter_add(struct sorter *s, struct bytes item)
{
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1024;
        s->entries = mem_array(s->entries, s->cap, sizeof *s->entries);
    }
    char *copy = room(s, item.len);
    if (item.len > 0) memcpy(copy, item.data, item.len);
    s->entries[s->count++] = (struct entry){order_norm(s->order, copy, item.len, 0), copy, item.len};
}

/* Does b sort strictly before a? Then a stable sort must exchange them. */
static inline bool before(const struct order *o, const struct entry *b, const struct entry *a)
{
    if (b->norm != a->norm) return b->norm < a->norm;
    return !norm_is_exact(a->norm) && order_compare(o, b->data, b->len, a->data, a->len) < 0;
}

static void sort_small(const struct order *o, struct entry *e, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct entry moving = e[i];
        size_t j = i;
        for (; j > 0 && before(o, &moving, &e[j - 1]); j--) e[j] = e[j - 1];
        e[j] = moving;
    }
}

/* from[0..middle) and from[middle..n), both sorted, into to. */
static void merge(const struct order *o, const struct entry *from, size_t middle, size_t n, struct entry *to)
{
    size_t left = 0, right = middle;
    if (middle >= n || !before(o, &from[middle], &from[middle - 1])) {
        memcpy(to, from, n * sizeof *to);
        return;
    }
    while (left < middle && right < n) *to++ = before(o, &from[right], &from[left]) ? from[right++] : from[left++];
    memcpy(to, from + left, (middle - left) * sizeof *to);
    to += middle - left;
    memcpy(to, from + right, (n - right) * sizeof *to);
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* One round: pairs of neighbouring runs of `width` are merged from `from` into `to`. */
static struct fault *merge_runs(const struct sorter *s, const struct entry *from, struct entry *to, size_t width,
                                const struct pulse *p)
{
    size_t since_beat = 0;
    for (size_t at = 0; at < s->count; at += 2 * width) {
        size_t n = least(2 * width, s->count - at);
        merge(s->order, from + at, least(width, n), n, to + at);
        since_beat += n;
        if (since_beat < BEAT_EVERY) continue;
        since_beat = 0;
        struct fault *f = pulse_beat(p);
        if (f) return f;
    }
    return NULL;
}

/* A merge sort from the bottom up: stable, and the norms stand in the entries, so most comparisons touch no item. */
struct fault *sorter_sort(struct sorter *s, const struct pulse *p)
{
    for (size_t at = 0; at < s->count; at += SMALL_RUN)
        sort_small(s->order, s->entries + at, least(SMALL_RUN, s->count - at));
    struct entry *other = mem_array(NULL, s->count + 1, sizeof *other);
    struct fault *f = NULL;
    for (size_t width = SMALL_RUN; width < s->count; width *= 2) {
        f = merge_runs(s, s->entries, other, width, p);
        if (f) break; /* half of them have been copied: all are where they were */
        struct entry *sorted = other;
        other = s->entries;
        s->entries = sorted;
    }
    free(other);
    return f;
}

void sorter_rewind(struct sorter *s) { s->at = 0; }

bool sorter_next(struct sorter *s, struct bytes *item)
{
    if (s->at == s->count) return false;
    const struct entry *e = &s->entries[s->at++];
    *item = (struct bytes){e->data, e->len};
    return true;
}
