/*
 * fake_link.h - merger/link.h without a connection: lists in memory, replies when the test says so.
 *
 * Included by a test of what lies above the link (stream, fetch, merge), once a program; it defines link.h's functions, so
 * that the real link.o stays in its archive. Replies are real protocol read by the real decoder, so batches are what Redis
 * would bring. Nothing is answered before fake_answer(); a request made from within an answer waits for the next.
 */
#ifndef NWM_TESTS_FAKE_LINK_H
#define NWM_TESTS_FAKE_LINK_H

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merger/link.h"
#include "shared/mem.h"

struct fake_list {
    char *key;
    struct bytes *items; /* copies, with a NUL behind */
    size_t n;
    const char *error; /* the list's answer instead, as protocol: "-WRONGTYPE …\r\n", or NULL */
};

struct fake_request {
    struct fake_list *list;
    uint64_t first, last;
    struct expectation reply;
    link_reply_fn *fn;
    void *owner;
};

enum { FAKE_REQUESTS = 8192, FAKE_LISTS = 4096 };

struct link {
    enum link_state state;
    char separator;
    struct decoder *decoder;
    struct fake_list lists[FAKE_LISTS];
    size_t list_count;
    struct fake_request requests[FAKE_REQUESTS]; /* a ring */
    size_t head, count, weight;
    uint64_t rtt_us;
    /* What a test looks at afterwards. */
    size_t most_weight, asked, largest_request;
};

static inline struct link *fake_link_new(char separator)
{
    struct link *l = mem_zalloc(sizeof *l);
    l->state = LINK_UP;
    l->separator = separator;
    l->decoder = decoder_new(separator);
    return l;
}

static inline void fake_list_clear(struct fake_list *f)
{
    for (size_t i = 0; i < f->n; i++) free((char *)f->items[i].data);
    free(f->items);
    f->items = NULL;
    f->n = 0;
}

static inline void fake_link_free(struct link *l)
{
    for (size_t i = 0; i < l->list_count; i++) {
        fake_list_clear(&l->lists[i]);
        free(l->lists[i].key);
    }
    decoder_free(l->decoder);
    free(l);
}

static inline struct fake_list *fake_list(struct link *l, const char *key)
{
    for (size_t i = 0; i < l->list_count; i++)
        if (strcmp(l->lists[i].key, key) == 0) return &l->lists[i];
    cr_assert_lt(l->list_count, FAKE_LISTS);
    l->lists[l->list_count].key = mem_strdup(key);
    return &l->lists[l->list_count++];
}

static inline void fake_push(struct fake_list *f, const void *item, size_t len)
{
    if ((f->n & (f->n - 1)) == 0) f->items = mem_array(f->items, f->n ? 2 * f->n : 1, sizeof *f->items);
    f->items[f->n++] = (struct bytes){mem_dup(item, len), len};
}

static inline void fake_set(struct fake_list *f, size_t i, const char *text)
{
    free((char *)f->items[i].data);
    f->items[i] = (struct bytes){mem_strdup(text), strlen(text)};
}

/* What LRANGE answers. */
static inline void fake_encode(const struct fake_request *r, struct buf *out)
{
    const struct fake_list *f = r->list;
    if (f->error) {
        buf_append(out, f->error, strlen(f->error));
        return;
    }
    uint64_t end = r->last + 1 < f->n ? r->last + 1 : f->n;
    uint64_t n = end > r->first ? end - r->first : 0;
    buf_printf(out, "*%" PRIu64 "\r\n", n);
    for (uint64_t i = 0; i < n; i++) {
        const struct bytes *item = &f->items[r->first + i];
        buf_printf(out, "$%zu\r\n", item->len);
        buf_append(out, item->data, item->len);
        buf_append(out, "\r\n", 2);
    }
}

/* Answers the oldest request; false when there is none. */
static inline bool fake_answer(struct link *l)
{
    if (l->count == 0) return false;
    struct fake_request r = l->requests[l->head];
    l->head = (l->head + 1) % FAKE_REQUESTS;
    l->count--;
    l->weight -= r.reply.memory_most;
    struct buf text = {0};
    fake_encode(&r, &text);
    decoder_expect(l->decoder, &r.reply);
    void *reply = NULL;
    cr_assert_eq(decoder_feed(l->decoder, text.data, text.len, &reply), text.len);
    cr_assert_not_null(reply, "%s", decoder_refusal(l->decoder));
    buf_free(&text);
    r.fn(r.owner, reply);
    return true;
}

static inline void fake_answer_all(struct link *l)
{
    while (fake_answer(l)) {
    }
}

static inline void fake_go_down(struct link *l)
{
    l->state = LINK_DOWN;
    while (l->count > 0) {
        struct fake_request r = l->requests[l->head];
        l->head = (l->head + 1) % FAKE_REQUESTS;
        l->count--;
        l->weight -= r.reply.memory_most;
        r.fn(r.owner, NULL);
    }
}

/* ---- merger/link.h */

struct link *link_new(struct event_base *base, const struct endpoint *e, const char *client_name, char separator,
                      int64_t timeout_ms)
{
    (void)base, (void)e, (void)client_name, (void)timeout_ms;
    return fake_link_new(separator);
}

void link_free(struct link *l) { fake_link_free(l); }

enum link_state link_state(const struct link *l) { return l->state; }

const struct endpoint *link_endpoint(const struct link *l)
{
    (void)l;
    return NULL;
}

struct fault *link_take_fault(struct link *l)
{
    (void)l;
    return NULL;
}

void link_ask_range(struct link *l, const char *key, int64_t first, int64_t last, const struct expectation *reply,
                    link_reply_fn *fn, void *owner)
{
    cr_assert_eq(l->state, LINK_UP);
    struct fake_list *list = fake_list(l, key);
    if (first < 0) first += (int64_t)list->n;
    if (last < 0) last += (int64_t)list->n;
    cr_assert_leq(first, last);
    cr_assert_eq(reply->want, (uint64_t)(last - first + 1));
    cr_assert_lt(l->count, FAKE_REQUESTS);
    l->requests[(l->head + l->count++) % FAKE_REQUESTS] =
        (struct fake_request){list, (uint64_t)first, (uint64_t)last, *reply, fn, owner};
    l->weight += reply->memory_most;
    l->asked++;
    if (l->weight > l->most_weight) l->most_weight = l->weight;
    if ((size_t)(last - first + 1) > l->largest_request) l->largest_request = (size_t)(last - first + 1);
}

void link_break(struct link *l, struct fault *fault)
{
    fault_free(fault);
    fake_go_down(l);
}

void link_hold(struct link *l, bool held) { (void)l, (void)held; }
uint64_t link_answered(const struct link *l) { return l->asked - l->count; }

int64_t link_waiting_since(const struct link *l)
{
    (void)l;
    return 0;
}

void link_flush(struct link *l) { (void)l; }
uint64_t link_rtt_us(const struct link *l) { return l->rtt_us; }
size_t link_outstanding(const struct link *l) { return l->count; }
size_t link_outstanding_bytes(const struct link *l) { return l->weight; }

#endif
