/* The changes of state, each against a private redis-server, looked at over a connection that shares no code with them.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/conn.h"
#include "shared/fault.h"
#include "shared/script.h"
#include "shared/script_run.h"
#include "tests/unit/private_redis.h"

#define MANIFEST "nwm:{j:1}"
#define LEASE "nwm:{j:1}:lease"

static struct conn *conn;
static struct claim claim;

static void setup(void)
{
    private_redis_start(NULL);
    conn = private_redis_conn();
    claim_init(&claim, "nwm:", "j", "1", 15000);
}

static void teardown(void)
{
    claim_fini(&claim);
    private_redis_end();
}

TestSuite(script, .init = setup, .fini = teardown, .timeout = 60);

static void fine(struct fault *f) { cr_assert(f == NULL, "%s: %s", fault_name(f), fault_message(f)); }

static void expect(struct fault *f, enum fault_kind kind, const char *part)
{
    cr_assert(f != NULL, "no fault");
    cr_assert(fault_is(f, kind), "%s: %s", fault_name(f), fault_message(f));
    cr_assert(strstr(fault_message(f), part) != NULL, "\"%s\" has no \"%s\"", fault_message(f), part);
    fault_free(f);
}

static const char *field(const char *name) { return redis_text("HGET " MANIFEST " %s", name); }

static void begin(struct claim *c) { fine(script_begin(conn, c, "-n", "part-1.txt", 3600000)); }

/* A second worker for the same dataset. */
static struct claim other_claim(void)
{
    struct claim c;
    claim_init(&c, "nwm:", "j", "1", 15000);
    return c;
}

static struct totals push_items(const struct claim *c, int n)
{
    struct totals t = {.items = (uint64_t)n,
                       .bytes = (uint64_t)n,
                       .max_item = 1,
                       .max_window = (uint64_t)n,
                       .first = {"0", 1},
                       .last = {"9", 1}};
    for (int i = 0; i < n; i++) redis_do("RPUSH %s %d", c->list, i);
    if (n > 0) redis_do("PEXPIRE %s 150000", c->list);
    return t;
}

static void make_ready(struct claim *c, int items)
{
    begin(c);
    struct totals t = push_items(c, items);
    fine(script_ready(conn, c, &t, 0));
}

static struct fault *some_fault(void)
{
    struct fault *f = fault_new(FAULT_UNSORTED, "item 2 \"5\" sorts before item 1 \"9\"");
    fault_frame(f, "check order -n at line 2");
    return fault_frame(f, "load dataset j:1");
}

Test(script, join_enters_both_sets)
{
    fine(script_join(conn, &claim));
    fine(script_join(conn, &claim));
    cr_assert_str_eq(redis_text("SMEMBERS nwm:jobs"), "j");
    cr_assert_str_eq(redis_text("SMEMBERS nwm:j:datasets"), "1");
}

Test(script, begin_writes_the_manifest_and_takes_the_lease)
{
    begin(&claim);
    cr_assert_eq(claim.run, 1);
    char list[128];
    snprintf(list, sizeof list, MANIFEST ":1.%s", claim.nonce);
    cr_assert_str_eq(claim.list, list);
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " contract state run order source lease"),
                     "1 loading 1 -n part-1.txt 15000");
    cr_assert_str_eq(field("list"), list);
    cr_assert_str_eq(field("token"), claim.token);
    cr_assert_str_eq(redis_text("GET " LEASE), claim.token);
    long long started = atoll(field("started"));
    const redisReply *now = redis_do("TIME");
    cr_assert(llabs(started - atoll(now->element[0]->str)) <= 1);
    long long left = redis_do("PTTL " LEASE)->integer;
    cr_assert(left > 14000 && left <= 15000);
    cr_assert_str_eq(redis_text("EXISTS nwm:j:datasets nwm:jobs"), "0"); /* other slots are script_join's */
}

Test(script, begin_can_be_repeated)
{
    begin(&claim);
    char *list = mem_strdup(claim.list);
    begin(&claim);
    cr_assert_eq(claim.run, 1);
    cr_assert_str_eq(claim.list, list);
    free(list);
}

Test(script, a_second_worker_is_refused_while_the_first_lives)
{
    begin(&claim);
    struct claim second = other_claim();
    char *holder = script_holder(claim.token);
    expect(script_begin(conn, &second, "", "x", 0), FAULT_DUPLICATE_WORKER, holder);
    cr_assert_str_eq(field("token"), claim.token);
    free(holder);
    claim_fini(&second);
}

Test(script, and_takes_over_once_it_is_lost)
{
    begin(&claim);
    push_items(&claim, 3);
    redis_do("DEL " LEASE);
    struct claim second = other_claim();
    begin(&second);
    cr_assert_eq(second.run, 2);
    cr_assert_eq(redis_do("EXISTS %s", claim.list)->integer, 0);
    expect(script_heartbeat(conn, &claim), FAULT_LEASE_LOST, "has taken the dataset over");
    struct totals t = {0};
    expect(script_ready(conn, &claim, &t, 0), FAULT_LEASE_LOST, "has taken the dataset over");
    struct fault *why = some_fault();
    expect(script_fail(conn, &claim, &t, why, NULL), FAULT_LEASE_LOST, "has taken the dataset over");
    fault_free(why);
    cr_assert_str_eq(redis_text("GET " LEASE), second.token);
    cr_assert_str_eq(field("state"), "loading");
    claim_fini(&second);
}

Test(script, a_reload_keeps_the_list_of_before_for_a_while)
{
    make_ready(&claim, 3);
    struct claim second = other_claim();
    fine(script_begin(conn, &second, "", "x", 60000));
    cr_assert_eq(second.run, 2);
    long long left = redis_do("PTTL %s", claim.list)->integer;
    cr_assert(left > 50000 && left <= 60000, "%lld", left);
    cr_assert_str_eq(field("items"), "(nil)");
    claim_fini(&second);
}

Test(script, keep_never_prolongs_a_ttl_and_can_be_nothing)
{
    make_ready(&claim, 3);
    redis_do("PEXPIRE %s 5000", claim.list);
    struct claim second = other_claim();
    fine(script_begin(conn, &second, "", "x", 60000));
    cr_assert(redis_do("PTTL %s", claim.list)->integer <= 5000);
    struct totals t = push_items(&second, 1);
    fine(script_ready(conn, &second, &t, 0));
    struct claim third = other_claim();
    fine(script_begin(conn, &third, "", "x", 0));
    cr_assert_eq(redis_do("EXISTS %s", second.list)->integer, 0);
    claim_fini(&second);
    claim_fini(&third);
}

/* A garbled manifest may name anything as its list, keys that begin as a list does among them. */
Test(script, the_lease_is_no_list)
{
    begin(&claim);
    redis_do("HSET " MANIFEST " list " LEASE);
    fine(script_heartbeat(conn, &claim));
    cr_assert(redis_do("PTTL " LEASE)->integer <= 15000);
    struct totals t = {0};
    expect(script_ready(conn, &claim, &t, 0), FAULT_LEASE_LOST, "loading");
}

Test(script, begin_leaves_a_foreign_list_alone)
{
    redis_do("SET nwm:{k:1}:1.abc 1");
    redis_do("HSET " MANIFEST " contract 1 state failed run 7 list nwm:{k:1}:1.abc token h:1:x");
    begin(&claim);
    cr_assert_eq(claim.run, 8);
    cr_assert_str_eq(redis_text("GET nwm:{k:1}:1.abc"), "1");
}

Test(script, begin_refuses_a_later_contract)
{
    redis_do("HSET " MANIFEST " contract 2 state ready run 7");
    expect(script_begin(conn, &claim, "", "x", 0), FAULT_BAD_CONTRACT, "contract 2");
    cr_assert_str_eq(field("run"), "7");
    cr_assert_eq(redis_do("EXISTS " LEASE)->integer, 0);
}

Test(script, a_manifest_of_another_type)
{
    redis_do("SET " MANIFEST " x");
    expect(script_begin(conn, &claim, "", "x", 0), FAULT_WRONG_TYPE, "");
}

Test(script, heartbeat_renews_lease_and_list)
{
    begin(&claim);
    push_items(&claim, 1);
    redis_do("PEXPIRE " LEASE " 3000");
    redis_do("PEXPIRE %s 3000", claim.list);
    fine(script_heartbeat(conn, &claim));
    cr_assert(redis_do("PTTL " LEASE)->integer > 14000);
    cr_assert(redis_do("PTTL %s", claim.list)->integer > 140000);
}

Test(script, heartbeat_takes_an_expired_lease_again)
{
    begin(&claim);
    redis_do("DEL " LEASE);
    fine(script_heartbeat(conn, &claim));
    cr_assert_str_eq(redis_text("GET " LEASE), claim.token);
}

Test(script, heartbeat_finds_out)
{
    begin(&claim);
    redis_do("SET " LEASE " elsewhere:9:aaaaaaaaaaaa");
    expect(script_heartbeat(conn, &claim), FAULT_LEASE_LOST, "elsewhere:9 has taken");
    redis_do("DEL " MANIFEST);
    expect(script_heartbeat(conn, &claim), FAULT_LEASE_LOST, "is gone");
}

/* ---- reclaim */

static void reclaim_ours(uint64_t items)
{
    struct reclaimed r;
    fine(script_reclaim(conn, &claim, 100, &r));
    cr_assert_eq(r.how, RECLAIM_OURS);
    cr_assert_eq(r.items, items);
    reclaimed_fini(&r);
}

Test(script, reclaim_gives_the_list_a_fresh_name)
{
    begin(&claim);
    push_items(&claim, 3);
    char *old = mem_strdup(claim.list);
    redis_do("DEL " LEASE);
    redis_do("PEXPIRE %s 1000", claim.list);
    struct reclaimed r;
    fine(script_reclaim(conn, &claim, 1, &r));
    cr_assert_eq(r.how, RECLAIM_OURS);
    cr_assert_eq(r.items, 3);
    cr_assert(r.last.len == 1 && *r.last.data == '2');
    reclaimed_fini(&r);
    cr_assert_str_neq(claim.list, old);
    cr_assert_str_eq(field("list"), claim.list);
    cr_assert_eq(strncmp(claim.list, MANIFEST ":1.", strlen(MANIFEST ":1.")), 0);
    cr_assert_eq(strlen(claim.list), strlen(old));
    cr_assert_str_eq(redis_text("LRANGE %s 0 -1", claim.list), "0 1 2");
    cr_assert(redis_do("PTTL %s", claim.list)->integer > 140000);
    cr_assert_str_eq(redis_text("GET " LEASE), claim.token);
    cr_assert_eq(redis_do("RPUSHX %s late", old)->integer, 0); /* what an old connection still delivers */
    reclaim_ours(3);
    struct totals t = {.items = 3, .bytes = 3, .max_item = 1, .first = {"0", 1}, .last = {"2", 1}};
    fine(script_ready(conn, &claim, &t, 0));
    free(old);
}

/* Its reply was lost, and it is asked again with the same name. */
Test(script, reclaim_can_be_repeated)
{
    begin(&claim);
    push_items(&claim, 3);
    struct claim twin = claim; /* as if the answer had not come */
    twin.list = mem_strdup(claim.list);
    twin.next_list = mem_printf(MANIFEST ":1.0123456789ab");
    claim.next_list = mem_strdup(twin.next_list);
    struct reclaimed r;
    fine(script_reclaim(conn, &twin, 100, &r));
    reclaimed_fini(&r);
    free(twin.list);
    reclaim_ours(3);
    cr_assert_str_eq(claim.list, MANIFEST ":1.0123456789ab");
    cr_assert_str_eq(redis_text("LRANGE %s 0 -1", claim.list), "0 1 2");
}

Test(script, reclaim_of_nothing_yet)
{
    begin(&claim);
    reclaim_ours(0);
    cr_assert_eq(redis_do("EXISTS %s", claim.list)->integer, 0);
    push_items(&claim, 1);
    reclaim_ours(1);
}

Test(script, reclaim_tells_no_long_last_item)
{
    begin(&claim);
    redis_do("RPUSH %s 12345", claim.list);
    struct reclaimed r;
    fine(script_reclaim(conn, &claim, 4, &r));
    cr_assert(r.items == 1 && r.last.data == NULL);
    reclaimed_fini(&r);
    fine(script_reclaim(conn, &claim, 5, &r));
    cr_assert(r.last.len == 5);
    reclaimed_fini(&r);
}

Test(script, reclaim_finds_out)
{
    struct reclaimed r;
    begin(&claim);
    redis_do("SET " LEASE " elsewhere:9:aaaaaaaaaaaa");
    expect(script_reclaim(conn, &claim, 100, &r), FAULT_LEASE_LOST, "elsewhere:9 has taken");
    redis_do("HSET " MANIFEST " token elsewhere:9:aaaaaaaaaaaa");
    redis_do("DEL " LEASE);
    expect(script_reclaim(conn, &claim, 100, &r), FAULT_LEASE_LOST, "elsewhere:9 has taken");
    redis_do("HSET " MANIFEST " token %s list x", claim.token);
    expect(script_reclaim(conn, &claim, 100, &r), FAULT_CHANGED, "names the list x");
    redis_do("HSET " MANIFEST " state failed");
    expect(script_reclaim(conn, &claim, 100, &r), FAULT_LEASE_LOST, "\"failed\"");
    redis_do("DEL " MANIFEST);
    fine(script_reclaim(conn, &claim, 100, &r));
    cr_assert_eq(r.how, RECLAIM_GONE);
    reclaimed_fini(&r);
    cr_assert_eq(redis_do("DBSIZE")->integer, 0);
}

static void expect_gone(void)
{
    struct reclaimed r;
    fine(script_reclaim(conn, &claim, 100, &r));
    cr_assert_eq(r.how, RECLAIM_GONE);
    reclaimed_fini(&r);
}

/* Begun anew on an empty server, the list may get the very name that was chosen for the one before. */
Test(script, reclaim_renames_what_was_begun_anew)
{
    begin(&claim);
    redis_do("FLUSHALL");
    expect_gone();
    begin(&claim);
    push_items(&claim, 2);
    char *before = mem_strdup(claim.list);
    reclaim_ours(2);
    cr_assert_str_neq(claim.list, before);
    cr_assert_eq(redis_do("EXISTS %s", before)->integer, 0);
    free(before);
}

/* A server that went back to what it was: to before a reclaim, */
Test(script, reclaim_takes_the_name_of_before)
{
    begin(&claim);
    push_items(&claim, 2);
    char *before = mem_strdup(claim.list);
    reclaim_ours(2);
    redis_do("RENAME %s %s", claim.list, before);
    redis_do("HSET " MANIFEST " list %s", before);
    reclaim_ours(2);
    cr_assert_eq(redis_do("EXISTS %s", before)->integer, 0);
    redis_do("HSET " MANIFEST " list other");
    struct reclaimed r;
    expect(script_reclaim(conn, &claim, 100, &r), FAULT_CHANGED, "names the list other");
    free(before);
}

/* or to the run before. */
Test(script, reclaim_over_an_older_run)
{
    struct claim older = other_claim();
    make_ready(&older, 1);
    begin(&claim);
    redis_do("HSET " MANIFEST " run 1 state ready token %s", older.token);
    expect_gone();
    redis_do("HSET " MANIFEST " run 2");
    struct reclaimed r;
    expect(script_reclaim(conn, &claim, 100, &r), FAULT_LEASE_LOST, "taken the dataset over");
    claim_fini(&older);
}

/* That there is no manifest counts only where there could be one. */
Test(script, a_replica_does_not_say_that_it_is_gone)
{
    begin(&claim);
    redis_do("DEL " MANIFEST);
    redis_do("REPLICAOF 127.0.0.1 1");
    struct reclaimed r;
    expect(script_reclaim(conn, &claim, 100, &r), FAULT_UNREACHABLE, "READONLY");
    expect(script_heartbeat(conn, &claim), FAULT_UNREACHABLE, "READONLY");
    redis_do("REPLICAOF NO ONE");
}

/* Sealed, and the answer lost: what became of it since is nobody's fault. */
Test(script, what_is_sealed_stays_done)
{
    make_ready(&claim, 2);
    fine(script_heartbeat(conn, &claim));
    redis_do("HSET " MANIFEST " state consumed");
    fine(script_heartbeat(conn, &claim));
    struct reclaimed r;
    fine(script_reclaim(conn, &claim, 100, &r));
    cr_assert_eq(r.how, RECLAIM_READY);
    reclaimed_fini(&r);
    cr_assert_str_eq(field("state"), "consumed");
}

Test(script, an_unfinished_list_outlives_the_patience_of_its_worker)
{
    cr_assert_eq(claim_list_expiry_ms(&claim), 150000);
    claim_set_patience(&claim, 600000);
    cr_assert_eq(claim_list_expiry_ms(&claim), 1200000);
    claim_set_patience(&claim, INT64_MAX);
    cr_assert_leq(claim_list_expiry_ms(&claim), INT64_C(15) * 24 * 3600 * 1000);
}

Test(script, reclaim_leaves_what_is_ready)
{
    make_ready(&claim, 3);
    struct reclaimed r;
    fine(script_reclaim(conn, &claim, 100, &r));
    cr_assert_eq(r.how, RECLAIM_READY);
    reclaimed_fini(&r);
    cr_assert_eq(redis_do("LLEN %s", claim.list)->integer, 3);
    cr_assert_str_eq(redis_text("EXISTS " LEASE), "0");
}

Test(script, ready_seals)
{
    begin(&claim);
    struct totals t = push_items(&claim, 3);
    digest_add_item(&t.digest, "0", 1);
    fine(script_ready(conn, &claim, &t, 0));
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " state items bytes max_item max_window first last"),
                     "ready 3 3 1 3 0 9");
    char digest[DIGEST_TEXT];
    digest_text(&t.digest, digest);
    cr_assert_str_eq(field("digest"), digest);
    cr_assert(atoll(field("finished")) >= atoll(field("started")));
    cr_assert_eq(redis_do("PTTL %s", claim.list)->integer, -1);
    cr_assert_eq(redis_do("PTTL " MANIFEST)->integer, -1);
    cr_assert_eq(redis_do("EXISTS " LEASE)->integer, 0);
    fine(script_ready(conn, &claim, &t, 0));
}

Test(script, ready_counts_for_itself)
{
    begin(&claim);
    struct totals t = push_items(&claim, 3);
    t.items = 4;
    expect(script_ready(conn, &claim, &t, 0), FAULT_CHANGED, "holds 3 items where 4 were sent");
    cr_assert_str_eq(field("state"), "loading");
}

Test(script, ready_with_a_ttl)
{
    begin(&claim);
    struct totals t = push_items(&claim, 3);
    fine(script_ready(conn, &claim, &t, 9000));
    long long list = redis_do("PTTL %s", claim.list)->integer, manifest = redis_do("PTTL " MANIFEST)->integer;
    cr_assert(list > 8000 && list <= 9000 && manifest > 8000 && manifest <= 9000);
}

Test(script, ready_of_nothing)
{
    begin(&claim);
    struct totals t = {0};
    fine(script_ready(conn, &claim, &t, 0));
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " state items first"), "ready 0 (nil)");
}

Test(script, fail_records_and_removes)
{
    begin(&claim);
    struct totals t = push_items(&claim, 3);
    struct fault *why = some_fault();
    fine(script_fail(conn, &claim, &t, why, "line 2"));
    fine(script_fail(conn, &claim, &t, why, "line 2"));
    fault_free(why);
    cr_assert_str_eq(redis_text("HMGET " MANIFEST " state error exit at items"), "failed Unsorted 1 line 2 3");
    cr_assert_str_eq(field("message"), "item 2 \"5\" sorts before item 1 \"9\"");
    cr_assert_str_eq(field("traceback"), "load dataset j:1\ncheck order -n at line 2");
    cr_assert_str_eq(redis_text("EXISTS " LEASE " %s", claim.list), "0");
    expect(script_ready(conn, &claim, &t, 0), FAULT_LEASE_LOST, "\"failed\"");
}

Test(script, fail_never_unmakes_what_is_ready)
{
    make_ready(&claim, 3);
    struct totals t = {0};
    struct fault *why = some_fault();
    expect(script_fail(conn, &claim, &t, why, NULL), FAULT_LEASE_LOST, "\"ready\"");
    fault_free(why);
    cr_assert_eq(redis_do("LLEN %s", claim.list)->integer, 3);
}

Test(script, drop_removes_all_of_it)
{
    fine(script_join(conn, &claim));
    make_ready(&claim, 3);
    struct dropped d;
    fine(script_drop(conn, &claim, false, &d));
    cr_assert(d.found && d.run == 1 && d.items == 3 && d.bytes == 3);
    cr_assert_str_eq(d.list, claim.list);
    free(d.list);
    bool listed = false;
    fine(script_leave(conn, &claim, &listed));
    cr_assert(listed);
    cr_assert_eq(redis_do("DBSIZE")->integer, 0);
    fine(script_drop(conn, &claim, false, &d));
    cr_assert_not(d.found);
    fine(script_leave(conn, &claim, &listed));
    cr_assert_not(listed);
}

Test(script, the_last_to_leave_takes_the_job_along)
{
    struct claim second;
    claim_init(&second, "nwm:", "j", "2", 15000);
    fine(script_join(conn, &claim));
    fine(script_join(conn, &second));
    bool listed;
    fine(script_leave(conn, &claim, &listed));
    cr_assert_str_eq(redis_text("SMEMBERS nwm:jobs"), "j");
    fine(script_leave(conn, &second, &listed));
    cr_assert_str_eq(redis_text("SMEMBERS nwm:jobs"), "");
    claim_fini(&second);
}

/* A load that began while the drop was between its two commands. */
Test(script, who_leaves_does_not_take_a_new_load_along)
{
    fine(script_join(conn, &claim));
    begin(&claim);
    bool listed;
    fine(script_leave(conn, &claim, &listed));
    cr_assert_str_eq(redis_text("SMEMBERS nwm:j:datasets"), "1");
    cr_assert_str_eq(redis_text("SMEMBERS nwm:jobs"), "j");
}

Test(script, drop_respects_a_lease)
{
    begin(&claim);
    push_items(&claim, 2);
    struct dropped d;
    expect(script_drop(conn, &claim, false, &d), FAULT_BUSY, "holds the lease");
    cr_assert_eq(redis_do("LLEN %s", claim.list)->integer, 2);
    fine(script_drop(conn, &claim, true, &d));
    cr_assert(d.found && d.items == 2);
    free(d.list);
    cr_assert_eq(redis_do("DBSIZE")->integer, 0);
}

Test(script, drop_leaves_foreign_keys_alone_and_survives_a_wrong_type)
{
    redis_do("SET nwm:{k:1}:1.abc 1");
    redis_do("HSET " MANIFEST " contract 1 state ready run 1 list nwm:{k:1}:1.abc items 5");
    struct dropped d;
    fine(script_drop(conn, &claim, false, &d));
    cr_assert(d.found && d.list == NULL);
    cr_assert_str_eq(redis_text("GET nwm:{k:1}:1.abc"), "1");
    make_ready(&claim, 1);
    redis_do("SET %s x", claim.list);
    fine(script_drop(conn, &claim, false, &d));
    cr_assert(d.found && d.items == 0);
    free(d.list);
    cr_assert_eq(redis_do("DBSIZE")->integer, 1);
}

/* Every change of state is told, with the run and the items. */
Test(script, events)
{
    redisContext *ear = redisConnectUnix(private_redis_url() + strlen("unix://"));
    redisReply *reply = redisCommand(ear, "SUBSCRIBE nwm:j:events");
    freeReplyObject(reply);
    make_ready(&claim, 3);
    struct claim second = other_claim();
    begin(&second);
    struct totals t = {.items = 2};
    struct fault *why = some_fault();
    fine(script_fail(conn, &second, &t, why, NULL));
    fault_free(why);
    struct dropped d;
    fine(script_drop(conn, &second, false, &d));
    free(d.list);
    const char *expected[] = {"1 loading 1 0", "1 ready 1 3", "1 loading 2 0", "1 failed 2 2", "1 dropped 2 0"};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        cr_assert_eq(redisGetReply(ear, (void **)&reply), REDIS_OK);
        cr_assert_str_eq(reply->element[2]->str, expected[i]);
        freeReplyObject(reply);
    }
    redisFree(ear);
    claim_fini(&second);
}

/* A full Redis: no item fits any more, but a failure can still be told, a load begun, renewed, and sealed. */
Test(script, a_full_redis_still_learns_of_changes_of_state)
{
    begin(&claim);
    struct totals t = push_items(&claim, 3);
    redis_do("CONFIG SET maxmemory 1");
    cr_assert_str_eq(redis_text("CONFIG GET maxmemory-policy"), "maxmemory-policy noeviction");
    cr_assert_eq(redis_do("RPUSH %s x", claim.list)->type, REDIS_REPLY_ERROR);
    fine(script_heartbeat(conn, &claim));
    reclaim_ours(3);
    struct fault *why = some_fault();
    fine(script_fail(conn, &claim, &t, why, NULL));
    fault_free(why);
    cr_assert_str_eq(field("state"), "failed");
    struct claim second = other_claim();
    begin(&second);
    t = (struct totals){0};
    fine(script_ready(conn, &second, &t, 0));
    cr_assert_str_eq(field("state"), "ready");
    claim_fini(&second);
}
