/*
 * options_habits.h - what to say to those who type an option of sort, redis-cli or the other program.
 */
#ifndef NWM_OPTIONS_HABITS_H
#define NWM_OPTIONS_HABITS_H

#include "shared/fault.h"
#include "shared/options.h"

/* Usage about an option that this program has not: a letter, or (letter 0) a long name with or without its dashes. */
struct fault *habit_fault(enum program program, char letter, const char *name);

#endif
