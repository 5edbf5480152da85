#include "merger/keys.h"

void keys_init(struct keys *k, const struct order *o, size_t streams)
{
    *k = (struct keys){.order = o};
    /* Looking for a prefix costs about as much as one tie per stream. */
    k->patience = order_can_skip(o) ? 64 + 4 * streams : UINT64_MAX;
}

void keys_fini(struct keys *k) { buf_free(&k->prefix); }

static void first_key(const struct keys *k, const char *item, size_t len, struct bytes *key)
{
    order_first_key(k->order, item, len, &key->data, &key->len);
}

void keys_shorten(struct keys *k, const char *item, size_t len)
{
    struct bytes key;
    first_key(k, item, len, &key);
    size_t shared = 0;
    while (shared < k->prefix.len && shared < key.len && key.data[shared] == k->prefix.data[shared]) shared++;
    k->prefix.len = shared;
    k->ties = 0;
}

/* Longer than this only the comparison of the prefix itself would grow. */
enum { LONGEST_PREFIX = 256 };

void keys_restart(struct keys *k, const char *item, size_t len)
{
    struct bytes key;
    first_key(k, item, len, &key);
    k->prefix.len = 0;
    buf_append(&k->prefix, key.data, key.len < LONGEST_PREFIX ? key.len : LONGEST_PREFIX);
    k->ties = 0;
}
