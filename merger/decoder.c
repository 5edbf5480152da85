#include "merger/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"
#include "shared/redis_compat.h"

/* Beyond any line a server sends, and any number. */
enum { LINE_MOST = 16 * 1024, ITEM_HEAD_MOST = 24 };
/* Redis's own limit on a string, where no manifest says less. */
#define ITEM_MOST (UINT64_C(512) << 20)

enum state { REPLY_HEAD, ITEM_HEAD, ITEM_BODY, ITEM_END };

struct decoder {
    char separator;
    struct expectation expected;
    enum state state;
    struct buf line;     /* of a head that came in pieces, without its end */
    struct batch *batch; /* being filled */
    uint32_t count;      /* the items it will have */
    size_t left;         /* of the item: bytes still to come (BODY), or of "\r\n" (END) */
    const char *refusal;
    bool too_large; /* the refusal is about an item's size */
};

struct decoder *decoder_new(char separator)
{
    struct decoder *d = mem_zalloc(sizeof *d);
    d->separator = separator;
    return d;
}

void decoder_free(struct decoder *d)
{
    if (!d) return;
    batch_free(d->batch);
    buf_free(&d->line);
    free(d);
}

void decoder_expect(struct decoder *d, const struct expectation *e) { d->expected = *e; }
const char *decoder_refusal(const struct decoder *d) { return d->refusal; }
bool decoder_item_too_large(const struct decoder *d) { return d->too_large; }

void decoded_free(void *reply)
{
    if (!reply) return;
    if (decoded_is_batch(reply)) {
        batch_free(reply);
    } else {
        redisReply *line = reply;
        free(line->str);
        free(line);
    }
}

static bool refuse(struct decoder *d, const char *why)
{
    d->refusal = why;
    return false;
}

/* ---- heads ------------------------------------------------------------------------------------------------------- */

/* The digits of a head, up to its end. */
static bool read_number(const char *p, const char *end, uint64_t *n)
{
    uint64_t value = 0;
    if (p == end || end - p > 10) return false;
    for (; p < end; p++) {
        unsigned digit = (unsigned)(unsigned char)*p - '0';
        if (digit > 9) return false;
        value = value * 10 + digit;
    }
    *n = value;
    return true;
}

static redisReply *make_line(int type, const char *text, size_t len)
{
    redisReply *reply = mem_zalloc(sizeof *reply);
    reply->type = type;
    reply->str = mem_dup(text, len);
    reply->len = len;
    return reply;
}

/* The first line of a reply: *n begins a batch, any other is all there is. */
static bool take_reply_head(struct decoder *d, const char *line, size_t len, void **reply)
{
    uint64_t n;
    switch (len ? line[0] : '\0') {
    case '-': *reply = make_line(REDIS_REPLY_ERROR, line + 1, len - 1); return true;
    case '+': *reply = make_line(REDIS_REPLY_STATUS, line + 1, len - 1); return true;
    case ':': *reply = make_line(REDIS_REPLY_INTEGER, line + 1, len - 1); return true;
    case '*': break;
    default: return refuse(d, "a reply is neither a list nor a line");
    }
    if (!read_number(line + 1, line + len, &n)) return refuse(d, "the length of a list is no number");
    if (n > d->expected.want) return refuse(d, "a list has more elements than were asked for");
    d->batch = batch_new(d->expected.want, (uint32_t)n, d->expected.bytes_hint, d->expected.memory_most);
    d->count = (uint32_t)n;
    d->state = ITEM_HEAD;
    return true;
}

static bool take_item_head(struct decoder *d, const char *line, size_t len)
{
    uint64_t n;
    if (len == 0 || line[0] != '$') return refuse(d, "an element of a list is not a string");
    if (!read_number(line + 1, line + len, &n)) return refuse(d, "the length of an element is no number");
    uint64_t most = d->expected.max_item ? d->expected.max_item : ITEM_MOST;
    d->too_large = n > most;
    if (d->too_large) return refuse(d, "an item is larger than any should be");
    if (!batch_begin_item(d->batch, (size_t)n)) return refuse(d, "a list holds over 4 GB");
    d->left = (size_t)n;
    d->state = ITEM_BODY;
    return true;
}

/* A head up to its "\r\n", which may come in pieces. Returns how much was taken; *line is set when it is whole. */
static size_t gather_line(struct decoder *d, const char *data, size_t len, struct bytes *line)
{
    line->data = NULL;
    const char *newline = memchr(data, '\n', len);
    size_t taken = newline ? (size_t)(newline - data) + 1 : len;
    size_t most = d->state == REPLY_HEAD ? LINE_MOST : ITEM_HEAD_MOST;
    if (d->line.len + taken > most) {
        refuse(d, "a line is longer than any may be");
        return taken;
    }
    buf_append(&d->line, data, taken);
    if (!newline) return taken;
    size_t whole = d->line.len;
    if (whole < 2 || d->line.data[whole - 2] != '\r') {
        refuse(d, "a line does not end as it should");
        return taken;
    }
    *line = (struct bytes){d->line.data, whole - 2};
    d->line.len = 0;
    return taken;
}

/* ---- items ------------------------------------------------------------------------------------------------------- */

static size_t take_body(struct decoder *d, const char *data, size_t len)
{
    size_t part = len < d->left ? len : d->left;
    batch_add_bytes(d->batch, data, part);
    d->left -= part;
    if (d->left == 0) {
        batch_end_item(d->batch, d->separator);
        d->state = ITEM_END;
        d->left = 2;
    }
    return part;
}

static size_t take_end(struct decoder *d, const char *data)
{
    if (*data != (d->left == 2 ? '\r' : '\n')) refuse(d, "an element does not end where it should");
    if (--d->left == 0) d->state = ITEM_HEAD;
    return 1;
}

/* Short items are copied as 32 bytes, whatever their length, where both sides have room: no call, no branch on the length. */
enum { SHORT_ITEM = 32 };

/*
 * Whole items, as nearly all are: head, bytes and end in one go. Returns where it stopped: at the end of the batch or of the data, or
 * before an item that is cut off, does not fit the block or is not as it should be; those are left to the states.
 */
static const char *take_whole_items(struct decoder *d, const char *p, const char *end)
{
    struct batch *b = d->batch;
    char *to = b->bytes + b->used, *room = b->bytes + b->capacity;
    uint32_t count = b->count, most_count = d->count;
    const size_t most = d->expected.max_item ? (size_t)d->expected.max_item : ITEM_MOST;
    while (count < most_count && end - p > ITEM_HEAD_MOST && *p == '$') {
        const char *digit = p + 1;
        size_t len = 0;
        for (unsigned value; (value = (unsigned)(unsigned char)*digit - '0') <= 9 && digit - p < 11; digit++)
            len = len * 10 + value;
        const char *item = digit + 2;
        if (digit == p + 1 || digit[0] != '\r' || digit[1] != '\n' || len > most) break;
        if ((size_t)(end - item) < len + 2 || (size_t)(room - to) < len + 1) break;
        if (item[len] != '\r' || item[len + 1] != '\n') break;
        if (len <= SHORT_ITEM && end - item >= SHORT_ITEM && room - to >= SHORT_ITEM) {
            memcpy(to, item, SHORT_ITEM);
        } else {
            memcpy(to, item, len);
        }
        to += len;
        *to++ = d->separator;
        b->ends[count++] = (uint32_t)(to - b->bytes);
        p = item + len + 2;
    }
    b->count = count;
    b->used = (size_t)(to - b->bytes);
    return p;
}

/* ---- the states -------------------------------------------------------------------------------------------------- */

static size_t take_step(struct decoder *d, const char *data, size_t len, void **reply)
{
    struct bytes line;
    size_t taken;
    switch (d->state) {
    case REPLY_HEAD:
        taken = gather_line(d, data, len, &line);
        if (line.data) take_reply_head(d, line.data, line.len, reply);
        return taken;
    case ITEM_HEAD:
        taken = gather_line(d, data, len, &line);
        if (line.data) take_item_head(d, line.data, line.len);
        return taken;
    case ITEM_BODY: return take_body(d, data, len);
    case ITEM_END: return take_end(d, data);
    }
    return 0;
}

static void *finished_batch(struct decoder *d)
{
    if (d->state != ITEM_HEAD || d->batch->count < d->count) return NULL;
    struct batch *whole = d->batch;
    d->batch = NULL;
    d->state = REPLY_HEAD;
    return whole;
}

size_t decoder_feed(struct decoder *d, const char *data, size_t len, void **reply)
{
    const char *p = data, *end = data + len;
    *reply = NULL;
    while (p < end && !*reply && !d->refusal) {
        if (d->state == ITEM_HEAD && d->line.len == 0) p = take_whole_items(d, p, end);
        *reply = finished_batch(d);
        if (!*reply && p < end) p += take_step(d, p, (size_t)(end - p), reply);
        if (!*reply && !d->refusal) *reply = finished_batch(d);
    }
    return (size_t)(p - data);
}
