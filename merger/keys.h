/*
 * keys.h - the normalised keys of a merge: order_norm() of each item, behind the prefix that all of them share.
 *
 * Log lines that begin with a timestamp agree in far more than the seven bytes a normalised key holds; every comparison would
 * be a tie and go to the items. So where keys are compared as bytes, what the streams' first keys have in common is skipped: norms
 * are taken of what comes behind it. When an item turns up that does not begin with the prefix, the prefix is shortened and the
 * owner makes its norms anew. Streams advance through the same range of keys together, so that is rare (once a second of
 * logs, say); many ties make the owner look for a longer prefix again.
 */
#ifndef NWM_KEYS_H
#define NWM_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/mem.h"
#include "shared/order.h"

/* Embedded by its owner; keys_init() and keys_fini(). */
struct keys {
    const struct order *order;
    struct buf prefix;
    uint64_t ties,
        patience; /* ties since the last change, and how many of them make a longer prefix worth looking for */
};

void keys_init(struct keys *k, const struct order *o, size_t streams);
void keys_fini(struct keys *k);

/* The norm of an item. False: its key does not begin with the prefix; keys_shorten() before asking again. */
static inline bool keys_norm(const struct keys *k, const char *item, size_t len, uint64_t *norm)
{
    if (k->prefix.len == 0) {
        *norm = order_norm(k->order, item, len, 0);
        return true;
    }
    return order_norm_behind(k->order, item, len, k->prefix.data, k->prefix.len, norm);
}

/* Cuts the prefix down to what this item's key shares with it. All norms have to be made anew. */
void keys_shorten(struct keys *k, const char *item, size_t len);

/* A tie had to be broken by comparing items. */
static inline void keys_tied(struct keys *k) { k->ties++; }
/* Have there been so many that a longer prefix should be looked for? */
static inline bool keys_want_longer(const struct keys *k) { return k->ties > k->patience; }
/* Begins a new prefix: the whole first key of this item; keys_shorten() with all others follows. */
void keys_restart(struct keys *k, const char *item, size_t len);

#endif
