#include "tests/system/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WAIT = 20000 };

/* ---- servers */

const char *ask(struct server *s, const char *format, ...)
{
    char command[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    cr_assert_null(strchr(command, '%'), "no %% in %s: it is a format of hiredis's", command);
    return s ? server_redis(s, command) : redis(command);
}

const char *field(struct server *s, const char *id, const char *name)
{
    return ask(s, "HGET %s %s", manifest_key(id), name);
}

struct wanted {
    struct server *server;
    const char *id, *state;
};

static bool is_in_state(void *arg)
{
    const struct wanted *w = arg;
    return strcmp(field(w->server, w->id, "state"), w->state) == 0;
}

void wait_state(struct server *s, const char *id, const char *state)
{
    struct wanted w = {s, id, state};
    if (!wait_until(is_in_state, &w, WAIT))
        cr_assert_fail("%s is not %s but %s", dataset(id), state, field(s, id, "state"));
}

long info_number(struct server *s, const char *section, const char *name)
{
    const char *found = strstr(ask(s, "INFO %s", section), fmt("\n%s:", name));
    return found ? strtol(strchr(found, ':') + 1, NULL, 10) : -1;
}

/* ---- a worker that is fed by hand */

/* Before that, closing the FIFO here would leave the worker waiting for a first writer. */
static bool has_opened(const struct proc *worker, const char *path)
{
    char target[600];
    for (int fd = 0; fd < 64; fd++) {
        ssize_t n = readlink(fmt("/proc/%d/fd/%d", (int)proc_pid(worker), fd), target, sizeof target - 1);
        if (n > 0 && (size_t)n == strlen(path) && memcmp(target, path, (size_t)n) == 0) return true;
    }
    return false;
}

void feed_begin(struct feed *f, struct server *s, const char *id, const char *options)
{
    static unsigned number;
    const char *fifo = fmt("feed.%u", ++number), *path = fmt("%s/%s", test_dir(), fifo);
    if (mkfifo(path, 0600) != 0 ||
        (f->fd = open(path, O_RDWR | O_CLOEXEC)) < 0) /* O_RDWR: does not wait for a reader */
        cr_assert_fail("%s: %s", path, strerror(errno));
    const char *before = field(s, id, "token");
    f->worker = spawn("nwm-worker %s %s -i %s %s", s ? fmt("-U %s", s->url) : "", options, id, fifo);
    for (int64_t end = now_ms() + WAIT; now_ms() < end && is_alive(f->worker); nap(2))
        if (strcmp(field(s, id, "token"), before) != 0) break;
    if (strcmp(field(s, id, "token"), before) == 0)
        cr_assert_fail("%s", run_describe(&(struct run){.command = "nwm-worker",
                                                        .exit = -1,
                                                        .out = "",
                                                        .err = (char *)proc_err(f->worker),
                                                        .err_len = strlen(proc_err(f->worker))},
                                          "the worker to begin"));
    wait_state(s, id, "loading");
    for (int64_t end = now_ms() + WAIT; !has_opened(f->worker, path) && is_alive(f->worker) && now_ms() < end;) nap(2);
    f->list = fmt("%s", field(s, id, "list"));
}

static bool is_taken(void *arg)
{
    struct feed *f = arg;
    int left = 0;
    return !is_alive(f->worker) || (ioctl(f->fd, FIONREAD, &left) == 0 && left == 0);
}

/* In pieces that the FIFO takes, so that nothing blocks here when the worker ends. */
void feed_write(struct feed *f, const char *text)
{
    enum { PIECE = 4096 };
    for (size_t left = strlen(text); left > 0;) {
        size_t n = left < PIECE ? left : PIECE;
        if (!is_alive(f->worker)) return;
        if (write(f->fd, text, n) != (ssize_t)n) cr_assert_fail("FIFO: %s", strerror(errno));
        text += n;
        left -= n;
        if (!wait_until(is_taken, f, WAIT)) cr_assert_fail("the worker does not read: %s", proc_err(f->worker));
    }
}

void feed_numbers(struct feed *f, long first, size_t n)
{
    char *text = fmt("%*s", (int)n * 11, ""), *end = text;
    for (size_t i = 0; i < n; i++) end += sprintf(end, "%010ld\n", first + (long)i);
    feed_write(f, text);
}

void feed_wait_length(struct feed *f, struct server *s, long items)
{
    const char *wanted = fmt("%ld", items), *now = "";
    for (int64_t end = now_ms() + WAIT; now_ms() < end; nap(2)) {
        now = ask(s, "LLEN %s", f->list);
        if (strcmp(now, wanted) == 0) return;
    }
    cr_assert_fail("%s holds %s items, not %s: %s", f->list, now, wanted, proc_err(f->worker));
}

struct run feed_end(struct feed *f)
{
    close(f->fd);
    return wait_exit(f->worker, WAIT);
}

/* ---- what was said to a server */

static void wait_out(struct proc *p, const char *needle)
{
    for (int64_t end = now_ms() + WAIT; now_ms() < end; nap(2))
        if (strstr(proc_out(p), needle)) return;
    cr_assert_fail("\"%s\" does not come; what came:\n%s", needle, proc_out(p));
}

struct proc *listen_to(const char *channel)
{
    struct proc *p = spawn("redis-cli -s %s --raw subscribe %s", getenv("NWM_TEST_SOCKET"), channel);
    wait_out(p, fmt("subscribe\n%s\n1\n", channel));
    return p;
}

void wait_message(struct proc *listener, const char *text) { wait_out(listener, fmt("\n%s\n", text)); }

static void wait_monitored(const char *mark)
{
    for (int64_t end = now_ms() + WAIT; now_ms() < end; nap(5))
        if (run("tail -c 300 monitor | grep -q %s", mark).exit == 0) return;
    cr_assert_fail("MONITOR shows no %s", mark);
}

struct proc *monitor_begin(struct server *s)
{
    struct proc *p = spawn("redis-cli -s %s monitor >monitor", s->socket);
    const char *mark = fmt("begun-%d", (int)getpid());
    for (int64_t end = now_ms() + WAIT; now_ms() < end; nap(5)) {
        char *seen = read_file("monitor", NULL);
        if (seen && strncmp(seen, "OK", 2) == 0) break;
    }
    server_redis(s, "PING %s", mark);
    wait_monitored(mark);
    return p;
}

void monitor_end(struct server *s, struct proc *monitor)
{
    const char *mark = fmt("ended-%d", (int)getpid());
    server_redis(s, "PING %s", mark);
    wait_monitored(mark);
    send_signal(monitor, SIGTERM);
    wait_exit(monitor, WAIT);
}
