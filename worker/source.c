#include "worker/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/reader.h"
#include "worker/command.h"
#include "worker/sorter.h"

/* The numbers of --example: first, first + step, …; each is written into one of two texts in turn. */
enum { EXAMPLE_ID_MAX = 1000000000, NUMBER_TEXT = 24 };
struct example {
    int64_t next, step;
    uint64_t left;
    char texts[2][NUMBER_TEXT];
    int turn;
};

struct source {
    const struct options *options;
    char *name;
    struct pulse pulse;
    struct reader *reader;   /* file, standard input, command */
    struct command *command; /* --from-command */
    struct sorter *sorter;   /* --sort */
    bool sorted;             /* everything has been read, and is in it in order */
    struct example example;  /* --example */
    uint64_t size;
};

/* The id n stands for 4-n, 4-n + (n+1), …: 4(n+1) numbers. Up to the limit the last one fits into 64 bits. */
static struct fault *prepare_example(struct source *s, const char *id)
{
    char *end;
    errno = 0;
    uintmax_t n = *id >= '0' && *id <= '9' ? strtoumax(id, &end, 10) : UINTMAX_MAX;
    if (n > EXAMPLE_ID_MAX || errno != 0 || *end != '\0')
        return fault_new(FAULT_USAGE, "--example needs a number from 0 to %d as --id, not \"%s\"", EXAMPLE_ID_MAX, id);
    s->example = (struct example){.next = 4 - (int64_t)n, .step = (int64_t)n + 1, .left = 4 * ((uint64_t)n + 1)};
    return NULL;
}

static bool is_file(const struct options *o) { return o->file && strcmp(o->file, "-") != 0; }

static char *describe(const struct options *o)
{
    if (o->example) return mem_printf("example %s", o->id ? o->id : "");
    if (o->command) {
        char *text = command_text(o->command);
        char *name = mem_printf("command '%s'", text);
        free(text);
        return name;
    }
    return mem_strdup(is_file(o) ? o->file : "standard input");
}

struct fault *source_new(const struct options *o, struct source **out)
{
    struct source *s = mem_zalloc(sizeof *s);
    s->options = o;
    s->name = describe(o);
    struct fault *f = o->example ? prepare_example(s, o->id ? o->id : "") : NULL;
    if (f)
        source_free(s);
    else
        *out = s;
    return f;
}

void source_free(struct source *s)
{
    if (!s) return;
    command_free(s->command);
    reader_free(s->reader);
    sorter_free(s->sorter);
    free(s->name);
    free(s);
}

void source_set_pulse(struct source *s, struct pulse p)
{
    s->pulse = p;
    if (s->reader) reader_set_pulse(s->reader, p);
}

static struct fault *open_file(const struct source *s, int *fd)
{
    return reader_open(is_file(s->options) ? s->options->file : NULL, s->name, fd);
}

/* What is left of a regular file from where its descriptor stands. */
static uint64_t size_of(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return 0;
    off_t at = lseek(fd, 0, SEEK_CUR);
    return at >= 0 && st.st_size > at ? (uint64_t)(st.st_size - at) : 0;
}

static struct fault *open_source(struct source *s)
{
    if (s->options->example) return NULL;
    int fd;
    struct fault *f = s->options->command ? command_start(s->options->command, &s->command, &fd) : open_file(s, &fd);
    if (f) return f;
    s->size = size_of(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    s->reader = reader_new(fd, s->name, s->options->separator);
    reader_set_pulse(s->reader, s->pulse);
    return NULL;
}

struct fault *source_open(struct source *s)
{
    struct fault *f = open_source(s);
    return f ? fault_frame(f, "open %s", s->name) : NULL;
}

static void next_example(struct example *e, struct bytes *item, bool *end)
{
    *end = e->left == 0;
    if (*end) return;
    e->turn = !e->turn;
    char *text = e->texts[e->turn];
    *item = (struct bytes){text, (size_t)snprintf(text, NUMBER_TEXT, "%" PRId64, e->next)};
    if (--e->left > 0) e->next += e->step;
}

/* From where the bytes come, not yet sorted. A command that failed is found out at its end, before anybody is told of
 * one. */
static struct fault *next_unsorted(struct source *s, struct bytes *item, bool *end)
{
    if (!s->reader) {
        next_example(&s->example, item, end);
        return NULL;
    }
    struct fault *f = reader_next(s->reader, item, end);
    if (!f && *end && s->command) f = command_finish(s->command, &s->pulse, reader_items(s->reader));
    return f;
}

/* What the pulse says ends it between two items, and it can be called again. */
static struct fault *sort_everything(struct source *s)
{
    enum { BEAT_EVERY = 4096 };
    if (!s->sorter) s->sorter = sorter_new(s->options->order);
    struct bytes item;
    bool end = false;
    for (uint64_t n = 1; !end; n++) {
        struct fault *f = n % BEAT_EVERY == 0 ? pulse_beat(&s->pulse) : NULL;
        if (!f) f = next_unsorted(s, &item, &end);
        if (f) return f;
        if (!end) sorter_add(s->sorter, item);
    }
    struct fault *f = sorter_sort(s->sorter, &s->pulse);
    if (f) return fault_frame(f, "sort in memory");
    s->sorted = true;
    return NULL;
}

static struct fault *next_sorted(struct source *s, struct bytes *item, bool *end)
{
    struct fault *f = s->sorted ? NULL : sort_everything(s);
    if (!f) *end = !sorter_next(s->sorter, item);
    return f;
}

struct fault *source_next(struct source *s, struct bytes *item, bool *end)
{
    struct fault *f = s->options->sort ? next_sorted(s, item, end) : next_unsorted(s, item, end);
    return f ? fault_frame(f, "read %s", s->name) : NULL;
}

bool source_can_rewind(const struct source *s)
{
    return s->options->example || s->sorted || reader_can_rewind(s->reader);
}

struct fault *source_rewind(struct source *s)
{
    struct fault *f = NULL;
    if (s->sorted)
        sorter_rewind(s->sorter);
    else if (s->reader)
        f = reader_rewind(s->reader);
    else
        f = prepare_example(s, s->options->id);
    return f ? fault_frame(f, "read %s again", s->name) : NULL;
}

void source_rest(struct source *s)
{
    if (s->reader) reader_rest(s->reader);
}

const char *source_name(const struct source *s) { return s->name; }

char *source_place(const struct source *s, uint64_t n)
{
    bool lines = s->reader && !s->options->sort && s->options->separator == '\n';
    return mem_printf("%s %" PRIu64, lines ? "line" : "item", n);
}

uint64_t source_bytes_read(const struct source *s) { return s->reader ? reader_bytes(s->reader) : 0; }
uint64_t source_size(const struct source *s) { return s->size; }
