#include "worker/loader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The sizes. A push ends at BLOCK_ITEMS or BLOCK_BYTES, whichever comes first. Loading 4 million 12-digit numbers costs the
 * server 620 ms at 500 items a push, 650 at 1000, 580 at 2000, 530 at 4000, 515 at 8000 (and 690 by redis-cli --pipe, 1000
 * items a push); the worker 270, 230, 190, 160, 150. (Medians of six, busy 2-core machine, Redis 7.0.) An item of LARGE or more is a push of
 * its own and goes to the connection in pieces, not through the block, so that it exists once here and never twice.
 * UNSENT_MOST keeps what waits in this process small: the socket has a buffer of its own, and that keeps Redis busy.
 * WINDOW is the promise to be kind: so much may be on its way without an answer.
 */
enum {
    BLOCK_ITEMS = 4000,
    BLOCK_BYTES = 128 << 10,
    LARGE = 64 << 10,
    PIECE = 256 << 10,
    HEADER_ROOM = 512, /* for "*1002\r\n$6\r\nRPUSHX\r\n$…\r\nKEY\r\n", in front of the items */
    ITEM_ROOM = 32,    /* for "$LENGTH\r\n" and "\r\n" around an item */
    UNSENT_MOST = 256 << 10,
    WINDOW = 8 << 20,
    PENDING_MOST = 256,
};

/* A push on its way. The first one brings four replies: to MULTI, RPUSH, PEXPIRE, EXEC; only the last says what was
 * done. */
struct push {
    uint64_t length_after; /* what the list must hold then */
    size_t bytes;
    bool first;
    int replies; /* still to come */
};

struct loader {
    struct conn *conn;
    const struct claim *claim;
    struct pulse pulse;
    char *block; /* HEADER_ROOM, then `filled` bytes of encoded items */
    size_t filled;
    uint64_t block_items;
    uint64_t pushed, acknowledged; /* items */
    struct push pending[PENDING_MOST];
    size_t oldest, pending_count, on_their_way; /* bytes */
    struct fault *refused;                      /* why the first push was not even queued, until EXEC says so */
};

struct loader *loader_new(struct conn *conn, const struct claim *claim)
{
    struct loader *l = mem_zalloc(sizeof *l);
    l->conn = conn;
    l->claim = claim;
    l->block = mem_alloc(HEADER_ROOM + BLOCK_BYTES + LARGE + ITEM_ROOM);
    return l;
}

void loader_free(struct loader *l)
{
    if (!l) return;
    fault_free(l->refused);
    free(l->block);
    free(l);
}

void loader_set_pulse(struct loader *l, struct pulse p) { l->pulse = p; }
uint64_t loader_acknowledged(const struct loader *l) { return l->acknowledged; }

/* ---- replies ---- */

static struct fault *list_gone(const struct loader *l)
{
    return fault_new(FAULT_LOST,
                     "%s is gone with %" PRIu64
                     " acknowledged items: it was deleted or evicted, or Redis restarted without persistence",
                     l->claim->list, l->acknowledged);
}

static struct fault *wrong_length(const struct loader *l, const struct push *p, long long length)
{
    if (length == 0) return list_gone(l);
    return fault_new(FAULT_CHANGED,
                     "%s holds %lld items after a push that makes it %" PRIu64 ": somebody else writes to it",
                     l->claim->list, length, p->length_after);
}

static struct fault *push_fault(const struct loader *l, const redisReply *reply)
{
    char *doing = mem_printf("push to %s", l->claim->list);
    struct fault *f = reply_fault(reply, doing);
    free(doing);
    return f;
}

/* The reply of RPUSH or RPUSHX. */
static struct fault *judge_length(const struct loader *l, const struct push *p, const redisReply *reply)
{
    struct fault *f = push_fault(l, reply);
    if (f) return f;
    if (reply->type != REDIS_REPLY_INTEGER)
        return fault_new(FAULT_PROTOCOL, "a push to %s was answered with no number", l->claim->list);
    return (uint64_t)reply->integer == p->length_after ? NULL : wrong_length(l, p, reply->integer);
}

/* EXEC's reply: [length, 1]. When a command was refused as it was queued, that refusal says why, and EXEC only that it
 * did nothing. */
static struct fault *judge_exec(struct loader *l, const struct push *p, const redisReply *reply)
{
    if (l->refused) {
        struct fault *f = l->refused;
        l->refused = NULL;
        return f;
    }
    struct fault *f = push_fault(l, reply);
    if (f) return f;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
        return fault_new(FAULT_PROTOCOL, "the first push to %s was answered with no array of two", l->claim->list);
    return judge_length(l, p, reply->element[0]);
}

static struct fault *judge(struct loader *l, struct push *p, const redisReply *reply)
{
    if (--p->replies == 0) return p->first ? judge_exec(l, p, reply) : judge_length(l, p, reply);
    if (!l->refused) l->refused = push_fault(l, reply);
    return NULL;
}

static struct fault *take_reply(struct loader *l)
{
    redisReply *reply;
    struct fault *f = conn_reply(l->conn, &reply);
    if (f) return f;
    struct push *p = &l->pending[l->oldest];
    f = judge(l, p, reply);
    freeReplyObject(reply);
    if (f || p->replies > 0) return f;
    l->acknowledged = p->length_after;
    l->on_their_way -= p->bytes;
    l->oldest = (l->oldest + 1) % PENDING_MOST;
    l->pending_count--;
    return NULL;
}

/* Takes what has come, and waits until there is room for `more` bytes. */
static struct fault *make_room(struct loader *l, size_t more)
{
    bool ready = true;
    struct fault *f = pulse_beat(&l->pulse);
    while (!f && (f = conn_pump(l->conn, &ready)) == NULL && ready) f = take_reply(l);
    while (!f && l->pending_count > 0 &&
           (l->pending_count == PENDING_MOST || l->on_their_way + more > WINDOW || conn_unsent(l->conn) > UNSENT_MOST))
        f = take_reply(l);
    return f;
}

/* ---- pushes ---- */

/* Puts the digits of n in front of `end`; returns where they begin. */
static char *digits_before(char *end, uint64_t n)
{
    do *--end = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    return end;
}

/* The head of a push of n items: its command, the list's key. Written so that it ends at `end`; returns where it
 * begins. */
static char *head_before(const struct loader *l, char *end, uint64_t n, bool first)
{
    const char *command = first ? "\r\n$5\r\nRPUSH\r\n$" : "\r\n$6\r\nRPUSHX\r\n$";
    size_t key_len = strlen(l->claim->list), command_len = strlen(command);
    char *p = end - 2;
    memcpy(p, "\r\n", 2);
    p -= key_len;
    memcpy(p, l->claim->list, key_len);
    p -= 2;
    memcpy(p, "\r\n", 2);
    p = digits_before(p, key_len);
    p -= command_len;
    memcpy(p, command, command_len);
    p = digits_before(p, n + 2);
    *--p = '*';
    return p;
}

static void note_push(struct loader *l, uint64_t items, size_t bytes, bool first)
{
    l->pushed += items;
    l->pending[(l->oldest + l->pending_count++) % PENDING_MOST] = (struct push){l->pushed, bytes, first, first ? 4 : 1};
    l->on_their_way += bytes;
}

/* What stands around the first push. Its end also ends the transaction. */
static void open_first(struct loader *l) { conn_append_words(l->conn, "MULTI", NULL); }

static void close_first(struct loader *l)
{
    char expiry[24];
    snprintf(expiry, sizeof expiry, "%" PRId64, claim_list_expiry_ms(l->claim));
    conn_append_words(l->conn, "PEXPIRE", l->claim->list, expiry, NULL);
    conn_append_words(l->conn, "EXEC", NULL);
}

static struct fault *push_block(struct loader *l)
{
    if (l->block_items == 0) return NULL;
    struct fault *f = make_room(l, l->filled);
    if (f) return f;
    bool first = l->pushed == 0;
    char *items = l->block + HEADER_ROOM;
    char *head = head_before(l, items, l->block_items, first);
    size_t len = (size_t)(items - head) + l->filled;
    if (first) open_first(l);
    conn_append_raw(l->conn, head, len, 1);
    if (first) close_first(l);
    note_push(l, l->block_items, len, first);
    l->filled = 0;
    l->block_items = 0;
    bool ready;
    return conn_pump(l->conn, &ready);
}

static inline char *put_length(char *p, size_t len)
{
    char text[24], *end = text + sizeof text, *digits = digits_before(end, len);
    *p++ = '$';
    memcpy(p, digits, (size_t)(end - digits));
    p += end - digits;
    *p++ = '\r';
    *p++ = '\n';
    return p;
}

/* A large item is on its way alone, and in pieces: what is unsent never exceeds a piece or two. */
static struct fault *push_large(struct loader *l, struct bytes item)
{
    struct fault *f = push_block(l);
    if (!f) f = make_room(l, item.len < WINDOW ? item.len : WINDOW);
    if (f) return f;
    bool first = l->pushed == 0;
    char *items = l->block + HEADER_ROOM;
    char *head = head_before(l, items, 1, first);
    if (first) open_first(l);
    conn_append_raw(l->conn, head, (size_t)(put_length(items, item.len) - head), 0);
    for (size_t at = 0; at < item.len && !f; at += PIECE) {
        size_t len = item.len - at < PIECE ? item.len - at : PIECE;
        conn_append_raw(l->conn, item.data + at, len, 0);
        f = conn_flush(l->conn, UNSENT_MOST);
    }
    conn_append_raw(l->conn, "\r\n", 2, 1);
    if (first) close_first(l);
    note_push(l, 1, item.len, first);
    return f;
}

static struct fault *add_small(struct loader *l, struct bytes item)
{
    char *start = l->block + HEADER_ROOM + l->filled;
    char *p = put_length(start, item.len);
    memcpy(p, item.data, item.len);
    p += item.len;
    *p++ = '\r';
    *p++ = '\n';
    l->filled += (size_t)(p - start);
    l->block_items++;
    return l->block_items == BLOCK_ITEMS || l->filled >= BLOCK_BYTES ? push_block(l) : NULL;
}

struct fault *loader_add(struct loader *l, struct bytes item)
{
    struct fault *f = item.len < LARGE ? add_small(l, item) : push_large(l, item);
    return f ? fault_frame(f, "push to %s", l->claim->list) : NULL;
}

struct fault *loader_finish(struct loader *l)
{
    struct fault *f = push_block(l);
    while (!f && l->pending_count > 0) f = take_reply(l);
    return f ? fault_frame(f, "push to %s", l->claim->list) : NULL;
}

/* ---- the proof ---- */

static struct fault *verify_length(struct loader *l)
{
    redisReply *reply;
    struct fault *f = conn_ask(l->conn, &reply, "LLEN", l->claim->list, NULL);
    if (f) return f;
    long long length = reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
    freeReplyObject(reply);
    if (length >= 0 && (uint64_t)length == l->acknowledged) return NULL;
    struct push all = {.length_after = l->acknowledged};
    return wrong_length(l, &all, length);
}

static struct fault *verify_item(struct loader *l, const char *index, const struct checker *sent,
                                 bool (*fits)(const struct checker *, struct bytes))
{
    redisReply *reply;
    struct fault *f = conn_ask(l->conn, &reply, "LINDEX", l->claim->list, index, NULL);
    if (f) return f;
    bool same = reply->type == REDIS_REPLY_STRING && fits(sent, (struct bytes){reply->str, reply->len});
    freeReplyObject(reply);
    return same ? NULL : fault_new(FAULT_CHANGED, "item %s of %s is not the one that was sent", index, l->claim->list);
}

struct fault *loader_verify(struct loader *l, const struct checker *sent)
{
    struct fault *f = verify_length(l);
    if (!f && l->acknowledged > 0) f = verify_item(l, "0", sent, checker_is_first);
    if (!f && l->acknowledged > 0) f = verify_item(l, "-1", sent, checker_is_last);
    return f ? fault_frame(f, "compare %s with what was sent", l->claim->list) : NULL;
}
