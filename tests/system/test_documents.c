/*
 * Do --help, the man pages and the annotated config name the options that there are, and no others?
 * The truth is the option table (shared/options_table.h).
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/options_table.h"
#include "tests/system/harness.h"

struct program_files {
    unsigned program;
    const char *name, *manual, *section;
};

static const struct program_files programs[] = {
    {PROGRAM_WORKER, "nwm-worker", NWM_SOURCE "/worker/nwm-worker.1", "worker"},
    {PROGRAM_MERGER, "nwm-merger", NWM_SOURCE "/merger/nwm-merger.1", "merger"},
};

static const char config_file[] = NWM_SOURCE "/config/nwmerge.conf";

static char *content(const char *path)
{
    char *text = read_file(path, NULL);
    if (!text) cr_assert_fail("%s is not there", path);
    return text;
}

/* Is word in text, and neither side of it goes on as a name would? */
static bool has_word(const char *text, const char *word)
{
    for (const char *at = text; (at = strstr(at, word)); at++) {
        char after = at[strlen(word)];
        if ((at == text || !(isalnum((unsigned char)at[-1]) || at[-1] == '-')) && !isalnum((unsigned char)after) &&
            after != '-')
            return true;
    }
    return false;
}

/* ---- --help */

static void help_names_all(const struct program_files *p)
{
    struct run r = run("%s --help", p->name);
    expect_exit(r, 0);
    expect_err(r, "");
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        bool is_named = has_word(r.out, fmt("--%s", row->name));
        bool belongs = option_named(row->name, p->program) != NULL;
        cr_expect_eq(is_named, belongs, "%s --help: --%s %s", p->name, row->name,
                     belongs ? "is missing" : "is not its");
        if (row->programs & p->program && row->letter)
            cr_expect(has_word(r.out, fmt("-%c", row->letter)), "%s --help: -%c is missing", p->name, row->letter);
    }
}

Test(help, worker) { help_names_all(&programs[0]); }
Test(help, merger) { help_names_all(&programs[1]); }

/* ---- man pages: lines such as ".It Fl k , -key Ar KEYDEF" */

/* Is the option among those that the page explains? letter or name, without its dash. */
static bool manual_has(const char *page, const char *option)
{
    for (const char *line = page; (line = strstr(line, "\n.It Fl ")); line++) {
        char *copy = fmt("%.*s", (int)strcspn(line + 1, "\n"), line + 1), *rest = NULL;
        bool is_flag = false;
        for (char *w = strtok_r(copy, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
            if (is_flag && strcmp(w, option) == 0) return true;
            is_flag = strcmp(w, "Fl") == 0 || strcmp(w, ",") == 0;
        }
    }
    return false;
}

static void manual_explains_all(const struct program_files *p)
{
    char *page = content(p->manual);
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        bool belongs = option_named(row->name, p->program) != NULL;
        bool is_named = manual_has(page, fmt("-%s", row->name));
        cr_expect_eq(is_named, belongs, "%s: --%s %s", p->manual, row->name, belongs ? "is missing" : "is not its");
        if (row->programs & p->program && row->letter)
            cr_expect(manual_has(page, fmt("%c", row->letter)), "%s: -%c is missing", p->manual, row->letter);
    }
}

/* And no option that does not exist. */
static void manual_invents_none(const struct program_files *p)
{
    for (const char *at = content(p->manual); (at = strstr(at, "Fl -")); at++) {
        size_t len = strspn(at + 4, "abcdefghijklmnopqrstuvwxyz-");
        if (len == 0) continue; /* Fl - is the -- in front of a command */
        const struct option_row *row = option_named(fmt("%.*s", (int)len, at + 4), p->program);
        cr_expect(row, "%s: there is no --%.*s", p->manual, (int)len, at + 4);
    }
}

Test(manual, worker)
{
    manual_explains_all(&programs[0]);
    manual_invents_none(&programs[0]);
}

Test(manual, merger)
{
    manual_explains_all(&programs[1]);
    manual_invents_none(&programs[1]);
}

Test(manual, names_every_fault_and_its_exit)
{
#define LIST(kind, name, code) {name, code},
    static const struct {
        const char *name;
        int exit;
    } faults[] = { FAULT_TABLE(LIST) };
#undef LIST
    for (size_t p = 0; p < 2; p++) {
        char *page = content(programs[p].manual), *status = strstr(page, ".Sh EXIT STATUS");
        for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
            char *item = strstr(status, fmt("\n.It %d\n", faults[i].exit)),
                 *next = item ? strstr(item + 1, "\n.It ") : NULL;
            char *text = next ? fmt("%.*s", (int)(next - item), item) : "";
            cr_expect(has_word(text, faults[i].name), "%s: %s is not under %d", programs[p].manual, faults[i].name,
                      faults[i].exit);
        }
    }
}

/* ---- the annotated config: lines such as "; keep = 1h     ; how long …" */

struct setting {
    char section[16], name[64], line[256]; /* line: as it would stand when in use */
};

/* Fills what the next setting at *at is; false at the end. */
static bool next_setting(const char **at, struct setting *s)
{
    while (**at) {
        size_t len = strcspn(*at, "\n"), after;
        char *line = fmt("%.*s", (int)len, *at);
        *at += len + ((*at)[len] == '\n');
        if (sscanf(line, "[%15[a-z]]", s->section) == 1) continue;
        if (sscanf(line, "; %63[a-z-] =%zn", s->name, &after) != 1 ||
            strncmp(line + strlen("; ") + strlen(s->name), " =", 2) != 0)
            continue;
        snprintf(s->line, sizeof s->line, "%s", line + 2);
        return true;
    }
    return false;
}

static bool config_has(const struct option_row *row)
{
    const char *section = row->programs == PROGRAM_BOTH ? "" : row->programs == PROGRAM_WORKER ? "worker" : "merger";
    const char *at = content(config_file);
    for (struct setting s = {.section = ""}; next_setting(&at, &s);)
        if (strcmp(s.name, row->name) == 0 && strcmp(s.section, section) == 0) return true;
    return false;
}

Test(config, has_what_may_stand_in_it)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        cr_expect_eq(config_has(row), row->in_config, "nwmerge.conf: %s %s", row->name,
                     row->in_config ? "is missing" : "may not stand there");
    }
}

Test(config, invents_nothing)
{
    const char *at = content(config_file);
    size_t n = 0;
    for (struct setting s = {.section = ""}; next_setting(&at, &s); n++)
        cr_expect_not_null(option_named(s.name, PROGRAM_BOTH), "nwmerge.conf: there is no setting %s", s.name);
    cr_assert_gt(n, 30);
}

/* Every line is taken as it stands once its ";" is removed, by the programs it is for. */
Test(config, lines_are_valid)
{
    const char *at = content(config_file);
    write_file("pass", "secret\n");
    for (struct setting s = {.section = ""}; next_setting(&at, &s);) {
        const char *line = s.line;
        if (strcmp(s.name, "pass-file") == 0) line = fmt("pass-file = %s/pass", test_dir());
        if (strcmp(s.name, "cert") == 0) line = fmt("%s\ncert-key = key", line); /* good only together */
        if (strcmp(s.name, "cert-key") == 0) line = fmt("%s\ncert = cert", line);
        write_file("conf", fmt("%s%s%s%s\n", *s.section ? "[" : "", s.section, *s.section ? "]\n" : "", line));
        cr_assert_eq(chmod(fmt("%s/conf", test_dir()), 0600) | chmod(fmt("%s/pass", test_dir()), 0600), 0);
        for (size_t p = 0; p < 2; p++) {
            struct run r =
                p == 0 ? run("echo 1 | nwm-worker --config conf -i 1 -c") : run("nwm-merger --config conf --jobs");
            cr_expect_null(strstr(r.err, "BadConfig"), "%s with \"%s\": %s", programs[p].name, line, r.err);
            cr_expect_null(strstr(r.err, "Usage"), "%s with \"%s\": %s", programs[p].name, line, r.err);
        }
    }
}

Test(config, as_it_stands_changes_nothing)
{
    run("cp %s conf", config_file);
    write_file("f", "1\n2\n");
    expect_exit(run("nwm-worker --config conf -i 1 f"), 0);
    struct run r = run("nwm-merger --config conf");
    expect_exit(r, 0);
    expect_out(r, "1\n2\n");
}
