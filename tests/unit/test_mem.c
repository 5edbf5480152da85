/* Memory and the growing buffer. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/mem.h"

/* Runs out of memory in a child; returns its exit status and what it said. */
static int exhausted(void (*ask)(void), char *said, size_t room)
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        program_invocation_short_name = "nwm-test"; /* Criterion's children have another */
        dup2(fds[1], STDERR_FILENO);
        ask();
        _exit(0);
    }
    close(fds[1]);
    size_t len = 0;
    ssize_t n;
    while (len + 1 < room && (n = read(fds[0], said + len, room - 1 - len)) > 0) len += (size_t)n;
    said[len] = '\0';
    close(fds[0]);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void ask_overflow(void) { free(mem_array(NULL, SIZE_MAX / 2, 3)); }
static void ask_buffer_overflow(void)
{
    struct buf b = {0};
    buf_append(&b, "x", 1);
    buf_reserve(&b, SIZE_MAX);
}

Test(mem, product_overflow_is_out_of_memory)
{
    char said[256];
    cr_assert_eq(exhausted(ask_overflow, said, sizeof said), 2);
    cr_assert(strstr(said, ": out of memory: 18446744073709551615 bytes at tests/unit/test_mem.c:"), "%s", said);
}

Test(mem, a_buffer_never_wraps_around)
{
    char said[256];
    cr_assert_eq(exhausted(ask_buffer_overflow, said, sizeof said), 2);
    cr_assert(strstr(said, ": out of memory: "), "%s", said);
}

/* ASan has an opinion of its own about such sizes. */
#ifndef __SANITIZE_ADDRESS__
static void ask_alloc(void)
{
    volatile size_t size = SIZE_MAX / 4;
    char *p = mem_alloc(size);
    *(volatile char *)p = 1;
    free(p);
}

Test(mem, out_of_memory_names_program_size_and_place)
{
    char said[256], expected[256];
    cr_assert_eq(exhausted(ask_alloc, said, sizeof said), 2);
    snprintf(expected, sizeof expected, "nwm-test: out of memory: %zu bytes at tests/unit/test_mem.c:", SIZE_MAX / 4);
    cr_assert_eq(strncmp(said, expected, strlen(expected)), 0, "%s", said);
    cr_assert_gt(atoi(said + strlen(expected)), 40);
    cr_assert_eq(said[strlen(said) - 1], '\n');
}
#endif

Test(mem, nothing_asked_for_is_still_a_pointer)
{
    void *all[] = {mem_alloc(0), mem_zalloc(0), mem_array(NULL, 0, 8), mem_dup(NULL, 0), mem_realloc(NULL, 0)};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cr_assert_not_null(all[i]);
        free(all[i]);
    }
}

Test(mem, zeroed_memory_is_zero)
{
    char *p = mem_alloc(4096);
    memset(p, 0xff, 4096);
    free(p);
    p = mem_zalloc(4096);
    for (size_t i = 0; i < 4096; i++) cr_assert_eq(p[i], 0);
    free(p);
}

Test(mem, copies)
{
    char *whole = mem_strdup("abcdef"), *part = mem_strndup("abcdef", 3), *less = mem_strndup("ab", 3);
    char *bytes = mem_dup("a\0b", 3), *printed = mem_printf("%s-%d", "x", 7);
    cr_assert_str_eq(whole, "abcdef");
    cr_assert_str_eq(part, "abc");
    cr_assert_str_eq(less, "ab");
    cr_assert_arr_eq(bytes, "a\0b\0", 4);
    cr_assert_str_eq(printed, "x-7");
    free(whole), free(part), free(less), free(bytes), free(printed);
}

Test(mem, a_buffer_of_zeros_is_empty_and_valid)
{
    struct buf b = {0};
    buf_append(&b, NULL, 0);
    cr_assert_eq(b.len, 0);
    cr_assert_not_null(buf_reserve(&b, 0));
    cr_assert_str_eq(buf_text(&b), "");
    buf_free(&b);
    cr_assert_null(b.data);
    cr_assert_eq(b.cap, 0);
    buf_free(&b);
}

Test(mem, a_buffer_keeps_what_was_put_in)
{
    struct buf b = {0};
    for (int i = 0; i < 1000; i++) buf_append(&b, "0\0\xff", 3);
    buf_printf(&b, "%d|%s", 42, "end");
    cr_assert_eq(b.len, 3006);
    for (int i = 0; i < 1000; i++) cr_assert_arr_eq(b.data + 3 * i, "0\0\xff", 3);
    cr_assert_str_eq(buf_text(&b) + 3000, "42|end");
    cr_assert_eq(b.len, 3006, "the NUL of buf_text is not counted");
    buf_free(&b);
}

Test(mem, a_buffer_grows_by_half_at_least)
{
    struct buf b = {0};
    size_t cap = 0, grown = 0;
    for (int i = 0; i < 1000000; i++) {
        buf_append(&b, "x", 1);
        if (b.cap == cap) continue;
        cr_assert_geq(b.cap, cap + cap / 2);
        cap = b.cap;
        grown++;
    }
    cr_assert_lt(grown, 40);
    buf_reserve(&b, 5000000);
    cr_assert_geq(b.cap - b.len, 5000000);
    buf_free(&b);
}

struct quoted {
    char data[40];
    size_t len, most;
    char expected[80];
};

static const struct quoted quotes[] = {
    {"5", 1, 80, "\"5\""},
    {"", 0, 80, "\"\""},
    {"a\"b\\c", 5, 80, "\"a\\\"b\\\\c\""},
    {"a\0b\n\t\x7f", 6, 80, "\"a\\x00b\\x0a\\x09\\x7f\""},
    {"\033[2J", 4, 80, "\"\\x1b[2J\""},
    {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xbf", 15, 80,
     "\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xbf\""},
    {"\xff\xfe", 2, 80, "\"\\xff\\xfe\""},
    {"\xc3", 1, 80, "\"\\xc3\""},                            /* a character cut short by the item's end */
    {"\xc3\xbc", 1, 80, "\"\\xc3\""},                        /* what stands behind is not its own */
    {"\xc0\xaf", 2, 80, "\"\\xc0\\xaf\""},                   /* overlong */
    {"\xe0\x80\xaf", 3, 80, "\"\\xe0\\x80\\xaf\""},          /* overlong */
    {"\xed\xa0\x80", 3, 80, "\"\\xed\\xa0\\x80\""},          /* a surrogate */
    {"\xf4\x90\x80\x80", 4, 80, "\"\\xf4\\x90\\x80\\x80\""}, /* beyond Unicode */
    {"\xc2\x9b"
     "2J",
     4, 80, "\"\\xc2\\x9b2J\""},                    /* CSI as a C1 control */
    {"\xe2\x80\xae", 3, 80, "\"\\xe2\\x80\\xae\""}, /* right-to-left override */
    {"abcdef", 6, 6, "\"abcdef\""},
    {"abcdef", 6, 5, "\"abcde\"…"},
    {"abc\xc3\xbc", 5, 4, "\"abc\"…"}, /* never half a character */
    {"abc", 3, 0, "\"\"…"},
};

Test(mem, quotes)
{
    for (size_t i = 0; i < sizeof quotes / sizeof *quotes; i++) {
        struct buf b = {0};
        buf_quote(&b, quotes[i].data, quotes[i].len, quotes[i].most);
        cr_assert_str_eq(buf_text(&b), quotes[i].expected, "row %zu: %s", i, b.data);
        buf_free(&b);
    }
}

Test(mem, quote_of_a_long_item_is_short)
{
    char *item = mem_alloc(100000);
    memset(item, 'x', 100000);
    char *quoted = mem_quote(item, 100000);
    cr_assert_lt(strlen(quoted), 120);
    cr_assert_gt(strlen(quoted), 20);
    cr_assert_str_eq(quoted + strlen(quoted) - strlen("x\"…"), "x\"…");
    free(quoted);
    free(item);
}

Test(mem, escape_leaves_quotes_and_backslashes)
{
    struct buf b = {0};
    buf_escape(&b, "a \"b\" \\c\r\n\033", 11);
    cr_assert_str_eq(buf_text(&b), "a \"b\" \\c\\x0d\\x0a\\x1b");
    buf_free(&b);
}
