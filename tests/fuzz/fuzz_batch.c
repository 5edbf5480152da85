/*
 * The batch decoder, fed with arbitrary bytes in arbitrary pieces under changing expectations. The first bytes of the
 * input choose those; the rest is what a peer sends. Whatever that is: no crash, no leak, never more items or elements than
 * asked for, and items that are in their block as batch.h draws it.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "merger/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHOICES = 6 };

static void require(bool held)
{
    if (!held) __builtin_trap();
}

/* Choices of the input: they come round again, a little different each time. */
struct choices {
    uint8_t bytes[CHOICES];
    size_t at;
};

static unsigned choose(struct choices *c, unsigned below)
{
    uint8_t *byte = &c->bytes[c->at++ % CHOICES];
    unsigned chosen = *byte % below;
    *byte = (uint8_t)(*byte * 5 + 1);
    return chosen;
}

static void check_batch(const struct batch *b, uint32_t want, char separator)
{
    require(b->count <= want && b->want == want);
    require(b->used <= b->capacity && batch_memory(b) >= b->used);
    uint32_t at = UINT32_MAX, first = UINT32_MAX;
    for (uint32_t i = 0; i < b->count; i++) {
        size_t len;
        const char *item = batch_item(b, i, &len);
        require(item == b->bytes + batch_start(b, i) && item[len] == separator);
        require(b->ends[i] <= b->used);
        if (first == UINT32_MAX && memchr(item, separator, len)) first = i;
    }
    require(batch_start(b, b->count) == b->used);
    require(batch_holds_separator(b, separator, &at) == (first != UINT32_MAX) && at == first);
}

static void check_reply(const redisReply *r, size_t most)
{
    if (r->type != REDIS_REPLY_ARRAY) return;
    require(r->elements <= most);
    for (size_t i = 0; i < r->elements; i++) check_reply(r->element[i], most);
}

/* Everything that is whole by now. False: the reader has had enough. */
static bool take(redisReader *reader, struct decoder *d, struct choices *c, char separator, bool *fresh)
{
    static uint32_t want;
    static bool wants_batch;
    for (;;) {
        if (*fresh) { /* an expectation stands until its reply is whole */
            want = choose(c, 9) * choose(c, 9);
            wants_batch = choose(c, 4) != 0;
        }
        if (wants_batch) {
            decoder_expect_batch(d, want, choose(c, 64), choose(c, 2) ? 0 : choose(c, 200));
        } else {
            decoder_expect_reply(d, want);
        }
        void *reply = NULL;
        int worked = redisReaderGetReply(reader, &reply);
        require(worked == REDIS_OK || (!reply && reader->err));
        if (worked != REDIS_OK) return false;
        *fresh = reply != NULL;
        if (!reply) return true;
        if (decoded_is_batch(reply)) {
            require(wants_batch);
            check_batch(reply, want, separator);
        } else {
            require(!wants_batch || ((redisReply *)reply)->type != REDIS_REPLY_ARRAY);
            check_reply(reply, want);
        }
        decoded_free(reply);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct choices c = {.at = 0};
    if (size < CHOICES) return 0;
    memcpy(c.bytes, data, CHOICES);
    data += CHOICES;
    size -= CHOICES;
    char separator = choose(&c, 2) ? '\n' : '\0';
    bool in_one = choose(&c, 2), fresh = true;
    redisReader *reader = redisReaderCreate();
    struct decoder *d = decoder_new(reader, separator);
    while (size > 0) {
        size_t piece = in_one ? size : 1 + choose(&c, 17);
        if (piece > size) piece = size;
        if (redisReaderFeed(reader, (const char *)data, piece) != REDIS_OK) break;
        data += piece;
        size -= piece;
        if (!take(reader, d, &c, separator, &fresh)) break;
    }
    redisReaderFree(reader);
    decoder_free(d);
    return 0;
}
