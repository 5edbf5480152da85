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
    if (n >= 4)
        return word8_load4(p) | word8_load4(p + n - 4) << (8 * (n - 4));
    if (n == 0)
        return 0;
    const unsigned char *u = (const unsigned char *)p;
    return (uint64_t)u[0] | (uint64_t)u[n / 2] << (8 * (n / 2)) | (uint64_t)u[n - 1] << (8 * (n - 1));
}

/* The first eight of n bytes, or all of them. */
static inline uint64_t word8_load_most(const char *p, size_t n)
{
    return n >= 8 ? word8_load(p) : word8_load_part(p, n);
}

/* As numbers, big-endian words order like the bytes they hold. */
static inline uint64_t word8_big_endian(uint64_t w)
{
    return __builtin_bswap64(w);
}

/* a..z become A..Z, all other bytes stay: adding puts "at least a" and "beyond z" into each byte's top bit. */
static inline uint64_t word8_upper(uint64_t w)
{
    uint64_t seven = w & WORD8_EACH(0x7f);
    uint64_t at_least_a = seven + WORD8_EACH(0x80 - 'a');
    uint64_t beyond_z = seven + WORD8_EACH(0x7f - 'z');
    uint64_t lower = at_least_a & ~beyond_z & ~w & WORD8_EACH(0x80);
    return w ^ lower >> 2;
}

/* How many of the eight bytes are decimal digits before the first that is not. A carry out of a byte reaches only
 * those behind it, so the first is always found rightly. */
static inline unsigned word8_digits(uint64_t w)
{
    uint64_t t = w ^ WORD8_EACH('0');
    uint64_t other = (t | (t + WORD8_EACH(0x80 - 10))) & WORD8_EACH(0x80);
    return other ? (unsigned)__builtin_ctzll(other) / 8 : 8;
}

/* The value of the first n > 0 bytes, which are digits: pairs, then fours, then all eight, as in Daniel Lemire's
 * "Quickly parsing eight digits" (2018), with zeros shifted in front. */
static inline uint64_t word8_decimal(uint64_t w, unsigned n)
{
    uint64_t t = (w ^ WORD8_EACH('0')) << (64 - 8 * n);
    t = t * 10 + (t >> 8);
    uint64_t odd = UINT64_C(0x000000ff000000ff);
    return ((t & odd) * UINT64_C(0x000f424000000064) + (t >> 16 & odd) * UINT64_C(0x0000271000000001)) >> 32;
}

#endif
