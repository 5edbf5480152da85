/*
 * batch.h - the items of one LRANGE reply in one block of memory.
 *
 * One malloc per element costs 87 to 143 ns an item (hiredis's own reply objects, measured). Here each item is copied into the
 * block as it is decoded, with the separator behind it, so that any run of items is one piece of output:
 *
 *     bytes   a p p l e \n p e a r \n p l u m \n
 *     ends              6          11         16        item i is bytes[ends[i-1] .. ends[i] - 1), without separator
 */
#ifndef NWM_BATCH_H
#define NWM_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct batch {
    int type; /* BATCH_TYPE: tells a batch from a redisReply, which begins with its type too */
    uint32_t count;
    uint32_t want;
    uint32_t *ends;
    char *bytes;
    size_t used, capacity;
    size_t most; /* capacity stays within this as long as the items do */
};

enum { BATCH_TYPE = 0x6e776d };

static inline const char *batch_item(const struct batch *b, uint32_t i, size_t *len)
{
    uint32_t start = i ? b->ends[i - 1] : 0;
    *len = b->ends[i] - start - 1;
    return b->bytes + start;
}

/* Where item i begins in bytes; batch_start(b, count) is the end. */
static inline size_t batch_start(const struct batch *b, uint32_t i) { return i ? b->ends[i - 1] : 0; }

/* An empty batch with room for count items. want: how many were asked for. bytes_hint: what their bytes are expected to come to;
 * memory_most: what batch_memory() may come to, if the items fit into that (0: no matter). */
struct batch *batch_new(uint32_t want, uint32_t count, size_t bytes_hint, size_t memory_most);
void batch_free(struct batch *b);
/* Memory it occupies: block and index. */
size_t batch_memory(const struct batch *b);

/* Filling it, item by item; never more items than count. An item that comes in pieces is begun with its whole length, then its
 * bytes, then ended. False when the block would pass 4 GB, which its index cannot address. */
bool batch_begin_item(struct batch *b, size_t len);
void batch_add_bytes(struct batch *b, const char *data, size_t len);
void batch_end_item(struct batch *b, char separator);

/* Whether an item holds the separator itself, and which (index into *at). One pass over the block. */
bool batch_holds_separator(const struct batch *b, char separator, uint32_t *at);

#endif
