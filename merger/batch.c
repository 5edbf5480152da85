#include "merger/batch.h"

#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"

struct decoder {
    const redisReplyObjectFunctions *plain; /* hiredis's own, for generic replies */
    redisReplyObjectFunctions functions;
    bool wants_batch;
    uint32_t want;
    size_t bytes_hint, memory_most;
    size_t max_elements;
    char separator;
    const char *refusal;
};

/* ---- the block -------------------------------------------------------------------------------------------------- */

static struct batch *batch_new(const struct decoder *d, uint32_t count)
{
    struct batch *b = mem_zalloc(sizeof *b);
    b->type = BATCH_TYPE;
    b->want = d->want;
    b->ends = mem_array(NULL, count ? count : 1, sizeof *b->ends);
    size_t around = sizeof *b + count * sizeof *b->ends;
    b->most = d->memory_most == 0 ? SIZE_MAX : d->memory_most > around ? d->memory_most - around : 0;
    b->capacity = d->bytes_hint + count < b->most ? d->bytes_hint + count : b->most;
    b->bytes = mem_alloc(b->capacity ? b->capacity : 1);
    return b;
}

void batch_free(struct batch *b)
{
    if (!b) return;
    free(b->ends);
    free(b->bytes);
    free(b);
}

size_t batch_memory(const struct batch *b) { return sizeof *b + b->capacity + b->count * sizeof *b->ends; }

/* False when the block would pass what its 32-bit index can address: 4 GB, twice what any request of ours asks for. */
static bool make_room(struct batch *b, size_t len)
{
    size_t need = b->used + len + 1;
    if (need > UINT32_MAX) return false;
    size_t capacity = b->capacity + b->capacity / 2;
    if (need <= b->most && capacity > b->most) capacity = b->most;
    b->capacity = need > capacity ? need : capacity;
    b->bytes = mem_realloc(b->bytes, b->capacity);
    return true;
}

static inline bool batch_add(struct batch *b, const char *item, size_t len, char separator)
{
    if (__builtin_expect(b->used + len + 1 > b->capacity, 0) && !make_room(b, len)) return false;
    memcpy(b->bytes + b->used, item, len);
    b->bytes[b->used + len] = separator;
    b->used += len + 1;
    b->ends[b->count++] = (uint32_t)b->used;
    return true;
}

/*
 * The separators in the block are one an item unless an item holds some, so counting them is enough. Eight bytes at a time: a byte
 * that equals the separator becomes 0 by xor; "no bit below the top one and not the top one" leaves a 1 for it in its own
 * byte of the sums, which hold up to 255 each. 11 instructions an item of 12 bytes; a plain loop takes 91 (gcc -O2, counted).
 */
static size_t count_byte(const char *data, size_t len, char byte)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), low = UINT64_C(0x7f7f7f7f7f7f7f7f);
    const uint64_t pattern = ones * (unsigned char)byte;
    size_t n = 0;
    while (len >= 8) {
        size_t words = len / 8 < 255 ? len / 8 : 255;
        uint64_t sums = 0;
        for (size_t i = 0; i < words; i++) {
            uint64_t w;
            memcpy(&w, data + 8 * i, sizeof w);
            w ^= pattern;
            sums += ~(((w & low) + low) | w) >> 7 & ones;
        }
        n += ((sums & UINT64_C(0x00ff00ff00ff00ff)) + (sums >> 8 & UINT64_C(0x00ff00ff00ff00ff))) * UINT64_C(0x0001000100010001) >> 48;
        data += 8 * words;
        len -= 8 * words;
    }
    for (size_t i = 0; i < len; i++) n += data[i] == byte;
    return n;
}

bool batch_holds_separator(const struct batch *b, char separator, uint32_t *at)
{
    if (count_byte(b->bytes, b->used, separator) == b->count) return false;
    for (uint32_t i = 0; i < b->count; i++) {
        size_t len;
        const char *item = batch_item(b, i, &len);
        if (!memchr(item, separator, len)) continue;
        *at = i;
        return true;
    }
    return false;
}

/* ---- hiredis reply functions ------------------------------------------------------------------------------------ */

static void *refuse(struct decoder *d, const char *why)
{
    if (!d->refusal) d->refusal = why;
    return NULL;
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
    struct decoder *d = task->privdata;
    if (!d->wants_batch || !task->parent) return d->plain->createString(task, text, len);
    if (task->type != REDIS_REPLY_STRING) return refuse(d, "an element of an LRANGE reply is not a string");
    struct batch *b = task->parent->obj;
    if (!batch_add(b, text, len, d->separator)) return refuse(d, "an LRANGE reply holds over 4 GB");
    return b;
}

static void *create_array(const redisReadTask *task, nwm_array_count count)
{
    struct decoder *d = task->privdata;
    uint64_t n = (uint64_t)count;
    if (!d->wants_batch) {
        if (n > d->max_elements) return refuse(d, "an array larger than anything that was asked for");
        return d->plain->createArray(task, count);
    }
    if (task->parent) return refuse(d, "an LRANGE reply holds an array");
    if (task->type != REDIS_REPLY_ARRAY) return refuse(d, "an LRANGE reply is not an array");
    if (n > d->want) return refuse(d, "an LRANGE reply has more elements than were asked for");
    return batch_new(d, (uint32_t)n);
}

static void *create_integer(const redisReadTask *task, long long value)
{
    struct decoder *d = task->privdata;
    if (d->wants_batch && task->parent) return refuse(d, "an element of an LRANGE reply is a number");
    return d->plain->createInteger(task, value);
}

static void *create_nil(const redisReadTask *task)
{
    struct decoder *d = task->privdata;
    if (d->wants_batch && task->parent) return refuse(d, "an element of an LRANGE reply is nil");
    return d->plain->createNil(task);
}

#if NWM_HIREDIS_1
/* RESP3 types; we never ask for that protocol. */
static void *create_double(const redisReadTask *task, double value, char *text, size_t len)
{
    (void)value, (void)text, (void)len;
    return refuse(task->privdata, "a reply of a protocol that was not asked for (RESP3 double)");
}

static void *create_bool(const redisReadTask *task, int value)
{
    (void)value;
    return refuse(task->privdata, "a reply of a protocol that was not asked for (RESP3 boolean)");
}
#endif

void decoded_free(void *reply)
{
    if (!reply) return;
    if (decoded_is_batch(reply)) {
        batch_free(reply);
    } else {
        freeReplyObject(reply);
    }
}

/* ---- the decoder ------------------------------------------------------------------------------------------------ */

struct decoder *decoder_new(redisReader *reader, char separator)
{
    struct decoder *d = mem_zalloc(sizeof *d);
    d->plain = reader->fn;
    d->separator = separator;
    d->functions = (redisReplyObjectFunctions){
        .createString = create_string,
        .createArray = create_array,
        .createInteger = create_integer,
        .createNil = create_nil,
#if NWM_HIREDIS_1
        .createDouble = create_double,
        .createBool = create_bool,
#endif
        .freeObject = decoded_free,
    };
    reader->fn = &d->functions;
    reader->privdata = d;
    return d;
}

void decoder_free(struct decoder *d) { free(d); }

void decoder_expect_batch(struct decoder *d, uint32_t want, size_t bytes_hint, size_t memory_most)
{
    d->wants_batch = true;
    d->want = want;
    d->bytes_hint = bytes_hint;
    d->memory_most = memory_most;
}

void decoder_expect_reply(struct decoder *d, size_t max_elements)
{
    d->wants_batch = false;
    d->max_elements = max_elements;
}

const char *decoder_refusal(const struct decoder *d) { return d->refusal; }
