#include "merger/heap.h"

#include <stdlib.h>

#include "shared/mem.h"
#include "shared/order.h"

/* Marks the entry of a stream that takes no part: its key is the largest there is, and it comes behind all that have the same. */
#define ABSENT (UINT32_C(1) << 31)

/*
 * Leaf s of the tournament is node size_t(n + s), its parent is half of that, node 1 is the final. A node keeps who lost there and
 * entries[0] keeps who lost nowhere, so every stream is in exactly one entry.
 */
struct heap {
    struct heap_entry *entries;
    struct heap_entry *draw; /* 2n: who plays and who won, while a tournament is played from the start */
    size_t n, size;
    heap_tie_fn *tie;
    void *context;
};

static struct heap_entry absent(size_t stream) { return (struct heap_entry){UINT64_MAX, ABSENT | (uint32_t)stream}; }

struct heap *heap_new(size_t streams, heap_tie_fn *tie, void *context)
{
    struct heap *h = mem_zalloc(sizeof *h);
    h->entries = mem_array(NULL, streams + 1, sizeof *h->entries);
    h->draw = mem_array(NULL, 2 * streams + 1, sizeof *h->draw);
    h->n = streams;
    h->tie = tie;
    h->context = context;
    for (size_t i = 0; i < streams; i++) h->draw[streams + i] = absent(i);
    return h;
}

void heap_free(struct heap *h)
{
    if (!h) return;
    free(h->entries);
    free(h->draw);
    free(h);
}

size_t heap_size(const struct heap *h) { return h->size; }

/* Out of line: ties are rare where keys differ, and where they are not the callback dominates. */
static __attribute__((noinline)) bool tie_before(const struct heap *h, struct heap_entry a, struct heap_entry b)
{
    if (norm_is_exact(a.key) || !h->tie || (a.stream | b.stream) & ABSENT) return a.stream < b.stream;
    return h->tie(h->context, a.stream, b.stream);
}

static inline bool before(const struct heap *h, struct heap_entry a, struct heap_entry b)
{
    if (__builtin_expect(a.key != b.key, 1)) return a.key < b.key;
    return tie_before(h, a, b);
}

bool heap_before(const struct heap *h, struct heap_entry a, struct heap_entry b) { return before(h, a, b); }

void heap_enter(struct heap *h, uint64_t key, uint32_t stream)
{
    h->draw[h->n + stream] = (struct heap_entry){key, stream};
    h->size++;
}

void heap_play(struct heap *h)
{
    struct heap_entry *winners = h->draw;
    for (size_t node = h->n; node-- > 1;) {
        struct heap_entry a = winners[2 * node], b = winners[2 * node + 1];
        bool b_wins = before(h, b, a);
        winners[node] = b_wins ? b : a;
        h->entries[node] = b_wins ? a : b;
    }
    if (h->n > 0) h->entries[0] = winners[1];
}

/*
 * The winner's place is taken by e, which plays those who lost against it, from its leaf up. Who wins cannot be predicted, so
 * winner and loser change places by arithmetic, not by a branch.
 */
static inline void replay(struct heap *h, struct heap_entry e, uint32_t leaf)
{
    for (size_t node = (h->n + leaf) / 2; node > 0; node /= 2) {
        struct heap_entry *loser = &h->entries[node];
        uint64_t change = -(uint64_t)(loser->key < e.key);
        if (__builtin_expect(loser->key == e.key, 0)) change = -(uint64_t)tie_before(h, *loser, e);
        uint64_t key = (loser->key ^ e.key) & change;
        uint32_t stream = (loser->stream ^ e.stream) & (uint32_t)change;
        loser->key ^= key, e.key ^= key;
        loser->stream ^= stream, e.stream ^= stream;
    }
    h->entries[0] = e;
}

struct heap_entry heap_top(const struct heap *h) { return h->entries[0]; }

bool heap_second(const struct heap *h, struct heap_entry *second)
{
    if (h->size < 2) return false;
    *second = absent(0);
    for (size_t node = (h->n + h->entries[0].stream) / 2; node > 0; node /= 2)
        if (before(h, h->entries[node], *second)) *second = h->entries[node];
    return true;
}

uint32_t heap_contender(const struct heap *h, size_t i) { return h->entries[i].stream & ~ABSENT; }

void heap_replace_top(struct heap *h, uint64_t key)
{
    uint32_t stream = h->entries[0].stream;
    replay(h, (struct heap_entry){key, stream}, stream);
}

void heap_pop(struct heap *h)
{
    uint32_t stream = h->entries[0].stream;
    h->size--;
    replay(h, absent(stream), stream);
}

void heap_rekey(struct heap *h, uint64_t (*key_of)(void *context, uint32_t stream), void *context)
{
    for (size_t i = 0; i < h->n; i++) {
        struct heap_entry e = h->entries[i];
        if (!(e.stream & ABSENT)) e.key = key_of(context, e.stream);
        h->draw[h->n + (e.stream & ~ABSENT)] = e;
    }
    heap_play(h);
}
