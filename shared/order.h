/*
 * order.h - what "sorted" means: the letters of sort(1) compiled into comparisons.
 *
 * An order is built from letters and keys, then compiled once; compiled it is immutable and can be shared by threads.
 * Everything means what GNU sort means by it under LC_ALL=C with -s (stable: no last-resort comparison):
 *
 *   bytes (no letter), -n exact decimals, -g long double, -M months, -r, -b, -f, -k KEYDEF (several), -t CHAR.
 *
 * Two ways to compare, and one promise between them:
 *   order_compare()  the truth, on whole items
 *   order_norm()     64 bits of the first key. norm(a) < norm(b) implies compare(a, b) < 0. Equal norms with the lowest
 *                    bit clear (NORM_EXACT) imply compare(a, b) == 0; with it set, order_compare() must decide.
 *                    (In every pair of equal upper 63 bits the lowest bits are equal too, so the norms themselves order.)
 *
 * Skipping: where the first key is compared as plain bytes (order_can_skip), keys that share a long prefix would tie on
 * their first bytes. order_norm() with skip > 0 looks at the key from byte `skip` on; it is comparable only among items
 * whose keys share their first `skip` bytes and were normalised with the same skip.
 */
#ifndef NWM_ORDER_H
#define NWM_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/fault.h"

struct order;

#define NORM_INEXACT 1u
static inline bool norm_is_exact(uint64_t norm) { return (norm & NORM_INEXACT) == 0; }

/* An order under construction: plain bytes. Owned by the caller; order_free() at any stage. */
struct order *order_new(void);
void order_free(struct order *o);

/* A global letter: n g M r b f. Others, and what sort has and nwmerge has not, are Usage. */
struct fault *order_letter(struct order *o, char letter) MUST_CHECK;
/* -k: POS1[,POS2] with sort's own letters. Usage, naming the text, when it is not one. */
struct fault *order_key(struct order *o, const char *keydef) MUST_CHECK;
/* -t: one byte, or \0 as two characters. Usage for none, for several, and for a second different one. */
struct fault *order_separator(struct order *o, const char *text) MUST_CHECK;
/* Has any letter, key or separator been given? */
bool order_is_given(const struct order *o);

/* Folds the global letters into the keys and seals it. Usage for combinations sort refuses (-n with -g, …). */
struct fault *order_compile(struct order *o) MUST_CHECK;

/* From the canonical text, compiled. The caller frees *out. BadContract when the text is not canonical. */
struct fault *order_parse(const char *canonical, struct order **out) MUST_CHECK;

/* The canonical text of a compiled order, as sealed into the manifest: global letters folded into the keys, letters
 * alphabetical, -t as hex; "" is bytes order. Two orders are the same exactly when their texts are. Examples:
 * "" · "-n" · "-nr" · "-k2,2nr -t2c" · "-k1.3,1.5b -k4n". Owned by the order. */
const char *order_text(const struct order *o);
/* The same for people: "bytes" instead of "". */
const char *order_name(const struct order *o);
/* The command line of sort(1) that sorts this way, for hints: "LC_ALL=C sort -s -k2,2nr -t ,". Owned by the order. */
const char *order_sort_command(const struct order *o);
/* Items end with a NUL byte: the hint says -z too. Once, after order_compile(). */
void order_hint_zero(struct order *o);

int order_compare(const struct order *o, const char *a, size_t alen, const char *b, size_t blen);
/* skip: 0, or as described above; ignored unless order_can_skip(). */
uint64_t order_norm(const struct order *o, const char *item, size_t len, size_t skip);

/* order_norm() with skip = prefix_len for an item whose first key begins with the prefix; false for one whose key does not.
 * Only where order_can_skip(). */
bool order_norm_behind(const struct order *o, const char *item, size_t len, const char *prefix, size_t prefix_len,
                       uint64_t *norm);

/* The same for an item that comes behind another one whose first key begins with the prefix: *falls says whether it sorts before that
 * one. What the two share is looked at once, for the prefix and the order (R: user time 38 to 34 ns an item). Only where
 * order_is_bytes(). */
bool order_norm_after(const struct order *o, const char *before, size_t before_len, const char *item, size_t len,
                      size_t prefix_len, uint64_t *norm, bool *falls);

/* Is all that is compared the whole item as bytes, forwards or with -r? */
bool order_is_bytes(const struct order *o);
bool order_can_skip(const struct order *o);
/* How many bytes the first keys of a and b share from their beginning. Only where order_can_skip(). */
size_t order_shared(const struct order *o, const char *a, size_t alen, const char *b, size_t blen);

/* The first key of an item, as bytes within it (for people and for grouping). */
void order_first_key(const struct order *o, const char *item, size_t len, const char **key, size_t *key_len);

#endif
