/*
 * command.h - a command whose output is the input, and whose end says whether that was all of it.
 *
 * A plain pipe cannot tell "finished" from "died half way"; this can. The command runs in a process group of its own
 * and does not outlive the load: it is ended when the load fails, and by the kernel when the worker is killed.
 */
#ifndef NWM_COMMAND_H
#define NWM_COMMAND_H

#include <stdint.h>

#include "shared/fault.h"
#include "shared/pulse.h"

struct command;

/* Starts argv[0], found by PATH, with its output in *fd (the caller's). NoInput when it cannot be run. */
struct fault *command_start(char *const argv[], struct command **out, int *fd) MUST_CHECK;
/* After the end of its output: waits for the command itself, with p's pulse. NoInput when it failed, saying after how
 * many items. */
struct fault *command_finish(struct command *c, const struct pulse *p, uint64_t items) MUST_CHECK;
/* Ends it if it still runs: asked first, after a second made to. NULL is fine. */
void command_free(struct command *c);

/* The words of it joined by blanks, for people; the caller frees. */
char *command_text(char *const argv[]);

#endif
