/*
 * backoff.h - when to try again what failed, and when to give up: waits of 50 ms, doubling to 2 s, each made up to half
 * shorter at random so that many clients of one server do not come back in step.
 *
 * The clock runs from the first failure after progress. It knows no connection and asks no clock: `now` is clock_ms().
 *
 *     struct backoff b = backoff_start(timeout_ms, seed);
 *     … it works:  backoff_progress(&b);
 *     … it failed: if (backoff_next(&b, clock_ms(), &wait_ms)) wait, then try again; else give up
 */
#ifndef NWM_BACKOFF_H
#define NWM_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

enum { BACKOFF_FIRST_MS = 50, BACKOFF_MOST_MS = 2000 };

struct backoff {
    int64_t timeout_ms;
    uint64_t random; /* state of the jitter, never 0 */
    unsigned tries;  /* since the last progress; 0: all is well */
    int64_t since;   /* when the first of them failed */
};

/* timeout_ms: how long failures may follow each other. seed: anything that differs between processes. */
struct backoff backoff_start(int64_t timeout_ms, uint64_t seed);
/* Something was done: the next failure is a first one again. */
void backoff_progress(struct backoff *b);
/* A failure, now. False when the time is over: give up. Else how long to wait before the next try, which is never
 * later than the end of the time: a last try is made then. */
bool backoff_next(struct backoff *b, int64_t now, int64_t *wait_ms);
/* How much of the time is left, at least 0: the bound for a try. timeout_ms while all is well. */
int64_t backoff_left_ms(const struct backoff *b, int64_t now);
/* For how long it has been failing; 0 while all is well. */
int64_t backoff_tried_ms(const struct backoff *b, int64_t now);

#endif
