#include "shared/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
enum { CAUGHT = sizeof caught / sizeof *caught };

static struct sigaction before[CAUGHT], pipe_before, size_before;
static atomic_int came; /* a lock-free atomic: the handler may run on any thread */
static int pipe_fds[2] = {-1, -1};
static struct sigaction alarm_before;
static int64_t deadline_ms; /* 0: none */

/* What came first stays. */
static void remember(int number)
{
    int saved = errno, none = 0;
    atomic_compare_exchange_strong(&came, &none, number);
    ssize_t ignored = write(pipe_fds[1], "", 1);
    (void)ignored;
    errno = saved;
}

/* After the first the default action is back for all of them. */
static void on_signal(int number)
{
    for (int i = 0; i < CAUGHT; i++)
        if (before[i].sa_handler != SIG_IGN) signal(caught[i], SIG_DFL);
    remember(number);
}

/* What was ignored at the start stays so: nohup, and the background jobs of a shell without job control. */
static void catch_signal(int i, const struct sigaction *action)
{
    sigaction(caught[i], NULL, &before[i]);
    if (before[i].sa_handler != SIG_IGN) sigaction(caught[i], action, NULL);
}

void stop_install(void)
{
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        fprintf(stderr, "%s: cannot make a pipe for signals: %s\n", program_invocation_short_name, strerror(errno));
        exit(2);
    }
    /* No SA_RESTART: what waits in a system call comes back and sees the signal. */
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < CAUGHT; i++) sigaddset(&action.sa_mask, caught[i]);
    for (int i = 0; i < CAUGHT; i++) catch_signal(i, &action);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, &pipe_before);
    sigaction(SIGXFSZ, &ignore, &size_before);
}

/* One process, one timer: it does not pass on to commands, and the clock behind it never jumps. */
void stop_at_deadline(int64_t ms)
{
    if (ms == 0) return;
    struct sigaction action = {.sa_handler = remember};
    sigemptyset(&action.sa_mask);
    sigaction(SIGALRM, &action, &alarm_before);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &only, NULL);
    const struct itimerval timer = {.it_value = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000}};
    deadline_ms = ms;
    setitimer(ITIMER_REAL, &timer, NULL);
}

struct fault *stop_explain(struct fault *f)
{
    static const char said[] = "interrupted ";
    if (!f || !fault_is(f, FAULT_INTERRUPTED) || stop_signal() != SIGALRM) return f;
    const char *message = fault_message(f);
    bool goes_on = strncmp(message, said, strlen(said)) == 0;
    return fault_become(f, FAULT_TIMEOUT, "the deadline of %g s (--deadline) passed%s%s", (double)deadline_ms / 1000,
                        goes_on ? " " : ": ", goes_on ? message + strlen(said) : message);
}

void stop_forget(void)
{
    if (deadline_ms > 0) sigaction(SIGALRM, &alarm_before, NULL);
    for (int i = 0; i < CAUGHT; i++) sigaction(caught[i], &before[i], NULL);
    sigaction(SIGPIPE, &pipe_before, NULL);
    sigaction(SIGXFSZ, &size_before, NULL);
}

int stop_signal(void) { return atomic_load(&came); }

int stop_fd(void) { return pipe_fds[0]; }

_Noreturn void stop_raise(int number)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t only;
    sigaction(number, &action, NULL);
    sigemptyset(&only);
    sigaddset(&only, number);
    pthread_sigmask(SIG_UNBLOCK, &only, NULL);
    raise(number);
    _exit(128 + number); /* process 1 of a container survives its own signals */
}
