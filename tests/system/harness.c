#include "tests/system/harness.h"

#include <criterion/hooks.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/system/harness_server.h"

extern char **environ;

struct proc {
    pid_t pid;
    char *command, *out, *err; /* names of the files it writes to */
    int64_t began;
    bool ended;
    int status; /* of waitpid, once ended */
};

/* ---- memory: everything hangs on this list until the process ends, so that a test need not free, and a leak checker
 * has nothing to say. */

struct kept {
    struct kept *next;
    max_align_t data[];
};
static struct kept *all_kept;

void *harness_keep(size_t size)
{
    struct kept *k = malloc(sizeof *k + size);
    if (!k) abort();
    k->next = all_kept;
    all_kept = k;
    return k->data;
}

HARNESS_PRINTF(1, 0) static char *keep_vprintf(const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    char *text = harness_keep((size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}

char *fmt(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = keep_vprintf(format, args);
    va_end(args);
    return text;
}

/* ---- time */

int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void nap(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

bool wait_until(bool (*cond)(void *), void *arg, int64_t ms)
{
    int64_t deadline = now_ms() + ms;
    for (int64_t pause = 1; !cond(arg); pause = pause < 20 ? pause * 2 : pause) {
        if (now_ms() > deadline) return false;
        nap(pause);
    }
    return true;
}

/* ---- where the test is */

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    if (!value) cr_assert_fail("%s is not set: the harness's PRE_ALL did not run", name);
    return value;
}

const char *test_build(void) { return setting("NWM_TEST_BUILD"); }

/* The test's name and its process: parameterised tests share a name. What JOB does not allow becomes "_". */
const char *test_job(void)
{
    static char job[65];
    if (*job) return job;
    const struct criterion_test *t = criterion_current_test;
    snprintf(job, sizeof job, "%.24s.%.28s.%d", t->category, t->name, (int)getpid());
    for (char *p = job; *p; p++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", *p)) *p = '_';
    return job;
}

const char *test_dir(void)
{
    static char *dir;
    if (dir) return dir;
    dir = fmt("%s/%s", setting("NWM_TEST_DIR"), test_job());
    if (mkdir(dir, 0700) != 0) cr_assert_fail("mkdir %s: %s", dir, strerror(errno));
    return dir;
}

/* ---- files */

static char *in_test_dir(const char *name) { return *name == '/' ? fmt("%s", name) : fmt("%s/%s", test_dir(), name); }

void write_bytes(const char *name, const void *data, size_t len)
{
    FILE *f = fopen(in_test_dir(name), "wb");
    bool done = f && fwrite(data, 1, len, f) == len;
    if (!f || fclose(f) != 0 || !done) cr_assert_fail("write %s: %s", name, strerror(errno));
}

void write_file(const char *name, const char *content) { write_bytes(name, content, strlen(content)); }

char *read_file(const char *name, size_t *len)
{
    FILE *f = fopen(in_test_dir(name), "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        if (f) fclose(f);
        return NULL;
    }
    char *data = harness_keep((size_t)st.st_size + 1);
    size_t got = fread(data, 1, (size_t)st.st_size, f);
    fclose(f);
    data[got] = '\0';
    if (len) *len = got;
    return data;
}

bool file_exists(const char *name) { return access(in_test_dir(name), F_OK) == 0; }

/* ---- commands */

/* What the user's environment says to nwmerge, or about languages, must not reach a test. */
static void clean_environment(void)
{
    for (char **e = environ; *e;) {
        char *name = strndup(*e, strcspn(*e, "="));
        bool is_ours = !strncmp(name, "NWM_", 4) || !strncmp(name, "LC_", 3) || !strcmp(name, "LANGUAGE") ||
                       !strcmp(name, "REDISCLI_AUTH") || !strcmp(name, "XDG_CONFIG_HOME");
        if (is_ours)
            unsetenv(name);
        else
            e++;
        free(name);
    }
    setenv("LANG", "C", 1);
}

static bool is_in_path(const char *name, size_t len, const char *path)
{
    for (size_t n = strcspn(path, ":");; path += n + 1, n = strcspn(path, ":")) {
        if (access(fmt("%.*s/%.*s", (int)n, path, (int)len, name), X_OK) == 0) return true;
        if (path[n] == '\0') return false;
    }
}

/* A command line that is one simple command replaces its shell, so that the process we know is the command itself: signals
 * reach it, and it dies with the test. Not every sh does that by itself (dash does not). */
static const char *without_shell(const char *command, const char *path)
{
    for (const char *c = command; *c; c++)
        if (strchr(";|\n`({", *c) || (*c == '&' && (c == command || c[-1] != '>'))) return command;
    size_t len = strcspn(command, " ");
    if (memchr(command, '=', len)) return fmt("exec env %s", command);
    return is_in_path(command, len, path) ? fmt("exec %s", command) : command;
}

static void become_shell(const struct proc *p, const char *build, const char *url, const char *path)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    clean_environment();
    setenv("PATH", path, 1);
    setenv("NWM_URL", url, 1);
    setenv("NWM_JOB", test_job(), 1);
    setenv("NWM_BUILD", build, 1); /* for scripts of ours */
    setenv("HOME", test_dir(), 1);
    if (access("/etc/nwmerge.conf", R_OK) == 0) setenv("NWM_CONFIG", fmt("%s/empty.conf", setting("NWM_TEST_DIR")), 1);
    int in = open("/dev/null", O_RDONLY);
    int out = open(p->out, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    int err = open(p->err, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    if (chdir(test_dir()) != 0 || in < 0 || out < 0 || err < 0) _exit(126);
    dup2(in, 0);
    dup2(out, 1);
    dup2(err, 2);
    for (int fd = 3; fd < 256; fd++) close(fd);
    signal(SIGPIPE, SIG_DFL);
    execl("/bin/sh", "sh", "-c", without_shell(p->command, path), (char *)NULL);
    _exit(127);
}

static struct proc *start(char *command)
{
    static unsigned number;
    struct proc *p = harness_keep(sizeof *p);
    number++;
    *p = (struct proc){
        .command = command,
        .out = fmt("%s/.%u.out", test_dir(), number),
        .err = fmt("%s/.%u.err", test_dir(), number),
        .began = now_ms(),
    };
    const char *build = test_build(), *url = fmt("unix://%s", setting("NWM_TEST_SOCKET"));
    const char *path = fmt("%s:%s/tests/system:%s", build, build, setting("PATH"));
    fflush(NULL);
    p->pid = fork();
    if (p->pid < 0) cr_assert_fail("fork: %s", strerror(errno));
    if (p->pid == 0) become_shell(p, build, url, path);
    setpgid(p->pid, p->pid); /* here too: whichever comes first */
    return p;
}

static bool has_ended(void *arg)
{
    struct proc *p = arg;
    if (!p->ended && waitpid(p->pid, &p->status, WNOHANG) != 0) p->ended = true;
    return p->ended;
}

bool is_alive(struct proc *p) { return !has_ended(p); }

void send_signal(struct proc *p, int signal)
{
    if (!p->ended) kill(-p->pid, signal);
}

pid_t proc_pid(const struct proc *p) { return p->pid; }

static char *written(const char *name, size_t *len)
{
    char *data = read_file(name, len);
    if (data) return data;
    *len = 0;
    return fmt("%s", "");
}

const char *proc_out(const struct proc *p) { return written(p->out, &(size_t){0}); }
const char *proc_err(const struct proc *p) { return written(p->err, &(size_t){0}); }

struct run wait_exit(struct proc *p, int64_t ms)
{
    struct run r = {.command = p->command, .exit = -1};
    bool in_time = wait_until(has_ended, p, ms);
    if (!in_time) {
        kill(-p->pid, SIGKILL);
        kill(-p->pid, SIGCONT);
        waitpid(p->pid, &p->status, 0);
        p->ended = true;
    } else {
        r.exit = WIFSIGNALED(p->status) ? 128 + WTERMSIG(p->status) : WEXITSTATUS(p->status);
    }
    r.took = now_ms() - p->began;
    r.out = written(p->out, &r.out_len);
    r.err = written(p->err, &r.err_len);
    return r;
}

struct proc *spawn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct proc *p = start(keep_vprintf(format, args));
    va_end(args);
    return p;
}

struct run run(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct proc *p = start(keep_vprintf(format, args));
    va_end(args);
    return wait_exit(p, RUN_DEADLINE);
}

struct run run_within(int64_t ms, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct proc *p = start(keep_vprintf(format, args));
    va_end(args);
    return wait_exit(p, ms);
}

struct err_wait {
    struct proc *proc;
    const char *needle;
    bool found;
};

static bool err_has(void *arg)
{
    struct err_wait *w = arg;
    bool ended = has_ended(w->proc); /* looked at first: what it wrote last is then in the file */
    w->found = strstr(proc_err(w->proc), w->needle) != NULL;
    return w->found || ended;
}

void wait_err(struct proc *p, const char *needle, int64_t ms)
{
    struct err_wait w = {.proc = p, .needle = needle};
    wait_until(err_has, &w, ms);
    if (w.found) return;
    bool ended = p->ended;
    struct run r = wait_exit(p, 0);
    cr_assert_fail("%s",
                   run_describe(&r, fmt("standard error to hold \"%s\"%s", needle, ended ? " before it ended" : "")));
}

/* ---- telling what went wrong */

enum { SHOWN = 4000 }; /* bytes of output that people read */

static char *shown(const char *title, const char *data, size_t len)
{
    size_t n = len < SHOWN ? len : SHOWN;
    char *copy = harness_keep(n + 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)data[i];
        copy[i] = c == '\n' || c == '\t' || (c >= ' ' && c != 127) ? data[i] : '?';
    }
    copy[n] = '\0';
    return fmt("---- %s, %zu bytes%s\n%s%s", title, len, n < len ? ", the first of them" : "", copy,
               n && copy[n - 1] != '\n' ? "\n" : "");
}

char *run_describe(const struct run *r, const char *expected)
{
    const char *end = r->exit < 0 ? "its deadline" : fmt("exit %d", r->exit);
    return fmt("expected %s\n$ %s\n---- ended with %s after %lld ms\n%s%s", expected, r->command, end,
               (long long)r->took, shown("standard output", r->out, r->out_len),
               shown("standard error", r->err, r->err_len));
}

/* ---- before the first test and after the last */

static struct server main_server;

/* The programs are looked for where this one was built: BUILD/tests/system/test_x. */
static void find_build(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    setenv("NWM_TEST_BUILD", dirname(dirname(dirname(path))), 1);
}

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    const char *tmp = getenv("TMPDIR");
    char dir[256];
    snprintf(dir, sizeof dir, "%s/nwm-test-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        exit(2);
    }
    find_build();
    setenv("NWM_TEST_DIR", dir, 1);
    int empty = open(fmt("%s/empty.conf", dir), O_WRONLY | O_CREAT, 0600);
    close(empty);
    const char *problem = harness_server_start(&main_server, fmt("%s/server", dir), false, "");
    if (problem) {
        fprintf(stderr, "harness: no redis-server for the tests: %s\n", problem);
        exit(2);
    }
    setenv("NWM_TEST_SOCKET", main_server.socket, 1);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st, (void)type, (void)walk;
    return remove(path) != 0 && errno != ENOENT;
}

static int open_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st, (void)walk;
    if (type == FTW_D || type == FTW_DNR) chmod(path, 0700);
    return 0;
}

/* Everything a test starts begins in the test's directory, so that is how it is found: by where it stands. (Becoming the
 * reaper of orphans would be the other way; Criterion 2.4.1 hangs when it gets children it did not make.) */
static bool is_ours(pid_t pid)
{
    char cwd[PATH_MAX];
    const char *dir = setting("NWM_TEST_DIR");
    ssize_t n = readlink(fmt("/proc/%d/cwd", (int)pid), cwd, sizeof cwd - 1);
    return n > (ssize_t)strlen(dir) && !strncmp(cwd, dir, strlen(dir)) && cwd[strlen(dir)] == '/';
}

static void end_leftover(pid_t pid)
{
    char name[64] = "";
    FILE *f = fopen(fmt("/proc/%d/comm", (int)pid), "r");
    if (f && !fgets(name, sizeof name, f)) *name = '\0';
    if (f) fclose(f);
    fprintf(stderr, "harness: a test left process %d behind: %s", (int)pid, *name ? name : "?\n");
    kill(pid, SIGKILL);
}

/* How many processes of tests are alive; with end_them, names and kills them. */
static int count_living(bool end_them)
{
    int living = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc));) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        if (pid <= 0 || !is_ours(pid)) continue;
        living++;
        if (end_them) end_leftover(pid);
    }
    if (proc) closedir(proc);
    return living;
}

static bool none_lives(void *arg)
{
    (void)arg;
    return count_living(false) == 0;
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    harness_server_end(&main_server);
    /* What died with its test may still be on the way out. */
    if (!wait_until(none_lives, NULL, 3000) && count_living(true) > 0) stats->tests_failed++;
    const char *dir = setting("NWM_TEST_DIR");
    if (nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0) {
        nftw(dir, open_entry, 16, FTW_PHYS);
        nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
}
