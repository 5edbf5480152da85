/* nwm-merger --check FILE: a file is proven against the manifests, or what differs is named. The lists are not needed. */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/scene.h"

static const char MERGED[] = "1\n2\n3\n10\n11\n";

static void load_two(void)
{
    load("0", "-n", "1\n3\n11\n");
    load("1", "-n", "2\n10\n");
}

static void expect_proven(struct run r)
{
    expect_exit(r, 0);
    expect_out(r, "");
    expect_err_has(r, ": proven: ");
}

static void expect_refuted(const char *content, const char *fault, const char *why)
{
    write_file("bad", content);
    struct run r = run("nwm-merger --check bad");
    expect_fault(r, 1, fault, "bad");
    expect_err_has(r, why);
    cr_assert_null(strstr(r.err, "bad: proven:"), "%s", r.err);
}

/* ---- proven */

Test(check, what_was_merged)
{
    load_two();
    struct run r = run("nwm-merger -o merged");
    expect_exit(r, 0);
    const char *digest = strstr(r.err, ", digest ");
    cr_assert_not_null(digest, "%s", r.err);
    struct run check = run("nwm-merger --check merged");
    expect_proven(check);
    expect_err(check, fmt("nwm-merger: merged: proven: 5 items from 2 datasets of job %s, as found, order -n%.41s\n",
                          test_job(), digest));
    expect_proven(run("nwm-merger --check - <merged"));
    expect_proven(run("cat merged | nwm-merger -n -w 2 --check=-"));
    expect_err(run("nwm-merger -q --check merged"), "");
    expect_proven(run("nwm-merger -u -o once && nwm-merger --check once"));
}

Test(check, some_of_the_datasets)
{
    load_two();
    write_file("one", "1\n3\n11\n");
    struct run r = run("nwm-merger --check one 0");
    expect_proven(r);
    expect_err_has(r, "1 of 1 datasets");
    expect_fault(run("nwm-merger --check one"), 1, "Mismatch", "one");
    expect_fault(run("nwm-merger --check one 1"), 1, "Mismatch", "one");
}

/* The lists may be gone, and a dataset may have been consumed: the manifests know. */
Test(check, needs_no_lists)
{
    load_two();
    write_file("merged", MERGED);
    for (int i = 0; i < 2; i++) redis("DEL %s", manifest(fmt("%d", i), "list"));
    expect_proven(run("nwm-merger --check merged"));
    redis("HSET %s state consumed", manifest_key("1"));
    expect_proven(run("nwm-merger --check merged"));
    expect_proven(run("nwm-merger -w 2 --check merged"));
    expect_proven(run("nwm-merger --since 1h --check merged 0 1"));
}

Test(check, empty_datasets_and_empty_files)
{
    load("0", "-n", "");
    write_file("empty", "");
    struct run r = run("nwm-merger --check empty");
    expect_proven(r);
    expect_err_has(r, "proven: 0 items");
    expect_proven(run("nwm-merger --check /dev/null"));
    expect_refuted("\n", "Mismatch", "1 items where the manifests say 0");
    load("1", "", "\n");
    load("0", "", "");
    write_file("empty-line", "\n");
    expect_proven(run("nwm-merger --check empty-line"));
    expect_refuted("", "Mismatch", "0 items where the manifests say 1");
}

/* Items larger than any buffer, in memory for a few of them. */
Test(check, large_items)
{
    expect_exit(run("for i in 1 2 3 4 5 6; do head -c 3000000 /dev/zero | tr '\\0' $i; echo; done >big"), 0);
    expect_exit(run("nwm-worker -i 0 big && seq -w 1 100000 >many && nwm-worker -i 1 many"), 0);
    expect_exit(run("nwm-merger -o merged"), 0);
    expect_proven(run("nwm-merger --check merged"));
    expect_exit(run("sed '500s/$/x/' merged >bad"), 0);
    expect_fault(run("nwm-merger --check bad"), 1, "Mismatch", "bad");
}

Test(check, nul_bytes)
{
    write_bytes("in", "a\nb\0c\0", 6);
    expect_exit(run("nwm-worker -z -i 0 in && nwm-merger -z -o merged"), 0);
    expect_proven(run("nwm-merger -z --check merged"));
    expect_fault(run("nwm-merger --check merged"), 1, "Mismatch", "merged");
    write_bytes("bad", "a\nb\0c", 5);
    struct run r = run("nwm-merger -z --check bad");
    expect_fault(r, 1, "Mismatch", "bad");
    expect_err_has(r, "no NUL byte behind it");
}

Test(check, keys_that_tie)
{
    load("0", "-k1,1n", "1 a\n2 a\n");
    load("1", "-k1,1n", "1 b\n2 b\n");
    expect_exit(run("nwm-merger -o merged"), 0);
    expect_proven(run("nwm-merger -k1,1n --check merged"));
    expect_fault(run("nwm-merger -n --check merged"), 2, "OrderConflict", NULL);
}

/* ---- refuted */

Test(check, what_differs_is_named)
{
    load_two();
    expect_refuted("1\n2\n3\n10\n", "Mismatch", "4 items where the manifests say 5");
    expect_refuted("1\n2\n3\n10\n11\n12\n", "Mismatch", "6 items where the manifests say 5");
    expect_refuted("1\n2\n3\n10\n11", "Mismatch", "no newline behind it");
    expect_refuted("1\n2\n3\n10\n1", "Unsorted", "line 5 \"1\" sorts before line 4 \"10\"");
    expect_refuted("1\n3\n2\n10\n11\n", "Unsorted", "line 3 \"2\" sorts before line 2 \"3\"");
    expect_refuted("1\n2\n2\n10\n11\n", "Mismatch", "an item is another one");
    expect_refuted("1\n2\n3\n9\n11\n", "Mismatch", "6 bytes in 5 items where the manifests say 7");
    expect_refuted("1\n2\n3\n10\n111\n", "Mismatch", "line 5 is longer than 2 bytes");
    expect_refuted("", "Mismatch", "0 items");
}

Test(check, another_run)
{
    load_two();
    expect_exit(run("nwm-merger -o merged"), 0);
    load("1", "-n", "4\n10\n");
    expect_fault(run("nwm-merger --check merged"), 1, "Mismatch", "merged");
}

/* Count, bytes and order are right, and still it is no proof. */
Test(check, without_a_digest_nothing_is_proven)
{
    load("0", "-n", "1\n3\n");
    plant("1", "-n", "2\n");
    expect_refuted("1\n2\n3\n", "Mismatch", fmt("cannot be proven: %s without a digest", dataset("1")));
    expect_refuted("1\n2\n", "Mismatch", "2 items where the manifests say 3");
    plant("2", "-n", "");
    struct run r = run("nwm-merger --check /dev/null 2");
    expect_proven(r);
    r = run("nwm-merger");
    expect_exit(r, 0);
    expect_err_has(r, fmt("(unproven, without a digest of their own: %s", dataset("1")));
}

/* ---- files and datasets that cannot be had */

Test(check, no_such_input)
{
    load_two();
    expect_fault(run("nwm-merger --check nothing"), 4, "NoInput", "nothing");
    expect_fault(run("nwm-merger --check ."), 4, "NoInput", ".");
    write_file("secret", MERGED);
    chmod(fmt("%s/secret", test_dir()), 0);
    const char *as = geteuid() ? "" : "setpriv --bounding-set -dac_override,-dac_read_search ";
    expect_fault(run("%snwm-merger --check secret", as), 4, "NoInput", "secret");
}

Test(check, no_such_datasets)
{
    write_file("merged", MERGED);
    expect_fault(run("nwm-merger --check merged"), 4, "NoDatasets", NULL);
    load_two();
    expect_fault(run("nwm-merger --wait 0 --check merged 0 1 2"), 6, "Timeout", NULL);
    expect_fault(run("nwm-merger -w 1 --check merged"), 2, "WrongCount", NULL);
    run("printf '2\\n1\\n' | nwm-worker -n -i 1");
    expect_fault(run("nwm-merger --check merged"), 1, "Unsorted", dataset("1"));
}

Test(check, ends_at_the_deadline)
{
    load_two();
    expect_exit(run("mkfifo in"), 0);
    struct run r = run("nwm-merger --deadline 1s --check in");
    expect_fault(r, 6, "Timeout", "in");
    expect_err_has(r, "passed after 0 items of in");
}

Test(check, usage)
{
    static const char *const others[] = {"-o x",     "-u",     "--limit 3",    "--tag",    "--verify",
                                         "--list k", "--jobs", "--stats text", "--status", "--batch 3"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct run r = run("nwm-merger --check merged %s", others[i]);
        expect_fault(r, 2, "Usage", NULL);
        expect_err_has(r, "--check does not go with --");
    }
    expect_fault(run("nwm-merger --check ''"), 2, "Usage", NULL);
    expect_fault(run("nwm-merger --check"), 2, "Usage", NULL);
}
