/* Bad input, and odd input that is good. Each test is named after a row of what must hold. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/scene.h"

#include <criterion/parameterized.h>

/* ---- not sorted: the worker finds it; where nobody checked, the merger does */

static void expect_unsorted(struct run r, const char *id, const char *number, const char *item, const char *before)
{
    expect_fault(r, 1, "Unsorted", dataset(id));
    expect_err_has(r, fmt("item %s %s", number, item));
    expect_err_has(r, before);
    expect_err_has(r, "sort -s");
}

Test(bad_input, unsorted_at_the_second_item)
{
    write_file("f", "2\n1\n3\n");
    expect_unsorted(run("nwm-worker -n -i 0 f"), "0", "2", "\"1\"", "\"2\"");
    expect_unsorted(run("nwm-merger"), "0", "2", "\"1\"", "\"2\"");
}

Test(bad_input, unsorted_at_the_second_item_found_by_the_merger)
{
    plant("0", "-n", "2\n1\n3\n");
    plant("1", "-n", "0\n4\n");
    struct run r = run("nwm-merger -o result");
    expect_unsorted(r, "0", "2", "\"1\"", "\"2\"");
    cr_assert(!file_exists("result"));
}

Test(bad_input, unsorted_at_the_last_item)
{
    write_file("f", fmt("%s7\n", numbers(10, 1, 5000)));
    expect_unsorted(run("nwm-worker -n -i 0 f"), "0", "5001", "\"7\"", "\"5009\"");
    expect_unsorted(run("nwm-merger"), "0", "5001", "\"7\"", "\"5009\"");
}

Test(bad_input, unsorted_at_the_last_item_found_by_the_merger)
{
    plant("0", "-n", fmt("%s7\n", numbers(10, 1, 500)));
    plant("1", "-n", numbers(0, 1, 500));
    struct run r = run("nwm-merger -o result");
    expect_unsorted(r, "0", "501", "\"7\"", "\"509\"");
    cr_assert(!file_exists("result"));
}

/* Items 50 and 51 come in different batches. */
Test(bad_input, unsorted_across_a_batch_border)
{
    plant("0", "-n", fmt("%s%s", numbers(100, 1, 50), numbers(148, 1, 50)));
    plant("1", "-n", numbers(0, 5, 100));
    expect_unsorted(run("nwm-merger --batch 50"), "0", "51", "\"148\"", "\"149\"");
    expect_unsorted(run("nwm-merger --batch 50 0"), "0", "51", "\"148\"", "\"149\"");
    expect_unsorted(run("nwm-merger --batch 1"), "0", "51", "\"148\"", "\"149\"");
    expect_unsorted(run("nwm-merger"), "0", "51", "\"148\"", "\"149\"");
}

/* Of equal keys there is no wrong order; across a border neither. */
Test(bad_input, equal_items_are_sorted)
{
    plant("0", "-n", "1\n1\n1\n1\n1\n1\n");
    struct run r = run("nwm-merger --batch 2");
    expect_exit(r, 0);
    expect_out(r, "1\n1\n1\n1\n1\n1\n");
}

Test(bad_input, sorted_under_a_locale)
{
    write_file("f", "apple\nBanana\ncherry\n");
    expect_unsorted(run("nwm-worker -i 0 f"), "0", "2", "\"Banana\"", "\"apple\"");
}

/* ---- where items come from */

Test(bad_input, producer_dies_half_way)
{
    struct run r = run("nwm-worker -n -i 0 --from-command -- sh -c 'seq 100000; kill -9 $$'");
    expect_fault(r, 4, "NoInput", dataset("0"));
    expect_out(r, "");
    cr_assert_str_eq(manifest("0", "state"), "failed");
    r = run("nwm-merger");
    expect_fault(r, 4, "NoInput", dataset("0"));
    expect_out(r, "");
}

Test(bad_input, producer_fails_without_a_word)
{
    expect_fault(run("nwm-worker -n -i 0 --from-command -- false"), 4, "NoInput", dataset("0"));
    expect_fault(run("nwm-worker -n -i 1 --from-command -- no-such-command"), 4, "NoInput", dataset("1"));
    expect_exit(run("nwm-merger"), 4);
}

Test(bad_input, item_holding_the_separator)
{
    redis("RPUSH %s.a one two", test_job());
    redis("RPUSH %s.b %b", test_job(), "two\nlines", (size_t)9);
    struct run r = run("nwm-merger --list %s.a --list %s.b", test_job(), test_job());
    expect_fault(r, 1, "BadItem", fmt("%s.b", test_job()));
    expect_err_has(r, "item 1 ");
    expect_err_has(r, "-z");
    r = run("nwm-merger -z --list %s.a --list %s.b", test_job(), test_job());
    expect_exit(r, 0);
    cr_assert_eq(r.out_len, 18);
    cr_assert_eq(memcmp(r.out, "one\0two\0two\nlines\0", 18), 0);
}

Test(bad_input, item_holding_nul_with_z)
{
    redis("RPUSH %s.a %b", test_job(), "a\0b", (size_t)3);
    expect_fault(run("nwm-merger -z --list %s.a", test_job()), 1, "BadItem", fmt("%s.a", test_job()));
    struct run r = run("nwm-merger --list %s.a", test_job());
    expect_exit(r, 0);
    cr_assert_eq(r.out_len, 4);
}

static void expect_no_input(const char *worker, const char *why)
{
    struct run r = run("%s", worker);
    expect_fault(r, 4, "NoInput", dataset("0"));
    expect_err_has(r, why);
    r = run("nwm-merger");
    expect_fault(r, 4, "NoInput", dataset("0"));
    expect_err_has(r, why);
}

Test(bad_input, missing_file) { expect_no_input("nwm-worker -i 0 no/such.txt", "no/such.txt: No such file"); }

Test(bad_input, directory) { expect_no_input("nwm-worker -i 0 /", "directory"); }

/* Root may read anything, until it gives up the right to. */
Test(bad_input, unreadable_file)
{
    write_file("secret", "1\n");
    chmod(fmt("%s/secret", test_dir()), 0);
    const char *as = geteuid() == 0 ? "setpriv --bounding-set -dac_override,-dac_read_search "
                                      "--inh-caps -dac_override,-dac_read_search "
                                    : "";
    expect_no_input(fmt("%snwm-worker -i 0 secret", as), "secret: Permission denied");
}

/* Opens, and then every read fails. */
Test(bad_input, file_that_cannot_be_read) { expect_no_input("nwm-worker -i 0 /proc/self/mem", "/proc/self/mem"); }

Test(bad_input, empty_file)
{
    struct run r = load("0", "-n", "");
    expect_out_has(r, "0 items");
    cr_assert_str_eq(manifest("0", "state"), "ready");
    load("1", "-n", "3\n5\n");
    load("2", "-n", "");
    r = run("nwm-merger --verify");
    expect_exit(r, 0);
    expect_out(r, "3\n5\n");
    expect_err_has(r, "2 items from 3 datasets");
}

Test(bad_input, all_datasets_empty)
{
    for (int i = 0; i < 3; i++) load(fmt("%d", i), "", "");
    struct run r = run("nwm-merger --verify -o result");
    expect_exit(r, 0);
    expect_err_has(r, "0 items from 3 datasets");
    size_t len = 1;
    cr_assert_not_null(read_file("result", &len));
    cr_assert_eq(len, 0);
}

Test(bad_input, one_dataset)
{
    load("0", "-n", numbers(-5, 3, 2000));
    struct run r = run("nwm-merger --verify");
    expect_exit(r, 0);
    expect_out(r, numbers(-5, 3, 2000));
    expect_err_has(r, "2000 items from 1 dataset");
}

ParameterizedTestParameters(bad_input, number_of_datasets)
{
    static int counts[] = {1, 2, 3, 5};
    return cr_make_param_array(int, counts, sizeof counts / sizeof *counts);
}

/* The numbers 0 to 3n-1 are dealt out like cards. */
ParameterizedTest(int *count, bad_input, number_of_datasets)
{
    int n = *count;
    for (int i = 0; i < n; i++) load(fmt("%d", i), "-n", numbers(i, n, 3));
    struct run r = run("nwm-merger --verify -w %d", n);
    expect_exit(r, 0);
    expect_out(r, numbers(0, 1, 3 * (size_t)n));
    expect_err_has(r, fmt("%d of %d", n, n));
}

/* With lists of one item, of three, of more than a batch. */
Test(bad_input, thousand_datasets)
{
    for (int each = 1; each <= 100; each = each * 3 + 2) {
        struct server s;
        server_start(&s, "%s", "");
        plant_many(&s, 1000, each);
        struct run r = run("nwm-merger -U %s --verify -w 1000 -o merged", s.url);
        expect_exit(r, 0);
        expect_err_has(r, "1000 of 1000");
        expect_exit(run("seq -f %%012.0f 0 %d | cmp - merged", 1000 * each - 1), 0);
        server_stop(&s);
    }
}

/* ---- lines */

Test(bad_input, last_line_without_newline)
{
    load("0", "", "a\nc");
    load("1", "", "b\nd");
    struct run r = run("nwm-merger");
    expect_exit(r, 0);
    expect_out(r, "a\nb\nc\nd\n");
    cr_assert_str_eq(manifest("0", "items"), "2");
    cr_assert_str_eq(manifest("0", "bytes"), "2");
}

Test(bad_input, crlf_kept)
{
    load("0", "-n", "1\r\n3\r\n");
    load("1", "-n", "2\r\n");
    struct run r = run("nwm-merger");
    expect_exit(r, 0);
    expect_out(r, "1\r\n2\r\n3\r\n");
}

Test(bad_input, nul_bytes)
{
    write_bytes("a", "a\0b\nb\0\n", 7);
    write_bytes("b", "a\0a\na\0c\n\xff\n", 10);
    expect_exit(run("nwm-worker -i 0 a && nwm-worker -i 1 b"), 0);
    struct run r = run("nwm-merger --verify");
    expect_exit(r, 0);
    cr_assert_eq(r.out_len, 17);
    cr_assert_eq(memcmp(r.out, "a\0a\na\0b\na\0c\nb\0\n\xff\n", 17), 0);
    write_bytes("z", "x\ny\0y\0", 6);
    expect_exit(run("nwm-worker -j %s.z -z -i 0 z", test_job()), 0);
    r = run("nwm-merger -j %s.z -z", test_job());
    cr_assert_eq(r.out_len, 6);
    cr_assert_eq(memcmp(r.out, "x\ny\0y\0", 6), 0);
}

Test(bad_input, empty_lines)
{
    load("0", "", "\n\n\na\n");
    load("1", "", "\nb\n");
    struct run r = run("nwm-merger --verify");
    expect_exit(r, 0);
    expect_out(r, "\n\n\n\na\nb\n");
}

Test(bad_input, one_mb_item_among_small_ones)
{
    for (int i = 0; i < 3; i++)
        expect_exit(run("(seq 10000 19999; head -c 1048576 /dev/zero | tr '\\0' %c; echo; seq 90000 99999) >f.%d && "
                        "LC_ALL=C sort -s f.%d >s.%d && nwm-worker -i %d s.%d",
                        '3' + i, i, i, i, i, i),
                    0);
    expect_exit(run("LC_ALL=C sort -m -s s.0 s.1 s.2 >expected"), 0);
    struct run r = run("nwm-merger --verify -o result --stats json");
    expect_exit(r, 0);
    expect_err_has(r, "60003 items");
    expect_same_files("result", "expected");
    cr_assert_lt(json_number(r.err, "", "batches"), 1000, "the small ones were asked for singly: %s", r.err);
    expect_exit(run("nwm-merger --memory 16M -o result"), 0);
    expect_same_files("result", "expected");
    expect_exit(run("nwm-merger --batch 1 -o result"), 0);
    expect_same_files("result", "expected");
}

Test(bad_input, hundred_mb_item)
{
    struct server s; /* of its own: it takes a lot, and is gone with the test */
    server_start(&s, "%s", "");
    expect_exit(run("{ printf 'a\\nb\\n'; head -c 104857600 /dev/zero | tr '\\0' x; printf '\\ny\\n'; } >f && "
                    "nwm-worker -U %s -i 0 f && printf 'c\\n' | nwm-worker -U %s -i 1",
                    s.url, s.url),
                0);
    server_redis(&s, "CONFIG RESETSTAT");
    struct run r = run("nwm-merger -U %s -o result", s.url);
    expect_fault(r, 2, "NoMemory", NULL);
    cr_assert(!file_exists("result"));
    cr_assert_eq(calls_of(&s, "lrange"), 0, "something was read before the refusal");
    const char *suffices = strstr(r.err, "M suffices");
    cr_assert_not_null(suffices, "%s", r.err);
    while (suffices[-1] >= '0' && suffices[-1] <= '9') suffices--;
    long enough = strtol(suffices, NULL, 10);
    cr_assert_leq(enough, 256, "%s", r.err);
    expect_exit(run("{ printf 'a\\nb\\nc\\n'; tail -n +3 f; } >expected"), 0);
    expect_exit(run("nwm-merger -U %s --memory %ldM -o result", s.url, enough), 0);
    expect_same_files("result", "expected");
    r = run("nwm-merger -U %s --memory 256M -o result --stats json", s.url);
    expect_exit(r, 0);
    expect_same_files("result", "expected");
    if (MEMORY_TELLS) cr_assert_lt(json_number(r.err, "", "peak_memory_bytes"), 272 << 20);
    expect_exit(run("nwm-merger -U %s --memory %ldM", s.url, enough - 2), 2);
}

static const char *const batch_options[] = {"--batch 1", "--batch 2", "--batch 3", "--batch 1 --memory 1M"};

ParameterizedTestParameters(bad_input, batches)
{
    static int which[] = {0, 1, 2, 3};
    return cr_make_param_array(int, which, sizeof which / sizeof *which);
}

/* Lists that end on a border, before it and behind it; equal keys everywhere. */
ParameterizedTest(int *which, bad_input, batches)
{
    load("0", "-k1,1n", "1 a\n1 b\n2 c\n2 d\n2 e\n3 f\n");
    load("1", "-k1,1n", "1 g\n2 h\n2 i\n3 j\n3 k\n");
    load("2", "-k1,1n", "2 l\n");
    load("3", "-k1,1n", "");
    load("4", "-k1,1n", "1 m\n1 n\n1 o\n1 p\n1 q\n1 r\n1 s\n");
    struct run r = run("nwm-merger --verify %s", batch_options[*which]);
    expect_exit(r, 0);
    expect_out(r, "1 a\n1 b\n1 g\n1 m\n1 n\n1 o\n1 p\n1 q\n1 r\n1 s\n2 c\n2 d\n2 e\n2 h\n2 i\n2 l\n3 f\n3 j\n3 k\n");
}

Test(bad_input, lang_tr_tr)
{
    write_file("f", "I\ni\nJ\nj\n");
    write_file("n", "1,5\n1.5\n10\n");
    for (int i = 0; i < 2; i++) {
        const char *as = i ? "LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 LC_NUMERIC=de_DE.UTF-8" : "LC_ALL=C";
        expect_exit(run("%s nwm-worker -f -j %s.f -i 0 f", as, test_job()), 0);
        struct run r = run("%s nwm-merger -j %s.f --verify --stats json", as, test_job());
        expect_exit(r, 0);
        expect_out(r, "I\ni\nJ\nj\n");
        cr_assert_null(strstr(r.err, "\"seconds\":0,"), "%s", r.err);
        expect_exit(run("%s nwm-worker -n -j %s.n -i 0 n", as, test_job()), 0);
        expect_exit(run("%s nwm-merger -n -j %s.n --wait 1.5s", as, test_job()), 0);
    }
    struct run r = run("LANG=tr_TR.UTF-8 nwm-worker -i 0 missing");
    expect_err_has(r, "missing");
    expect_exit(r, 4);
}
