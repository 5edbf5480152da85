/*
 * mem.h - memory that is there or ends the program, and a growing buffer.
 *
 * Out of memory ends the program with size and place on standard error and exit code 2: the rerun is cheap, and a
 * half-working program is what nwmerge promises not to be. What a peer can make large is bounded before it gets here.
 */
#ifndef NWM_MEM_H
#define NWM_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* A byte string that belongs to somebody else. */
struct bytes {
    const char *data;
    size_t len;
};

#define mem_alloc(size) mem_alloc_at((size), __FILE__, __LINE__)
#define mem_zalloc(size) mem_zalloc_at((size), __FILE__, __LINE__)
#define mem_realloc(old, size) mem_realloc_at((old), (size), __FILE__, __LINE__)
/* Room for n things of that size; the product is checked. */
#define mem_array(old, n, size) mem_array_at((old), (n), (size), __FILE__, __LINE__)
#define mem_strdup(text) mem_strndup_at((text), SIZE_MAX, __FILE__, __LINE__)
/* At most len bytes of text, and a NUL. */
#define mem_strndup(text, len) mem_strndup_at((text), (len), __FILE__, __LINE__)
/* len bytes, NULs among them too, and one NUL behind. */
#define mem_dup(data, len) mem_dup_at((data), (len), __FILE__, __LINE__)

void *mem_alloc_at(size_t size, const char *file, int line) __attribute__((returns_nonnull, malloc));
void *mem_zalloc_at(size_t size, const char *file, int line) __attribute__((returns_nonnull, malloc));
void *mem_realloc_at(void *old, size_t size, const char *file, int line) __attribute__((returns_nonnull));
void *mem_array_at(void *old, size_t n, size_t size, const char *file, int line) __attribute__((returns_nonnull));
char *mem_strndup_at(const char *text, size_t len, const char *file, int line) __attribute__((returns_nonnull, malloc));
char *mem_dup_at(const void *data, size_t len, const char *file, int line) __attribute__((returns_nonnull, malloc));

/* sprintf into new memory; the caller frees. */
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2), returns_nonnull));
char *mem_vprintf(const char *format, va_list args) __attribute__((format(printf, 1, 0), returns_nonnull));

/* A growing buffer, embedded by its user. All zero is a valid empty one. */
struct buf {
    char *data;
    size_t len, cap;
};

/* Room for `more` bytes behind what is there; returns where they go. Grows by half at least. */
char *buf_reserve(struct buf *b, size_t more);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Text of others, made safe to print: what is not valid UTF-8 and what does something to a terminal instead of showing
 * (control bytes, newlines too, and marks of direction) becomes \xNN; the rest stays as it is. */
void buf_escape(struct buf *b, const char *data, size_t len);
/* A readable form of bytes for people: at most `most` bytes of it (never half a character), escaped like buf_escape,
 * quotes around, a backslash before quotes and backslashes, "…" behind the quotes where it was cut. */
void buf_quote(struct buf *b, const char *data, size_t len, size_t most);
/* A NUL behind the content (not counted); returns the content as a string. */
const char *buf_text(struct buf *b);
void buf_free(struct buf *b);

/* buf_quote into new memory with the length at which people stop reading; the caller frees. */
char *mem_quote(const char *data, size_t len);

#endif
