#include "shared/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/stop.h"

/* READ_MOST is also how much memory a large item can touch beyond its own size. 256 KiB stays in the second-level cache
 * until its items have been pushed. */
enum { BLOCK_SIZE = 256 << 10, READ_MOST = 1 << 20 };

struct block {
    char *data;
    size_t cap;
};

struct reader {
    int fd;
    off_t start;    /* of a regular file: where its descriptor stood */
    bool may_block; /* no regular file: poll before each read, so that a signal ends the wait */
    bool ended;     /* read() has said so */
    char *name, separator;
    struct pulse pulse;
    struct block blocks[2];
    int active;     /* which block is being filled */
    size_t at;      /* where the next item begins in the active block */
    size_t scanned; /* no separator between at and here */
    size_t filled;
    uint64_t items, bytes;
    size_t longest; /* an item may be */
};

/* A FIFO is opened without waiting for its writer, so that a signal ends the wait as well. */
struct fault *reader_open(const char *path, const char *name, int *fd)
{
    *fd = path ? open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : STDIN_FILENO;
    struct stat st;
    if (*fd < 0 || fstat(*fd, &st) != 0) return fault_new(FAULT_NO_INPUT, "cannot open %s: %s", name, strerror(errno));
    if (!S_ISDIR(st.st_mode)) return NULL;
    if (*fd > 0) close(*fd);
    return fault_new(FAULT_NO_INPUT, "cannot read %s: it is a directory", name);
}

struct reader *reader_new(int fd, const char *name, char separator)
{
    struct reader *r = mem_zalloc(sizeof *r);
    r->fd = fd;
    r->name = mem_strdup(name);
    r->separator = separator;
    r->longest = ITEM_MAX;
    struct stat st;
    r->may_block = fstat(fd, &st) != 0 || !S_ISREG(st.st_mode);
    r->start = r->may_block ? -1 : lseek(fd, 0, SEEK_CUR);
    for (int i = 0; i < 2; i++) r->blocks[i] = (struct block){mem_alloc(BLOCK_SIZE), BLOCK_SIZE};
    return r;
}

void reader_free(struct reader *r)
{
    if (!r) return;
    if (r->fd > 0) close(r->fd);
    free(r->blocks[0].data);
    free(r->blocks[1].data);
    free(r->name);
    free(r);
}

static struct fault *read_failed(const struct reader *r)
{
    return fault_new(FAULT_NO_INPUT, "cannot read %s: %s", r->name, strerror(errno));
}

bool reader_can_rewind(const struct reader *r) { return r->start >= 0; }

void reader_rest(struct reader *r)
{
    for (int i = 0; i < 2; i++) {
        free(r->blocks[i].data);
        r->blocks[i] = (struct block){0};
    }
    r->active = 0;
    r->at = r->scanned = r->filled = 0;
    r->ended = true;
}

struct fault *reader_rewind(struct reader *r)
{
    reader_rest(r);
    if (lseek(r->fd, r->start, SEEK_SET) < 0) return read_failed(r);
    for (int i = 0; i < 2; i++) r->blocks[i] = (struct block){mem_alloc(BLOCK_SIZE), BLOCK_SIZE};
    r->items = r->bytes = 0;
    r->ended = false;
    return NULL;
}

void reader_set_pulse(struct reader *r, struct pulse p) { r->pulse = p; }
void reader_set_longest(struct reader *r, size_t longest) { r->longest = longest < ITEM_MAX ? longest : ITEM_MAX; }
uint64_t reader_items(const struct reader *r) { return r->items; }
uint64_t reader_bytes(const struct reader *r) { return r->bytes; }

/* Returns when there is something to read (or an end, or an error to find). */
static struct fault *wait_for_input(const struct reader *r)
{
    for (;;) {
        struct fault *f = pulse_beat(&r->pulse);
        if (f) return f;
        struct pollfd fds[2] = {{.fd = r->fd, .events = POLLIN}, {.fd = stop_fd(), .events = POLLIN}};
        if (poll(fds, 2, PULSE_MS) > 0 && fds[0].revents != 0) return NULL;
    }
}

/* Reads once into what room the active block has. */
static struct fault *fill(struct reader *r)
{
    struct block *b = &r->blocks[r->active];
    size_t room = b->cap - r->filled < READ_MOST ? b->cap - r->filled : READ_MOST;
    for (;;) {
        struct fault *f = r->may_block ? wait_for_input(r) : pulse_beat(&r->pulse);
        if (f) return f;
        ssize_t n = read(r->fd, b->data + r->filled, room);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return read_failed(r);
        r->ended = n == 0;
        r->filled += (size_t)n;
        r->bytes += (uint64_t)n;
        return NULL;
    }
}

static void grow(struct block *b)
{
    b->cap += b->cap / 2;
    if (b->cap > ITEM_MAX + READ_MOST) b->cap = ITEM_MAX + READ_MOST;
    b->data = mem_realloc(b->data, b->cap);
}

/* The other block's items were delivered before the last call, so nobody looks at them any more: what has begun here
 * goes on there. */
static void turn(struct reader *r)
{
    const struct block *from = &r->blocks[r->active];
    r->active = !r->active;
    struct block *to = &r->blocks[r->active];
    size_t begun = r->filled - r->at;
    while (to->cap <= begun) grow(to);
    memcpy(to->data, from->data + r->at, begun);
    r->scanned -= r->at;
    r->filled = begun;
    r->at = 0;
}

static struct fault *check_length(const struct reader *r, size_t len)
{
    if (len <= r->longest) return NULL;
    const char *what = r->separator == '\n' ? "line" : "item";
    if (r->longest < ITEM_MAX)
        return fault_new(FAULT_BAD_ITEM, "%s %" PRIu64 " of %s is longer than %zu bytes", what, r->items + 1, r->name,
                         r->longest);
    return fault_new(FAULT_BAD_ITEM, "%s %" PRIu64 " of %s is longer than 512 MB, the most Redis takes for one item",
                     what, r->items + 1, r->name);
}

/* More of the item that has begun. */
static struct fault *read_more(struct reader *r)
{
    struct fault *f = check_length(r, r->filled - r->at);
    if (f) return f;
    if (r->filled == r->blocks[r->active].cap) {
        if (r->at > 0)
            turn(r);
        else
            grow(&r->blocks[r->active]); /* only this item is in it: nobody holds a pointer */
    }
    return fill(r);
}

static struct fault *deliver(struct reader *r, size_t end, size_t next, struct bytes *item)
{
    struct fault *f = check_length(r, end - r->at);
    if (f) return f;
    *item = (struct bytes){r->blocks[r->active].data + r->at, end - r->at};
    r->at = r->scanned = next;
    r->items++;
    return NULL;
}

struct fault *reader_next(struct reader *r, struct bytes *item, bool *end)
{
    *end = false;
    for (;;) {
        const char *data = r->blocks[r->active].data;
        if (r->scanned < r->filled) {
            const char *found = memchr(data + r->scanned, r->separator, r->filled - r->scanned);
            if (found) {
                size_t stop = (size_t)(found - data);
                return deliver(r, stop, stop + 1, item);
            }
        }
        r->scanned = r->filled;
        if (!r->ended) {
            struct fault *f = read_more(r);
            if (f) return f;
        } else if (r->at < r->filled) {
            return deliver(r, r->filled, r->filled, item);
        } else {
            *item = (struct bytes){0};
            *end = true;
            return NULL;
        }
    }
}
