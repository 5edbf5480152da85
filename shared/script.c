#include "shared/script.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shared/script_run.h"

/*
 * KEYS[2] is the worker's lease, and what they are given first stands in script_run.h. The list is named by the manifest, or by
 * its begin. "lost" HOLDER: the manifest has another token.
 */

/* clang-format off */

/* ARGV[4] lease ms, [5] nonce, [6] order, [7] source, [8] keep ms, [9] contract. For a full Redis, DEL comes before
 * HSET (script.h). */
static const char begin_text[] =
    "local holder = redis.call('GET', KEYS[2])\n"
    "if holder and holder ~= ARGV[1] then return {'busy', holder, redis.call('PTTL', KEYS[2])} end\n"
    "local old = redis.call('HMGET', KEYS[1], 'run', 'state', 'list', 'token', 'contract')\n"
    "if old[4] == ARGV[1] then return {'begun', old[1], old[3]} end\n"
    "if old[5] and old[5] ~= ARGV[9] then return {'contract', old[5]} end\n"
    "if owned(old[3]) then\n"
    "  if (old[2] == 'ready' or old[2] == 'consumed') and tonumber(ARGV[8]) > 0 then\n"
    "    local left = redis.call('PTTL', old[3])\n"
    "    if left < 0 or left > tonumber(ARGV[8]) then redis.call('PEXPIRE', old[3], ARGV[8]) end\n"
    "  else\n"
    "    redis.call('UNLINK', old[3])\n"
    "  end\n"
    "end\n"
    "local run = string.format('%.0f', (tonumber(old[1]) or 0) + 1)\n"
    "local list = KEYS[1] .. ':' .. run .. '.' .. ARGV[5]\n"
    "redis.call('DEL', KEYS[1])\n"
    "redis.call('HSET', KEYS[1], 'contract', ARGV[9], 'state', 'loading', 'run', run, 'list', list, 'token', ARGV[1],\n"
    "  'lease', ARGV[4], 'order', ARGV[6], 'source', ARGV[7], 'started', redis.call('TIME')[1])\n"
    "redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])\n"
    "tell('loading', run, '0')\n"
    "return {'begun', run, list}\n";

/* That there is no manifest is believed only of a server that takes writes: a replica may not have it yet. */
#define BELIEVE_GONE "if not now[1] then redis.call('DEL', KEYS[1] .. ':gone') end\n"

/* ARGV[4] lease ms, [5] the list's expiry in ms. Once it is sealed there is nothing to renew, whatever became of it. */
static const char heartbeat_text[] =
    "local now = redis.call('HMGET', KEYS[1], 'token', 'state', 'list')\n"
    BELIEVE_GONE
    "if now[1] ~= ARGV[1] then return {'lost', now[1] or ''} end\n"
    "if now[2] == 'ready' or now[2] == 'consumed' then return {'ok'} end\n"
    "if now[2] ~= 'loading' then return {'state', now[2] or ''} end\n"
    "local holder = redis.call('GET', KEYS[2])\n"
    "if holder and holder ~= ARGV[1] then return {'lost', holder} end\n"
    "if owned(now[3]) then redis.call('PEXPIRE', now[3], ARGV[5]) end\n"
    "redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])\n"
    "return {'ok'}\n";

/* ARGV[4] lease ms, [5] the list's expiry in ms, [6] the list as it was, [7] as it is to be called, [8] how long a last
 * item may be to be answered. For a full Redis, DEL comes before HSET. */
static const char reclaim_text[] =
    "local now = redis.call('HMGET', KEYS[1], 'token', 'state', 'list', 'run')\n"
    BELIEVE_GONE
    "if now[1] ~= ARGV[1] then return {'lost', now[1] or '', tonumber(now[4]) or 0} end\n"
    "if now[2] == 'ready' or now[2] == 'consumed' then return {'ready'} end\n"
    "if now[2] ~= 'loading' then return {'state', now[2] or ''} end\n"
    "local holder = redis.call('GET', KEYS[2])\n"
    "if holder and holder ~= ARGV[1] then return {'lost', holder} end\n"
    "if now[3] ~= ARGV[6] and now[3] ~= ARGV[7] then return {'list', now[3] or ''} end\n"
    "local items = redis.call('LLEN', now[3])\n"
    "if now[3] ~= ARGV[7] then\n"
    "  redis.call('DEL', ARGV[7])\n"
    "  if items > 0 then redis.call('RENAME', now[3], ARGV[7]) end\n"
    "  redis.call('HSET', KEYS[1], 'list', ARGV[7])\n"
    "end\n"
    "redis.call('PEXPIRE', ARGV[7], ARGV[5])\n"
    "redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])\n"
    "local last = redis.call('LINDEX', ARGV[7], -1)\n"
    "return {'ours', items, last and #last <= tonumber(ARGV[8]) and last}\n";

/* ARGV[4] ttl ms or 0, [5] items, [6…] fields and values. */
static const char ready_text[] =
    "local now = redis.call('HMGET', KEYS[1], 'token', 'state', 'list', 'run')\n"
    "if now[1] ~= ARGV[1] then return {'lost', now[1] or ''} end\n"
    "if now[2] == 'ready' then return {'ok'} end\n"
    "if now[2] ~= 'loading' or not owned(now[3]) then return {'state', now[2] or ''} end\n"
    "local items = redis.call('LLEN', now[3])\n"
    "if items ~= tonumber(ARGV[5]) then return {'length', items} end\n"
    "redis.call('PERSIST', now[3])\n"
    "redis.call('HSET', KEYS[1], 'state', 'ready', 'items', ARGV[5], 'finished', redis.call('TIME')[1],\n"
    "  unpack(ARGV, 6))\n"
    "if tonumber(ARGV[4]) > 0 then\n"
    "  redis.call('PEXPIRE', now[3], ARGV[4])\n"
    "  redis.call('PEXPIRE', KEYS[1], ARGV[4])\n"
    "end\n"
    "redis.call('DEL', KEYS[2])\n"
    "tell('ready', now[4], ARGV[5])\n"
    "return {'ok'}\n";

/* ARGV[4] items, [5…] fields and values. UNLINK comes first: it makes room, and a full Redis then takes the rest. */
static const char fail_text[] =
    "local now = redis.call('HMGET', KEYS[1], 'token', 'state', 'list', 'run')\n"
    "if now[1] ~= ARGV[1] then return {'lost', now[1] or ''} end\n"
    "if now[2] == 'failed' then return {'ok'} end\n"
    "if now[2] ~= 'loading' then return {'state', now[2] or ''} end\n"
    "if owned(now[3]) then redis.call('UNLINK', now[3]) end\n"
    "if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end\n"
    "redis.call('HSET', KEYS[1], 'state', 'failed', 'items', ARGV[4], 'finished', redis.call('TIME')[1],\n"
    "  unpack(ARGV, 5))\n"
    "tell('failed', now[4], ARGV[4])\n"
    "return {'ok'}\n";

/* ARGV[4] is 1 when forced. LLEN is asked with pcall: what stands under the list's name may be anything by now. */
static const char drop_text[] =
    "local holder = redis.call('GET', KEYS[2])\n"
    "if holder and ARGV[4] ~= '1' then return {'busy', holder, redis.call('PTTL', KEYS[2])} end\n"
    "local now = redis.call('HMGET', KEYS[1], 'run', 'bytes', 'list')\n"
    "if not holder and redis.call('EXISTS', KEYS[1]) == 0 then return {'nothing'} end\n"
    "local items, list = 0, ''\n"
    "if owned(now[3]) then\n"
    "  local n = redis.pcall('LLEN', now[3])\n"
    "  if type(n) == 'number' then items = n end\n"
    "  list = now[3]\n"
    "  redis.call('UNLINK', list)\n"
    "end\n"
    "redis.call('UNLINK', KEYS[1], KEYS[2])\n"
    "tell('dropped', now[1] or '0', string.format('%.0f', items))\n"
    "return {'dropped', now[1] or '0', items, items > 0 and now[2] or '0', list}\n";

/* clang-format on */

static const struct script begin = {"begin", begin_text}, heartbeat = {"heartbeat", heartbeat_text},
                           reclaim = {"reclaim", reclaim_text}, ready = {"ready", ready_text},
                           fail = {"fail", fail_text}, drop = {"drop", drop_text};

/* ---- the claim ---- */

#define PATIENCE_MOST_MS ((int64_t)7 * 24 * 3600 * 1000)

void claim_init(struct claim *c, const char *prefix, const char *job, const char *id, int64_t lease_ms)
{
    *c = (struct claim){.lease_ms = lease_ms};
    c->job = mem_strdup(job);
    c->id = mem_strdup(id);
    c->jobs = dataset_jobs_key(prefix);
    c->set = dataset_set_key(prefix, job);
    c->manifest = dataset_manifest_key(prefix, job, id);
    c->lease = dataset_lease_key(prefix, job, id);
    c->channel = dataset_events_channel(prefix, job);
    dataset_nonce(c->nonce);
    c->token = script_own_token(c->nonce);
}

void claim_fini(struct claim *c)
{
    char *owned[] = {c->job,   c->id,      c->jobs,  c->set,  c->manifest,
                     c->lease, c->channel, c->token, c->list, c->next_list};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    *c = (struct claim){0};
}

void claim_set_patience(struct claim *c, int64_t timeout_ms) { c->patience_ms = timeout_ms; }

/* Years of patience are no reason to keep what nobody finishes. */
int64_t claim_list_expiry_ms(const struct claim *c)
{
    int64_t patience = c->patience_ms < PATIENCE_MOST_MS ? c->patience_ms : PATIENCE_MOST_MS;
    return c->lease_ms * 10 > patience * 2 ? c->lease_ms * 10 : patience * 2;
}

/* ---- running a script ---- */

static void words_begin(struct script_words *w, const struct claim *c)
{
    script_words_begin(w, c->manifest, c->lease, c->token, c->channel, c->id);
}

static struct fault *run(struct conn *conn, const struct script *s, const struct claim *c, struct script_words *w,
                         redisReply **reply)
{
    script_send(conn, s, w);
    return script_take(conn, s, c->manifest, reply);
}

static struct fault *busy_fault(enum fault_kind kind, const redisReply *reply, const char *advice)
{
    char *holder = script_holder(script_answer_text(reply, 1));
    struct fault *f = fault_new(kind, "worker %s holds the lease, for %.1f s more unless it renews it%s", holder,
                                (double)script_answer_number(reply, 2) / 1000, advice);
    free(holder);
    return f;
}

/* "lost" and "state" mean the same in every script. NULL when the answer is neither. */
static struct fault *refusal(const struct claim *c, const redisReply *reply)
{
    if (script_answer_is(reply, "state"))
        return fault_new(FAULT_LEASE_LOST, "%s is in state \"%s\" now: somebody else changed it", c->manifest,
                         script_answer_text(reply, 1));
    if (!script_answer_is(reply, "lost")) return NULL;
    if (*script_answer_text(reply, 1) == '\0')
        return fault_new(FAULT_LEASE_LOST, "%s is gone: the dataset was dropped, or Redis lost its data", c->manifest);
    char *holder = script_holder(script_answer_text(reply, 1));
    struct fault *f = fault_new(FAULT_LEASE_LOST, "worker %s has taken the dataset over", holder);
    free(holder);
    return f;
}

/* Of a script that answers "ok" when it did what it should, or had. A word that no script answers is no success. */
static struct fault *judge_ok(const struct claim *c, const redisReply *reply)
{
    struct fault *f = refusal(c, reply);
    if (f || script_answer_is(reply, "ok")) return f;
    return fault_new(FAULT_PROTOCOL, "a script on %s answered what no script of nwmerge answers", c->manifest);
}

/* ---- the changes of state ---- */

struct fault *script_join(struct conn *conn, const struct claim *c)
{
    redisReply *reply;
    struct fault *f = conn_ask(conn, &reply, "SADD", c->jobs, c->job, NULL);
    if (f) return f;
    freeReplyObject(reply);
    f = conn_ask(conn, &reply, "SADD", c->set, c->id, NULL);
    if (!f) freeReplyObject(reply);
    return f;
}

/* A list of another name is none that this dataset's scripts would ever remove. */
static bool is_own_list(const struct claim *c)
{
    size_t stem = strlen(c->manifest);
    return strncmp(c->list, c->manifest, stem) == 0 && c->list[stem] == ':' && c->list[stem + 1] != '\0';
}

static struct fault *begun(struct claim *c, const redisReply *reply)
{
    if (script_answer_is(reply, "busy")) return busy_fault(FAULT_DUPLICATE_WORKER, reply, "");
    if (script_answer_is(reply, "contract"))
        return fault_new(FAULT_BAD_CONTRACT, "%s is of contract %s, this is a worker of contract %d; --drop removes it",
                         c->manifest, script_answer_text(reply, 1), CONTRACT);
    c->run = script_answer_number(reply, 1);
    free(c->list);
    c->list = mem_strdup(script_answer_text(reply, 2));
    free(c->next_list); /* chosen for the list before; this one may have that very name */
    c->next_list = NULL;
    if (!script_answer_is(reply, "begun") || c->run == 0 || !is_own_list(c))
        return fault_new(FAULT_PROTOCOL, "script begin on %s named no run and no list", c->manifest);
    return NULL;
}

struct fault *script_begin(struct conn *conn, struct claim *c, const char *order, const char *source, int64_t keep_ms)
{
    struct script_words w;
    words_begin(&w, c);
    script_words_add_number(&w, (uint64_t)c->lease_ms);
    script_words_add(&w, c->nonce);
    script_words_add(&w, order);
    script_words_add(&w, source);
    script_words_add_number(&w, (uint64_t)keep_ms);
    script_words_add_number(&w, CONTRACT);
    redisReply *reply;
    struct fault *f = run(conn, &begin, c, &w, &reply);
    if (f) return f;
    f = begun(c, reply);
    freeReplyObject(reply);
    return f;
}

struct fault *script_heartbeat(struct conn *conn, const struct claim *c)
{
    struct script_words w;
    words_begin(&w, c);
    script_words_add_number(&w, (uint64_t)c->lease_ms);
    script_words_add_number(&w, (uint64_t)claim_list_expiry_ms(c));
    redisReply *reply;
    struct fault *f = run(conn, &heartbeat, c, &w, &reply);
    if (f) return f;
    f = judge_ok(c, reply);
    freeReplyObject(reply);
    return f;
}

static void add_field(struct script_words *w, const char *field, uint64_t n)
{
    script_words_add(w, field);
    script_words_add_number(w, n);
}

/* The same name until it is answered for: then a reclaim whose reply was lost can be asked again. */
static void choose_next_list(struct claim *c)
{
    dataset_nonce(c->nonce);
    free(c->next_list);
    c->next_list = mem_printf("%s:%" PRIu64 ".%s", c->manifest, c->run, c->nonce);
}

/* There is no manifest, or, on a server that went back to what it was before this load, that of an earlier run. */
static bool is_gone(const struct claim *c, const redisReply *reply)
{
    if (!script_answer_is(reply, "lost")) return false;
    uint64_t run = script_answer_number(reply, 2);
    return *script_answer_text(reply, 1) == '\0' || (run > 0 && run < c->run);
}

/* A server that went back to what it was names the list as it was called then. It is still this load's. */
static bool takes_name_back(struct claim *c, const redisReply *reply)
{
    if (!script_answer_is(reply, "list")) return false;
    char *now = c->list;
    c->list = mem_strdup(script_answer_text(reply, 1));
    bool own = is_own_list(c);
    if (!own) {
        free(c->list);
        c->list = now;
    } else {
        free(now);
    }
    return own;
}

static struct fault *reclaimed(struct claim *c, const redisReply *reply, struct reclaimed *out)
{
    if (script_answer_is(reply, "ready")) {
        out->how = RECLAIM_READY;
        return NULL;
    }
    if (is_gone(c, reply)) {
        out->how = RECLAIM_GONE;
        return NULL;
    }
    if (script_answer_is(reply, "list"))
        return fault_new(FAULT_CHANGED, "%s names the list %s, not %s: somebody else changed it", c->manifest,
                         script_answer_text(reply, 1), c->list);
    struct fault *f = refusal(c, reply);
    if (f) return f;
    if (!script_answer_is(reply, "ours") || reply->elements < 2 || reply->element[1]->type != REDIS_REPLY_INTEGER)
        return fault_new(FAULT_PROTOCOL, "script reclaim on %s named no length", c->manifest);
    out->how = RECLAIM_OURS;
    out->items = script_answer_number(reply, 1);
    if (reply->elements > 2 && reply->element[2]->type == REDIS_REPLY_STRING)
        out->last = (struct bytes){reply->element[2]->str, (size_t)reply->element[2]->len};
    free(c->list);
    c->list = c->next_list;
    c->next_list = NULL;
    return NULL;
}

static struct fault *ask_reclaim(struct conn *conn, const struct claim *c, size_t last_most, redisReply **reply)
{
    struct script_words w;
    words_begin(&w, c);
    script_words_add_number(&w, (uint64_t)c->lease_ms);
    script_words_add_number(&w, (uint64_t)claim_list_expiry_ms(c));
    script_words_add(&w, c->list);
    script_words_add(&w, c->next_list);
    script_words_add_number(&w, last_most);
    return run(conn, &reclaim, c, &w, reply);
}

struct fault *script_reclaim(struct conn *conn, struct claim *c, size_t last_most, struct reclaimed *out)
{
    *out = (struct reclaimed){0};
    if (!c->next_list) choose_next_list(c);
    struct fault *f = ask_reclaim(conn, c, last_most, &out->reply);
    if (!f && takes_name_back(c, out->reply)) {
        freeReplyObject(out->reply);
        f = ask_reclaim(conn, c, last_most, &out->reply);
    }
    if (f) {
        out->reply = NULL;
        return f;
    }
    f = reclaimed(c, out->reply, out);
    if (f) reclaimed_fini(out);
    return f;
}

void reclaimed_fini(struct reclaimed *r)
{
    if (r->reply) freeReplyObject(r->reply);
    *r = (struct reclaimed){0};
}

static void add_edge(struct script_words *w, const char *field, struct bytes edge)
{
    script_words_add(w, field);
    script_words_add_bytes(w, edge.data ? edge.data : "", edge.len);
}

static struct fault *sealed(const struct claim *c, const struct totals *t, const redisReply *reply)
{
    if (script_answer_is(reply, "length"))
        return fault_new(FAULT_CHANGED, "%s holds %" PRIu64 " items where %" PRIu64 " were sent", c->list,
                         script_answer_number(reply, 1), t->items);
    return judge_ok(c, reply);
}

struct fault *script_ready(struct conn *conn, const struct claim *c, const struct totals *t, int64_t ttl_ms)
{
    struct script_words w;
    words_begin(&w, c);
    script_words_add_number(&w, (uint64_t)ttl_ms);
    script_words_add_number(&w, t->items);
    add_field(&w, "bytes", t->bytes);
    add_field(&w, "max_item", t->max_item);
    add_field(&w, "max_window", t->max_window);
    if (t->items > 0) {
        add_edge(&w, "first", t->first);
        add_edge(&w, "last", t->last);
    }
    char digest[DIGEST_TEXT];
    digest_text(&t->digest, digest);
    script_words_add(&w, "digest");
    script_words_add(&w, digest);
    redisReply *reply;
    struct fault *f = run(conn, &ready, c, &w, &reply);
    if (f) return f;
    f = sealed(c, t, reply);
    freeReplyObject(reply);
    return f;
}

static void add_fault(struct script_words *w, const struct fault *why, const char *traceback, const char *at)
{
    script_words_add(w, "error");
    script_words_add(w, fault_name(why));
    add_field(w, "exit", (uint64_t)fault_exit(why));
    script_words_add(w, "message");
    script_words_add(w, fault_message(why));
    script_words_add(w, "traceback");
    script_words_add(w, traceback);
    if (at) {
        script_words_add(w, "at");
        script_words_add(w, at);
    }
}

struct fault *script_fail(struct conn *conn, const struct claim *c, const struct totals *t, const struct fault *why,
                          const char *at)
{
    struct script_words w;
    words_begin(&w, c);
    script_words_add_number(&w, t->items);
    add_field(&w, "bytes", t->bytes);
    char *traceback = fault_traceback(why);
    add_fault(&w, why, traceback, at);
    redisReply *reply;
    struct fault *f = run(conn, &fail, c, &w, &reply);
    free(traceback);
    if (f) return f;
    f = judge_ok(c, reply);
    freeReplyObject(reply);
    return f;
}

static struct fault *removed(const redisReply *reply, struct dropped *out)
{
    *out = (struct dropped){0};
    if (script_answer_is(reply, "busy")) return busy_fault(FAULT_BUSY, reply, "; --force drops it all the same");
    if (script_answer_is(reply, "nothing")) return NULL;
    if (!script_answer_is(reply, "dropped"))
        return fault_new(FAULT_PROTOCOL, "script drop answered what it never answers: nothing is known to be dropped");
    out->found = true;
    out->run = script_answer_number(reply, 1);
    out->items = script_answer_number(reply, 2);
    out->bytes = script_answer_number(reply, 3);
    const char *list = script_answer_text(reply, 4);
    out->list = *list ? mem_strdup(list) : NULL;
    return NULL;
}

struct fault *script_drop(struct conn *conn, const struct claim *c, bool force, struct dropped *out)
{
    struct script_words w;
    words_begin(&w, c);
    script_words_add(&w, force ? "1" : "0");
    redisReply *reply;
    *out = (struct dropped){0};
    struct fault *f = run(conn, &drop, c, &w, &reply);
    if (f) return f;
    f = removed(reply, out);
    freeReplyObject(reply);
    return f;
}

struct fault *script_leave(struct conn *conn, const struct claim *c, bool *was_there)
{
    redisReply *reply;
    struct fault *f = conn_ask(conn, &reply, "SREM", c->set, c->id, NULL);
    if (f) return f;
    *was_there = reply->type == REDIS_REPLY_INTEGER && reply->integer > 0;
    freeReplyObject(reply);
    /* A new load may have entered the sets just before. It does so again before it is ready; if that was before this, its manifest is there. */
    f = conn_ask(conn, &reply, "EXISTS", c->manifest, NULL);
    if (f) return f;
    bool is_back = reply->type == REDIS_REPLY_INTEGER && reply->integer > 0;
    freeReplyObject(reply);
    if (is_back) return script_join(conn, c);
    f = conn_ask(conn, &reply, "SCARD", c->set, NULL);
    if (f) return f;
    bool last = reply->type == REDIS_REPLY_INTEGER && reply->integer == 0;
    freeReplyObject(reply);
    if (!last) return NULL;
    f = conn_ask(conn, &reply, "SREM", c->jobs, c->job, NULL);
    if (!f) freeReplyObject(reply);
    return f;
}
