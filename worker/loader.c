#include "worker/loader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The sizes. A push ends at BLOCK_ITEMS or BLOCK_BYTES, whichever comes first. Loading 4 million 12-digit numbers costs the
 * server 620 ms at 500 items a push, 650 at 1000, 580 at 2000, 530 at 4000, 515 at 8000 (and 690 by redis-cli --pipe, 1000
 * items a push); the worker 270, 230, 190, 160, 150. (Medians of six, busy 2-core machine, Redis 7.0.) An item of LARGE or
 * more is a push of its own. One of HUGE or more is not copied: it goes to the connection in pieces from where it is, and
 * loader_add() waits until Redis has it, so that it exists once here and never twice.
 * UNSENT_MOST keeps what waits in this process small: the socket has a buffer of its own, and that keeps Redis busy.
 * WINDOW is the promise to be kind: so much may be on its way without an answer. It and PENDING_MOST bound what is held
 * here until Redis has acknowledged it.
 */
enum {
    BLOCK_ITEMS = 4000,
    BLOCK_BYTES = 128 << 10,
    LARGE = 64 << 10,
    HUGE = 1 << 20,
    PIECE = 256 << 10,
    HEADER_ROOM = 512, /* for "*1002\r\n$6\r\nRPUSHX\r\n$…\r\nKEY\r\n", in front of the items */
    ITEM_ROOM = 32,    /* for "$LENGTH\r\n" and "\r\n" around an item */
    UNSENT_MOST = 256 << 10,
    WINDOW = 8 << 20,
    PENDING_MOST = 64,
    BLOCK_ROOM = BLOCK_BYTES + LARGE + ITEM_ROOM, /* it is full before an item does not fit */
};

/* Items on their way into the list, one push. The first push of a list brings four replies: to MULTI, RPUSH, PEXPIRE,
 * EXEC; only the last says what was done. */
struct block {
    struct block *next;
    uint64_t items, length_after; /* what the list must hold then */
    int replies;                  /* still to come */
    struct bytes huge;            /* the one item, in the caller's memory; else data is NULL */
    size_t start, end, room;      /* the encoded items in data; room is that behind HEADER_ROOM */
    char data[];
};

struct loader {
    struct conn *conn;
    const struct claim *claim;
    struct pulse pulse;
    struct block *open; /* is being filled; NULL while there is nothing in it */
    /* Closed blocks, held until they are acknowledged: those that were sent, then those to be sent. */
    struct block *oldest, *newest, *unsent;
    struct block *spare;                    /* empty ones of BLOCK_ROOM */
    size_t pending_count, on_their_way;     /* blocks sent, and their bytes */
    uint64_t closed, acknowledged, to_skip; /* items */
    struct fault *refused;                  /* why the first push was not even queued, until EXEC says so */
    bool was_refused;                       /* a push was, so that one behind it may have been applied before it */
};

/* ---- blocks ---- */

static struct block *new_block(struct loader *l, size_t room)
{
    struct block *b = l->spare;
    if (room == BLOCK_ROOM && b)
        l->spare = b->next;
    else
        b = mem_alloc(sizeof *b + HEADER_ROOM + room);
    *b = (struct block){.room = room, .start = HEADER_ROOM, .end = HEADER_ROOM};
    return b;
}

static void release(struct loader *l, struct block *b)
{
    if (b->room != BLOCK_ROOM) {
        free(b);
        return;
    }
    b->next = l->spare;
    l->spare = b;
}

static void drop_oldest(struct loader *l)
{
    struct block *b = l->oldest;
    l->oldest = b->next;
    if (l->unsent == b) l->unsent = b->next;
    release(l, b);
}

/* Nothing is added to it any more: it can be sent. */
static void close_block(struct loader *l, struct block *b)
{
    l->closed += b->items;
    b->length_after = l->closed;
    if (l->oldest)
        l->newest->next = b;
    else
        l->oldest = b;
    l->newest = b;
    if (!l->unsent) l->unsent = b;
}

static void close_open(struct loader *l)
{
    if (l->open) close_block(l, l->open);
    l->open = NULL;
}

static size_t weight(const struct block *b) { return b->huge.data ? b->huge.len : b->end - b->start; }

struct loader *loader_new(struct conn *conn, const struct claim *claim)
{
    struct loader *l = mem_zalloc(sizeof *l);
    l->conn = conn;
    l->claim = claim;
    return l;
}

static void discard(struct loader *l)
{
    while (l->oldest) drop_oldest(l);
    if (l->open) release(l, l->open);
    l->open = NULL;
}

void loader_free(struct loader *l)
{
    if (!l) return;
    discard(l);
    for (struct block *b = l->spare, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    fault_free(l->refused);
    free(l);
}

void loader_set_pulse(struct loader *l, struct pulse p) { l->pulse = p; }
uint64_t loader_acknowledged(const struct loader *l) { return l->acknowledged; }
bool loader_is_idle(const struct loader *l) { return !l->oldest; }

/* ---- replies ---- */

static struct fault *list_gone(const struct loader *l)
{
    return fault_new(FAULT_LOST,
                     "%s is gone with %" PRIu64
                     " acknowledged items: it was deleted or evicted, or Redis restarted without persistence",
                     l->claim->list, l->acknowledged);
}

static struct fault *wrong_length(const struct loader *l, const struct block *b, long long length)
{
    if (length == 0) return list_gone(l);
    return fault_new(FAULT_CHANGED,
                     "%s holds %lld items after a push that makes it %" PRIu64 ": somebody else writes to it",
                     l->claim->list, length, b->length_after);
}

static struct fault *push_fault(struct loader *l, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ERROR) return NULL;
    l->was_refused = true;
    char *doing = mem_printf("push to %s", l->claim->list);
    struct fault *f = reply_fault(reply, doing);
    free(doing);
    return f;
}

/* The reply of RPUSH or RPUSHX. */
static struct fault *judge_length(struct loader *l, const struct block *b, const redisReply *reply)
{
    struct fault *f = push_fault(l, reply);
    if (f) return f;
    if (reply->type != REDIS_REPLY_INTEGER)
        return fault_new(FAULT_PROTOCOL, "a push to %s was answered with no number", l->claim->list);
    return (uint64_t)reply->integer == b->length_after ? NULL : wrong_length(l, b, reply->integer);
}

/* EXEC's reply: [length, 1]. When a command was refused as it was queued, that refusal says why, and EXEC only that it
 * did nothing. */
static struct fault *judge_exec(struct loader *l, const struct block *b, const redisReply *reply)
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
    return judge_length(l, b, reply->element[0]);
}

/* The one that makes the list. */
static bool is_first(const struct block *b) { return b->length_after == b->items; }

static struct fault *judge(struct loader *l, struct block *b, const redisReply *reply)
{
    if (--b->replies == 0) return is_first(b) ? judge_exec(l, b, reply) : judge_length(l, b, reply);
    if (!l->refused) l->refused = push_fault(l, reply);
    return NULL;
}

static struct fault *take_reply(struct loader *l)
{
    redisReply *reply;
    struct fault *f = conn_reply(l->conn, &reply);
    if (f) return f;
    struct block *b = l->oldest;
    f = judge(l, b, reply);
    freeReplyObject(reply);
    if (f || b->replies > 0) return f;
    l->acknowledged = b->length_after;
    l->on_their_way -= weight(b);
    l->pending_count--;
    drop_oldest(l);
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

static struct fault *take_all_replies(struct loader *l)
{
    struct fault *f = NULL;
    while (!f && l->pending_count > 0) f = take_reply(l);
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

/* What stands around the first push. Its end also ends the transaction. */
static void open_first(struct loader *l) { conn_append_words(l->conn, "MULTI", NULL); }

static void close_first(struct loader *l)
{
    char expiry[24];
    snprintf(expiry, sizeof expiry, "%" PRId64, claim_list_expiry_ms(l->claim));
    conn_append_words(l->conn, "PEXPIRE", l->claim->list, expiry, NULL);
    conn_append_words(l->conn, "EXEC", NULL);
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

/* In pieces: what is unsent never exceeds a piece or two. */
static struct fault *send_huge(struct loader *l, const char *head, const char *items, struct bytes item)
{
    struct fault *f = NULL;
    char length[ITEM_ROOM];
    conn_append_raw(l->conn, head, (size_t)(items - head), 0);
    conn_append_raw(l->conn, length, (size_t)(put_length(length, item.len) - length), 0);
    for (size_t at = 0; at < item.len && !f; at += PIECE) {
        size_t len = item.len - at < PIECE ? item.len - at : PIECE;
        conn_append_raw(l->conn, item.data + at, len, 0);
        f = conn_flush(l->conn, UNSENT_MOST);
    }
    if (!f) conn_append_raw(l->conn, "\r\n", 2, 1);
    return f;
}

static struct fault *send_block(struct loader *l, struct block *b)
{
    struct fault *f = NULL;
    char *items = b->data + b->start, *head = head_before(l, items, b->items, is_first(b));
    if (is_first(b)) open_first(l);
    if (b->huge.data)
        f = send_huge(l, head, items, b->huge);
    else
        conn_append_raw(l->conn, head, b->end - (size_t)(head - b->data), 1);
    if (f) return f;
    if (is_first(b)) close_first(l);
    b->replies = is_first(b) ? 4 : 1;
    l->on_their_way += weight(b);
    l->pending_count++;
    l->unsent = b->next;
    return NULL;
}

/* Sends every closed block. A huge item is the caller's, so it is then waited for. */
static struct fault *push(struct loader *l)
{
    struct fault *f = NULL;
    bool any = false;
    while (l->unsent && !f) {
        struct block *b = l->unsent;
        f = make_room(l, weight(b) < WINDOW ? weight(b) : WINDOW);
        if (!f) f = send_block(l, b);
        if (!f && b->huge.data) f = take_all_replies(l);
        any = true;
    }
    bool ready;
    return f || !any ? f : conn_pump(l->conn, &ready);
}

/* ---- items ---- */

static void put_item(struct block *b, struct bytes item)
{
    char *p = put_length(b->data + b->end, item.len);
    memcpy(p, item.data, item.len);
    p += item.len;
    *p++ = '\r';
    *p++ = '\n';
    b->end = (size_t)(p - b->data);
    b->items++;
}

static bool is_full(const struct block *b) { return b->items == BLOCK_ITEMS || b->end - HEADER_ROOM >= BLOCK_BYTES; }

static void add_small(struct loader *l, struct bytes item)
{
    if (!l->open) l->open = new_block(l, BLOCK_ROOM);
    put_item(l->open, item);
    if (is_full(l->open)) close_open(l);
}

static void add_large(struct loader *l, struct bytes item)
{
    close_open(l);
    struct block *b = new_block(l, item.len + ITEM_ROOM);
    put_item(b, item);
    close_block(l, b);
}

static void add_huge(struct loader *l, struct bytes item)
{
    close_open(l);
    struct block *b = new_block(l, 0);
    b->huge = item;
    b->items = 1;
    close_block(l, b);
}

struct fault *loader_add(struct loader *l, struct bytes item)
{
    if (l->to_skip > 0) {
        l->to_skip--;
        return NULL;
    }
    if (item.len < LARGE)
        add_small(l, item);
    else if (item.len < HUGE)
        add_large(l, item);
    else
        add_huge(l, item);
    struct fault *f = l->unsent ? push(l) : NULL;
    return f ? fault_frame(f, "push to %s", l->claim->list) : NULL;
}

struct fault *loader_finish(struct loader *l)
{
    close_open(l);
    struct fault *f = push(l);
    if (!f) f = take_all_replies(l);
    return f ? fault_frame(f, "push to %s", l->claim->list) : NULL;
}

/* ---- on another connection ---- */

static void forget_sent(struct loader *l, struct conn *conn)
{
    l->conn = conn;
    l->pending_count = l->on_their_way = 0;
    l->unsent = l->oldest;
    fault_free(l->refused);
    l->refused = NULL;
}

/* Takes the first item off a block of encoded ones. */
static struct bytes shift(struct block *b)
{
    char *rest;
    size_t len = strtoull(b->data + b->start + 1, &rest, 10);
    struct bytes item = {rest + 2, len};
    b->start = (size_t)(rest - b->data) + 2 + len + 2;
    b->items--;
    return item;
}

/* Takes off what the list has, up to that length; returns the last of it. */
static struct bytes take_off(struct loader *l, uint64_t length)
{
    struct bytes last = {0};
    while (l->acknowledged < length) {
        struct block *b = l->oldest;
        last = b->huge.data ? b->huge : shift(b);
        l->acknowledged++;
        if (l->acknowledged < b->length_after) continue;
        if (l->acknowledged == length) break; /* with `last` in it */
        drop_oldest(l);
    }
    return last;
}

static void drop_empty(struct loader *l)
{
    if (l->oldest && l->oldest->length_after == l->acknowledged) drop_oldest(l);
    l->unsent = l->oldest;
}

static struct fault *not_ours(const struct loader *l, uint64_t length)
{
    return fault_new(FAULT_CHANGED,
                     "%s holds %" PRIu64 " items, which are not those that were sent: somebody else writes to it",
                     l->claim->list, length);
}

static struct fault *resume(struct loader *l, uint64_t length, struct bytes last)
{
    uint64_t before = l->acknowledged;
    if (length > l->closed || (l->was_refused && length != before)) return not_ours(l, length);
    l->was_refused = false;
    struct bytes expected = take_off(l, length);
    bool same = last.data ? expected.len == last.len && memcmp(expected.data, last.data, last.len) == 0
                          : expected.len > LOADER_LAST_MOST;
    struct fault *f = length > before && !same ? not_ours(l, length) : NULL;
    drop_empty(l);
    return f ? f : push(l);
}

struct fault *loader_resume(struct loader *l, struct conn *conn, uint64_t length, struct bytes last)
{
    forget_sent(l, conn);
    struct fault *f = resume(l, length, last);
    return f ? fault_frame(f, "go on with %s after item %" PRIu64, l->claim->list, length) : NULL;
}

void loader_restart(struct loader *l, struct conn *conn, uint64_t length)
{
    forget_sent(l, conn);
    discard(l);
    l->was_refused = false;
    l->closed = l->acknowledged = l->to_skip = length;
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
    struct block all = {.length_after = l->acknowledged};
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
