/* The worker: where items come from, in how much memory, its options, and what it shows. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/system/feed.h"

/* The list of a dataset is this text. */
static void expect_items(const char *id, const char *items)
{
    cr_assert_str_eq(manifest(id, "state"), "ready");
    cr_assert_str_eq(fmt("%s\n", redis("LRANGE %s 0 -1", manifest(id, "list"))), items);
}

/* No list of the job is left, of any run. */
static void expect_no_list(const char *id) { cr_assert_str_eq(redis("EXISTS %s", manifest(id, "list")), "0"); }

/* ---- where items come from */

Test(source, file)
{
    write_file("in", "1\n2\n10\n");
    struct run r = run("nwm-worker -n -i 0 in");
    expect_exit(r, 0);
    expect_items("0", "1\n2\n10\n");
    cr_assert_str_eq(manifest("0", "source"), "in");
}

Test(source, standard_input)
{
    write_file("in", "1\n2\n10\n");
    expect_exit(run("nwm-worker -n -i 0 <in"), 0);
    expect_items("0", "1\n2\n10\n");
    expect_exit(run("cat in | nwm-worker -n -i 1 -"), 0);
    expect_items("1", "1\n2\n10\n");
    expect_exit(run("cat in | nwm-worker -n -i 2"), 0);
    expect_items("2", "1\n2\n10\n");
    cr_assert_str_eq(manifest("2", "source"), "standard input");
}

Test(source, command)
{
    expect_exit(run("nwm-worker -n -i 0 --from-command -- seq 1 3 9"), 0);
    expect_items("0", "1\n4\n7\n");
    expect_exit(run("nwm-worker -n -i 1 --from-command -- sh -c 'seq 2; sleep 0.1; seq 3 4'"), 0);
    expect_items("1", "1\n2\n3\n4\n");
}

/* A command that asks on the terminal from the background would be stopped, and waited for, for ever: it has none. */
Test(worker, a_command_has_no_terminal)
{
    expect_exit(run("nwm-worker -n -i 0 --from-command -- sh -c 'set -- $(cat /proc/$$/stat); test $6 = $$ && echo 1'"),
                0);
    expect_fault(run("nwm-worker -n -i 1 --from-command -- sh -c 'exec </dev/tty'"), 4, "NoInput", dataset("1"));
}

Test(worker, the_hint_is_for_items_that_end_with_nul)
{
    expect_err_has(run("printf '2\\0001\\0' | nwm-worker -c -z -n"), "sort it with LC_ALL=C sort -s -n -z,");
    expect_err_has(run("printf '2\\n1\\n' | nwm-worker -c -n"), "sort it with LC_ALL=C sort -s -n,");
}

static void expect_command_fault(const char *command, const char *what)
{
    struct run r = run("nwm-worker -n -i 0 --from-command -- %s", command);
    expect_fault(r, 4, "NoInput", dataset("0"));
    expect_err_has(r, what);
    expect_out(r, "");
    cr_assert_str_eq(manifest("0", "state"), "failed");
    cr_assert_str_eq(manifest("0", "error"), "NoInput");
    expect_no_list("0");
}

/* A plain pipe could not tell. 100,000 items have been pushed by then. */
Test(source, command_fails_half_way)
{
    expect_command_fault("sh -c 'seq 100000; exit 3'", "exited with 3 after 100000 items");
}

Test(source, command_killed_half_way)
{
    expect_command_fault("sh -c 'seq 5000; kill -9 $$'", "signal 9 (Killed) after 5000 items");
}

Test(source, command_not_there) { expect_command_fault("no-such-program", "No such file"); }

/* It closed its output and goes on: whether it succeeds is not known before its end. */
Test(source, command_fails_after_its_output)
{
    expect_command_fault("sh -c 'seq 5; exec >&-; sleep 0.3; exit 7'", "exited with 7");
}

/* What it started goes with it when the worker has seen enough: all that is left would be found after the tests. */
Test(source, order_is_checked_while_reading)
{
    struct run r = run_within(20000, "nwm-worker -n -i 0 --from-command -- sh -c 'echo 2; echo 1; sleep 100; :'");
    expect_fault(r, 1, "Unsorted", dataset("0"));
    expect_err_has(r, "item 2 \"1\" sorts before item 1 \"2\"");
    expect_err_has(r, "line 2");
    expect_no_list("0");
}

Test(source, order_is_checked_across_pushes)
{
    write_file("in", fmt("%s5\n", numbers(100000, 1, 20000)));
    struct run r = run("nwm-worker -n -i 0 in");
    expect_fault(r, 1, "Unsorted", dataset("0"));
    expect_err_has(r, "item 20001 \"5\"");
    expect_no_list("0");
}

/* ---- memory */

enum { MIB = 1 << 20 };
#ifdef __SANITIZE_ADDRESS__
enum { SANITIZERS = 256 * MIB }; /* what was freed stays a while, and everything has a shadow */
#else
enum { SANITIZERS = 0 };
#endif

/* Of the largest process that was waited for: nothing but the worker is large in these tests. */
static void expect_peak_below(size_t bytes)
{
    struct rusage u;
    getrusage(RUSAGE_CHILDREN, &u);
    size_t peak = (size_t)u.ru_maxrss * 1024;
    if (MEMORY_TELLS) cr_assert_lt(peak, bytes + SANITIZERS, "%zu MiB were used", peak / MIB);
    cr_assert_gt(peak, (size_t)MIB);
}

Test(memory, file_of_300_mb)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("seq -f %%099.0f 3000000 >in"), 0);
    struct run r = run("nwm-worker -U %s -n -i 0 in", s.url);
    expect_exit(r, 0);
    expect_out_has(r, "3000000 items, 297000000 bytes");
    expect_peak_below(64 * MIB);
    r = run("cat in | nwm-worker -U %s -n -i 0 --keep 0", s.url);
    expect_exit(r, 0);
    cr_assert_str_eq(server_redis(&s, "LLEN %s", field(&s, "0", "list")), "3000000");
    expect_peak_below(64 * MIB);
}

Test(memory, item_of_100_mb)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("{ seq 1000; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo y; } >in"), 0);
    struct run r = run("nwm-worker -U %s -k1,1b -i 0 --from-command -- tail -n 3 in", s.url);
    expect_exit(r, 0);
    cr_assert_str_eq(field(&s, "0", "max_item"), "100000000");
    expect_peak_below(64 * MIB + (size_t)3 * 100000000);
    expect_out(run("redis-cli -s %s --raw lindex '%s' 1 | md5sum", s.socket, field(&s, "0", "list")),
               run("tail -n 2 in | head -n 1 | md5sum").out);
}

/* ---- --sort */

Test(sort, as_sort_does)
{
    expect_exit(run("seq 100000 | awk '{ print ($1 * 7919) %% 1000, $1 }' >in"), 0);
    expect_fault(run("nwm-worker -k1,1n -i 0 in"), 1, "Unsorted", dataset("0"));
    static const char *const orders[] = {"-n", "-k1,1n", "-k1,1nr", "-r", "", "-k2,2 -k1,1n"};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        expect_exit(run("nwm-worker -q --sort %s -i %zu in", orders[i], i), 0);
        expect_exit(run("nwm-merger -q %zu >out", i), 0);
        expect_exit(run("LC_ALL=C sort -s %s in >expected", orders[i]), 0);
        expect_same_files("out", "expected");
    }
}

Test(sort, nothing_and_one)
{
    write_file("none", "");
    write_file("one", "x");
    expect_exit(run("nwm-worker --sort -i 0 none"), 0);
    cr_assert_str_eq(manifest("0", "items"), "0");
    expect_exit(run("nwm-worker --sort -i 1 one"), 0);
    expect_items("1", "x\n");
}

/* ---- --check */

Test(check, touches_no_redis)
{
    struct server s;
    server_start(&s, "%s", "");
    write_file("good", "1\n5\n10\n");
    write_file("bad", "1\n10\n5\n");
    long before = info_number(&s, "stats", "total_connections_received");
    struct run r = run("nwm-worker -U %s --check -n good", s.url);
    expect_exit(r, 0);
    expect_out(r, "good: 3 items, 4 bytes, order -n\n");
    r = run("nwm-worker -U %s -c -n -i 0 bad", s.url);
    expect_fault(r, 1, "Unsorted", dataset("0"));
    expect_err_has(r, "item 3 \"5\" sorts before item 2 \"10\"");
    expect_out(r, "");
    cr_assert_eq(info_number(&s, "stats", "total_connections_received"), before);
    expect_exit(run("nwm-worker -U unix:///nowhere -c good --sort"), 0);
    expect_exit(run("nwm-worker -U unix:///nowhere -c -n <good"), 0);
}

/* ---- --ttl, --keep, --lease */

static void expect_between(const char *number, long least, long most)
{
    long n = strtol(number, NULL, 10);
    cr_assert(n >= least && n <= most, "%s is not from %ld to %ld", number, least, most);
}

static bool is_gone(void *key) { return strcmp(redis("EXISTS %s", (const char *)key), "0") == 0; }

Test(times, ttl)
{
    load("0", "--ttl 1h", "a\n");
    expect_between(redis("PTTL %s", manifest_key("0")), 3590000, 3600000);
    expect_between(redis("PTTL %s", manifest("0", "list")), 3590000, 3600000);
    load("1", "--ttl 1s", "a\n");
    const char *list = manifest("1", "list");
    cr_assert(wait_until(is_gone, (void *)manifest_key("1"), 5000));
    cr_assert(wait_until(is_gone, (void *)list, 5000));
    load("2", "", "a\n");
    cr_assert_str_eq(redis("PTTL %s", manifest_key("2")), "-1");
    cr_assert_str_eq(redis("PTTL %s", manifest("2", "list")), "-1");
    expect_out_has(run("nwm-merger --status"), "missing");
}

Test(times, keep)
{
    static const struct {
        const char *options;
        long least, most;
    } cases[] = {{"", 3590000, 3600000}, {"--keep 2m", 110000, 120000}, {"--keep 0", -2, -2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        load("0", "", "a\n");
        const char *old = manifest("0", "list");
        load("0", cases[i].options, "b\n");
        cr_assert_str_neq(manifest("0", "list"), old);
        expect_between(redis("PTTL %s", old), cases[i].least, cases[i].most);
        expect_items("0", "b\n");
    }
}

Test(times, lease)
{
    struct feed f;
    feed_begin(&f, NULL, "0", "--lease 90s");
    const char *lease = fmt("%s:lease", manifest_key("0"));
    expect_between(redis("PTTL %s", lease), 80000, 90000);
    cr_assert_str_eq(manifest("0", "lease"), "90000");
    expect_exit(feed_end(&f), 0);
    feed_begin(&f, NULL, "1", "");
    expect_between(redis("PTTL %s:lease", manifest_key("1")), 10000, 15000);
    expect_exit(feed_end(&f), 0);
    struct run r = run("nwm-worker -i 0 --lease 0.5s");
    expect_fault(r, 2, "Usage", NULL);
    expect_err_has(r, "--lease");
}

/* ---- --drop */

/* Nothing of this dataset is left, but perhaps its id in the job's set. */
static void expect_nothing_of(const char *id, const char *list)
{
    cr_assert_str_eq(redis("EXISTS %s %s:lease %s", manifest_key(id), manifest_key(id), list), "0");
}

Test(drop, one)
{
    load("0", "", "a\nb\n");
    load("1", "", "c\n");
    const char *list = fmt("%s", manifest("0", "list")), *set = fmt("nwm:%s:datasets", test_job());
    struct run r = run("nwm-worker --drop -i 0");
    expect_exit(r, 0);
    expect_out(r, fmt("%s: dropped: 2 items, 2 bytes, run 1, %s\n", dataset("0"), list));
    expect_nothing_of("0", list);
    cr_assert_str_eq(redis("SMEMBERS %s", set), "1");
    cr_assert_str_eq(redis("SISMEMBER nwm:jobs %s", test_job()), "1");
    expect_out(run("nwm-merger"), "c\n");
    expect_exit(run("nwm-worker --drop -i 1"), 0);
    cr_assert_str_eq(redis("EXISTS %s", set), "0");
    cr_assert_str_eq(redis("SISMEMBER nwm:jobs %s", test_job()), "0");
}

Test(drop, what_is_not_there)
{
    struct run r = run("nwm-worker --drop -i 0");
    expect_fault(r, 4, "NoDatasets", NULL);
    expect_err_has(r, dataset("0"));
    expect_fault(run("nwm-worker --drop --all"), 4, "NoDatasets", NULL);
}

Test(drop, all)
{
    const char *lists = "";
    for (int i = 0; i < 5; i++) {
        load(fmt("%d", i), "", "a\nb\n");
        lists = fmt("%s %s", lists, manifest(fmt("%d", i), "list"));
    }
    expect_exit(run("nwm-worker -i bad missing"), 4);
    struct run r = run("nwm-worker --drop --all");
    expect_exit(r, 0);
    cr_assert_eq(count_lines(r.out, r.out_len), 6, "%s", r.out);
    cr_assert_str_eq(ask(NULL, "EXISTS %s nwm:%s:datasets", lists + 1, test_job()), "0");
    expect_exit(run("nwm-merger"), 4);
}

/* Refused while a worker holds the lease, and then nothing is touched; by force the worker loses it. */
Test(drop, while_a_worker_loads)
{
    struct feed f;
    load("a", "", "a\n");
    feed_begin(&f, NULL, "b", "--lease 1s");
    feed_numbers(&f, 0, FEED_BLOCK);
    feed_wait_length(&f, NULL, FEED_BLOCK);
    struct run r = run("nwm-worker --drop -i b");
    expect_fault(r, 4, "Busy", dataset("b"));
    expect_err_has(r, "--force");
    expect_fault(run("nwm-worker --drop --all"), 4, "Busy", dataset("b"));
    cr_assert_str_eq(manifest("a", "state"), "ready");
    cr_assert_str_eq(redis("LLEN %s", f.list), fmt("%d", FEED_BLOCK));
    expect_exit(run("nwm-worker --drop --all --force"), 0);
    expect_nothing_of("b", f.list);
    r = wait_exit(f.worker, 20000); /* its heartbeat tells it, no input needed */
    expect_fault(r, 4, "LeaseLost", dataset("b"));
    expect_nothing_of("b", f.list);
}

/* ---- the terminal */

/* Runs on a terminal of 200 columns; what it shows is what script(1) saw. */
static struct proc *on_terminal(const char *command)
{
    return spawn("TERM=xterm script -qec \"stty cols 200; %s\" /dev/null >shown", command);
}

static bool has_terminals(void) { return run("script -qec true /dev/null").exit == 0; }
static const char no_terminal[] = "skipped: script(1) gets no terminal here";

static bool shows(void *needle)
{
    char *shown = read_file("shown", NULL);
    return shown && strstr(shown, needle);
}

/* The server takes a rest, so that the load is long enough to show something. */
Test(terminal, progress)
{
    if (!has_terminals()) cr_skip("%s", no_terminal);
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("seq -f %%099.0f 400000 >in"), 0);
    struct proc *p = on_terminal(fmt("nwm-worker -n -i 0 -U %s in", s.url));
    wait_state(&s, "0", "loading");
    server_pause(&s);
    nap(700); /* longer than the half second in which nothing is shown */
    server_resume(&s);
    expect_exit(wait_exit(p, 20000), 0);
    char *shown = read_file("shown", NULL);
    for (char *c = shown; *c; c++)
        if (*c == '\r' || *c == '\033') *c = '|';
    const char *line = strstr(shown, " left|"); /* the first may have nothing to estimate from */
    cr_assert_not_null(line, "%s", shown);
    while (*line != '|' || line[1] == ' ') line--;
    cr_assert_eq(strncmp(line, fmt("|%s: ", dataset("0")), strlen(dataset("0")) + 3), 0, "%s", line);
    long items;
    double mb, rate, share;
    char left[20];
    int got = sscanf(strchr(strchr(line, ':') + 1, ':'), ": %ld items, %lf MB, %lf items/s, %lf%%, %19s left", &items,
                     &mb, &rate, &share, left);
    cr_assert_eq(got, 5, "%d in %s", got, line);
    cr_assert(items > 0 && items <= 400000 && rate > 0 && share > 0 && share <= 100, "%s", line);
    cr_assert_float_eq(mb, (double)items * 99e-6, 0.1);
    cr_assert_not_null(strstr(shown, "|[K"), "the line is not cleared: %s", shown);
    cr_assert_not_null(strstr(shown, "400000 items, "), "%s", shown);
}

Test(terminal, no_share_of_a_pipe)
{
    if (!has_terminals()) cr_skip("%s", no_terminal);
    struct proc *p = on_terminal("nwm-worker -n -i 0 --from-command -- sh -c 'seq 9; sleep 1; seq 10 20; sleep 100'");
    cr_assert(wait_until(shows, fmt("%s: ", dataset("0")), 20000));
    char *shown = read_file("shown", NULL);
    cr_assert_null(strchr(shown, '%'), "%s", shown);
    cr_assert_null(strstr(shown, "left"), "%s", shown);
    pid_t worker = (pid_t)strtol(strchr(manifest("0", "token"), ':') + 1, NULL, 10);
    kill(worker, SIGINT);
    wait_exit(p, 20000);
    cr_assert_str_eq(manifest("0", "error"), "Interrupted");
}

Test(terminal, quiet_is_quiet)
{
    if (!has_terminals()) cr_skip("%s", no_terminal);
    struct proc *p = on_terminal("nwm-worker -q -n -i 0 --from-command -- sh -c 'seq 9; sleep 1.2; seq 10 20'");
    wait_exit(p, 20000);
    cr_assert_str_eq(manifest("0", "state"), "ready");
    cr_assert_str_eq(read_file("shown", NULL), "");
}

Test(terminal, none_without_one)
{
    struct run r = run("nwm-worker -n -i 0 --from-command -- sh -c 'seq 9; sleep 1.2; seq 10 20'");
    expect_exit(r, 0);
    expect_err(r, "");
    expect_out(r, fmt("%s: 20 items, 31 bytes, order -n, run 1, %s\n", dataset("0"), manifest("0", "list")));
    expect_out(run("nwm-worker -q -n --example -i 0"), "");
}
