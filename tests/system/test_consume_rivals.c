/* --consume beside others: what a merge that ended early holds, what it gives back, and who may take it up. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/scene.h"

enum { ITEMS = 40000 };

/* Calls of the C library fail, or are the last, as the plan says (shim_calls.c). */
static struct run broken(const char *plan, const char *options)
{
    return run_broken(plan, fmt("--consume --checkpoint-every 32K %s", options));
}

static const char *consumer_key(const char *id) { return fmt("%s:consumer", manifest_key(id)); }

/* The lease of a consumer that was killed runs out. */
static void forget_lease(const char *id) { redis("DEL %s", consumer_key(id)); }

static void load_one(void)
{
    load("0", "-n", numbers(100000, 1, ITEMS));
    expect_exit(run("nwm-merger -o whole"), 0);
}

static bool has_items_aside(void)
{
    struct stat st;
    return file_exists("out.nwm-checkpoint") && stat(fmt("%s/out.nwm-part", test_dir()), &st) == 0 && st.st_size > 0;
}

static bool has_removed(void) { return atol(manifest("0", "consumed")) > 0; }

/* Killed at the first of its sends before which that was reached: how many there are before depends on hiredis. */
static void kill_at_a_send(const char *options, bool (*is_reached)(void))
{
    for (int n = 1; n < 100; n++) {
        expect_exit(run("rm -f out out.nwm-*"), 0);
        load_one();
        expect_exit(broken(fmt("send %d kill", n), options), 128 + SIGKILL);
        forget_lease("0");
        if (is_reached()) return;
    }
    cr_assert_fail("it was never reached");
}

static void expect_held(void)
{
    const char *what = "which did not come to an end, holds items of it in its output";
    struct run r = run("nwm-merger --consume --limit 5 -o other");
    expect_fault(r, 1, "Consumed", dataset("0"));
    expect_err_has(r, what);
    cr_assert_not(file_exists("other"));
    r = run("nwm-merger --consume --limit 5");
    expect_fault(r, 1, "Consumed", dataset("0"));
    expect_err_has(r, what);
    expect_out(r, "");
}

static void expect_continued(void)
{
    expect_exit(run("nwm-merger --consume -o out"), 0);
    expect_same_files("out", "whole");
    cr_assert_not(file_exists("out.nwm-checkpoint"));
}

/* In its checkpoint, and not removed from Redis yet: nobody else may have it. */
Test(rivals, what_a_failed_merge_holds)
{
    load_one();
    expect_fault(broken("write 8 fail", "-o out"), 5, "Output", NULL);
    cr_assert_str_eq(manifest("0", "state"), "consumed");
    expect_held();
    expect_continued();
}

Test(rivals, what_a_killed_merge_holds)
{
    kill_at_a_send("-o out", has_items_aside);
    cr_assert_not(has_removed(), "the first trim was not sent");
    expect_held();
    expect_continued();
    kill_at_a_send("-o out", has_removed);
    expect_held();
    expect_continued();
}

/* What was written to a pipe is with its reader, if anywhere: the rest is anybody's. */
Test(rivals, what_a_pipe_left)
{
    kill_at_a_send(">piped", has_removed);
    long gone = atol(manifest("0", "consumed"));
    expect_exit(run("nwm-merger --consume -o rest"), 0);
    expect_exit(run("tail -n +%ld whole | cmp - rest", gone + 1), 0);
}

/* Interrupted in order it gives back what it did not come to. */
Test(rivals, an_interrupted_pipe_gives_back)
{
    load_one();
    expect_exit(run("nwm-merger --consume --checkpoint-every 32K | head -c 100000 >piped"), 0);
    cr_assert_str_eq(redis("HEXISTS %s consumer", manifest_key("0")), "0");
    expect_exit(run("nwm-merger --consume -o rest"), 0);
}

/* Whatever a --limit left can be had by the next, wherever the first was killed and came to its end later. */
Test(rivals, the_rest_of_a_limit)
{
    static const char *const calls[] = {"send", "unlink", "rename", "fsync"};
    for (size_t c = 0; c < 4; c++) {
        for (int n = 1, killed = 1; killed; n++) {
            cr_assert_lt(n, 60);
            load_one();
            killed = broken(fmt("%s %d kill", calls[c], n), "--limit 3 -o first").exit != 0;
            forget_lease("0");
            if (file_exists("first.nwm-checkpoint") || !file_exists("first"))
                expect_exit(run("nwm-merger --consume --limit 3 -o first"), 0);
            expect_exit(run("nwm-merger --consume -o rest"), 0);
            expect_exit(run("cat first rest >out"), 0);
            expect_same_files("out", "whole");
            expect_exit(run("rm -f first rest first.nwm-part"), 0);
        }
    }
}

/* Another command for the same FILE: the merge that was complete is done with, and gives back what it left. */
Test(rivals, a_finished_limit_is_forgotten)
{
    load_one();
    expect_exit(broken("unlink 2 kill", "--limit 3 -o out"), 128 + SIGKILL);
    cr_assert(file_exists("out.nwm-checkpoint"));
    forget_lease("0");
    expect_exit(run("mv out first; cp first out"), 0);
    expect_exit(run("nwm-merger --consume -o out"), 0);
    expect_exit(run("cat first out >both"), 0);
    expect_same_files("both", "whole");
}

/* A claim that another one's lease refuses leaves all as it was. */
Test(rivals, refused_at_the_claim)
{
    load("1", "-n", "1\n2\n3\n4\n5\n");
    load("2", "-n", "1\n2\n3\n4\n5\n");
    expect_exit(run("nwm-merger --consume --limit 3 -o a"), 0);
    load("3", "-n", "");
    redis("SET %s other:1:2", consumer_key("2"));
    expect_fault(run("nwm-merger --consume -o b"), 4, "Busy", dataset("2"));
    cr_assert_not(file_exists("b.nwm-checkpoint"));
    cr_assert_str_eq(redis("HEXISTS %s consumer", manifest_key("1")), "0");
    cr_assert_str_eq(manifest("3", "state"), "ready");
    forget_lease("2");
    expect_exit(run("nwm-merger --consume -o b"), 0);
    expect_exit(run("cat a b | sort -n | uniq -c | awk '$1 != 2' | grep . && exit 1; exit 0"), 0);
}

/* The job is consumed bit by bit; datasets that are used up do not stand in the way of the others. */
Test(rivals, what_is_used_up_is_passed_over)
{
    load("1", "-n", "1\n2\n3\n4\n5\n");
    load("2", "-n", "100\n101\n102\n103\n");
    struct run r = run("for i in 1 2 3; do nwm-merger --consume --limit 3 || exit; done");
    expect_exit(r, 0);
    expect_out(r, "1\n2\n3\n4\n5\n100\n101\n102\n103\n");
    expect_err_has(r, "1 of 2 datasets were consumed to their end before");
    expect_fault(run("nwm-merger --consume"), 1, "Consumed", dataset("1"));
    expect_fault(run("nwm-merger --consume 1"), 1, "Consumed", dataset("1"));
}

/* A temporary without a checkpoint may be the only copy of what was consumed. */
Test(rivals, a_lost_checkpoint)
{
    kill_at_a_send("-o out", has_items_aside);
    expect_exit(run("rm out.nwm-checkpoint"), 0);
    struct run r = run("nwm-merger --consume -o out");
    expect_fault(r, 5, "Output", NULL);
    expect_err_has(r, "only copy");
    expect_exit(run("test -s out.nwm-part"), 0);
}

/* NoMemory is said before anything is claimed for good. */
Test(rivals, refused_for_memory)
{
    expect_exit(run("head -c 2000000 /dev/zero | tr '\\0' x >big; nwm-worker -i 0 big"), 0);
    expect_fault(run("nwm-merger --memory 1M --consume -o out --stats json"), 2, "NoMemory", NULL);
    cr_assert_not(file_exists("out.nwm-checkpoint"));
    cr_assert_str_eq(manifest("0", "state"), "ready");
    expect_exit(run("nwm-merger -o out"), 0);
}
