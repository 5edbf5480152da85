/*
 * fault.h - an error with a name, a message and a traceback, that can cross from worker to merger.
 *
 * A function that can fail returns `struct fault *`: NULL when it worked, else a fault the caller owns and either
 * returns further up (adding a frame that says what it was doing) or prints and frees. What a peer, a file or a user
 * sent is never asserted on; it becomes a fault.
 *
 * The name decides the exit code, in one table that both programs share. A worker writes name, code, message and
 * traceback into its manifest; the merger reads them back with fault_remote() and ends with the same code.
 */
#ifndef NWM_FAULT_H
#define NWM_FAULT_H

#include <stdbool.h>
#include <stdio.h>

/* Exit codes (README, "Exit codes"). 128+n is a signal, re-raised. */
enum {
    EXIT_DONE = 0,
    EXIT_DATA = 1,
    EXIT_REQUEST = 2,
    EXIT_PARTIAL = 3,
    EXIT_SOURCE = 4,
    EXIT_OUTPUT = 5,
    EXIT_TIMEOUT = 6
};

#define FAULT_TABLE(X)                                                                                                 \
    X(FAULT_UNSORTED, "Unsorted", EXIT_DATA)                                                                           \
    X(FAULT_BAD_ITEM, "BadItem", EXIT_DATA)                                                                            \
    X(FAULT_CHANGED, "Changed", EXIT_DATA)                                                                             \
    X(FAULT_VANISHED, "Vanished", EXIT_DATA)                                                                           \
    X(FAULT_MISMATCH, "Mismatch", EXIT_DATA)                                                                           \
    X(FAULT_CONSUMED, "Consumed", EXIT_DATA)                                                                           \
    X(FAULT_USAGE, "Usage", EXIT_REQUEST)                                                                              \
    X(FAULT_ORDER_CONFLICT, "OrderConflict", EXIT_REQUEST)                                                             \
    X(FAULT_WRONG_COUNT, "WrongCount", EXIT_REQUEST)                                                                   \
    X(FAULT_NO_MEMORY, "NoMemory", EXIT_REQUEST)                                                                       \
    X(FAULT_BAD_CONFIG, "BadConfig", EXIT_REQUEST)                                                                     \
    X(FAULT_BAD_CONTRACT, "BadContract", EXIT_REQUEST)                                                                 \
    X(FAULT_PARTIAL, "Partial", EXIT_PARTIAL)                                                                          \
    X(FAULT_NO_INPUT, "NoInput", EXIT_SOURCE)                                                                          \
    X(FAULT_WORKER_LOST, "WorkerLost", EXIT_SOURCE)                                                                    \
    X(FAULT_LEASE_LOST, "LeaseLost", EXIT_SOURCE)                                                                      \
    X(FAULT_DUPLICATE_WORKER, "DuplicateWorker", EXIT_SOURCE)                                                          \
    X(FAULT_BUSY, "Busy", EXIT_SOURCE)                                                                                 \
    X(FAULT_LOST, "Lost", EXIT_SOURCE)                                                                                 \
    X(FAULT_INTERRUPTED, "Interrupted", EXIT_SOURCE)                                                                   \
    X(FAULT_UNREACHABLE, "Unreachable", EXIT_SOURCE)                                                                   \
    X(FAULT_DENIED, "Denied", EXIT_SOURCE)                                                                             \
    X(FAULT_NO_DATASETS, "NoDatasets", EXIT_SOURCE)                                                                    \
    X(FAULT_WRONG_TYPE, "WrongType", EXIT_SOURCE)                                                                      \
    X(FAULT_PROTOCOL, "Protocol", EXIT_SOURCE)                                                                         \
    X(FAULT_SERVER_FULL, "ServerFull", EXIT_SOURCE)                                                                    \
    X(FAULT_OUTPUT, "Output", EXIT_OUTPUT)                                                                             \
    X(FAULT_TIMEOUT, "Timeout", EXIT_TIMEOUT)

#define FAULT_ENUM(kind, name, code) kind,
enum fault_kind { FAULT_TABLE(FAULT_ENUM) FAULT_KINDS };
#undef FAULT_ENUM

struct fault;

/* Marks a result that must be looked at. */
#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(string, args) __attribute__((format(printf, string, args)))

/* A new fault of that kind. The message is one line and starts with what is wrong, not with the fault's name. */
struct fault *fault_new(enum fault_kind kind, const char *format, ...) PRINTF_LIKE(2, 3);

/* Another one that says the same of something else: kind, message and frames, without subject and origin. */
struct fault *fault_copy(const struct fault *f);

/* A fault read back from a manifest. A NULL name is "Unknown"; an exit code outside 1..6 becomes EXIT_SOURCE.
 * traceback: frames separated by newlines, outermost first, or NULL. Everything is copied, and bytes that could play
 * tricks on a terminal are escaped when printed. */
struct fault *fault_remote(const char *name, int exit_code, const char *message, const char *traceback);

/* These four return f, so that `return fault_frame(f, …)` reads well; a NULL stays NULL.
 * Adds a frame outside those there are: "load dataset demo:2". */
struct fault *fault_frame(struct fault *f, const char *format, ...) PRINTF_LIKE(2, 3);
/* Another kind and message for what happened; subject, origin and frames stay. For who knows better than the place where it was found. */
struct fault *fault_become(struct fault *f, enum fault_kind kind, const char *format, ...) PRINTF_LIKE(3, 4);
/* Which dataset, server or file it is about ("demo:2"), printed before the name. Set once: a later call is ignored. */
struct fault *fault_about(struct fault *f, const char *format, ...) PRINTF_LIKE(2, 3);
/* Where it came from ("worker host-a:4211, run 3, part-2.txt line 18"), printed as the second line. Set once,
 * too: who is nearest to the cause knows best. */
struct fault *fault_origin(struct fault *f, const char *format, ...) PRINTF_LIKE(2, 3);

const char *fault_name(const struct fault *f);
const char *fault_message(const struct fault *f);
int fault_exit(const struct fault *f);
bool fault_is(const struct fault *f, enum fault_kind kind);
/* Says that it may pass by itself (a connection was lost, a server still reads its data): trying again can help. Returns f. */
struct fault *fault_passing(struct fault *f);
bool fault_may_pass(const struct fault *f);
/* What fault_about() set, or NULL. */
const char *fault_subject(const struct fault *f);
/* The frames, one a line, outermost first, no newline at the end; "" when there are none. Caller frees. */
char *fault_traceback(const struct fault *f);

/* Prints it as the design's section 3 shows: "program: demo:2: Unsorted: message", then origin and traceback. */
void fault_print(const struct fault *f, const char *program, FILE *to);
/* NULL is fine. */
void fault_free(struct fault *f);

/* The exit code and the name of a kind. */
int fault_kind_exit(enum fault_kind kind);
const char *fault_kind_name(enum fault_kind kind);

#endif
