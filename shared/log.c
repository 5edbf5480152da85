#include "shared/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "shared/mem.h"

static const char *name;
static bool is_quiet, is_verbose, on_terminal;
/* Guards progress_stands and keeps lines whole: the worker's heartbeat speaks from a thread of its own. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool progress_stands;

static bool stderr_is_terminal(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

void log_init(const char *program, bool quiet, bool verbose)
{
    name = program;
    is_quiet = quiet;
    is_verbose = verbose;
    on_terminal = stderr_is_terminal();
}

const char *log_program(void) { return name ? name : program_invocation_short_name; }

bool log_is_terminal(void) { return on_terminal; }

/* With the lock held. One fwrite to the unbuffered stderr is one write. */
static void put(const struct buf *b)
{
    if (b->len) fwrite(b->data, 1, b->len, stderr);
}

static void append_clear(struct buf *b)
{
    if (progress_stands) buf_append(b, "\r\033[K", 4);
    progress_stands = false;
}

static void append_line(struct buf *b, const char *text)
{
    buf_printf(b, "%s: ", log_program());
    buf_escape(b, text, strlen(text));
    buf_append(b, "\n", 1);
}

static PRINTF_LIKE(1, 0) void say(const char *format, va_list args)
{
    char *text = mem_vprintf(format, args);
    struct buf b = {0};
    pthread_mutex_lock(&lock);
    append_clear(&b);
    append_line(&b, text);
    put(&b);
    pthread_mutex_unlock(&lock);
    buf_free(&b);
    free(text);
}

void log_detail(const char *format, ...)
{
    if (!is_verbose || is_quiet) return;
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void log_note(const char *format, ...)
{
    if (is_quiet) return;
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void log_fault(const struct fault *f)
{
    struct buf b = {0};
    pthread_mutex_lock(&lock);
    append_clear(&b);
    put(&b);
    fault_print(f, log_program(), stderr);
    pthread_mutex_unlock(&lock);
    buf_free(&b);
}

/* Asked each time: windows change their size. The last column stays free, as some terminals wrap when it is filled. */
static size_t columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u : 79;
}

/* Cuts the text after that many characters. A character that takes two columns counts as one: our lines hold few. */
static size_t fitting(const char *text, size_t len, size_t most)
{
    size_t characters = 0, i = 0;
    for (; i < len; i++) {
        bool begins = ((unsigned char)text[i] & 0xc0) != 0x80;
        if (begins && characters++ == most) break;
    }
    return i;
}

static void append_progress(struct buf *b, const char *line)
{
    struct buf text = {0};
    buf_escape(&text, line, strlen(line));
    buf_append(b, "\r", 1);
    buf_append(b, text.data, fitting(text.data, text.len, columns()));
    buf_append(b, "\033[K", 3);
    buf_free(&text);
    progress_stands = true;
}

void log_progress(const char *line)
{
    if (is_quiet) return;
    struct buf b = {0};
    pthread_mutex_lock(&lock);
    if (!line)
        append_clear(&b);
    else if (on_terminal)
        append_progress(&b, line);
    else
        append_line(&b, line);
    put(&b);
    pthread_mutex_unlock(&lock);
    buf_free(&b);
}
