/*
 * --help and --version, from the option table.
 */
#include <event2/event-config.h>
#include <stdio.h>
#include <string.h>

#include "shared/dataset.h"
#include "shared/mem.h"
#include "shared/options_table.h"
#include "shared/redis_compat.h"

#ifndef NWM_VERSION
#define NWM_VERSION "0.0.0-dev"
#endif

enum { WIDTH = 100, COLUMN = 30 };

static const char *const headings[GROUP_COUNT] = {
    [GROUP_DATA] = "What is merged",
    [GROUP_LOADING] = "Loading",
    [GROUP_DROPPING] = "Removing",
    [GROUP_OUTPUT] = "Output",
    [GROUP_LOOKING] = "Looking and tuning",
    [GROUP_ORDER] = "Order, as in sort(1); without any, bytes as LC_ALL=C sort",
    [GROUP_REDIS] = "Redis",
    [GROUP_OTHER] = "Other",
};

static const char *const usage[] = {
    [PROGRAM_WORKER] =
        "nwm-worker loads one sorted dataset into Redis, for nwm-merger to merge.\n\n"
        "Usage: nwm-worker [options] -i ID [FILE]    FILE, or standard input (or -), becomes dataset JOB:ID\n"
        "       nwm-worker [options] -i ID --from-command -- CMD [ARG…]\n"
        "       nwm-worker --check [options] [FILE]\n"
        "       nwm-worker --drop [-j JOB] {-i ID | --all} [--force]\n",
    [PROGRAM_MERGER] = "nwm-merger merges the sorted datasets of a job into one sorted stream, on standard output.\n\n"
                       "Usage: nwm-merger [options] [ID…]            the job's datasets, or just those, in that order\n"
                       "       nwm-merger --check FILE [-j JOB] [ID…]    is FILE what they merge to?\n"
                       "       nwm-merger --status [-j JOB]\n"
                       "       nwm-merger --jobs\n",
};

static const char *const examples[] = {
    [PROGRAM_WORKER] = "  nwm-worker -j logs -i web1 -k2,2n access.log\n"
                       "  zcat big.gz | nwm-worker -i 3 -n\n"
                       "  nwm-worker -i 3 --from-command -- zcat big.gz\n",
    [PROGRAM_MERGER] = "  nwm-merger -j logs -o all.log\n"
                       "  nwm-merger -w 4 | head\n"
                       "  nwm-merger -U redis://host-a -U redis://host-b -j logs --stats text >all.log\n",
};

static size_t columns_of(const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

static void pad(size_t from, size_t to)
{
    for (; from < to; from++) putchar(' ');
}

/* Words from column COLUMN to WIDTH; `at` is where the line stands. */
static void print_wrapped(const char *text, size_t at)
{
    pad(at, COLUMN);
    size_t column = COLUMN;
    while (*text) {
        size_t len = strcspn(text, " "), wide = columns_of(text, len);
        if (column > COLUMN && column + 1 + wide > WIDTH) {
            putchar('\n');
            pad(0, COLUMN);
            column = COLUMN;
        }
        column += (size_t)printf("%s", column > COLUMN ? " " : "") + wide;
        fwrite(text, 1, len, stdout);
        text += len;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_row(const struct option_row *row)
{
    struct buf b = {0};
    if (row->letter)
        buf_printf(&b, "  -%c, --%s", row->letter, row->name);
    else
        buf_printf(&b, "      --%s", row->name);
    if (row->argument) buf_printf(&b, " %s", row->argument);
    fputs(buf_text(&b), stdout);
    size_t at = columns_of(b.data, b.len);
    if (at + 2 > COLUMN) {
        putchar('\n');
        at = 0;
    }
    print_wrapped(row->help, at);
    buf_free(&b);
}

static void print_group(enum program program, enum option_group group)
{
    bool begun = false;
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (row->group != group || !(row->programs & program)) continue;
        if (!begun) printf("\n%s\n", headings[group]);
        begun = true;
        print_row(row);
    }
}

void options_print_help(enum program program)
{
    fputs(usage[program], stdout);
    for (enum option_group g = 0; g < GROUP_COUNT; g++) print_group(program, g);
    puts("\nTimes are numbers with s, m, h or d behind them, sizes with K, M or G. The environment may hold\n"
         "NWM_URL, NWM_JOB, NWM_ID and REDISCLI_AUTH; what the command line says comes before that, and the\n"
         "config file after it.");
    printf("\nExamples\n%s", examples[program]);
}

/* "2.1.12-stable" without what follows the number. */
void options_print_version(enum program program)
{
    const char *event = EVENT__VERSION;
    printf("%s %s (contract %d, hiredis %d.%d.%d, ", program == PROGRAM_WORKER ? "nwm-worker" : "nwm-merger",
           NWM_VERSION, CONTRACT, HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    if (program == PROGRAM_MERGER) printf("libevent %.*s, ", (int)strspn(event, "0123456789."), event);
    printf("TLS %s)\n", NWM_TLS ? "yes" : "no");
}
