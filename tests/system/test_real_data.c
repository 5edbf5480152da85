/* Data nobody here made, against what GNU sort -s makes of the whole: byte for byte. */
#include <criterion/logging.h>
#include <unistd.h>

#include "tests/system/scene.h"

static const char *const WORDS = "/usr/share/dict/american-english-huge";
static const char *const UNICODE = "/usr/share/unicode/UnicodeData.txt";

static void need(const char *file, const char *package)
{
    if (access(file, R_OK) != 0) cr_skip_test("%s is not installed (package %s)", file, package);
}

/* Splits the file over n workers, which all start at once and each sort their own piece; then compares with sort's answer. */
static void expect_as_sort(const char *file, int n, const char *order)
{
    expect_exit(run("split -n l/%d -d -a 1 %s piece.", n, file), 0);
    struct proc *merger = spawn("nwm-merger -w %d --verify -o merged", n);
    struct proc *workers[8];
    for (int i = 0; i < n; i++) workers[i] = spawn("nwm-worker --sort %s -i %d piece.%d", order, i, i);
    for (int i = 0; i < n; i++) expect_exit(wait_exit(workers[i], RUN_DEADLINE), 0);
    struct run r = wait_exit(merger, RUN_DEADLINE);
    expect_exit(r, 0);
    expect_err_has(r, "local == remote: true\n");
    expect_err_has(r, fmt("%d of %d", n, n));
    expect_exit(run("LC_ALL=C sort -s %s %s >expected", order, file), 0);
    expect_same_files("merged", "expected");
    expect_exit(run("nwm-merger --memory 2M -o again"), 0);
    expect_same_files("again", "expected");
}

Test(real_data, word_list)
{
    need(WORDS, "wamerican-huge");
    expect_as_sort(WORDS, 4, "");
}

/* Words that differ in case only are equal: their order is that of the pieces. */
Test(real_data, word_list_folded)
{
    need(WORDS, "wamerican-huge");
    expect_as_sort(WORDS, 4, "-f");
}

/* Sorted beforehand, as people do it, and loaded without --sort. */
Test(real_data, word_list_sorted_outside)
{
    need(WORDS, "wamerican-huge");
    expect_exit(run("split -n l/4 -d -a 1 %s piece. && for i in 0 1 2 3; do "
                    "LC_ALL=C sort -r -s piece.$i | nwm-worker -r -i $i || exit 1; done && nwm-merger -o merged",
                    WORDS),
                0);
    expect_exit(run("LC_ALL=C sort -r -s %s | cmp - merged", WORDS), 0);
}

/* By combining class, a number, and by category, a text. */
Test(real_data, unicode_by_number_and_text)
{
    need(UNICODE, "unicode-data");
    expect_as_sort(UNICODE, 8, "-t ';' -k4,4n -k3,3");
}

/* By the numeric value of digits and fractions (field 9, mostly empty), the name backwards. */
Test(real_data, unicode_by_value_and_name_reversed)
{
    need(UNICODE, "unicode-data");
    expect_as_sort(UNICODE, 8, "-t ';' -k9,9g -k2,2r");
}

/* By the bidirectional class from its second character on, blanks and case apart. */
Test(real_data, unicode_by_character_positions)
{
    need(UNICODE, "unicode-data");
    expect_as_sort(UNICODE, 8, "-t ';' -k5.2,5.3bf -k1,1");
}
