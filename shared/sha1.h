/*
 * sha1.h - SHA-1 (FIPS 180-4), only because Redis names its cached scripts by it (EVALSHA). No protection is built on
 * it.
 */
#ifndef NWM_SHA1_H
#define NWM_SHA1_H

#include <stddef.h>

enum { SHA1_TEXT = 41 }; /* 40 hex digits and a NUL */

/* The hash of len bytes as lower-case hex digits. */
void sha1_text(const void *data, size_t len, char text[SHA1_TEXT]);

#endif
