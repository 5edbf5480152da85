/* The changes of state while a dataset is consumed, each against a private redis-server, looked at over a connection that
 * shares no code with them. */
#include "shared/script_consume.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/private_redis.h"

#define MANIFEST "nwm:{j:1}"
#define LEASE "nwm:{j:1}:consumer"

enum { ITEMS = 10 };

static struct conn *conn;
static struct consumer ours, other;

/* Ten items, a to j, ready as a worker leaves them. */
static void setup(void)
{
    private_redis_start(NULL);
    conn = private_redis_conn();
    redis_do("RPUSH " MANIFEST ":1.aaaaaaaaaaaa a b c d e f g h i j");
    redis_do("HSET " MANIFEST " contract 1 state ready run 1 list " MANIFEST
             ":1.aaaaaaaaaaaa token w:1:aa items 10 bytes 10 "
             "max_item 1");
    ours = (struct consumer){
        .name = "j:1",
        .manifest = MANIFEST,
        .lease = LEASE,
        .channel = "nwm:j:events",
        .id = "1",
        .token = "w:1:aa",
        .who = "host:7:bb",
        .nonce = "bbbbbbbbbbbb",
        .lease_ms = 15000,
    };
    other = ours;
    other.who = "host:8:cc";
    other.nonce = "cccccccccccc";
}

TestSuite(script_consume, .init = setup, .fini = private_redis_end, .timeout = 60);

static void fine(struct fault *f) { cr_assert(f == NULL, "%s: %s", fault_name(f), fault_message(f)); }

static void expect(struct fault *f, enum fault_kind kind, const char *part)
{
    cr_assert(f != NULL, "no fault");
    cr_assert(fault_is(f, kind), "%s: %s", fault_name(f), fault_message(f));
    cr_assert(strstr(fault_message(f), part) != NULL, "\"%s\" has no \"%s\"", fault_message(f), part);
    cr_assert_str_eq(fault_subject(f), "j:1");
    fault_free(f);
}

static const char *field(const char *name) { return redis_text("HGET " MANIFEST " %s", name); }
static const char *items(void) { return redis_text("LRANGE %s 0 -1", field("list")); }

static struct fault *claim_with(const struct consumer *c, uint64_t most, bool holds, uint64_t *consumed)
{
    struct claimed claimed;
    script_claim_send(conn, c, most, holds);
    struct fault *f = script_claim_take(conn, c, &claimed);
    if (!f && consumed) *consumed = claimed.consumed;
    if (!f) cr_assert_str_eq(claimed.list, field("list"));
    free(claimed.list);
    free(claimed.at);
    return f;
}

static struct fault *claim(const struct consumer *c) { return claim_with(c, UINT64_MAX, false, NULL); }

static struct fault *trim(const struct consumer *c, uint64_t to)
{
    script_trim_send(conn, c, to, "at");
    return script_trim_take(conn, c);
}

static struct fault *renew(const struct consumer *c)
{
    script_renew_send(conn, c);
    return script_renew_take(conn, c);
}

static struct fault *release(const struct consumer *c, bool gives_back)
{
    script_release_send(conn, c, gives_back);
    return script_release_take(conn, c);
}

Test(script_consume, a_claim_renames_the_list_and_tells_the_manifest)
{
    uint64_t consumed = 99;
    fine(claim_with(&ours, 0, false, &consumed));
    cr_assert_eq(consumed, 0);
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " state consumed consumer list"),
                     "consumed 0 host:7:bb " MANIFEST ":1.bbbbbbbbbbbb");
    cr_assert_str_eq(redis_text("EXISTS " MANIFEST ":1.aaaaaaaaaaaa"), "0");
    cr_assert_str_eq(items(), "a b c d e f g h i j");
    cr_assert_str_eq(redis_text("GET " LEASE), "host:7:bb");
    long long left = redis_do("PTTL " LEASE)->integer;
    cr_assert(left > 14000 && left <= 15000);
}

Test(script_consume, a_claim_may_be_repeated)
{
    fine(claim(&ours));
    fine(claim(&ours));
    fine(trim(&ours, 4));
    uint64_t consumed;
    fine(claim_with(&ours, 0, true, &consumed));
    cr_assert_eq(consumed, 4);
    cr_assert_str_eq(items(), "d e f g h i j");
}

Test(script_consume, a_second_consumer_is_busy)
{
    fine(claim(&ours));
    expect(claim(&other), FAULT_BUSY, "merger host:7 is consuming it");
    cr_assert_str_eq(field("consumer"), "host:7:bb");
    redis_do("DEL " LEASE);
    fine(claim(&other));
    cr_assert_str_eq(field("consumer"), "host:8:cc");
}

Test(script_consume, who_was_taken_over_can_do_nothing)
{
    fine(claim(&ours));
    redis_do("DEL " LEASE);
    fine(claim(&other));
    expect(trim(&ours, 4), FAULT_LEASE_LOST, "merger host:8 has taken");
    expect(renew(&ours), FAULT_LEASE_LOST, "merger host:8 has taken");
    fine(release(&ours, true));
    cr_assert_str_eq(items(), "a b c d e f g h i j");
    cr_assert_str_eq(redis_text("GET " LEASE), "host:8:cc");
    cr_assert_str_eq(field("consumer"), "host:8:cc");
}

/* The last item that is consumed stays until the next ones are. */
Test(script_consume, a_trim_removes_once)
{
    fine(claim(&ours));
    fine(trim(&ours, 1));
    cr_assert_str_eq(items(), "a b c d e f g h i j");
    fine(trim(&ours, 4));
    cr_assert_str_eq(items(), "d e f g h i j");
    fine(trim(&ours, 4));
    fine(trim(&ours, 2)); /* one that comes late */
    cr_assert_str_eq(items(), "d e f g h i j");
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " consumed consumed_at"), "4 at");
    fine(trim(&ours, 9));
    cr_assert_str_eq(items(), "i j");
}

Test(script_consume, the_end)
{
    fine(claim(&ours));
    fine(trim(&ours, 3));
    fine(trim(&ours, ITEMS));
    fine(trim(&ours, ITEMS));
    fine(renew(&ours));
    fine(release(&ours, true));
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " state consumed items consumer"), "consumed 10 10 host:7:bb");
    cr_assert_str_eq(redis_text("KEYS *"), MANIFEST);
}

Test(script_consume, without_items)
{
    redis_do("DEL " MANIFEST ":1.aaaaaaaaaaaa");
    redis_do("HSET " MANIFEST " items 0");
    fine(claim(&ours));
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " state consumed"), "consumed 0");
    cr_assert_str_eq(redis_text("EXISTS " LEASE), "0");
}

/* Somebody pushed or popped: nothing is removed that could be wrong. */
Test(script_consume, a_list_of_another_length_is_left_alone)
{
    fine(claim(&ours));
    fine(trim(&ours, 4));
    redis_do("RPUSH %s k", field("list"));
    expect(trim(&ours, 6), FAULT_CHANGED, "has 8 items where it should have 7");
    expect(trim(&ours, ITEMS), FAULT_CHANGED, "has 8 items where it should have 7");
    cr_assert_str_eq(items(), "d e f g h i j k");
    cr_assert_str_eq(field("consumed"), "4");
}

Test(script_consume, gone_or_loaded_anew)
{
    fine(claim(&ours));
    redis_do("HSET " MANIFEST " token w:2:dd");
    expect(trim(&ours, 4), FAULT_CHANGED, "worker w:2 loaded it anew");
    expect(renew(&ours), FAULT_CHANGED, "worker w:2 loaded it anew");
    expect(claim(&ours), FAULT_CHANGED, "worker w:2 loaded it anew");
    redis_do("DEL " MANIFEST);
    expect(trim(&ours, 4), FAULT_VANISHED, "is gone");
    expect(claim(&ours), FAULT_VANISHED, "is gone");
    fine(release(&ours, false));
    cr_assert_str_eq(redis_text("EXISTS " LEASE), "0");
}

Test(script_consume, lists_that_are_none_of_its_own)
{
    redis_do("RENAME " MANIFEST ":1.aaaaaaaaaaaa other");
    expect(claim(&ours), FAULT_VANISHED, "list " MANIFEST ":1.aaaaaaaaaaaa is gone");
    redis_do("HSET " MANIFEST " list other");
    expect(claim(&ours), FAULT_CHANGED, "none of its own");
    cr_assert_str_eq(redis_text("LLEN other"), "10");
    redis_do("HSET " MANIFEST " state loading");
    expect(claim(&ours), FAULT_CHANGED, "\"loading\"");
}

Test(script_consume, renewed_after_it_expired)
{
    fine(claim(&ours));
    redis_do("DEL " LEASE);
    fine(renew(&ours));
    cr_assert_str_eq(redis_text("GET " LEASE), "host:7:bb");
    redis_do("DEL " LEASE);
    fine(trim(&ours, 2));
    cr_assert_str_eq(redis_text("GET " LEASE), "host:7:bb");
}

Test(script_consume, given_back)
{
    fine(claim(&ours));
    fine(release(&ours, true));
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " state consumed consumer held"), "ready (nil) (nil) (nil)");
    cr_assert_str_eq(redis_text("EXISTS " LEASE), "0");
    fine(claim(&ours));
    fine(trim(&ours, 4));
    fine(release(&ours, false));
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " state consumed consumer"), "consumed 4 host:7:bb");
    fine(release(&ours, true));
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " state consumed consumer"), "consumed 4 (nil)");
}

/* What is held in a file is nobody else's, whatever is gone of it; what was given back is, as far as most says. */
Test(script_consume, what_others_hold)
{
    fine(claim_with(&ours, UINT64_MAX, true, NULL));
    fine(release(&ours, false));
    cr_assert_str_eq(field("state"), "consumed");
    expect(claim(&other), FAULT_CONSUMED, "merger host:7, which did not come to an end, holds items of it");
    fine(claim_with(&ours, 0, true, NULL));
    fine(trim(&ours, 4));
    fine(release(&ours, false));
    expect(claim_with(&other, UINT64_MAX, true, NULL), FAULT_CONSUMED, "(4 are gone from Redis)");
    fine(claim_with(&ours, 0, true, NULL));
    fine(release(&ours, true));
    expect(claim_with(&other, 3, true, NULL), FAULT_CONSUMED, "4 of its items were consumed by another merger");
    fine(claim_with(&other, 4, true, NULL));
}

/* A consumer to a pipe that was killed holds nothing that could be continued. */
Test(script_consume, what_a_pipe_left)
{
    fine(claim(&ours));
    fine(trim(&ours, 4));
    redis_do("DEL " LEASE);
    uint64_t consumed = 0;
    fine(claim_with(&other, UINT64_MAX, true, &consumed));
    cr_assert_eq(consumed, 4);
}

/* A full Redis is what consuming is for. */
Test(script_consume, of_a_full_redis)
{
    fine(claim(&ours));
    redis_do("CONFIG SET maxmemory 1");
    fine(renew(&ours));
    fine(trim(&ours, 4));
    fine(trim(&ours, 4));
    fine(renew(&ours));
    redis_do("DEL " LEASE);
    fine(renew(&ours));
    redis_do("CONFIG SET maxmemory 0");
    cr_assert_str_eq(redis_text("GET " LEASE), "host:7:bb");
}

Test(script_consume, answers_that_are_none)
{
    redis_do("SET " LEASE " x");
    redis_do("DEL " LEASE);
    redis_do("RPUSH " LEASE " x");
    script_claim_send(conn, &ours, 0, false);
    struct claimed claimed;
    struct fault *f = script_claim_take(conn, &ours, &claimed);
    cr_assert(f && fault_is(f, FAULT_WRONG_TYPE), "%s", f ? fault_message(f) : "no fault");
    fault_free(f);
    cr_assert_str_eq(field("state"), "ready");
}
