#include "merger/heap.h"

#include <stdlib.h>

#include "shared/mem.h"
#include "shared/order.h"

struct heap {
    struct heap_entry *entries; /* entries[0] is the smallest; the children of i are 2i+1 and 2i+2 */
    size_t size, capacity;
    heap_tie_fn *tie;
    void *context;
};

struct heap *heap_new(size_t capacity, heap_tie_fn *tie, void *context)
{
    struct heap *h = mem_zalloc(sizeof *h);
    h->entries = mem_array(NULL, capacity ? capacity : 1, sizeof *h->entries);
    h->capacity = capacity;
    h->tie = tie;
    h->context = context;
    return h;
}

void heap_free(struct heap *h)
{
    if (!h) return;
    free(h->entries);
    free(h);
}

size_t heap_size(const struct heap *h) { return h->size; }

/* Out of line: ties are rare where keys differ, and where they are not the callback dominates. */
static __attribute__((noinline)) bool tie_before(const struct heap *h, struct heap_entry a, struct heap_entry b)
{
    if (norm_is_exact(a.key) || !h->tie) return a.stream < b.stream;
    return h->tie(h->context, a.stream, b.stream);
}

static inline bool before(const struct heap *h, struct heap_entry a, struct heap_entry b)
{
    if (__builtin_expect(a.key != b.key, 1)) return a.key < b.key;
    return tie_before(h, a, b);
}

bool heap_before(const struct heap *h, struct heap_entry a, struct heap_entry b) { return before(h, a, b); }

/* Lets entry e rise from the hole towards the root, as far as it belongs. */
static inline void rise(struct heap *h, size_t hole, struct heap_entry e)
{
    while (hole > 0) {
        size_t parent = (hole - 1) / 2;
        if (!before(h, e, h->entries[parent])) break;
        h->entries[hole] = h->entries[parent];
        hole = parent;
    }
    h->entries[hole] = e;
}

/* Puts e where the root was: from the top down, along the smaller children, as far as they come before it. Which child is the
 * smaller cannot be predicted, so it is computed, not branched on. */
static void sink_root(struct heap *h, struct heap_entry e)
{
    struct heap_entry *entries = h->entries;
    size_t hole = 0, size = h->size;
    for (size_t child = 1; child < size; child = 2 * hole + 1) {
        if (child + 1 < size) {
            uint64_t left = entries[child].key, right = entries[child + 1].key;
            size_t takes_right = right < left;
            if (__builtin_expect(left == right, 0)) takes_right = tie_before(h, entries[child + 1], entries[child]);
            child += takes_right;
        }
        if (!before(h, entries[child], e)) break;
        entries[hole] = entries[child];
        hole = child;
    }
    entries[hole] = e;
}

void heap_push(struct heap *h, uint64_t key, uint32_t stream)
{
    if (h->size == h->capacity) abort(); /* a bug of ours: the number of streams is known at the start */
    rise(h, h->size++, (struct heap_entry){key, stream});
}

struct heap_entry heap_top(const struct heap *h) { return h->entries[0]; }

bool heap_second(const struct heap *h, struct heap_entry *second)
{
    if (h->size < 2) return false;
    *second = h->entries[1];
    if (h->size > 2 && before(h, h->entries[2], *second)) *second = h->entries[2];
    return true;
}

void heap_replace_top(struct heap *h, uint64_t key) { sink_root(h, (struct heap_entry){key, h->entries[0].stream}); }

void heap_pop(struct heap *h)
{
    struct heap_entry last = h->entries[--h->size];
    if (h->size > 0) sink_root(h, last);
}

void heap_rekey(struct heap *h, uint64_t (*key_of)(void *context, uint32_t stream), void *context)
{
    for (size_t i = 0; i < h->size; i++) h->entries[i].key = key_of(context, h->entries[i].stream);
}
