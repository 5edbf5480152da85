/*
 * harness.h - what system tests share: a private Redis, a directory and a job per test, commands run as in a shell.
 *
 *     Test(merge, two_files)
 *     {
 *         write_file("a", "1\n3\n");
 *         write_file("b", "2\n4\n");
 *         expect_exit(run("nwm-worker -n -i 1 a"), 0);
 *         expect_exit(run("nwm-worker -n -i 2 b"), 0);
 *         struct run r = run("nwm-merger");
 *         expect_exit(r, 0);
 *         expect_out(r, "1\n2\n3\n4\n");
 *     }
 *
 * Linking this file starts one redis-server per test program (PRE_ALL), on a unix socket in a directory of its own, and
 * ends it after the last test (POST_ALL). If a process is then still alive that a test started, the program fails.
 * Criterion runs each test in a process of its own, several at once; so each gets a directory and a job name.
 *
 * Commands see: the build directory and its tests/system first in PATH, NWM_URL (the private server), NWM_JOB (the test's
 * job), LANG=C, HOME and the working directory = the test's directory, nothing else of nwmerge's environment.
 * All memory handed out belongs to the harness and lives as long as the test. All times are milliseconds.
 */
#ifndef NWM_TESTS_HARNESS_H
#define NWM_TESTS_HARNESS_H

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#define HARNESS_PRINTF(string, args) __attribute__((format(printf, string, args)))

/* ---- where the test is */

const char *test_job(void);   /* unique in this Redis */
const char *test_dir(void);   /* absolute; relative file names below mean files in it */
const char *test_build(void); /* absolute: where nwm-worker and nwm-merger are */
/* sprintf into memory of the harness. */
char *fmt(const char *format, ...) HARNESS_PRINTF(1, 2);

/* ---- commands */

/* What became of a command. out and err have a NUL behind their bytes, which may hold NULs themselves. */
struct run {
    const char *command;
    int exit; /* 128+n when signal n ended it; -1 when the deadline did */
    char *out, *err;
    size_t out_len, err_len;
    int64_t took; /* ms */
};

/* Runs a command line by /bin/sh with standard input from /dev/null; all that is left of its process group after
 * RUN_DEADLINE is killed. Environment for one command: run("NWM_ID=7 nwm-worker file"). */
struct run run(const char *format, ...) HARNESS_PRINTF(1, 2);
enum { RUN_DEADLINE = 60000 };
/* The same with a deadline of its own. */
struct run run_within(int64_t ms, const char *format, ...) HARNESS_PRINTF(2, 3);

/* A command in the background, in a process group of its own; it dies with the test. */
struct proc;
struct proc *spawn(const char *format, ...) HARNESS_PRINTF(1, 2);
/* Waits for its end; kills it, with exit -1, when that takes longer. */
struct run wait_exit(struct proc *p, int64_t ms);
bool is_alive(struct proc *p);
/* To all of its process group. */
void send_signal(struct proc *p, int signal);
/* Of a command line that is one simple command: the command itself. */
pid_t proc_pid(const struct proc *p);
/* What it has written so far. */
const char *proc_out(const struct proc *p);
const char *proc_err(const struct proc *p);
/* Waits until its standard error holds the text; fails the test when it does not within ms, or ends without. */
void wait_err(struct proc *p, const char *needle, int64_t ms);

/* ---- waiting */

/* Calls cond(arg) until it is true; false when ms have passed. */
bool wait_until(bool (*cond)(void *), void *arg, int64_t ms);
int64_t now_ms(void); /* a clock that never jumps */
void nap(int64_t ms); /* only inside loops that wait for something */

/* ---- files in the test's directory */

void write_file(const char *name, const char *content);
void write_bytes(const char *name, const void *data, size_t len);
/* NULL when there is none; *len may be NULL. */
char *read_file(const char *name, size_t *len);
bool file_exists(const char *name);

/* ---- what must hold; these fail the test and show command, output and errors */

#define expect_exit(r, code)                                                                                           \
    do {                                                                                                               \
        struct run expect_r_ = (r);                                                                                    \
        if (expect_r_.exit != (code)) cr_assert_fail("%s", run_describe(&expect_r_, fmt("exit %d", (code))));          \
    } while (0)
#define expect_out(r, content) expect_bytes_((r), out, (content))
#define expect_err(r, content) expect_bytes_((r), err, (content))
#define expect_out_has(r, needle) expect_has_((r), out, (needle))
#define expect_err_has(r, needle) expect_has_((r), err, (needle))

/* For the macros. */
char *run_describe(const struct run *r, const char *expected);
#define expect_bytes_(r, field, content)                                                                               \
    do {                                                                                                               \
        struct run expect_r_ = (r);                                                                                    \
        const char *expect_c_ = (content);                                                                             \
        if (expect_r_.field##_len != strlen(expect_c_) || memcmp(expect_r_.field, expect_c_, strlen(expect_c_)) != 0)  \
            cr_assert_fail("%s", run_describe(&expect_r_, fmt(#field " to be\n%s", expect_c_)));                       \
    } while (0)
#define expect_has_(r, field, needle)                                                                                  \
    do {                                                                                                               \
        struct run expect_r_ = (r);                                                                                    \
        const char *expect_n_ = (needle);                                                                              \
        if (!memmem(expect_r_.field, expect_r_.field##_len, expect_n_, strlen(expect_n_)))                             \
            cr_assert_fail("%s", run_describe(&expect_r_, fmt(#field " to hold \"%s\"", expect_n_)));                  \
    } while (0)

/* ---- Redis */

/* One command to the private server, words as in hiredis (%s %d %b); the reply as text: integers as digits, nil as
 * "(nil)", an error as "(error) …", the elements of an array one a line. */
const char *redis(const char *format, ...);
/* Of the test's job. */
const char *manifest_key(const char *id);
const char *manifest(const char *id, const char *field);
/* Cond for wait_until: the text is "ID STATE". */
bool has_state(void *id_state);

/* A server of the test's own (a replica, one with rules or without memory, one that dies). Ends with the test at latest. */
struct server {
    pid_t pid;
    int port;      /* 0 unless asked for */
    char dir[512]; /* redis.log, and the files of persistence */
    char socket[600];
    char url[640];
    void *link; /* of server_redis() */
};

/* Starts one with config/redis.conf and these further lines of configuration (""), and waits until it answers.
 * The test fails when it does not. */
void server_start(struct server *s, const char *format, ...) HARNESS_PRINTF(2, 3);
/* The same, also on 127.0.0.1 and a free port, for what needs TCP (replicas, -h -p). */
void server_start_tcp(struct server *s, const char *format, ...) HARNESS_PRINTF(2, 3);
/* Starts it again, with the same files, after server_stop or server_kill9. */
void server_restart(struct server *s);
void server_stop(struct server *s);
void server_kill9(struct server *s);
void server_pause(struct server *s);  /* SIGSTOP */
void server_resume(struct server *s); /* SIGCONT */
const char *server_redis(struct server *s, const char *format, ...);
/* A TCP port that was free a moment ago. */
int free_port(void);

/* Does a resident set say what the program uses? Not with a sanitizer: its shadow and its quarantine are in it. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NWM_SHADOW_MEMORY 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(NWM_SHADOW_MEMORY)
enum { MEMORY_TELLS = 0 };
#else
enum { MEMORY_TELLS = 1 };
#endif

#endif
