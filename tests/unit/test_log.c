/* What is said to people, and how a line at the bottom of a terminal gets out of the way. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "shared/log.h"

static char said[8192];

static void collect(int fd, pid_t child)
{
    size_t len = 0;
    ssize_t n;
    while (len + 1 < sizeof said && (n = read(fd, said + len, sizeof said - 1 - len)) > 0) len += (size_t)n;
    said[len] = '\0';
    close(fd);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* What act says where standard error is a pipe. */
static const char *through_pipe(void (*act)(void))
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], STDERR_FILENO);
        act();
        _exit(0);
    }
    close(fds[1]);
    collect(fds[0], child);
    return said;
}

/* What act says to a terminal that wide: a pseudo-terminal that leaves newlines alone. */
static const char *to_terminal(const char *term, unsigned short columns, void (*act)(void))
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) cr_skip_test("no pseudo-terminals here");
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    cr_assert_geq(slave, 0);
    struct termios mode;
    tcgetattr(slave, &mode);
    cfmakeraw(&mode);
    tcsetattr(slave, TCSANOW, &mode);
    ioctl(slave, TIOCSWINSZ, &(struct winsize){.ws_row = 24, .ws_col = columns});
    pid_t child = fork();
    if (child == 0) {
        setenv("TERM", term, 1);
        dup2(slave, STDERR_FILENO);
        act();
        _exit(0);
    }
    close(slave);
    collect(master, child);
    return said;
}

static void say_everything(void)
{
    log_detail("detail %d", 1);
    log_note("note %d", 2);
    log_progress("progress");
    struct fault *f = fault_new(FAULT_LOST, "gone");
    log_fault(f);
    fault_free(f);
}

static void plain(void) { log_init("nwm-worker", false, false), say_everything(); }
static void quiet(void) { log_init("nwm-worker", true, false), say_everything(); }
static void verbose(void) { log_init("nwm-worker", false, true), say_everything(); }

Test(log, three_loudnesses)
{
    cr_assert_str_eq(through_pipe(plain), "nwm-worker: note 2\nnwm-worker: progress\nnwm-worker: Lost: gone\n");
    cr_assert_str_eq(through_pipe(quiet), "nwm-worker: Lost: gone\n");
    cr_assert_str_eq(through_pipe(verbose),
                     "nwm-worker: detail 1\nnwm-worker: note 2\nnwm-worker: progress\nnwm-worker: Lost: gone\n");
}

static void quiet_progress(void) { log_init("nwm-worker", true, false), log_progress("x"), log_progress(NULL); }

Test(log, quiet_means_quiet_on_a_terminal_too) { cr_assert_str_eq(to_terminal("xterm", 80, quiet_progress), ""); }

static void before_init(void) { log_note("early"); }

Test(log, speaks_before_it_was_told_its_name) { cr_assert(strstr(through_pipe(before_init), ": early\n"), "%s", said); }

static void tricks(void)
{
    log_init("nwm-worker", false, true);
    log_note("a\033[2J\nnwm-merger: complete");
    log_detail("b\r");
}

Test(log, text_plays_no_tricks)
{
    cr_assert_str_eq(through_pipe(tricks), "nwm-worker: a\\x1b[2J\\x0anwm-merger: complete\nnwm-worker: b\\x0d\n");
}

static void progress(void)
{
    log_init("nwm-worker", false, false);
    log_progress("1 of 2");
    log_progress("2 of 2");
    log_note("done");
    log_note("really");
    log_progress("3");
    log_progress(NULL);
    log_progress(NULL);
}

Test(log, progress_on_a_terminal_is_one_line_that_gets_out_of_the_way)
{
    cr_assert_str_eq(to_terminal("xterm", 80, progress),
                     "\r1 of 2\033[K\r2 of 2\033[K\r\033[Knwm-worker: done\nnwm-worker: really\n\r3\033[K\r\033[K");
}

Test(log, progress_elsewhere_is_lines)
{
    static const char expected[] = "nwm-worker: 1 of 2\nnwm-worker: 2 of 2\nnwm-worker: done\nnwm-worker: really\n"
                                   "nwm-worker: 3\n";
    cr_assert_str_eq(through_pipe(progress), expected);
    cr_assert_str_eq(to_terminal("dumb", 80, progress), expected);
}

static void fault_over_progress(void)
{
    log_init("nwm-worker", false, false);
    log_progress("1 of 2");
    struct fault *f = fault_new(FAULT_LOST, "gone");
    log_fault(f);
    fault_free(f);
}

Test(log, a_fault_clears_the_line_first)
{
    cr_assert_str_eq(to_terminal("xterm", 80, fault_over_progress), "\r1 of 2\033[K\r\033[Knwm-worker: Lost: gone\n");
}

static void long_progress(void)
{
    log_init("nwm-worker", false, false);
    log_progress("123456789012345678901234567890");
    log_progress("\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f\xc3\xa4\xc3\xb6\xc3\xbc");
    log_progress("fits 9 ch");
}

Test(log, progress_is_cut_to_the_width_of_the_terminal)
{
    cr_assert_str_eq(to_terminal("xterm", 10, long_progress),
                     "\r123456789\033[K"
                     "\r\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f\xc3\xa4\033[K"
                     "\rfits 9 ch\033[K");
}

static void ask_terminal(void)
{
    log_init("nwm-worker", false, false);
    log_note("%s", log_is_terminal() ? "terminal" : "none");
}

Test(log, knows_a_terminal)
{
    cr_assert_str_eq(through_pipe(ask_terminal), "nwm-worker: none\n");
    cr_assert_str_eq(to_terminal("xterm", 80, ask_terminal), "nwm-worker: terminal\n");
    cr_assert_str_eq(to_terminal("dumb", 80, ask_terminal), "nwm-worker: none\n");
}
