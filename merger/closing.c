#include "merger/closing.h"

#include <inttypes.h>

#include "merger/control.h"
#include "shared/conn.h"

/* What a question is about. */
struct about {
    const struct roster *roster;
    size_t server;
    struct fault *first; /* of the faults found */
    bool touched;
};

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

static struct fault *ask_lengths(struct conn *c, void *about)
{
    struct about *a = about;
    const struct roster *r = a->roster;
    fault_free(a->first);
    a->first = NULL;
    for (size_t i = 0; i < roster_size(r); i++)
        if (is_there(roster_member(r, i), a->server))
            conn_append_words(c, "LLEN", roster_member(r, i)->manifest.list, NULL);
    for (size_t i = 0; i < roster_size(r); i++) {
        const struct member *m = roster_member(r, i);
        if (!is_there(m, a->server)) continue;
        redisReply *reply;
        struct fault *fault = conn_reply(c, &reply);
        if (fault) return fault;
        fault = check_length(m, reply);
        freeReplyObject(reply);
        if (fault && fault_may_pass(fault)) return fault;
        if (a->first) {
            fault_free(fault);
        } else {
            a->first = fault;
        }
    }
    return NULL;
}

/* An empty transaction fails when something watched was touched since WATCH. */
static struct fault *ask_watched(struct conn *c, void *about)
{
    struct about *a = about;
    redisReply *reply;
    struct fault *fault = conn_ask(c, &reply, "MULTI", NULL);
    if (fault) return fault;
    freeReplyObject(reply);
    fault = conn_ask(c, &reply, "EXEC", NULL);
    if (fault) return fault;
    a->touched = reply->type == REDIS_REPLY_NIL;
    freeReplyObject(reply);
    return NULL;
}

static struct fault *ask(struct roster *r, control_question *question, struct about *a)
{
    struct fault *fault = control_ask(roster_control(r, a->server), question, a);
    return fault_frame(fault, "ask %s at the end", endpoint_name(roster_endpoint(r, a->server)));
}

static struct fault *check_lengths(struct roster *r, size_t server)
{
    size_t i = 0;
    while (i < roster_size(r) && !is_there(roster_member(r, i), server)) i++;
    if (i == roster_size(r)) return NULL; /* with --partial the server may be away, and all that it has left out */
    struct about a = {.roster = r, .server = server};
    struct fault *fault = ask(r, ask_lengths, &a);
    if (!fault) return a.first;
    fault_free(a.first);
    return fault;
}

static struct fault *check_watched(struct roster *r, size_t server)
{
    bool watches = false;
    for (size_t i = 0; i < roster_size(r); i++)
        watches |= roster_member(r, i)->is_plain && roster_member(r, i)->server == server;
    if (!watches) return NULL;
    struct about a = {.roster = r, .server = server};
    struct fault *fault = ask(r, ask_watched, &a);
    if (fault || !a.touched) return fault;
    return fault_new(FAULT_CHANGED, "a list named with --list was changed on %s while it was merged",
                     endpoint_name(roster_endpoint(r, server)));
}

struct fault *closing_check(struct roster *r)
{
    struct fault *fault = NULL;
    for (size_t i = 0; i < roster_servers(r) && !fault; i++) fault = check_lengths(r, i);
    for (size_t i = 0; i < roster_servers(r) && !fault; i++) fault = check_watched(r, i);
    return fault;
}
