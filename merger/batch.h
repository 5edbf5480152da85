/*
 * batch.h - the items of one LRANGE reply, decoded straight into one block of memory.
 *
 * hiredis's own reply objects cost one malloc per element (87 to 143 ns an item, measured). Here the reader's reply functions
 * copy each element into the block as it is parsed and put the separator behind it (19 to 26 ns), so that any run of items
 * is one piece of output:
 *
 *     bytes   a p p l e \n p e a r \n p l u m \n
 *     ends              6          11         16        item i is bytes[ends[i-1] .. ends[i] - 1), without separator
 *
 * A decoder says what the next reply is to be: a batch of at most `want` items, or a generic reply, which hiredis's default
 * functions build. It refuses what was not asked for: more elements, nested arrays, elements that are no strings. Refusing
 * puts the reader into its error state, from which a connection does not come back: what a peer sends out of contract
 * ends the connection, and decoder_refusal() says why.
 */
#ifndef NWM_BATCH_H
#define NWM_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/redis_compat.h"

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

void batch_free(struct batch *b);
/* Memory it occupies: block and index. */
size_t batch_memory(const struct batch *b);
/* Whether an item holds the separator itself, and which (index into *at). One pass over the block. */
bool batch_holds_separator(const struct batch *b, char separator, uint32_t *at);

struct decoder;

/* Takes over the reader of a context (its functions and privdata). Freed after the context. */
struct decoder *decoder_new(redisReader *reader, char separator);
void decoder_free(struct decoder *d);
/* What the next reply is: set before hiredis is asked for it.
 * A batch: at most want items; bytes_hint is the expected size of the block, to size it in one go; memory_most what
 * batch_memory() may come to, if the items fit into that (0: no matter). */
void decoder_expect_batch(struct decoder *d, uint32_t want, size_t bytes_hint, size_t memory_most);
/* A generic reply with at most max_elements elements in any of its arrays. */
void decoder_expect_reply(struct decoder *d, size_t max_elements);
/* Why the decoder refused, or NULL. */
const char *decoder_refusal(const struct decoder *d);

/* Frees what redisReaderGetReply gave: a batch or a redisReply. NULL is fine. */
void decoded_free(void *reply);
static inline bool decoded_is_batch(const void *reply) { return *(const int *)reply == BATCH_TYPE; }

#endif
