/* Faults: their names, codes, and how they print. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "shared/fault.h"

/* What fault_print prints; the caller frees. */
static char *printed(const struct fault *f)
{
    char *text;
    size_t len;
    FILE *to = open_memstream(&text, &len);
    fault_print(f, "nwm-merger", to);
    fclose(to);
    return text;
}

static void assert_prints(struct fault *f, const char *expected)
{
    char *text = printed(f);
    cr_assert_str_eq(text, expected, "%s", text);
    free(text);
    fault_free(f);
}

Test(fault, prints_as_the_design_shows)
{
    struct fault *f = fault_new(FAULT_UNSORTED, "item %d \"5\" sorts before item %d \"9\"", 18, 17);
    f = fault_frame(f, "check order %s at line %d", "-n", 18);
    f = fault_frame(f, "read part-2.txt");
    f = fault_frame(f, "load dataset %s", "demo:2");
    f = fault_about(f, "%s:%s", "demo", "2");
    f = fault_origin(f, "worker host-a:4211, run %d, part-2.txt line 18", 3);
    assert_prints(f, "nwm-merger: demo:2: Unsorted: item 18 \"5\" sorts before item 17 \"9\"\n"
                     "  from worker host-a:4211, run 3, part-2.txt line 18\n"
                     "  Traceback (most recent call last):\n"
                     "    load dataset demo:2\n"
                     "    read part-2.txt\n"
                     "    check order -n at line 18\n");
}

Test(fault, prints_only_what_there_is)
{
    assert_prints(fault_new(FAULT_USAGE, "no such option"), "nwm-merger: Usage: no such option\n");
    assert_prints(fault_about(fault_new(FAULT_OUTPUT, "disk full"), "out.txt"),
                  "nwm-merger: out.txt: Output: disk full\n");
    assert_prints(fault_origin(fault_new(FAULT_LOST, "x"), "worker a:1"), "nwm-merger: Lost: x\n  from worker a:1\n");
    assert_prints(fault_frame(fault_new(FAULT_LOST, "x"), "push"),
                  "nwm-merger: Lost: x\n  Traceback (most recent call last):\n    push\n");
    assert_prints(fault_remote(NULL, 4, NULL, NULL), "nwm-merger: Unknown\n");
}

Test(fault, a_remote_fault_prints_like_a_local_one)
{
    struct fault *local = fault_new(FAULT_UNSORTED, "item 18");
    fault_frame(fault_frame(local, "inner"), "outer");
    char *traceback = fault_traceback(local);
    cr_assert_str_eq(traceback, "outer\ninner");
    struct fault *remote = fault_remote(fault_name(local), fault_exit(local), fault_message(local), traceback);
    char *a = printed(local), *b = printed(remote);
    cr_assert_str_eq(a, b);
    cr_assert(fault_is(remote, FAULT_UNSORTED));
    cr_assert_eq(fault_exit(remote), EXIT_DATA);
    free(a), free(b), free(traceback);
    fault_free(local);
    fault_free(remote);
}

Test(fault, local_frames_go_outside_remote_ones)
{
    struct fault *f = fault_frame(fault_remote("Lost", 4, "gone", "outer\ninner\n"), "wait for demo:2");
    char *traceback = fault_traceback(f);
    cr_assert_str_eq(traceback, "wait for demo:2\nouter\ninner");
    free(traceback);
    fault_free(f);
}

Test(fault, a_traceback_of_any_shape_is_taken_apart)
{
    static const struct {
        const char *given, *kept;
    } rows[] = {{"", ""}, {"\n\n\n", ""}, {"a", "a"}, {"a\n", "a"}, {"\na\n\nb\n\n", "a\nb"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fault *f = fault_remote("Lost", 4, "x", rows[i].given);
        char *kept = fault_traceback(f);
        cr_assert_str_eq(kept, rows[i].kept);
        free(kept);
        fault_free(f);
    }
}

Test(fault, a_remote_fault_plays_no_tricks_on_a_terminal)
{
    struct fault *f = fault_remote("Un\033[2Jsorted", 1,
                                   "a\rb\nnwm-merger: complete \xc2\x9b"
                                   "2J \xff gr\xc3\xbcn",
                                   "one\033]0;title\007\ntwo\xe2\x80\xae");
    fault_origin(fault_about(f, "demo\x01:%d", 2), "worker \033c");
    assert_prints(
        f,
        "nwm-merger: demo\\x01:2: Un\\x1b[2Jsorted: a\\x0db\\x0anwm-merger: complete \\xc2\\x9b2J \\xff gr\xc3\xbcn\n"
        "  from worker \\x1bc\n"
        "  Traceback (most recent call last):\n"
        "    one\\x1b]0;title\\x07\n"
        "    two\\xe2\\x80\\xae\n");
}

Test(fault, remote_names_and_codes)
{
    static const struct {
        const char *name, *kept;
        int code, exit;
    } rows[] = {{"Unsorted", "Unsorted", 1, 1}, {"Timeout", "Timeout", 6, 6}, {"New", "New", 5, 5},
                {NULL, "Unknown", 2, 2},        {"", "Unknown", 3, 3},        {"Lost", "Lost", 0, 4},
                {"Lost", "Lost", 7, 4},         {"Lost", "Lost", -1, 4},      {"Lost", "Lost", 141, 4}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fault *f = fault_remote(rows[i].name, rows[i].code, "x", NULL);
        cr_assert_str_eq(fault_name(f), rows[i].kept);
        cr_assert_eq(fault_exit(f), rows[i].exit, "row %zu", i);
        fault_free(f);
    }
}

Test(fault, an_unknown_name_is_of_no_kind)
{
    struct fault *f = fault_remote("Novel", 1, "x", NULL);
    for (int kind = 0; kind < FAULT_KINDS; kind++) cr_assert_not(fault_is(f, (enum fault_kind)kind));
    fault_free(f);
}

/* The design's table, written out once more. */
Test(fault, the_exit_codes_are_those_of_the_readme)
{
    static const struct {
        const char *names;
        int code;
    } table[] = {
        {" Unsorted BadItem Changed Vanished Mismatch Consumed ", 1},
        {" Usage OrderConflict WrongCount NoMemory BadConfig BadContract ", 2},
        {" Partial ", 3},
        {" NoInput WorkerLost LeaseLost DuplicateWorker Busy Lost Interrupted Unreachable Denied NoDatasets WrongType "
         "Protocol ServerFull ",
         4},
        {" Output ", 5},
        {" Timeout ", 6},
    };
    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        struct fault *f = fault_new((enum fault_kind)kind, "x");
        char word[64];
        snprintf(word, sizeof word, " %s ", fault_name(f));
        int code = 0;
        for (size_t i = 0; i < sizeof table / sizeof *table; i++)
            if (strstr(table[i].names, word)) code = table[i].code;
        cr_assert_eq(fault_exit(f), code, "%s", word);
        cr_assert_eq(fault_kind_exit((enum fault_kind)kind), code);
        cr_assert(fault_is(f, (enum fault_kind)kind));
        fault_free(f);
    }
}

Test(fault, subject_and_origin_are_set_once)
{
    struct fault *f = fault_new(FAULT_LOST, "x");
    cr_assert_null(fault_subject(f));
    fault_about(fault_about(f, "demo:2"), "demo");
    fault_origin(fault_origin(f, "near"), "far");
    cr_assert_str_eq(fault_subject(f), "demo:2");
    assert_prints(f, "nwm-merger: demo:2: Lost: x\n  from near\n");
}

Test(fault, no_fault_stays_none)
{
    cr_assert_null(fault_frame(NULL, "x"));
    cr_assert_null(fault_about(NULL, "x"));
    cr_assert_null(fault_origin(NULL, "x"));
    fault_free(NULL);
}
