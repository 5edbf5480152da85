/*
 * heap.h - a min-heap of (normalised key, stream), made for merging: the smallest entry is replaced far more often than
 * entries come or go. It knows no Redis, no items and no event loop.
 *
 * It is kept as a tournament of losers (Knuth, The Art of Computer Programming 3, 5.4.1, "tree of losers"): the next item of the
 * winner's stream plays only those who lost against the one before, one comparison a level, and on a path that is known before the
 * first of them is made. Random keys, against a textbook heap that sifts down, ns an item (make bench ONLY=heap): 9 to 8 with
 * 2 streams, 12 to 15 with 8, 21 to 25 with 64, 23 to 28 with 512, 44 to 48 with 4,096. Where one stream's items come in runs, as in
 * clustered keys, a textbook heap stops at the top, and so does the merge, which asks for heap_second() and follows the run: 2 to 4, 3 to 5, 5
 * to 6, 8 to 7, 11 to 10.
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
