#include "shared/sha1.h"

#include <stdint.h>
#include <string.h>

enum { BLOCK = 64, LENGTH_AT = 56 };

static uint32_t rotate(uint32_t word, int by) { return word << by | word >> (32 - by); }

static uint32_t load_word(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void schedule(const unsigned char *block, uint32_t w[80])
{
    for (int i = 0; i < 16; i++) w[i] = load_word(block + 4 * i);
    for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
}

/* The function and constant of round i. */
static uint32_t mix(int i, uint32_t b, uint32_t c, uint32_t d)
{
    if (i < 20) return ((b & c) | (~b & d)) + 0x5a827999;
    if (i < 40) return (b ^ c ^ d) + 0x6ed9eba1;
    if (i < 60) return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    return (b ^ c ^ d) + 0xca62c1d6;
}

static void add_block(uint32_t h[5], const unsigned char *block)
{
    uint32_t w[80];
    schedule(block, w);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        uint32_t next = rotate(a, 5) + mix(i, b, c, d) + e + w[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

/* What is left over, a one bit, zeros, and the length in bits: one block or two. */
static void add_tail(uint32_t h[5], const unsigned char *rest, size_t left, uint64_t total)
{
    unsigned char tail[2 * BLOCK] = {0};
    memcpy(tail, rest, left);
    tail[left] = 0x80;
    size_t blocks = left < LENGTH_AT ? 1 : 2;
    for (int i = 0; i < 8; i++) tail[blocks * BLOCK - 1 - (size_t)i] = (unsigned char)(total * 8 >> (8 * i));
    for (size_t i = 0; i < blocks; i++) add_block(h, tail + i * BLOCK);
}

void sha1_text(const void *data, size_t len, char text[SHA1_TEXT])
{
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    const unsigned char *p = data;
    size_t left = len;
    for (; left >= BLOCK; p += BLOCK, left -= BLOCK) add_block(h, p);
    add_tail(h, p, left, len);
    for (int i = 0; i < 40; i++) text[i] = "0123456789abcdef"[h[i / 8] >> (28 - 4 * (i % 8)) & 15];
    text[40] = '\0';
}
