#include "shared/fault.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"

struct fault {
    enum fault_kind kind; /* FAULT_KINDS: a remote fault whose name this build does not know */
    int code;
    char *name; /* NULL: that of the kind */
    char *message;
    char *subject, *origin;
    char **frames; /* innermost first, so that adding one outside is cheap */
    size_t n_frames;
    bool may_pass;
};

#define FAULT_ROW(kind, name, code) [kind] = {name, code},
static const struct {
    const char *name;
    int code;
} kinds[] = {FAULT_TABLE(FAULT_ROW)};
#undef FAULT_ROW

int fault_kind_exit(enum fault_kind kind) { return kinds[kind].code; }
const char *fault_kind_name(enum fault_kind kind) { return kinds[kind].name; }

struct fault *fault_new(enum fault_kind kind, const char *format, ...)
{
    struct fault *f = mem_zalloc(sizeof *f);
    f->kind = kind;
    f->code = kinds[kind].code;
    va_list args;
    va_start(args, format);
    f->message = mem_vprintf(format, args);
    va_end(args);
    return f;
}

struct fault *fault_copy(const struct fault *f)
{
    struct fault *copy = mem_zalloc(sizeof *copy);
    copy->kind = f->kind;
    copy->code = f->code;
    if (f->name) copy->name = mem_strdup(f->name);
    copy->message = mem_strdup(f->message);
    copy->frames = mem_array(NULL, f->n_frames + 1, sizeof *copy->frames);
    for (size_t i = 0; i < f->n_frames; i++) copy->frames[copy->n_frames++] = mem_strdup(f->frames[i]);
    return copy;
}

static enum fault_kind kind_of_name(const char *name)
{
    size_t kind = 0;
    while (kind < FAULT_KINDS && strcmp(kinds[kind].name, name) != 0) kind++;
    return (enum fault_kind)kind;
}

static void add_frame(struct fault *f, char *frame)
{
    f->frames = mem_array(f->frames, f->n_frames + 1, sizeof *f->frames);
    f->frames[f->n_frames++] = frame;
}

/* Frames come outermost first and are kept innermost first, so they are cut off from the end. */
static void add_remote_frames(struct fault *f, const char *traceback)
{
    size_t end = strlen(traceback);
    while (end > 0) {
        size_t start = end;
        while (start > 0 && traceback[start - 1] != '\n') start--;
        if (start < end) add_frame(f, mem_strndup(traceback + start, end - start));
        end = start > 0 ? start - 1 : 0;
    }
}

struct fault *fault_remote(const char *name, int exit_code, const char *message, const char *traceback)
{
    struct fault *f = mem_zalloc(sizeof *f);
    f->name = mem_strdup(name && *name ? name : "Unknown");
    f->kind = kind_of_name(f->name);
    f->code = exit_code >= EXIT_DATA && exit_code <= EXIT_TIMEOUT ? exit_code : EXIT_SOURCE;
    f->message = mem_strdup(message ? message : "");
    if (traceback) add_remote_frames(f, traceback);
    return f;
}

struct fault *fault_frame(struct fault *f, const char *format, ...)
{
    if (!f) return NULL;
    va_list args;
    va_start(args, format);
    add_frame(f, mem_vprintf(format, args));
    va_end(args);
    return f;
}

struct fault *fault_become(struct fault *f, enum fault_kind kind, const char *format, ...)
{
    if (!f) return NULL;
    va_list args;
    va_start(args, format);
    char *message = mem_vprintf(format, args); /* which may be made of the old one */
    va_end(args);
    free(f->message);
    free(f->name);
    f->name = NULL;
    f->message = message;
    f->kind = kind;
    f->code = kinds[kind].code;
    return f;
}

struct fault *fault_about(struct fault *f, const char *format, ...)
{
    if (!f || f->subject) return f;
    va_list args;
    va_start(args, format);
    f->subject = mem_vprintf(format, args);
    va_end(args);
    return f;
}

struct fault *fault_origin(struct fault *f, const char *format, ...)
{
    if (!f || f->origin) return f;
    va_list args;
    va_start(args, format);
    f->origin = mem_vprintf(format, args);
    va_end(args);
    return f;
}

struct fault *fault_passing(struct fault *f)
{
    if (f) f->may_pass = true;
    return f;
}

bool fault_may_pass(const struct fault *f) { return f->may_pass; }

const char *fault_name(const struct fault *f) { return f->name ? f->name : kinds[f->kind].name; }
const char *fault_message(const struct fault *f) { return f->message; }
int fault_exit(const struct fault *f) { return f->code; }
bool fault_is(const struct fault *f, enum fault_kind kind) { return f->kind == kind; }
const char *fault_subject(const struct fault *f) { return f->subject; }

char *fault_traceback(const struct fault *f)
{
    struct buf b = {0};
    for (size_t i = f->n_frames; i-- > 0;) {
        if (b.len) buf_append(&b, "\n", 1);
        buf_append(&b, f->frames[i], strlen(f->frames[i]));
    }
    buf_text(&b);
    return b.data;
}

/* Escaped whoever wrote it: a message of ours may hold a file name or an error text of a server. */
static void append_line(struct buf *b, const char *before, const char *text, const char *after)
{
    buf_append(b, before, strlen(before));
    buf_escape(b, text, strlen(text));
    buf_append(b, after, strlen(after));
}

void fault_print(const struct fault *f, const char *program, FILE *to)
{
    struct buf b = {0};
    buf_append(&b, program, strlen(program));
    if (f->subject) append_line(&b, ": ", f->subject, "");
    append_line(&b, ": ", fault_name(f), "");
    if (*f->message) append_line(&b, ": ", f->message, "");
    buf_append(&b, "\n", 1);
    if (f->origin) append_line(&b, "  from ", f->origin, "\n");
    if (f->n_frames) append_line(&b, "  ", "Traceback (most recent call last):", "\n");
    for (size_t i = f->n_frames; i-- > 0;) append_line(&b, "    ", f->frames[i], "\n");
    fwrite(b.data, 1, b.len, to); /* one write, so that the lines of several processes do not mix */
    buf_free(&b);
}

void fault_free(struct fault *f)
{
    if (!f) return;
    for (size_t i = 0; i < f->n_frames; i++) free(f->frames[i]);
    free(f->frames);
    free(f->name);
    free(f->message);
    free(f->subject);
    free(f->origin);
    free(f);
}
