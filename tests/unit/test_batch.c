/* The block of a batch: filling it, and the search for separators within items. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "merger/batch.h"
#include "shared/mem.h"

TestSuite(batch, .timeout = 60);

static void add(struct batch *b, const char *item, size_t len)
{
    cr_assert(batch_begin_item(b, len));
    batch_add_bytes(b, item, len / 2);
    batch_add_bytes(b, item + len / 2, len - len / 2);
    batch_end_item(b, '\n');
}

Test(batch, grows_beyond_its_hint)
{
    char item[1000];
    for (size_t hint = 0; hint < 300000; hint = hint * 7 + 100) {
        struct batch *b = batch_new(300, 200, hint, 0);
        cr_assert_eq(b->type, BATCH_TYPE);
        cr_assert_eq(b->want, 300);
        for (uint32_t i = 0; i < 200; i++) {
            memset(item, (int)(i % 200 + 20), sizeof item);
            add(b, item, i * 5);
        }
        cr_assert_eq(b->count, 200);
        for (uint32_t i = 0; i < 200; i++) {
            size_t len;
            const char *got = batch_item(b, i, &len);
            memset(item, (int)(i % 200 + 20), sizeof item);
            cr_assert_eq(len, i * 5);
            cr_assert_eq(memcmp(got, item, len), 0);
            cr_assert_eq(got[len], '\n');
        }
        cr_assert_geq(batch_memory(b), b->used + 200 * sizeof(uint32_t));
        batch_free(b);
    }
    batch_free(NULL);
}

/* An item that would take the block over 4 GB is refused before its memory is asked for. */
Test(batch, over_4_gb_is_refused)
{
    struct batch *b = batch_new(2, 2, 0, 0);
    add(b, "abc", 3);
    cr_assert_not(batch_begin_item(b, UINT32_MAX - 4));
    add(b, "def", 3);
    cr_assert_eq(b->used, 8);
    batch_free(b);
}

/* ---- separators within items */

static struct batch *numbered(uint32_t n, uint32_t bad, const char *item)
{
    struct batch *b = batch_new(n, n, 0, 0);
    for (uint32_t i = 0; i < n; i++) {
        const char *it = i == bad ? item : "0123456789abcdef";
        add(b, it, strlen(it));
    }
    return b;
}

/* The block is looked through in words, and in pieces of 255 of them: the bad item stands in each, and on their borders. */
Test(batch, finds_a_separator_anywhere)
{
    enum { ITEMS = 800 };
    for (uint32_t bad = 0; bad < ITEMS; bad += bad % 241 == 240 ? 1 : 7) {
        uint32_t at = ITEMS;
        struct batch *b = numbered(ITEMS, bad, "\n");
        cr_assert(batch_holds_separator(b, '\n', &at));
        cr_assert_eq(at, bad);
        batch_free(b);
    }
    struct batch *b = numbered(ITEMS, ITEMS, "");
    uint32_t at = 7;
    cr_assert_not(batch_holds_separator(b, '\n', &at));
    cr_assert_eq(at, 7);
    batch_free(b);
}

Test(batch, finds_separators_at_both_ends_of_an_item)
{
    static const char *const items[] = {"\nabc", "abc\n", "a\nb\nc", "\n\n\n"};
    for (int i = 0; i < 4; i++) {
        uint32_t at = 0;
        struct batch *b = numbered(3, 2, items[i]);
        cr_assert(batch_holds_separator(b, '\n', &at));
        cr_assert_eq(at, 2);
        batch_free(b);
    }
}

/* Thousands of separators in one piece, and all other bytes, which must not look like one. */
Test(batch, counts_rightly_whatever_the_bytes)
{
    char item[20000];
    memset(item, '\n', sizeof item);
    struct batch *b = batch_new(2, 2, 0, 0);
    uint32_t at = 9;
    add(b, "", 0);
    add(b, item, sizeof item);
    cr_assert(batch_holds_separator(b, '\n', &at));
    cr_assert_eq(at, 1);
    batch_free(b);
    for (int c = 0; c < 256; c++) {
        if (c == '\n') continue;
        memset(item, c, sizeof item);
        b = batch_new(2, 2, 0, 0);
        add(b, item, sizeof item - (size_t)c % 9);
        add(b, item, 3);
        cr_assert_not(batch_holds_separator(b, '\n', &at), "byte %d looks like a newline", c);
        batch_free(b);
    }
    b = batch_new(2, 1, 0, 0);
    cr_assert_not(batch_holds_separator(b, '\n', &at));
    batch_free(b);
}
