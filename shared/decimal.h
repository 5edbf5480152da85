/*
 * decimal.h - exact decimal numbers in text, as `sort -n` reads them: any length, with fractions.
 *
 * A number is blanks, an optional -, digits, and optionally a point and digits; what follows is ignored and what is
 * missing is 0. There is no +, no exponent, no grouping. -0 is 0.
 */
#ifndef NWM_DECIMAL_H
#define NWM_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

int decimal_compare(const char *a, size_t alen, const char *b, size_t blen);

/* 63 bits that order like the number, then order.h's NORM_INEXACT where others of the same code may differ. Exact for
 * integers from -10^18 to 3*10^18 (so that nanoseconds since 1970 are). */
uint64_t decimal_norm(const char *text, size_t len);

/* 10^n for n from 0 to 19. */
extern const uint64_t decimal_power[20];

#endif
