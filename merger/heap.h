/*
 * heap.h - a min-heap of (normalised key, stream), made for merging: the smallest entry is replaced far more often than
 * entries come or go. It knows no Redis, no items and no event loop.
 *
 * A replaced key sifts from the top down and stops where it belongs (Williams, "Algorithm 232: Heapsort", 1964), with the
 * smaller child computed instead of branched on. Sifting child-first, to a leaf and up again (Wegener, "Bottom-up heapsort", 1993),
 * saves comparisons but not time: on random keys it was up to 1.9 times slower, on clustered ones and few distinct ones, where the key
 * stays near the top, 2 to 7 times (make bench ONLY=heap).
 *
 * Entries whose keys are equal are told apart by the owner: exact keys (norm_is_exact) by the smaller stream number,
 * which is what makes the merge stable; inexact ones by a callback that compares the items themselves.
 */
#ifndef NWM_HEAP_H
#define NWM_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap;

struct heap_entry {
    uint64_t key;    /* order_norm() of the stream's first item */
    uint32_t stream; /* breaks ties: the smaller comes first */
};

/* Called for equal inexact keys of two different streams: does a's first item come before b's? Ties there are the callback's to
 * break too, by stream number. */
typedef bool heap_tie_fn(void *context, uint32_t a, uint32_t b);

struct heap *heap_new(size_t capacity, heap_tie_fn *tie, void *context);
void heap_free(struct heap *h);

size_t heap_size(const struct heap *h);
/* The capacity given at the start is the limit. */
void heap_push(struct heap *h, uint64_t key, uint32_t stream);
/* The smallest entry; only when there is one. */
struct heap_entry heap_top(const struct heap *h);
/* The smallest but for the top: what the top's stream may run up to. False when there is only one. */
bool heap_second(const struct heap *h, struct heap_entry *second);
/* Does entry a come before entry b? The same comparison the heap uses. */
bool heap_before(const struct heap *h, struct heap_entry a, struct heap_entry b);
/* The top's stream has moved on to a new first item, with this key. */
void heap_replace_top(struct heap *h, uint64_t key);
void heap_pop(struct heap *h);
/* New keys for the same items (another normalisation): the order of the entries must not change by it. */
void heap_rekey(struct heap *h, uint64_t (*key_of)(void *context, uint32_t stream), void *context);

#endif
