/* shared/backoff: the waits, their jitter, and the end of trying. */
#include <criterion/criterion.h>

#include "shared/backoff.h"

Test(backoff, waits_double_up_to_the_most)
{
    struct backoff b = backoff_start(1000000, 7);
    for (int64_t full = 50, i = 0; i < 20; i++) {
        int64_t wait;
        cr_assert(backoff_next(&b, 0, &wait));
        cr_assert(wait >= full / 2 && wait <= full, "wait %d of at most %d", (int)wait, (int)full);
        full = full * 2 < 2000 ? full * 2 : 2000;
    }
}

Test(backoff, jitter_differs_by_seed_and_uses_its_range)
{
    int64_t least = 5000, most = 0;
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct backoff b = backoff_start(1000000, seed * 0x9E3779B97F4A7C15);
        int64_t wait = 0;
        for (int i = 0; i < 8; i++) cr_assert(backoff_next(&b, 0, &wait));
        if (wait < least) least = wait;
        if (wait > most) most = wait;
    }
    cr_assert(least >= 1000 && least < 1100, "%d", (int)least);
    cr_assert(most <= 2000 && most > 1900, "%d", (int)most);
}

Test(backoff, gives_up_when_the_time_is_over)
{
    struct backoff b = backoff_start(10000, 1);
    int64_t now = 5000000, began = now, wait;
    while (backoff_next(&b, now, &wait)) {
        cr_assert(now + wait <= began + 10000);
        cr_assert_eq(backoff_left_ms(&b, now), began + 10000 - now);
        now += wait;
    }
    cr_assert_eq(now, began + 10000, "the last try is made at the very end");
    cr_assert_eq(backoff_tried_ms(&b, now), 10000);
    cr_assert_eq(backoff_left_ms(&b, now + 1), 0);
}

Test(backoff, progress_begins_anew)
{
    struct backoff b = backoff_start(1000, 1);
    int64_t wait;
    cr_assert_eq(backoff_left_ms(&b, 999999), 1000);
    cr_assert_eq(backoff_tried_ms(&b, 999999), 0);
    for (int64_t now = 0; now < 100000; now += 900) {
        cr_assert(backoff_next(&b, now, &wait));
        cr_assert_leq(wait, 50);
        backoff_progress(&b);
    }
}

Test(backoff, no_time_at_all)
{
    struct backoff b = backoff_start(0, 1);
    int64_t wait;
    cr_assert_not(backoff_next(&b, 3, &wait));
}
