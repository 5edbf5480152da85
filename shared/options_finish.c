/*
 * When all values are taken: the order compiled, words put where they belong, and what does not go together refused.
 * See options_intake.h.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/dataset.h"
#include "shared/mem.h"
#include "shared/options_intake.h"

/* ---- what does not go together ----------------------------------------------------------------------------------- */

/* Counts only what the command line says: a config file may well hold a --ttl that --check has no use for. */
static const enum option_id conflicts[][2] = {
    {OPT_CHECK, OPT_DROP},
    {OPT_CHECK, OPT_TTL},
    {OPT_CHECK, OPT_KEEP},
    {OPT_CHECK, OPT_LEASE},
    {OPT_DROP, OPT_EXAMPLE},
    {OPT_DROP, OPT_SORT},
    {OPT_DROP, OPT_TTL},
    {OPT_DROP, OPT_FROM_COMMAND},
    {OPT_DROP, OPT_KEEP},
    {OPT_DROP, OPT_LEASE},
    {OPT_DROP, OPT_ZERO},
    {OPT_EXAMPLE, OPT_SORT},
    {OPT_EXAMPLE, OPT_ZERO},
    {OPT_ALL, OPT_ID},
    {OPT_VERIFY, OPT_STATUS},
    {OPT_EXAMPLE, OPT_FROM_COMMAND},
    {OPT_VERIFY, OPT_JOBS},
    {OPT_STATUS, OPT_JOBS},
    {OPT_STATUS, OPT_OUTPUT},
    {OPT_STATUS, OPT_UNIQUE},
    {OPT_STATUS, OPT_LIMIT},
    {OPT_STATUS, OPT_TAG},
    {OPT_STATUS, OPT_STATS},
    {OPT_STATUS, OPT_LIST},
    {OPT_JOBS, OPT_OUTPUT},
    {OPT_JOBS, OPT_UNIQUE},
    {OPT_JOBS, OPT_LIMIT},
    {OPT_JOBS, OPT_TAG},
    {OPT_JOBS, OPT_STATS},
    {OPT_JOBS, OPT_LIST},
    {OPT_JOBS, OPT_WORKERS},
    {OPT_JOBS, OPT_SINCE},
    {OPT_QUIET, OPT_VERBOSE},
    {OPT_CHECK_FILE, OPT_OUTPUT},
    {OPT_CHECK_FILE, OPT_UNIQUE},
    {OPT_CHECK_FILE, OPT_LIMIT},
    {OPT_CHECK_FILE, OPT_TAG},
    {OPT_CHECK_FILE, OPT_VERIFY},
    {OPT_CHECK_FILE, OPT_LIST},
    {OPT_CHECK_FILE, OPT_STATUS},
    {OPT_CHECK_FILE, OPT_JOBS},
    {OPT_CHECK_FILE, OPT_STATS},
    {OPT_CHECK_FILE, OPT_BATCH},
    {OPT_CHECK_FILE, OPT_RESUME},
    {OPT_RESUME, OPT_VERIFY},
    {OPT_RESUME, OPT_STATUS},
    {OPT_RESUME, OPT_JOBS},
    {OPT_CHECK_FILE, OPT_PARTIAL},
    {OPT_CHECK_FILE, OPT_MAX_MISSING},
    {OPT_STATUS, OPT_PARTIAL},
    {OPT_STATUS, OPT_MAX_MISSING},
    {OPT_JOBS, OPT_PARTIAL},
    {OPT_JOBS, OPT_MAX_MISSING},
    {OPT_CONSUME, OPT_CHECK_FILE},
    {OPT_CONSUME, OPT_VERIFY},
    {OPT_CONSUME, OPT_STATUS},
    {OPT_CONSUME, OPT_JOBS},
};

static const enum option_id needs[][2] = {{OPT_ALL, OPT_DROP}, {OPT_FORCE, OPT_DROP}};

static struct fault *check_pairs(const struct intake *in)
{
    for (size_t i = 0; i < sizeof conflicts / sizeof *conflicts; i++)
        if (intake_is_asked(in, conflicts[i][0]) && intake_is_asked(in, conflicts[i][1]))
            return fault_new(FAULT_USAGE, "--%s does not go with --%s", option_rows[conflicts[i][0]].name,
                             option_rows[conflicts[i][1]].name);
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (intake_is_asked(in, needs[i][0]) && !intake_is_asked(in, needs[i][1]))
            return fault_new(FAULT_USAGE, "--%s needs --%s", option_rows[needs[i][0]].name,
                             option_rows[needs[i][1]].name);
    return NULL;
}

/* ---- the order --------------------------------------------------------------------------------------------------- */

static struct fault *compile(const struct intake *in)
{
    struct fault *f = order_compile(in->o->order);
    if (!f || in->order_layer == LAYER_COMMAND_LINE) return f;
    struct fault *named = fault_new(FAULT_BAD_CONFIG, "the order of the config file: %s", fault_message(f));
    fault_free(f);
    return named;
}

/* The example is numbers; an order of the config file was meant for other data. */
static struct fault *finish_example(struct intake *in)
{
    struct options *o = in->o;
    if (in->order_layer == LAYER_COMMAND_LINE) {
        struct fault *f = compile(in);
        bool other = !f && strcmp(order_text(o->order), "-n") != 0;
        return other ? fault_new(FAULT_USAGE, "--example is in order -n, not %s", order_sort_command(o->order)) : f;
    }
    order_free(o->order);
    o->order = order_new();
    struct fault *f = order_letter(o->order, 'n');
    return f ? f : order_compile(o->order);
}

/* ---- the worker -------------------------------------------------------------------------------------------------- */

static struct fault *about_word(const char *word, const char *why)
{
    char *shown = mem_quote(word, strlen(word));
    struct fault *f = fault_new(FAULT_USAGE, "%s %s", shown, why);
    free(shown);
    return f;
}

static struct fault *finish_command(struct intake *in, size_t words, char **command)
{
    if (words > 0 || !command || !*command)
        return fault_new(FAULT_USAGE, "--from-command: the command comes at the end, behind --: nwm-worker … "
                                      "--from-command -- CMD [ARG…]");
    size_t n = 0;
    while (command[n]) n++;
    in->o->command = mem_array(NULL, n + 1, sizeof *in->o->command);
    for (size_t i = 0; i < n; i++) in->o->command[i] = mem_strdup(command[i]);
    in->o->command[n] = NULL;
    return NULL;
}

static struct fault *finish_file(struct intake *in, char **words, size_t count)
{
    struct options *o = in->o;
    if (count == 0) return NULL;
    if (count > 1) return about_word(words[1], "is a second FILE; a worker loads one");
    if (o->example) return about_word(words[0], "is a FILE, which --example has no use for");
    if (o->drop)
        return about_word(words[0], "is a FILE, which --drop has no use for; the dataset is named by -j and -i");
    if (*words[0] == '\0') return about_word(words[0], "is no FILE");
    if (strcmp(words[0], "-") != 0) o->file = mem_strdup(words[0]);
    return NULL;
}

/* 18 digits, so that everything calculated from it fits. */
static bool is_example_id(const char *id)
{
    size_t len = strlen(id);
    return len > 0 && len <= 18 && strspn(id, "0123456789") == len;
}

static struct fault *check_id(const struct intake *in, char **words, size_t count)
{
    const struct options *o = in->o;
    bool needed = !(o->check && !o->example) && !o->drop_all;
    if (!o->id && needed && count == 1 && dataset_name_is_valid(words[0]))
        return about_word(words[0], "is taken for the FILE; which dataset? Its id is given with -i ID");
    if (!o->id && needed)
        return fault_new(FAULT_USAGE, "which dataset? Its id is missing: -i ID (or NWM_ID, or id in the config file)");
    if (o->example && !is_example_id(o->id))
        return about_word(o->id, "is no id for --example: it calculates with a number");
    return NULL;
}

static struct fault *finish_worker(struct intake *in, char **words, size_t count, char **command)
{
    struct fault *f = NULL;
    if (intake_is_asked(in, OPT_FROM_COMMAND)) f = finish_command(in, count, command);
    if (!f) f = check_id(in, words, count);
    if (!f) f = finish_file(in, words, count);
    if (!f && in->o->drop && in->order_layer == LAYER_COMMAND_LINE)
        f = fault_new(FAULT_USAGE, "--drop has no use for an order");
    return f;
}

/* ---- the merger -------------------------------------------------------------------------------------------------- */

static struct fault *check_merger_id(char **words, size_t i)
{
    if (strstr(words[i], "://")) return fault_new(FAULT_USAGE, "a URL is given with -U URL, not as an id");
    if (strchr(words[i], '/'))
        return about_word(words[i],
                          "is no id but a file's name: files are loaded by nwm-worker, and merged from Redis");
    if (!dataset_name_is_valid(words[i]))
        return about_word(words[i], "is no id of a dataset: 1 to 64 of A-Z a-z 0-9 . _ -");
    for (size_t j = 0; j < i; j++)
        if (strcmp(words[i], words[j]) == 0) return about_word(words[i], "is named twice");
    return NULL;
}

/* A device or a FIFO: what was written there is gone. */
static bool is_special(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

/* Of options that do not go together, what the config file says about all merges yields to what the command line says of this one. */
static void yield_to_command_line(struct intake *in)
{
    struct options *o = in->o;
    bool resume = intake_is_asked(in, OPT_RESUME), consume = intake_is_asked(in, OPT_CONSUME);
    bool partial = intake_is_asked(in, OPT_PARTIAL) || intake_is_asked(in, OPT_MAX_MISSING);
    if (partial && !resume) o->resume = false;
    if (o->check_file || ((resume || consume) && !partial)) o->partial = false;
    if ((resume && o->resume) || o->consume) o->verify = false;
    if (!resume && o->output && is_special(o->output)) o->resume = false;
}

/* What a config file says is left out where it cannot be done; what the command line says is refused. */
static struct fault *finish_resume(struct intake *in)
{
    struct options *o = in->o;
    yield_to_command_line(in);
    bool asked = intake_is_asked(in, OPT_RESUME) && o->resume;
    if (asked && !o->output)
        return fault_new(FAULT_USAGE, "--resume needs -o FILE: what went to standard output cannot be continued");
    if (asked && o->list_count > 0)
        return fault_new(FAULT_USAGE,
                         "--resume does not go with --list: nothing tells whether a plain list was changed "
                         "between two runs");
    if (o->consume && o->list_count > 0)
        return fault_new(FAULT_USAGE,
                         "--consume does not go with --list: a plain list has no manifest that could say who "
                         "consumes it, and how far");
    if (intake_is_asked(in, OPT_CHECKPOINT_EVERY) && !o->resume && !o->consume)
        return fault_new(FAULT_USAGE, "--checkpoint-every needs --resume or --consume");
    if (o->program == PROGRAM_MERGER && intake_is_asked(in, OPT_LEASE) && !o->consume)
        return fault_new(FAULT_USAGE, "--lease needs --consume");
    o->resume |= o->consume && o->output;
    if (!o->output || o->list_count > 0 || o->verify || o->status || o->jobs || o->check_file) o->resume = false;
    /* A dataset that was left out and is back when the merge continues would have its items behind larger ones. */
    if ((o->resume || o->consume) && o->partial)
        return fault_new(FAULT_USAGE, "--%s does not go with --partial or --max-missing: what continues must be whole",
                         o->consume ? "consume" : "resume");
    return NULL;
}

static struct fault *finish_merger(struct intake *in, char **words, size_t count)
{
    struct options *o = in->o;
    o->ids = mem_array(NULL, count + 1, sizeof *o->ids);
    for (size_t i = 0; i < count; i++) {
        struct fault *f = check_merger_id(words, i);
        if (f) return f;
        o->ids[o->id_count++] = mem_strdup(words[i]);
    }
    if (count > 0 && o->jobs) return about_word(words[0], "is an id, which --jobs has no use for");
    if (count > 0 && intake_is_asked(in, OPT_WORKERS) && o->workers != count)
        return fault_new(FAULT_USAGE, "--workers %zu, but %zu id%s named", o->workers, count,
                         count == 1 ? " is" : "s are");
    /* One of the config file is about the whole job. */
    if (count > 0 && !intake_is_asked(in, OPT_WORKERS)) o->workers = 0;
    /* Lists of the config file have nothing to prove anything by. */
    while (o->check_file && o->list_count > 0) free(o->lists[--o->list_count]);
    if (intake_is_asked(in, OPT_STATS_FILE) && o->stats == STATS_NONE)
        return fault_new(FAULT_USAGE, "--stats-file needs --stats text or --stats json");
    return finish_resume(in);
}

struct fault *intake_finish(struct intake *in, char **words, size_t count, char **command)
{
    struct fault *f = check_pairs(in);
    if (!f) f = in->o->example ? finish_example(in) : compile(in);
    if (!f && in->o->separator == '\0') order_hint_zero(in->o->order);
    if (!f && in->o->program == PROGRAM_WORKER) f = finish_worker(in, words, count, command);
    if (!f && in->o->program == PROGRAM_MERGER) f = finish_merger(in, words, count);
    return f ? f : access_finish(in);
}
