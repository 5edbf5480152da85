/*
 * reader.h - bytes of a descriptor, cut into items at each separator.
 *
 * Two blocks of memory take turns: what the one holds stays where it is while the other is filled. So an item stays
 * valid until the call after the next one, and the order of neighbours is checked without a copy. A block grows to the
 * largest item it had to hold.
 *
 *      block A   … | item i-1 | item i | be-          block B   -ginning of i+1 | i+2 | …
 *                  delivered, still valid   └── copied ──┘
 */
#ifndef NWM_READER_H
#define NWM_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/pulse.h"

/* Redis takes no item larger than this, whatever its configuration. */
#define ITEM_MAX ((size_t)512 << 20)

struct reader;

/* Opens a file to be read, without waiting for the writer of a FIFO. path NULL: standard input. name: for messages. NoInput, for a
 * directory too. */
struct fault *reader_open(const char *path, const char *name, int *fd) MUST_CHECK;
/* Takes over fd (closed by reader_free, unless it is 0). name: for messages, copied. */
struct reader *reader_new(int fd, const char *name, char separator);
void reader_free(struct reader *r);
void reader_set_pulse(struct reader *r, struct pulse p);
/* Items longer than this are BadItem, found before they are in memory; 512 MB unless said otherwise. */
void reader_set_longest(struct reader *r, size_t longest);
/* Can it be read again? A regular file can. */
bool reader_can_rewind(const struct reader *r);
/* From the beginning again; every item of before is invalid. NoInput. */
struct fault *reader_rewind(struct reader *r) MUST_CHECK;
/* At the end: gives the memory back. Nothing comes any more, unless it is rewound. */
void reader_rest(struct reader *r);

/* The next item, without its separator; *end when there is none any more. The last one needs no separator. Valid until
 * the call after the next. BadItem for one over ITEM_MAX, NoInput when reading fails, Interrupted. */
struct fault *reader_next(struct reader *r, struct bytes *item, bool *end) MUST_CHECK;

/* Items delivered, and bytes read, so far. */
uint64_t reader_items(const struct reader *r);
uint64_t reader_bytes(const struct reader *r);

#endif
