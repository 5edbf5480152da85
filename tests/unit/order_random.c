#include "tests/unit/order_random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t random_seed(const char *test)
{
    const char *given = getenv("NWM_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    fprintf(stderr, "%s: NWM_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

unsigned random_cases(unsigned by_default)
{
    const char *given = getenv("NWM_CASES");
    return given != NULL ? (unsigned)strtoul(given, NULL, 10) : by_default;
}

/* splitmix64 by Sebastiano Vigna (public domain). */
uint64_t random_next(struct random *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

unsigned random_below(struct random *r, unsigned n) { return (unsigned)((random_next(r) >> 32) * n >> 32); }

bool random_chance(struct random *r, unsigned percent) { return random_below(r, 100) < percent; }

static const char *pick(struct random *r, const char *const *list, size_t n)
{
    return list[random_below(r, (unsigned)n)];
}
#define PICK(r, list) pick((r), (list), sizeof(list) / sizeof(list)[0])

/* ---------------------------------------------------------------- options */

static void add_option(struct random_options *options, const char *text)
{
    snprintf(options->argv[options->argc++], sizeof options->argv[0], "%s", text);
}

static size_t put_letters(struct random *r, char *to, unsigned percent)
{
    static const char *const KINDS[] = {"", "", "n", "n", "g", "M", "", "n", "g", "gn"};
    size_t n = 0;
    if (random_chance(r, percent)) {
        for (const char *kind = PICK(r, KINDS); *kind != '\0'; kind++) to[n++] = *kind;
    }
    for (const char *letter = "rbf"; *letter != '\0'; letter++) {
        if (random_chance(r, percent / 3)) to[n++] = *letter;
    }
    to[n] = '\0';
    return n;
}

static void add_key_option(struct random *r, struct random_options *options)
{
    char text[48];
    size_t n = (size_t)sprintf(text, "-k%u", 1 + random_below(r, 4));
    if (random_chance(r, 25)) n += (size_t)sprintf(text + n, ".%u", 1 + random_below(r, random_chance(r, 10) ? 40 : 5));
    n += put_letters(r, text + n, 50);
    if (random_chance(r, 65)) {
        n += (size_t)sprintf(text + n, ",%u", 1 + random_below(r, 4));
        if (random_chance(r, 30)) n += (size_t)sprintf(text + n, ".%u", random_below(r, random_chance(r, 10) ? 40 : 6));
        put_letters(r, text + n, 30);
    }
    add_option(options, text);
}

void random_options_make(struct random *r, struct random_options *options)
{
    static const char *const SEPARATORS[] = {",", " ", ":", "a", "0", ".", "-", "\\0", "\t", "\n", "\xff", "1"};
    memset(options, 0, sizeof *options);
    options->between = ' ';
    options->no_nan = random_chance(r, 60);
    char letters[8] = "-";
    if (put_letters(r, letters + 1, 60) > 0) add_option(options, letters);
    if (random_chance(r, 40)) {
        const char *separator = PICK(r, SEPARATORS);
        options->between = separator[0] == '\\' ? '\0' : separator[0];
        char text[8];
        snprintf(text, sizeof text, "-t%s", separator);
        add_option(options, text);
    }
    for (unsigned keys = random_chance(r, 30) ? 0 : 1 + random_below(r, 3); keys > 0; keys--)
        add_key_option(r, options);
}

const char *random_options_text(const struct random_options *options)
{
    static char text[512];
    size_t n = 0;
    text[0] = '\0';
    for (int i = 0; i < options->argc; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", i > 0 ? " " : "", options->argv[i]);
    return text;
}

static struct fault *apply(struct order *o, const char *option)
{
    if (strncmp(option, "-k", 2) == 0) return order_key(o, option + 2);
    if (strncmp(option, "-t", 2) == 0) return order_separator(o, option + 2);
    struct fault *f = NULL;
    for (const char *letter = option + 1; f == NULL && *letter != '\0'; letter++) f = order_letter(o, *letter);
    return f;
}

struct fault *random_options_order(const struct random_options *options, struct order **out)
{
    struct order *o = order_new();
    struct fault *f = NULL;
    for (int i = 0; f == NULL && i < options->argc; i++) f = apply(o, options->argv[i]);
    if (f == NULL) f = order_compile(o);
    *out = f == NULL ? o : NULL;
    if (f != NULL) order_free(o);
    return f;
}

/* ---------------------------------------------------------------- items */

/* How other NaNs compare differs between versions of sort. */
static const char *const NANS[] = {"nan", "NaN", "nanx", "NAN()"};
/* clang-format off */
static const char *const ODD_NUMBERS[] = {
    "inf", "-inf", "Infinity", "-INFINITY", "1e3", "1E-3", "0x10", "0x1.8p1", "1e5000", "-1e5000", "1e-5000", ".",
    "-", "+", "+5", "-0", "-0.0", "0", "0.0", ".5", "-.5", "5.", "1e", "0x", "1e+", "--5", "- 5", "0.1", "0.10",
    "00.1", "1,0", "5e0", "50e-1", "infx", "1..2", "1.5.2", "-0.00001", "0.00001", "4503599627370496",
    "4503599627370497", "70368744177664.5", "3.14159265358979323846"
};
static const char *const BORDERS[] = {
    "999999999999999999", "1000000000000000000", "1000000000000000001", "2999999999999999999", "3000000000000000000",
    "9999999999999999999", "10000000000000000000", "18446744073709551615", "18446744073709551616", "99999999",
    "100000000", "9999999999999999", "10000000000000000", "0000000000000000000000000000007"
};
static const char *const MONTHS[] = {
    "JAN", "feb", "Mar", "apR", "MAY", "jun", "Jul", "AUG", "sep", "oct", "Nov", "DEC", "january", "DE", "ja", "xjan",
    "D\xc3\xa9", "may1"
};
static const char *const WORDS[] = {
    "a", "A", "b", "B", "ab", "aB", "Ab", "abc", "abcdefg", "abcdefgh", "abcdefghi", "ABCDEFGHI", "abcdefgH",
    "abcdefgi", "z", "Z", "_", "[", "{", "@", "`", "2026-01-01T00:00:0"
};
/* clang-format on */

static void put(struct buf *item, const char *text) { buf_append(item, text, strlen(text)); }

static void put_digits(struct random *r, struct buf *item, unsigned n)
{
    /* Few different digits, so that long numbers agree for a while. */
    unsigned digits = random_chance(r, 50) ? 2 : 10;
    for (; n > 0; n--) buf_printf(item, "%u", random_below(r, digits));
}

static void put_number(struct random *r, struct buf *item)
{
    static const unsigned LENGTHS[] = {1, 1, 2, 2, 3, 7, 8, 9, 12, 15, 16, 17, 18, 19, 20, 40, 300};
    if (random_chance(r, 25)) put(item, "-");
    if (random_chance(r, 15)) put(item, "000");
    if (random_chance(r, 12))
        put(item, PICK(r, BORDERS));
    else if (random_chance(r, 90))
        put_digits(r, item, LENGTHS[random_below(r, sizeof LENGTHS / sizeof LENGTHS[0] - random_chance(r, 80))]);
    if (random_chance(r, 25)) {
        put(item, ".");
        put_digits(r, item, random_below(r, 4));
        put(item, random_chance(r, 20) ? "000" : "");
    }
}

static void put_bytes(struct random *r, struct buf *item)
{
    static const char FEW[] = {'\0', '\x01', '\x7f', '\x80', '\xff', ' ', 'a', '\n', '\r', '\v'};
    for (unsigned n = random_below(r, 12); n > 0; n--) {
        char byte = random_chance(r, 60) ? FEW[random_below(r, sizeof FEW)] : (char)random_below(r, 256);
        buf_append(item, &byte, 1);
    }
}

static void put_blanks(struct random *r, struct buf *item, unsigned percent)
{
    static const char BLANKS[] = {' ', ' ', ' ', '\t', '\n', '\v'};
    while (random_chance(r, percent)) buf_append(item, &BLANKS[random_below(r, sizeof BLANKS)], 1);
}

static void put_field(struct random *r, const struct random_options *options, struct buf *item)
{
    put_blanks(r, item, 15);
    switch (random_below(r, 10)) {
    case 0: break;
    case 1: put(item, random_chance(r, options->no_nan ? 0 : 15) ? PICK(r, NANS) : PICK(r, ODD_NUMBERS)); break;
    case 2: put(item, PICK(r, MONTHS)); break;
    case 3: put_bytes(r, item); break;
    case 4:
    case 5:
        put(item, PICK(r, WORDS));
        put(item, random_chance(r, 30) ? PICK(r, WORDS) : "");
        break;
    default: put_number(r, item); break;
    }
}

void random_item(struct random *r, const struct random_options *options, bool zero, struct buf *item)
{
    size_t start = item->len;
    for (unsigned fields = random_chance(r, 3) ? 0 : 1 + random_below(r, 4); fields > 0; fields--) {
        put_field(r, options, item);
        if (fields > 1 || random_chance(r, 10)) buf_append(item, random_chance(r, 90) ? &options->between : " ", 1);
    }
    for (size_t i = start; i < item->len; i++) {
        if (item->data[i] == (zero ? '\0' : '\n')) item->data[i] = zero ? '\n' : '\0';
        /* For sort -n, 9.1 at least, this byte groups digits even in the C locale: CHAR_MAX + 1 was to be none. */
        if (item->data[i] == '\x80') item->data[i] = '\x81';
    }
}
