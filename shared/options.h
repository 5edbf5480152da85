/*
 * options.h - the one option table: command line, environment, config file and --help come from it.
 *
 * Precedence: command line, environment (NWM_URL, NWM_JOB, NWM_ID, REDISCLI_AUTH), config file, defaults.
 * Every value is checked here, strictly: a Usage fault names the option, the value and the limit; for the config file
 * BadConfig names file and line.
 */
#ifndef NWM_OPTIONS_H
#define NWM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"
#include "shared/fault.h"
#include "shared/order.h"

enum program { PROGRAM_WORKER = 1, PROGRAM_MERGER = 2 };
enum stats_format { STATS_NONE, STATS_TEXT, STATS_JSON };

enum { FOREVER = -1 }; /* a time in ms that never passes */

/* What the user asked for. Read-only once parsed; owned by options_free(). */
struct options {
    enum program program;
    bool help, version; /* print and exit 0; everything else may be unset */

    /* both */
    char *job;                   /* "default" */
    struct order *order;         /* compiled; order_is_given() says whether any letter was */
    char separator;              /* '\n', or NUL with -z */
    struct endpoint **endpoints; /* at least one; the worker has exactly one */
    size_t endpoint_count;
    char *prefix;        /* "nwm:" */
    int64_t timeout_ms;  /* 30 s; bound on connecting and on a reply that does not come (both programs) */
    int64_t deadline_ms; /* of the whole run; 0: none */
    bool quiet, verbose;
    int64_t lease_ms; /* 15 s; at least 1 s; the merger has one with --consume */

    /* worker */
    char *id;       /* NULL only with --check, or --drop --all */
    char *file;     /* NULL: standard input */
    char **command; /* --from-command: NULL-terminated argv, or NULL */
    bool example, sort, check, drop, drop_all, force;
    int64_t ttl_ms;  /* 0: none */
    int64_t keep_ms; /* 3600 s */

    /* merger */
    char **ids; /* as named, in that order */
    size_t id_count;
    bool job_is_given; /* on the command line: with --list, without it and without ids only the lists take part */
    size_t workers;    /* 0: not given */
    bool has_since;
    bool since_is_ago; /* since_s is an age: seconds before Redis's now; else Unix seconds */
    int64_t since_s;
    int64_t wait_ms;    /* 30 s, 0 = do not wait, FOREVER */
    bool partial;       /* go on without datasets that cannot be had */
    size_t max_missing; /* so many at most; SIZE_MAX unless said otherwise */
    char **lists;
    size_t list_count;
    char *output;     /* NULL: standard output */
    char *check_file; /* NULL: merge */
    bool resume, consume;
    size_t checkpoint_bytes; /* 64 MiB: a checkpoint after so much output, */
    int64_t checkpoint_ms;   /* 5 s: and after so long */
    bool unique, tag, verify, status, jobs, progress;
    bool has_limit;
    uint64_t limit;
    enum stats_format stats;
    char *stats_file;
    size_t memory; /* bytes, 64 MiB; at least 1 MiB */
    size_t batch;  /* items, 0 = adapt */
};

/* Parses everything. On a fault *o is still to be freed. */
struct fault *options_parse(struct options *o, enum program program, int argc, char **argv) MUST_CHECK;
void options_free(struct options *o);

/* --help and --version, to standard output. */
void options_print_help(enum program program);
void options_print_version(enum program program);

/* "90s", "15m", "2h", "1d", bare seconds, fractions too ("1.5s"); false when it is none or overflows. */
bool parse_time_ms(const char *text, int64_t *ms);
/* "64M", "1G", "512K", bare bytes (1024-based, as sort -S and redis). */
bool parse_size(const char *text, size_t *bytes);

#endif
