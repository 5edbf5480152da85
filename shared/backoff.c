#include "shared/backoff.h"

struct backoff backoff_start(int64_t timeout_ms, uint64_t seed)
{
    return (struct backoff){.timeout_ms = timeout_ms, .random = seed ? seed : 1};
}

void backoff_progress(struct backoff *b) { b->tries = 0; }

/* xorshift64*: its high bits are good enough for jitter, and any seed but 0 will do. */
static uint64_t next_random(struct backoff *b)
{
    b->random ^= b->random >> 12;
    b->random ^= b->random << 25;
    b->random ^= b->random >> 27;
    return (b->random * UINT64_C(0x2545F4914F6CDD1D)) >> 32;
}

static int64_t full_wait(unsigned tries)
{
    int64_t wait = BACKOFF_FIRST_MS;
    for (unsigned i = 1; i < tries && wait < BACKOFF_MOST_MS; i++) wait *= 2;
    return wait < BACKOFF_MOST_MS ? wait : BACKOFF_MOST_MS;
}

bool backoff_next(struct backoff *b, int64_t now, int64_t *wait_ms)
{
    if (b->tries == 0) b->since = now;
    b->tries++;
    int64_t left = backoff_left_ms(b, now);
    int64_t full = full_wait(b->tries);
    int64_t wait = full - (int64_t)(next_random(b) % (uint64_t)(full / 2 + 1));
    *wait_ms = wait < left ? wait : left;
    return left > 0;
}

int64_t backoff_tried_ms(const struct backoff *b, int64_t now) { return b->tries > 0 ? now - b->since : 0; }

int64_t backoff_left_ms(const struct backoff *b, int64_t now)
{
    int64_t left = b->timeout_ms - backoff_tried_ms(b, now);
    return left > 0 ? left : 0;
}
