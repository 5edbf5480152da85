/*
 * The decoder of data connections, fed with arbitrary bytes in arbitrary pieces under changing expectations. The first bytes of the
 * input choose those; the rest is what a peer sends. Whatever that is: no crash, no leak, never more or larger items than
 * asked for, and items that are in their block as batch.h draws it.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "merger/decoder.h"
#include "shared/mem.h"
#include "shared/redis_compat.h"

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

static void check_batch(const struct batch *b, const struct expectation *e, char separator)
{
    require(b->count <= e->want && b->want == e->want);
    require(b->used <= b->capacity && batch_memory(b) >= b->used);
    uint32_t at = UINT32_MAX, first = UINT32_MAX;
    for (uint32_t i = 0; i < b->count; i++) {
        size_t len;
        const char *item = batch_item(b, i, &len);
        require(item == b->bytes + batch_start(b, i) && item[len] == separator);
        require(b->ends[i] <= b->used && (e->max_item == 0 || len <= e->max_item));
        if (first == UINT32_MAX && memchr(item, separator, len)) first = i;
    }
    require(batch_start(b, b->count) == b->used);
    require(batch_holds_separator(b, separator, &at) == (first != UINT32_MAX) && at == first);
}

/* An expectation stands until its reply is whole. */
static struct expectation new_expectation(struct choices *c)
{
    return (struct expectation){
        .want = choose(c, 9) * choose(c, 9),
        .max_item = choose(c, 3) * choose(c, 40),
        .bytes_hint = choose(c, 64),
        .memory_most = choose(c, 2) ? 0 : choose(c, 200),
    };
}

static void check_reply(const void *reply, const struct expectation *e, char separator)
{
    if (decoded_is_batch(reply)) {
        check_batch(reply, e, separator);
        return;
    }
    const redisReply *line = reply;
    require(line->type == REDIS_REPLY_ERROR || line->type == REDIS_REPLY_STATUS || line->type == REDIS_REPLY_INTEGER);
    require(line->str[line->len] == '\0' && !memchr(line->str, '\n', line->len));
}

/* Feeds one piece, which is in a block of its own so that reading beyond it is seen. False: the decoder has had enough. */
static bool feed(struct decoder *d, struct choices *c, struct expectation *e, char separator, const uint8_t *data,
                 size_t size)
{
    char *piece = mem_alloc(size);
    memcpy(piece, data, size);
    size_t at = 0;
    while (at < size && !decoder_refusal(d)) {
        decoder_expect(d, e);
        void *reply = NULL;
        size_t taken = decoder_feed(d, piece + at, size - at, &reply);
        require(taken > 0 && taken <= size - at);
        at += taken;
        require(reply || decoder_refusal(d) || at == size);
        if (!reply) continue;
        require(!decoder_refusal(d));
        check_reply(reply, e, separator);
        decoded_free(reply);
        *e = new_expectation(c);
    }
    free(piece);
    return !decoder_refusal(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct choices c = {.at = 0};
    if (size < CHOICES) return 0;
    memcpy(c.bytes, data, CHOICES);
    data += CHOICES;
    size -= CHOICES;
    char separator = choose(&c, 2) ? '\n' : '\0';
    bool in_one = choose(&c, 2);
    struct expectation e = new_expectation(&c);
    struct decoder *d = decoder_new(separator);
    for (size_t piece; size > 0; data += piece, size -= piece) {
        piece = in_one ? size : 1 + choose(&c, 80);
        if (piece > size) piece = size;
        if (!feed(d, &c, &e, separator, data, piece)) break;
    }
    decoder_free(d);
    return 0;
}
