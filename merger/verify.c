#include "merger/verify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "merger/control.h"
#include "shared/conn.h"
#include "shared/mem.h"

/* As in stream.c: 1 MB, or one item and what is around it. */
enum { REPLY_LIMIT = 1000 * 1000, AROUND = 256 * 1024, PLAIN_ITEMS = 100 };

struct item {
    const char *data;
    size_t len;
    size_t at; /* stream order, then item order: what makes the sort stable */
};

struct verify {
    const struct options *options;
    const struct order *order;
    struct item *items; /* what the merge should write, in order */
    size_t count, capacity;
    redisReply **replies; /* own the items' bytes */
    size_t reply_count;

    struct part {
        size_t end; /* behind its last item, as item.at counts */
    } * parts;      /* one a dataset that was fetched: a stream of the merge */
    size_t part_count;
    const struct merge *merge; /* knows which of them were left out */

    size_t next;             /* the first item that was not compared yet */
    const struct item *last; /* the one before */
    size_t seen;
    bool differs;
    size_t differs_at;        /* from 0 */
    struct buf local, remote; /* the first difference, quoted */
};

/* ---- the plain path ---------------------------------------------------------------------------------------------- */

static void keep_reply(struct verify *v, redisReply *reply)
{
    v->replies = mem_array(v->replies, v->reply_count + 1, sizeof *v->replies);
    v->replies[v->reply_count++] = reply;
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *e = reply->element[i];
        if (v->count == v->capacity) {
            v->capacity = v->capacity ? 2 * v->capacity : 1024;
            v->items = mem_array(v->items, v->capacity, sizeof *v->items);
        }
        v->items[v->count] = (struct item){e->str, e->len, v->count};
        v->count++;
    }
}

static bool is_list_of_strings(const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY) return false;
    for (size_t i = 0; i < reply->elements; i++)
        if (reply->element[i]->type != REDIS_REPLY_STRING) return false;
    return true;
}

static struct fault *fetch_range(struct verify *v, struct conn *c, const struct manifest *f, uint64_t first, uint64_t n)
{
    char from[24], to[24];
    snprintf(from, sizeof from, "%" PRIu64, first);
    snprintf(to, sizeof to, "%" PRIu64, first + n - 1);
    redisReply *reply;
    struct fault *fault = conn_ask(c, &reply, "LRANGE", f->list, from, to, NULL);
    if (fault) return fault;
    if (!is_list_of_strings(reply)) {
        fault = fault_new(FAULT_PROTOCOL, "LRANGE %s was answered with something that is no list of strings", f->list);
    } else if (reply->elements != n) {
        fault = fault_new(reply->elements ? FAULT_CHANGED : FAULT_VANISHED,
                          "list %s brought %zu items where %" PRIu64 " were asked for", f->list, reply->elements, n);
    }
    if (fault) {
        freeReplyObject(reply);
        return fault;
    }
    keep_reply(v, reply);
    return NULL;
}

static uint64_t items_at_once(const struct manifest *f)
{
    uint64_t n = f->max_item ? f->max_item < REPLY_LIMIT ? REPLY_LIMIT / (f->max_item + 16) : 1 : PLAIN_ITEMS;
    bool window_fits = f->max_window > 0 && f->max_window - f->max_item <= AROUND;
    if (window_fits && n < DATASET_WINDOW) n = DATASET_WINDOW;
    return n ? n : 1;
}

/* One dataset, and what there was before it. */
struct whole {
    struct verify *verify;
    const struct manifest *manifest;
    size_t count, reply_count;
};

/* After a lost connection it begins anew. */
static void forget_begun(const struct whole *w)
{
    struct verify *v = w->verify;
    v->count = w->count;
    while (v->reply_count > w->reply_count) freeReplyObject(v->replies[--v->reply_count]);
}

static struct fault *ask_whole(struct conn *c, void *whole)
{
    const struct whole *w = whole;
    const struct manifest *f = w->manifest;
    uint64_t step = items_at_once(f);
    struct fault *fault = NULL;
    forget_begun(w);
    for (uint64_t at = 0; at < f->items && !fault; at += step)
        fault = fetch_range(w->verify, c, f, at, f->items - at < step ? f->items - at : step);
    return fault;
}

static struct fault *fetch_whole(struct verify *v, struct control *c, const struct member *m)
{
    struct whole w = {v, &m->manifest, v->count, v->reply_count};
    struct fault *fault = control_ask(c, ask_whole, &w);
    return fault_about(fault_frame(fault, "verify %s", m->name), "%s", m->name);
}

static void end_part(struct verify *v)
{
    v->parts = mem_array(v->parts, v->part_count + 1, sizeof *v->parts);
    v->parts[v->part_count++] = (struct part){v->count};
}

/* --partial: one that cannot be fetched is left out of the merge that follows. Its items are none of ours, then. */
static struct fault *fetch_part(struct verify *v, struct control *c, struct roster *r, size_t i)
{
    size_t before = v->count;
    struct fault *fault = fetch_whole(v, c, roster_member(r, i));
    bool can_go_on = fault && v->options->partial && !fault_is(fault, FAULT_INTERRUPTED);
    if (can_go_on) {
        v->count = before;
        roster_leave_out(r, i, fault);
        return NULL;
    }
    if (!fault) end_part(v);
    return fault;
}

static struct fault *fetch_all(struct verify *v, struct roster *r)
{
    size_t servers = roster_servers(r);
    const struct options *o = v->options;
    struct control **controls = mem_zalloc(servers * sizeof *controls);
    struct fault *fault = NULL;
    for (size_t i = 0; i < roster_size(r) && !fault; i++) {
        size_t server = roster_member(r, i)->server;
        if (!controls[server])
            fault = control_open(o->endpoints[server], "nwm-merger-verify", o->timeout_ms, o->timeout_ms,
                                 &controls[server]);
    }
    for (size_t i = 0; i < roster_size(r) && !fault; i++)
        fault = fetch_part(v, controls[roster_member(r, i)->server], r, i);
    for (size_t i = 0; i < servers; i++) control_close(controls[i]);
    free(controls);
    return fault;
}

/* ---- the independent sort ---------------------------------------------------------------------------------------- */

static int compare_items(const void *a, const void *b, void *order)
{
    const struct item *left = a, *right = b;
    int c = order_compare(order, left->data, left->len, right->data, right->len);
    if (c != 0) return c;
    return left->at < right->at ? -1 : left->at > right->at;
}

struct fault *verify_new(const struct options *o, struct roster *r, const struct order *order, struct verify **out)
{
    struct verify *v = mem_zalloc(sizeof *v);
    *out = v;
    v->options = o;
    v->order = order;
    struct fault *fault = fetch_all(v, r);
    if (fault) return fault;
    if (v->count > 0) qsort_r(v->items, v->count, sizeof *v->items, compare_items, (void *)order);
    return NULL;
}

void verify_free(struct verify *v)
{
    if (!v) return;
    for (size_t i = 0; i < v->reply_count; i++) freeReplyObject(v->replies[i]);
    free(v->replies);
    free(v->items);
    free(v->parts);
    buf_free(&v->local);
    buf_free(&v->remote);
    free(v);
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

static void note_difference(struct verify *v, const struct item *local, const char *remote, size_t len)
{
    v->differs = true;
    v->differs_at = v->seen;
    if (local) {
        buf_quote(&v->local, local->data, local->len, 80);
    } else {
        buf_printf(&v->local, "nothing");
    }
    if (remote) {
        buf_quote(&v->remote, remote, len, 80);
    } else {
        buf_printf(&v->remote, "nothing");
    }
}

void verify_follow(struct verify *v, const struct merge *m) { v->merge = m; }

static bool is_left_out(const struct verify *v, const struct item *item)
{
    if (!v->merge || merge_left_out_count(v->merge) == 0) return false;
    size_t low = 0, high = v->part_count - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (item->at < v->parts[middle].end) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return merge_left_out(v->merge, low);
}

static bool repeats_last(const struct verify *v, const struct item *item)
{
    return v->options->unique && v->last &&
           order_compare(v->order, v->last->data, v->last->len, item->data, item->len) == 0;
}

/* What should come now, or NULL. */
static const struct item *expected(struct verify *v)
{
    if (v->options->has_limit && v->seen >= v->options->limit) return NULL;
    while (v->next < v->count && (is_left_out(v, &v->items[v->next]) || repeats_last(v, &v->items[v->next]))) v->next++;
    return v->next < v->count ? &v->items[v->next] : NULL;
}

void verify_observe(void *verify, const struct batch *batch, uint32_t from, uint32_t to)
{
    struct verify *v = verify;
    for (uint32_t i = from; i < to && !v->differs; i++, v->seen++) {
        size_t len;
        const char *item = batch_item(batch, i, &len);
        const struct item *local = expected(v);
        if (!local || local->len != len || memcmp(local->data, item, len) != 0) note_difference(v, local, item, len);
        v->last = local;
        v->next++;
    }
}

struct fault *verify_result(const struct verify *v)
{
    struct verify *end = (struct verify *)v;
    const struct item *more = v->differs ? NULL : expected(end);
    if (more) note_difference(end, more, NULL, 0);
    if (!v->differs) return NULL;
    return fault_new(FAULT_MISMATCH, "local == remote: false; item %zu is %s locally and %s in the merge",
                     v->differs_at + 1, buf_text(&end->local), buf_text(&end->remote));
}
