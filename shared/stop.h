/*
 * stop.h - SIGINT, SIGTERM and SIGHUP as something to wait for, not something that happens.
 *
 * After stop_install() the first such signal is remembered and makes stop_fd() readable; the program ends its work in
 * order and then calls stop_raise(), so that the shell sees a death by that signal. A second one, of any of the three,
 * kills at once, for people who press ^C twice. What was ignored at the start (nohup) stays ignored. SIGPIPE and
 * SIGXFSZ are ignored from here on: a closed pipe and a file at its limit are errors of write().
 *
 * The deadline of the whole run is one more such signal, SIGALRM: what a signal ends, it ends. It is no death by a signal, though,
 * but a fault (Timeout), and ^C still works after it.
 */
#ifndef NWM_STOP_H
#define NWM_STOP_H

#include <stdint.h>

#include "shared/fault.h"

void stop_install(void);
/* --deadline: after so many ms the program is to end as by a signal, so that every wait that ends at one ends then too. Only the
 * first of the two counts. 0: no deadline. */
void stop_at_deadline(int64_t ms);
/* The signal that came, or 0. SIGALRM is the deadline. */
int stop_signal(void);
/* Readable once a signal came; for poll and event loops. Never read from it. */
int stop_fd(void);
/* What the program ends with: an Interrupted of our own becomes a Timeout that names the deadline, if that was what ended it, and
 * stays otherwise what it is. Returns f; NULL stays NULL. */
struct fault *stop_explain(struct fault *f);
/* Undoes stop_install(), for a child between fork and exec: a command must die of SIGPIPE as its author meant it to. */
void stop_forget(void);
/* Restores the default action of that signal and raises it. Does not return. */
_Noreturn void stop_raise(int number);

#endif
