#include "shared/script_consume.h"

#include <inttypes.h>
#include <stdlib.h>

#include "shared/mem.h"
#include "shared/script_run.h"

/* Of all four: KEYS[2] is the consumer's lease, ARGV[4] the consumer, ARGV[5] the lease in ms. Numbers are compared as Lua's, which are
 * exact up to 2^53. For a full Redis, what needs no memory comes before HSET (script.h). */

/* clang-format off */

/* The lease is ours, anew. For a full Redis DEL comes before SET. */
#define HOLD \
    "local function hold()\n" \
    "  redis.call('DEL', KEYS[2])\n" \
    "  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])\n" \
    "end\n"

/* ARGV[6] nonce, [7] how many may be gone if another consumed them, or '', [8] is 1 when the items will be held in a file. */
static const char claim_text[] =
    "local now = redis.call('HMGET', KEYS[1], 'token', 'state', 'list', 'run', 'items', 'consumed', 'consumer', 'consumed_at', 'held')\n"
    "if now[1] ~= ARGV[1] then return {'lost', now[1] or ''} end\n"
    "local holder = redis.call('GET', KEYS[2])\n"
    "if holder and holder ~= ARGV[4] then return {'busy', holder, redis.call('PTTL', KEYS[2])} end\n"
    "if now[2] ~= 'ready' and now[2] ~= 'consumed' then return {'state', now[2] or ''} end\n"
    "local items, gone = tonumber(now[5]) or 0, tonumber(now[6]) or 0\n"
    "if now[2] == 'consumed' and not now[6] then gone = items end\n"
    "if now[7] ~= ARGV[4] and (now[9] or gone > (tonumber(ARGV[7]) or gone)) then\n"
    "  return {'taken', now[7] or '', string.format('%.0f', gone), tonumber(now[9]) or 0}\n"
    "end\n"
    "local list = now[3] or ''\n"
    "if gone < items then\n"
    "  if not owned(list) then return {'list', list} end\n"
    "  if redis.call('EXISTS', list) == 0 then return {'gone', list} end\n"
    "  list = KEYS[1] .. ':' .. now[4] .. '.' .. ARGV[6]\n"
    "  redis.call('RENAME', now[3], list)\n"
    "end\n"
    "redis.call('HSET', KEYS[1], 'state', 'consumed', 'list', list, 'consumed', string.format('%.0f', gone), 'consumer', ARGV[4])\n"
    "if ARGV[8] == '1' then redis.call('HSET', KEYS[1], 'held', '1') end\n"
    "if gone < items then redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5]) end\n"
    "tell('consumed', now[4], string.format('%.0f', items - gone))\n"
    "return {'claimed', list, string.format('%.0f', gone), now[8] or ''}\n";

/* ARGV[6] how many are to be gone, [7] what to say about them. The list still holds the last item that is gone. */
static const char trim_text[] = HOLD
    "local now = redis.call('HMGET', KEYS[1], 'token', 'list', 'run', 'items', 'consumed', 'consumer')\n"
    "if now[1] ~= ARGV[1] then return {'lost', now[1] or ''} end\n"
    "if now[6] ~= ARGV[4] then return {'taken', now[6] or ''} end\n"
    "local items, gone, to = tonumber(now[4]) or 0, tonumber(now[5]) or 0, tonumber(ARGV[6])\n"
    "if gone < to then\n"
    "  local removed = math.max(gone - 1, 0)\n"
    "  if not owned(now[2]) then return {'list', now[2] or ''} end\n"
    "  local there = redis.call('LLEN', now[2])\n"
    "  if there ~= items - removed then return {'length', there, string.format('%.0f', items - removed)} end\n"
    "  if to < items then\n"
    "    redis.call('LTRIM', now[2], string.format('%.0f', to - 1 - removed), -1)\n"
    "  else\n"
    "    redis.call('UNLINK', now[2])\n"
    "  end\n"
    "  redis.call('HSET', KEYS[1], 'consumed', ARGV[6], 'consumed_at', ARGV[7])\n"
    "  if to >= items then tell('consumed', now[3], '0') end\n"
    "end\n"
    "if math.max(gone, to) < items then\n"
    "  hold()\n"
    "elseif redis.call('GET', KEYS[2]) == ARGV[4] then\n"
    "  redis.call('DEL', KEYS[2])\n"
    "end\n"
    "return {'ok'}\n";

static const char renew_text[] = HOLD
    "local now = redis.call('HMGET', KEYS[1], 'token', 'items', 'consumed', 'consumer')\n"
    "if now[1] ~= ARGV[1] then return {'lost', now[1] or ''} end\n"
    "if now[4] ~= ARGV[4] then return {'taken', now[4] or ''} end\n"
    "if (tonumber(now[3]) or 0) < (tonumber(now[2]) or 0) then hold() end\n"
    "return {'ok'}\n";

/* ARGV[6] is 1 when the consumer holds nothing of it that is not where it belongs. */
static const char release_text[] =
    "if redis.call('GET', KEYS[2]) == ARGV[4] then redis.call('DEL', KEYS[2]) end\n"
    "local now = redis.call('HMGET', KEYS[1], 'token', 'state', 'run', 'items', 'consumed', 'consumer')\n"
    "if now[1] ~= ARGV[1] or now[2] ~= 'consumed' or now[6] ~= ARGV[4] then return {'ok'} end\n"
    "local items, gone = tonumber(now[4]) or 0, tonumber(now[5]) or 0\n"
    "if ARGV[6] ~= '1' then return {'ok'} end\n"
    "if gone == 0 then\n"
    "  redis.call('HDEL', KEYS[1], 'consumed', 'consumer', 'consumed_at', 'held')\n"
    "  redis.call('HSET', KEYS[1], 'state', 'ready')\n"
    "  tell('ready', now[3], now[4] or '0')\n"
    "elseif gone < items then\n"
    "  redis.call('HDEL', KEYS[1], 'consumer', 'held')\n"
    "end\n"
    "return {'ok'}\n";

/* clang-format on */

static const struct script claim = {"claim", claim_text}, trim = {"trim", trim_text}, renew = {"renew", renew_text},
                           release = {"release", release_text};

static void begin(struct script_words *w, const struct consumer *c)
{
    script_words_begin(w, c->manifest, c->lease, c->token, c->channel, c->id);
    script_words_add(w, c->who);
    script_words_add_number(w, (uint64_t)c->lease_ms);
}

static struct fault *another_consumer(const char *who, bool holds, uint64_t left_ms)
{
    char *holder = script_holder(who);
    struct fault *f = holds ? fault_new(FAULT_BUSY, "merger %s is consuming it, and holds its lease for %.1f s more",
                                        holder, (double)left_ms / 1000)
                            : fault_new(FAULT_LEASE_LOST, "merger %s has taken its consumption over", holder);
    free(holder);
    return f;
}

/* What means the same in every script. NULL when the answer is none of these. */
static struct fault *refusal(const struct consumer *c, const redisReply *reply)
{
    const char *word = script_answer_text(reply, 1);
    if (script_answer_is(reply, "lost") && *word == '\0')
        return fault_new(FAULT_VANISHED, "%s is gone: the dataset was dropped, or Redis lost its data", c->manifest);
    if (script_answer_is(reply, "lost")) {
        char *holder = script_holder(word);
        struct fault *f = fault_new(FAULT_CHANGED, "worker %s loaded it anew while it was consumed", holder);
        free(holder);
        return f;
    }
    if (script_answer_is(reply, "state"))
        return fault_new(FAULT_CHANGED, "%s is in state \"%s\" now: somebody else changed it", c->manifest, word);
    if (script_answer_is(reply, "list"))
        return fault_new(FAULT_CHANGED, "%s names the list \"%s\", which is none of its own", c->manifest, word);
    if (script_answer_is(reply, "gone"))
        return fault_new(FAULT_VANISHED, "list %s is gone: dropped, expired, or removed by hand", word);
    if (script_answer_is(reply, "length"))
        return fault_new(FAULT_CHANGED,
                         "its list has %" PRIu64 " items where it should have %" PRIu64
                         ": it was changed after it was ready; nothing was removed from it",
                         script_answer_number(reply, 1), script_answer_number(reply, 2));
    return NULL;
}

static struct fault *about(const struct consumer *c, struct fault *f)
{
    return f ? fault_about(f, "%s", c->name) : NULL;
}

/* ---- claim ------------------------------------------------------------------------------------------------------- */

void script_claim_send(struct conn *conn, const struct consumer *c, uint64_t most, bool holds)
{
    struct script_words w;
    begin(&w, c);
    script_words_add(&w, c->nonce);
    if (most == UINT64_MAX) {
        script_words_add(&w, "");
    } else {
        script_words_add_number(&w, most);
    }
    script_words_add(&w, holds ? "1" : "0");
    script_send(conn, &claim, &w);
}

static struct fault *taken_before(const redisReply *reply)
{
    char *holder = script_holder(script_answer_text(reply, 1));
    uint64_t gone = script_answer_number(reply, 2);
    struct fault *f =
        script_answer_number(reply, 3)
            ? fault_new(FAULT_CONSUMED,
                        "merger %s, which did not come to an end, holds items of it in its output (%" PRIu64
                        " are gone from Redis); the same command there continues",
                        holder, gone)
            : fault_new(FAULT_CONSUMED, "%" PRIu64 " of its items were consumed by another merger (%s) meanwhile", gone,
                        holder);
    free(holder);
    return f;
}

static struct fault *claim_answer(const struct consumer *c, const redisReply *reply, struct claimed *out)
{
    struct fault *f = refusal(c, reply);
    if (f) return f;
    if (script_answer_is(reply, "busy"))
        return another_consumer(script_answer_text(reply, 1), true, script_answer_number(reply, 2));
    if (script_answer_is(reply, "taken")) return taken_before(reply);
    if (!script_answer_is(reply, "claimed"))
        return fault_new(FAULT_PROTOCOL, "script claim on %s claimed nothing", c->manifest);
    const char *at = script_answer_text(reply, 3);
    out->list = mem_strdup(script_answer_text(reply, 1));
    out->consumed = script_answer_number(reply, 2);
    out->at = *at ? mem_strdup(at) : NULL;
    return NULL;
}

struct fault *script_claim_take(struct conn *conn, const struct consumer *c, struct claimed *out)
{
    redisReply *reply;
    *out = (struct claimed){0};
    struct fault *f = script_take(conn, &claim, c->manifest, &reply);
    if (f) return about(c, f);
    f = claim_answer(c, reply, out);
    freeReplyObject(reply);
    return about(c, f);
}

/* ---- trim, renew, release ---------------------------------------------------------------------------------------- */

static struct fault *take_ok(struct conn *conn, const struct script *s, const struct consumer *c)
{
    redisReply *reply;
    struct fault *f = script_take(conn, s, c->manifest, &reply);
    if (f) return about(c, f);
    f = refusal(c, reply);
    if (!f && script_answer_is(reply, "taken")) f = another_consumer(script_answer_text(reply, 1), false, 0);
    if (!f && !script_answer_is(reply, "ok"))
        f = fault_new(FAULT_PROTOCOL, "script %s on %s answered what it never answers", s->name, c->manifest);
    freeReplyObject(reply);
    return about(c, f);
}

void script_trim_send(struct conn *conn, const struct consumer *c, uint64_t to, const char *at)
{
    struct script_words w;
    begin(&w, c);
    script_words_add_number(&w, to);
    script_words_add(&w, at);
    script_send(conn, &trim, &w);
}

struct fault *script_trim_take(struct conn *conn, const struct consumer *c) { return take_ok(conn, &trim, c); }

void script_renew_send(struct conn *conn, const struct consumer *c)
{
    struct script_words w;
    begin(&w, c);
    script_send(conn, &renew, &w);
}

struct fault *script_renew_take(struct conn *conn, const struct consumer *c) { return take_ok(conn, &renew, c); }

void script_release_send(struct conn *conn, const struct consumer *c, bool gives_back)
{
    struct script_words w;
    begin(&w, c);
    script_words_add(&w, gives_back ? "1" : "0");
    script_send(conn, &release, &w);
}

struct fault *script_release_take(struct conn *conn, const struct consumer *c) { return take_ok(conn, &release, c); }
