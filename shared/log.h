/*
 * log.h - what a program says to people, on standard error. Standard output is for data.
 *
 * Three loudnesses: faults always, notes unless --quiet, details with --verbose. A progress line that stands on a
 * terminal is cleared before anything else is printed.
 */
#ifndef NWM_LOG_H
#define NWM_LOG_H

#include <stdbool.h>

#include "shared/fault.h"

/* program: the name printed before every line; must outlive the log. */
void log_init(const char *program, bool quiet, bool verbose);
const char *log_program(void);

/* Details, with --verbose. "program: text\n". */
void log_detail(const char *format, ...) PRINTF_LIKE(1, 2);
/* What everybody should know, unless --quiet: the receipt, warnings. */
void log_note(const char *format, ...) PRINTF_LIKE(1, 2);
/* Always. */
void log_fault(const struct fault *f);

/* All three end the line themselves and escape what could play tricks on a terminal, newlines too (buf_escape).
 *
 * The line at the bottom of a terminal: each call replaces the last; NULL clears it. Where standard error is no
 * terminal, each is a line of its own (the caller paces them). Silent with --quiet. */
void log_progress(const char *line);
bool log_is_terminal(void);

#endif
