#include "shared/options_habits.h"

#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"
#include "shared/options_table.h"

struct habit {
    char letter;
    const char *name; /* or NULL */
    unsigned programs;
    const char *meant;
};

#define NOT_THERE "sort has it, nwmerge has not: only the orders -n -g -M -r -b -f, -k and -t"

static const struct habit habits[] = {
    {'h', "human-numeric-sort", PROGRAM_BOTH,
     "redis-cli's -h is --host here, or -U redis://HOST; help is --help; sort's -h (sizes such as 2K) is not there"},
    {'p', NULL, PROGRAM_BOTH, "redis-cli's -p is --port here, or -U redis://HOST:PORT"},
    {'a', NULL, PROGRAM_BOTH,
     "redis-cli's -a is --pass here; --pass-file, --askpass and REDISCLI_AUTH show it to nobody"},
    {'d', "dictionary-order", PROGRAM_BOTH, NOT_THERE},
    {'R', "random-sort", PROGRAM_BOTH, NOT_THERE},
    {'V', "version-sort", PROGRAM_BOTH, NOT_THERE},
    {'i', "ignore-nonprinting", PROGRAM_MERGER,
     "ids are named without it, as in nwm-merger 1 2 3; sort's -i (only printable characters count) is not there"},
    {0, "ignore-nonprinting", PROGRAM_WORKER, NOT_THERE},
    {'S', "buffer-size", PROGRAM_BOTH, "sort's -S is nwm-merger's --memory SIZE"},
    {'T', "temporary-directory", PROGRAM_BOTH, "there are no temporary files: the merge streams"},
    {'C', NULL, PROGRAM_BOTH, "the order is always checked; nwm-worker --check FILE checks a file and loads nothing"},
    {'c', NULL, PROGRAM_MERGER,
     "the order is always checked; --check FILE proves a merged file, nwm-worker --check FILE checks one to be loaded"},
    {'u', NULL, PROGRAM_WORKER, "redis-cli's -u is -U here; sort's -u is nwm-merger's"},
    {'o', NULL, PROGRAM_WORKER, "a worker writes into Redis; nwm-merger has -o"},
    {0, "parallel", PROGRAM_BOTH, "one thread merges faster than one Redis serves"},
    {0, "batch-size", PROGRAM_BOTH,
     "any number of datasets is merged at once; nwm-merger's --batch is how many items are "
     "fetched at a time"},
    {0, "compress-program", PROGRAM_BOTH, "there are no temporary files: the merge streams"},
    {0, "files0-from", PROGRAM_BOTH, "datasets are loaded by nwm-worker, one file each"},
    {0, "password", PROGRAM_BOTH, "it is --pass; --pass-file, --askpass and REDISCLI_AUTH show it to nobody"},
    {0, "no-auth-warning", PROGRAM_BOTH, "there is no such warning"},
    {0, "insecure", PROGRAM_BOTH, "certificates are always verified; --cacert names whom to trust"},
    {0, "sni", PROGRAM_BOTH, "the name of the URL's host is sent"},
};

static const char *find_habit(enum program program, char letter, const char *name)
{
    for (size_t i = 0; i < sizeof habits / sizeof *habits; i++) {
        const struct habit *h = &habits[i];
        bool fits = letter ? h->letter == letter : h->name && strcmp(h->name, name) == 0;
        if (fits && h->programs & program) return h->meant;
    }
    return NULL;
}

static bool is_of_other(enum program program, char letter, const char *name)
{
    const struct option_row *row = letter ? option_lettered(letter, PROGRAM_BOTH) : option_named(name, PROGRAM_BOTH);
    return row && !(row->programs & program);
}

struct fault *habit_fault(enum program program, char letter, const char *name)
{
    char *bare = mem_strdup(name ? name + strspn(name, "-") : "");
    bare[strcspn(bare, "=")] = '\0';
    struct buf shown = {0};
    buf_printf(&shown, letter ? "-" : "--");
    buf_escape(&shown, letter ? &letter : bare, letter ? 1 : strlen(bare));
    const char *meant = find_habit(program, letter, bare);
    if (!meant && is_of_other(program, letter, bare))
        meant = program == PROGRAM_WORKER ? "it is one of nwm-merger" : "it is one of nwm-worker";
    struct fault *f = fault_new(FAULT_USAGE, "there is no option %s%s%s", buf_text(&shown), meant ? ": " : "",
                                meant ? meant : "; --help shows those there are");
    buf_free(&shown);
    free(bare);
    return f;
}
