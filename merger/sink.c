#include "merger/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/conn.h"
#include "shared/mem.h"
#include "shared/stop.h"

/* The buffer takes a run and its tags whole, whatever their size, up to BUFFER_SIZE - WRITE_SIZE. */
enum { BUFFER_SIZE = 256 * 1024 };
/* What is worth a write. While a larger one is under way nobody takes in what the server sends, which then waits: with 128 KB, L took
 * 1.25 of the drain's time instead of 1.10, and F 1.38 instead of 1.22. */
enum { WRITE_SIZE = 32 * 1024 };
/* How often a FIFO is looked at that nobody reads yet. */
enum { FIFO_LOOK_MS = 50 };
/* How often a kept temporary is opened again because its name went to another file meanwhile. */
enum { LOCK_TRIES = 100 };

enum sink_kind {
    SINK_REPLACES, /* a regular file, written aside and renamed */
    SINK_DIRECT,   /* standard output, a device, a FIFO */
};

struct sink {
    enum sink_kind kind;
    char *name;                 /* for people */
    char *target;               /* SINK_REPLACES: the real path that is replaced */
    char *aside;                /* SINK_REPLACES without O_TMPFILE: the temporary's path, until it is renamed */
    bool kept;                  /* aside is FILE.nwm-part, */
    bool stays;                 /* and survives sink_close() */
    struct byte_digest *digest; /* kept: of what is in the temporary */
    int fd;
    bool owns_fd;
    bool can_block; /* a pipe, socket or terminal: poll before writing */
    size_t max_write;
    bool reader_gone;

    char *buffer;
    size_t used, written; /* buffer[written..used) is pending */
    const char *outside;  /* a large piece, after the buffer */
    size_t outside_len;
    uint64_t bytes;
};

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static struct fault *cannot(const struct sink *s, const char *what)
{
    return fault_new(FAULT_OUTPUT, "cannot %s %s: %s", what, s->name, strerror(errno));
}

/* Which path is really written: a symlink's target, even one that does not exist yet. */
static char *real_target(const char *path)
{
    char *resolved = realpath(path, NULL);
    if (resolved) return resolved;
    char link[PATH_MAX];
    ssize_t n = readlink(path, link, sizeof link - 1);
    if (n < 0) return mem_strdup(path);
    link[n] = '\0';
    if (link[0] == '/') return mem_strdup(link);
    char *copy = mem_strdup(path);
    char *target = mem_printf("%s/%s", dirname(copy), link);
    free(copy);
    return target;
}

/* The owner first: giving a file away clears its set-user-id bits. */
static struct fault *take_over_mode(struct sink *s, const struct stat *old)
{
    /* Only root can give a file away; everybody else owns what they replace, and keeps its group where they are in it. */
    if (geteuid() != 0 && fchown(s->fd, (uid_t)-1, old->st_gid) != 0) errno = 0;
    if (geteuid() == 0 && fchown(s->fd, old->st_uid, old->st_gid) != 0) return cannot(s, "keep the owner of");
    if (fchmod(s->fd, old->st_mode & 07777) != 0) return cannot(s, "keep the mode of");
    return NULL;
}

static mode_t mode_of_new_files(void)
{
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

static struct fault *open_aside(struct sink *s, const struct stat *old)
{
    char *copy = mem_strdup(s->target);
    char *directory = dirname(copy);
    struct fault *fault = NULL;
    s->owns_fd = true;
    /* Without /proc a nameless file could not be given a name at the end. */
    bool can_name = access("/proc/self/fd", F_OK) == 0;
    errno = EOPNOTSUPP;
    s->fd = can_name ? open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600) : -1;
    if (s->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        s->aside = mem_printf("%s/.nwm-XXXXXX", directory);
        s->fd = mkostemp(s->aside, O_CLOEXEC);
        if (s->fd < 0) free(s->aside), s->aside = NULL;
    }
    free(copy);
    if (s->fd < 0) return cannot(s, "create");
    if (old) {
        fault = take_over_mode(s, old);
    } else if (fchmod(s->fd, mode_of_new_files()) != 0) {
        fault = cannot(s, "set the mode of");
    }
    return fault;
}

/* O_NONBLOCK belongs to the open file, which may be shared with a shell; for pipes the kernel gives us one of our own. Where it
 * does not, a writable pipe takes PIPE_BUF bytes without blocking. */
static void prepare_direct(struct sink *s)
{
    struct stat st;
    if (fstat(s->fd, &st) != 0) return;
    s->can_block = S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || isatty(s->fd);
    s->max_write = s->can_block ? PIPE_BUF : SIZE_MAX;
    if (!S_ISFIFO(st.st_mode)) return;
    char *path = mem_printf("/proc/self/fd/%d", s->fd);
    int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    free(path);
    if (own < 0) return;
    if (dup2(own, s->fd) >= 0) s->max_write = SIZE_MAX;
    close(own);
}

/* open() of a FIFO waits for its reader without bound; without O_NONBLOCK's ENXIO there would be no way to stop waiting. */
static int open_when_read(const char *path, int64_t timeout_ms)
{
    int64_t deadline = clock_ms() + timeout_ms;
    for (;;) {
        int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd >= 0 || errno != ENXIO || clock_ms() >= deadline || stop_signal()) return fd;
        struct pollfd stop = {.fd = stop_fd(), .events = POLLIN};
        poll(&stop, 1, FIFO_LOOK_MS);
        errno = ENXIO;
    }
}

static struct fault *open_direct(struct sink *s, const char *path, int64_t timeout_ms)
{
    s->kind = SINK_DIRECT;
    s->owns_fd = true;
    s->fd = open_when_read(path, timeout_ms);
    if (s->fd < 0 && stop_signal())
        return fault_new(FAULT_INTERRUPTED, "interrupted while waiting for a reader of %s", s->name);
    if (s->fd < 0 && errno == ENXIO)
        return fault_new(FAULT_OUTPUT, "nobody opened the FIFO %s for reading (--timeout)", s->name);
    if (s->fd < 0) return cannot(s, "open");
    prepare_direct(s);
    return NULL;
}

static struct fault *refuse(const struct sink *s, int why)
{
    errno = why;
    return cannot(s, "write");
}

static struct fault *open_path(struct sink *s, const char *path, int64_t timeout_ms)
{
    s->target = real_target(path);
    size_t len = strlen(s->target);
    if (len == 0) return refuse(s, ENOENT);
    struct stat st;
    if (stat(s->target, &st) != 0) {
        if (errno != ENOENT) return cannot(s, "write");
        if (s->target[len - 1] == '/') return refuse(s, EISDIR);
        return open_aside(s, NULL);
    }
    if (S_ISDIR(st.st_mode)) return refuse(s, EISDIR);
    if (!S_ISREG(st.st_mode)) return open_direct(s, s->target, timeout_ms);
    if (access(s->target, W_OK) != 0) return cannot(s, "write");
    return open_aside(s, &st);
}

/* Sets errno otherwise. */
static bool is_open_for_writing(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY) errno = EBADF;
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

static struct sink *new_sink(const char *name)
{
    struct sink *s = mem_zalloc(sizeof *s);
    s->fd = -1;
    s->name = mem_strdup(name);
    s->max_write = SIZE_MAX;
    s->buffer = mem_alloc(BUFFER_SIZE);
    return s;
}

struct fault *sink_open(const char *path, int64_t timeout_ms, struct sink **out)
{
    struct sink *s = new_sink(path ? path : "standard output");
    *out = s;
    if (path) return open_path(s, path, timeout_ms);
    s->kind = SINK_DIRECT;
    s->fd = STDOUT_FILENO;
    if (!is_open_for_writing(s->fd)) return cannot(s, "write to");
    prepare_direct(s);
    return NULL;
}

/* ---- kept ones --------------------------------------------------------------------------------------------------- */

/* A temporary that is finished by its owner loses its name: a lock on what has none would lock nothing. */
static bool still_has_name(const struct sink *s)
{
    struct stat held, named;
    return fstat(s->fd, &held) == 0 && lstat(s->aside, &named) == 0 && held.st_ino == named.st_ino &&
           held.st_dev == named.st_dev;
}

static void drop_descriptor(struct sink *s)
{
    close(s->fd);
    s->fd = -1;
}

static struct fault *busy(const struct sink *s)
{
    return fault_new(FAULT_BUSY, "another merger is writing %s (it holds the lock of %s)", s->name, s->aside);
}

/* The temporary is not ours to touch, not even at the end. */
static struct fault *not_locked(struct sink *s)
{
    struct fault *fault = errno == EWOULDBLOCK ? busy(s) : cannot(s, "lock the temporary of");
    drop_descriptor(s);
    return fault;
}

/* In a directory others may write to, the name could have been taken to lead us elsewhere. */
static struct fault *check_own(const struct sink *s)
{
    struct stat st;
    if (fstat(s->fd, &st) != 0) return cannot(s, "look at the temporary of");
    if (S_ISREG(st.st_mode) && st.st_uid == geteuid() && st.st_nlink == 1) return NULL;
    return fault_new(FAULT_OUTPUT, "%s is no file of ours: a regular one, of this user, with one name; remove it",
                     s->aside);
}

static struct fault *lock_aside(struct sink *s)
{
    s->owns_fd = true;
    for (int tries = 0; tries < LOCK_TRIES; tries++) {
        s->fd = open(s->aside, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (s->fd < 0) return cannot(s, "create the temporary of");
        if (flock(s->fd, LOCK_EX | LOCK_NB) != 0) return not_locked(s);
        if (still_has_name(s)) return check_own(s);
        drop_descriptor(s);
    }
    return busy(s);
}

struct fault *sink_open_kept(const char *path, struct sink **out)
{
    struct sink *s = new_sink(path);
    *out = s;
    s->stays = true;
    s->target = real_target(path);
    size_t len = strlen(s->target);
    struct stat st;
    bool exists = stat(s->target, &st) == 0;
    if (!exists && errno != ENOENT) return cannot(s, "write");
    if (len == 0) return refuse(s, ENOENT);
    if (s->target[len - 1] == '/' || (exists && S_ISDIR(st.st_mode))) return refuse(s, EISDIR);
    if (exists && !S_ISREG(st.st_mode))
        return fault_new(FAULT_USAGE, "--resume needs a regular file, and %s is none: what was written there is gone",
                         path);
    if (exists && access(s->target, W_OK) != 0) return cannot(s, "write");
    s->kept = true;
    s->aside = mem_printf("%s.nwm-part", s->target);
    return lock_aside(s);
}

bool sink_is_finished(const struct sink *s) { return s->kept && !s->aside; }

struct fault *sink_lock_again(struct sink *s)
{
    if (!sink_is_finished(s)) return NULL;
    s->aside = mem_printf("%s.nwm-part", s->target);
    struct fault *fault = lock_aside(s);
    s->stays = fault != NULL; /* what is another's is not ours to remove */
    if (!fault) return NULL;
    if (s->fd >= 0) drop_descriptor(s);
    free(s->aside);
    s->aside = NULL;
    return fault;
}

void sink_set_stays(struct sink *s, bool stays) { s->stays = stays; }
const char *sink_target(const struct sink *s) { return s->target; }
struct digest sink_digest(const struct sink *s) { return byte_digest_value(s->digest); }

static struct fault *part_changed(const struct sink *s, const char *how)
{
    return fault_new(FAULT_CHANGED, "the temporary %s %s", s->aside, how);
}

struct fault *sink_read_back(struct sink *s, uint64_t offset, char *to, size_t len)
{
    while (len > 0) {
        ssize_t n = pread(s->fd, to, len, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cannot(s, "read back the temporary of");
        if (n == 0) return part_changed(s, "is shorter than the checkpoint says");
        to += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return NULL;
}

static struct fault *digest_written(struct sink *s, uint64_t bytes)
{
    struct fault *fault = NULL;
    byte_digest_free(s->digest);
    s->digest = byte_digest_new();
    for (uint64_t at = 0; at < bytes && !fault;) {
        size_t len = bytes - at < BUFFER_SIZE ? (size_t)(bytes - at) : BUFFER_SIZE;
        fault = stop_signal() ? fault_new(FAULT_INTERRUPTED, "interrupted while %s was read again", s->aside)
                              : sink_read_back(s, at, s->buffer, len);
        if (!fault) byte_digest_add(s->digest, s->buffer, len);
        at += len;
    }
    return fault;
}

struct fault *sink_take_up(struct sink *s, uint64_t bytes, const struct digest *digest)
{
    struct fault *fault = digest_written(s, bytes);
    if (fault) return fault;
    struct digest found = sink_digest(s);
    if (bytes > 0 && !digest_equal(&found, digest))
        return part_changed(s, "is not what the checkpoint says: it was changed");
    if (ftruncate(s->fd, (off_t)bytes) != 0) return cannot(s, "truncate the temporary of");
    if (lseek(s->fd, (off_t)bytes, SEEK_SET) < 0) return cannot(s, "continue");
    s->bytes = bytes;
    return NULL;
}

struct fault *sink_sync(struct sink *s) { return fsync(s->fd) == 0 ? NULL : cannot(s, "sync"); }

bool sink_is_empty(const struct sink *s)
{
    struct stat st;
    return s->fd >= 0 && fstat(s->fd, &st) == 0 && st.st_size == 0;
}

/* While the lock is still held. */
static void remove_aside(struct sink *s)
{
    if (s->aside && (!s->stays || sink_is_empty(s))) unlink(s->aside);
}

void sink_let_go(struct sink *s)
{
    remove_aside(s);
    drop_descriptor(s);
    free(s->aside);
    s->aside = NULL;
}

void sink_close(struct sink *s)
{
    if (!s) return;
    remove_aside(s);
    if (s->owns_fd && s->fd >= 0) close(s->fd);
    byte_digest_free(s->digest);
    free(s->aside);
    free(s->target);
    free(s->name);
    free(s->buffer);
    free(s);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

size_t sink_pending(const struct sink *s) { return s->used - s->written + s->outside_len; }

bool sink_has_room(const struct sink *s) { return s->outside_len == 0 && s->used < WRITE_SIZE; }

/* While it has room the buffer takes any piece of ordinary size; copying a huge one would be for nothing. */
void sink_append(struct sink *s, const void *data, size_t len)
{
    s->bytes += len;
    if (s->used + len <= BUFFER_SIZE) {
        memcpy(s->buffer + s->used, data, len);
        s->used += len;
    } else {
        s->outside = data;
        s->outside_len = len;
    }
}

/* One write of what comes first. Returns false when the reader takes no more for now or on an error. */
static bool write_some(struct sink *s, struct fault **fault)
{
    const char *from = s->written < s->used ? s->buffer + s->written : s->outside;
    size_t len = s->written < s->used ? s->used - s->written : s->outside_len;
    if (len > s->max_write) len = s->max_write;
    if (s->can_block) {
        struct pollfd ready = {.fd = s->fd, .events = POLLOUT};
        if (poll(&ready, 1, 0) == 0) return false;
    }
    ssize_t n = write(s->fd, from, len);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) return false;
        s->reader_gone = errno == EPIPE;
        *fault = cannot(s, "write to");
        return false;
    }
    if (s->digest) byte_digest_add(s->digest, from, (size_t)n);
    if (s->written < s->used) {
        s->written += (size_t)n;
        if (s->written == s->used) s->written = s->used = 0;
    } else {
        s->outside += n;
        s->outside_len -= (size_t)n;
    }
    return true;
}

struct fault *sink_pump(struct sink *s, bool all, bool *blocked)
{
    struct fault *fault = NULL;
    *blocked = false;
    while (all ? sink_pending(s) > 0 : !sink_has_room(s)) {
        if (write_some(s, &fault)) continue;
        *blocked = !fault;
        return fault;
    }
    return NULL;
}

int sink_wait_fd(const struct sink *s) { return s->fd; }
bool sink_reader_is_gone(const struct sink *s) { return s->reader_gone; }
uint64_t sink_bytes(const struct sink *s) { return s->bytes; }
const char *sink_name(const struct sink *s) { return s->name; }
size_t sink_memory(void) { return BUFFER_SIZE; }

/* ---- finishing --------------------------------------------------------------------------------------------------- */

/* Gives the nameless file a name in the target's directory; rename does the rest, atomically. A short one, for the target's may be
 * as long as names can be. */
static struct fault *name_aside(struct sink *s)
{
    if (s->aside) return NULL;
    char *from = mem_printf("/proc/self/fd/%d", s->fd);
    char *copy = mem_strdup(s->target);
    const char *directory = dirname(copy);
    struct fault *fault = NULL;
    for (int tries = 0;; tries++) {
        char *name = mem_printf("%s/.nwm-%ld-%d", directory, (long)getpid(), tries);
        if (linkat(AT_FDCWD, from, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0) {
            s->aside = name;
            break;
        }
        int why = errno;
        free(name);
        errno = why;
        if (why == EEXIST && tries < 100) continue;
        fault = cannot(s, "name");
        break;
    }
    free(copy);
    free(from);
    return fault;
}

struct fault *sink_sync_directory(struct sink *s)
{
    char *copy = mem_strdup(s->target);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    struct fault *fault = NULL;
    /* One that we may write to but not read cannot be opened for that; the rename is done all the same. */
    if (fd < 0 && errno == EACCES) return NULL;
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) fault = cannot(s, "sync the directory of");
    if (fd >= 0) close(fd);
    return fault;
}

/* A kept temporary is ours alone until it is finished; then it becomes what FILE is, or would have been. */
static struct fault *set_final_mode(struct sink *s)
{
    struct stat old;
    if (stat(s->target, &old) == 0) return take_over_mode(s, &old);
    return fchmod(s->fd, mode_of_new_files()) == 0 ? NULL : cannot(s, "set the mode of");
}

static struct fault *replace_target(struct sink *s)
{
    struct fault *failed = s->kept ? set_final_mode(s) : NULL;
    if (failed) return failed;
    if (fsync(s->fd) != 0) return cannot(s, "sync");
    struct fault *fault = name_aside(s);
    if (fault) return fault;
    if (rename(s->aside, s->target) != 0) return cannot(s, "rename the result to");
    free(s->aside);
    s->aside = NULL;
    return sink_sync_directory(s);
}

struct fault *sink_finish(struct sink *s)
{
    struct fault *fault = s->kind == SINK_REPLACES ? replace_target(s) : NULL;
    if (fault) return fault;
    int fd = s->fd;
    s->fd = -1;
    if (close(fd) != 0 && errno != EINTR) return cannot(s, "close");
    return NULL;
}
