/* Readiness: the manifest is the truth, events only wake, a look every second is the guarantee. -w, --since, --wait. */
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/system/scene.h"

/* A worker that has begun and waits for its input, a FIFO "slow.ID" that nobody writes to yet. */
static struct proc *slow_worker(const char *id, const char *options)
{
    cr_assert_eq(mkfifo(fmt("%s/slow.%s", test_dir(), id), 0600), 0);
    struct proc *p = spawn("nwm-worker %s -i %s slow.%s", options, id, id);
    cr_assert(wait_until(has_state, fmt("%s loading", id), 20000), "%s", proc_err(p));
    return p;
}

static void feed(const char *id, const char *items)
{
    write_file(fmt("food.%s", id), items);
    expect_exit(run("cat food.%s >slow.%s", id, id), 0);
}

/* ---- before, during, after */

Test(waiting, started_before_the_workers)
{
    struct proc *p = spawn("nwm-merger -w 2");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    load("1", "-n", "2\n");
    load("0", "-n", "1\n");
    struct run r = wait_exit(p, 20000);
    expect_exit(r, 0);
    expect_out(r, "1\n2\n");
    expect_err_has(r, "2 of 2");
}

Test(waiting, started_before_the_workers_ids_named)
{
    struct proc *p = spawn("nwm-merger b a");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    load("a", "-k1,1n", "1 a\n");
    load("b", "-k1,1n", "1 b\n");
    load("c", "-k1,1n", "1 c\n");
    struct run r = wait_exit(p, 20000);
    expect_exit(r, 0);
    expect_out(r, "1 b\n1 a\n");
    expect_err_has(r, "2 of 2");
}

Test(waiting, started_during_the_load)
{
    struct proc *worker = slow_worker("0", "-n");
    load("1", "-n", "2\n");
    struct proc *p = spawn("nwm-merger");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    cr_assert(is_alive(p));
    feed("0", "1\n3\n");
    expect_exit(wait_exit(worker, 20000), 0);
    struct run r = wait_exit(p, 20000);
    expect_exit(r, 0);
    expect_out(r, "1\n2\n3\n");
}

Test(waiting, started_after_the_workers)
{
    load("0", "-n", "1\n");
    struct run r = run("nwm-merger -w 1 --wait 0");
    expect_exit(r, 0);
    expect_out(r, "1\n");
}

/* Yesterday's data among tonight's would be complete by count and wrong: a reload is waited for. */
Test(waiting, a_reload_is_waited_for)
{
    load("0", "-n", "1\n");
    struct proc *worker = slow_worker("0", "-n");
    struct proc *p = spawn("nwm-merger");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    feed("0", "2\n");
    expect_exit(wait_exit(worker, 20000), 0);
    struct run r = wait_exit(p, 20000);
    expect_exit(r, 0);
    expect_out(r, "2\n");
}

Test(waiting, a_failed_reload_is_a_fault)
{
    load("0", "-n", "1\n");
    expect_exit(run("nwm-worker -n -i 0 missing"), 4);
    struct run r = run("nwm-merger");
    expect_fault(r, 4, "NoInput", dataset("0"));
    expect_err_has(r, "run 2");
    expect_out(r, "");
}

Test(waiting, a_worker_that_fails_while_waited_for)
{
    struct proc *worker = slow_worker("0", "-n");
    struct proc *p = spawn("nwm-merger");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    feed("0", "2\n1\n");
    expect_exit(wait_exit(worker, 20000), 1);
    expect_fault(wait_exit(p, 20000), 1, "Unsorted", dataset("0"));
}

/* ---- messages that do not come */

/* 0 receivers of a message, or none sent: the look every second finds it. */
Test(waiting, no_message_at_all)
{
    struct proc *p = spawn("nwm-merger -w 1");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    plant("0", "-n", "1\n2\n");
    struct run r = wait_exit(p, 20000);
    expect_exit(r, 0);
    expect_out(r, "1\n2\n");
}

static bool nobody_listens(void *server)
{
    return strcmp(server_redis(server, "PUBSUB NUMSUB nwm:%s:events", test_job()),
                  fmt("nwm:%s:events\n0", test_job())) == 0;
}

static bool somebody_listens(void *server) { return !nobody_listens(server); }

Test(waiting, subscriber_dropped)
{
    struct server s;
    server_start(&s, "%s", "");
    struct proc *p = spawn("nwm-merger -U %s -w 1", s.url);
    cr_assert(wait_until(somebody_listens, &s, 20000));
    cr_assert_str_neq(server_redis(&s, "CLIENT KILL TYPE pubsub"), "0");
    expect_exit(run("echo 1 | nwm-worker -U %s -n -i 0", s.url), 0);
    struct run r = wait_exit(p, 20000);
    expect_exit(r, 0);
    expect_out(r, "1\n");
}

/* SUBSCRIBE is not to be had: that only costs the second. */
Test(waiting, subscribe_refused)
{
    struct server s;
    server_start(&s, "rename-command SUBSCRIBE \"\"");
    struct proc *p = spawn("nwm-merger -U %s -w 1", s.url);
    struct run loaded = run("sleep 0.3; echo 1 | nwm-worker -U %s -n -i 0", s.url);
    expect_exit(loaded, 0);
    expect_exit(wait_exit(p, 20000), 0);
}

/* What a message says is not believed; messages that are none are nothing. */
Test(waiting, lying_messages)
{
    struct proc *p = spawn("nwm-merger -w 1 0");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    redis("PUBLISH nwm:%s:events %s", test_job(), "0 ready 1 5");
    redis("PUBLISH nwm:%s:events %b", test_job(), "\0\xff nonsense", (size_t)11);
    redis("PUBLISH nwm:%s:events %s", test_job(), "");
    for (int i = 0; i < 1000; i++) redis("PUBLISH nwm:%s:events %s", test_job(), "x failed 1 0");
    cr_assert(is_alive(p));
    load("0", "-n", "1\n");
    struct run r = wait_exit(p, 20000);
    expect_exit(r, 0);
    expect_out(r, "1\n");
}

/* An event is noticed at once: this could take a second each time without them. */
Test(waiting, messages_wake)
{
    int64_t best = INT64_MAX;
    for (int i = 0; i < 4 && best > 300; i++) {
        struct proc *p = spawn("nwm-merger %d", i);
        cr_assert(wait_until(merger_listens, NULL, 20000));
        plant(fmt("%d", i), "-n", "1\n");
        int64_t then = now_ms();
        redis("PUBLISH nwm:%s:events %s", test_job(), fmt("%d ready 1 1", i));
        expect_exit(wait_exit(p, 20000), 0);
        if (now_ms() - then < best) best = now_ms() - then;
    }
    cr_assert_leq(best, 300);
}

/* ---- bounds */

Test(waiting, wait_0_does_not_wait)
{
    struct proc *worker = slow_worker("0", "-n");
    struct run r = run("nwm-merger --wait 0");
    expect_fault(r, 6, "Timeout", NULL);
    expect_err_has(r, dataset("0"));
    cr_assert_lt(r.took, 5000);
    send_signal(worker, SIGTERM);
    expect_exit(wait_exit(worker, 20000), 128 + SIGTERM);
}

Test(waiting, wait_is_a_bound)
{
    load("0", "-n", "1\n");
    struct run r = run("nwm-merger --wait 1.5s 0 1 2");
    expect_fault(r, 6, "Timeout", NULL);
    expect_err_has(r, dataset("1"));
    expect_err_has(r, dataset("2"));
    cr_assert_null(strstr(r.err, fmt("%s (", dataset("0"))), "%s", r.err);
    cr_assert_geq(r.took, 1400);
    cr_assert_lt(r.took, 10000);
}

/* A worker that lives is progress, however long it takes; one that does not even move. */
Test(waiting, a_live_lease_is_progress)
{
    struct proc *worker = slow_worker("0", "-n --lease 1s");
    struct proc *p = spawn("nwm-merger --wait 1s");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    nap(2500); /* what must not happen needs a while not to happen in */
    cr_assert(is_alive(p), "%s", proc_err(p));
    feed("0", "1\n");
    expect_exit(wait_exit(worker, 20000), 0);
    struct run r = wait_exit(p, 20000);
    expect_exit(r, 0);
    expect_out(r, "1\n");
}

Test(waiting, forever_is_ended_by_a_signal)
{
    struct proc *p = spawn("nwm-merger --wait forever -w 1");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    send_signal(p, SIGINT);
    struct run r = wait_exit(p, 5000);
    expect_exit(r, 128 + SIGINT);
}

Test(waiting, worker_lost)
{
    struct proc *worker = slow_worker("0", "-n --lease 1s");
    load("1", "-n", "1\n");
    struct proc *p = spawn("nwm-merger --wait forever");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    send_signal(worker, SIGKILL);
    int64_t then = now_ms();
    struct run r = wait_exit(p, 20000);
    expect_fault(r, 4, "WorkerLost", dataset("0"));
    cr_assert_leq(now_ms() - then, 10000);
    expect_out(r, "");
    wait_exit(worker, 20000);
}

/* It is lost for mergers that come later, too, and back when it is loaded again. */
Test(waiting, worker_lost_and_loaded_again)
{
    struct proc *worker = slow_worker("0", "-n --lease 1s");
    send_signal(worker, SIGKILL);
    wait_exit(worker, 20000);
    expect_fault(run("nwm-merger --wait forever"), 4, "WorkerLost", dataset("0"));
    load("0", "-n --lease 1s", "1\n");
    struct run r = run("nwm-merger");
    expect_exit(r, 0);
    expect_out(r, "1\n");
}

Test(waiting, since_waits_for_tonights_run)
{
    load("0", "-n", "1\n");
    redis("HSET %s started 1000000000 finished 1000000001", manifest_key("0"));
    struct proc *p = spawn("nwm-merger --since 30m");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    load("0", "-n", "2\n");
    struct run r = wait_exit(p, 20000);
    expect_exit(r, 0);
    expect_out(r, "2\n");
}

Test(waiting, since_of_a_failed_run)
{
    expect_exit(run("nwm-worker -n -i 0 missing"), 4);
    redis("HSET %s started 1000000000 finished 1000000001", manifest_key("0"));
    struct proc *p = spawn("nwm-merger --since 30m"); /* yesterday's fault is none of tonight's */
    cr_assert(wait_until(merger_listens, NULL, 20000));
    load("0", "-n", "2\n");
    expect_exit(wait_exit(p, 20000), 0);
}

/* The answer that does not come, while connecting. */
Test(waiting, timeout_bounds_connecting)
{
    struct server s;
    server_start(&s, "%s", "");
    server_pause(&s);
    struct run r = run("nwm-merger -U %s --timeout 1s", s.url);
    server_resume(&s);
    expect_fault(r, 6, "Timeout", NULL);
    cr_assert_geq(r.took, 900);
    cr_assert_lt(r.took, 10000);
}
