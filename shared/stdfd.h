/*
 * stdfd.h - standard input, output and error are never something else.
 *
 * A program started with `>&-` would be given descriptor 1 for the first thing it opens, a connection to Redis, and write
 * its output there.
 */
#ifndef NWM_STDFD_H
#define NWM_STDFD_H

/* First thing in main: a closed standard descriptor becomes one that cannot be used for what it is for (EBADF). */
void stdfd_hold(void);

#endif
