/*
 * digest.h - one number for a multiset of items: the sum modulo 2^128 of XXH3-128 (seed 0) of each item's bytes.
 *
 * It depends neither on batches nor on the order items come in, so the digests of streams add up to the digest of
 * the merge. XXH3 is no defence against forgery: it finds accidents, not attackers. Library: xxHash.
 */
#ifndef NWM_DIGEST_H
#define NWM_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct digest {
    uint64_t high, low;
};

enum { DIGEST_TEXT = 33 }; /* 32 hex digits and a NUL */

void digest_add_item(struct digest *d, const char *item, size_t len);
void digest_add(struct digest *d, const struct digest *other);
/* Takes other's items out again. */
void digest_subtract(struct digest *d, const struct digest *other);
bool digest_equal(const struct digest *a, const struct digest *b);
/* 32 lower-case hex digits, big-endian. */
void digest_text(const struct digest *d, char text[DIGEST_TEXT]);
/* false when it is not 32 lower-case hex digits. */
bool digest_parse(const char *text, struct digest *out);

/* XXH3-128 (seed 0) of a run of bytes that comes in pieces. */
struct byte_digest;
struct byte_digest *byte_digest_new(void);
void byte_digest_free(struct byte_digest *b);
void byte_digest_add(struct byte_digest *b, const void *data, size_t len);
/* Of all added so far; more may be added. */
struct digest byte_digest_value(const struct byte_digest *b);

#endif
