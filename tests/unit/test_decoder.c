/* The decoder of data connections: whatever pieces a reply arrives in, and whatever a peer sends instead of one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merger/decoder.h"
#include "shared/mem.h"
#include "shared/redis_compat.h"

#define TEXT(literal) (literal), sizeof(literal) - 1

static struct decoder *decoder;

static void setup(void) { decoder = decoder_new('\n'); }
static void teardown(void) { decoder_free(decoder); }

TestSuite(decoder, .init = setup, .fini = teardown, .timeout = 60);

static void expect(uint32_t want, uint64_t max_item)
{
    decoder_expect(decoder, &(struct expectation){.want = want, .max_item = max_item});
}

/* The bytes `from` to `to` of a text, from a block of exactly that size, so that reading beyond it is seen. A reply must take all. */
static void *feed_part(const char *text, size_t from, size_t to)
{
    if (from == to) return NULL;
    char *block = mem_alloc(to - from);
    memcpy(block, text + from, to - from);
    void *reply = NULL;
    size_t taken = decoder_feed(decoder, block, to - from, &reply);
    cr_assert_null(decoder_refusal(decoder), "%s", decoder_refusal(decoder));
    cr_assert_eq(taken, to - from);
    free(block);
    return reply;
}

static struct batch *get_batch(const char *text, size_t len, uint32_t want)
{
    expect(want, 0);
    void *reply = feed_part(text, 0, len);
    cr_assert_not_null(reply);
    cr_assert(decoded_is_batch(reply));
    return reply;
}

static void expect_item(const struct batch *b, uint32_t i, const char *item, size_t len)
{
    size_t got;
    const char *data = batch_item(b, i, &got);
    cr_assert_eq(got, len, "item %u has %zu bytes instead of %zu", (unsigned)i, got, len);
    cr_assert_eq(memcmp(data, item, len), 0, "item %u differs", (unsigned)i);
    cr_assert_eq(data[len], '\n', "no separator behind item %u", (unsigned)i);
}

Test(decoder, items_stand_in_one_block)
{
    struct batch *b = get_batch(TEXT("*3\r\n$5\r\napple\r\n$4\r\npear\r\n$4\r\nplum\r\n"), 3);
    cr_assert_eq(b->count, 3);
    cr_assert_eq(b->used, 16);
    cr_assert_eq(memcmp(b->bytes, "apple\npear\nplum\n", 16), 0);
    cr_assert_eq(b->ends[0], 6);
    cr_assert_eq(b->ends[1], 11);
    cr_assert_eq(b->ends[2], 16);
    cr_assert_eq(batch_start(b, 0), 0);
    cr_assert_eq(batch_start(b, 3), 16);
    decoded_free(b);
}

Test(decoder, fewer_than_asked_for_and_none)
{
    struct batch *b = get_batch(TEXT("*1\r\n$1\r\nx\r\n"), 100);
    cr_assert_eq(b->count, 1);
    cr_assert_eq(b->want, 100);
    decoded_free(b);
    b = get_batch(TEXT("*0\r\n"), 100);
    cr_assert_eq(b->count, 0);
    cr_assert_eq(b->used, 0);
    decoded_free(b);
    decoded_free(get_batch(TEXT("*0\r\n"), 0));
}

/* ---- pieces */

/* A reply with items of many sizes, of the bytes that protocol is made of too. */
static struct buf mixed_reply(struct buf *items)
{
    static const char some[] = "$5\r\nhello\r\n*3\r\n:1\r\n+OK\r\n-ERR\r\n\0\n\r\xff 0123456789 the quick brown fox";
    struct buf text = {0};
    buf_printf(&text, "*40\r\n");
    for (size_t i = 0; i < 40; i++) {
        size_t len = i == 39 ? 0 : i % 7 == 0 ? sizeof some - 1 : i % 5;
        buf_printf(&text, "$%zu\r\n", len);
        buf_append(&text, some + (i % 3) * (len < 5), len);
        buf_append(&text, "\r\n", 2);
        buf_append(items, some + (i % 3) * (len < 5), len);
        buf_append(items, "\n", 1);
    }
    return text;
}

static void expect_mixed(void *reply, const struct buf *items)
{
    cr_assert_not_null(reply);
    cr_assert(decoded_is_batch(reply));
    const struct batch *b = reply;
    cr_assert_eq(b->count, 40);
    cr_assert_eq(b->used, items->len);
    cr_assert_eq(memcmp(b->bytes, items->data, items->len), 0);
    decoded_free(reply);
}

Test(decoder, cut_at_every_byte)
{
    struct buf items = {0}, text = mixed_reply(&items);
    expect(40, 0);
    for (size_t cut = 0; cut < text.len; cut++) {
        cr_assert_null(feed_part(text.data, 0, cut), "cut at %zu", cut);
        expect_mixed(feed_part(text.data, cut, text.len), &items);
    }
    buf_free(&text);
    buf_free(&items);
}

Test(decoder, in_pieces_of_any_size)
{
    struct buf items = {0}, text = mixed_reply(&items);
    for (size_t piece = 1; piece < 120; piece++) {
        decoder_expect(decoder,
                       &(struct expectation){.want = 40, .bytes_hint = piece * 11, .memory_most = piece % 3 * 500});
        void *reply = NULL;
        for (size_t at = 0; at < text.len; at += piece) {
            cr_assert_null(reply, "whole after %zu bytes of %zu", at, text.len);
            reply = feed_part(text.data, at, at + piece < text.len ? at + piece : text.len);
        }
        expect_mixed(reply, &items);
    }
    buf_free(&text);
    buf_free(&items);
}

/* Replies that arrive together come one at a time, each taking no more than its own bytes. */
Test(decoder, takes_one_reply_at_a_time)
{
    static const char text[] = "*1\r\n$1\r\na\r\n*0\r\n-ERR no\r\n*2\r\n$0\r\n\r\n$3\r\nb\r\n\r\n+OK\r\n";
    static const size_t lens[] = {11, 4, 9, 19, 5};
    expect(2, 0);
    const char *p = text;
    for (size_t i = 0; i < 5; i++) {
        void *reply = NULL;
        size_t taken = decoder_feed(decoder, p, sizeof text - 1 - (size_t)(p - text), &reply);
        cr_assert_not_null(reply);
        cr_assert_eq(taken, lens[i], "reply %zu took %zu bytes", i, taken);
        cr_assert_eq(decoded_is_batch(reply), i % 2 == 1 || i == 0 ? i != 2 : false);
        p += taken;
        decoded_free(reply);
    }
}

/* ---- sizes */

/* Items of 0 bytes, 1 MB and 32 KB, whatever was expected; never more memory than allowed, if that is enough. */
Test(decoder, all_sizes_with_any_hint)
{
    static const size_t lens[] = {0, 1000000, 1, 32768, 0};
    static const size_t hints[] = {0, 1, 1000000, 1032769, 5000000};
    struct buf text = {0}, big = {0};
    memset(buf_reserve(&big, 1000000), 'b', 1000000);
    buf_printf(&text, "*5\r\n");
    for (int i = 0; i < 5; i++) {
        buf_printf(&text, "$%zu\r\n", lens[i]);
        buf_append(&text, big.data, lens[i]);
        buf_append(&text, "\r\n", 2);
    }
    size_t enough = sizeof(struct batch) + 5 * sizeof(uint32_t) + 1032769 + 5;
    const size_t mosts[] = {0, 100, enough};
    for (int h = 0; h < 15; h++) {
        struct expectation e = {
            .want = 5, .max_item = 1000000, .bytes_hint = hints[h % 5], .memory_most = mosts[h / 5]};
        decoder_expect(decoder, &e);
        void *reply = NULL;
        for (size_t at = 0; at < text.len; at += 262144)
            reply = feed_part(text.data, at, at + 262144 < text.len ? at + 262144 : text.len);
        cr_assert_not_null(reply);
        struct batch *b = reply;
        for (uint32_t i = 0; i < 5; i++) expect_item(b, i, big.data, lens[i]);
        cr_assert_geq(batch_memory(b), b->used + 5 * sizeof(uint32_t));
        if (e.memory_most == enough) cr_assert_leq(batch_memory(b), enough, "with a hint of %zu", e.bytes_hint);
        decoded_free(b);
    }
    buf_free(&text);
    buf_free(&big);
}

/* Short items are copied 32 bytes at a time: nothing may be touched beyond the block or the input. */
Test(decoder, short_items_in_a_block_that_just_fits)
{
    for (size_t len = 0; len <= 70; len++) {
        struct buf text = {0};
        buf_printf(&text, "*9\r\n");
        for (int i = 0; i < 9; i++) buf_printf(&text, "$%zu\r\n%0*d\r\n", len, (int)len, 0);
        if (len == 0) {
            text.len = 0;
            buf_printf(&text, "*9\r\n");
            for (int i = 0; i < 9; i++) buf_printf(&text, "$0\r\n\r\n");
        }
        decoder_expect(decoder, &(struct expectation){.want = 9, .max_item = len, .bytes_hint = 9 * len});
        void *reply = feed_part(text.data, 0, text.len);
        cr_assert_not_null(reply);
        const struct batch *b = reply;
        cr_assert_eq(b->used, 9 * (len + 1));
        for (size_t i = 0; i < b->used; i++) cr_assert_eq(b->bytes[i], i % (len + 1) == len ? '\n' : '0');
        decoded_free(reply);
        buf_free(&text);
    }
}

Test(decoder, nul_is_a_separator_too)
{
    decoder_free(decoder);
    decoder = decoder_new('\0');
    struct batch *b = get_batch(TEXT("*2\r\n$2\r\na\n\r\n$1\r\nb\r\n"), 2);
    cr_assert_eq(memcmp(b->bytes, "a\n\0b\0", 5), 0);
    decoded_free(b);
}

/* ---- what is refused */

/* In one piece, and in pieces of one and of three bytes. `why` is within the refusal; *too_large as it should be. */
static void expect_refused(const char *text, size_t len, uint32_t want, uint64_t max_item, const char *why)
{
    const size_t steps[] = {len, 1, 3};
    for (size_t s = 0; s < 3; s++) {
        struct decoder *d = decoder_new('\n');
        decoder_expect(d, &(struct expectation){.want = want, .max_item = max_item, .bytes_hint = 100});
        void *reply = NULL;
        for (size_t at = 0; at < len && !decoder_refusal(d); at += steps[s]) {
            size_t piece = at + steps[s] < len ? steps[s] : len - at, taken;
            for (size_t i = 0; i < piece && !decoder_refusal(d); i += taken) {
                taken = decoder_feed(d, text + at + i, piece - i, &reply);
                cr_assert_null(reply, "%s was taken", text);
                cr_assert(taken > 0 && taken <= piece - i);
            }
        }
        cr_assert_not_null(decoder_refusal(d), "%s was not refused", text);
        cr_assert_not_null(strstr(decoder_refusal(d), why), "%s: %s", text, decoder_refusal(d));
        cr_assert_eq(decoder_item_too_large(d), strcmp(why, "larger than any should be") == 0);
        decoder_free(d);
    }
}

#define REFUSED(text, want, why) expect_refused(TEXT(text), (want), 0, (why))

Test(decoder, refuses_more_than_was_asked_for)
{
    REFUSED("*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", 2, "more elements");
    REFUSED("*1\r\n$1\r\na\r\n", 0, "more elements");
    REFUSED("*2147483647\r\n$1\r\na\r\n", 1000, "more elements");
    REFUSED("*4294967298\r\n", 1000, "more elements");
}

Test(decoder, refuses_elements_that_are_no_strings)
{
    REFUSED("*2\r\n$1\r\na\r\n:5\r\n", 2, "not a string");
    REFUSED("*2\r\n:5\r\n$1\r\na\r\n", 2, "not a string");
    REFUSED("*2\r\n$1\r\na\r\n+OK\r\n", 2, "not a string");
    REFUSED("*2\r\n-ERR oh\r\n$1\r\na\r\n", 2, "not a string");
    REFUSED("*2\r\n$1\r\na\r\n$-1\r\n", 2, "no number");
    REFUSED("*1\r\n_\r\n", 2, "not a string");
    REFUSED("*1\r\n\r\n", 2, "not a string");
}

Test(decoder, refuses_nested_arrays)
{
    REFUSED("*1\r\n*1\r\n$1\r\na\r\n", 1, "not a string");
    REFUSED("*2\r\n$1\r\na\r\n*0\r\n", 2, "not a string");
}

Test(decoder, refuses_items_above_the_largest)
{
    expect_refused(TEXT("*2\r\n$3\r\nabc\r\n$4\r\nabcd\r\n                              "), 2, 3,
                   "larger than any should be");
    expect_refused(TEXT("*2\r\n$1000000000\r\n"), 2, 10, "larger than any should be");
    expect_refused(TEXT("*2\r\n$536870913\r\n"), 2, 0, "larger than any should be");
    decoder_expect(decoder, &(struct expectation){.want = 1, .max_item = 3});
    decoded_free(feed_part("*1\r\n$3\r\nabc\r\n", 0, 13));
}

Test(decoder, refuses_what_is_not_the_protocol)
{
    REFUSED("hello\r\n", 2, "neither");
    REFUSED("$5\r\nhello\r\n", 2, "neither");
    REFUSED("$-1\r\n", 2, "neither");
    REFUSED("\r\n", 2, "neither");
    REFUSED("%1\r\n", 2, "neither");
    REFUSED("*\r\n", 2, "no number");
    REFUSED("*-1\r\n", 2, "no number");
    REFUSED("*-5\r\n", 2, "no number");
    REFUSED("*+1\r\n", 2, "no number");
    REFUSED("*1x\r\n", 2, "no number");
    REFUSED("*99999999999999999999\r\n", 2, "no number");
    REFUSED("*2\r\n$\r\n                            ", 2, "no number");
    REFUSED("*2\r\n$-7\r\n", 2, "no number");
    REFUSED("*2\r\n$1x\r\nab\r\n                           ", 2, "no number");
    REFUSED("*2\r\n$00000000001\r\na\r\n                   ", 2, "no number");
    REFUSED("*1\r\n$9999999999999999999999999999\r\n", 2, "longer than any may be");
    REFUSED("*2\n$1\r\na\r\n", 2, "end as it should");
    REFUSED("*1\r\n$1\na\r\n                              ", 2, "end as it should");
    REFUSED("*1\r\n$3\r\nabcd\r\n                         ", 2, "end where it should");
    REFUSED("*1\r\n$3\r\nabc\rx                           ", 2, "end where it should");
    REFUSED("*1\r\n$3\r\nabc\n\r                          ", 2, "end where it should");
}

Test(decoder, refuses_lines_without_end)
{
    struct buf text = {0};
    buf_printf(&text, "-ERR ");
    memset(buf_reserve(&text, 20000), 'x', 20000);
    text.len += 20000;
    expect_refused(text.data, text.len, 1, 0, "longer than any may be");
    buf_free(&text);
}

Test(decoder, a_refusal_is_final)
{
    void *reply = NULL;
    expect(2, 0);
    decoder_feed(decoder, TEXT("hello\r\n"), &reply);
    const char *why = decoder_refusal(decoder);
    cr_assert_not_null(why);
    cr_assert_eq(decoder_feed(decoder, TEXT("*0\r\n"), &reply), 0);
    cr_assert_null(reply);
    cr_assert_eq(decoder_refusal(decoder), why);
}

/* ---- lines */

Test(decoder, lines_come_as_they_are)
{
    static const struct {
        const char *line, *text;
        int type;
    } lines[] = {
        {"-WRONGTYPE no\r\n", "WRONGTYPE no", REDIS_REPLY_ERROR},
        {"+OK\r\n", "OK", REDIS_REPLY_STATUS},
        {"+\r\n", "", REDIS_REPLY_STATUS},
        {":12\r\n", "12", REDIS_REPLY_INTEGER},
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        for (size_t cut = 0; cut < strlen(lines[i].line); cut++) {
            expect(5, 0);
            cr_assert_null(feed_part(lines[i].line, 0, cut));
            redisReply *reply = feed_part(lines[i].line, cut, strlen(lines[i].line));
            cr_assert_not_null(reply);
            cr_assert_not(decoded_is_batch(reply));
            cr_assert_eq(reply->type, lines[i].type);
            cr_assert_str_eq(reply->str, lines[i].text);
            cr_assert_eq(reply->len, strlen(lines[i].text));
            decoded_free(reply);
        }
}

/* ---- ends */

Test(decoder, freed_while_half_here)
{
    static const char text[] = "*1000\r\n$1\r\na\r\n$500\r\nab";
    for (size_t cut = 0; cut < sizeof text; cut++) {
        decoder_expect(decoder, &(struct expectation){.want = 1000, .bytes_hint = 1 << 20});
        feed_part(text, 0, cut);
        decoder_free(decoder);
        decoder = decoder_new('\n');
    }
    decoder_free(NULL);
    decoded_free(NULL);
}
