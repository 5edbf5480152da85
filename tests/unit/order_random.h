/*
 * order_random.h - random options and random items for the tests of order.
 *
 * Small alphabets and few values on purpose: equal keys, near misses and the borders of the codes are what breaks.
 */
#ifndef NWM_TESTS_ORDER_RANDOM_H
#define NWM_TESTS_ORDER_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/order.h"

struct random {
    uint64_t state;
};

/* NWM_SEED, or from the clock; printed to standard error so that a failure can be repeated. */
uint64_t random_seed(const char *test);
/* NWM_CASES, or that many. */
unsigned random_cases(unsigned by_default);

uint64_t random_next(struct random *r);
/* From 0 to n - 1. */
unsigned random_below(struct random *r, unsigned n);
bool random_chance(struct random *r, unsigned percent);

/* Options as a command line has them: argv[0 .. argc) are "-n", "-k2,3r", "-t,"… */
struct random_options {
    char argv[8][48];
    int argc;
    /* What to put between fields of an item: the separator, or a blank. */
    char between;
    /* Items hold no NaN. */
    bool no_nan;
};

void random_options_make(struct random *r, struct random_options *options);
/* The options joined by blanks, for people. */
const char *random_options_text(const struct random_options *options);
/* An order of those options, compiled. */
struct fault *random_options_order(const struct random_options *options, struct order **out) MUST_CHECK;

/* Appends an item. zero: it may hold newlines and holds no NUL, else the other way round. */
void random_item(struct random *r, const struct random_options *options, bool zero, struct buf *item);

#endif
