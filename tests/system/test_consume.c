/* --consume: items leave Redis once they are safe; each is in the output exactly once. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/scene.h"

enum { ITEMS = 20000, DATASETS = 3 };

static const char *in_dir(const char *name) { return fmt("%s/%s", test_dir(), name); }

static void load_job(void)
{
    for (int i = 0; i < DATASETS; i++) load(fmt("%d", i), "-n", numbers(100000 + i, DATASETS, ITEMS));
}

/* What all of it comes to, in the file "whole", and a job to consume. */
static void prepare(void)
{
    load_job();
    expect_exit(run("nwm-merger -o whole"), 0);
}

static const char *consumer_key(const char *id) { return fmt("%s:consumer", manifest_key(id)); }

/* Only the manifests are left, and say so. */
static void expect_consumed(void)
{
    for (int i = 0; i < DATASETS; i++) {
        const char *id = fmt("%d", i);
        cr_assert_str_eq(manifest(id, "state"), "consumed");
        cr_assert_str_eq(manifest(id, "consumed"), manifest(id, "items"));
        cr_assert_str_eq(redis("EXISTS %s", manifest(id, "list")), "0");
        cr_assert_str_eq(redis("EXISTS %s", consumer_key(id)), "0");
    }
}

static void expect_no_traces(void)
{
    cr_assert_not(file_exists("out.nwm-part"));
    cr_assert_not(file_exists("out.nwm-checkpoint"));
    cr_assert_not(file_exists("out.nwm-checkpoint-new"));
}

static struct run broken(const char *plan, const char *options)
{
    return run_broken(plan, fmt("--consume --checkpoint-every 32K -o out %s", options));
}

static void expect_finished(const char *options)
{
    expect_exit(run("nwm-merger --consume -o out %s", options), 0);
    expect_same_files("out", "whole");
    expect_no_traces();
}

Test(consume, into_a_file)
{
    prepare();
    expect_finished("");
    expect_consumed();
    struct run r = run("nwm-merger --consume -o out");
    expect_fault(r, 1, "Consumed", dataset("0"));
    expect_fault(run("nwm-merger"), 1, "Consumed", dataset("0"));
    expect_fault(run("nwm-merger --consume"), 1, "Consumed", dataset("0"));
    expect_same_files("out", "whole");
    expect_no_traces();
}

Test(consume, to_a_pipe)
{
    prepare();
    expect_exit(run("nwm-merger --consume | cat >out"), 0);
    expect_same_files("out", "whole");
    expect_consumed();
}

/* Of what is consumed a new load can be waited for. */
Test(consume, a_new_run_is_waited_for)
{
    prepare();
    expect_exit(run("nwm-merger --consume >out"), 0);
    struct proc *merger = spawn("nwm-merger --consume -w %d -o out", DATASETS);
    cr_assert(wait_until(merger_listens, NULL, 10000));
    load_job();
    expect_exit(wait_exit(merger, 20000), 0);
    expect_same_files("out", "whole");
    expect_consumed();
    cr_assert_str_eq(manifest("1", "run"), "2");
}

Test(consume, nothing_in_it)
{
    load("0", "-n", "");
    expect_exit(run("nwm-merger --consume -o out"), 0);
    cr_assert_str_eq(manifest("0", "state"), "consumed");
    expect_no_traces();
}

/* Another takes what a --limit left. */
Test(consume, in_portions)
{
    prepare();
    expect_exit(run("nwm-merger --consume --limit 1000 >a"), 0);
    cr_assert_str_eq(manifest("0", "state"), "consumed");
    cr_assert_str_eq(redis("EXISTS %s", consumer_key("0")), "0");
    expect_fault(run("nwm-merger"), 1, "Consumed", dataset("0"));
    expect_exit(run("nwm-merger --consume --limit 30000 -o b"), 0);
    expect_exit(run("nwm-merger --consume --limit 0 -o nothing"), 0);
    struct run r = run("nwm-merger --consume -o c");
    expect_exit(r, 0);
    expect_err_has(r, fmt("%s: begins behind item ", dataset("0")));
    expect_exit(run("cat a b c >out"), 0);
    expect_same_files("out", "whole");
    expect_consumed();
}

/* ---- killed ------------------------------------------------------------------------------------------------------ */

/* Who is killed between removing the checkpoint and the temporary that kept others away meanwhile leaves that one, empty. */
static void forget_empty_part(void)
{
    struct stat st;
    if (file_exists("out.nwm-checkpoint") || stat(in_dir("out.nwm-part"), &st) != 0) return;
    cr_assert_eq(st.st_size, 0);
    unlink(in_dir("out.nwm-part"));
}

static void kill_everywhere(const char *call, const char *action)
{
    for (int n = 1; n < 200; n = n * 3 / 2 + 1) {
        load_job();
        struct run r = broken(fmt("%s %d %s", call, n, action), "");
        if (r.exit == 0) return;
        expect_exit(r, 128 + SIGKILL);
        /* Without a checkpoint nothing was begun, or all is done; then there is nothing left to consume. */
        if (file_exists("out.nwm-checkpoint") || !file_exists("out")) expect_finished("");
        expect_same_files("out", "whole");
        forget_empty_part();
        expect_no_traces();
        expect_consumed();
        cr_assert_eq(unlink(in_dir("out")), 0);
    }
}

Test(consume, killed_at_fsync) { prepare(), kill_everywhere("fsync", "kill"); }
Test(consume, killed_after_fsync) { prepare(), kill_everywhere("fsync", "after"); }
Test(consume, killed_at_rename) { prepare(), kill_everywhere("rename", "kill"); }
Test(consume, killed_after_rename) { prepare(), kill_everywhere("rename", "after"); }
Test(consume, killed_after_unlink) { prepare(), kill_everywhere("unlink", "after"); }
Test(consume, killed_at_send) { prepare(), kill_everywhere("send", "kill"); }
Test(consume, killed_after_send) { prepare(), kill_everywhere("send", "after"); }

Test(consume, killed_again_and_again)
{
    prepare();
    int kills = 0;
    for (struct run r; (r = broken("rename 3 kill", "")).exit != 0; kills++) {
        expect_exit(r, 128 + SIGKILL);
        cr_assert_lt(kills, 100, "it does not get on");
    }
    cr_assert_gt(kills, 3);
    expect_same_files("out", "whole");
    expect_consumed();
    expect_no_traces();
}

/* What a failure leaves behind is complete: in Redis and in the temporary. */
static void fail(const char *plan)
{
    prepare();
    struct run r = broken(plan, "");
    expect_fault(r, 5, "Output", NULL);
    expect_err_has(r, "; the same command continues");
    cr_assert(file_exists("out.nwm-part"));
    expect_finished("");
    expect_consumed();
}

Test(consume, write_fails) { fail("write 12 fail"); }
Test(consume, fsync_fails) { fail("fsync 10 fail"); }
Test(consume, rename_fails) { fail("rename 4 fail"); }

/* ---- a consumer whose reader does not read ----------------------------------------------------------------------- */

struct blocked {
    struct tap *tap;
    struct proc *merger;
};

static bool is_shorter(void *unused)
{
    (void)unused;
    return atol(redis("LLEN %s", manifest("0", "list"))) < ITEMS;
}

/* Nothing more is removed, for so long as nobody reads. */
static void wait_until_still(void)
{
    long last = -1, now, same = 0;
    for (int64_t until = now_ms() + 10000; same < 5 && now_ms() < until; last = now) {
        now = atol(manifest("0", "consumed"));
        same = now == last ? same + 1 : 0;
        nap(40);
    }
}

/* It has written what fits into the pipe, and removed some of that. */
static void block(struct blocked *b, const char *options)
{
    prepare();
    b->tap = tap_open("pipe");
    b->merger = spawn("nwm-merger --consume --checkpoint-every 1K %s >pipe", options);
    tap_wait(b->tap, b->merger);
    cr_assert(wait_until(is_shorter, NULL, 10000), "nothing is removed while the merge runs");
}

static char *whole(size_t *len) { return read_file("whole", len); }

static void expect_all(const char *out, size_t len)
{
    size_t whole_len;
    char *expected = whole(&whole_len);
    cr_assert_eq(len, whole_len);
    cr_assert_eq(memcmp(out, expected, len), 0);
}

Test(consume, the_lists_grow_shorter)
{
    struct blocked b;
    block(&b, "");
    cr_assert_str_eq(manifest("0", "state"), "consumed");
    long left = atol(redis("LLEN %s", manifest("0", "list"))), consumed = atol(manifest("0", "consumed"));
    cr_assert_eq(left, ITEMS - consumed + 1, "the last item consumed is still there: %ld left, %ld consumed", left,
                 consumed);
    size_t len;
    char *out = tap_drain(b.tap, &len);
    expect_exit(wait_exit(b.merger, 20000), 0);
    expect_all(out, len);
    expect_consumed();
}

static bool time_has_passed(void *when) { return now_ms() > *(int64_t *)when; }

/* Longer than the lease: it is renewed though nothing moves. */
Test(consume, a_second_consumer_is_busy)
{
    struct blocked b;
    block(&b, "--lease 1s");
    int64_t when = now_ms() + 1500;
    wait_until(time_has_passed, &when, 5000);
    struct run r = run("nwm-merger --consume");
    expect_fault(r, 4, "Busy", dataset("0"));
    expect_fault(run("nwm-merger --consume -o out"), 4, "Busy", dataset("0"));
    expect_no_traces();
    expect_fault(run("nwm-merger"), 1, "Consumed", dataset("0"));
    size_t len;
    char *out = tap_drain(b.tap, &len);
    expect_exit(wait_exit(b.merger, 20000), 0);
    expect_all(out, len);
}

/* What it wrote and did not remove comes again; nothing is lost that a reader got. */
Test(consume, killed_while_it_writes_to_a_pipe)
{
    struct blocked b;
    block(&b, "--lease 1s");
    wait_until_still();
    send_signal(b.merger, SIGKILL);
    expect_exit(wait_exit(b.merger, 5000), 128 + SIGKILL);
    size_t first_len, whole_len, rest_len;
    char *first = tap_drain(b.tap, &first_len), *expected = whole(&whole_len);
    cr_assert_eq(memcmp(first, expected, first_len), 0);
    struct run r = run("nwm-merger --consume >rest");
    while (r.exit == 4) r = run("nwm-merger --consume >rest"); /* until the lease has run out */
    expect_exit(r, 0);
    expect_err_has(r, "which was consumed before");
    char *rest = read_file("rest", &rest_len);
    cr_assert_geq(first_len + rest_len, whole_len, "something is lost");
    cr_assert_lt(rest_len, whole_len, "nothing was removed");
    cr_assert_eq(memcmp(rest, expected + whole_len - rest_len, rest_len), 0);
    expect_consumed();
}

/* An orderly end gives back what is left, at once. */
Test(consume, terminated_while_it_writes_to_a_pipe)
{
    struct blocked b;
    block(&b, "");
    int64_t begin = now_ms();
    send_signal(b.merger, SIGTERM);
    expect_exit(wait_exit(b.merger, 5000), 128 + SIGTERM);
    cr_assert_leq(now_ms() - begin, MEMORY_TELLS ? 1000 : 5000);
    tap_close(b.tap);
    cr_assert_str_eq(redis("EXISTS %s", consumer_key("0")), "0");
    expect_exit(run("nwm-merger --consume >rest"), 0);
    expect_consumed();
}

Test(consume, taken_over_while_it_was_stopped)
{
    struct blocked b;
    block(&b, "--lease 1s");
    send_signal(b.merger, SIGSTOP);
    struct run r = run("nwm-merger --consume >rest");
    while (r.exit == 4) r = run("nwm-merger --consume >rest");
    expect_exit(r, 0);
    send_signal(b.merger, SIGCONT);
    r = wait_exit(b.merger, 10000);
    expect_exit(r, 4);
    expect_err_has(r, "LeaseLost");
    expect_consumed();
    tap_close(b.tap);
}

Test(consume, loaded_anew_while_it_is_consumed)
{
    struct blocked b;
    block(&b, "--lease 1s");
    char *list = fmt("%s", manifest("0", "list"));
    load("0", "-n", "1\n");
    cr_assert_gt(atol(redis("PTTL %s", list)), 3000 * 1000, "what is left is kept for --keep");
    struct run r = wait_exit(b.merger, 10000);
    expect_fault(r, 1, "Changed", dataset("0"));
    expect_err_has(r, "loaded it anew");
    cr_assert_str_eq(manifest("0", "state"), "ready");
    tap_close(b.tap);
}

/* ---- readers, and who else is there ------------------------------------------------------------------------------ */

Test(consume, readers_in_flight_find_nothing)
{
    struct middle m;
    middle_begin(&m, "");
    expect_exit(run("nwm-merger -U %s --consume >all", m.server.url), 0);
    char *out;
    size_t len;
    struct run r = middle_end(&m, &out, &len);
    expect_exit(r, 1);
    expect_err_has(r, "Vanished");
}

/* A file that holds items nobody else has: no other merge goes on without them. */
Test(consume, what_another_file_holds_is_refused)
{
    prepare();
    expect_exit(broken("rename 6 kill", "--lease 1s"), 128 + SIGKILL);
    struct run r = run("nwm-merger --consume -o other");
    while (r.exit == 4) r = run("nwm-merger --consume -o other");
    expect_fault(r, 1, "Consumed", dataset("0"));
    expect_err_has(r, "did not come to an end");
    cr_assert_not(file_exists("other.nwm-checkpoint"));
    expect_fault(run("nwm-merger --resume -o out"), 1, "Consumed", dataset("0"));
    expect_finished("");
    expect_consumed();
}

/* It begins where nothing is removed yet, so that nothing stands in the way of anybody else. */
Test(consume, given_back_untouched)
{
    prepare();
    struct run r = run("nwm-merger --consume -o no-such-directory/out");
    expect_fault(r, 5, "Output", NULL);
    redis("SET %s other:1:aa PX 60000", consumer_key("2"));
    expect_fault(run("nwm-merger --consume -o out"), 4, "Busy", dataset("2"));
    expect_no_traces();
    for (int i = 0; i < DATASETS; i++) cr_assert_str_eq(manifest(fmt("%d", i), "state"), "ready");
    expect_exit(run("nwm-merger -o out"), 0);
    expect_same_files("out", "whole");
}

Test(consume, resumed_without_and_with)
{
    prepare();
    expect_exit(
        run("LD_PRELOAD=%s/tests/system/shim_calls.so ASAN_OPTIONS=verify_asan_link_order=0 NWM_SHIM='write 8 kill' "
            "nwm-merger --resume --checkpoint-every 32K -o out",
            test_build()),
        128 + SIGKILL);
    struct run r = run("nwm-merger --consume -o out");
    expect_fault(r, 2, "Usage", NULL);
    expect_err_has(r, "without --consume");
    expect_exit(run("nwm-merger --resume -o out"), 0);
    expect_same_files("out", "whole");
}

/* ---- lists that were changed ------------------------------------------------------------------------------------- */

static void change(const char *command)
{
    prepare();
    expect_exit(broken("rename 6 kill", ""), 128 + SIGKILL);
    redis(command, manifest("1", "list"));
    struct run r = run("nwm-merger --consume -o out");
    expect_fault(r, 1, "Changed", dataset("1"));
    cr_assert(file_exists("out.nwm-part"));
    cr_assert_not(file_exists("out"));
}

Test(consume, an_item_more) { change("RPUSH %s 999999"); }
Test(consume, an_item_less) { change("RPOP %s"); }
Test(consume, the_first_ones_gone) { change("LPOP %s 5"); }

/* ---- a server that dies ------------------------------------------------------------------------------------------ */

/* Of 234 KB. */
static bool has_begun(void *unused)
{
    (void)unused;
    struct stat st;
    return stat(in_dir("out.nwm-part"), &st) == 0 && st.st_size > 10000;
}

Test(consume, a_server_with_a_log_of_its_own)
{
    struct server s;
    server_start(&s, "appendonly yes\nappendfsync always");
    plant_many(&s, DATASETS, 6000);
    expect_exit(run("nwm-merger -U %s -o whole", s.url), 0);
    struct proc *merger = spawn("nwm-merger -U %s --consume --checkpoint-every 2K --batch 20 -o out", s.url);
    cr_assert(wait_until(has_begun, NULL, 10000));
    for (int i = 0; i < 3 && is_alive(merger); i++) {
        nap(50);
        server_kill9(&s);
        server_restart(&s);
    }
    expect_exit(wait_exit(merger, 30000), 0);
    expect_same_files("out", "whole");
    expect_no_traces();
    server_stop(&s);
}

Test(consume, a_server_that_forgets_everything)
{
    struct server s;
    server_start(&s, "%s", "");
    plant_many(&s, DATASETS, 6000);
    struct proc *merger = spawn("nwm-merger -U %s --consume --checkpoint-every 2K --batch 20 -o out", s.url);
    cr_assert(wait_until(has_begun, NULL, 10000));
    server_kill9(&s);
    server_restart(&s);
    struct run r = wait_exit(merger, 30000);
    expect_exit(r, 1);
    expect_err_has(r, "Vanished");
    cr_assert(file_exists("out.nwm-part"), "what was consumed is kept");
    server_stop(&s);
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

static void expect_usage(const char *options, const char *reason)
{
    struct run r = run("nwm-merger %s", options);
    expect_fault(r, 2, "Usage", NULL);
    expect_err_has(r, reason);
}

Test(consume, usage)
{
    load("0", "-n", "1\n");
    expect_usage("--consume --list key", "--list");
    expect_usage("--consume --verify", "--verify");
    expect_usage("--consume --status", "--status");
    expect_usage("--consume --partial", "--partial");
    expect_usage("--consume -o /dev/null", "regular file");
    expect_usage("--lease 5s", "--lease needs --consume");
    cr_assert_str_eq(manifest("0", "state"), "ready");
}
