/* The worker keeps the contract: keys, manifest, events, the lease, the end of unfinished lists, and signals. */
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/feed.h"

static void expect_match(const char *text, const char *pattern)
{
    regex_t re;
    cr_assert_eq(regcomp(&re, fmt("^(%s)$", pattern), REG_EXTENDED | REG_NOSUB), 0);
    bool fits = regexec(&re, text, 0, NULL, 0) == 0;
    regfree(&re);
    cr_assert(fits, "\"%s\" is not %s", text, pattern);
}

static long number(const char *text)
{
    expect_match(text, "-?[0-9]+");
    return strtol(text, NULL, 10);
}

static void expect_between(long n, long least, long most)
{
    cr_assert(n >= least && n <= most, "%ld is not from %ld to %ld", n, least, most);
}

/* The names of the manifest's fields, sorted, with spaces between. */
static const char *fields_of(const char *id)
{
    return run("redis-cli -s ${NWM_URL#unix://} --raw hkeys '%s' | LC_ALL=C sort | tr '\\n' ' '", manifest_key(id)).out;
}

static const char *whole_manifest(const char *id) { return redis("HGETALL %s", manifest_key(id)); }

/* ---- keys and manifest */

/* Nothing else is written to the server than what the contract names. */
Test(contract, keys)
{
    struct server s;
    server_start(&s, "%s", "");
    struct feed f;
    feed_begin(&f, &s, "a", "-n --lease 60s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, &s, FEED_BLOCK);
    const char *m = manifest_key("a"), *lease = fmt("%s:lease", m), *set = fmt("nwm:%s:datasets", test_job());
    expect_match(f.list, fmt("nwm:\\{%s\\}:1\\.[0-9a-f]{12}", dataset("a")));
    cr_assert_str_eq(server_redis(&s, "DBSIZE"), "5");
    cr_assert_str_eq(server_redis(&s, "TYPE nwm:jobs"), "set");
    cr_assert_str_eq(server_redis(&s, "SMEMBERS nwm:jobs"), test_job());
    cr_assert_str_eq(server_redis(&s, "TYPE %s", set), "set");
    cr_assert_str_eq(server_redis(&s, "SMEMBERS %s", set), "a");
    cr_assert_str_eq(server_redis(&s, "TYPE %s", m), "hash");
    cr_assert_str_eq(server_redis(&s, "TYPE %s", f.list), "list");
    cr_assert_str_eq(server_redis(&s, "TYPE %s", lease), "string");
    expect_between(number(server_redis(&s, "PTTL %s", lease)), 40000, 60000);
    expect_between(number(server_redis(&s, "PTTL %s", f.list)), 400000, 600000); /* ten leases */
    cr_assert_str_eq(server_redis(&s, "PTTL %s", m), "-1");
    cr_assert_str_eq(server_redis(&s, "GET %s", lease), field(&s, "a", "token"));
    expect_exit(feed_end(&f), 0);
    cr_assert_str_eq(server_redis(&s, "DBSIZE"), "4");
    cr_assert_str_eq(server_redis(&s, "EXISTS %s", lease), "0");
    cr_assert_str_eq(server_redis(&s, "PTTL %s", f.list), "-1");
    cr_assert_str_eq(server_redis(&s, "PTTL %s", m), "-1");
}

Test(contract, prefix)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("nwm-worker --example -i 1 -U %s --prefix x:y:", s.url), 0);
    cr_assert_str_eq(server_redis(&s, "SMEMBERS x:y:jobs"), test_job());
    cr_assert_str_eq(server_redis(&s, "SMEMBERS x:y:%s:datasets", test_job()), "1");
    expect_match(server_redis(&s, "HGET x:y:{%s} list", dataset("1")),
                 fmt("x:y:\\{%s\\}:1\\.[0-9a-f]{12}", dataset("1")));
    cr_assert_str_eq(server_redis(&s, "DBSIZE"), "4");
}

static void expect_begun(const char *id, pid_t worker)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    cr_assert_str_eq(manifest(id, "contract"), "1");
    expect_match(manifest(id, "token"), fmt("%s:%d:[0-9a-f]{12}", host, (int)worker));
    const char *nonce = strrchr(manifest(id, "token"), ':') + 1;
    cr_assert_str_eq(strrchr(manifest(id, "list"), '.') + 1, nonce);
    long now = strtol(redis("TIME"), NULL, 10);
    expect_between(number(manifest(id, "started")), now - 60, now);
}

Test(contract, manifest_while_loading)
{
    struct feed f;
    feed_begin(&f, NULL, "7", "-k2,2nr -t, --lease 60s");
    cr_assert_str_eq(fields_of("7"), "contract lease list order run source started state token ");
    cr_assert_str_eq(manifest("7", "state"), "loading");
    cr_assert_str_eq(manifest("7", "run"), "1");
    cr_assert_str_eq(manifest("7", "lease"), "60000");
    cr_assert_str_eq(manifest("7", "order"), "-k2,2nr -t2c");
    expect_match(manifest("7", "source"), "feed\\.[0-9]+");
    expect_exit(feed_end(&f), 0);
}

Test(contract, manifest_when_ready)
{
    load("7", "-n", "-5\n7\n1234\n");
    cr_assert_str_eq(fields_of("7"),
                     "bytes contract digest finished first items last lease list max_item max_window order "
                     "run source started state token ");
    cr_assert_str_eq(manifest("7", "state"), "ready");
    cr_assert_str_eq(manifest("7", "items"), "3");
    cr_assert_str_eq(manifest("7", "bytes"), "7");
    cr_assert_str_eq(manifest("7", "max_item"), "4");
    cr_assert_str_eq(manifest("7", "first"), "-5");
    cr_assert_str_eq(manifest("7", "last"), "1234");
    cr_assert_str_eq(manifest("7", "order"), "-n");
    cr_assert_str_eq(manifest("7", "source"), "data.7");
    expect_match(manifest("7", "digest"), ".*[0-9a-f]{16,}.*");
    expect_between(number(manifest("7", "finished")), number(manifest("7", "started")),
                   number(manifest("7", "started")) + 60);
    load("8", "", "");
    cr_assert_str_eq(manifest("8", "items"), "0");
    cr_assert_str_eq(manifest("8", "order"), "");
    cr_assert_str_eq(redis("HEXISTS %s first", manifest_key("8")), "0");
}

Test(contract, manifest_when_failed)
{
    write_file("in", "3\n9\n5\n");
    expect_exit(run("nwm-worker -n -i 7 in"), 1);
    cr_assert_str_eq(fields_of("7"), "at bytes contract error exit finished items lease list message order run source "
                                     "started state token traceback ");
    cr_assert_str_eq(manifest("7", "state"), "failed");
    cr_assert_str_eq(manifest("7", "error"), "Unsorted");
    cr_assert_str_eq(manifest("7", "exit"), "1");
    cr_assert_str_eq(manifest("7", "items"), "2");
    cr_assert_str_eq(manifest("7", "at"), "line 3");
    cr_assert_not_null(strstr(manifest("7", "message"), "item 3 \"5\" sorts before item 2 \"9\""));
    expect_match(manifest("7", "traceback"), fmt("load dataset %s\nread in\ncheck order -n at line 3", dataset("7")));
    expect_between(number(manifest("7", "finished")), number(manifest("7", "started")),
                   number(manifest("7", "started")) + 60);
    cr_assert_str_eq(redis("EXISTS %s:lease %s", manifest_key("7"), manifest("7", "list")), "0");
}

/* Any byte is allowed; first and last are cut after 256. */
Test(contract, first_and_last)
{
    expect_exit(run("{ printf 'a\\0\\377\\n'; head -c 1000 /dev/zero | tr '\\0' z; } >in && nwm-worker -i 0 in"), 0);
    expect_out(
        run("redis-cli -s ${NWM_URL#unix://} --raw hget '%s' first | od -An -tx1 | tr -d ' '", manifest_key("0")),
        "6100ff0a\n");
    cr_assert_str_eq(redis("HSTRLEN %s last", manifest_key("0")), "256");
    cr_assert_str_eq(manifest("0", "max_item"), "1000");
    cr_assert_str_eq(manifest("0", "bytes"), "1003");
    cr_assert_str_eq(redis("LLEN %s", manifest("0", "list")), "2");
    cr_assert_str_eq(redis("HSTRLEN %s first", manifest_key("0")), "3");
}

Test(contract, the_worker_is_a_process_that_leaves)
{
    struct feed f;
    feed_begin(&f, NULL, "0", "");
    expect_begun("0", proc_pid(f.worker));
    expect_exit(feed_end(&f), 0);
    cr_assert_null(strstr(redis("CLIENT LIST"), fmt("name=nwm-worker:%s", test_job())));
}

/* ---- events */

Test(events, every_change_of_state)
{
    struct proc *heard = listen_to(fmt("nwm:%s:events", test_job()));
    load("0", "-n", "1\n2\n");
    wait_message(heard, "0 loading 1 0");
    wait_message(heard, "0 ready 1 2");
    write_file("bad", "1\n2\n1\n");
    expect_exit(run("nwm-worker -n -i 0 bad"), 1);
    wait_message(heard, "0 loading 2 0");
    wait_message(heard, "0 failed 2 2");
    load("0", "-n", "1\n");
    expect_exit(run("nwm-worker --drop -i 0"), 0);
    wait_message(heard, "0 loading 3 0");
    wait_message(heard, "0 ready 3 1");
    wait_message(heard, "0 dropped 3 1");
    send_signal(heard, SIGTERM);
    struct run r = wait_exit(heard, 5000);
    cr_assert_eq(count_lines(r.out, r.out_len), 3 + 3 * 7, "more was published:\n%s", r.out);
}

/* ---- the lease */

static bool lease_is_gone(void *id) { return strcmp(redis("EXISTS %s:lease", manifest_key(id)), "0") == 0; }

Test(lease, duplicate_worker)
{
    struct feed f;
    feed_begin(&f, NULL, "0", "");
    const char *before = whole_manifest("0");
    struct run r = run("nwm-worker -n -i 0 --example");
    expect_fault(r, 4, "DuplicateWorker", dataset("0"));
    expect_err_has(r, fmt(":%d ", (int)proc_pid(f.worker)));
    cr_assert_str_eq(whole_manifest("0"), before);
    feed_write(&f, "a\nb\n");
    expect_exit(feed_end(&f), 0);
    cr_assert_str_eq(manifest("0", "run"), "1");
    cr_assert_str_eq(redis("LRANGE %s 0 -1", manifest("0", "list")), "a\nb");
}

Test(lease, taken_over_from_the_lost)
{
    struct feed f;
    feed_begin(&f, NULL, "0", "--lease 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, NULL, FEED_BLOCK);
    send_signal(f.worker, SIGKILL);
    expect_exit(wait_exit(f.worker, 5000), 128 + SIGKILL);
    expect_fault(run("nwm-worker --example -i 0"), 4, "DuplicateWorker", dataset("0"));
    expect_between(number(redis("PTTL %s", f.list)), 1, 60000); /* it goes by itself */
    cr_assert(wait_until(lease_is_gone, "0", 3000));
    expect_exit(run("nwm-worker --example -i 0"), 0);
    cr_assert_str_eq(manifest("0", "run"), "2");
    cr_assert_str_eq(manifest("0", "state"), "ready");
    cr_assert_str_eq(redis("EXISTS %s", f.list), "0");
}

/* The lease stays while nothing comes, and is never near its end. */
Test(lease, renewed_during_slow_input)
{
    struct feed f;
    feed_begin(&f, NULL, "0", "--lease 1s");
    redis("SREM nwm:jobs %s", test_job());
    redis("SREM nwm:%s:datasets 0", test_job());
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, NULL, FEED_BLOCK);
    long least = 1000, least_of_list = 10000;
    for (int64_t end = now_ms() + 2500; now_ms() < end; nap(10)) {
        long left = number(redis("PTTL %s:lease", manifest_key("0"))), of_list = number(redis("PTTL %s", f.list));
        if (left < least) least = left;
        if (of_list < least_of_list) least_of_list = of_list;
    }
    cr_assert_gt(least, 0);
    cr_assert_gt(least_of_list, 8000);
    cr_assert_str_eq(redis("SISMEMBER nwm:jobs %s", test_job()), "1"); /* joined again at every heartbeat */
    cr_assert_str_eq(redis("SMEMBERS nwm:%s:datasets", test_job()), "0");
    expect_exit(feed_end(&f), 0);
    cr_assert_str_eq(manifest("0", "items"), fmt("%d", FEED_BLOCK));
}

/* Sorting keeps the main thread busy for longer than the lease runs. */
Test(lease, renewed_during_a_long_sort)
{
    expect_exit(run("seq 4000000 | awk '{ print ($1 * 7368787) %% 4000037 }' >in"), 0);
    struct proc *worker = spawn("nwm-worker -n --sort --lease 1s -i 0 in");
    wait_state(NULL, "0", "loading");
    long least = 1000;
    int64_t began = now_ms();
    while (strcmp(manifest("0", "state"), "loading") == 0) {
        long left = number(redis("PTTL %s:lease", manifest_key("0")));
        if (left < least && strcmp(manifest("0", "state"), "loading") == 0) least = left;
        nap(10);
    }
    cr_assert_gt(now_ms() - began, 1000, "too quick to show anything");
    expect_exit(wait_exit(worker, 60000), 0);
    cr_assert_gt(least, 0);
    expect_exit(run("nwm-worker --drop -i 0"), 0);
}

Test(lease, taken_again_after_a_stop)
{
    struct feed f;
    feed_begin(&f, NULL, "0", "--lease 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, NULL, FEED_BLOCK);
    send_signal(f.worker, SIGSTOP);
    cr_assert(wait_until(lease_is_gone, "0", 3000));
    send_signal(f.worker, SIGCONT);
    feed_numbers(&f, FEED_BLOCK, FEED_BLOCK);
    expect_exit(feed_end(&f), 0);
    cr_assert_str_eq(manifest("0", "items"), fmt("%d", 2 * FEED_BLOCK));
    cr_assert_str_eq(manifest("0", "run"), "1");
}

/* What the first still pushes reaches only its own list, which nobody reads. */
Test(lease, lost_while_stopped)
{
    struct feed f;
    feed_begin(&f, NULL, "0", "--lease 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, NULL, FEED_BLOCK);
    send_signal(f.worker, SIGSTOP);
    cr_assert(wait_until(lease_is_gone, "0", 3000));
    load("0", "-n", "1\n2\n");
    const char *after = whole_manifest("0"), *token = manifest("0", "token");
    struct proc *heard = listen_to(fmt("nwm:%s:events", test_job()));
    send_signal(f.worker, SIGCONT);
    feed_numbers(&f, FEED_BLOCK, 3 * FEED_BLOCK);
    struct run r = feed_end(&f);
    cr_assert(r.exit == 4, "%s", run_describe(&r, "exit 4"));
    expect_out(r, "");
    cr_assert(strstr(r.err, ": LeaseLost: ") || strstr(r.err, ": Lost: "), "%s", r.err);
    cr_assert_str_eq(whole_manifest("0"), after);
    cr_assert_str_eq(redis("LRANGE %s 0 -1", manifest("0", "list")), "1\n2");
    cr_assert_str_eq(redis("EXISTS %s:lease", manifest_key("0")), "0");
    cr_assert_neq(number(redis("PTTL %s", f.list)), -1);
    expect_out(run("nwm-merger"), "1\n2\n");
    cr_assert_str_eq(manifest("0", "token"), token);
    cr_assert_null(strstr(proc_out(heard), "message"), "%s", proc_out(heard));
}

/* The same with nothing more to push: only the lease tells. */
Test(lease, lost_while_waiting_for_input)
{
    struct feed f;
    feed_begin(&f, NULL, "0", "--lease 1s");
    send_signal(f.worker, SIGSTOP);
    cr_assert(wait_until(lease_is_gone, "0", 3000));
    load("0", "-n", "1\n2\n");
    const char *after = whole_manifest("0");
    send_signal(f.worker, SIGCONT);
    struct run r = wait_exit(f.worker, 20000); /* its input stays open */
    expect_fault(r, 4, "LeaseLost", dataset("0"));
    expect_err_has(r, "has taken the dataset over");
    cr_assert_str_eq(whole_manifest("0"), after);
    cr_assert_str_eq(redis("LRANGE %s 0 -1", manifest("0", "list")), "1\n2");
}

/* The other is not done yet: it must not be told failed, nor lose its list. */
Test(lease, lost_to_one_that_still_loads)
{
    struct feed f, other;
    feed_begin(&f, NULL, "0", "--lease 1s");
    send_signal(f.worker, SIGSTOP);
    cr_assert(wait_until(lease_is_gone, "0", 3000));
    feed_begin(&other, NULL, "0", "");
    feed_numbers(&other, 0, FEED_BLOCK);
    feed_wait_length(&other, NULL, FEED_BLOCK);
    const char *after = whole_manifest("0");
    send_signal(f.worker, SIGCONT);
    struct run r = feed_end(&f);
    expect_fault(r, 4, "LeaseLost", dataset("0"));
    cr_assert_str_eq(whole_manifest("0"), after);
    cr_assert_str_eq(redis("LLEN %s", other.list), fmt("%d", FEED_BLOCK));
    cr_assert_str_eq(redis("GET %s:lease", manifest_key("0")), manifest("0", "token"));
    expect_exit(feed_end(&other), 0);
    cr_assert_str_eq(manifest("0", "state"), "ready");
    cr_assert_str_eq(manifest("0", "run"), "2");
}

/* ---- reloads */

Test(reload, is_a_new_run)
{
    const char *lists[3];
    for (int i = 0; i < 3; i++) {
        load("0", "-n", fmt("%d\n", i));
        lists[i] = fmt("%s", manifest("0", "list"));
        cr_assert_str_eq(manifest("0", "run"), fmt("%d", i + 1));
        expect_match(lists[i], fmt("nwm:\\{%s\\}:%d\\.[0-9a-f]{12}", dataset("0"), i + 1));
    }
    for (int i = 0; i < 3; i++) cr_assert_str_eq(redis("LRANGE %s 0 -1", lists[i]), fmt("%d", i));
    expect_out(run("nwm-merger"), "2\n");
}

/* It reads on where it was, and those that come later read what is new. */
Test(reload, merges_in_flight_finish_on_the_old_run)
{
    struct middle m;
    middle_begin(&m, "");
    expect_exit(run("echo 5 | nwm-worker -n -i 2 -U %s", m.server.url), 0);
    char *out;
    size_t len;
    struct run r = middle_end(&m, &out, &len);
    expect_exit(r, 0);
    cr_assert_eq(count_lines(out, len), (size_t)4 * MIDDLE_ITEMS);
    expect_out(run("nwm-merger -U %s 2", m.server.url), "5\n");
}

/* ---- failure before the first item */

static void expect_recorded(const char *worker, const char *name, int code, const char *what)
{
    load("0", "-n", "1\n");
    expect_fault(run("%s", worker), code, name, dataset("0"));
    cr_assert_str_eq(manifest("0", "state"), "failed");
    cr_assert_str_eq(manifest("0", "run"), "2");
    cr_assert_str_eq(manifest("0", "error"), name);
    cr_assert_str_eq(manifest("0", "items"), "0");
    cr_assert_not_null(strstr(manifest("0", "message"), what), "%s", manifest("0", "message"));
    cr_assert_str_eq(redis("EXISTS %s:lease %s", manifest_key("0"), manifest("0", "list")), "0");
}

Test(failure, missing_file) { expect_recorded("nwm-worker -i 0 not/there", "NoInput", 4, "not/there: No such file"); }

Test(failure, directory) { expect_recorded("nwm-worker -i 0 /tmp", "NoInput", 4, "/tmp: it is a directory"); }

Test(failure, no_permission)
{
    if (geteuid() == 0 && run("setpriv --version").exit != 0)
        cr_skip("root may read everything, and there is no setpriv");
    write_file("secret", "1\n");
    chmod(fmt("%s/secret", test_dir()), 0);
    const char *as = geteuid() ? "" : "setpriv --bounding-set -dac_override,-dac_read_search ";
    expect_recorded(fmt("%snwm-worker -i 0 secret", as), "NoInput", 4, "secret: Permission denied");
}

Test(failure, command_not_there)
{
    expect_recorded("nwm-worker -i 0 --from-command -- nothing-of-the-kind", "NoInput", 4, "nothing-of-the-kind");
}

/* ---- signals */

static void expect_interrupted(struct proc *worker, const char *id, int signal)
{
    send_signal(worker, signal);
    struct run r = wait_exit(worker, 10000);
    expect_exit(r, 128 + signal);
    expect_out(r, "");
    expect_err_has(r, fmt("%s: Interrupted: ", dataset(id)));
    cr_assert_str_eq(manifest(id, "state"), "failed");
    cr_assert_str_eq(manifest(id, "error"), "Interrupted");
    cr_assert_str_eq(manifest(id, "exit"), "4");
    cr_assert_str_eq(redis("EXISTS %s:lease %s", manifest_key(id), manifest(id, "list")), "0");
    struct run merge = run("nwm-merger %s", id);
    expect_fault(merge, 4, "Interrupted", dataset(id));
    expect_out(merge, "");
}

Test(signal, while_waiting_for_input)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct feed f;
        feed_begin(&f, NULL, fmt("%zu", i), "");
        feed_numbers(&f, 0, FEED_BLOCK);
        feed_wait_length(&f, NULL, FEED_BLOCK);
        expect_interrupted(f.worker, fmt("%zu", i), signals[i]);
        close(f.fd);
    }
}

/* Nothing more comes of the command either: what it would leave behind is found after the tests. */
Test(signal, while_a_command_runs)
{
    struct proc *worker = spawn("exec nwm-worker -n -i 0 --from-command -- sh -c 'seq 2000; sleep 100; :'");
    wait_state(NULL, "0", "loading");
    for (int64_t end = now_ms() + 10000; now_ms() < end; nap(5))
        if (strcmp(redis("EXISTS %s", manifest("0", "list")), "1") == 0) break;
    expect_interrupted(worker, "0", SIGTERM);
}

Test(signal, in_the_middle_of_pushing)
{
    expect_exit(run("mkfifo in"), 0);
    struct proc *endless = spawn("sh -c 'exec seq -f %%09.0f 1 99999999 >in'");
    struct proc *worker = spawn("nwm-worker -n -i 0 in");
    wait_state(NULL, "0", "loading");
    for (int64_t end = now_ms() + 10000; now_ms() < end; nap(5))
        if (strtol(redis("LLEN %s", manifest("0", "list")), NULL, 10) > 50000) break;
    expect_interrupted(worker, "0", SIGINT);
    wait_exit(endless, 10000);
}

/* The server does not answer: it is left to the lease, and the end comes soon all the same. */
Test(signal, while_the_server_is_silent)
{
    struct server s;
    server_start(&s, "%s", "");
    struct feed f;
    feed_begin(&f, &s, "0", "--lease 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, &s, FEED_BLOCK);
    server_pause(&s);
    int64_t then = now_ms();
    send_signal(f.worker, SIGINT);
    struct run r = wait_exit(f.worker, 10000);
    expect_exit(r, 128 + SIGINT);
    cr_assert_lt(now_ms() - then, 8000);
    server_resume(&s);
    close(f.fd);
    expect_exit(run("nwm-merger -U %s --wait forever", s.url), 4);
    cr_assert_str_neq(field(&s, "0", "state"), "ready");
}

/* ---- what others do to the list */

static void feed_half(struct feed *f)
{
    feed_begin(f, NULL, "0", "-n");
    feed_numbers(f, 0, FEED_BLOCK);
    feed_wait_length(f, NULL, FEED_BLOCK);
}

static void expect_failed(struct run r, int code, const char *name, const struct feed *f)
{
    expect_fault(r, code, name, dataset("0"));
    expect_out(r, "");
    expect_err_has(r, f->list);
    cr_assert_str_eq(manifest("0", "state"), "failed");
    cr_assert_str_eq(manifest("0", "error"), name);
    cr_assert_str_eq(redis("EXISTS %s", f->list), "0");
}

/* It is noticed by the pushes themselves, not only in the end: the input goes on. */
static struct run feed_until_the_end(struct feed *f)
{
    for (int i = 1; i < 20 && is_alive(f->worker); i++) feed_numbers(f, (long)i * FEED_BLOCK, FEED_BLOCK);
    return wait_exit(f->worker, 20000);
}

Test(tampered, deleted_before_a_push)
{
    struct feed f;
    feed_half(&f);
    redis("DEL %s", f.list);
    expect_failed(feed_until_the_end(&f), 4, "Lost", &f);
}

Test(tampered, deleted_after_the_last_push)
{
    struct feed f;
    feed_half(&f);
    redis("DEL %s", f.list);
    expect_failed(feed_end(&f), 4, "Lost", &f);
}

Test(tampered, pushed_to_before_a_push)
{
    struct feed f;
    feed_half(&f);
    redis("RPUSH %s 5", f.list);
    expect_failed(feed_until_the_end(&f), 1, "Changed", &f);
}

Test(tampered, pushed_to_after_the_last_push)
{
    struct feed f;
    feed_half(&f);
    redis("RPUSH %s 5", f.list);
    expect_failed(feed_end(&f), 1, "Changed", &f);
}

Test(tampered, popped_from)
{
    struct feed f;
    feed_half(&f);
    redis("RPOP %s", f.list);
    expect_failed(feed_end(&f), 1, "Changed", &f);
}

/* Length as it should be: the first and the last item are compared as well. */
Test(tampered, first_item)
{
    struct feed f;
    feed_half(&f);
    redis("LSET %s 0 0000000001", f.list);
    expect_failed(feed_end(&f), 1, "Changed", &f);
}

Test(tampered, last_item)
{
    struct feed f;
    feed_half(&f);
    redis("LSET %s -1 9999999999", f.list);
    expect_failed(feed_end(&f), 1, "Changed", &f);
}

Test(tampered, state_and_token)
{
    struct feed f;
    feed_begin(&f, NULL, "0", "-n");
    redis("HSET %s token someone:1:000000000000", manifest_key("0"));
    feed_write(&f, "1\n");
    struct run r = feed_end(&f);
    expect_fault(r, 4, "LeaseLost", dataset("0"));
    cr_assert_str_eq(manifest("0", "state"), "loading");
    cr_assert_str_eq(manifest("0", "token"), "someone:1:000000000000");
}
