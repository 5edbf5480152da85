#include "shared/options_config.h"

#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/mem.h"
#include "shared/url.h"

/* One reading of a file. The values of [worker] and [merger] wait in a list until all others are taken: they are the
 * stronger layer, wherever they stand. */
struct reading {
    struct intake *in;
    FILE *file;
    const char *path;
    bool is_private;
    char *line; /* as it is in the file */
    size_t size;
    unsigned number;
    struct fault *fault; /* the first one */
    struct setting {
        const struct option_row *row;
        char *value;
        unsigned line;
        bool in_section;
    } * settings;
    size_t count;
};

static void PRINTF_LIKE(3, 4) refuse(struct reading *r, unsigned line, const char *format, ...)
{
    if (r->fault) return;
    va_list args;
    va_start(args, format);
    char *text = mem_vprintf(format, args);
    va_end(args);
    r->fault = fault_new(FAULT_BAD_CONFIG, "%s line %u: %s", r->path, line, text);
    free(text);
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

/* What inih would do otherwise: cut long lines in two, and take an indented line for more of the one before. */
static char *next_line(char *out, int size, void *stream)
{
    struct reading *r = stream;
    errno = 0;
    ssize_t len = r->fault ? -1 : getline(&r->line, &r->size, r->file);
    if (len < 0) {
        if (errno) refuse(r, r->number + 1, "cannot be read: %s", strerror(errno));
        return NULL;
    }
    r->number++;
    const char *start = r->line + strspn(r->line, " \t\r");
    len -= start - r->line;
    if (strlen(start) != (size_t)len) {
        refuse(r, r->number, "it holds a NUL byte");
        return NULL;
    }
    if (len >= size) {
        refuse(r, r->number, "it is longer than %d bytes", size - 1);
        return NULL;
    }
    memcpy(out, start, (size_t)len + 1);
    return out;
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static bool holds_password(const struct option_row *row, const char *value)
{
    if (option_id(row) == OPT_PASS) return *value != '\0';
    if (option_id(row) != OPT_URL) return false;
    struct url u;
    struct fault *f = url_parse(&u, value);
    bool holds = u.password != NULL;
    url_fini(&u);
    fault_free(f);
    return holds;
}

/* Would inih have taken the end of this value for a comment? */
static bool is_cut(const struct reading *r, const char *value)
{
    size_t len = strlen(r->line), want = strlen(value);
    while (len > 0 && strchr(" \t\r\n", r->line[len - 1])) len--;
    return len < want || memcmp(r->line + len - want, value, want) != 0;
}

/* The programs a section is for; 0 when there is no such section. */
static unsigned section_programs(const char *section)
{
    if (*section == '\0' || strcmp(section, "nwmerge") == 0) return PROGRAM_BOTH;
    if (strcmp(section, "worker") == 0) return PROGRAM_WORKER;
    return strcmp(section, "merger") == 0 ? PROGRAM_MERGER : 0;
}

static const struct option_row *find_row(struct reading *r, unsigned programs, const char *name)
{
    const struct option_row *row = option_named(name, PROGRAM_BOTH);
    if (!row) {
        char *shown = mem_quote(name, strlen(name));
        refuse(r, r->number, "there is no option %s", shown);
        free(shown);
    } else if (!row->in_config) {
        refuse(r, r->number, "%s is for the command line only", name);
    } else if (!(row->programs & programs)) {
        refuse(r, r->number, "%s is an option of the %s", name, programs == PROGRAM_WORKER ? "merger" : "worker");
    } else {
        return row;
    }
    return NULL;
}

static void add_setting(struct reading *r, const struct option_row *row, const char *value, bool in_section)
{
    for (size_t i = 0; i < r->count && !row->repeats; i++)
        if (r->settings[i].row == row && r->settings[i].in_section == in_section)
            refuse(r, r->number, "%s is given again, after line %u", row->name, r->settings[i].line);
    r->settings = mem_array(r->settings, r->count + 1, sizeof *r->settings);
    r->settings[r->count++] = (struct setting){row, mem_strdup(value), r->number, in_section};
}

/* inih's callback: not 0 means go on. */
static int on_pair(void *arg, const char *section, const char *name, const char *value)
{
    struct reading *r = arg;
    unsigned programs = section_programs(section);
    if (r->fault) return 1;
    if (!programs) {
        char *shown = mem_quote(section, strlen(section));
        refuse(r, r->number, "there is no section %s; there are nwmerge, worker and merger", shown);
        free(shown);
        return 1;
    }
    const struct option_row *row = find_row(r, programs, name);
    if (!row) return 1;
    if (holds_password(row, value) && !r->is_private)
        refuse(r, r->number, "there is a password in it, and others can read the file: chmod 600 helps");
    if (option_id(row) == OPT_PASS && is_cut(r, value))
        refuse(r, r->number, "a ; behind a blank begins a comment; a password that holds this can be in a pass-file");
    if (programs & r->in->o->program && row->programs & r->in->o->program)
        add_setting(r, row, value, programs != PROGRAM_BOTH);
    return 1;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static void take_settings(struct reading *r, bool of_section)
{
    r->in->layer = of_section ? LAYER_CONFIG_SECTION : LAYER_CONFIG;
    for (size_t i = 0; i < r->count && !r->fault; i++) {
        const struct setting *s = &r->settings[i];
        if (s->in_section != of_section) continue;
        struct fault *f =
            *s->value ? intake_take(r->in, s->row, s->value) : fault_new(FAULT_USAGE, "the value is missing");
        if (f) refuse(r, s->line, "%s: %s", s->row->name, fault_message(f));
        fault_free(f);
    }
}

static void reading_fini(struct reading *r)
{
    for (size_t i = 0; i < r->count; i++) url_forget(r->settings[i].value);
    free(r->settings);
    if (r->line) explicit_bzero(r->line, r->size);
    free(r->line);
}

struct fault *config_read(struct intake *in, FILE *file, const char *path, bool is_private)
{
    struct reading r = {.in = in, .file = file, .path = path, .is_private = is_private};
    int bad = ini_parse_stream(next_line, &r, on_pair, &r);
    if (bad > 0) refuse(&r, (unsigned)bad, "it is neither [section] nor key = value");
    if (bad < 0) refuse(&r, r.number, "it cannot be parsed");
    take_settings(&r, false);
    take_settings(&r, true);
    reading_fini(&r);
    return r.fault;
}

/* ---- finding ----------------------------------------------------------------------------------------------------- */

static struct fault *read_open(struct intake *in, FILE *file, const char *path)
{
    struct stat s;
    if (fstat(fileno(file), &s) != 0 || S_ISDIR(s.st_mode))
        return fault_new(FAULT_BAD_CONFIG, "%s cannot be read: %s", path,
                         S_ISDIR(s.st_mode) ? strerror(EISDIR) : strerror(errno));
    return config_read(in, file, path, (s.st_mode & (S_IRGRP | S_IROTH)) == 0);
}

/* Reads it if it is there. *found: there is one, so that no other counts. A place that may not even be looked at holds
 * none for this user. */
static struct fault *try_file(struct intake *in, const char *path, bool *found)
{
    struct stat s;
    *found = true;
    FILE *file = fopen(path, "re");
    if (file) {
        struct fault *f = read_open(in, file, path);
        fclose(file);
        return f;
    }
    int error = errno;
    *found = stat(path, &s) == 0;
    return *found ? fault_new(FAULT_BAD_CONFIG, "%s cannot be read: %s", path, strerror(error)) : NULL;
}

static struct fault *read_named(struct intake *in, const char *path, const char *by)
{
    bool found;
    struct fault *f = try_file(in, path, &found);
    return f || found ? f : fault_new(FAULT_BAD_CONFIG, "%s: there is no file %s", by, path);
}

struct fault *config_find(struct intake *in, const char *named)
{
    const char *variable = getenv("NWM_CONFIG"), *home = getenv("HOME");
    if (named) return read_named(in, named, "--config");
    if (variable && *variable) return read_named(in, variable, "NWM_CONFIG");
    bool found = false;
    struct fault *f = NULL;
    if (home && *home) {
        char *path = mem_printf("%s/.config/nwmerge.conf", home);
        f = try_file(in, path, &found);
        free(path);
    }
    return found ? f : try_file(in, "/etc/nwmerge.conf", &found);
}
