#include "shared/collate.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shared/decimal.h"
#include "shared/mem.h"
#include "shared/order_key.h"
#include "shared/word8.h"

/* ---------------------------------------------------------------- bytes */

static int compare_lengths(size_t a, size_t b) { return (a > b) - (a < b); }

int bytes_compare(const char *a, size_t alen, const char *b, size_t blen)
{
    int difference = memcmp(a, b, alen < blen ? alen : blen);
    return difference != 0 ? difference : compare_lengths(alen, blen);
}

/* Seven bytes, seven bits of length, NORM_INEXACT. NULs behind a short text order by the length. */
static inline uint64_t word_norm(uint64_t word, size_t len)
{
    uint64_t length = len > 7 ? 8 << 1 | 1 : len << 1;
    return (word8_big_endian(word) & ~UINT64_C(0xff)) | length;
}

uint64_t bytes_norm(const char *text, size_t len) { return word_norm(word8_load_most(text, len), len); }

uint64_t folded_norm(const char *text, size_t len) { return word_norm(word8_upper(word8_load_most(text, len)), len); }

size_t bytes_shared(const char *a, size_t alen, const char *b, size_t blen, bool folded)
{
    size_t shorter = alen < blen ? alen : blen;
    for (size_t i = 0; i < shorter; i += 8) {
        uint64_t x = word8_load_most(a + i, shorter - i), y = word8_load_most(b + i, shorter - i);
        if (folded) {
            x = word8_upper(x);
            y = word8_upper(y);
        }
        if (x != y) return i + (unsigned)__builtin_ctzll(x ^ y) / 8;
    }
    return shorter;
}

int folded_compare(const char *a, size_t alen, const char *b, size_t blen)
{
    size_t shared = bytes_shared(a, alen, b, blen, true);
    if (shared == alen || shared == blen) return compare_lengths(alen, blen);
    uint64_t x = word8_upper((unsigned char)a[shared]), y = word8_upper((unsigned char)b[shared]);
    return x < y ? -1 : 1;
}

/* ---------------------------------------------------------------- months */

static unsigned month_number(const char *text, size_t len)
{
    static const char MONTHS[] = "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC";
    const char *end = text + len;
    const char *p = key_skip_blanks(text, end);
    if (end - p < 3) return 0;
    uint64_t word = word8_upper(word8_load_part(p, 3));
    for (unsigned i = 0; i < 12; i++) {
        if (word == word8_load_part(MONTHS + 3 * i, 3)) return i + 1;
    }
    return 0;
}

int month_compare(const char *a, size_t alen, const char *b, size_t blen)
{
    return (int)month_number(a, alen) - (int)month_number(b, blen);
}

uint64_t month_norm(const char *text, size_t len) { return (uint64_t)month_number(text, len) << 1; }

/* ---------------------------------------------------------------- floats */

enum general_kind { GENERAL_NONE, GENERAL_NAN, GENERAL_NUMBER };

struct general {
    enum general_kind kind;
    long double value;
};

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* What can stand within a number for strtold: 1.5e-7, 0x1p3, infinity, nan(0_a). */
static bool is_numeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '+' ||
           c == '-' || c == '(' || c == ')' || c == '_';
}

/* The text need not end in a NUL, so strtold gets a copy of what could be part of the number, in the C locale whatever
 * the program's is. glibc's C locale is static: it cannot fail, and freeing it does nothing. */
static struct general read_general(const char *text, size_t len)
{
    char brief[256];
    char *copy = len < sizeof brief ? brief : mem_alloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *end;
    struct general g = {.kind = GENERAL_NUMBER};
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    g.value = strtold_l(copy, &end, c_locale);
    freelocale(c_locale);
    if (end == copy)
        g.kind = GENERAL_NONE;
    else if (isnan(g.value))
        g.kind = GENERAL_NAN;
    if (copy != brief) free(copy);
    return g;
}

static bool continues_number(char c) { return c == 'e' || c == 'E' || c == 'x' || c == 'X' || c == '.'; }

#if LDBL_MANT_DIG >= 64
/* Plain decimals of at most 19 digits: the digits and the power of ten they are divided by are both exact as long
 * doubles, so the one division rounds as strtold does. False for anything else. */
static bool read_plain(const char *p, const char *end, struct general *g)
{
    bool negative = p < end && *p == '-';
    p += p < end && (*p == '-' || *p == '+');
    uint64_t value = 0;
    unsigned digits = 0, behind = 0;
    bool point = false;
    for (; p < end; p++) {
        unsigned d = (unsigned)(unsigned char)*p - '0';
        if (d < 10) {
            value = value * 10 + d;
            digits++;
            behind += point;
            if (digits > 19) return false;
        } else if (*p == '.' && !point) {
            point = true;
        } else {
            break;
        }
    }
    if (digits == 0 || (p < end && continues_number(*p))) return false;
    long double size = (long double)value / (long double)decimal_power[behind];
    *g = (struct general){.kind = GENERAL_NUMBER, .value = negative ? -size : size};
    return true;
}
#endif

static struct general general_read(const char *text, size_t len)
{
    const char *end = text + len;
    while (text < end && is_space(*text)) text++;
    struct general g;
#if LDBL_MANT_DIG >= 64
    if (read_plain(text, end, &g)) return g;
#endif
    const char *p = text;
    while (p < end && is_numeric(*p)) p++;
    return read_general(text, (size_t)(p - text));
}

int general_compare(const char *a, size_t alen, const char *b, size_t blen)
{
    struct general x = general_read(a, alen), y = general_read(b, blen);
    if (x.kind != y.kind) return x.kind < y.kind ? -1 : 1;
    if (x.kind != GENERAL_NUMBER) return 0;
    return (x.value > y.value) - (x.value < y.value);
}

/*
 * The codes: 0 no number, 1 NaN, and around FLOAT_ZERO the size of a number: its binary exponent, moved to begin at 1,
 * then the next 45 bits of its mantissa below the leading one, then whether bits that are not 0 follow, which is what
 * makes it inexact. Infinity is the exponent beyond all others.
 */
enum { MANTISSA_BITS = 45, EXPONENT_BIAS = 17000, EXPONENT_INFINITE = 50000 };
#define FLOAT_ZERO (UINT64_C(1) << 62)
_Static_assert(EXPONENT_BIAS > LDBL_MANT_DIG - LDBL_MIN_EXP, "the smallest exponent is above 0");
_Static_assert(EXPONENT_BIAS + LDBL_MAX_EXP < EXPONENT_INFINITE, "infinity is larger than all else");
_Static_assert(EXPONENT_INFINITE < 1 << 16, "exponent, mantissa and one more bit fit below FLOAT_ZERO");

static uint64_t float_size(long double value)
{
    if (value == 0) return 0;
    if (isinf(value)) return (uint64_t)EXPONENT_INFINITE << (MANTISSA_BITS + 1);
    int exponent;
    long double mantissa = ldexpl(frexpl(value, &exponent), MANTISSA_BITS + 1);
    uint64_t top = (uint64_t)mantissa;
    uint64_t below_leading = top & ((UINT64_C(1) << MANTISSA_BITS) - 1);
    uint64_t more = mantissa != (long double)top;
    return (uint64_t)(exponent + EXPONENT_BIAS) << (MANTISSA_BITS + 1) | below_leading << 1 | more;
}

uint64_t general_norm(const char *text, size_t len)
{
    struct general g = general_read(text, len);
    if (g.kind != GENERAL_NUMBER) return (uint64_t)g.kind << 1;
    uint64_t size = float_size(fabsl(g.value));
    bool inexact = g.value != 0 && !isinf(g.value) && (size & 1) != 0;
    return (g.value < 0 ? FLOAT_ZERO - size : FLOAT_ZERO + size) << 1 | inexact;
}
