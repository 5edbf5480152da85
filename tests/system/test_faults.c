/* The quick part of the fault suite: a few points of each row that is quick. `make faults` runs the whole. */
#include <stdlib.h>

#include "tests/system/harness.h"

enum { QUICK_MS = 280 * 1000 }; /* 25 s when the machine is idle; a sanitizer takes its time */

Test(faults, quick)
{
    const char *seed = getenv("SEED");
    struct run r = run_within(QUICK_MS, "BUILD=%s " NWM_SOURCE "/tests/system/faults --quick %s%s", test_build(),
                              seed ? "--seed " : "", seed ? seed : "");
    expect_exit(r, 0);
    expect_out_has(r, " 0 violations");
}
