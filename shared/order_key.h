/*
 * order_key.h - one key of an order: where in an item it is, and which letters it has.
 *
 * Positions are kept as sort.c keeps them: words and characters to skip, counted from 0. Only order.c uses this.
 */
#ifndef NWM_ORDER_KEY_H
#define NWM_ORDER_KEY_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/fault.h"
#include "shared/mem.h"

/* The letters of a key. b counts for its start and its end apart. */
enum {
    KEY_NUMBER = 1,
    KEY_GENERAL = 2,
    KEY_MONTH = 4,
    KEY_FOLD = 8,
    KEY_REVERSE = 16,
    KEY_BLANKS_START = 32,
    KEY_BLANKS_END = 64,
    KEY_BLANKS = KEY_BLANKS_START | KEY_BLANKS_END,
    KEY_KINDS = KEY_NUMBER | KEY_GENERAL | KEY_MONTH,
};

/* No separator: a field is blanks and what follows them up to the next blank. */
#define SEPARATOR_NONE (-1)

struct order_key {
    unsigned letters;
    size_t start_word, start_char;
    bool has_end;
    /* end_char 0: up to the end of that field; else that many characters of it. */
    size_t end_word, end_char;
};

/* sort takes a newline for a blank too; it can be within an item only with -z. */
static inline bool key_is_blank(char c) { return c == ' ' || c == '\t' || c == '\n'; }

static inline const char *key_skip_blanks(const char *p, const char *end)
{
    while (p < end && key_is_blank(*p)) p++;
    return p;
}

/* The KEY_ bits of a letter, 0 for what is no letter of ours. */
unsigned key_letter(char letter);
/* Usage about the letter of option -k or of its own, saying so when sort has it. `where` is what was given, quoted. */
struct fault *key_letter_fault(char letter, const char *where);

/* Reads a KEYDEF. Usage names it. */
struct fault *key_parse(struct order_key *key, const char *keydef) MUST_CHECK;

/* Drops what cannot matter (order.c lists it). */
void key_simplify(struct order_key *key);
/* Does the key take the whole item, or all of it behind its leading blanks? */
bool key_is_whole(const struct order_key *key);
/* Does finding the key need fields, and so the separator? */
bool key_uses_fields(const struct order_key *key);

/* Appends the key's letters alphabetically, without those for blanks but the given ones. */
void key_put_letters(struct buf *text, unsigned letters);
/* Appends "-kPOS1[,POS2]". */
void key_put(struct buf *text, const struct order_key *key);

/* Does a number (KEY_NUMBER) that begins where the key does end before the key's own end is looked at? It ends at a blank, as the fields
 * do, and at most separators. */
bool key_number_ends_itself(const struct order_key *key, int separator);

/* The key within an item. separator: a byte, or SEPARATOR_NONE. */
struct bytes key_find(const struct order_key *key, int separator, const char *item, size_t len);

#endif
