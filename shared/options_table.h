/*
 * options_table.h - the table of all options. Everything that must know them reads it here: the command line, the config
 * file, --help, and the test that compares it with man pages and the annotated config.
 *
 * A new option is a row (options_table.c), an id, a field of struct options, and what the programs do with it.
 */
#ifndef NWM_OPTIONS_TABLE_H
#define NWM_OPTIONS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/options.h"

enum option_id {
    OPT_JOB,
    OPT_ID,
    OPT_WORKERS,
    OPT_SINCE,
    OPT_WAIT,
    OPT_LIST,
    OPT_PARTIAL,
    OPT_MAX_MISSING,
    OPT_FROM_COMMAND,
    OPT_EXAMPLE,
    OPT_SORT,
    OPT_CHECK,
    OPT_TTL,
    OPT_KEEP,
    OPT_LEASE,
    OPT_DROP,
    OPT_ALL,
    OPT_FORCE,
    OPT_OUTPUT,
    OPT_RESUME,
    OPT_CONSUME,
    OPT_CHECKPOINT_EVERY,
    OPT_UNIQUE,
    OPT_LIMIT,
    OPT_TAG,
    OPT_VERIFY,
    OPT_CHECK_FILE,
    OPT_STATUS,
    OPT_JOBS,
    OPT_STATS,
    OPT_STATS_FILE,
    OPT_PROGRESS,
    OPT_MEMORY,
    OPT_BATCH,
    OPT_NUMBER,
    OPT_GENERAL,
    OPT_MONTH,
    OPT_REVERSE,
    OPT_BLANKS,
    OPT_FOLD,
    OPT_KEY,
    OPT_SEPARATOR,
    OPT_ZERO,
    OPT_MERGE,
    OPT_STABLE,
    OPT_URL,
    OPT_HOST,
    OPT_PORT,
    OPT_SOCKET,
    OPT_DB,
    OPT_USER,
    OPT_PASS,
    OPT_PASS_FILE,
    OPT_ASKPASS,
    OPT_TLS,
    OPT_CACERT,
    OPT_CERT,
    OPT_CERT_KEY,
    OPT_PREFIX,
    OPT_TIMEOUT,
    OPT_DEADLINE,
    OPT_CONFIG,
    OPT_QUIET,
    OPT_VERBOSE,
    OPT_HELP,
    OPT_VERSION,
    OPT_COUNT
};

/* The headings of --help, in its order. */
enum option_group {
    GROUP_DATA,
    GROUP_LOADING,
    GROUP_DROPPING,
    GROUP_OUTPUT,
    GROUP_LOOKING,
    GROUP_ORDER,
    GROUP_REDIS,
    GROUP_OTHER,
    GROUP_COUNT
};

enum { PROGRAM_BOTH = PROGRAM_WORKER | PROGRAM_MERGER };

struct intake;

struct option_row {
    const char *name; /* the long one */
    char letter;      /* 0: none */
    unsigned programs;
    enum option_group group;
    bool in_config;       /* may stand in a config file, under its long name */
    bool repeats;         /* each time adds one */
    const char *argument; /* its name in --help; NULL: a flag */
    const char *help;     /* for --help; NULL: not shown on its own */
    /* Takes a checked value: "" for a flag. A Usage fault that begins with the quoted value, or NULL. */
    struct fault *(*take)(struct intake *in, const struct option_row *row, const char *value);
    size_t field;       /* offset in struct options or struct access, as the taker knows */
    uint64_t low, high; /* limits of numbers and times (ms) */
};

extern const struct option_row option_rows[OPT_COUNT];

/* The row of that long name for that program, or NULL. One name may mean another thing in the other program. */
const struct option_row *option_named(const char *name, unsigned programs);
/* The row of that letter for that program, or NULL. */
const struct option_row *option_lettered(char letter, unsigned programs);
static inline enum option_id option_id(const struct option_row *row) { return (enum option_id)(row - option_rows); }

#endif
