#include "worker/command.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/mem.h"

enum { LOOK_MS = 10, GRACE_MS = 1000 };

struct command {
    pid_t pid; /* 0 once reaped */
    char *text;
};

char *command_text(char *const argv[])
{
    struct buf b = {0};
    for (size_t i = 0; argv[i]; i++) buf_printf(&b, "%s%s", i > 0 ? " " : "", argv[i]);
    char *text = mem_strdup(buf_text(&b));
    buf_free(&b);
    return text;
}

/* In the child. What went wrong is told through `report`, which a successful exec closes. */
static _Noreturn void become(char *const argv[], int output, int report, pid_t parent)
{
    setsid(); /* also without our terminal: who asks there from the background would be stopped for ever */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_DFL);
    if (getppid() == parent && dup2(output, STDOUT_FILENO) >= 0) execvp(argv[0], argv);
    int why = errno;
    ssize_t n = write(report, &why, sizeof why);
    _exit(n == sizeof why ? 127 : 126);
}

/* 0, or the errno that kept the child from becoming the command. */
static int await_exec(int report)
{
    int why = 0;
    ssize_t n;
    do n = read(report, &why, sizeof why);
    while (n < 0 && errno == EINTR);
    return n == sizeof why ? why : 0;
}

static struct fault *cannot_run(struct command *c, int why)
{
    struct fault *f = fault_new(FAULT_NO_INPUT, "cannot run command '%s': %s", c->text, strerror(why));
    command_free(c);
    return f;
}

struct fault *command_start(char *const argv[], struct command **out, int *fd)
{
    struct command *c = mem_zalloc(sizeof *c);
    c->text = command_text(argv);
    int output[2], report[2];
    if (pipe2(output, O_CLOEXEC) != 0) return cannot_run(c, errno);
    if (pipe2(report, O_CLOEXEC) != 0) {
        int why = errno;
        close(output[0]);
        close(output[1]);
        return cannot_run(c, why);
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) become(argv, output[1], report[1], parent);
    int why = pid < 0 ? errno : 0;
    if (pid > 0) c->pid = pid;
    close(output[1]);
    close(report[1]);
    if (why == 0) why = await_exec(report[0]);
    close(report[0]);
    if (why != 0) {
        close(output[0]);
        return cannot_run(c, why);
    }
    *out = c;
    *fd = output[0];
    return NULL;
}

static bool reap(struct command *c, int *status)
{
    pid_t pid = waitpid(c->pid, status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno == EINTR)) return false;
    if (pid < 0) *status = 0;
    c->pid = 0;
    return true;
}

static void nap(void)
{
    struct pollfd nothing = {.fd = -1};
    poll(&nothing, 1, LOOK_MS);
}

struct fault *command_finish(struct command *c, const struct pulse *p, uint64_t items)
{
    int status = 0;
    while (c->pid > 0 && !reap(c, &status)) {
        struct fault *f = pulse_beat(p);
        if (f) return f;
        nap();
    }
    if (WIFSIGNALED(status))
        return fault_new(FAULT_NO_INPUT, "command '%s' was ended by signal %d (%s) after %" PRIu64 " items", c->text,
                         WTERMSIG(status), strsignal(WTERMSIG(status)), items);
    if (WEXITSTATUS(status) != 0)
        return fault_new(FAULT_NO_INPUT, "command '%s' exited with %d after %" PRIu64 " items", c->text,
                         WEXITSTATUS(status), items);
    return NULL;
}

/* The whole group: a shell's pipeline has more processes than the one we know. */
static void end(struct command *c)
{
    int status;
    kill(-c->pid, SIGTERM);
    kill(-c->pid, SIGCONT);
    for (int waited = 0; waited < GRACE_MS; waited += LOOK_MS) {
        if (reap(c, &status)) return;
        nap();
    }
    kill(-c->pid, SIGKILL);
    while (c->pid > 0 && !reap(c, &status)) nap();
}

void command_free(struct command *c)
{
    if (!c) return;
    if (c->pid > 0) end(c);
    free(c->text);
    free(c);
}
