/* Signals as something to wait for. What they do to a process is tried on children. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shared/stop.h"

enum { DEADLINE_MS = 10000, DONE = 42 };

/* Runs act in a child; returns its wait status. The child ends itself with DONE if act returns. */
static int in_child(void (*act)(void))
{
    pid_t child = fork();
    if (child == 0) {
        alarm(DEADLINE_MS / 1000);
        act();
        _exit(DONE);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status;
}

static void assert_died_of(int status, int number)
{
    cr_assert(WIFSIGNALED(status), "status %x", (unsigned)status);
    cr_assert_eq(WTERMSIG(status), number, "signal %d", WTERMSIG(status));
}

static void assert_done(int status)
{
    cr_assert(WIFEXITED(status), "signal %d", WTERMSIG(status));
    cr_assert_eq(WEXITSTATUS(status), DONE, "line %d", WEXITSTATUS(status));
}

/* For use in children, where Criterion cannot be told. */
#define child_assert(what)                                                                                             \
    do {                                                                                                               \
        if (!(what)) _exit(__LINE__ % 200 + 50);                                                                       \
    } while (0)

static int readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void remember_each(void)
{
    static const int all[] = {SIGINT, SIGTERM, SIGHUP};
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            stop_install();
            child_assert(stop_signal() == 0);
            child_assert(!readable(stop_fd()));
            raise(all[i]);
            child_assert(stop_signal() == all[i]);
            child_assert(readable(stop_fd()));
            child_assert(readable(stop_fd()));
            _exit(DONE);
        }
        int status;
        wait(&status);
        child_assert(WIFEXITED(status) && WEXITSTATUS(status) == DONE);
    }
}

Test(stop, the_first_signal_is_remembered_and_wakes) { assert_done(in_child(remember_each)); }

static void second_of_another_kind(void)
{
    stop_install();
    raise(SIGINT);
    child_assert(stop_signal() == SIGINT);
    raise(SIGTERM);
}

static void second_of_the_same_kind(void)
{
    stop_install();
    raise(SIGINT);
    child_assert(stop_signal() == SIGINT);
    raise(SIGINT);
}

Test(stop, the_second_signal_kills)
{
    assert_died_of(in_child(second_of_the_same_kind), SIGINT);
    assert_died_of(in_child(second_of_another_kind), SIGTERM);
}

static void raise_it(void)
{
    stop_install();
    raise(SIGTERM);
    stop_raise(stop_signal());
}

static void raise_it_blocked(void)
{
    sigset_t all;
    sigfillset(&all);
    stop_install();
    sigprocmask(SIG_BLOCK, &all, NULL);
    stop_raise(SIGHUP);
}

static void raise_pipe(void)
{
    stop_install();
    stop_raise(SIGPIPE);
}

Test(stop, raising_dies_of_that_signal)
{
    assert_died_of(in_child(raise_it), SIGTERM);
    assert_died_of(in_child(raise_it_blocked), SIGHUP);
    assert_died_of(in_child(raise_pipe), SIGPIPE);
}

/* Blocked in a read, as /proc sees it. */
static int sleeps(pid_t child)
{
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)child);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end && strncmp(name_end, ") S", 3) == 0;
}

Test(stop, a_blocking_call_comes_back)
{
    int silent[2], told[2];
    cr_assert_eq(pipe(silent), 0);
    cr_assert_eq(pipe(told), 0);
    pid_t child = fork();
    if (child == 0) {
        char c;
        alarm(DEADLINE_MS / 1000);
        stop_install();
        child_assert(write(told[1], "", 1) == 1);
        child_assert(read(silent[0], &c, 1) == -1 && errno == EINTR);
        child_assert(stop_signal() == SIGTERM);
        _exit(DONE);
    }
    char c;
    cr_assert_eq(read(told[0], &c, 1), 1);
    for (int ms = 0; !sleeps(child) && ms < DEADLINE_MS; ms++) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    kill(child, SIGTERM);
    int status;
    waitpid(child, &status, 0);
    assert_done(status);
}

static void write_to_closed_pipe(void)
{
    int fds[2];
    stop_install();
    child_assert(pipe(fds) == 0);
    close(fds[0]);
    child_assert(write(fds[1], "x", 1) == -1 && errno == EPIPE);
}

Test(stop, a_closed_pipe_is_an_error_of_write) { assert_done(in_child(write_to_closed_pipe)); }

static void nohup(void)
{
    signal(SIGHUP, SIG_IGN);
    stop_install();
    raise(SIGHUP);
    child_assert(stop_signal() == 0);
    raise(SIGTERM);
    child_assert(stop_signal() == SIGTERM);
    raise(SIGHUP);
}

Test(stop, what_was_ignored_stays_ignored) { assert_done(in_child(nohup)); }

static void closed_on_exec(void)
{
    stop_install();
    child_assert(fcntl(stop_fd(), F_GETFD) & FD_CLOEXEC);
    child_assert(fcntl(stop_fd(), F_GETFL) & O_NONBLOCK);
}

Test(stop, commands_do_not_inherit_the_pipe) { assert_done(in_child(closed_on_exec)); }

static void forget(void)
{
    int fds[2];
    stop_install();
    stop_forget();
    child_assert(pipe(fds) == 0);
    close(fds[0]);
    child_assert(write(fds[1], "x", 1) == 1);
}

static void forget_and_terminate(void)
{
    stop_install();
    stop_forget();
    raise(SIGTERM);
}

Test(stop, a_command_gets_the_signals_back)
{
    assert_died_of(in_child(forget), SIGPIPE);
    assert_died_of(in_child(forget_and_terminate), SIGTERM);
}

/* ---- the deadline */

static void wait_for_stop(void)
{
    struct pollfd p = {.fd = stop_fd(), .events = POLLIN};
    while (poll(&p, 1, DEADLINE_MS) < 0 && errno == EINTR) continue;
}

static void deadline(void)
{
    stop_install();
    stop_at_deadline(20);
    wait_for_stop();
    child_assert(stop_signal() == SIGALRM);
    raise(SIGTERM); /* comes too late to be the reason, and kills nobody yet */
    child_assert(stop_signal() == SIGALRM);
    struct fault *f = fault_frame(fault_new(FAULT_INTERRUPTED, "interrupted after 7 items"), "merge");
    f = stop_explain(f);
    child_assert(fault_is(f, FAULT_TIMEOUT) && fault_exit(f) == EXIT_TIMEOUT);
    child_assert(strcmp(fault_message(f), "the deadline of 0.02 s (--deadline) passed after 7 items") == 0);
    char *frames = fault_traceback(f);
    child_assert(strcmp(frames, "merge") == 0);
    struct fault *other = fault_new(FAULT_DENIED, "no");
    child_assert(stop_explain(other) == other && fault_is(other, FAULT_DENIED));
    child_assert(stop_explain(NULL) == NULL);
}

Test(stop, the_deadline_is_a_signal_and_its_fault_a_timeout) { assert_done(in_child(deadline)); }

static void no_deadline(void)
{
    stop_install();
    stop_at_deadline(0);
    raise(SIGTERM);
    struct fault *f = stop_explain(fault_new(FAULT_INTERRUPTED, "interrupted"));
    child_assert(stop_signal() == SIGTERM && fault_is(f, FAULT_INTERRUPTED));
}

Test(stop, a_signal_is_no_deadline) { assert_done(in_child(no_deadline)); }

static void deadline_forgotten(void)
{
    stop_install();
    stop_at_deadline(1000000);
    stop_forget();
    raise(SIGALRM);
}

Test(stop, a_command_gets_its_alarm_back) { assert_died_of(in_child(deadline_forgotten), SIGALRM); }
