/* The tutorial on merging remote streams, through real processes: engines, load_data, references, the remote iterator, its
 * end and its errors, the merge and its validation. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/system/scene.h"

/* Engine `id`: starts at 4 - id, step id + 1, 4 (id + 1) items. */
static char *example(int id) { return numbers(4 - id, id + 1, 4 * (size_t)(id + 1)); }

static void load_example(int id) { expect_exit(run("nwm-worker --example -i %d", id), 0); }

static int by_number(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

/* What the merge of the examples 0 to n-1 must be. */
static char *merged_examples(int n)
{
    long all[1000];
    size_t count = 0;
    for (int id = 0; id < n; id++)
        for (int i = 0; i < 4 * (id + 1); i++) all[count++] = 4 - id + (long)i * (id + 1);
    qsort(all, count, sizeof *all, by_number);
    char *text = fmt("%s", "");
    for (size_t i = 0; i < count; i++) text = fmt("%s%ld\n", text, all[i]);
    return text;
}

Test(tutorial, engines_and_ids)
{
    for (int id = 0; id < 4; id++) load_example(id);
    struct run r = run("nwm-merger --status");
    expect_exit(r, 0);
    cr_assert_eq(count_lines(r.out, r.out_len), 5, "%s", r.out);
    const char *row = r.out;
    for (int id = 0; id < 4; id++) {
        row = strchr(row, '\n') + 1;
        cr_assert_eq(strtol(row, NULL, 10), id, "%s", r.out);
        cr_assert_not_null(strstr(row, "ready"));
        cr_assert_not_null(strstr(row, fmt("nwm:{%s:%d}:1.", test_job(), id)));
    }
}

Test(tutorial, load_data)
{
    cr_assert_str_eq(example(2), "2\n5\n8\n11\n14\n17\n20\n23\n26\n29\n32\n35\n");
    const int ids[] = {0, 1, 2, 3, 7, 30};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        load_example(ids[i]);
        const char *list = manifest(fmt("%d", ids[i]), "list");
        cr_assert_str_eq(fmt("%s\n", redis("LRANGE %s 0 -1", list)), example(ids[i]));
    }
    cr_assert_str_eq(manifest("2", "order"), "-n");
    cr_assert_str_eq(manifest("2", "items"), "12");
    cr_assert_str_eq(manifest("30", "first"), "-26");
}

Test(tutorial, load_data_of_a_bad_id)
{
    expect_fault(run("nwm-worker --example -i -1"), 2, "Usage", NULL);
    expect_fault(run("nwm-worker --example -i two"), 2, "Usage", NULL);
    cr_assert_str_eq(redis("EXISTS %s", manifest_key("two")), "0");
}

/* One line; its last word is the key of the list. */
Test(tutorial, data_reference)
{
    struct run r = run("nwm-worker --example -i 3");
    expect_exit(r, 0);
    cr_assert_eq(count_lines(r.out, r.out_len), 1, "%s", r.out);
    expect_out_has(r, dataset("3"));
    expect_out_has(r, "16 items");
    r = run(
        "nwm-worker --example -i 3 | sed 's/.* //' | xargs -I{} redis-cli -s \"${NWM_URL#unix://}\" lrange {} 0 -1");
    expect_out(r, example(3));
}

/* The merger is told to write into a pipe that nobody reads: of lists far larger than its memory it takes no more than fits. */
Test(tutorial, remote_iterator_is_lazy)
{
    struct middle m;
    middle_begin(&m, ">out 2>stats --stats json");
    char *out;
    size_t len;
    long so_far = calls_of(&m.server, "lrange");
    nap(200); /* nothing may happen now; waiting for nothing needs a while to wait */
    long later = calls_of(&m.server, "lrange");
    struct run r = middle_end(&m, &out, &len);
    expect_exit(r, 0);
    long all = calls_of(&m.server, "lrange");
    cr_assert_lt(later, all / 2 + 8, "%ld, then %ld of %ld batches while nobody read", so_far, later, all);
    cr_assert_gt(all, 8);
    cr_assert_eq(count_lines(out, len), (size_t)4 * MIDDLE_ITEMS);
}

Test(tutorial, remote_end_is_the_local_end)
{
    load("0", "-n", "5\n");
    load("1", "-n", "1\n2\n3\n4\n6\n7\n8\n");
    load("2", "-n", "");
    struct run r = run("nwm-merger --batch 2");
    expect_exit(r, 0);
    expect_out(r, "1\n2\n3\n4\n5\n6\n7\n8\n");
}

/* Every list ends where the manifest says, and not before. */
Test(tutorial, a_prefix_is_not_the_end)
{
    load("0", "-n", numbers(0, 1, 100));
    redis("RPOP %s", manifest("0", "list"));
    struct run r = run("nwm-merger");
    expect_fault(r, 1, "Changed", dataset("0"));
}

/* ---- remote errors, as if they were local: the worker's name, message, frames and exit code */

static void expect_remote(const char *worker, int code, const char *name, const char *id)
{
    struct run local = run("%s", worker);
    expect_fault(local, code, name, dataset(id));
    cr_assert_str_eq(manifest(id, "state"), "failed");
    cr_assert_str_eq(manifest(id, "error"), name);
    cr_assert_str_eq(manifest(id, "exit"), fmt("%d", code));
    cr_assert_not_null(strchr(manifest(id, "traceback"), '\n'), "not a list of frames: %s", manifest(id, "traceback"));
    struct run remote = run("nwm-merger");
    expect_fault(remote, code, name, dataset(id));
    expect_out(remote, "");
    expect_err_has(remote, manifest(id, "message"));
    expect_err_has(remote, "from worker ");
    expect_err_has(remote, "run 1");
    expect_err_has(remote, "Traceback (most recent call last):\n");
    expect_err_has(remote, fmt("    load dataset %s\n", dataset(id)));
}

Test(tutorial, remote_error_unsorted)
{
    write_file("part", "1\n9\n5\n");
    expect_remote("nwm-worker -n -i 2 part", 1, "Unsorted", "2");
    struct run r = run("nwm-merger");
    expect_err_has(r, "item 3 \"5\"");
    expect_err_has(r, "item 2 \"9\"");
    expect_err_has(r, "part line 3");
}

Test(tutorial, remote_error_missing_file) { expect_remote("nwm-worker -n -i 2 missing", 4, "NoInput", "2"); }

Test(tutorial, remote_error_directory) { expect_remote("nwm-worker -n -i 2 .", 4, "NoInput", "2"); }

Test(tutorial, remote_error_of_a_command)
{
    expect_remote("nwm-worker -n -i 2 --from-command -- sh -c 'seq 10; exit 9'", 4, "NoInput", "2");
}

Test(tutorial, all_that_failed_are_printed)
{
    load("0", "-n", "1\n");
    write_file("bad", "2\n1\n");
    expect_exit(run("nwm-worker -n -i 1 bad"), 1);
    expect_exit(run("nwm-worker -n -i 2 missing"), 4);
    expect_exit(run("nwm-worker -n -i 3 bad"), 1);
    struct run r = run("nwm-merger");
    expect_fault(r, 1, "Unsorted", dataset("1"));
    expect_fault(r, 1, "NoInput", dataset("2"));
    expect_fault(r, 1, "Unsorted", dataset("3"));
    expect_out(r, "");
    r = run("nwm-merger 2 1");
    expect_fault(r, 4, "Unsorted", dataset("1")); /* the code is that of the first in stream order */
}

/* ---- the merge */

Test(tutorial, merge)
{
    for (int id = 0; id < 4; id++) load_example(id);
    struct run r = run("nwm-merger");
    expect_exit(r, 0);
    expect_out(r, merged_examples(4));
    expect_err_has(r, "40 items from 4 datasets");
}

Test(tutorial, merge_is_stable)
{
    load("10", "-k1,1n", "1 ten-a\n1 ten-b\n2 ten\n");
    load("9", "-k1,1n", "1 nine-a\n1 nine-b\n2 nine\n");
    struct run r = run("nwm-merger");
    expect_exit(r, 0);
    expect_out(r, "1 nine-a\n1 nine-b\n1 ten-a\n1 ten-b\n2 nine\n2 ten\n");
    r = run("nwm-merger 10 9");
    expect_out(r, "1 ten-a\n1 ten-b\n1 nine-a\n1 nine-b\n2 ten\n2 nine\n");
}

/* Equal keys too long for one look, which only the full comparison finds equal. */
Test(tutorial, merge_is_stable_with_long_keys)
{
    const char *const key = "a-key-of-more-than-eight-bytes";
    for (int i = 9; i <= 11; i++) load(fmt("%d", i), "-k1,1", fmt("%s %d-a\n%s %d-b\n", key, i, key, i));
    const char *expected = "";
    for (int i = 9; i <= 11; i++) expected = fmt("%s%s %d-a\n%s %d-b\n", expected, key, i, key, i);
    expect_out(run("nwm-merger"), expected);
    expect_out(run("nwm-merger --batch 1"), expected);
}

Test(tutorial, validation)
{
    for (int id = 0; id < 4; id++) load_example(id);
    struct run r = run("nwm-merger --verify");
    expect_exit(r, 0);
    expect_out(r, merged_examples(4));
    expect_err_has(r, "local == remote: true\n");
}

/* All five processes at once, the merger first. */
Test(tutorial, together_the_merger_first)
{
    struct proc *merger = spawn("nwm-merger -w 4 --verify");
    struct proc *workers[4];
    for (int id = 0; id < 4; id++) workers[id] = spawn("nwm-worker --example -i %d", id);
    for (int id = 0; id < 4; id++) expect_exit(wait_exit(workers[id], RUN_DEADLINE), 0);
    struct run r = wait_exit(merger, RUN_DEADLINE);
    expect_exit(r, 0);
    expect_out(r, merged_examples(4));
    expect_err_has(r, "local == remote: true\n");
}

Test(tutorial, together_the_workers_first)
{
    struct proc *workers[4];
    for (int id = 3; id >= 0; id--) workers[id] = spawn("nwm-worker --example -i %d", id);
    struct proc *merger = spawn("nwm-merger -w 4");
    struct run r = wait_exit(merger, RUN_DEADLINE);
    expect_exit(r, 0);
    expect_out(r, merged_examples(4));
    for (int id = 0; id < 4; id++) expect_exit(wait_exit(workers[id], RUN_DEADLINE), 0);
}

/* What `make demo` runs once everything is built. */
Test(tutorial, demo)
{
    struct run r = run("%s/config/demo %s", NWM_SOURCE, test_build());
    expect_exit(r, 0);
    const char *first = strstr(r.out, "local == remote: true");
    cr_assert_not_null(first, "%s%s", r.out, r.err);
    cr_assert_not_null(strstr(first + 1, "local == remote: true"), "%s", r.out);
    expect_out_has(r, "redis-cli");
}
