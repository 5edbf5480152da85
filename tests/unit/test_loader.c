/* Pushes under the contract, against a private redis-server: what arrives is what was added, what is odd is found out. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/conn.h"
#include "shared/fault.h"
#include "shared/order.h"
#include "shared/script.h"
#include "shared/stop.h"
#include "tests/unit/private_redis.h"
#include "worker/checker.h"
#include "worker/loader.h"

static struct conn *conn;
static struct claim claim;
static struct loader *loader;
static struct order *order;
static struct checker *checker;

static void fine(struct fault *f) { cr_assert(f == NULL, "%s: %s", fault_name(f), fault_message(f)); }

static void setup(void)
{
    stop_install();
    private_redis_start(NULL);
    conn = private_redis_conn();
    claim_init(&claim, "nwm:", "j", "1", 15000);
    fine(script_begin(conn, &claim, "", "x", 0));
    loader = loader_new(conn, &claim);
    order = order_new();
    fine(order_compile(order));
    checker = checker_new(order);
}

static void teardown(void)
{
    loader_free(loader);
    checker_free(checker);
    order_free(order);
    claim_fini(&claim);
    private_redis_end();
}

TestSuite(loader, .init = setup, .fini = teardown, .timeout = 60);

static void expect(struct fault *f, enum fault_kind kind, const char *part)
{
    cr_assert(f != NULL, "no fault");
    cr_assert(fault_is(f, kind), "%s: %s", fault_name(f), fault_message(f));
    cr_assert(strstr(fault_message(f), part) != NULL, "\"%s\" has no \"%s\"", fault_message(f), part);
    fault_free(f);
}

/* Item number n, of that length, begins with its number, so that the items are in order. */
static char *item_text(unsigned n, size_t len)
{
    char *text = mem_alloc(len + 16);
    int digits = snprintf(text, 16, "%08u", n);
    for (size_t i = (size_t)digits; i < len; i++) text[i] = (char)(n * 31 + i); /* NULs, CRs and LFs among them */
    return text;
}

static struct fault *add(unsigned n, size_t len)
{
    static char *texts[2]; /* the checker looks at the item before, too */
    char **text = &texts[n % 2];
    free(*text);
    *text = item_text(n, len);
    struct bytes item = {*text, len < 8 ? 8 : len};
    fine(checker_add(checker, item));
    return loader_add(loader, item);
}

static void expect_list(size_t n, size_t (*length)(unsigned))
{
    cr_assert_eq(redis_do("LLEN %s", claim.list)->integer, (long long)n);
    for (unsigned i = 0; i < n; i++) {
        const redisReply *got = redis_do("LINDEX %s %u", claim.list, i);
        size_t len = length(i) < 8 ? 8 : length(i);
        char *text = item_text(i, len);
        cr_assert(got->len == len && memcmp(got->str, text, len) == 0, "item %u", i);
        free(text);
    }
}

static void load_all(size_t n, size_t (*length)(unsigned))
{
    for (unsigned i = 0; i < n; i++) fine(add(i, length(i)));
    fine(loader_finish(loader));
    cr_assert_eq(loader_acknowledged(loader), n);
    checker_totals(checker);
    fine(loader_verify(loader, checker));
}

static size_t mixed(unsigned n)
{
    static const size_t around[] = {65535,   65536, 65537, 131071, 131072, 262144, 262145,
                                    1048576, 9,     99,    100,    999,    1000};
    return n % 50 == 49 ? around[n / 50 % 13] : n % 7 * 13;
}
static size_t large_first(unsigned n) { return n == 0 ? 3000000 : 10; }
static size_t beyond_the_window(unsigned n) { return n % 3 == 0 ? 9 << 20 : 20; }
static size_t small(unsigned n) { return n ? 8 : 9; }

Test(loader, items_of_all_sizes)
{
    load_all(1500, mixed);
    expect_list(1500, mixed);
}

Test(loader, a_large_one_first)
{
    load_all(3, large_first);
    expect_list(3, large_first);
    cr_assert(redis_do("PTTL %s", claim.list)->integer > 100000);
}

Test(loader, larger_than_the_window)
{
    load_all(7, beyond_the_window);
    expect_list(7, beyond_the_window);
}

/* Exactly full blocks, one less, one more. */
Test(loader, around_a_block)
{
    size_t sizes[] = {1, 999, 1000, 1001, 3999, 4000, 4001, 8001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        teardown();
        setup();
        load_all(sizes[i], small);
        cr_assert_eq(redis_do("LLEN %s", claim.list)->integer, (long long)sizes[i]);
    }
}

Test(loader, nothing_is_no_list)
{
    fine(loader_finish(loader));
    fine(loader_verify(loader, checker));
    cr_assert_eq(redis_do("EXISTS %s", claim.list)->integer, 0);
}

/* 20 MB of 2000-byte items: no command is over 1 MB, so there are at least 20 after the first. */
Test(loader, is_kind)
{
    for (unsigned i = 0; i < 10000; i++) fine(add(i, 2000));
    fine(loader_finish(loader));
    const char *calls = strstr(redis_text("INFO commandstats"), "cmdstat_rpushx:calls=");
    cr_assert(calls != NULL);
    cr_assert(atol(strchr(calls, '=') + 1) >= 20, "%.40s", calls);
}

/* The list is there when it returns: what is done to it then is not overtaken by the push that makes it. */
static void push_most(void)
{
    for (unsigned i = 0; i < 20000; i++) fine(add(i, 20));
    for (int64_t end = clock_ms() + 10000; clock_ms() < end && redis_do("LLEN %s", claim.list)->integer == 0;) {
        bool ready;
        fine(conn_pump(conn, &ready));
    }
}

static struct fault *push_on(void)
{
    struct fault *f = NULL;
    for (unsigned i = 20000; i < 60000 && !f; i++) f = add(i, 20);
    return f ? f : loader_finish(loader);
}

Test(loader, a_list_that_goes_is_lost)
{
    push_most();
    redis_do("DEL %s", claim.list);
    expect(push_on(), FAULT_LOST, "is gone with");
    cr_assert_eq(redis_do("EXISTS %s", claim.list)->integer, 0); /* RPUSHX made none */
}

Test(loader, a_stranger_is_noticed)
{
    push_most();
    redis_do("RPUSH %s x", claim.list);
    expect(push_on(), FAULT_CHANGED, "somebody else writes to it");
}

Test(loader, the_first_item_is_looked_at)
{
    load_all(100, small);
    redis_do("LSET %s 0 x", claim.list);
    expect(loader_verify(loader, checker), FAULT_CHANGED, "item 0 of");
}

Test(loader, the_last_item_is_looked_at)
{
    load_all(100, small);
    redis_do("LSET %s -1 x", claim.list);
    expect(loader_verify(loader, checker), FAULT_CHANGED, "item -1 of");
}

Test(loader, the_length_is_looked_at)
{
    load_all(100, small);
    redis_do("LREM %s 1 00000050", claim.list);
    expect(loader_verify(loader, checker), FAULT_CHANGED, "holds 99 items");
}

/* Full before the first push, which is a transaction: its refusal is the one that says why. */
Test(loader, a_full_redis_at_the_first_push)
{
    redis_do("CONFIG SET maxmemory 1");
    fine(add(0, 20));
    expect(loader_finish(loader), FAULT_SERVER_FULL, "OOM");
}

Test(loader, a_full_redis_later)
{
    push_most();
    redis_do("CONFIG SET maxmemory 1");
    expect(push_on(), FAULT_SERVER_FULL, "OOM");
}

Test(loader, another_type_under_the_lists_name)
{
    redis_do("SET %s x", claim.list);
    fine(add(0, 20));
    expect(loader_finish(loader), FAULT_WRONG_TYPE, "");
}

static struct fault *enough(void *arg)
{
    int *beats = arg;
    return ++*beats == 5 ? fault_new(FAULT_LEASE_LOST, "enough") : NULL;
}

Test(loader, the_pulse_ends_it)
{
    int beats = 0;
    loader_set_pulse(loader, (struct pulse){enough, &beats});
    expect(push_on(), FAULT_LEASE_LOST, "enough");
}

/* ---- on another connection */

static struct conn *second(void)
{
    struct conn *c;
    fine(conn_open(private_redis_endpoint(), NULL, 5000, &c));
    return c;
}

/* Items that never arrive: the connection is dead. */
static void add_in_vain(size_t n, size_t (*length)(unsigned))
{
    fine(conn_open(private_redis_endpoint(), NULL, 5000, &conn));
    loader_free(loader);
    loader = loader_new(conn, &claim);
    redis_do("CLIENT KILL TYPE normal SKIPME yes");
    for (unsigned i = 0; i < n; i++) fault_free(add(i, length(i)));
}

/* What of them is taken to have arrived. */
static void arrive(size_t n, size_t (*length)(unsigned))
{
    redisContext *plain = redisConnectUnix(private_redis_url() + strlen("unix://"));
    for (unsigned i = 0; i < n; i++) {
        size_t len = length(i) < 8 ? 8 : length(i);
        char *text = item_text(i, len);
        freeReplyObject(redisCommand(plain, "RPUSH %s %b", claim.list, text, len));
        free(text);
    }
    redisFree(plain);
}

static struct fault *reclaim_and_resume(struct conn *c)
{
    struct reclaimed r;
    struct fault *f = script_reclaim(c, &claim, LOADER_LAST_MOST, &r);
    if (!f) f = loader_resume(loader, c, r.items, r.last);
    reclaimed_fini(&r);
    return f;
}

static void resume_after(size_t arrived, size_t n, size_t (*length)(unsigned))
{
    add_in_vain(n, length);
    arrive(arrived, length);
    struct conn *c = second();
    fine(reclaim_and_resume(c));
    for (unsigned i = (unsigned)n; i < n + 100; i++) fine(add(i, length(i)));
    fine(loader_finish(loader));
    cr_assert_eq(loader_acknowledged(loader), n + 100);
    checker_totals(checker);
    fine(loader_verify(loader, checker));
    expect_list(n + 100, length);
    conn_close(c);
    conn_close(conn);
}

static size_t up_to_large(unsigned n) { return n % 97 == 96 ? 70000 + n : n % 5 * 9; }

/* Wherever the list ends: at none, within a push, at its borders, at all that was sent. What was never sent is more. */
Test(loader, goes_on_wherever_the_list_ends)
{
    static const size_t ends[] = {0, 1, 95, 96, 97, 98, 500, 1454, 1455};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (i > 0) setup();
        resume_after(ends[i], 1500, up_to_large);
        if (i + 1 < sizeof ends / sizeof *ends) teardown();
    }
}

Test(loader, goes_on_within_small_pushes)
{
    static const size_t ends[] = {0, 1, 3999, 4000, 4001, 8000};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (i > 0) setup();
        resume_after(ends[i], 9000, small);
        if (i + 1 < sizeof ends / sizeof *ends) teardown();
    }
}

/* A huge item stays where it is until it has arrived. */
Test(loader, goes_on_with_a_huge_item)
{
    add_in_vain(1, large_first);
    struct conn *c = second();
    fine(reclaim_and_resume(c));
    cr_assert_eq(loader_acknowledged(loader), 1);
    fine(loader_finish(loader));
    expect_list(1, large_first);
    conn_close(c);
    conn_close(conn);
}

/* The right length, but not by the items that were sent. */
Test(loader, does_not_go_on_behind_a_stranger)
{
    add_in_vain(9000, small);
    arrive(4999, small);
    redis_do("RPUSH %s x", claim.list);
    struct conn *c = second();
    expect(reclaim_and_resume(c), FAULT_CHANGED, "holds 5000 items, which are not those");
    conn_close(c);
    conn_close(conn);
}

Test(loader, does_not_go_on_behind_more_than_was_sent)
{
    add_in_vain(4000, small);
    arrive(4001, small);
    struct conn *c = second();
    expect(reclaim_and_resume(c), FAULT_CHANGED, "holds 4001 items");
    conn_close(c);
    conn_close(conn);
}

/* A push that was refused may be followed by one that was not: then the length says nothing. */
Test(loader, does_not_go_on_behind_a_gap)
{
    add_in_vain(8000, small);
    struct conn *c = second();
    fine(reclaim_and_resume(c));
    fine(loader_finish(loader));
    redis_do("CONFIG SET min-replicas-to-write 1");
    for (unsigned i = 8000; i < 12000; i++) fault_free(add(i, small(i)));
    struct fault *f = loader_finish(loader);
    expect(f, FAULT_UNREACHABLE, "NOREPLICAS");
    redis_do("CONFIG SET min-replicas-to-write 0");
    arrive(4000, small);
    expect(reclaim_and_resume(c), FAULT_CHANGED, "holds 12000 items");
    conn_close(c);
    conn_close(conn);
}

Test(loader, begins_again_behind_what_is_left)
{
    load_all(9000, small);
    redis_do("LTRIM %s 0 4321", claim.list);
    struct conn *c = second();
    loader_restart(loader, c, 4322);
    for (unsigned i = 0; i < 10000; i++) {
        char *text = item_text(i, small(i));
        fine(loader_add(loader, (struct bytes){text, small(i) < 8 ? 8 : small(i)}));
        free(text);
    }
    fine(loader_finish(loader));
    cr_assert_eq(loader_acknowledged(loader), 10000);
    expect_list(10000, small);
    conn_close(c);
}
