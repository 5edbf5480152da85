#include "merger/batch.h"

#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"

struct batch *batch_new(uint32_t want, uint32_t count, size_t bytes_hint, size_t memory_most)
{
    struct batch *b = mem_zalloc(sizeof *b);
    b->type = BATCH_TYPE;
    b->want = want;
    b->ends = mem_array(NULL, count ? count : 1, sizeof *b->ends);
    size_t around = sizeof *b + count * sizeof *b->ends;
    b->most = memory_most == 0 ? SIZE_MAX : memory_most > around ? memory_most - around : 0;
    b->capacity = bytes_hint + count < b->most ? bytes_hint + count : b->most;
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
    if (capacity > UINT32_MAX) capacity = UINT32_MAX; /* the index holds no more */
    b->capacity = need > capacity ? need : capacity;
    b->bytes = mem_realloc(b->bytes, b->capacity);
    return true;
}

bool batch_begin_item(struct batch *b, size_t len) { return b->used + len + 1 <= b->capacity || make_room(b, len); }

void batch_add_bytes(struct batch *b, const char *data, size_t len)
{
    memcpy(b->bytes + b->used, data, len);
    b->used += len;
}

void batch_end_item(struct batch *b, char separator)
{
    b->bytes[b->used++] = separator;
    b->ends[b->count++] = (uint32_t)b->used;
}

/*
 * The separators in the block are one an item unless an item holds some, so counting them is enough. Sixteen bytes at a time (vectors of
 * gcc and clang, on any processor): a byte that equals the separator compares as -1, which a counter of its own takes up, 255 times at
 * most.
 */
typedef unsigned char vector __attribute__((vector_size(16)));

static size_t count_byte(const char *data, size_t len, char byte)
{
    const vector pattern = (vector){0} + (unsigned char)byte;
    size_t n = 0;
    while (len >= sizeof(vector)) {
        size_t vectors = len / sizeof(vector) < 255 ? len / sizeof(vector) : 255;
        vector counts = {0};
        for (size_t i = 0; i < vectors; i++) {
            vector v;
            memcpy(&v, data + i * sizeof v, sizeof v);
            counts -= (vector)(v == pattern);
        }
        for (size_t i = 0; i < sizeof counts; i++) n += counts[i];
        data += vectors * sizeof(vector);
        len -= vectors * sizeof(vector);
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
