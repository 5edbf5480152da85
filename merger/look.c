#include "merger/look.h"

#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"

enum { REPLIES_PER_DATASET = 4 };

static bool may_be_here(const struct member *m, size_t server) { return !m->found || m->server == server; }

/* On every server, even when it was found on one: an id that stands on two must be noticed. */
static bool is_wanted(const struct member *m) { return !m->is_plain && !m->ready && !m->fault; }

static void ask_about(struct conn *c, const struct options *o, const struct member *m)
{
    char *manifest = dataset_manifest_key(o->prefix, o->job, m->id);
    char *lease = dataset_lease_key(o->prefix, o->job, m->id);
    conn_append_words(c, "MULTI", NULL);
    conn_append_words(c, "HGETALL", manifest, NULL);
    conn_append_words(c, "PTTL", lease, NULL);
    conn_append_words(c, "EXEC", NULL);
    free(manifest);
    free(lease);
}

static struct fault *two_servers(struct member *m)
{
    return fault_about(fault_new(FAULT_USAGE, "this dataset is on two of the servers; an id may stand on one only"),
                       "%s", m->name);
}

/* What the look found replaces what was known. A dataset found on a second server is refused. */
static void take_manifest(struct member *m, size_t server, const redisReply *hash, const redisReply *lease)
{
    struct manifest now;
    struct fault *fault = manifest_read(&now, hash);
    if (!fault && now.state == DATASET_MISSING) {
        manifest_fini(&now);
        if (m->found && m->server == server) {
            manifest_fini(&m->manifest);
            memset(&m->manifest, 0, sizeof m->manifest);
            m->found = false;
        }
        return;
    }
    if (m->found && m->server != server) {
        fault_free(fault);
        fault = two_servers(m);
    }
    manifest_fini(&m->manifest);
    m->manifest = now;
    m->found = true;
    m->server = server;
    /* PTTL: -2 is no key, -1 a lease without end, which nobody of us wrote but which is held all the same. */
    long long left = lease->type == REDIS_REPLY_INTEGER ? lease->integer : -2;
    m->lease_left_ms = left == -1 ? INT64_MAX : left;
    if (fault) m->fault = fault_about(fault, "%s", m->name);
}

/* An error instead of them is the server's word on the one dataset or on us; one that may pass is about the server, and returned. */
static struct fault *take_pair(struct member *m, size_t server, const redisReply *hash, const redisReply *lease)
{
    struct fault *refused = reply_fault(hash, "reading the manifest");
    if (!refused) refused = reply_fault(lease, "reading the lease");
    if (refused && fault_may_pass(refused)) return refused;
    if (!refused)
        take_manifest(m, server, hash, lease);
    else if (!m->fault)
        m->fault = fault_about(refused, "%s", m->name);
    else
        fault_free(refused);
    return NULL;
}

/* EXEC's reply, refused being the first error of those before it. *full: the server has no memory to queue commands. */
static struct fault *take_exec(struct member *m, size_t server, const redisReply *reply, struct fault *refused,
                               bool *full)
{
    if (!refused) refused = reply_fault(reply, "reading the manifest");
    if (!refused && !(reply->type == REDIS_REPLY_ARRAY && reply->elements == 2))
        refused = fault_new(FAULT_PROTOCOL, "EXEC was not answered with two replies");
    *full = refused && fault_is(refused, FAULT_SERVER_FULL);
    if (refused && fault_may_pass(refused)) return refused;
    if (!refused) return take_pair(m, server, reply->element[0], reply->element[1]);
    if (!m->fault && !*full)
        m->fault = fault_about(refused, "%s", m->name);
    else
        fault_free(refused);
    return NULL;
}

/* The replies of MULTI, HGETALL, PTTL, EXEC. */
static struct fault *read_about(struct conn *c, struct member *m, size_t server, bool *full)
{
    struct fault *refused = NULL;
    for (int i = 0; i < REPLIES_PER_DATASET; i++) {
        redisReply *reply;
        struct fault *fault = conn_reply(c, &reply);
        if (fault) {
            fault_free(refused);
            return fault;
        }
        if (i == REPLIES_PER_DATASET - 1)
            refused = take_exec(m, server, reply, refused, full);
        else if (!refused)
            refused = reply_fault(reply, "reading the manifest");
        freeReplyObject(reply);
    }
    return refused;
}

/* Reading needs no memory where queueing does. A load that ends between the two replies looks like one that lost its
 * lease, but only to this look, and WorkerLost takes two. */
static struct fault *look_without_multi(struct conn *c, struct member *m, const struct options *o, size_t server)
{
    char *manifest = dataset_manifest_key(o->prefix, o->job, m->id);
    char *lease = dataset_lease_key(o->prefix, o->job, m->id);
    conn_append_words(c, "HGETALL", manifest, NULL);
    conn_append_words(c, "PTTL", lease, NULL);
    free(manifest);
    free(lease);
    redisReply *hash, *left;
    struct fault *fault = conn_reply(c, &hash);
    if (fault) return fault;
    fault = conn_reply(c, &left);
    if (!fault) {
        fault = take_pair(m, server, hash, left);
        freeReplyObject(left);
    }
    freeReplyObject(hash);
    return fault;
}

/* So many datasets are asked about before the first answer is read, each within a round trip that thousands share. A manifest is half a
 * KB, and never more than a few: all answers stay far below the 8 MB that may be outstanding. */
enum { PIPELINE = 1024 };

struct fault *look_at_datasets(struct conn *c, size_t server, const struct options *o, struct member *members, size_t n)
{
    struct fault *fault = NULL;
    for (size_t begin = 0; begin < n && !fault; begin += PIPELINE) {
        size_t end = begin + PIPELINE < n ? begin + PIPELINE : n;
        bool asked[PIPELINE], full[PIPELINE] = {0};
        for (size_t i = begin; i < end; i++) {
            asked[i - begin] = is_wanted(&members[i]);
            if (asked[i - begin]) ask_about(c, o, &members[i]);
        }
        for (size_t i = begin; i < end && !fault; i++)
            if (asked[i - begin]) fault = read_about(c, &members[i], server, &full[i - begin]);
        for (size_t i = begin; i < end && !fault; i++)
            if (full[i - begin]) fault = look_without_multi(c, &members[i], o, server);
    }
    return fault;
}

/* ---- plain lists ------------------------------------------------------------------------------------------------- */

static struct fault *take_length(struct member *m, size_t server, const redisReply *reply)
{
    struct fault *fault = reply_fault(reply, "LLEN");
    if (!fault && reply->type != REDIS_REPLY_INTEGER)
        fault = fault_new(FAULT_PROTOCOL, "LLEN was not answered with a number");
    if (!fault && reply->integer > 0) {
        if (m->found && m->server != server) fault = two_servers(m);
        m->found = true;
        m->server = server;
        m->manifest.state = DATASET_READY;
        m->manifest.items = (uint64_t)reply->integer;
        if (!m->manifest.list) m->manifest.list = mem_strdup(m->id);
    }
    if (!fault || fault_may_pass(fault)) return fault;
    if (m->fault) {
        fault_free(fault);
    } else {
        m->fault = fault_about(fault, "%s", m->name);
    }
    return NULL;
}

struct fault *look_at_lists(struct conn *c, size_t server, bool watch, struct member *members, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct member *m = &members[i];
        if (!m->is_plain || m->fault || (watch && !may_be_here(m, server))) continue;
        redisReply *reply;
        struct fault *fault = watch ? conn_ask(c, &reply, "WATCH", m->id, NULL) : NULL;
        if (fault) return fault;
        if (watch) freeReplyObject(reply);
        conn_append_words(c, "LLEN", m->id, NULL);
        fault = conn_reply(c, &reply);
        if (fault) return fault;
        fault = take_length(m, server, reply);
        freeReplyObject(reply);
        if (fault) return fault;
    }
    return NULL;
}
