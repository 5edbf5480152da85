#include "merger/closing.h"

#include <inttypes.h>

#include "shared/conn.h"

static struct fault *about_server(struct fault *f, const struct conn *c)
{
    return fault_frame(f, "ask %s at the end", endpoint_name(conn_endpoint(c)));
}

/* Redis knows no empty lists, so there is nothing to look at for a dataset without items. */
static bool is_there(const struct member *m, size_t server) { return m->server == server && m->manifest.items > 0; }

static struct fault *check_length(const struct member *m, const redisReply *reply)
{
    struct fault *fault = reply_fault(reply, "LLEN");
    if (!fault && reply->type != REDIS_REPLY_INTEGER)
        fault = fault_new(FAULT_PROTOCOL, "LLEN was not answered with a number");
    if (!fault && (uint64_t)reply->integer != m->manifest.items) {
        enum fault_kind kind = reply->integer == 0 ? FAULT_VANISHED : FAULT_CHANGED;
        fault = fault_new(kind, "list %s has %lld items at the end of the merge, %" PRIu64 " when it was ready",
                          m->manifest.list, reply->integer, m->manifest.items);
    }
    return fault ? fault_about(fault, "%s", m->name) : NULL;
}

static struct fault *check_lengths(struct roster *r, size_t server)
{
    struct conn *c = roster_conn(r, server);
    struct fault *first = NULL;
    for (size_t i = 0; i < roster_size(r); i++)
        if (is_there(roster_member(r, i), server))
            conn_append_words(c, "LLEN", roster_member(r, i)->manifest.list, NULL);
    for (size_t i = 0; i < roster_size(r); i++) {
        const struct member *m = roster_member(r, i);
        if (!is_there(m, server)) continue;
        redisReply *reply;
        struct fault *fault = conn_reply(c, &reply);
        if (fault) {
            fault_free(first);
            return about_server(fault, c);
        }
        if (!first) first = check_length(m, reply);
        freeReplyObject(reply);
    }
    return first;
}

/* An empty transaction fails when something watched was touched since WATCH. */
static struct fault *check_watched(struct roster *r, size_t server)
{
    bool watches = false;
    for (size_t i = 0; i < roster_size(r); i++)
        watches |= roster_member(r, i)->is_plain && roster_member(r, i)->server == server;
    if (!watches) return NULL;
    struct conn *c = roster_conn(r, server);
    redisReply *reply;
    struct fault *fault = conn_ask(c, &reply, "MULTI", NULL);
    if (fault) return about_server(fault, c);
    freeReplyObject(reply);
    fault = conn_ask(c, &reply, "EXEC", NULL);
    if (fault) return about_server(fault, c);
    bool touched = reply->type == REDIS_REPLY_NIL;
    freeReplyObject(reply);
    return touched ? fault_new(FAULT_CHANGED, "a list named with --list was changed on %s while it was merged",
                               endpoint_name(conn_endpoint(c)))
                   : NULL;
}

struct fault *closing_check(struct roster *r)
{
    struct fault *fault = NULL;
    for (size_t i = 0; i < roster_servers(r) && !fault; i++) fault = check_lengths(r, i);
    for (size_t i = 0; i < roster_servers(r) && !fault; i++) fault = check_watched(r, i);
    return fault;
}
