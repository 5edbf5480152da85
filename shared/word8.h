/*
 * word8.h - eight bytes at a time: loading them from anywhere, and the few tricks order's codes are made of.
 *
 * A word holds the first byte in its lowest eight bits on every machine. Nothing here reads outside [p, p + n).
 */
#ifndef NWM_WORD8_H
#define NWM_WORD8_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WORD8_EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

static inline uint64_t word8_load(const char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return le64toh(w);
}

static inline uint64_t word8_load4(const char *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return le32toh(w);
}

/* n < 8 bytes, NULs behind them. The loads overlap, and overlapping bytes are or-ed with themselves. */
static inline uint64_t word8_load_part(const char *p, size_t n)
{
    if (n >= 4) return word8_load4(p) | word8_load4(p + n - 4) << (8 * (n - 4));
    if (n == 0) return 0;
    const unsigned char *u = (const unsigned char *)p;
    return (uint64_t)u[0] | (uint64_t)u[n / 2] << (8 * (n / 2)) | (uint64_t)u[n - 1] << (8 * (n - 1));
}

/* The first eight of n bytes, or all of them. */
static inline uint64_t word8_load_most(const char *p, size_t n)
{
    return n >= 8 ? word8_load(p) : word8_load_part(p, n);
}

/* As numbers, big-endian words order like the bytes they hold. */
static inline uint64_t word8_big_endian(uint64_t w) { return __builtin_bswap64(w); }

/* a..z become A..Z, all other bytes stay: adding puts "at least a" and "beyond z" into each byte's top bit. */
static inline uint64_t word8_upper(uint64_t w)
{
    uint64_t seven = w & WORD8_EACH(0x7f);
    uint64_t at_least_a = seven + WORD8_EACH(0x80 - 'a');
    uint64_t beyond_z = seven + WORD8_EACH(0x7f - 'z');
    uint64_t lower = at_least_a & ~beyond_z & ~w & WORD8_EACH(0x80);
    return w ^ lower >> 2;
}

/* Zero when all eight bytes are decimal digits; otherwise its lowest bit is in the first that is not. Of the bytes
 * behind that one it says nothing: a carry may have reached them. */
static inline uint64_t word8_other(uint64_t w)
{
    uint64_t t = w ^ WORD8_EACH('0');
    return (t | (t + WORD8_EACH(0x80 - 10))) & WORD8_EACH(0x80);
}

/* How many digits the word begins with. */
static inline unsigned word8_digits(uint64_t w)
{
    uint64_t other = word8_other(w);
    return other ? (unsigned)__builtin_ctzll(other) / 8 : 8;
}

/* The number that eight bytes from 0 to 9 are the digits of: pairs, then fours, then all, as in Daniel Lemire's "Quickly
 * parsing eight digits" (2018). */
static inline uint64_t word8_number(uint64_t t)
{
    uint64_t every_fourth = UINT64_C(0x000000ff000000ff);
    t = t * 10 + (t >> 8);
    return ((t & every_fourth) * UINT64_C(0x000f424000000064) +
            (t >> 16 & every_fourth) * UINT64_C(0x0000271000000001)) >>
           32;
}

/* The value of the first n bytes, 1 to 8, which are digits. */
static inline uint64_t word8_decimal(uint64_t w, unsigned n)
{
    return word8_number((w ^ WORD8_EACH('0')) << (64 - 8 * n));
}

/* The value of the last n bytes, 1 to 8, which are digits. */
static inline uint64_t word8_decimal_last(uint64_t w, unsigned n)
{
    return word8_number((w ^ WORD8_EACH('0')) & UINT64_MAX << (64 - 8 * n));
}

#endif
