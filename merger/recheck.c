#include "merger/recheck.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "merger/control.h"
#include "shared/mem.h"

/* So many datasets are asked about before the first answer is read. */
enum { PIPELINE = 256 };

struct about {
    struct roster *roster;
    const struct options *options;
    size_t server;
    struct fault **found; /* of each member */
};

/* Redis knows no empty lists. */
static bool is_there(const struct member *m, size_t server)
{
    return m->server == server && m->removed < m->manifest.items;
}

static bool same_load(const struct manifest *now, const struct manifest *then)
{
    return now->token && then->token && strcmp(now->token, then->token) == 0;
}

static struct fault *gone(const struct about *a, const struct member *m, const struct manifest *now)
{
    const char *server = endpoint_name(roster_endpoint(a->roster, a->server));
    if (now && now->token && !same_load(now, &m->manifest))
        return fault_new(
            FAULT_VANISHED,
            "list %s is gone: it was replaced by a new load while %s was away, and not kept for long enough "
            "(--keep)",
            m->manifest.list, server);
    return fault_new(
        FAULT_VANISHED,
        "list %s is gone: %s came back without the data (restarted without persistence, flushed, or another "
        "server took over), or it was dropped; load it again",
        m->manifest.list, server);
}

/* Of a list that is not consumed, `removed` is 0. */
static struct fault *check_length(const struct about *a, const struct member *m, const struct manifest *now,
                                  const redisReply *reply)
{
    struct fault *fault = reply_fault(reply, "LLEN");
    if (fault) return fault;
    if (reply->type != REDIS_REPLY_INTEGER) return fault_new(FAULT_PROTOCOL, "LLEN was not answered with a number");
    /* A trim that the server forgot in a crash is made again. */
    uint64_t length = (uint64_t)reply->integer;
    if (length <= m->manifest.items && length >= m->manifest.items - m->removed) return NULL;
    if (reply->integer == 0) return gone(a, m, now);
    return fault_new(FAULT_CHANGED,
                     "list %s has %lld items, %" PRIu64
                     " when it was ready: %s came back with other data than it had (a crash can cost what was not yet "
                     "saved, a server that takes over what it had not yet received); load it again",
                     m->manifest.list, reply->integer, m->manifest.items,
                     endpoint_name(roster_endpoint(a->roster, a->server)));
}

static bool same_digest(const struct manifest *a, const struct manifest *b)
{
    return a->has_digest == b->has_digest && (!a->has_digest || digest_equal(&a->digest, &b->digest));
}

/* Of the same load, but not what it was. */
static bool contradicts(const struct manifest *now, const struct manifest *then)
{
    if (!same_load(now, then) || now->state != then->state) return false;
    return now->items != then->items || !same_digest(now, then);
}

static struct fault *check_dataset(const struct about *a, const struct member *m, const redisReply *hash,
                                   const redisReply *length)
{
    struct manifest now;
    struct fault *fault = reply_fault(hash, "reading the manifest");
    if (fault) return fault;
    fault = manifest_read(&now, hash);
    if (!fault) fault = check_length(a, m, &now, length);
    if (!fault && contradicts(&now, &m->manifest))
        fault = fault_new(FAULT_CHANGED, "its manifest is no longer what it was before %s went away",
                          endpoint_name(roster_endpoint(a->roster, a->server)));
    manifest_fini(&now);
    return fault;
}

static void ask_about(struct conn *c, const struct about *a, const struct member *m)
{
    if (!m->is_plain) {
        char *manifest = dataset_manifest_key(a->options->prefix, a->options->job, m->id);
        conn_append_words(c, "HGETALL", manifest, NULL);
        free(manifest);
    }
    conn_append_words(c, "LLEN", m->manifest.list, NULL);
}

/* What one dataset's answers mean goes into a->found. */
static struct fault *take_answers(struct conn *c, struct about *a, size_t member)
{
    const struct member *m = roster_member(a->roster, member);
    redisReply *hash = NULL, *length = NULL;
    struct fault *fault = m->is_plain ? NULL : conn_reply(c, &hash);
    if (!fault) fault = conn_reply(c, &length);
    if (!fault) {
        struct fault *found = m->is_plain ? check_length(a, m, NULL, length) : check_dataset(a, m, hash, length);
        if (found && fault_may_pass(found)) {
            fault = found;
        } else if (found) {
            a->found[member] = fault_about(found, "%s", m->name);
        }
    }
    if (hash) freeReplyObject(hash);
    if (length) freeReplyObject(length);
    return fault;
}

/* It may be asked again on another connection. */
static void forget_found(struct about *a)
{
    for (size_t i = 0; i < roster_size(a->roster); i++) {
        fault_free(a->found[i]);
        a->found[i] = NULL;
    }
}

static struct fault *ask_all(struct conn *c, void *about)
{
    struct about *a = about;
    struct fault *fault = NULL;
    size_t n = roster_size(a->roster);
    forget_found(a);
    for (size_t begin = 0; begin < n && !fault; begin += PIPELINE) {
        size_t end = begin + PIPELINE < n ? begin + PIPELINE : n;
        for (size_t i = begin; i < end; i++)
            if (is_there(roster_member(a->roster, i), a->server)) ask_about(c, a, roster_member(a->roster, i));
        for (size_t i = begin; i < end && !fault; i++)
            if (is_there(roster_member(a->roster, i), a->server)) fault = take_answers(c, a, i);
    }
    return fault;
}

struct fault *recheck_server(struct roster *r, const struct options *o, size_t server, struct fault **found)
{
    struct about a = {.roster = r, .options = o, .server = server, .found = found};
    struct fault *fault = control_ask_now(roster_control(r, server), ask_all, &a);
    if (!fault) return NULL;
    forget_found(&a);
    return fault_frame(fault, "look at %s after it came back", endpoint_name(roster_endpoint(r, server)));
}
