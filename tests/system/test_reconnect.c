/* Staying alive: a merge whose connections are lost goes on when the server is back with its data, and its output is that of a
 * merge nobody disturbed. What cannot go on is a fault that says why. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/system/scene.h"

enum { SOON = 20000 };

/* All four lists of a struct middle, merged. */
static void expect_all(struct run r, const char *out, size_t len)
{
    expect_exit(r, 0);
    write_bytes("merged", out, len);
    expect_exit(run("seq -f %%012.0f 0 %d | cmp - merged", 4 * MIDDLE_ITEMS - 1), 0);
}

static void expect_goes_on(struct middle *m)
{
    char *out;
    size_t len;
    struct run r = middle_end(m, &out, &len);
    expect_all(r, out, len);
}

static struct run expect_ends(struct middle *m, int code, const char *name, const char *subject)
{
    char *out;
    size_t len;
    struct run r = middle_end(m, &out, &len);
    expect_fault(r, code, name, subject);
    cr_assert_null(strstr(r.err, "complete:"), "%s", r.err);
    cr_assert_lt(count_lines(out, len), (size_t)4 * MIDDLE_ITEMS);
    return r;
}

/* ---- a proxy in between */

static bool has_said_ready(void *proxy) { return strstr(proc_out(proxy), "ready\n") != NULL; }

static struct proc *proxy(const char *to, const char *faults)
{
    struct proc *p = spawn("tool_proxy --listen unix:%s/proxy --to unix:%s %s", test_dir(), to, faults);
    cr_assert(wait_until(has_said_ready, p, SOON));
    return p;
}

static void end_proxy(struct proc *p)
{
    send_signal(p, SIGTERM);
    wait_exit(p, SOON);
}

/* Three datasets of 400 items, merged once undisturbed, to "right". */
static void load_three(void)
{
    for (int i = 0; i < 3; i++) expect_exit(run("seq -f %%012.0f %d 3 1200 | nwm-worker -q -n -i %d", i + 1, i), 0);
    expect_exit(run("nwm-merger >right"), 0);
}

static void expect_right_through(const char *faults, const char *options)
{
    struct proc *p = proxy(getenv("NWM_TEST_SOCKET"), faults);
    struct run r = run("nwm-merger -v -U unix://%s/proxy %s >out", test_dir(), options);
    if (r.exit != 0) cr_assert_fail("%s: %s", faults, run_describe(&r, "exit 0"));
    struct run same = run("cmp out right");
    if (same.exit != 0) cr_assert_fail("%s: %s", faults, run_describe(&same, "the same bytes"));
    end_proxy(p);
}

/* Of the first connection for data, at a spread of places over all that comes down on it (24 KB). */
Test(cut, on_the_way_down)
{
    load_three();
    for (int n = 0; n < 40; n += 3) expect_right_through(fmt("--only 2 --cut-down %d", n), "");
    for (int n = 40; n < 24000; n += 607) expect_right_through(fmt("--only 2 --cut-down %d", n), "");
}

Test(cut, on_the_way_up)
{
    load_three();
    for (int n = 0; n < 800; n += 23) expect_right_through(fmt("--only 2 --cut-up %d", n), "");
}

/* Once it has logged in: a server that closes the very first connection at once is Unreachable at once. */
Test(cut, of_the_control_connection)
{
    load_three();
    for (int n = 5; n < 1500; n += 97) expect_right_through(fmt("--only 1 --cut-down %d", n), "");
}

/* No connection lasts: each brings the merge on by a few items. */
Test(cut, of_every_connection)
{
    load_three();
    for (int n = 2000; n < 12000; n += 1700) expect_right_through(fmt("--cut-down %d", n), "");
}

/* Nor long enough for what a merge asks for at its best: after each the streams begin small again. */
Test(cut, of_every_connection_within_a_batch)
{
    for (int i = 0; i < 3; i++) expect_exit(run("seq -f %%012.0f %d 3 2700 | nwm-worker -q -n -i %d", i + 1, i), 0);
    expect_exit(run("nwm-merger >right"), 0);
    expect_right_through("--cut-down 5000", "--timeout 3s");
}

Test(cut, while_verifying)
{
    load_three();
    for (int n = 100; n < 9000; n += 1900) expect_right_through(fmt("--only 2 --cut-down %d", n), "--verify");
}

/* One that never gets as far as an item ends after --timeout. */
Test(cut, of_every_connection_before_the_first_item)
{
    load_three();
    struct proc *p = proxy(getenv("NWM_TEST_SOCKET"), "--cut-down 90");
    struct run r = run("nwm-merger --timeout 1s -U unix://%s/proxy -o out", test_dir());
    expect_fault(r, 4, "Unreachable", NULL);
    expect_err_has(r, "--timeout 1 s");
    cr_assert(!file_exists("out"));
    cr_assert(r.took >= 950 && r.took < 10000, "%d ms", (int)r.took);
    end_proxy(p);
}

/* ---- clients killed */

static bool reads(void *s) { return calls_of(s, "lrange") > 100; }

/* Again and again, while the merge runs. */
Test(killed, again_and_again)
{
    struct server s;
    server_start(&s, "%s", "");
    for (int i = 0; i < 4; i++)
        expect_exit(run("seq -f %%012.0f %d 4 %d | nwm-worker -q -n -U %s -i %d", i, 4 * MIDDLE_ITEMS - 1, s.url, i),
                    0);
    struct proc *p = spawn("nwm-merger -U %s --batch 4 --stats json --stats-file stats >merged", s.url);
    cr_assert(wait_until(reads, &s, SOON));
    for (; is_alive(p); nap(30)) server_redis(&s, "CLIENT KILL TYPE normal SKIPME yes");
    expect_exit(wait_exit(p, SOON), 0);
    expect_exit(run("seq -f %%012.0f 0 %d | cmp - merged", 4 * MIDDLE_ITEMS - 1), 0);
    cr_assert_gt(json_number(read_file("stats", NULL), "", "reconnects"), 2);
}

/* All of the merger's connections, or the one whose last command is this one. */
static void kill_merger(struct server *s, const char *command)
{
    char *list = fmt("%s", server_redis(s, "CLIENT LIST")), *rest = NULL;
    for (char *line = strtok_r(list, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        bool is_data = strstr(line, " cmd=lrange ") != NULL;
        if (!strstr(line, " name=nwm-merger:") || (*command == 'd') != is_data) continue;
        server_redis(s, "CLIENT KILL ID %ld", strtol(strchr(line, '=') + 1, NULL, 10));
    }
}

Test(killed, the_connection_for_data)
{
    struct middle m;
    middle_begin(&m, "");
    kill_merger(&m.server, "data");
    expect_goes_on(&m);
}

Test(killed, the_control_connection)
{
    struct middle m;
    middle_begin(&m, "");
    kill_merger(&m.server, "control");
    expect_goes_on(&m);
}

Test(killed, both)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "CLIENT KILL TYPE normal SKIPME yes");
    expect_goes_on(&m);
}

/* The password was changed meanwhile: no use in trying. */
Test(killed, and_not_let_in_again)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "CONFIG SET requirepass secret");
    server_redis(&m.server, "CLIENT KILL TYPE normal SKIPME yes");
    struct run r = expect_ends(&m, 4, "Denied", NULL);
    expect_err_has(r, "NOAUTH");
    cr_assert_lt(r.took, 20000);
}

/* ---- the server goes */

static const char *const with_aof = "appendonly yes\nappendfsync always";

Test(restarted, with_its_data)
{
    struct middle m;
    middle_begin_with(&m, with_aof, "");
    server_kill9(&m.server);
    server_restart(&m.server);
    expect_goes_on(&m);
}

/* The reader reads all the time, so that the merger sees the server being away. */
Test(restarted, while_the_merger_tries)
{
    struct server s;
    server_start(&s, "%s", with_aof);
    for (int i = 0; i < 4; i++)
        expect_exit(run("seq -f %%012.0f %d 4 %d | nwm-worker -q -n -U %s -i %d", i, 4 * MIDDLE_ITEMS - 1, s.url, i),
                    0);
    struct proc *p = spawn("nwm-merger -v -U %s --batch 20 >merged", s.url);
    cr_assert(wait_until(reads, &s, SOON));
    server_kill9(&s);
    wait_err(p, "Connection refused", SOON);
    server_restart(&s);
    struct run r = wait_exit(p, SOON);
    expect_exit(r, 0);
    expect_err_has(r, "trying again in");
    expect_exit(run("seq -f %%012.0f 0 %d | cmp - merged", 4 * MIDDLE_ITEMS - 1), 0);
}

Test(restarted, without_its_data)
{
    struct middle m;
    middle_begin(&m, "");
    server_kill9(&m.server);
    server_restart(&m.server);
    struct run r = expect_ends(&m, 1, "Vanished", NULL);
    expect_err_has(r, "came back without the data");
}

/* As after a crash that cost the last second, or a takeover by a replica that lagged behind. */
Test(restarted, with_less_than_it_had)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "CLIENT PAUSE 0"); /* nothing; the next two are seen together by the merger */
    server_redis(&m.server, "LTRIM %s 0 -2", m.list[3]);
    server_redis(&m.server, "CLIENT KILL TYPE normal SKIPME yes");
    struct run r = expect_ends(&m, 1, "Changed", dataset("3"));
    expect_err_has(r, "came back with other data");
}

/* It says -LOADING for a while; 20,000 keys beside the lists, 2 s in all. */
Test(restarted, and_loading_for_long)
{
    struct middle m;
    middle_begin_with(&m, "save 3600 1000000", "-v >out");
    expect_exit(run("seq 20000 | sed 's/^/SET k/;s/$/ x/' | redis-cli -s %s >/dev/null", m.server.socket), 0);
    cr_assert_str_eq(server_redis(&m.server, "SAVE"), "OK");
    expect_exit(run("printf 'key-load-delay 100\\nloading-process-events-interval-bytes 1024\\n' >>%s/redis.conf",
                    m.server.dir),
                0);
    server_kill9(&m.server);
    server_restart(&m.server); /* comes back once it is done */
    char *out;
    size_t len;
    struct run r = middle_end(&m, &out, &len);
    expect_all(r, out, len);
    expect_err_has(r, "LOADING");
}

Test(stopped, for_good)
{
    struct middle m;
    middle_begin(&m, ">out --timeout 1s");
    server_kill9(&m.server);
    struct run r = expect_ends(&m, 4, "Unreachable", NULL);
    expect_err_has(r, m.server.url);
    expect_err_has(r, fmt("nwm-merger: %s:", test_job())); /* the stream */
    expect_err_has(r, "--timeout 1 s");
    cr_assert_lt(r.took, 20000);
}

/* Waiting for a server ends at a signal, at once. */
Test(stopped, and_then_the_merger)
{
    struct middle m;
    middle_begin(&m, ">out -v");
    server_kill9(&m.server);
    wait_err(m.merger, "trying again in", SOON);
    int64_t began = now_ms();
    send_signal(m.merger, SIGTERM);
    char *out;
    size_t len;
    expect_exit(middle_end(&m, &out, &len), 128 + SIGTERM);
    cr_assert_lt(now_ms() - began, 2000);
}

/* ---- the server sleeps */

Test(asleep, for_less_than_the_timeout)
{
    struct middle m;
    middle_begin(&m, ">out --timeout 10s");
    server_pause(&m.server);
    struct proc *waker = spawn("sleep 1; kill -CONT %d", (int)m.server.pid);
    expect_goes_on(&m);
    wait_exit(waker, SOON);
}

Test(asleep, by_debug)
{
    struct middle m;
    middle_begin_with(&m, "enable-debug-command yes", ">out --timeout 10s");
    struct proc *sleep = spawn("redis-cli -s %s debug sleep 1", m.server.socket);
    expect_goes_on(&m);
    wait_exit(sleep, SOON);
}

/* ---- what others do meanwhile */

static void load_four(struct middle *m)
{
    server_start(&m->server, "%s", "");
    for (int i = 0; i < 4; i++) {
        expect_exit(
            run("seq -f %%012.0f %d 4 %d | nwm-worker -q -n -U %s -i %d", i, 4 * MIDDLE_ITEMS - 1, m->server.url, i),
            0);
        m->list[i] = fmt("%s", server_redis(&m->server, "HGET %s list", manifest_key(fmt("%d", i))));
    }
}

/* A merger in the middle, whose connections go through a proxy that is then gone. */
static struct proc *begin_behind_proxy(struct middle *m, const char *options)
{
    struct proc *p = proxy(m->server.socket, "");
    m->tap = tap_open("out");
    m->merger = spawn("nwm-merger -U unix://%s/proxy --memory 2M %s >out", test_dir(), options);
    tap_wait(m->tap, m->merger);
    return p;
}

static struct proc *middle_behind_proxy(struct middle *m, const char *options)
{
    load_four(m);
    return begin_behind_proxy(m, options);
}

Test(meanwhile, reloaded)
{
    struct middle m;
    end_proxy(middle_behind_proxy(&m, ""));
    expect_exit(run("echo 5 | nwm-worker -U %s -n -i 1", m.server.url), 0);
    proxy(m.server.socket, "");
    expect_goes_on(&m);
}

Test(meanwhile, dropped_and_reloaded)
{
    struct middle m;
    end_proxy(middle_behind_proxy(&m, ""));
    expect_exit(run("nwm-worker -U %s --drop -i 1 && echo 5 | nwm-worker -U %s -n -i 1", m.server.url, m.server.url),
                0);
    proxy(m.server.socket, "");
    struct run r = expect_ends(&m, 1, "Vanished", dataset("1"));
    expect_err_has(r, "replaced by a new load");
}

Test(meanwhile, flushed)
{
    struct middle m;
    end_proxy(middle_behind_proxy(&m, ""));
    server_redis(&m.server, "FLUSHALL");
    proxy(m.server.socket, "");
    expect_err_has(expect_ends(&m, 1, "Vanished", dataset("0")), "came back without the data");
}

/* Of the last one nothing was written yet: with --partial the merge goes on without it, and without it only. */
Test(meanwhile, dropped_before_its_first_item)
{
    struct middle m;
    load_four(&m);
    expect_exit(run("seq -f 9%%011.0f %d | nwm-worker -q -n -U %s -i late", 4 * MIDDLE_ITEMS, m.server.url), 0);
    end_proxy(begin_behind_proxy(&m, "--partial"));
    expect_exit(run("nwm-worker -U %s --drop -i late", m.server.url), 0);
    proxy(m.server.socket, "");
    char *out;
    size_t len;
    struct run r = middle_end(&m, &out, &len);
    expect_exit(r, 3);
    expect_err_has(r, dataset("late"));
    expect_err_has(r, "Vanished");
    write_bytes("merged", out, len);
    expect_exit(run("seq -f %%012.0f 0 %d | cmp - merged", 4 * MIDDLE_ITEMS - 1), 0);
}

/* All items of a list, so the one that is read again is among them. */
Test(meanwhile, the_item_before_was_replaced)
{
    struct middle m;
    end_proxy(middle_behind_proxy(&m, ""));
    server_redis(
        &m.server, "EVAL %s 1 %s",
        "for i, v in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do redis.call('LSET', KEYS[1], i - 1, '9' .. "
        "v:sub(2)) end",
        m.list[2]);
    proxy(m.server.socket, "");
    expect_err_has(expect_ends(&m, 1, "Changed", dataset("2")), "is no longer what it was");
}

static bool has_synced(void *replica)
{
    return strstr(server_redis(replica, "INFO replication"), "master_link_status:up");
}

/* The address leads to another server, which has the same data. */
Test(meanwhile, taken_over_by_a_replica)
{
    struct server primary, replica;
    server_start_tcp(&primary, "repl-diskless-sync-delay 0");
    for (int i = 0; i < 4; i++)
        expect_exit(
            run("seq -f %%012.0f %d 4 %d | nwm-worker -q -n -U %s -i %d", i, 4 * MIDDLE_ITEMS - 1, primary.url, i), 0);
    server_start(&replica, "replicaof 127.0.0.1 %d", primary.port);
    cr_assert(wait_until(has_synced, &replica, SOON));
    struct proc *p = proxy(primary.socket, "");
    struct middle m = {.tap = tap_open("out")};
    m.merger = spawn("nwm-merger -U unix://%s/proxy --memory 2M >out", test_dir());
    tap_wait(m.tap, m.merger);
    server_kill9(&primary);
    end_proxy(p);
    proxy(replica.socket, "");
    expect_goes_on(&m);
}

/* ---- the reader is the slow side: no clock of a server runs */

/* Idle clients are killed by the server, again and again, for longer than the timeout. */
Test(slow_reader, and_a_server_that_kills_idle_clients)
{
    struct middle m;
    middle_begin_with(&m, "timeout 1", ">out -v --timeout 2s");
    wait_err(m.merger, "trying again in", SOON);
    nap(3500); /* what must not happen needs a while not to happen in */
    cr_assert(is_alive(m.merger));
    expect_goes_on(&m);
}

/* Until the merger asks for nothing more: its memory and the FIFO are full. */
static void wait_for_rest(struct server *s)
{
    long before = -1, now = calls_of(s, "lrange");
    for (int same = 0; same < 5; same = now == before ? same + 1 : 0) {
        nap(50);
        before = now;
        now = calls_of(s, "lrange");
    }
}

static void expect_patience(bool away)
{
    struct middle m;
    middle_begin_with(&m, with_aof, ">out --timeout 1s");
    wait_for_rest(&m.server);
    if (away) {
        server_kill9(&m.server);
    } else {
        server_redis(&m.server, "CLIENT KILL TYPE normal SKIPME yes");
        server_pause(&m.server);
    }
    nap(2500);
    if (!is_alive(m.merger)) cr_assert_fail("%s", proc_err(m.merger));
    if (away) {
        server_restart(&m.server);
    } else {
        server_resume(&m.server);
    }
    expect_goes_on(&m);
}

Test(slow_reader, and_a_server_that_is_away_for_longer_than_the_timeout) { expect_patience(true); }
Test(slow_reader, and_a_server_that_is_silent_for_longer_than_the_timeout) { expect_patience(false); }

/* ---- waiting for the datasets */

static bool listens(void *s)
{
    return strcmp(server_redis(s, "PUBSUB NUMSUB nwm:%s:events", test_job()), fmt("nwm:%s:events\n1", test_job())) == 0;
}

Test(waiting, through_a_restart)
{
    struct server s;
    server_start(&s, "%s", with_aof);
    expect_exit(run("echo 1 | nwm-worker -n -i 0 -U %s", s.url), 0);
    struct proc *p = spawn("nwm-merger -w 2 -U %s", s.url);
    cr_assert(wait_until(listens, &s, SOON));
    server_redis(&s, "CLIENT KILL TYPE normal SKIPME yes");
    server_redis(&s, "CLIENT KILL TYPE pubsub");
    cr_assert(wait_until(listens, &s, SOON));
    server_kill9(&s);
    server_restart(&s);
    cr_assert(wait_until(listens, &s, SOON));
    expect_exit(run("echo 2 | nwm-worker -n -i 1 -U %s", s.url), 0);
    struct run r = wait_exit(p, SOON);
    expect_exit(r, 0);
    expect_out(r, "1\n2\n");
}

Test(waiting, for_a_server_that_does_not_come_back)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("echo 1 | nwm-worker -n -i 0 -U %s", s.url), 0);
    struct proc *p = spawn("nwm-merger -w 2 --timeout 1s -U %s", s.url);
    cr_assert(wait_until(listens, &s, SOON));
    server_kill9(&s);
    struct run r = wait_exit(p, SOON);
    expect_fault(r, 4, "Unreachable", NULL);
    expect_err_has(r, s.url);
    expect_err_has(r, "--timeout 1 s");
}

/* ---- plain lists */

static struct proc *begin_plain(struct server *s, struct tap **tap)
{
    server_start(s, "%s", "");
    expect_exit(run("seq 100000 299999 | nwm-worker -U %s -q -n -i 0", s->url), 0);
    server_redis(s, "RENAME %s plain", server_redis(s, "HGET %s list", manifest_key("0")));
    *tap = tap_open("out");
    struct proc *p = spawn("nwm-merger -U %s --list plain --memory 2M >out", s->url);
    tap_wait(*tap, p);
    return p;
}

Test(plain, goes_on_while_it_is_watched)
{
    struct server s;
    struct tap *tap;
    struct proc *p = begin_plain(&s, &tap);
    kill_merger(&s, "data");
    size_t len;
    char *out = tap_drain(tap, &len);
    expect_exit(wait_exit(p, SOON), 0);
    write_bytes("merged", out, len);
    expect_exit(run("seq 100000 299999 | cmp - merged"), 0);
}

/* Nothing can prove that it stayed as it was. */
Test(plain, ends_with_its_watch)
{
    struct server s;
    struct tap *tap;
    struct proc *p = begin_plain(&s, &tap);
    kill_merger(&s, "control");
    size_t len;
    tap_drain(tap, &len);
    struct run r = wait_exit(p, SOON);
    expect_fault(r, 4, "Lost", NULL);
    expect_err_has(r, "nothing can prove");
    cr_assert_null(strstr(r.err, "complete:"), "%s", r.err);
}
