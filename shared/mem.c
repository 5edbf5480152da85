#include "shared/mem.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_NO_MEMORY = 2, QUOTE_MOST = 80 };

/* snprintf allocates nothing for these conversions; neither do write and _exit. */
static _Noreturn void out_of_memory(size_t size, const char *file, int line)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%.128s: out of memory: %zu bytes at %.256s:%d\n",
                     program_invocation_short_name, size, file, line);
    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0) _exit(EXIT_NO_MEMORY);
    _exit(EXIT_NO_MEMORY);
}

void *mem_alloc_at(size_t size, const char *file, int line)
{
    void *p = malloc(size ? size : 1);
    if (!p) out_of_memory(size, file, line);
    return p;
}

void *mem_zalloc_at(size_t size, const char *file, int line)
{
    void *p = calloc(1, size ? size : 1);
    if (!p) out_of_memory(size, file, line);
    return p;
}

void *mem_realloc_at(void *old, size_t size, const char *file, int line)
{
    void *p = realloc(old, size ? size : 1);
    if (!p) out_of_memory(size, file, line);
    return p;
}

void *mem_array_at(void *old, size_t n, size_t size, const char *file, int line)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) out_of_memory(SIZE_MAX, file, line);
    return mem_realloc_at(old, bytes, file, line);
}

char *mem_dup_at(const void *data, size_t len, const char *file, int line)
{
    if (len == SIZE_MAX) out_of_memory(len, file, line);
    char *copy = mem_alloc_at(len + 1, file, line);
    if (len) memcpy(copy, data, len);
    copy[len] = '\0';
    return copy;
}

char *mem_strndup_at(const char *text, size_t len, const char *file, int line)
{
    return mem_dup_at(text, len == SIZE_MAX ? strlen(text) : strnlen(text, len), file, line);
}

char *mem_vprintf(const char *format, va_list args)
{
    char *text;
    if (vasprintf(&text, format, args) < 0) out_of_memory(strlen(format), __FILE__, __LINE__);
    return text;
}

char *mem_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = mem_vprintf(format, args);
    va_end(args);
    return text;
}

char *buf_reserve(struct buf *b, size_t more)
{
    if (!b->data || b->cap - b->len < more) {
        size_t need;
        if (__builtin_add_overflow(b->len, more, &need)) out_of_memory(SIZE_MAX, __FILE__, __LINE__);
        size_t grown = b->cap > SIZE_MAX / 2 ? SIZE_MAX : b->cap + b->cap / 2;
        if (grown < 64) grown = 64;
        if (need < grown) need = grown;
        b->data = mem_realloc(b->data, need);
        b->cap = need;
    }
    return b->data + b->len;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
    if (!len) return;
    memcpy(buf_reserve(b, len), data, len);
    b->len += len;
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = mem_vprintf(format, args);
    va_end(args);
    buf_append(b, text, strlen(text));
    free(text);
}

/* The length of the well-formed UTF-8 sequence at s (Unicode 15, table 3-7), 0 if there is none; its code point goes to
 * *point. */
static size_t utf8_length(const unsigned char *s, size_t len, uint32_t *point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (s[0] < 0x80) return *point = s[0], 1;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n > len) return 0;
    uint32_t value = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        value = value << 6 | (s[i] & 0x3f);
    }
    if (value < least[n] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return 0;
    *point = value;
    return n;
}

/* What does something to a terminal instead of showing: C0 and C1 controls, line and paragraph separators, and the
 * marks that turn the direction of what follows. */
static bool is_trick(uint32_t point)
{
    return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c || point == 0x200e || point == 0x200f ||
           (point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069);
}

/* Appends the character at s, escaped if need be; returns how many bytes of s it took, 0 if it takes more than room. */
static size_t append_readable(struct buf *b, const unsigned char *s, size_t len, size_t room)
{
    uint32_t point = 0;
    size_t n = utf8_length(s, len, &point);
    size_t take = n ? n : 1;
    if (take > room) return 0;
    if (n && !is_trick(point)) {
        buf_append(b, s, n);
        return n;
    }
    for (size_t i = 0; i < take; i++) buf_printf(b, "\\x%02x", s[i]);
    return take;
}

void buf_escape(struct buf *b, const char *data, size_t len)
{
    const unsigned char *s = (const unsigned char *)data;
    for (size_t at = 0; at < len;) at += append_readable(b, s + at, len - at, len - at);
}

void buf_quote(struct buf *b, const char *data, size_t len, size_t most)
{
    const unsigned char *s = (const unsigned char *)data;
    size_t room = len < most ? len : most;
    size_t at = 0;
    buf_append(b, "\"", 1);
    while (at < room) {
        if (s[at] == '"' || s[at] == '\\') buf_append(b, "\\", 1);
        size_t took = append_readable(b, s + at, len - at, room - at);
        if (!took) break;
        at += took;
    }
    buf_append(b, "\"", 1);
    if (at < len) buf_append(b, "…", strlen("…"));
}

const char *buf_text(struct buf *b)
{
    *buf_reserve(b, 1) = '\0';
    return b->data;
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

char *mem_quote(const char *data, size_t len)
{
    struct buf b = {0};
    buf_quote(&b, data, len, QUOTE_MOST);
    buf_text(&b);
    return b.data;
}
