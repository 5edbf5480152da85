/* A worker whose connections break, or whose Redis goes away for a while: the list holds each item once, in order, or a
 * fault says what cannot be continued. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/system/feed.h"

enum { SOON = 20000, ITEMS = 30000 };

static void make_input(void) { expect_exit(run("seq -f %%011.0f 1 %d >in", ITEMS), 0); }

/* Byte for byte what the file has, under a manifest that says so. */
static void expect_loaded(struct server *s, const char *id, const char *file)
{
    cr_assert_str_eq(field(s, id, "state"), "ready");
    const char *list = field(s, id, "list");
    struct run r = run("redis-cli -s %s --raw lrange '%s' 0 -1 >out && cmp out %s",
                       s ? s->socket : getenv("NWM_TEST_SOCKET"), list, file);
    expect_exit(r, 0);
    cr_assert_str_eq(ask(s, "PTTL %s", list), "-1");
    cr_assert_str_eq(ask(s, "EXISTS %s:lease", manifest_key(id)), "0");
}

static struct proc *proxy_start(const char *to, const char *faults)
{
    struct proc *p = spawn("exec tool_proxy --listen unix:%s/proxy --to unix:%s %s", test_dir(), to, faults);
    for (int64_t end = now_ms() + SOON; now_ms() < end && strcmp(proc_out(p), "ready\n") != 0; nap(1)) continue;
    return p;
}

static void proxy_end(struct proc *p)
{
    send_signal(p, SIGTERM);
    expect_exit(wait_exit(p, SOON), 0);
}

/* Loads the file through a proxy with these faults. */
static void load_through(const char *faults)
{
    struct proc *proxy = proxy_start(getenv("NWM_TEST_SOCKET"), faults);
    struct run r = run_within(SOON, "nwm-worker -n -i 0 -U unix://%s/proxy in", test_dir());
    if (r.exit != 0) cr_assert_fail("%s: %s", faults, run_describe(&r, "exit 0"));
    proxy_end(proxy);
    expect_loaded(NULL, "0", "in");
    expect_exit(run("nwm-worker -q --drop -i 0"), 0);
}

/* ---- connections that are cut */

/* The first one, after n bytes: in the login, the begin, the pushes, the closing comparison, the seal. */
static void cut_first(const char *direction, const long *at, size_t n)
{
    make_input();
    for (size_t i = 0; i < n; i++) load_through(fmt("--first 1 --cut-%s %ld", direction, at[i]));
}

Test(cut, going_up)
{
    static const long at[] = {0,    1,    40,   60,    100,   150,    200,    1000,   1500,
                              1900, 2000, 2500, 10000, 79000, 100000, 300000, 500000, 541000};
    cut_first("up", at, sizeof at / sizeof *at);
}

Test(cut, coming_down)
{
    static const long at[] = {0,  1,   4,   5,   6,   9,   10,  13,  14,  20,  60,  80,
                              90, 100, 110, 120, 130, 140, 150, 160, 170, 200, 250, 300};
    cut_first("down", at, sizeof at / sizeof *at);
}

/* The lease's connection, and the third, on which the list is reclaimed. */
Test(cut, another_connection)
{
    make_input();
    for (long n = 0; n < 3000; n += 499) {
        load_through(fmt("--only 2 --cut-up %ld", n));
        load_through(fmt("--only 2 --cut-down %ld", n / 20));
    }
}

/* Every connection ends before the load does, most of them within a push. */
Test(cut, every_connection)
{
    make_input();
    load_through("--cut-up 100000");
    load_through("--cut-up 190001");
    load_through("--cut-down 150");
    for (int seed = 1; seed <= 8; seed++) {
        load_through(fmt("--cut-up 300000 --random %d", seed));
        load_through(fmt("--cut-down 300 --random %d", seed));
    }
}

Test(cut, half_closed)
{
    make_input();
    load_through("--first 1 --half-close-down 100");
    load_through("--first 2 --half-close-down 60 --delay 20");
    load_through("--first 1 --half-close-up 200000");
}

/* Large items are pushes of their own, huge ones are not copied. */
Test(cut, large_items)
{
    expect_exit(
        run("for i in 1 2 3 4 5 6; do head -c $((i * 300000)) /dev/zero | tr '\\0' $i; echo; echo $i; done >in"), 0);
    expect_exit(run("LC_ALL=C sort -s -o in in"), 0);
    for (long n = 100000; n < 6300000; n += 911111) {
        struct proc *proxy = proxy_start(getenv("NWM_TEST_SOCKET"), fmt("--first 2 --cut-up %ld", n));
        expect_exit(run_within(SOON, "nwm-worker -i 0 -U unix://%s/proxy in", test_dir()), 0);
        proxy_end(proxy);
        expect_loaded(NULL, "0", "in");
    }
}

/* What an old connection delivers late reaches nothing: it was renamed away. */
Test(cut, client_kill)
{
    struct server s;
    server_start(&s, "%s", "");
    struct feed f;
    feed_begin(&f, &s, "0", "-n");
    for (int i = 0; i < 20; i++) {
        feed_numbers(&f, (long)i * 1500, 1500);
        if (i % 3 != 2) server_redis(&s, "CLIENT KILL TYPE normal SKIPME yes");
    }
    expect_exit(feed_end(&f), 0);
    expect_exit(run("seq -f %%010.0f 0 29999 >all"), 0);
    expect_loaded(&s, "0", "all");
    cr_assert_str_neq(field(&s, "0", "list"), f.list);
    cr_assert_str_eq(server_redis(&s, "EXISTS %s", f.list), "0");
    cr_assert_str_eq(server_redis(&s, "DBSIZE"), "4");
}

/* A server that ends idle clients, and an input that is silent for longer. */
Test(cut, idle)
{
    struct server s;
    server_start(&s, "timeout 1");
    struct feed f;
    feed_begin(&f, &s, "0", "-n --lease 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, &s, FEED_BLOCK);
    const char *name = fmt("name=nwm-worker:%s ", test_job());
    for (int64_t end = now_ms() + SOON; now_ms() < end && strstr(server_redis(&s, "CLIENT LIST"), name);) nap(20);
    cr_assert_null(strstr(server_redis(&s, "CLIENT LIST"), name));
    feed_numbers(&f, FEED_BLOCK, 10);
    expect_exit(feed_end(&f), 0);
    expect_exit(run("seq -f %%010.0f 0 %d >all", FEED_BLOCK + 9), 0);
    expect_loaded(&s, "0", "all");
}

/* ---- a Redis that dies */

static const char durable[] = "appendonly yes\nappendfsync always";

/* Half of it is there; then the server is killed and started again. The rest follows, and is compared. */
static struct run over_a_restart(struct server *s, struct feed *f, const char *options)
{
    feed_begin(f, s, "0", options);
    feed_numbers(f, 0, 2 * FEED_BLOCK);
    feed_wait_length(f, s, 2 * FEED_BLOCK);
    server_kill9(s);
    feed_numbers(f, 2 * FEED_BLOCK, 10);
    server_restart(s);
    feed_numbers(f, 2 * FEED_BLOCK + 10, FEED_BLOCK);
    return feed_end(f);
}

Test(restart, durable_and_a_pipe)
{
    struct server s;
    struct feed f;
    server_start(&s, "%s", durable);
    expect_exit(over_a_restart(&s, &f, "-n"), 0);
    expect_exit(run("seq -f %%010.0f 0 %d >all", 3 * FEED_BLOCK + 9), 0);
    expect_loaded(&s, "0", "all");
    cr_assert_str_eq(field(&s, "0", "run"), "1");
}

Test(restart, without_persistence_and_a_pipe)
{
    struct server s;
    struct feed f;
    server_start(&s, "%s", "");
    struct run r = over_a_restart(&s, &f, "-n --lease 1s");
    expect_fault(r, 4, "Lost", dataset("0"));
    expect_err_has(r, " items that Redis had acknowledged are gone");
    expect_err_has(r, "load a file");
    cr_assert_str_eq(field(&s, "0", "state"), "failed");
    cr_assert_str_eq(field(&s, "0", "error"), "Lost");
}

/* The server dies again and again while a file is loaded slowly, through a proxy with a delay. */
static void file_over_restarts(const char *config, const char *options, int times)
{
    struct server s;
    server_start(&s, "%s", config);
    expect_exit(run("seq -f %%0999.0f 1 20000 >in"), 0);
    struct proc *proxy = proxy_start(s.socket, "--delay 5 --chunk 20000");
    struct proc *worker = spawn("nwm-worker -n -i 0 %s -U unix://%s/proxy in", options, test_dir());
    for (int i = 0; i < times; i++) {
        wait_state(&s, "0", "loading");
        for (int64_t end = now_ms() + SOON; now_ms() < end && is_alive(worker); nap(1))
            if (strtol(ask(&s, "LLEN %s", field(&s, "0", "list")), NULL, 10) > 1000 * i) break;
        server_kill9(&s);
        server_restart(&s);
    }
    struct run r = wait_exit(worker, 60000);
    expect_exit(r, 0);
    proxy_end(proxy);
    expect_loaded(&s, "0", "in");
}

Test(restart, durable_and_a_file) { file_over_restarts(durable, "", 5); }
Test(restart, without_persistence_and_a_file) { file_over_restarts("", "", 5); }
Test(restart, without_persistence_and_sorted) { file_over_restarts("", "--sort", 3); }

/* Everything is acknowledged; only the seal is missing. */
Test(restart, before_ready)
{
    struct server s;
    server_start(&s, "%s", durable);
    struct feed feed;
    feed_begin(&feed, &s, "0", "-n -v");
    feed_numbers(&feed, 0, FEED_BLOCK);
    feed_wait_length(&feed, &s, FEED_BLOCK);
    server_kill9(&s);
    close(feed.fd);
    wait_err(feed.worker, "trying again", SOON);
    server_restart(&s);
    struct run r = wait_exit(feed.worker, SOON);
    expect_exit(r, 0);
    expect_exit(run("seq -f %%010.0f 0 %d >all", FEED_BLOCK - 1), 0);
    expect_loaded(&s, "0", "all");
}

/* The file is another one when it is read again. */
Test(restart, the_file_changed)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("seq -f %%0999.0f 1 20000 >in"), 0);
    struct proc *proxy = proxy_start(s.socket, "--delay 5 --chunk 20000");
    struct proc *worker = spawn("nwm-worker -n -i 0 -U unix://%s/proxy in", test_dir());
    wait_state(&s, "0", "loading");
    /* More than the 8 MB that a worker holds: some were acknowledged, and have to be read again. */
    for (int64_t end = now_ms() + SOON; now_ms() < end; nap(1))
        if (strtol(ask(&s, "LLEN %s", field(&s, "0", "list")), NULL, 10) > 9000) break;
    server_kill9(&s);
    expect_exit(run("printf 00000000 | dd of=in bs=1 seek=991 conv=notrunc status=none"), 0); /* item 1 is 0 now */
    server_restart(&s);
    struct run r = wait_exit(worker, SOON);
    expect_fault(r, 1, "Changed", dataset("0"));
    expect_err_has(r, "in changed while it was loaded");
    cr_assert_str_eq(field(&s, "0", "error"), "Changed");
    proxy_end(proxy);
}

/* ---- a Redis that is away, or will not write */

Test(away, a_stall_shorter_than_the_timeout)
{
    struct server s;
    server_start(&s, "%s", "");
    struct feed f;
    feed_begin(&f, &s, "0", "-n --timeout 10s --lease 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    server_pause(&s);
    feed_numbers(&f, FEED_BLOCK, FEED_BLOCK);
    nap(1500);
    server_resume(&s);
    expect_exit(feed_end(&f), 0);
    expect_exit(run("seq -f %%010.0f 0 %d >all", 2 * FEED_BLOCK - 1), 0);
    expect_loaded(&s, "0", "all");
}

static void expect_given_up(struct run r, int64_t since)
{
    expect_fault(r, 4, "Unreachable", dataset("0"));
    expect_err_has(r, "(--timeout)");
    expect_err_has(r, "try to go on with ");
    cr_assert(now_ms() - since >= 900 && now_ms() - since < 6000, "after %d ms", (int)(now_ms() - since));
}

Test(away, for_good)
{
    struct server s;
    server_start(&s, "%s", "");
    struct feed f;
    feed_begin(&f, &s, "0", "-n --timeout 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, &s, FEED_BLOCK);
    server_kill9(&s);
    int64_t then = now_ms();
    feed_numbers(&f, FEED_BLOCK, FEED_BLOCK);
    expect_given_up(feed_end(&f), then);
}

/* Nothing is to be pushed: the lease's thread notices. */
Test(away, for_good_while_the_input_is_silent)
{
    struct server s;
    server_start(&s, "%s", "");
    struct feed f;
    feed_begin(&f, &s, "0", "-n --timeout 1s --lease 1s");
    server_kill9(&s);
    struct run r = wait_exit(f.worker, SOON);
    expect_fault(r, 4, "Unreachable", dataset("0"));
    expect_err_has(r, "renew the lease");
    close(f.fd);
}

/* It always comes back, and never gets anywhere. */
Test(away, no_progress)
{
    make_input();
    int64_t then = now_ms();
    struct proc *proxy = proxy_start(getenv("NWM_TEST_SOCKET"), "--cut-up 30000");
    struct run r = run_within(SOON, "nwm-worker -n -i 0 --timeout 1s -U unix://%s/proxy in", test_dir());
    proxy_end(proxy);
    expect_given_up(r, then);
    cr_assert_str_eq(manifest("0", "state"), "failed");
}

/* The server loses all of it again and again, before it has got as far as it once was. */
Test(away, nothing_ever_stays)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("seq -f %%0999.0f 1 40000 >in"), 0);
    struct proc *proxy = proxy_start(s.socket, "--delay 5 --chunk 20000");
    struct proc *worker = spawn("nwm-worker -n -i 0 --timeout 2s -U unix://%s/proxy in", test_dir());
    long enough = 10000;
    for (int64_t end = now_ms() + SOON; now_ms() < end && is_alive(worker); enough = 2000) {
        while (now_ms() < end && is_alive(worker) && atol(ask(&s, "LLEN %s", field(&s, "0", "list"))) <= enough) nap(1);
        server_kill9(&s);
        server_restart(&s);
    }
    cr_assert(!is_alive(worker), "%s", proc_err(worker));
    struct run r = wait_exit(worker, SOON);
    cr_assert_eq(r.exit, 4, "%s", run_describe(&r, "a fault"));
    expect_err_has(r, "(--timeout)");
    proxy_end(proxy);
}

/* A failover: the server is a replica for a while. The lines go into the FIFO, which has room for them. */
Test(away, readonly)
{
    struct server s;
    server_start(&s, "%s", "");
    struct feed f;
    feed_begin(&f, &s, "0", "-n -v");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, &s, FEED_BLOCK);
    server_redis(&s, "REPLICAOF 127.0.0.1 %d", free_port());
    feed_numbers(&f, FEED_BLOCK, FEED_BLOCK); /* refused, which the next push finds out */
    const char *more = run("seq -f %%010.0f %d %d", 2 * FEED_BLOCK, 3 * FEED_BLOCK - 1).out;
    cr_assert_eq(write(f.fd, more, strlen(more)), (ssize_t)strlen(more));
    wait_err(f.worker, "READONLY", SOON);
    wait_err(f.worker, "trying again", SOON);
    server_redis(&s, "REPLICAOF NO ONE");
    feed_numbers(&f, 3 * FEED_BLOCK, FEED_BLOCK);
    expect_exit(feed_end(&f), 0);
    expect_exit(run("seq -f %%010.0f 0 %d >all", 4 * FEED_BLOCK - 1), 0);
    expect_loaded(&s, "0", "all");
}

/* ---- a worker that was stopped meanwhile */

static bool lease_is_gone(void *s) { return strcmp(server_redis(s, "EXISTS %s:lease", manifest_key("0")), "0") == 0; }

/* Another has the dataset; the one that was stopped wakes up. */
static void expect_taken_over(struct server *s, struct feed *f)
{
    cr_assert(wait_until(lease_is_gone, s, SOON));
    expect_exit(run("printf '1\\n2\\n' | nwm-worker -q -n -i 0 -U %s", s->url), 0);
    const char *after = server_redis(s, "HGETALL %s", manifest_key("0"));
    send_signal(f->worker, SIGCONT);
    struct run r = feed_end(f);
    expect_fault(r, 4, "LeaseLost", dataset("0"));
    expect_out(r, "");
    cr_assert_str_eq(server_redis(s, "HGETALL %s", manifest_key("0")), after);
    cr_assert_str_eq(server_redis(s, "LRANGE %s 0 -1", field(s, "0", "list")), "1\n2");
    cr_assert_str_neq(server_redis(s, "PTTL %s", f->list), "-1");
}

Test(stopped, while_redis_is_away)
{
    struct server s;
    struct feed f;
    server_start(&s, "%s", durable);
    feed_begin(&f, &s, "0", "-n -v --lease 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, &s, FEED_BLOCK);
    server_kill9(&s);
    feed_numbers(&f, FEED_BLOCK, FEED_BLOCK);
    wait_err(f.worker, "trying again", SOON);
    send_signal(f.worker, SIGSTOP);
    server_restart(&s);
    expect_taken_over(&s, &f);
}

/* It is connected again and has not reclaimed its list: the server answers nothing yet. */
Test(stopped, before_it_reclaims)
{
    struct server s;
    struct feed f;
    server_start(&s, "%s", "");
    feed_begin(&f, &s, "0", "-n -v --lease 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, &s, FEED_BLOCK);
    server_redis(&s, "CLIENT KILL TYPE normal SKIPME yes");
    server_pause(&s);
    feed_numbers(&f, FEED_BLOCK, FEED_BLOCK);
    wait_err(f.worker, "trying again", SOON);
    nap(200);
    send_signal(f.worker, SIGSTOP);
    server_resume(&s);
    expect_taken_over(&s, &f);
}

/* In the middle of its pushes: its list is gone when it wakes up, and the reason is told. */
Test(stopped, while_it_pushes)
{
    struct server s;
    struct feed f;
    server_start(&s, "%s", "");
    feed_begin(&f, &s, "0", "-n --lease 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, &s, FEED_BLOCK);
    feed_numbers(&f, FEED_BLOCK, FEED_BLOCK - 1);
    send_signal(f.worker, SIGSTOP);
    cr_assert_eq(write(f.fd, "9999999999\n", 11), 11);
    expect_taken_over(&s, &f);
}
