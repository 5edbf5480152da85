/*
 * stop.h - SIGINT, SIGTERM and SIGHUP as something to wait for, not something that happens.
 *
 * After stop_install() the first such signal is remembered and makes stop_fd() readable; the program ends its work in
 * order and then calls stop_raise(), so that the shell sees a death by that signal. A second one, of any of the three,
 * kills at once, for people who press ^C twice. What was ignored at the start (nohup) stays ignored. SIGPIPE is ignored
 * from here on: a closed pipe is an error of write().
 */
#ifndef NWM_STOP_H
#define NWM_STOP_H

void stop_install(void);
/* The signal that came, or 0. */
int stop_signal(void);
/* Readable once a signal came; for poll and event loops. Never read from it. */
int stop_fd(void);
/* Undoes stop_install(), for a child between fork and exec: a command must die of SIGPIPE as its author meant it to. */
void stop_forget(void);
/* Restores the default action of that signal and raises it. Does not return. */
_Noreturn void stop_raise(int number);

#endif
