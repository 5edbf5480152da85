#include "shared/pulse.h"

#include <string.h>

#include "shared/stop.h"

struct fault *pulse_beat(const struct pulse *p)
{
    int number = stop_signal();
    if (number != 0) return fault_new(FAULT_INTERRUPTED, "ended by signal %d (%s)", number, strsignal(number));
    return p->beat ? p->beat(p->arg) : NULL;
}
