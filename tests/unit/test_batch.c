/* The batch decoder: whatever pieces a reply arrives in, and whatever a peer sends instead of one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merger/batch.h"
#include "shared/mem.h"

static redisReader *reader;
static struct decoder *decoder;

static void setup(void)
{
    reader = redisReaderCreate();
    decoder = decoder_new(reader, '\n');
}

static void teardown(void)
{
    redisReaderFree(reader);
    decoder_free(decoder);
}

TestSuite(batch, .init = setup, .fini = teardown, .timeout = 60);

static void feed(const char *data, size_t len) { cr_assert_eq(redisReaderFeed(reader, data, len), REDIS_OK); }

/* The one reply that must be there. */
static void *get(void)
{
    void *reply = NULL;
    cr_assert_eq(redisReaderGetReply(reader, &reply), REDIS_OK, "%s", reader->errstr);
    cr_assert_not_null(reply);
    return reply;
}

static struct batch *get_batch(const char *text, size_t len, uint32_t want)
{
    decoder_expect_batch(decoder, want, 0, 0);
    feed(text, len);
    void *reply = get();
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

#define TEXT(literal) (literal), sizeof(literal) - 1

Test(batch, items_stand_in_one_block)
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

Test(batch, fewer_than_asked_for_and_none)
{
    struct batch *b = get_batch(TEXT("*1\r\n$1\r\nx\r\n"), 100);
    cr_assert_eq(b->count, 1);
    cr_assert_eq(b->want, 100);
    decoded_free(b);
    b = get_batch(TEXT("*0\r\n"), 100);
    cr_assert_eq(b->count, 0);
    cr_assert_eq(b->used, 0);
    uint32_t at;
    cr_assert_not(batch_holds_separator(b, '\n', &at));
    decoded_free(b);
}

/* Two batches and a generic reply, cut in two at every byte. */
Test(batch, cut_at_every_byte)
{
    static const char text[] = "*3\r\n$0\r\n\r\n$3\r\na\r\n\r\n$12\r\n$5\r\nhello\r\n\0\r\n*1\r\n$1\r\nz\r\n:77\r\n";
    size_t len = sizeof text - 1;
    for (size_t cut = 0; cut <= len; cut++) {
        void *reply[3];
        size_t n = 0;
        for (int half = 0; half < 2; half++) {
            feed(half ? text + cut : text, half ? len - cut : cut);
            for (;;) {
                if (n == 2) decoder_expect_reply(decoder, 0);
                if (n < 2) decoder_expect_batch(decoder, n == 0 ? 3 : 1, n == 0 ? 7 : 0, 0);
                void *got = NULL;
                cr_assert_eq(redisReaderGetReply(reader, &got), REDIS_OK);
                if (!got) break;
                cr_assert_lt(n, 3);
                reply[n++] = got;
            }
        }
        cr_assert_eq(n, 3, "cut at %zu", cut);
        cr_assert(decoded_is_batch(reply[0]) && decoded_is_batch(reply[1]) && !decoded_is_batch(reply[2]));
        const struct batch *b = reply[0];
        cr_assert_eq(b->count, 3);
        expect_item(b, 0, "", 0);
        expect_item(b, 1, "a\r\n", 3);
        expect_item(b, 2, TEXT("$5\r\nhello\r\n\0"));
        expect_item(reply[1], 0, "z", 1);
        cr_assert_eq(((redisReply *)reply[2])->integer, 77);
        for (int i = 0; i < 3; i++) decoded_free(reply[i]);
    }
}

Test(batch, byte_by_byte)
{
    static const char text[] = "*2\r\n$3\r\none\r\n$3\r\ntwo\r\n";
    decoder_expect_batch(decoder, 2, 0, 0);
    void *reply = NULL;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        cr_assert_null(reply);
        feed(text + i, 1);
        cr_assert_eq(redisReaderGetReply(reader, &reply), REDIS_OK);
    }
    cr_assert_not_null(reply);
    expect_item(reply, 1, "two", 3);
    decoded_free(reply);
}

/* Items of 0 bytes, 1 MB and 32 KB, whatever was expected. */
Test(batch, all_sizes_with_any_hint)
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
    for (int h = 0; h < 5; h++) {
        decoder_expect_batch(decoder, 5, hints[h], 0);
        feed(text.data, text.len);
        struct batch *b = get();
        for (uint32_t i = 0; i < 5; i++) expect_item(b, i, big.data, lens[i]);
        cr_assert_geq(batch_memory(b), b->used + 5 * sizeof(uint32_t));
        decoded_free(b);
        /* Never more memory than allowed, if it is enough, however the block grew. */
        size_t most = sizeof(struct batch) + 5 * sizeof(uint32_t) + 1032769 + 5;
        decoder_expect_batch(decoder, 5, hints[h], most);
        feed(text.data, text.len);
        b = get();
        cr_assert_leq(batch_memory(b), most);
        expect_item(b, 3, big.data, lens[3]);
        decoded_free(b);
        decoder_expect_batch(decoder, 5, hints[h], 100);
        feed(text.data, text.len);
        b = get();
        expect_item(b, 3, big.data, lens[3]);
        decoded_free(b);
    }
    buf_free(&text);
    buf_free(&big);
}

Test(batch, nul_is_a_separator_too)
{
    redisReader *other = redisReaderCreate();
    struct decoder *d = decoder_new(other, '\0');
    decoder_expect_batch(d, 2, 0, 0);
    redisReaderFeed(other, TEXT("*2\r\n$2\r\na\n\r\n$1\r\nb\r\n"));
    void *reply = NULL;
    redisReaderGetReply(other, &reply);
    const struct batch *b = reply;
    cr_assert_eq(memcmp(b->bytes, "a\n\0b\0", 5), 0);
    uint32_t at;
    cr_assert_not(batch_holds_separator(b, '\0', &at));
    decoded_free(reply);
    redisReaderFree(other);
    decoder_free(d);
}

/* ---- separators within items */

static struct batch *numbered(uint32_t n, uint32_t bad, const char *item)
{
    struct buf text = {0};
    buf_printf(&text, "*%u\r\n", (unsigned)n);
    for (uint32_t i = 0; i < n; i++) {
        const char *it = i == bad ? item : "0123456789abcdef";
        buf_printf(&text, "$%zu\r\n%s\r\n", strlen(it), it);
    }
    struct batch *b = get_batch(text.data, text.len, n);
    buf_free(&text);
    return b;
}

/* The block is looked through in pieces of 4096 bytes: the bad item stands in each of several pieces, and on their borders. */
Test(batch, finds_a_separator_anywhere)
{
    enum { ITEMS = 800 };
    for (uint32_t bad = 0; bad < ITEMS; bad += bad % 241 == 240 ? 1 : 7) {
        uint32_t at = ITEMS;
        struct batch *b = numbered(ITEMS, bad, "\n");
        cr_assert(batch_holds_separator(b, '\n', &at));
        cr_assert_eq(at, bad);
        decoded_free(b);
    }
    struct batch *b = numbered(ITEMS, ITEMS, "");
    uint32_t at = 7;
    cr_assert_not(batch_holds_separator(b, '\n', &at));
    cr_assert_eq(at, 7);
    decoded_free(b);
}

Test(batch, finds_separators_at_both_ends_of_an_item)
{
    static const char *const items[] = {"\nabc", "abc\n", "a\nb\nc", "\n\n\n"};
    for (int i = 0; i < 4; i++) {
        uint32_t at = 0;
        struct batch *b = numbered(3, 2, items[i]);
        cr_assert(batch_holds_separator(b, '\n', &at));
        cr_assert_eq(at, 2);
        decoded_free(b);
    }
}

/* ---- what is refused */

/* The reply as a whole, and byte by byte on a second reader. `why` is within the refusal. */
static void expect_refused(const char *text, size_t len, uint32_t want, const char *why)
{
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        redisReader *r = redisReaderCreate();
        struct decoder *d = decoder_new(r, '\n');
        decoder_expect_batch(d, want, 100, 0);
        void *reply = NULL;
        int worked = REDIS_OK;
        size_t step = by_bytes ? 1 : len;
        for (size_t i = 0; i < len && worked == REDIS_OK && !reply; i += step) {
            redisReaderFeed(r, text + i, step);
            worked = redisReaderGetReply(r, &reply);
        }
        cr_assert_eq(worked, REDIS_ERR, "%s was taken", text);
        cr_assert_null(reply);
        cr_assert_not_null(decoder_refusal(d), "%s", text);
        cr_assert_not_null(strstr(decoder_refusal(d), why), "%s: %s", text, decoder_refusal(d));
        redisReaderFree(r);
        decoder_free(d);
    }
}

Test(batch, refuses_more_than_was_asked_for)
{
    expect_refused(TEXT("*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"), 2, "more elements");
    expect_refused(TEXT("*1\r\n$1\r\na\r\n"), 0, "more elements");
    expect_refused(TEXT("*2147483647\r\n$1\r\na\r\n"), 1000, "more elements");
}

Test(batch, refuses_elements_that_are_no_strings)
{
    expect_refused(TEXT("*2\r\n$1\r\na\r\n:5\r\n"), 2, "a number");
    expect_refused(TEXT("*2\r\n:5\r\n$1\r\na\r\n"), 2, "a number");
    expect_refused(TEXT("*2\r\n$1\r\na\r\n$-1\r\n"), 2, "nil");
    expect_refused(TEXT("*2\r\n$1\r\na\r\n*-1\r\n"), 2, "nil");
    expect_refused(TEXT("*2\r\n$1\r\na\r\n+OK\r\n"), 2, "not a string");
    expect_refused(TEXT("*2\r\n-ERR oh\r\n$1\r\na\r\n"), 2, "not a string");
}

Test(batch, refuses_nested_arrays)
{
    expect_refused(TEXT("*1\r\n*1\r\n$1\r\na\r\n"), 1, "an array");
    expect_refused(TEXT("*2\r\n$1\r\na\r\n*0\r\n"), 2, "an array");
    expect_refused(TEXT("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"), 1, "an array");
}

static void expect_error(const char *text, size_t len, uint32_t want)
{
    redisReader *r = redisReaderCreate();
    struct decoder *d = decoder_new(r, '\n');
    decoder_expect_batch(d, want, 0, 0);
    redisReaderFeed(r, text, len);
    void *reply = NULL;
    cr_assert_eq(redisReaderGetReply(r, &reply), REDIS_ERR, "%s was taken", text);
    cr_assert_null(reply);
    redisReaderFree(r);
    decoder_free(d);
}

/* What hiredis refuses by itself leaves nothing behind either. */
Test(batch, garbage_is_an_error)
{
    expect_error(TEXT("hello\r\n"), 2);
    expect_error(TEXT("*2\r\n$1\r\na\r\nx\r\n"), 2);
    expect_error(TEXT("*-5\r\n"), 2);
    expect_error(TEXT("*99999999999999999999\r\n"), 2);
    expect_error(TEXT("*2\r\n$-7\r\n"), 2);
    expect_error(TEXT("*1\r\n$99999999999999999999\r\n"), 2);
}

/* ---- replies that are no batch where one was expected */

Test(batch, other_replies_come_as_they_are)
{
    static const struct {
        const char *text;
        int type;
    } replies[] = {
        {"-WRONGTYPE no\r\n", REDIS_REPLY_ERROR}, {"+OK\r\n", REDIS_REPLY_STATUS},    {":12\r\n", REDIS_REPLY_INTEGER},
        {"$-1\r\n", REDIS_REPLY_NIL},             {"$3\r\nabc\r\n", REDIS_REPLY_STRING}, {"*-1\r\n", REDIS_REPLY_NIL},
    };
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        decoder_expect_batch(decoder, 5, 0, 0);
        feed(replies[i].text, strlen(replies[i].text));
        redisReply *reply = get();
        cr_assert_not(decoded_is_batch(reply));
        cr_assert_eq(reply->type, replies[i].type);
        decoded_free(reply);
    }
    cr_assert_null(decoder_refusal(decoder));
}

Test(batch, generic_replies_are_bounded)
{
    decoder_expect_reply(decoder, 2);
    feed(TEXT("*2\r\n*1\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n"));
    redisReply *reply = get();
    cr_assert_eq(reply->elements, 2);
    cr_assert_eq(reply->element[0]->element[0]->integer, 1);
    cr_assert_str_eq(reply->element[1]->element[0]->str, "a");
    decoded_free(reply);

    decoder_expect_reply(decoder, 2);
    feed(TEXT("*2\r\n:1\r\n*3\r\n"));
    void *none = NULL;
    cr_assert_eq(redisReaderGetReply(reader, &none), REDIS_ERR);
    cr_assert_not_null(decoder_refusal(decoder));
}

Test(batch, freed_while_half_here)
{
    decoder_expect_batch(decoder, 1000, 1 << 20, 0);
    feed(TEXT("*1000\r\n$1\r\na\r\n$5\r\nab"));
    void *reply = NULL;
    cr_assert_eq(redisReaderGetReply(reader, &reply), REDIS_OK);
    cr_assert_null(reply);
}

Test(batch, null_is_free)
{
    decoded_free(NULL);
    batch_free(NULL);
}
