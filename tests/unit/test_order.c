/* Orders one letter at a time: what is refused, canonical texts, and the promise between order_norm() and order_compare(). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "shared/order.h"
#include "tests/unit/order_random.h"

/* Options as a shell word list without quotes: "-n -k2,3r -t,". The separator may be a blank: "-t ". */
static struct fault *make(const char *options, struct order **out)
{
    struct random_options list = {.argc = 0};
    while (*options != '\0') {
        size_t n = strncmp(options, "-t ", 3) == 0 ? 3 : strcspn(options, " ");
        snprintf(list.argv[list.argc++], sizeof list.argv[0], "%.*s", (int)n, options);
        options += n;
        options += strspn(options, " ");
    }
    return random_options_order(&list, out);
}

static struct order *order_of(const char *options)
{
    struct order *o = NULL;
    struct fault *f = make(options, &o);
    cr_assert_null(f, "%s is refused: %s", options, f != NULL ? fault_message(f) : "");
    return o;
}

#define TEXT(literal) (literal), (sizeof(literal) - 1)

static int sign(int n) { return (n > 0) - (n < 0); }

/* What looks at both at once says of b behind a what the others say of the two. */
static void check_norm_after(const struct order *o, const char *a, size_t alen, const char *b, size_t blen, int result)
{
    uint64_t norm;
    bool falls;
    size_t shared = order_shared(o, a, alen, b, blen);
    for (size_t prefix = 0; prefix <= shared; prefix++) {
        cr_assert(order_norm_after(o, a, alen, b, blen, prefix, &norm, &falls), "%s and %s", a, b);
        cr_assert_eq(norm, order_norm(o, b, blen, prefix), "%s and %s, prefix %zu", a, b, prefix);
        cr_assert_eq(falls, result > 0, "%s and %s, order %s", a, b, order_name(o));
    }
    cr_assert_not(order_norm_after(o, a, alen, b, blen, shared + 1, &norm, &falls), "%s and %s", a, b);
}

/* Compares, and checks the norms and the other way round on the way. */
static int compare(const struct order *o, const char *a, size_t alen, const char *b, size_t blen)
{
    /* Copies of their own size, so that a sanitizer sees a byte read too far. */
    char *x = malloc(alen + 1), *y = malloc(blen + 1);
    x = realloc(x, alen != 0 ? alen : 1);
    y = realloc(y, blen != 0 ? blen : 1);
    memcpy(x, a, alen);
    memcpy(y, b, blen);
    int result = sign(order_compare(o, x, alen, y, blen));
    uint64_t p = order_norm(o, x, alen, 0), q = order_norm(o, y, blen, 0);
    cr_assert_eq(sign(order_compare(o, y, blen, x, alen)), -result, "%s and %s, order %s, turned round", a, b,
                 order_name(o));
    cr_assert_neq(p ^ q, NORM_INEXACT, "%s and %s, order %s", a, b, order_name(o));
    if (p == q)
        cr_assert(!norm_is_exact(p) || result == 0, "%s and %s, order %s", a, b, order_name(o));
    else
        cr_assert_eq(p < q ? -1 : 1, result, "%s and %s, order %s", a, b, order_name(o));
    if (order_is_bytes(o)) check_norm_after(o, x, alen, y, blen, result);
    free(x);
    free(y);
    return result;
}

/* Each text before the next; with -r besides, behind it, unless a key has letters of its own. */
static void expect_rising(const char *options, const char *const *texts, size_t n)
{
    char reversed[64];
    const char *key = strstr(options, "-k");
    bool own = key != NULL && strpbrk(key, "bfgMnr") != NULL;
    snprintf(reversed, sizeof reversed, "%s%s", options, own ? "" : options[0] != '\0' ? " -r" : "-r");
    struct order *up = order_of(options), *down = order_of(reversed);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            int expected = i < j ? -1 : i > j;
            const char *a = texts[i], *b = texts[j];
            cr_assert_eq(compare(up, a, strlen(a), b, strlen(b)), expected, "%s: \"%s\" and \"%s\"", options, a, b);
            cr_assert_eq(compare(down, a, strlen(a), b, strlen(b)), own ? expected : -expected, "%s: \"%s\" and \"%s\"",
                         reversed, a, b);
        }
    }
    order_free(up);
    order_free(down);
}

static void expect_equal(const char *options, const char *const *texts, size_t n)
{
    struct order *o = order_of(options);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            cr_assert_eq(compare(o, texts[i], strlen(texts[i]), texts[j], strlen(texts[j])), 0, "%s: \"%s\" and \"%s\"",
                         options, texts[i], texts[j]);
        }
    }
    order_free(o);
}

#define RISING(options, ...)                                                                                           \
    do {                                                                                                               \
        const char *const texts_[] = {__VA_ARGS__};                                                                    \
        expect_rising((options), texts_, sizeof texts_ / sizeof texts_[0]);                                            \
    } while (0)
#define EQUAL(options, ...)                                                                                            \
    do {                                                                                                               \
        const char *const texts_[] = {__VA_ARGS__};                                                                    \
        expect_equal((options), texts_, sizeof texts_ / sizeof texts_[0]);                                             \
    } while (0)

/* ---------------------------------------------------------------- kinds */

Test(order, bytes)
{
    RISING("", "", " ", "A", "AB", "B", "a", "abcdefg", "abcdefgh", "abcdefghA", "abcdefghi", "b", "\x7f", "\x80",
           "\xff");
    struct order *o = order_of("");
    cr_assert_eq(compare(o, TEXT("a\0"), TEXT("a")), 1);
    cr_assert_eq(compare(o, TEXT("a\0b"), TEXT("a\0\xff")), -1);
    cr_assert_eq(compare(o, TEXT("\0\0\0\0\0\0\0"), TEXT("\0\0\0\0\0\0")), 1);
    cr_assert_eq(compare(o, TEXT("\0\0\0\0\0\0\0\0"), TEXT("\0\0\0\0\0\0\0\0\0")), -1);
    order_free(o);
}

Test(order, fold)
{
    RISING("-f", "", "@", "a", "AB", "abC", "b", "Z", "[", "_", "`", "{", "~", "\xe1", "\xff");
    EQUAL("-f", "abcdefghijklmnopqrstuvwxyz@[`{\x80", "ABCDEFGHIJKLMNOPQRSTUVWXYZ@[`{\x80",
          "AbCdEfGhIjKlMnOpQrStUvWxYz@[`{\x80");
    RISING("-f", "\xc1", "\xe1");
}

Test(order, blanks)
{
    RISING("-b", "", " a", "b", " \t c", "d");
    EQUAL("-b", "x y", " x y", "\t \tx y");
    RISING("", "  b", " a");
}

Test(order, numbers)
{
    RISING("-n", "-10000000000000000000000000000000000000001", "-10000000000000000000000000000000000000000",
           "-10000000000000000000", "-9999999999999999999", "-1000000000000000001", "-1000000000000000000",
           "-999999999999999999.5", "-999999999999999999", "-100000000", "-99999999", "-2", "-1.5", "-1.05", "-1",
           "-.5", "-.05", "0", "0.001", "0.01", ".1", "1", "1.0000000000000000000000000000000000000001",
           "1.000000000000000000000000000000000000001", "1.5", "2", "10", "12345678", "12345679", "123456789",
           "1234567890123456", "12345678901234567", "999999999999999999", "1795375633123456789", "1795375633123456790",
           "2999999999999999999", "3000000000000000000", "3000000000000000001", "9999999999999999999",
           "10000000000000000000", "12345678901234567890123456789012345678901234567890");
}

Test(order, equal_numbers)
{
    EQUAL("-n", "", "0", "-0", "00.00", "-0.000", "+5", "abc", "-", ".", "-.", "- 5", "--5", "\t \n0x10", "0e9", "nan");
    EQUAL("-n", "5", " 5", "\t05", "5.", "5.0", "5.00x", "5e3", "5,000", "000000000000000000000000000000005");
    EQUAL("-n", "-1.5", "-01.50", " -1.5.9", "-0000000000000000000000000001.5000");
    EQUAL("-n", "123456789012", "0123456789012", "0000000123456789012", "123456789012.0");
}

/* 400 digits are beyond the count a code can hold; only the comparison knows. */
Test(order, endless_numbers)
{
    char a[402], b[402], c[403];
    memset(a, '1', 400);
    memset(b, '1', 400);
    memset(c, '1', 401);
    b[399] = '2';
    a[400] = b[400] = c[401] = '\0';
    RISING("-n", "1", a, b, c);
}

Test(order, months)
{
    RISING("-M", "", "jan", "FEB", "Mar", "aPR", " \tmay", "June", "julx", "aug", "SEPtember", "oct", "nov", "\nDec");
    EQUAL("-M", "", "ja", "x", "xjan", "1",
          "d\xc3\xa9"
          "c",
          "  ");
    EQUAL("-M", "jan", "JANUARY", "  january 5");
}

Test(order, floats)
{
    RISING("-g", "", "nan", "-inf", "-1e4000", "-1e400", "-1.5", "-1e-4940", "0", "1e-4940", "1e-400", "0x1p-3", "1",
           "1.0000000000000000002", "1.0000000000000000004", "1.5", "5", "0x10", "1e3", "70368744177664",
           "70368744177664.5", "70368744177665", "4503599627370496", "4503599627370496.5", "1e400", "1e4000", "inf");
    EQUAL("-g", "", "x", "-", ".", "+", "e5", " ", "--1", "in", "na");
    EQUAL("-g", "nan", "NaN", "-nan", "nan(123)", " nanx");
    EQUAL("-g", "0", "-0", "0.0", "-0e5", "0x0", "1e-6000");
    EQUAL("-g", "inf", "+INFINITY", "1e5000", "infi", "\v\finf");
    EQUAL("-g", "16", "0x10", "1.6e1", "+16", "016.0", "16e", "16e+", "0x1p4", "160e-1", "\r16");
    EQUAL("-g", "0.1", ".1", "1e-1", "0.10000000000000000000000000000000000001", "0.1000000000000000");
}

/* Numbers that are only cut off by the end of the key, and digits behind it that must not be read. */
Test(order, floats_end_with_their_key)
{
    struct order *o = order_of("-k1.1,1.2g");
    cr_assert_eq(compare(o, TEXT("1234"), TEXT("1299")), 0);
    cr_assert_eq(compare(o, TEXT("1e5"), TEXT("1")), 0);
    cr_assert_eq(compare(o, TEXT("12"), TEXT("9\0")), 1);
    order_free(o);
    char a[600], b[600];
    memset(a, '7', sizeof a - 1);
    memset(b, '7', sizeof b - 1);
    a[599] = b[599] = '\0';
    b[598] = '\0';
    RISING("-g", b, a);
}

/* ---------------------------------------------------------------- keys */

Test(order, fields_between_blanks)
{
    RISING("-k2,2", "z", "y  a x", "x a y", "w b");
    EQUAL("-k2,2", "x a", "y a", "xx a b");
    EQUAL("-k2b,2", "x a", "y   a", "y\ta b");
    EQUAL("-k3", "a b", "c d", "", "   ");
    EQUAL("-k1.2,1.3", "xab", "yabc", "zab d");
}

Test(order, fields_between_separators)
{
    RISING("-t, -k2,2n", "a", "z,1", "y,2,0", "x,10");
    EQUAL("-t, -k2,2", "a,,b", "c,", "d", ",");
    EQUAL("-t, -k2,3", "a,b,c,d", "x,b,c", "y,b,c,");
    RISING("-t, -k2,2", "a,b", "a,b c", "a,c");
    RISING("-t  -k3,3n", "a b -1", "a b", "a b 5", "x  7");
    EQUAL("-t  -k3,3n", "a b", "a b  5", "x  y", "z");
    struct order *o = order_of("-t\\0 -k2n");
    cr_assert_eq(compare(o,
                         TEXT("a\0"
                              "10"),
                         TEXT("b\0"
                              "9")),
                 1);
    order_free(o);
}

/* A number may go on where its key does not. */
Test(order, numbers_end_with_their_key)
{
    EQUAL("-t. -k1,1n", "1.5", "1.7", "1");
    EQUAL("-t5 -k1,1n", "151", "152", "1");
    EQUAL("-t- -k2,2n", "x--5", "y--7", "z", "u-0");
    EQUAL("-t  -k2,2n", "x  5", "y  7", "z");
    EQUAL("-k1.1,1.2n", "123", "124", "12");
    EQUAL("-k1.3,1n", "12 5", "34 6", "x");
    EQUAL("-k2,1n", "1 2", "3 4");
    RISING("-k2,2n", "a 1 9", "b 2 0", "c   3", "d 10 -1");
    RISING("-t, -k2,3n", "x,-1,5", "y,,7", "z,1");
    RISING("-k3,3n", "eight-and-more  and\ttabs 7", "a\tb\t8", "the-first-blank-is-far-away x 9", "y z 10");
}

/* Items of one to two words, which differ in each place in turn. */
Test(order, neighbours)
{
    static const char text[] = "abcdefghijklmnopq";
    for (size_t len = 0; len < sizeof text; len++) {
        for (size_t at = 0; at < len; at++) {
            char other[sizeof text];
            memcpy(other, text, sizeof text);
            other[at] = (char)(other[at] ^ 0x80);
            struct order *o = order_of(at % 2 ? "-r" : "");
            cr_assert_eq(compare(o, text, len, other, len), at % 2 ? 1 : -1);
            compare(o, text, len, text, len);
            compare(o, text, len, text, at);
            compare(o, text, at, text, len);
            order_free(o);
        }
    }
}

Test(order, characters_of_fields)
{
    RISING("-k1.3", "zza", "yyb", "xxc");
    EQUAL("-k1.3", "a", "bc", "");
    EQUAL("-t: -k2.2,2.3", "a", "q:9", "q:");
    RISING("-t: -k2.2,2.3", "a", "x:0a", "y:9aa", "z:0ab");
    EQUAL("-t: -k2.2,2.3", "z:0ab", "b:1ab:", "c:2abxyz");
    RISING("-k2.1b,2.2b", "x    ", "x   ab", "y ac");
    EQUAL("-k2.1b,2.2b", "x   ab", "y abz", "z\tab");
}

Test(order, several_keys)
{
    RISING("-k1,1 -k2,2nr", "a 9", "a 5", "a 1", "b 7");
    RISING("-k2,2M -k1,1", "x", "a feb", "b feb", "a mar");
    EQUAL("-k1,1n -k2,2f", "1 a", "01 A", "1.0 a z");
}

/* An end before the start is an empty key, not one that reads backwards. */
Test(order, empty_keys)
{
    EQUAL("-k3,2", "a b c d", "x y z", "");
    EQUAL("-k2.5,2.2n", "a 12345", "b 99999");
}

/* ---------------------------------------------------------------- what is refused */

static void expect_usage(const char *options, const char *says)
{
    struct order *o = NULL;
    struct fault *f = make(options, &o);
    cr_assert_not_null(f, "%s is accepted", options);
    cr_assert(fault_is(f, FAULT_USAGE), "%s: %s", options, fault_name(f));
    cr_assert_not_null(strstr(fault_message(f), says), "%s: the message is: %s", options, fault_message(f));
    cr_assert_null(o);
    fault_free(f);
}

Test(order, foreign_letters)
{
    expect_usage("-d", "dictionary");
    expect_usage("-i", "sort has");
    expect_usage("-h", "human");
    expect_usage("-R", "random");
    expect_usage("-V", "version");
    expect_usage("-k1d", "sort has");
    expect_usage("-k1n,2V", "-k 1n,2V");
    expect_usage("-x", "no ordering letter");
    expect_usage("-k1x", "no ordering letter");
}

Test(order, bad_keys)
{
    expect_usage("-k", "no field number");
    expect_usage("-kn", "no field number");
    expect_usage("-k-1", "no field number");
    expect_usage("-k+1", "no field number");
    expect_usage("-k0", "field number is 0");
    expect_usage("-k1.", "point");
    expect_usage("-k1.0", "character is 0");
    expect_usage("-k1,", "comma");
    expect_usage("-k1,0", "field number is 0");
    expect_usage("-k1,1.", "point");
    expect_usage("-k1,2,3", "second comma");
    expect_usage("-k1n.2", "no ordering letter");
    expect_usage("-k99999999999999999999999", "1000000000");
}

Test(order, kinds_that_exclude_each_other)
{
    expect_usage("-n -g", "-gn");
    expect_usage("-M -n", "-Mn");
    expect_usage("-k2gM", "-gM");
    expect_usage("-n -g -k2", "-gn");
    expect_usage("-k1n,1g", "-gn");
    /* As with sort: no key takes the global letters. */
    order_free(order_of("-n -g -k2b,3"));
}

Test(order, bad_separators)
{
    expect_usage("-t", "empty");
    expect_usage("-txx", "single byte");
    expect_usage("-t, -t;", "two different");
    order_free(order_of("-t, -t, -k2"));
}

Test(order, too_many_keys)
{
    struct order *o = order_new();
    struct fault *f = NULL;
    int keys = 0;
    for (; f == NULL && keys < 1000; keys++) f = order_key(o, "2");
    cr_assert_not_null(f);
    cr_assert(fault_is(f, FAULT_USAGE));
    cr_assert_gt(keys, 32);
    fault_free(f);
    order_free(o);
}

/* ---------------------------------------------------------------- texts */

struct text_row {
    char options[48], text[48], command[80];
};

static const struct text_row TEXTS[] = {{"", "", "LC_ALL=C sort -s"},
                                        {"-n", "-n", "LC_ALL=C sort -s -n"},
                                        {"-r -n", "-nr", "LC_ALL=C sort -s -nr"},
                                        {"-rfb", "-bfr", "LC_ALL=C sort -s -bfr"},
                                        {"-r", "-r", "LC_ALL=C sort -s -r"},
                                        {"-M", "-M", "LC_ALL=C sort -s -M"},
                                        {"-rMb -k2.3", "-k2.3bMr", "LC_ALL=C sort -s -k2.3bMr"},
                                        {"-k2,2nr -t,", "-k2,2nr -t2c", "LC_ALL=C sort -s -k2,2nr -t ,"},
                                        {"-k1.3,1.5b -k4n", "-k1.3,1.5b -k4n", "LC_ALL=C sort -s -k1.3,1.5b -k4n"},
                                        {"-n -k2 -k3r", "-k2n -k3r", "LC_ALL=C sort -s -k2n -k3r"},
                                        {"-b -k2,3.4", "-k2b,3.4b", "LC_ALL=C sort -s -k2b,3.4b"},
                                        {"-k2b,3.4r", "-k2b,3.4r", "LC_ALL=C sort -s -k2b,3.4r"},
                                        {"-k2n,3", "-k2,3n", "LC_ALL=C sort -s -k2,3n"},
                                        {"-k2 -t\\0", "-k2 -t00", "LC_ALL=C sort -s -k2 -t '\\0'"},
                                        {"-k2 -t ", "-k2 -t20", "LC_ALL=C sort -s -k2 -t ' '"},
                                        {"-k2 -t'", "-k2 -t27", "LC_ALL=C sort -s -k2 -t \"'\""},
                                        {"-k2 -t\t", "-k2 -t09", "LC_ALL=C sort -s -k2 -t \"$(printf '\\t')\""},
                                        {"-k2 -t\xff", "-k2 -tff", "LC_ALL=C sort -s -k2 -t \"$(printf '\\377')\""},
                                        /* What makes no difference is not there. */
                                        {"-k1", "", "LC_ALL=C sort -s"},
                                        {"-k1.1", "", "LC_ALL=C sort -s"},
                                        {"-t,", "", "LC_ALL=C sort -s"},
                                        {"-k1n", "-n", "LC_ALL=C sort -s -n"},
                                        {"-n -k1 -t,", "-n", "LC_ALL=C sort -s -n"},
                                        {"-rMb -k2", "-k2Mr", "LC_ALL=C sort -s -k2Mr"},
                                        {"-nbf", "-n", "LC_ALL=C sort -s -n"},
                                        {"-k2.1fM,3.0b", "-k2,3M", "LC_ALL=C sort -s -k2,3M"},
                                        {"-k2.2bn,3.1b", "-k2.2b,3.1bn", "LC_ALL=C sort -s -k2.2b,3.1bn"},
                                        {"-k1r -k2n", "-r", "LC_ALL=C sort -s -r"},
                                        {"-k2n -k1 -k3", "-k2n -k1", "LC_ALL=C sort -s -k2n -k1"},
                                        {"-k1f -k2", "-k1f -k2", "LC_ALL=C sort -s -k1f -k2"},
                                        {"-k1.2,1.5n -t,", "-k1.2,1.5n", "LC_ALL=C sort -s -k1.2,1.5n"},
                                        {"-k1,1 -t,", "-k1,1 -t2c", "LC_ALL=C sort -s -k1,1 -t ,"}};

Test(order, canonical_texts)
{
    for (size_t i = 0; i < sizeof TEXTS / sizeof TEXTS[0]; i++) {
        const struct text_row *row = &TEXTS[i];
        struct order *o = order_of(row->options), *again = NULL;
        cr_assert_str_eq(order_text(o), row->text, "%s", row->options);
        cr_assert_str_eq(order_name(o), row->text[0] != '\0' ? row->text : "bytes");
        cr_assert_str_eq(order_sort_command(o), row->command, "%s", row->options);
        cr_assert_null(order_parse(row->text, &again), "%s", row->text);
        cr_assert_str_eq(order_text(again), row->text);
        order_free(o);
        order_free(again);
    }
}

static void expect_not_canonical(const char *text)
{
    struct order *o = NULL;
    struct fault *f = order_parse(text, &o);
    cr_assert_not_null(f, "\"%s\" is accepted", text);
    cr_assert(fault_is(f, FAULT_BAD_CONTRACT), "\"%s\": %s", text, fault_name(f));
    cr_assert_null(o);
    fault_free(f);
}

Test(order, texts_that_are_not_canonical)
{
    static const char *const TEXTS_[] = {
        "bytes",      "-",       "n",       " ",        "-n ",     " -n",        "-rn",           "-n -r",
        "-nn",        "-nb",     "-d",      "-gn",      "-k",      "-k1",        "-k1n",          "-k02n",
        "-k2n  -k3",  "-k2 -t",  "-k2 -t,", "-k2 -t2C", "-k2 -t2", "-k2 -t2c2c", "-k2 -t2c -t2c", "-t2c",
        "-t2c -k2",   "-n -t2c", "-n -k2",  "-k2rn",    "-k2n,3",  "-k2,3.0",    "-k2.1",         "-k2 -k1 -k3",
        "-k2,2 -tzz", "-k2\n",   "-k2d",    "-k1,1\xff"};
    for (size_t i = 0; i < sizeof TEXTS_ / sizeof TEXTS_[0]; i++) expect_not_canonical(TEXTS_[i]);
    char *long_text = malloc(100001);
    memset(long_text, 'n', 100000);
    long_text[0] = '-';
    long_text[100000] = '\0';
    expect_not_canonical(long_text);
    free(long_text);
}

/* Every separator but the newline, as the shell would hand it to sort. */
Test(order, separators_for_the_shell)
{
    for (int byte = 0; byte < 256; byte++) {
        if (byte == '\n') continue;
        const char text[] = {(char)byte, '\0'};
        struct order *o = order_new();
        cr_assert_null(order_key(o, "2"));
        cr_assert_null(order_separator(o, byte == '\0' ? "\\0" : text));
        cr_assert_null(order_compile(o));
        char command[256];
        snprintf(command, sizeof command, "set -- %s; test \"$#\" = 5 && printf %%s \"$5\"",
                 strstr(order_sort_command(o), "sort"));
        FILE *pipe = popen(command, "r");
        char got[8] = "";
        size_t n = fread(got, 1, sizeof got, pipe);
        cr_assert_eq(pclose(pipe), 0, "%s", command);
        cr_assert_eq(n, byte == '\0' ? 2 : 1, "%s", command);
        cr_assert(byte == '\0' ? memcmp(got, "\\0", 2) == 0 : got[0] == (char)byte, "%s", command);
        order_free(o);
    }
}

Test(order, is_given)
{
    struct order *o = order_new();
    cr_assert_not(order_is_given(o));
    cr_assert_null(order_compile(o));
    cr_assert_not(order_is_given(o));
    order_free(o);
    const char *const given[] = {"-r", "-k1", "-t,"};
    for (size_t i = 0; i < 3; i++) {
        o = order_of(given[i]);
        cr_assert(order_is_given(o), "%s", given[i]);
        order_free(o);
    }
}

/* ---------------------------------------------------------------- norms */

Test(order, exact_norms)
{
    static const struct {
        char options[16], item[32];
        bool exact;
    } rows[] = {{"", "1234567", true},
                {"", "12345678", false},
                {"", "", true},
                {"-r", "1234567", true},
                {"-f", "ABCdefg", true},
                {"-f", "ABCdefgh", false},
                {"-n", "12", true},
                {"-n", "-12x", true},
                {"-n", "1.0", true},
                {"-n", "1.5", false},
                {"-n", "123456789012345678", true},
                {"-n", "5000000000000000000", false},
                {"-nr", "123456789012", true},
                {"-g", "1.5", true},
                {"-g", "nan", true},
                {"-g", "0.1", false},
                {"-M", "jan", true},
                {"-k1,1n", "5 x", true},
                {"-k2n -k1", "5 x", false},
                {"-k1,1 -k2", "a b", false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct order *o = order_of(rows[i].options);
        cr_assert_eq(norm_is_exact(order_norm(o, rows[i].item, strlen(rows[i].item), 0)), rows[i].exact, "%s: %s",
                     rows[i].options, rows[i].item);
        order_free(o);
    }
}

Test(order, skipping)
{
    struct order *o = order_of("-r");
    cr_assert(order_can_skip(o));
    const char *a = "2026-01-01T00:00:01 a", *b = "2026-01-01T00:00:02 a";
    cr_assert_eq(order_norm(o, a, 21, 0), order_norm(o, b, 21, 0));
    cr_assert_eq(order_shared(o, a, 21, b, 21), 18);
    cr_assert_gt(order_norm(o, a, 21, 18), order_norm(o, b, 21, 18));
    cr_assert_gt(order_norm(o, a, 18, 18), order_norm(o, b, 21, 18));
    order_free(o);

    o = order_of("-t, -k2,2");
    cr_assert(order_can_skip(o));
    cr_assert_eq(order_shared(o, "x,abcdefghij,1", 14, "yy,abcdefghijk", 14), 10);
    cr_assert_eq(order_shared(o, "x,abc", 5, "y,abd", 5), 2);
    cr_assert_eq(order_shared(o, "x,abc,d", 7, "y,abc,d", 7), 3);
    cr_assert_lt(order_norm(o, "x,abcdefghij,1", 14, 10), order_norm(o, "yy,abcdefghijk", 14, 10));
    uint64_t norm = 0;
    cr_assert(order_norm_behind(o, "x,abcdefghij,1", 14, "abcdefg", 7, &norm));
    cr_assert_eq(norm, order_norm(o, "x,abcdefghij,1", 14, 7));
    cr_assert_not(order_norm_behind(o, "x,abcdefghij,1", 14, "abcdefG", 7, &norm));
    cr_assert_not(order_norm_behind(o, "x,abcdef,g", 10, "abcdefg", 7, &norm));
    order_free(o);

    static const char *const without[] = {"-n", "-g", "-M", "-k2n", "-f"};
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        o = order_of(without[i]);
        cr_assert_not(order_can_skip(o));
        cr_assert_eq(order_norm(o, "12 34", 5, 4), order_norm(o, "12 34", 5, 0));
        order_free(o);
    }
}

Test(order, first_key)
{
    struct order *o = order_of("-t, -k2,2n -k1");
    const char *key, *item = "a,17,c";
    size_t len;
    order_first_key(o, item, 6, &key, &len);
    cr_assert_eq(key, item + 2);
    cr_assert_eq(len, 2);
    order_first_key(o, "a", 1, &key, &len);
    cr_assert_eq(len, 0);
    order_free(o);
}

/* Random items in threes: the promise of the norms, and that the order is one. */
Test(order, random_triples)
{
    uint64_t seed = random_seed("order/random_triples");
    for (unsigned i = 0; i < random_cases(4000); i++) {
        struct random r = {seed * 1000003 + i};
        struct random_options options;
        struct order *o = NULL;
        random_options_make(&r, &options);
        struct fault *f = random_options_order(&options, &o);
        fault_free(f);
        if (f != NULL) continue;
        struct buf items[3] = {{0}, {0}, {0}};
        for (int k = 0; k < 3; k++) {
            random_item(&r, &options, i % 2, &items[k]);
            buf_text(&items[k]);
        }
        int ab = compare(o, items[0].data, items[0].len, items[1].data, items[1].len);
        int bc = compare(o, items[1].data, items[1].len, items[2].data, items[2].len);
        int ac = compare(o, items[0].data, items[0].len, items[2].data, items[2].len);
        if (ab == bc || ab == 0 || bc == 0)
            cr_assert_eq(ac, ab != 0 ? ab : bc, "case %u, %s: %s, %s, %s", i, order_name(o), items[0].data,
                         items[1].data, items[2].data);
        for (int k = 0; k < 3; k++) buf_free(&items[k]);
        order_free(o);
    }
}
