/*
 * scene.h - what tests of the merger set up: datasets loaded by workers or planted by hand, a reader that does not read,
 * and what faults look like. Memory, times and directories as in harness.h.
 */
#ifndef NWM_TESTS_SCENE_H
#define NWM_TESTS_SCENE_H

#include "tests/system/harness.h"

/* ---- data */

/* n numbers, one a line: first, first + step, … */
char *numbers(long first, long step, size_t n);
/* How many lines. */
size_t count_lines(const char *text, size_t len);
/* The output is the file's bytes, and neither is missing. */
void expect_same_files(const char *a, const char *b);

/* ---- datasets */

/* nwm-worker OPTIONS -i ID, from a file of that content; it must succeed. */
struct run load(const char *id, const char *options, const char *content);
/* The items (a line each) as a ready dataset that no worker made: by the contract alone, with redis commands, without any
 * event and without a digest. Nobody checked their order. */
void plant(const char *id, const char *order, const char *items);

/* n datasets of `each` items on that server, by the contract alone: item j of dataset i is i + n j, in 12 digits. All of them
 * merged are the numbers 0 to n each - 1, and each comes from another dataset than the one before. */
void plant_many(struct server *s, int n, int each);

/* ---- a reader that does not read */

/* A FIFO in the test's directory whose reading end this process holds, so that a writer can open it at once, fills it,
 * and then waits. */
struct tap;
struct tap *tap_open(const char *name);
/* Waits until there is something to read. */
void tap_wait(struct tap *t, struct proc *writer);
/* Reads until the writer has closed it. */
char *tap_drain(struct tap *t, size_t *len);
/* Goes away: the writer gets EPIPE. */
void tap_close(struct tap *t);

/* A job of its own size on a server of its own, and a merger that is in the middle of it: something was written to the
 * FIFO "out", and far from all was read. */
struct middle {
    struct server server;
    struct proc *merger;
    struct tap *tap;
    char *list[4]; /* the keys of the four lists; id 0 to 3 */
};
enum { MIDDLE_ITEMS = 50000 }; /* of each list: id + 4 n, in 12 digits */
/* Further options of the merger, which writes to standard output; they may redirect it. */
void middle_begin(struct middle *m, const char *options);
/* The same, the server with these lines of configuration. */
void middle_begin_with(struct middle *m, const char *config, const char *options);
/* Reads the rest and waits for the end. */
struct run middle_end(struct middle *m, char **out, size_t *len);

/* ---- calls that break */

/* nwm-merger with these options; one of its calls of the C library fails, or is its last, as the plan says (shim_calls.c). */
struct run run_broken(const char *plan, const char *options);

/* ---- watching */

/* Cond: a merger of the test's job is connected to the test programs' server. */
bool merger_is_there(void *unused);
/* The same, and it has subscribed to the job's events. */
bool merger_listens(void *unused);
/* How often the server ran the command ("lrange"). */
long calls_of(struct server *s, const char *command);
/* The number after "name": in JSON, at its first place after `after` ("" for the beginning); -1 when it is not there. */
double json_number(const char *json, const char *after, const char *name);

/* ---- faults */

/* The exit code, and "SUBJECT: NAME: " on standard error; subject NULL: just ": NAME: " */
#define expect_fault(r, code, name, subject)                                                                           \
    do {                                                                                                               \
        struct run fault_r_ = (r);                                                                                     \
        const char *subject_ = (subject);                                                                              \
        expect_exit(fault_r_, (code));                                                                                 \
        expect_err_has(fault_r_, subject_ ? fmt("%s: %s: ", subject_, (name)) : fmt(": %s: ", (name)));                \
    } while (0)
/* "JOB:ID" of the test's job. */
const char *dataset(const char *id);

#endif
