/*
 * decoder.h - the protocol as a data connection hears it: LRANGE replies, decoded straight into batches.
 *
 * A data connection only ever hears two things: an array of strings, and a line (+OK, :1, -WRONGTYPE …). For those the bytes
 * are read where the socket put them and each item is copied once, into its block; hiredis's reader, with reply
 * functions that do the same, copies everything twice more and takes 250 instructions an item instead of 60 (counted with
 * callgrind). A reply may come in pieces of any size; a large item is never held twice.
 *
 * The decoder refuses what was not asked for: more elements, nested arrays, elements that are no strings, items larger than
 * the manifest's largest. From a refusal there is no way back: what a peer sends out of contract ends the connection.
 *
 *        ┌──────────────┐  *n    ┌──────────────┐  $len   ┌──────┐ len bytes ┌─────┐
 *        │ HEAD of reply├───────▶│ HEAD of item ├────────▶│ BODY ├──────────▶│ END │
 *        └──┬───────────┘        └──────────────┘         └──────┘           └──┬──┘
 *           └ line: a reply              ▲──────────── until n items are there ─┘
 */
#ifndef NWM_DECODER_H
#define NWM_DECODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "merger/batch.h"

struct decoder;

/* separator: what stands behind each item in a block. */
struct decoder *decoder_new(char separator);
void decoder_free(struct decoder *d);

/* What the next reply may be, said before its first byte: an array of at most `want` items of at most max_item bytes each (0: not
 * known), or a line. bytes_hint is the expected size of the block, to size it in one go; memory_most what batch_memory() may come to, if
 * the items fit into that (0: no matter). */
struct expectation {
    uint32_t want;
    uint64_t max_item;
    size_t bytes_hint, memory_most;
};
void decoder_expect(struct decoder *d, const struct expectation *e);

/* Takes bytes until a reply is whole or none are left; returns how many it took. *reply: a batch or, for a line, a redisReply; the
 * caller's (decoded_free). NULL: more is needed, or decoder_refusal(). */
size_t decoder_feed(struct decoder *d, const char *data, size_t len, void **reply);
/* Why the decoder refused, or NULL. */
const char *decoder_refusal(const struct decoder *d);
/* It was for an item above max_item: the list is not what its manifest says. */
bool decoder_item_too_large(const struct decoder *d);

/* Frees a reply. NULL is fine. */
void decoded_free(void *reply);
static inline bool decoded_is_batch(const void *reply) { return *(const int *)reply == BATCH_TYPE; }

#endif
