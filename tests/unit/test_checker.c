/* What the worker knows of the items it has seen. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "shared/digest.h"
#include "shared/fault.h"
#include "shared/order.h"
#include "worker/checker.h"

static struct order *order;
static struct checker *checker;

static void setup(void)
{
    order = order_new();
    struct fault *f = order_letter(order, 'n');
    cr_assert(f == NULL);
    f = order_compile(order);
    cr_assert(f == NULL);
    checker = checker_new(order);
}

static void teardown(void)
{
    checker_free(checker);
    order_free(order);
}

TestSuite(checker, .init = setup, .fini = teardown);

static struct bytes text(const char *t) { return (struct bytes){t, strlen(t)}; }

static void add(const char *t)
{
    struct fault *f = checker_add(checker, text(t));
    cr_assert(f == NULL, "%s", f ? fault_message(f) : "");
}

static void expect_unsorted(const char *t, const char *message)
{
    struct fault *f = checker_add(checker, text(t));
    cr_assert(f && fault_is(f, FAULT_UNSORTED));
    cr_assert_str_eq(fault_message(f), message);
    fault_free(f);
}

Test(checker, the_second_item_can_be_wrong)
{
    add("9");
    expect_unsorted(
        "5", "item 2 \"5\" sorts before item 1 \"9\" (sort it with LC_ALL=C sort -s -n, or load it with --sort)");
    cr_assert_eq(checker_so_far(checker)->items, 1);
}

Test(checker, equal_keys_are_in_order_and_ties_are_looked_into)
{
    add("1");
    add("01");
    add("1.0");
    add("1.00000000000000000000000000000000000001");
    expect_unsorted(
        "1.00000000000000000000000000000000000000",
        "item 5 \"1.00000000000000000000000000000000000000\" sorts before item 4 "
        "\"1.00000000000000000000000000000000000001\" (sort it with LC_ALL=C sort -s -n, or load it with --sort)");
}

Test(checker, totals)
{
    add("1");
    add("22");
    add("333");
    const struct totals *t = checker_totals(checker);
    cr_assert_eq(t->items, 3);
    cr_assert_eq(t->bytes, 6);
    cr_assert_eq(t->max_item, 3);
    cr_assert_eq(t->max_window, 6);
    cr_assert(t->first.len == 1 && *t->first.data == '1');
    cr_assert(t->last.len == 3 && *t->last.data == '3');
    struct digest expected = {0};
    digest_add_item(&expected, "333", 3);
    digest_add_item(&expected, "1", 1);
    digest_add_item(&expected, "22", 2);
    cr_assert(digest_equal(&t->digest, &expected));
    cr_assert(checker_is_first(checker, text("1")));
    cr_assert_not(checker_is_first(checker, text("2")));
    cr_assert(checker_is_last(checker, text("333")));
    cr_assert_not(checker_is_last(checker, text("334")));
    cr_assert_not(checker_is_last(checker, text("3333")));
}

Test(checker, nothing_adds_up_to_nothing)
{
    const struct totals *t = checker_totals(checker);
    cr_assert_eq(t->items, 0);
    cr_assert_eq(t->bytes, 0);
    cr_assert_eq(t->last.len, 0);
}

Test(checker, long_edges_are_cut)
{
    static char zeros[300];
    memset(zeros, '0', sizeof zeros);
    struct fault *f = checker_add(checker, (struct bytes){zeros, sizeof zeros});
    cr_assert(f == NULL);
    const struct totals *t = checker_totals(checker);
    cr_assert_eq(t->first.len, DATASET_EDGE_MAX);
    cr_assert_eq(t->last.len, DATASET_EDGE_MAX);
    cr_assert(checker_is_last(checker, (struct bytes){zeros, sizeof zeros}));
    cr_assert_not(checker_is_last(checker, (struct bytes){zeros, 256}));
}

/* 100 items of 1 byte, 256 of 3, 300 of 1: the heaviest 256 neighbours are those of 3. */
Test(checker, the_window_slides)
{
    for (int i = 0; i < 100; i++) add("0");
    for (int i = 0; i < DATASET_WINDOW; i++) add("001");
    for (int i = 0; i < 300; i++) add("2");
    cr_assert_eq(checker_totals(checker)->max_window, 3 * DATASET_WINDOW);
    cr_assert_eq(checker_totals(checker)->items, 656);
}
