/* Loading into a primary, reading from its replica. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/system/feed.h"

enum { SOON = 20000 };

struct pair {
    struct server primary, replica;
};

/* What the primary has said has arrived. */
static void catch_up(struct pair *p)
{
    const char *mark = fmt("mark.%lld", (long long)now_ms());
    server_redis(&p->primary, "SET %s x", mark);
    for (int64_t end = now_ms() + SOON; now_ms() < end; nap(5))
        if (strcmp(server_redis(&p->replica, "GET %s", mark), "x") == 0) return;
    cr_assert_fail("the replica does not follow");
}

static void start_pair(struct pair *p, const char *of_replica)
{
    server_start_tcp(&p->primary, "repl-diskless-sync-delay 0");
    server_start(&p->replica, "replicaof 127.0.0.1 %d\n%s", p->primary.port, of_replica);
    catch_up(p);
}

static void load_examples(const struct pair *p)
{
    for (int i = 0; i < 4; i++) expect_exit(run("nwm-worker --example -i %d -U %s", i, p->primary.url), 0);
}

Test(replica, merge)
{
    struct pair p;
    start_pair(&p, "");
    expect_exit(run("seq -f %%099.0f 1 2 100000 | nwm-worker -q -n -i 0 -U %s", p.primary.url), 0);
    expect_exit(run("seq -f %%099.0f 2 2 100000 | nwm-worker -q -n -i 1 -U %s", p.primary.url), 0);
    catch_up(&p);
    struct run r = run("nwm-merger -U %s --verify -o out", p.replica.url);
    expect_exit(r, 0);
    expect_err_has(r, "local == remote: true");
    expect_exit(run("seq -f %%099.0f 100000 >expected && cmp out expected"), 0);
    cr_assert_gt(calls_of(&p.replica, "lrange"), 10);
    cr_assert_eq(calls_of(&p.primary, "lrange"), 0);
    cr_assert_eq(calls_of(&p.primary, "hgetall"), 0);
}

Test(replica, status_jobs_and_lists)
{
    struct pair p;
    start_pair(&p, "");
    load_examples(&p);
    catch_up(&p);
    struct run r = run("nwm-merger -U %s --status", p.replica.url);
    expect_exit(r, 0);
    cr_assert_eq(count_lines(r.out, r.out_len), 5, "%s", r.out);
    expect_out(run("nwm-merger -U %s --jobs", p.replica.url), fmt("%s\n", test_job()));
    const char *list = field(&p.primary, "1", "list");
    r = run("nwm-merger -n -U %s --list '%s'", p.replica.url, list);
    expect_exit(r, 0);
    expect_out(r, "3\n5\n7\n9\n11\n13\n15\n17\n");
}

static bool merger_listens_there(void *replica)
{
    const char *channel = fmt("nwm:%s:events", test_job());
    return strcmp(server_redis(replica, "PUBSUB NUMSUB %s", channel), fmt("%s\n1", channel)) == 0;
}

/* The merger waits at the replica; what happens at the primary arrives there, events too. */
Test(replica, waiting)
{
    struct pair p;
    start_pair(&p, "");
    struct proc *merger = spawn("nwm-merger -w 2 -U %s", p.replica.url);
    cr_assert(wait_until(merger_listens_there, &p.replica, SOON));
    struct feed f;
    feed_begin(&f, &p.primary, "0", "-n");
    expect_exit(run("nwm-worker -n -i 1 -U %s --from-command -- seq 2", p.primary.url), 0);
    feed_write(&f, "1\n5\n");
    expect_exit(feed_end(&f), 0);
    struct run r = wait_exit(merger, SOON);
    expect_exit(r, 0);
    expect_out(r, "1\n1\n2\n5\n");
}

Test(replica, fault_of_a_worker)
{
    struct pair p;
    start_pair(&p, "");
    expect_exit(run("nwm-worker -i 0 -U %s missing", p.primary.url), 4);
    catch_up(&p);
    struct run r = run("nwm-merger -U %s", p.replica.url);
    expect_fault(r, 4, "NoInput", dataset("0"));
    expect_err_has(r, "Traceback");
}

/* One worker writes to the primary's replica: told where to go, and nothing happened. */
Test(replica, takes_no_worker)
{
    struct pair p;
    start_pair(&p, "");
    struct run r = run("nwm-worker --example -i 0 -U %s", p.replica.url);
    expect_fault(r, 4, "Unreachable", dataset("0"));
    expect_err_has(r, "READONLY");
    expect_err_has(r, "give the URL of its primary");
    load_examples(&p);
    catch_up(&p);
    expect_fault(run("nwm-worker --drop -i 0 -U %s", p.replica.url), 4, "Unreachable", NULL);
    expect_exit(run("nwm-merger -q -U %s", p.replica.url), 0);
}

/* Without its primary a replica still answers, unless it was told not to. */
Test(replica, without_its_primary)
{
    struct pair p;
    start_pair(&p, "");
    load_examples(&p);
    catch_up(&p);
    server_kill9(&p.primary);
    expect_exit(run("nwm-merger --verify -U %s", p.replica.url), 0);
    cr_assert_str_eq(server_redis(&p.replica, "CONFIG SET replica-serve-stale-data no"), "OK");
    for (int64_t end = now_ms() + SOON; now_ms() < end; nap(5))
        if (strncmp(server_redis(&p.replica, "GET x"), "(error) MASTERDOWN", 18) == 0) break;
    struct run r = run("nwm-merger --timeout 1s -U %s", p.replica.url);
    expect_fault(r, 4, "Unreachable", NULL);
    expect_err_has(r, "MASTERDOWN");
    expect_err_has(r, "primary");
}

/* A list expires by the primary's word; a replica shows keys that are past their time as gone. */
Test(replica, expiry)
{
    struct pair p;
    start_pair(&p, "");
    expect_exit(run("nwm-worker --example -i 0 --ttl 1s -U %s", p.primary.url), 0);
    catch_up(&p);
    const char *list = fmt("%s", field(&p.replica, "0", "list"));
    for (int64_t end = now_ms() + SOON; now_ms() < end; nap(10))
        if (strcmp(server_redis(&p.replica, "EXISTS %s %s", list, manifest_key("0")), "0") == 0) break;
    expect_fault(run("nwm-merger --wait 0 -U %s", p.replica.url), 6, "Timeout", NULL);
}
