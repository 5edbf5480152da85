#include "worker/drop.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/dataset.h"
#include "shared/mem.h"
#include "shared/script.h"
#include "shared/script_run.h"

static void say(const struct options *o, const struct claim *c, const struct dropped *d)
{
    if (o->quiet) return;
    if (!d->found)
        printf("%s:%s: dropped: nothing was left of it but its id\n", c->job, c->id);
    else
        printf("%s:%s: dropped: %" PRIu64 " items, %" PRIu64 " bytes, run %" PRIu64 ", %s\n", c->job, c->id, d->items,
               d->bytes, d->run, d->list ? d->list : "no list");
}

/* *any is set when there was something to drop. */
static struct fault *drop_claim(struct conn *conn, const struct options *o, const struct claim *c, bool *any)
{
    struct dropped d;
    struct fault *f = script_drop(conn, c, o->force, &d);
    bool listed = false;
    if (!f) f = script_leave(conn, c, &listed);
    if (!f && (d.found || listed)) {
        *any = true;
        say(o, c, &d);
    }
    free(d.list);
    return f;
}

static struct fault *drop_one(struct conn *conn, const struct options *o, const char *id, bool *any)
{
    struct claim c;
    claim_init(&c, o->prefix, o->job, id, o->lease_ms);
    struct fault *f = drop_claim(conn, o, &c, any);
    claim_fini(&c);
    return f ? fault_frame(fault_about(f, "%s:%s", o->job, id), "drop dataset %s:%s", o->job, id) : NULL;
}

/* The ids of a job, sorted. */
struct ids {
    char **names;
    size_t count;
};

static void free_ids(struct ids *ids)
{
    for (size_t i = 0; i < ids->count; i++) free(ids->names[i]);
    free(ids->names);
}

/* What is no name of ours stays out: somebody else put it there, and no key of a dataset can be made of it. */
static struct fault *read_ids(struct conn *conn, const struct options *o, struct ids *ids)
{
    char *set = dataset_set_key(o->prefix, o->job);
    redisReply *reply;
    struct fault *f = conn_ask(conn, &reply, "SMEMBERS", set, NULL);
    free(set);
    *ids = (struct ids){0};
    if (f) return f;
    ids->names = mem_array(NULL, reply->elements + 1, sizeof *ids->names);
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *e = reply->element[i];
        if (e->type == REDIS_REPLY_STRING && dataset_name_is_valid(e->str))
            ids->names[ids->count++] = mem_strdup(e->str);
    }
    freeReplyObject(reply);
    dataset_sort_ids(ids->names, ids->count);
    return NULL;
}

static struct fault *refuse_if_leased(struct conn *conn, const struct options *o, const char *id)
{
    char *lease = dataset_lease_key(o->prefix, o->job, id);
    redisReply *reply;
    struct fault *f = conn_ask(conn, &reply, "GET", lease, NULL);
    free(lease);
    if (f) return f;
    if (reply->type == REDIS_REPLY_STRING) {
        char *holder = script_holder(reply->str);
        f = fault_new(FAULT_BUSY,
                      "worker %s holds the lease; nothing of job %s was dropped (--force drops it all the same)",
                      holder, o->job);
        free(holder);
    }
    freeReplyObject(reply);
    return f ? fault_about(f, "%s:%s", o->job, id) : NULL;
}

static struct fault *drop_all(struct conn *conn, const struct options *o, bool *any)
{
    struct ids ids;
    struct fault *f = read_ids(conn, o, &ids);
    for (size_t i = 0; i < ids.count && !f && !o->force; i++) f = refuse_if_leased(conn, o, ids.names[i]);
    for (size_t i = 0; i < ids.count && !f; i++) f = drop_one(conn, o, ids.names[i], any);
    free_ids(&ids);
    return f;
}

struct fault *drop_datasets(struct conn *conn, const struct options *o)
{
    bool any = false;
    struct fault *f = o->drop_all ? drop_all(conn, o, &any) : drop_one(conn, o, o->id, &any);
    if (f || any) return f;
    if (o->drop_all)
        return fault_new(FAULT_NO_DATASETS, "job %s has no datasets on %s: nothing to drop", o->job,
                         endpoint_name(conn_endpoint(conn)));
    return fault_new(FAULT_NO_DATASETS, "there is no dataset %s:%s on %s: nothing to drop", o->job, o->id,
                     endpoint_name(conn_endpoint(conn)));
}
