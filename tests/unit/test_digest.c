/* The digest: what it is made of, and that only the multiset of items counts. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "shared/digest.h"

static void assert_text(const struct digest *d, const char *expected)
{
    char text[DIGEST_TEXT];
    digest_text(d, text);
    cr_assert_str_eq(text, expected);
}

/* Written out, so that it shows if another algorithm, seed or byte order ever comes out. */
Test(digest, one_item_is_its_xxh3_128)
{
    static const struct {
        const char *item, *hash;
    } rows[] = {
        {"", "99aa06d3014798d86001c324468d497f"},
        {"a", "a96faf705af16834e6c632b61e964e1f"},
        {"123456789012", "c2ab91c25c47fe3c48e0245e0a01832d"},
        {"The quick brown fox jumps over the lazy dog", "ddd650205ca3e7fa24a1cc2e3a8a7651"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct digest d = {0};
        digest_add_item(&d, rows[i].item, strlen(rows[i].item));
        assert_text(&d, rows[i].hash);
    }
}

/* Against the library as it is linked, which is another translation of the algorithm than the one compiled in. */
Test(digest, items_of_every_length_agree_with_the_library)
{
    static char item[5000];
    for (size_t i = 0; i < sizeof item; i++) item[i] = (char)(i * 2654435761u >> 13);
    for (size_t len = 0; len <= sizeof item; len += len < 600 ? 1 : 97) {
        struct digest d = {0};
        digest_add_item(&d, item, len);
        XXH128_hash_t hash = XXH3_128bits(item, len);
        cr_assert_eq(d.high, hash.high64, "length %zu", len);
        cr_assert_eq(d.low, hash.low64, "length %zu", len);
    }
}

Test(digest, neither_order_nor_batches_count)
{
    static const char *const items[] = {"-3", "0", "", "7", "7", "999999999999", "x\n"};
    enum { N = sizeof items / sizeof *items };
    struct digest forward = {0}, backward = {0}, parts[2] = {{0, 0}, {0, 0}};
    for (size_t i = 0; i < N; i++) {
        digest_add_item(&forward, items[i], strlen(items[i]));
        digest_add_item(&backward, items[N - 1 - i], strlen(items[N - 1 - i]));
        digest_add_item(&parts[i % 2], items[i], strlen(items[i]));
    }
    digest_add(&parts[0], &parts[1]);
    cr_assert(digest_equal(&forward, &backward));
    cr_assert(digest_equal(&forward, &parts[0]));
}

Test(digest, a_missing_doubled_or_changed_item_shows)
{
    struct digest right = {0}, missing = {0}, doubled = {0}, changed = {0};
    digest_add_item(&right, "1", 1), digest_add_item(&right, "2", 1);
    digest_add_item(&missing, "1", 1);
    digest_add_item(&doubled, "1", 1), digest_add_item(&doubled, "2", 1), digest_add_item(&doubled, "2", 1);
    digest_add_item(&changed, "1", 1), digest_add_item(&changed, "3", 1);
    cr_assert_not(digest_equal(&right, &missing));
    cr_assert_not(digest_equal(&right, &doubled));
    cr_assert_not(digest_equal(&right, &changed));
    cr_assert_not(digest_equal(&(struct digest){.high = 1, .low = 2}, &(struct digest){.high = 1, .low = 3}));
    cr_assert_not(digest_equal(&(struct digest){.high = 1, .low = 2}, &(struct digest){.high = 2, .low = 2}));
}

Test(digest, the_sum_carries_and_wraps)
{
    struct digest d = {.high = 5, .low = UINT64_MAX};
    digest_add(&d, &(struct digest){.high = 0, .low = 1});
    assert_text(&d, "00000000000000060000000000000000");
    d = (struct digest){.high = UINT64_MAX, .low = UINT64_MAX};
    digest_add(&d, &(struct digest){.high = 0, .low = 2});
    assert_text(&d, "00000000000000000000000000000001");
    d = (struct digest){.high = 1, .low = 1ull << 63};
    digest_add(&d, &d);
    assert_text(&d, "00000000000000030000000000000000");
}

Test(digest, text_is_big_endian_and_comes_back)
{
    struct digest d = {.high = 0x0123456789abcdef, .low = 0xfedcba9876543210}, back;
    assert_text(&d, "0123456789abcdeffedcba9876543210");
    cr_assert(digest_parse("0123456789abcdeffedcba9876543210", &back));
    cr_assert(digest_equal(&d, &back));
}

Test(digest, what_is_no_digest_is_refused)
{
    static const char *const bad[] = {
        "",
        "0",
        "0123456789abcdeffedcba987654321",
        "0123456789abcdeffedcba98765432100",
        "0123456789ABCDEFfedcba9876543210",
        "0123456789abcdeffedcba987654321g",
        " 123456789abcdeffedcba9876543210",
        "0x23456789abcdeffedcba9876543210",
        "0123456789abcdeffedcba987654321\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct digest d;
        cr_assert_not(digest_parse(bad[i], &d), "%s", bad[i]);
    }
}

Test(digest, subtract_undoes_add)
{
    struct digest a = {0, 0}, b = {0, 0}, sum = {0, 0};
    digest_add_item(&a, "a", 1);
    digest_add_item(&b, "b", 1);
    for (int i = 0; i < 100; i++) { /* carries and borrows */
        digest_add(&sum, &a);
        digest_add(&sum, &b);
    }
    for (int i = 0; i < 100; i++) digest_subtract(&sum, &a);
    for (int i = 0; i < 99; i++) digest_subtract(&sum, &b);
    cr_assert(digest_equal(&sum, &b));
}

Test(digest, bytes_in_pieces)
{
    char bytes[5000];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 7);
    struct byte_digest *d = byte_digest_new();
    for (size_t at = 0, len; at < sizeof bytes; at += len) {
        len = at % 700 + 1 < sizeof bytes - at ? at % 700 + 1 : sizeof bytes - at;
        byte_digest_add(d, bytes + at, len);
        struct digest whole = {0, 0}, now = byte_digest_value(d);
        digest_add_item(&whole, bytes, at + len);
        cr_assert(digest_equal(&whole, &now), "%zu bytes", at + len);
    }
    byte_digest_free(d);
    byte_digest_free(NULL);
}
