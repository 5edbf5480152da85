/*
 * options_parse(): the layers one after the other, from the weakest: config file, environment, command line. The
 * command line is read first, though, because it names the config file and settles which variables count.
 *
 *   options_table.c   the rows             options_config.c   the config file       options_help.c     --help, --version
 *   options_take.c    values, checked      options_access.c   endpoints             options_habits.c   options of others
 *   options_finish.c  what goes together
 */
#include "shared/options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"
#include "shared/options_config.h"
#include "shared/options_habits.h"
#include "shared/options_intake.h"

enum { LONG_ONLY = 256 }; /* getopt's value of a long option: this and its id */

/* The command line, taken apart. Nothing in it is copied. */
struct command_line {
    struct typed {
        const struct option_row *row;
        const char *value; /* "" for a flag */
        bool is_letter;    /* typed as one */
    } * typed;
    size_t typed_count;
    char **words; /* what is no option */
    size_t word_count;
    char **command; /* what came behind --from-command's --, or NULL */
};

/* ---- intake ------------------------------------------------------------------------------------------------------ */

void intake_init(struct intake *in, struct options *o, enum program program)
{
    *in = (struct intake){.o = o};
    *o = (struct options){
        .program = program,
        .job = mem_strdup("default"),
        .order = order_new(),
        .separator = '\n',
        .prefix = mem_strdup("nwm:"),
        .timeout_ms = 30 * 1000,
        .keep_ms = 3600 * 1000,
        .lease_ms = 15 * 1000,
        .wait_ms = 30 * 1000,
        .memory = 64 << 20,
        .checkpoint_bytes = 64 << 20,
        .checkpoint_ms = 5 * 1000,
        .max_missing = SIZE_MAX,
    };
}

void intake_fini(struct intake *in) { access_fini(&in->access); }

struct fault *intake_take(struct intake *in, const struct option_row *row, const char *value)
{
    struct fault *f = row->take(in, row, value);
    if (!f) in->layer_of[option_id(row)] = in->layer;
    return f;
}

bool intake_is_asked(const struct intake *in, enum option_id id) { return in->layer_of[id] == LAYER_COMMAND_LINE; }

/* ---- command line ------------------------------------------------------------------------------------------------ */

struct tables {
    struct option rows[OPT_COUNT + 1];
    char letters[2 * OPT_COUNT + 3];
};

/* Words come in place ("-"), so that those before and behind -- can be told apart; a missing value is ':'. */
static void make_tables(struct tables *t, enum program program)
{
    size_t n = 0;
    char *p = stpcpy(t->letters, "-:");
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (!(row->programs & program)) continue;
        t->rows[n++] =
            (struct option){row->name, row->argument ? required_argument : no_argument, NULL, LONG_ONLY + (int)i};
        if (row->letter) *p++ = row->letter;
        if (row->letter && row->argument) *p++ = ':';
    }
    t->rows[n] = (struct option){0};
    *p = '\0';
}

static const struct option_row *row_of(enum program program, int code)
{
    return code >= LONG_ONLY ? &option_rows[code - LONG_ONLY] : option_lettered((char)code, program);
}

static void show(struct buf *b, const struct option_row *row, bool is_letter)
{
    if (is_letter)
        buf_printf(b, "-%c", row->letter);
    else
        buf_printf(b, "--%s", row->name);
}

static struct fault *lacks_value(enum program program, int code)
{
    const struct option_row *row = row_of(program, code);
    struct buf b = {0};
    show(&b, row, code < LONG_ONLY);
    struct fault *f = fault_new(FAULT_USAGE, "%s: its value is missing (%s)", buf_text(&b), row->argument);
    buf_free(&b);
    return f;
}

/* getopt's '?': an unknown letter, an unknown or ambiguous word, or a flag that was given a value. */
static struct fault *not_understood(enum program program, int code, const char *word)
{
    if (code >= LONG_ONLY) return fault_new(FAULT_USAGE, "--%s takes no value", option_rows[code - LONG_ONLY].name);
    return habit_fault(program, (char)code, word);
}

static void add_typed(struct command_line *cl, const struct option_row *row, const char *value, bool is_letter)
{
    cl->typed = mem_array(cl->typed, cl->typed_count + 1, sizeof *cl->typed);
    cl->typed[cl->typed_count++] = (struct typed){row, value ? value : "", is_letter};
}

static bool was_typed(const struct command_line *cl, enum option_id id)
{
    for (size_t i = 0; i < cl->typed_count; i++)
        if (option_id(cl->typed[i].row) == id) return true;
    return false;
}

static struct fault *read_typed(struct command_line *cl, enum program program, int argc, char **argv)
{
    struct tables t;
    make_tables(&t, program);
    optind = 0; /* glibc: begin anew */
    opterr = 0;
    for (int code; (code = getopt_long(argc, argv, t.letters, t.rows, NULL)) != -1;) {
        if (code == 1)
            cl->words[cl->word_count++] = optarg;
        else if (code == ':')
            return lacks_value(program, optopt);
        else if (code == '?')
            return not_understood(program, optopt, argv[optind - 1]);
        else
            add_typed(cl, row_of(program, code), optarg, code < LONG_ONLY);
        if (was_typed(cl, OPT_HELP) || was_typed(cl, OPT_VERSION)) return NULL;
    }
    return NULL;
}

static struct fault *read_command_line(struct command_line *cl, enum program program, int argc, char **argv)
{
    *cl = (struct command_line){.words = mem_array(NULL, (size_t)argc + 1, sizeof *cl->words)};
    struct fault *f = read_typed(cl, program, argc, argv);
    if (f || optind > argc) return f;
    bool dashes = optind > 1 && strcmp(argv[optind - 1], "--") == 0;
    if (dashes && was_typed(cl, OPT_FROM_COMMAND)) cl->command = argv + optind;
    for (int i = optind; i < argc && !cl->command; i++) cl->words[cl->word_count++] = argv[i];
    return NULL;
}

static void command_line_fini(struct command_line *cl)
{
    free(cl->typed);
    free(cl->words);
}

/* Faults about the order name their option themselves. */
static struct fault *take_typed(struct intake *in, const struct typed *t)
{
    struct fault *f = intake_take(in, t->row, t->value);
    if (!f || fault_message(f)[0] == '-') return f;
    struct buf b = {0};
    show(&b, t->row, t->is_letter);
    struct fault *named = fault_new(FAULT_USAGE, "%s: %s", buf_text(&b), fault_message(f));
    buf_free(&b);
    fault_free(f);
    return named;
}

/* ---- environment ------------------------------------------------------------------------------------------------- */

static struct fault *take_environment(struct intake *in, const struct command_line *cl)
{
    static const struct {
        const char *name;
        enum option_id id;
    } variables[] = {{"NWM_URL", OPT_URL}, {"NWM_JOB", OPT_JOB}, {"NWM_ID", OPT_ID}, {"REDISCLI_AUTH", OPT_PASS}};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const struct option_row *row = &option_rows[variables[i].id];
        const char *value = getenv(variables[i].name);
        if (!value || !*value || !(row->programs & in->o->program) || was_typed(cl, variables[i].id)) continue;
        struct fault *f = intake_take(in, row, value);
        if (!f) continue;
        struct fault *named = fault_new(FAULT_USAGE, "%s: %s", variables[i].name, fault_message(f));
        fault_free(f);
        return named;
    }
    return NULL;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static const char *named_config(const struct command_line *cl)
{
    const char *path = NULL;
    for (size_t i = 0; i < cl->typed_count; i++)
        if (option_id(cl->typed[i].row) == OPT_CONFIG) path = cl->typed[i].value;
    return path;
}

static struct fault *take_layers(struct intake *in, const struct command_line *cl)
{
    struct fault *f = config_find(in, named_config(cl));
    in->layer = LAYER_ENVIRONMENT;
    if (!f) f = take_environment(in, cl);
    in->layer = LAYER_COMMAND_LINE;
    for (size_t i = 0; i < cl->typed_count && !f; i++) f = take_typed(in, &cl->typed[i]);
    return f ? f : intake_finish(in, cl->words, cl->word_count, cl->command);
}

struct fault *options_parse(struct options *o, enum program program, int argc, char **argv)
{
    struct intake in;
    struct command_line cl;
    intake_init(&in, o, program);
    struct fault *f = read_command_line(&cl, program, argc, argv);
    o->help = !f && was_typed(&cl, OPT_HELP);
    o->version = !f && was_typed(&cl, OPT_VERSION);
    if (!f && !o->help && !o->version) f = take_layers(&in, &cl);
    command_line_fini(&cl);
    intake_fini(&in);
    return f;
}

static void free_texts(char **list, size_t count)
{
    for (size_t i = 0; i < count; i++) free(list[i]);
    free(list);
}

void options_free(struct options *o)
{
    size_t words = 0;
    while (o->command && o->command[words]) words++;
    free_texts(o->command, words);
    free_texts(o->ids, o->id_count);
    free_texts(o->lists, o->list_count);
    for (size_t i = 0; i < o->endpoint_count; i++) endpoint_free(o->endpoints[i]);
    free(o->endpoints);
    order_free(o->order);
    free(o->job);
    free(o->prefix);
    free(o->id);
    free(o->file);
    free(o->output);
    free(o->check_file);
    free(o->stats_file);
    *o = (struct options){0};
}
