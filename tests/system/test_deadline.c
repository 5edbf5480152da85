/* --deadline: the whole run has a bound; what a signal would end, it ends, with a fault of its own. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/fake.h"
#include "tests/system/scene.h"

#define PASSED "the deadline of 1 s (--deadline) passed "

static void silent_fifo(const char *name) { cr_assert_eq(mkfifo(fmt("%s/%s", test_dir(), name), 0600), 0); }

/* ---- the merger */

Test(deadline, ends_the_wait_for_datasets)
{
    load("0", "-n", "1\n");
    struct run r = run("nwm-merger -w 2 --wait forever --deadline 1s -o result");
    expect_fault(r, 6, "Timeout", NULL);
    expect_err_has(r, PASSED "while waiting for the datasets");
    cr_assert(r.took < 5000);
    cr_assert_not(file_exists("result"));
}

Test(deadline, ends_the_wait_for_a_reply)
{
    struct server s;
    server_start(&s, "%s", "");
    server_pause(&s);
    struct run r = run("nwm-merger -U %s --deadline 1s", s.url);
    server_resume(&s);
    expect_fault(r, 6, "Timeout", NULL);
    expect_err_has(r, PASSED "while waiting for ");
}

/* The server falls silent in the middle of the merge. */
Test(deadline, ends_a_merge_and_leaves_no_file)
{
    struct fake *f = fake_start("RELAY-UNTIL-NEXT\nRELAY LRANGE\nSTALL\n");
    load("0", "-n", "1\n2\n");
    write_file("result", "old\n");
    struct run r = run("nwm-merger -U %s --deadline 1s --stats json -o result", fake_url(f));
    expect_fault(r, 6, "Timeout", NULL);
    expect_err_has(r, PASSED "after 0 items");
    expect_err_has(r, "\"fault\":\"Timeout\"");
    cr_assert_str_eq(read_file("result", NULL), "old\n");
}

/* A slow reader gets a prefix that ends with an item. */
Test(deadline, ends_at_an_item_boundary)
{
    struct middle m;
    middle_begin(&m, "--deadline 1s >out");
    enum { SLICE = 4096, ALL = 4 * MIDDLE_ITEMS * 13 };
    static char out[ALL + SLICE];
    size_t len = 0;
    int fd = open(fmt("%s/out", test_dir()), O_RDONLY | O_CLOEXEC);
    for (ssize_t n; (n = read(fd, out + len, SLICE)) > 0; nap(5)) len += (size_t)n;
    struct run r = wait_exit(m.merger, 10000);
    expect_fault(r, 6, "Timeout", NULL);
    cr_assert(len > 0 && len < ALL, "%zu", len);
    cr_assert_eq(len % 13, 0, "%zu bytes, of 13 an item", len);
    expect_err_has(r, fmt(PASSED "after %zu items", len / 13));
    for (size_t i = 0; i < len / 13; i++) cr_assert_eq(memcmp(out + 13 * i, fmt("%012zu", i), 12), 0);
}

Test(deadline, that_does_not_pass_changes_nothing)
{
    load("0", "--deadline 1h -n", "1\n");
    struct run r = run("nwm-merger --deadline 36500d");
    expect_exit(r, 0);
    expect_out(r, "1\n");
}

/* Who is ended by a signal before dies by that signal. */
Test(deadline, a_signal_before_it_stays_a_signal)
{
    struct proc *p = spawn("nwm-merger -w 2 --deadline 60s");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    send_signal(p, SIGTERM);
    expect_exit(wait_exit(p, 10000), 128 + SIGTERM);
}

/* ---- the worker */

Test(deadline, is_recorded_by_the_worker)
{
    silent_fifo("in");
    struct run r = run("nwm-worker -n -i 0 --deadline 1s in");
    expect_fault(r, 6, "Timeout", dataset("0"));
    expect_err_has(r, PASSED "after 0 items");
    cr_assert_str_eq(manifest("0", "state"), "failed");
    cr_assert_str_eq(manifest("0", "error"), "Timeout");
    cr_assert_str_eq(manifest("0", "exit"), "6");
    cr_assert_str_eq(redis("KEYS nwm:{%s}:*", dataset("0")), "");
    expect_fault(run("nwm-merger"), 6, "Timeout", dataset("0"));
}

Test(deadline, ends_a_check)
{
    silent_fifo("in");
    struct run r = run("nwm-worker -n --check --deadline 1s in");
    expect_fault(r, 6, "Timeout", "in");
}

/* The command is ended with its worker, and does not inherit the clock. */
Test(deadline, ends_a_command)
{
    struct run r = run("nwm-worker -n -i 0 --deadline 1s --from-command -- sh -c 'echo 1; exec sleep 50'");
    expect_fault(r, 6, "Timeout", dataset("0"));
    cr_assert(r.took < 10000);
    cr_assert_str_eq(manifest("0", "state"), "failed");
}

/* ---- what is no deadline */

Test(deadline, usage)
{
    const char *const bad[] = {"0", "-1", "x", "", "36501d", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct run r = run("nwm-merger --deadline '%s'", bad[i]);
        expect_fault(r, 2, "Usage", NULL);
        expect_err_has(r, fmt("--deadline: \"%s\"", bad[i]));
    }
}
