#include "shared/options_table.h"

#include <string.h>

#include "shared/options_intake.h"

/* clang-format off */
#define W PROGRAM_WORKER
#define M PROGRAM_MERGER
#define B PROGRAM_BOTH
#define TO(field) offsetof(struct options, field)
#define TO_ACCESS(field) offsetof(struct access, field)
/* in_config, repeats */
#define HERE false, false
#define CONF true, false
#define MANY true, true

#define SECOND UINT64_C(1000)
#define YEARS (UINT64_C(36500) * 86400 * SECOND)

const struct option_row option_rows[OPT_COUNT] = {
    [OPT_JOB] = {"job", 'j', B, GROUP_DATA, CONF, "NAME", "the job the datasets belong to (default: default)",
        take_job, TO(job), 0, 0},
    [OPT_ID] = {"id", 'i', W, GROUP_DATA, CONF, "ID", "the dataset's id in its job: a number or a name; needed",
        take_name, TO(id), 0, 0},
    [OPT_WORKERS] = {"workers", 'w', M, GROUP_DATA, CONF, "N",
        "the job has exactly N datasets: wait for the missing, refuse more", take_number, TO(workers), 1, 1000000},
    [OPT_SINCE] = {"since", 0, M, GROUP_DATA, CONF, "TIME",
        "only loads that began since then count: @EPOCH, or 90m or 6h ago; older ones are not there yet",
        take_since, 0, 0, YEARS},
    [OPT_WAIT] = {"wait", 0, M, GROUP_DATA, CONF, "TIME",
        "how long to wait for readiness while nothing moves (default 30s; 0: not at all; forever); a worker that is alive "
        "moves", take_wait, TO(wait_ms), 0, YEARS},
    [OPT_LIST] = {"list", 0, M, GROUP_DATA, MANY, "KEY",
        "merge this plain Redis list too; may be repeated; with no -j and no ID, only such lists",
        take_list, 0, 0, 0},

    [OPT_PARTIAL] = {"partial", 0, M, GROUP_DATA, CONF, NULL,
        "go on without datasets that failed, vanished or did not come in time; exit 3 then", take_flag, TO(partial), 0, 0},
    [OPT_MAX_MISSING] = {"max-missing", 0, M, GROUP_DATA, CONF, "N",
        "the same, but without at most N of them", take_missing, TO(max_missing), 0, 1000000},

    [OPT_FROM_COMMAND] = {"from-command", 0, W, GROUP_LOADING, HERE, NULL,
        "load what `-- CMD [ARG…]` prints; if CMD fails, nothing is published", take_flag, 0, 0, 0},
    [OPT_EXAMPLE] = {"example", 0, W, GROUP_LOADING, HERE, NULL,
        "load the tutorial's arithmetic dataset for this id (implies -n)", take_flag, TO(example), 0, 0},
    [OPT_SORT] = {"sort", 0, W, GROUP_LOADING, CONF, NULL, "sort in memory first, for input that is not sorted yet",
        take_flag, TO(sort), 0, 0},
    [OPT_CHECK] = {"check", 'c', W, GROUP_LOADING, HERE, NULL, "check the order, print items and bytes, touch no Redis",
        take_flag, TO(check), 0, 0},
    [OPT_TTL] = {"ttl", 0, W, GROUP_LOADING, CONF, "TIME",
        "let Redis drop the dataset that long after it is ready (default 0: never)", take_time, TO(ttl_ms), 0, YEARS},
    [OPT_KEEP] = {"keep", 0, W, GROUP_LOADING, CONF, "TIME",
        "how much longer the previous load stays, for merges that read it (default 1h)", take_time, TO(keep_ms), 0, YEARS},

    [OPT_DROP] = {"drop", 0, W, GROUP_DROPPING, HERE, NULL, "remove the dataset, say what was removed, and leave",
        take_flag, TO(drop), 0, 0},
    [OPT_ALL] = {"all", 0, W, GROUP_DROPPING, HERE, NULL, "with --drop: all datasets of the job",
        take_flag, TO(drop_all), 0, 0},
    [OPT_FORCE] = {"force", 0, W, GROUP_DROPPING, HERE, NULL, "with --drop: even while a worker is loading",
        take_flag, TO(force), 0, 0},

    [OPT_OUTPUT] = {"output", 'o', M, GROUP_OUTPUT, CONF, "FILE",
        "write to FILE instead of standard output: whole or not there, replaced at the end", take_text, TO(output), 0, 0},
    [OPT_RESUME] = {"resume", 0, M, GROUP_OUTPUT, CONF, NULL,
        "with -o: after a crash, a fault or ^C the same command continues where the last checkpoint is",
        take_flag, TO(resume), 0, 0},
    [OPT_CONSUME] = {"consume", 0, M, GROUP_OUTPUT, HERE, NULL,
        "remove items from Redis once they are safe: on disk with -o (which then resumes), else written",
        take_flag, TO(consume), 0, 0},
    [OPT_CHECKPOINT_EVERY] = {"checkpoint-every", 0, M, GROUP_OUTPUT, CONF, "SIZE|TIME",
        "with --resume and --consume: how much output (64M) or time (5s) from one checkpoint to the next (default: both)",
        take_checkpoint, 0, 1, UINT64_C(86400) * SECOND},
    [OPT_UNIQUE] = {"unique", 'u', M, GROUP_OUTPUT, CONF, NULL, "the first of equal keys only",
        take_flag, TO(unique), 0, 0},
    [OPT_LIMIT] = {"limit", 0, M, GROUP_OUTPUT, CONF, "N", "stop after N items, and stop fetching",
        take_limit, TO(limit), 0, UINT64_MAX},
    [OPT_TAG] = {"tag", 0, M, GROUP_OUTPUT, CONF, NULL, "put each item's dataset id and a tab in front of it",
        take_flag, TO(tag), 0, 0},

    [OPT_VERIFY] = {"verify", 0, M, GROUP_LOOKING, CONF, NULL,
        "also fetch every dataset whole, sort it locally, and compare (holds all data in memory)",
        take_flag, TO(verify), 0, 0},
    [OPT_CHECK_FILE] = {"check", 0, M, GROUP_LOOKING, HERE, "FILE",
        "merge nothing: prove that FILE (or -) is what these datasets merge to, by count, order and digest",
        take_text, TO(check_file), 0, 0},
    [OPT_STATUS] = {"status", 0, M, GROUP_LOOKING, HERE, NULL,
        "a table of the job's datasets; exit 0: all ready, 4: something failed, 6: still loading",
        take_flag, TO(status), 0, 0},
    [OPT_JOBS] = {"jobs", 0, M, GROUP_LOOKING, HERE, NULL, "the jobs on this Redis", take_flag, TO(jobs), 0, 0},
    [OPT_STATS] = {"stats", 0, M, GROUP_LOOKING, CONF, "FORMAT",
        "what took how long, as text or json, on standard error", take_stats, TO(stats), 0, 0},
    [OPT_STATS_FILE] = {"stats-file", 0, M, GROUP_LOOKING, CONF, "FILE", "… or into FILE",
        take_text, TO(stats_file), 0, 0},
    [OPT_PROGRESS] = {"progress", 0, M, GROUP_LOOKING, CONF, NULL,
        "progress on standard error; on by itself when that is a terminal", take_flag, TO(progress), 0, 0},
    [OPT_MEMORY] = {"memory", 0, M, GROUP_LOOKING, CONF, "SIZE",
        "cap on what is read ahead and buffered (default 64M, at least 1M)",
        take_size, TO(memory), UINT64_C(1) << 20, UINT64_C(1) << 50},
    [OPT_BATCH] = {"batch", 0, M, GROUP_LOOKING, CONF, "N", "fetch N items at a time instead of adapting",
        take_number, TO(batch), 1, 10000000},

    [OPT_NUMBER] = {"numeric-sort", 'n', B, GROUP_ORDER, CONF, NULL, "exact decimal numbers of any length",
        take_letter, 'n', 0, 0},
    [OPT_GENERAL] = {"general-numeric-sort", 'g', B, GROUP_ORDER, CONF, NULL, "floating point numbers",
        take_letter, 'g', 0, 0},
    [OPT_MONTH] = {"month-sort", 'M', B, GROUP_ORDER, CONF, NULL, "month names: JAN to DEC", take_letter, 'M', 0, 0},
    [OPT_REVERSE] = {"reverse", 'r', B, GROUP_ORDER, CONF, NULL, "the other way round", take_letter, 'r', 0, 0},
    [OPT_BLANKS] = {"ignore-leading-blanks", 'b', B, GROUP_ORDER, CONF, NULL, "leading blanks do not count",
        take_letter, 'b', 0, 0},
    [OPT_FOLD] = {"ignore-case", 'f', B, GROUP_ORDER, CONF, NULL, "small letters as large ones", take_letter, 'f', 0, 0},
    [OPT_KEY] = {"key", 'k', B, GROUP_ORDER, MANY, "KEYDEF",
        "by this part of the item: F[.C][letters][,F[.C][letters]]; may be repeated", take_key, 0, 0, 0},
    [OPT_SEPARATOR] = {"field-separator", 't', B, GROUP_ORDER, CONF, "CHAR",
        "what separates fields, instead of the change from non-blank to blank", take_separator, 0, 0, 0},
    [OPT_ZERO] = {"zero-terminated", 'z', B, GROUP_ORDER, CONF, NULL, "items end with a NUL byte, not a newline",
        take_zero, 0, 0, 0},
    [OPT_MERGE] = {"merge", 'm', B, GROUP_ORDER, HERE, NULL, "accepted for sort's sake: merging is what this does",
        take_nothing, 0, 0, 0},
    [OPT_STABLE] = {"stable", 's', B, GROUP_ORDER, HERE, NULL, "accepted too: every merge is stable",
        take_nothing, 0, 0, 0},

    [OPT_URL] = {"url", 'U', B, GROUP_REDIS, MANY, "URL",
        "redis://[user[:password]@]host[:port][/db], rediss://… for TLS, or unix:///path[?db=N] (default "
        "redis://127.0.0.1:6379); the merger takes several", access_url, 0, 0, 0},
    [OPT_HOST] = {"host", 0, B, GROUP_REDIS, CONF, "HOST", "host name or address", access_host, TO_ACCESS(host), 0, 0},
    [OPT_PORT] = {"port", 0, B, GROUP_REDIS, CONF, "PORT", "port", access_port, TO_ACCESS(port), 0, 0},
    [OPT_SOCKET] = {"socket", 0, B, GROUP_REDIS, CONF, "PATH", "unix socket, instead of host and port",
        access_socket, TO_ACCESS(socket), 0, 0},
    [OPT_DB] = {"db", 0, B, GROUP_REDIS, CONF, "N", "number of the database", access_db, TO_ACCESS(db), 0, 0},
    [OPT_USER] = {"user", 0, B, GROUP_REDIS, CONF, "NAME", "user name (Redis 6 or newer)",
        access_text, TO_ACCESS(user), 0, 0},
    [OPT_PASS] = {"pass", 0, B, GROUP_REDIS, CONF, "PASSWORD", "password; others can see it in the list of processes",
        access_text, TO_ACCESS(pass), 0, 0},
    [OPT_PASS_FILE] = {"pass-file", 0, B, GROUP_REDIS, CONF, "FILE", "the password is the first line of FILE",
        access_text, TO_ACCESS(pass_file), 0, 0},
    [OPT_ASKPASS] = {"askpass", 0, B, GROUP_REDIS, HERE, NULL, "ask for the password on the terminal",
        access_flag, TO_ACCESS(askpass), 0, 0},
    [OPT_TLS] = {"tls", 0, B, GROUP_REDIS, CONF, NULL, "use TLS, as rediss:// does", access_flag, TO_ACCESS(tls), 0, 0},
    [OPT_CACERT] = {"cacert", 0, B, GROUP_REDIS, CONF, "FILE", "trust this authority instead of the system's",
        access_text, TO_ACCESS(cacert), 0, 0},
    [OPT_CERT] = {"cert", 0, B, GROUP_REDIS, CONF, "FILE", "certificate of this client",
        access_text, TO_ACCESS(cert), 0, 0},
    [OPT_CERT_KEY] = {"cert-key", 0, B, GROUP_REDIS, CONF, "FILE", "its private key",
        access_text, TO_ACCESS(cert_key), 0, 0},
    [OPT_PREFIX] = {"prefix", 0, B, GROUP_REDIS, CONF, "TEXT", "what all keys begin with (default nwm:)",
        take_prefix, TO(prefix), 0, 0},
    [OPT_TIMEOUT] = {"timeout", 0, B, GROUP_REDIS, CONF, "TIME",
        "how long to wait for a connection, or for a reply that does not come (default 30s)",
        take_time, TO(timeout_ms), 1, YEARS},
    [OPT_DEADLINE] = {"deadline", 0, B, GROUP_REDIS, CONF, "TIME",
        "how long the whole run may take (default: no bound)", take_time, TO(deadline_ms), 1, YEARS},
    [OPT_LEASE] = {"lease", 0, B, GROUP_REDIS, CONF, "TIME",
        "after how long a worker, or a merger that consumes, counts as lost when it is not heard of (default 15s, "
        "at least 1s)", take_time, TO(lease_ms), SECOND, YEARS},

    [OPT_CONFIG] = {"config", 0, B, GROUP_OTHER, HERE, "FILE",
        "read options from FILE instead of $NWM_CONFIG, ~/.config/nwmerge.conf or /etc/nwmerge.conf",
        take_nothing, 0, 0, 0},
    [OPT_QUIET] = {"quiet", 'q', B, GROUP_OTHER, CONF, NULL, "print nothing but faults", take_flag, TO(quiet), 0, 0},
    [OPT_VERBOSE] = {"verbose", 'v', B, GROUP_OTHER, CONF, NULL, "say on standard error what is done",
        take_flag, TO(verbose), 0, 0},
    [OPT_HELP] = {"help", 0, B, GROUP_OTHER, HERE, NULL, "print this", take_flag, TO(help), 0, 0},
    [OPT_VERSION] = {"version", 0, B, GROUP_OTHER, HERE, NULL, "print versions", take_flag, TO(version), 0, 0},
};
/* clang-format on */

const struct option_row *option_named(const char *name, unsigned programs)
{
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (strcmp(option_rows[i].name, name) == 0 && option_rows[i].programs & programs) return &option_rows[i];
    return NULL;
}

const struct option_row *option_lettered(char letter, unsigned programs)
{
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (option_rows[i].letter == letter && option_rows[i].programs & programs) return &option_rows[i];
    return NULL;
}
