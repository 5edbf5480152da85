#include "merger/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char title[] = "nwmerge checkpoint 1\n";

/* A dataset takes 300 bytes or so; a file beyond this is none of ours. */
enum { FILE_MOST = 1 << 28, LINE_LEAST = sizeof "id=x\n" - 1 };

void checkpoint_fini(struct checkpoint *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free(c->streams[i].id);
        free(c->streams[i].token);
        free(c->streams[i].list);
    }
    free(c->streams);
    free(c->job);
    free(c->order);
    free(c->consumer);
    *c = (struct checkpoint){0};
}

/* ---- as text ----------------------------------------------------------------------------------------------------- */

static bool is_plain(char c) { return c > ' ' && c < 0x7f && c != '%'; }

static void put_text(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "%s=", name);
    for (; *value; value++) {
        if (is_plain(*value)) {
            buf_append(out, value, 1);
        } else {
            buf_printf(out, "%%%02X", (unsigned char)*value);
        }
    }
    buf_append(out, "\n", 1);
}

static void put_number(struct buf *out, const char *name, uint64_t value)
{
    buf_printf(out, "%s=%" PRIu64 "\n", name, value);
}

/* Empty when there is none. */
static void put_optional(struct buf *out, const char *name, bool there, uint64_t value)
{
    if (there) {
        put_number(out, name, value);
    } else {
        buf_printf(out, "%s=\n", name);
    }
}

static void put_digest(struct buf *out, const char *name, const struct digest *value)
{
    char text[DIGEST_TEXT];
    digest_text(value, text);
    buf_printf(out, "%s=%s\n", name, text);
}

static void put_stream(struct buf *out, const struct checkpoint_stream *s)
{
    put_text(out, "id", s->id);
    put_number(out, "run", s->run);
    put_text(out, "token", s->token);
    put_text(out, "list", s->list);
    put_number(out, "of", s->items);
    put_number(out, "skipped", s->base.items);
    put_digest(out, "skipped-digest", &s->base.digest);
    put_number(out, "taken", s->at.items);
    put_number(out, "taken-bytes", s->at.bytes);
    put_digest(out, "taken-digest", &s->at.digest);
    put_number(out, "tail", s->at.tail_len);
    put_digest(out, "tail-digest", &s->at.tail);
}

void checkpoint_format(const struct checkpoint *c, struct buf *out)
{
    size_t begin = out->len;
    buf_append(out, title, strlen(title));
    put_text(out, "state", c->complete ? "complete" : "merging");
    put_text(out, "job", c->job);
    put_text(out, "order", c->order);
    put_text(out, "consumer", c->consumer ? c->consumer : "");
    put_number(out, "unique", c->unique);
    put_number(out, "tag", c->tag);
    put_number(out, "zero", c->separator == '\0');
    put_optional(out, "limit", c->has_limit, c->limit);
    put_number(out, "walked", c->walked);
    put_number(out, "items", c->items);
    put_number(out, "bytes", c->bytes);
    put_digest(out, "digest", &c->digest);
    put_optional(out, "last", c->has_last, c->last_len);
    put_number(out, "datasets", c->count);
    for (size_t i = 0; i < c->count; i++) put_stream(out, &c->streams[i]);
    struct digest sum = {0, 0};
    digest_add_item(&sum, out->data + begin, out->len - begin);
    put_digest(out, "sum", &sum);
}

/* ---- back from text ---------------------------------------------------------------------------------------------- */

struct reader {
    const char *begin, *at, *end;
    size_t line;
    bool bad;
};

/* The value of the next line, which must have that name; once bad, always bad, and the value empty. */
static struct bytes take(struct reader *in, const char *name)
{
    size_t len = strlen(name);
    const char *end = in->bad ? NULL : memchr(in->at, '\n', (size_t)(in->end - in->at));
    in->line += !in->bad;
    if (!end || (size_t)(end - in->at) <= len || memcmp(in->at, name, len) != 0 || in->at[len] != '=') {
        in->bad = true;
        return (struct bytes){.data = "", .len = 0};
    }
    struct bytes value = {.data = in->at + len + 1, .len = (size_t)(end - in->at) - len - 1};
    in->at = end + 1;
    return value;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* A byte that stands as %XX, behind the %; -1 when it should not or does not. */
static int take_escaped(const char *at, size_t len)
{
    int high = len > 1 ? hex_digit(at[0]) : -1, low = len > 1 ? hex_digit(at[1]) : -1;
    if (high < 0 || low < 0) return -1;
    int value = high * 16 + low;
    return value == 0 || is_plain((char)value) ? -1 : value;
}

static char *take_text(struct reader *in, const char *name)
{
    struct bytes value = take(in, name);
    char *text = mem_alloc(value.len + 1), *to = text;
    for (size_t i = 0; i < value.len && !in->bad; i++) {
        int byte = (unsigned char)value.data[i];
        if (byte == '%') {
            byte = take_escaped(value.data + i + 1, value.len - i - 1);
            i += 2;
        } else if (!is_plain((char)byte)) {
            byte = -1;
        }
        in->bad = byte < 0;
        *to++ = (char)byte;
    }
    *to = '\0';
    return text;
}

/* Empty when there is none. */
static char *take_word(struct reader *in, const char *name)
{
    char *text = take_text(in, name);
    if (*text) return text;
    free(text);
    return NULL;
}

static uint64_t number_of(struct reader *in, struct bytes value)
{
    uint64_t n = 0;
    in->bad |= value.len == 0 || (value.len > 1 && value.data[0] == '0');
    for (size_t i = 0; i < value.len && !in->bad; i++) {
        uint64_t digit = (uint64_t)(value.data[i] - '0');
        in->bad = value.data[i] < '0' || value.data[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
                  __builtin_add_overflow(n, digit, &n);
    }
    return n;
}

static uint64_t take_number(struct reader *in, const char *name)
{
    struct bytes value = take(in, name);
    return number_of(in, value);
}

static bool take_switch(struct reader *in, const char *name)
{
    uint64_t n = take_number(in, name);
    in->bad |= n > 1;
    return n == 1;
}

static bool take_optional(struct reader *in, const char *name, uint64_t *n)
{
    struct bytes value = take(in, name);
    if (in->bad || value.len == 0) return false;
    *n = number_of(in, value);
    return true;
}

static struct digest take_digest(struct reader *in, const char *name)
{
    struct digest d = {0, 0};
    struct bytes value = take(in, name);
    char text[DIGEST_TEXT] = "";
    if (value.len == DIGEST_TEXT - 1) memcpy(text, value.data, value.len);
    in->bad |= !digest_parse(text, &d);
    return d;
}

static bool take_state(struct reader *in)
{
    char *state = take_text(in, "state");
    bool complete = strcmp(state, "complete") == 0;
    in->bad |= !complete && strcmp(state, "merging") != 0;
    free(state);
    return complete;
}

static void take_stream(struct reader *in, struct checkpoint_stream *s)
{
    s->id = take_text(in, "id");
    s->run = take_number(in, "run");
    s->token = take_text(in, "token");
    s->list = take_text(in, "list");
    s->items = take_number(in, "of");
    s->base.items = take_number(in, "skipped");
    s->base.digest = take_digest(in, "skipped-digest");
    s->at.items = take_number(in, "taken");
    in->bad |= s->at.items > s->items || s->base.items > s->at.items;
    s->at.bytes = take_number(in, "taken-bytes");
    s->at.digest = take_digest(in, "taken-digest");
    s->at.tail_len = take_number(in, "tail");
    in->bad |= s->at.tail_len > s->at.bytes;
    s->at.tail = take_digest(in, "tail-digest");
}

static uint64_t taken_here(const struct checkpoint_stream *s)
{
    return s->at.items > s->base.items ? s->at.items - s->base.items : 0;
}

/* An array that the rest of the file could fill, and no larger one. */
static void take_streams(struct reader *in, struct checkpoint *c)
{
    uint64_t n = take_number(in, "datasets"), walked = 0;
    in->bad |= n > (uint64_t)(in->end - in->at) / LINE_LEAST;
    if (in->bad) return;
    c->streams = mem_zalloc((n + 1) * sizeof *c->streams);
    for (; c->count < n && !in->bad; c->count++) {
        take_stream(in, &c->streams[c->count]);
        in->bad |= __builtin_add_overflow(walked, taken_here(&c->streams[c->count]), &walked);
    }
    in->bad |= walked != c->walked;
}

static void take_sum(struct reader *in)
{
    struct digest is = {0, 0};
    digest_add_item(&is, in->begin, (size_t)(in->at - in->begin));
    struct digest said = take_digest(in, "sum");
    in->bad |= !digest_equal(&is, &said) || in->at != in->end;
}

/* Newlines or NUL bytes: the output holds one behind each item. */
static bool is_possible(const struct checkpoint *c)
{
    if (c->items > c->walked || (!c->unique && c->items != c->walked)) return false;
    if (c->has_limit && c->items > c->limit) return false;
    if (c->has_last && (!c->unique || c->items == 0 || c->last_len >= c->bytes)) return false;
    if (c->unique && !c->has_last && c->items > 0) return false;
    return c->bytes >= c->items;
}

struct fault *checkpoint_parse(struct checkpoint *c, const char *text, size_t len)
{
    struct reader in = {.begin = text, .at = text, .end = text + len, .line = 1};
    *c = (struct checkpoint){0};
    if (len < strlen(title) || memcmp(text, title, strlen(title)) != 0)
        return fault_new(FAULT_CHANGED, "it does not begin with \"%.*s\"", (int)strlen(title) - 1, title);
    in.at += strlen(title);
    c->complete = take_state(&in);
    c->job = take_text(&in, "job");
    c->order = take_text(&in, "order");
    c->consumer = take_word(&in, "consumer");
    c->unique = take_switch(&in, "unique");
    c->tag = take_switch(&in, "tag");
    c->separator = take_switch(&in, "zero") ? '\0' : '\n';
    c->has_limit = take_optional(&in, "limit", &c->limit);
    c->walked = take_number(&in, "walked");
    c->items = take_number(&in, "items");
    c->bytes = take_number(&in, "bytes");
    c->digest = take_digest(&in, "digest");
    c->has_last = take_optional(&in, "last", &c->last_len);
    take_streams(&in, c);
    take_sum(&in);
    if (in.bad) return fault_new(FAULT_CHANGED, "line %zu is not what a merger writes: it was cut or changed", in.line);
    return is_possible(c) ? NULL : fault_new(FAULT_CHANGED, "its numbers contradict each other");
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static struct fault *cannot(const char *what, const char *path)
{
    return fault_new(FAULT_OUTPUT, "cannot %s %s: %s", what, path, strerror(errno));
}

static struct fault *read_all(int fd, const char *path, struct buf *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return cannot("read", path);
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MOST)
        return fault_new(FAULT_CHANGED, "%s is no checkpoint of a merge", path);
    for (;;) {
        ssize_t n = read(fd, buf_reserve(out, 64 * 1024), 64 * 1024);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cannot("read", path);
        if (n == 0) return NULL;
        out->len += (size_t)n;
    }
}

struct fault *checkpoint_read(struct checkpoint *c, const char *path, bool *found)
{
    *c = (struct checkpoint){0};
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    *found = fd >= 0;
    if (fd < 0) return errno == ENOENT ? NULL : cannot("open", path);
    struct buf text = {0};
    struct fault *fault = read_all(fd, path, &text);
    close(fd);
    if (!fault) fault = checkpoint_parse(c, buf_text(&text), text.len);
    buf_free(&text);
    return fault;
}

static bool write_all(int fd, const struct buf *text)
{
    for (size_t done = 0; done < text->len;) {
        ssize_t n = write(fd, text->data + done, text->len - done);
        if (n < 0 && errno != EINTR) return false;
        if (n > 0) done += (size_t)n;
    }
    return fsync(fd) == 0;
}

struct fault *checkpoint_write(const struct checkpoint *c, const char *path, const char *aside)
{
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return cannot("create", aside);
    struct buf text = {0};
    checkpoint_format(c, &text);
    bool written = write_all(fd, &text);
    int why = errno;
    buf_free(&text);
    close(fd);
    errno = why;
    if (written && rename(aside, path) == 0) return NULL;
    struct fault *fault = cannot("write", path);
    unlink(aside);
    return fault;
}
