/*
 * pulse.h - what else goes on while the worker waits or works: a signal is noticed, a lost lease, the progress line
 * drawn.
 */
#ifndef NWM_PULSE_H
#define NWM_PULSE_H

#include "shared/fault.h"

enum { PULSE_MS = 1000 }; /* at least this often during a wait */

/* All zero is a valid one that only notices signals. */
struct pulse {
    struct fault *(*beat)(void *arg);
    void *arg;
};

/* Called about every second of a wait, and now and then between items. Interrupted if a signal came, else what beat
 * says; a fault ends what was going on. */
struct fault *pulse_beat(const struct pulse *p) MUST_CHECK;

#endif
