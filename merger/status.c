#include "merger/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merger/roster.h"
#include "shared/mem.h"

enum { COLUMNS = 10, EDGE_SHOWN = 24 };

static const char *const titles[COLUMNS] = {"ID",    "STATE", "ITEMS",  "BYTES", "ORDER",
                                            "FIRST", "LAST",  "WORKER", "AGE",   "LIST"};
static const bool is_number[COLUMNS] = {[2] = true, [3] = true, [8] = true};

struct row {
    char *cells[COLUMNS];
};

static char *age_text(int64_t seconds)
{
    if (seconds < 0) seconds = 0;
    if (seconds < 120) return mem_printf("%" PRId64 "s", seconds);
    if (seconds < 7200) return mem_printf("%" PRId64 "m", seconds / 60);
    if (seconds < 172800) return mem_printf("%" PRId64 "h", seconds / 3600);
    return mem_printf("%" PRId64 "d", seconds / 86400);
}

static char *edge_text(struct bytes edge)
{
    if (!edge.data) return mem_strdup("-");
    struct buf text = {0};
    buf_quote(&text, edge.data, edge.len, EDGE_SHOWN);
    buf_text(&text);
    return text.data;
}

static const char *state_text(const struct member *m)
{
    if (!m->found) return "missing";
    if (m->manifest.state == DATASET_LOADING && m->lease_left_ms < 0) return "loading?"; /* its worker holds no lease */
    return dataset_state_name(m->manifest.state);
}

static char *safe(const char *text)
{
    struct buf b = {0};
    buf_escape(&b, text, strlen(text));
    buf_text(&b);
    return b.data;
}

static struct row make_row(const struct member *m, int64_t now)
{
    const struct manifest *f = &m->manifest;
    int64_t since = f->finished ? f->finished : f->started;
    char *worker = f->token ? manifest_worker(f) : mem_strdup("-");
    const char *order = !f->order ? "-" : *f->order ? f->order : "bytes";
    struct row row = {{
        mem_strdup(m->id),
        mem_strdup(state_text(m)),
        mem_printf("%" PRIu64, f->items),
        mem_printf("%" PRIu64, f->bytes),
        safe(order),
        edge_text(f->first),
        edge_text(f->last),
        safe(worker),
        since ? age_text(now - since) : mem_strdup("-"),
        safe(f->list ? f->list : "-"),
    }};
    free(worker);
    return row;
}

static void print_table(struct row *rows, size_t n)
{
    size_t widths[COLUMNS];
    for (int c = 0; c < COLUMNS; c++) {
        widths[c] = strlen(titles[c]);
        for (size_t i = 0; i < n; i++)
            if (strlen(rows[i].cells[c]) > widths[c]) widths[c] = strlen(rows[i].cells[c]);
    }
    for (size_t i = 0; i <= n; i++) {
        for (int c = 0; c < COLUMNS; c++) {
            const char *cell = i ? rows[i - 1].cells[c] : titles[c];
            int width = c == COLUMNS - 1 ? 0 : (int)widths[c];
            printf("%s%*s", c ? "  " : "", is_number[c] ? width : -width, cell);
        }
        putchar('\n');
    }
}

static int code_of(const struct member *m)
{
    if (m->fault) return fault_exit(m->fault) == EXIT_TIMEOUT ? EXIT_TIMEOUT : EXIT_SOURCE;
    return m->ready ? EXIT_DONE : EXIT_TIMEOUT;
}

/* workers: of -w, or 0. */
static int print_members(struct roster *r, size_t workers)
{
    size_t n = roster_size(r);
    struct row *rows = mem_zalloc((n + 1) * sizeof *rows);
    int code = EXIT_DONE;
    for (size_t i = 0; i < n; i++) {
        rows[i] = make_row(roster_member(r, i), roster_now(r));
        int own = code_of(roster_member(r, i));
        if (own == EXIT_SOURCE || code == EXIT_DONE) code = own;
    }
    if (code == EXIT_DONE && n < workers) code = EXIT_TIMEOUT;
    print_table(rows, n);
    fflush(stdout);
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < COLUMNS; c++) free(rows[i].cells[c]);
    free(rows);
    return code;
}

struct fault *status_print(const struct options *o, int *exit_code)
{
    struct roster *r = NULL;
    struct fault *fault = roster_open(o, &r);
    if (!fault) fault = roster_look(r);
    if (!fault) {
        *exit_code = print_members(r, o->workers);
        roster_print_faults(r);
    }
    roster_free(r);
    return fault;
}

struct fault *status_print_jobs(const struct options *o)
{
    struct roster *r = NULL;
    char **jobs = NULL;
    size_t n = 0;
    struct fault *fault = roster_connect(o, &r);
    if (!fault) fault = roster_jobs(r, &jobs, &n);
    for (size_t i = 0; i < n; i++) {
        puts(jobs[i]);
        free(jobs[i]);
    }
    free(jobs);
    roster_free(r);
    return fault;
}
