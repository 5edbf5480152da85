/*
 * heap.h - a min-heap of (normalised key, stream), made for merging: the smallest entry is replaced far more often than
 * entries come or go. It knows no Redis, no items and no event loop.
 *
 * It is kept as a tournament of losers (Knuth, The Art of Computer Programming 3, 5.4.1, "tree of losers"): the next item of the
 * winner's stream plays only those who lost against the one before, one comparison a level, and on a path that is known before the
 * first of them is made. The owner follows a run of one stream's items up to heap_second() and replaces the top once. Measured, ns an
 * item (make bench ONLY=heap):
 *
 *     k                                     2     8    64   512  4096
 *     random keys: this                   9.4  11.7  20.7  23.0  44.3
 *         textbook heap, sifting down     8.4  14.8  23.9  27.9  47.2
 *         std::priority_queue            18.3  30.3  43.7  44.8  61.7
 *     keys in runs (clustered): this      1.7   2.6   5.2   7.6  10.2
 *         textbook heap                   4.4   5.3   6.1   7.4   9.0
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

/* For streams 0 to streams - 1, at most 2^31; none has entered yet. */
struct heap *heap_new(size_t streams, heap_tie_fn *tie, void *context);
void heap_free(struct heap *h);

size_t heap_size(const struct heap *h);
/* Before the tournament begins: the stream takes part, once, with this key. */
void heap_enter(struct heap *h, uint64_t key, uint32_t stream);
/* After all have entered: now there is a top. */
void heap_play(struct heap *h);
/* The smallest entry; only when there is one. */
struct heap_entry heap_top(const struct heap *h);
/* The smallest but for the top: what the top's stream may run up to. False when there is only one. */
bool heap_second(const struct heap *h, struct heap_entry *second);
/* A stream that may be the top soon, the likelier the smaller i is, from 1 to the number of streams - 1. */
uint32_t heap_contender(const struct heap *h, size_t i);
/* Does entry a come before entry b? The same comparison the heap uses. */
bool heap_before(const struct heap *h, struct heap_entry a, struct heap_entry b);
/* The top's stream has moved on to a new first item, with this key. */
void heap_replace_top(struct heap *h, uint64_t key);
/* The top's stream has ended. */
void heap_pop(struct heap *h);
/* New keys for all that take part, the top's maybe for another item. */
void heap_rekey(struct heap *h, uint64_t (*key_of)(void *context, uint32_t stream), void *context);

#endif
