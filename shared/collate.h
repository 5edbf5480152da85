/*
 * collate.h - the kinds of comparison other than decimals: bytes, bytes with a..z folded to A..Z, months, floats.
 *
 * Each has a compare (negative, 0, positive) and a norm: 63 bits that order like it, then order.h's NORM_INEXACT where
 * texts of the same 63 bits may still differ. No two norms differ in that bit alone.
 */
#ifndef NWM_COLLATE_H
#define NWM_COLLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int bytes_compare(const char *a, size_t alen, const char *b, size_t blen);
/* Seven bytes and the length up to 8: exact for texts of at most seven bytes. */
uint64_t bytes_norm(const char *text, size_t len);

int folded_compare(const char *a, size_t alen, const char *b, size_t blen);
uint64_t folded_norm(const char *text, size_t len);

/* How many bytes two texts share from their beginning, a and A being the same if folded. */
size_t bytes_shared(const char *a, size_t alen, const char *b, size_t blen, bool folded);

/* `sort -M`: blanks, then JAN to DEC in any case; everything else comes before JAN. Always exact. */
int month_compare(const char *a, size_t alen, const char *b, size_t blen);
uint64_t month_norm(const char *text, size_t len);

/* `sort -g`: what strtold reads in the C locale, of the kind long double; no number at all, then NaN, then -inf … inf;
 * -0 is 0. All NaNs are equal, although sort tells them apart: 9.1 by their bytes, some of which it never set, and 9.7
 * by their sign, the other way round. So what any of them has sorted is in order. */
int general_compare(const char *a, size_t alen, const char *b, size_t blen);
uint64_t general_norm(const char *text, size_t len);

#endif
