/*
 * shim_calls - a library for LD_PRELOAD that breaks one system call of a program.
 *
 *     LD_PRELOAD=…/shim_calls.so NWM_SHIM='CALL N ACTION' nwm-merger …
 *
 * CALL is write, send, fsync, rename, unlink or ftruncate; N counts them from 1 (write: only to regular files). ACTION:
 *
 *     kill    SIGKILL before the call is made
 *     after   SIGKILL right after it
 *     fail    EIO, from the N-th on
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int seen;

struct plan {
    char call[16], action[16];
    int n;
};

static bool read_plan(struct plan *p)
{
    const char *text = getenv("NWM_SHIM");
    return text && sscanf(text, "%15s %d %15s", p->call, &p->n, p->action) == 3;
}

/* True when the call is to fail. *die: when the process is to end behind it. */
static bool before(const char *call, bool *die)
{
    struct plan p;
    *die = false;
    if (!read_plan(&p) || strcmp(p.call, call) != 0) return false;
    seen++;
    if (seen == p.n && strcmp(p.action, "kill") == 0) raise(SIGKILL);
    *die = seen == p.n && strcmp(p.action, "after") == 0;
    if (seen < p.n || strcmp(p.action, "fail") != 0) return false;
    errno = EIO;
    return true;
}

static int done(bool die, int result)
{
    if (die) raise(SIGKILL);
    return result;
}

/* dlsym gives data where a function is wanted; ISO C has no cast for that. */
#define REAL(type, name)                                                                                               \
    type real;                                                                                                         \
    void *found = dlsym(RTLD_NEXT, name);                                                                              \
    memcpy(&real, &found, sizeof real)

ssize_t write(int fd, const void *data, size_t len)
{
    typedef ssize_t write_fn(int, const void *, size_t);
    REAL(write_fn *, "write");
    struct stat st;
    bool die = false;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && before("write", &die)) return -1;
    ssize_t n = real(fd, data, len);
    if (die) raise(SIGKILL);
    return n;
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    typedef ssize_t send_fn(int, const void *, size_t, int);
    REAL(send_fn *, "send");
    bool die;
    if (before("send", &die)) return -1;
    ssize_t n = real(fd, data, len, flags);
    if (die) raise(SIGKILL);
    return n;
}

int fsync(int fd)
{
    typedef int fsync_fn(int);
    REAL(fsync_fn *, "fsync");
    bool die;
    return before("fsync", &die) ? -1 : done(die, real(fd));
}

int rename(const char *from, const char *to)
{
    typedef int rename_fn(const char *, const char *);
    REAL(rename_fn *, "rename");
    bool die;
    return before("rename", &die) ? -1 : done(die, real(from, to));
}

int unlink(const char *path)
{
    typedef int unlink_fn(const char *);
    REAL(unlink_fn *, "unlink");
    bool die;
    return before("unlink", &die) ? -1 : done(die, real(path));
}

int ftruncate(int fd, off_t len)
{
    typedef int ftruncate_fn(int, off_t);
    REAL(ftruncate_fn *, "ftruncate");
    bool die;
    return before("ftruncate", &die) ? -1 : done(die, real(fd, len));
}
