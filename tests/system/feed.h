/*
 * feed.h - what tests of the worker and of Redis set up: a worker that is fed by hand, and the server's own word on what
 * was said to it. Memory, times and directories as in harness.h.
 */
#ifndef NWM_TESTS_FEED_H
#define NWM_TESTS_FEED_H

#include "tests/system/scene.h"

/* ---- a worker that is fed by hand */

/* A worker whose input is a FIFO that this process holds open. */
struct feed {
    struct proc *worker;
    int fd;
    char *list; /* the key of its items */
};
enum { FEED_BLOCK = 4000 }; /* items after which the worker pushes what it has, when they are short */

/* nwm-worker OPTIONS -i ID FIFO; returns when it has begun (state loading) on that server (NULL: the test programs'). */
void feed_begin(struct feed *f, struct server *s, const char *id, const char *options);
/* Returns when the worker has taken it out of the FIFO, or ended. */
void feed_write(struct feed *f, const char *text);
/* n numbers of ten digits, from first on, a line each. */
void feed_numbers(struct feed *f, long first, size_t n);
/* Waits until the list holds so many items. */
void feed_wait_length(struct feed *f, struct server *s, long items);
/* The end of the input, and of the worker. */
struct run feed_end(struct feed *f);

/* ---- servers, NULL being the test programs' */

const char *ask(struct server *s, const char *format, ...) HARNESS_PRINTF(2, 3);
const char *field(struct server *s, const char *id, const char *name);
/* Waits until the dataset is in that state. */
void wait_state(struct server *s, const char *id, const char *state);
/* The number behind "name:" in INFO SECTION; -1 when it is not there. */
long info_number(struct server *s, const char *section, const char *name);

/* ---- what was said to a server */

/* Everything published on a channel from now on; lines "SUBSCRIBE"/"message", channel, text, as redis-cli prints them. */
struct proc *listen_to(const char *channel);
/* Waits until that text was published. */
void wait_message(struct proc *listener, const char *text);

/* MONITOR into the file "monitor" of the test's directory. */
struct proc *monitor_begin(struct server *s);
/* Returns when everything up to now is in the file. */
void monitor_end(struct server *s, struct proc *monitor);

#endif
