/*
 * source.h - where items come from: a file, standard input, a command, the tutorial's arithmetic, and any of them
 * sorted first.
 */
#ifndef NWM_SOURCE_H
#define NWM_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/options.h"
#include "shared/pulse.h"

struct source;

/* Says what the options ask for; opens nothing yet. The options must outlive the source.
 * Usage when --example has an id that is no number, or one whose arithmetic would leave 64 bits. */
struct fault *source_new(const struct options *o, struct source **out) MUST_CHECK;
/* Ends a command that still runs. NULL is fine. */
void source_free(struct source *s);
void source_set_pulse(struct source *s, struct pulse p);

/* Opens the file, starts the command. NoInput, naming what and why. */
struct fault *source_open(struct source *s) MUST_CHECK;
/* The next item; *end when there is none any more. Valid until the call after the next one. With --sort the first call
 * reads and sorts everything. NoInput, BadItem, Interrupted, and what the pulse says. */
struct fault *source_next(struct source *s, struct bytes *item, bool *end) MUST_CHECK;

/* Can it be read again: a regular file, what was sorted in memory, the example? A pipe and a command cannot. */
bool source_can_rewind(const struct source *s);
/* The first item again, and all that follow. Only of one that can. NoInput. */
struct fault *source_rewind(struct source *s) MUST_CHECK;
/* At the end: gives back the memory that it read into, which makes the last items invalid. */
void source_rest(struct source *s);

/* "part-2.txt", "standard input", "command 'gen 3'", "example 2"; the source's. */
const char *source_name(const struct source *s);
/* Where item number n (from 1) stands, for people: "line 18", or "item 18" where items are no lines. The caller frees.
 */
char *source_place(const struct source *s, uint64_t n);
/* Bytes read so far, and how many there will be; 0 when nobody knows. */
uint64_t source_bytes_read(const struct source *s);
uint64_t source_size(const struct source *s);

#endif
