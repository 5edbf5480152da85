#include "tests/unit/private_redis.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shared/conn.h"
#include "shared/endpoint.h"
#include "shared/fault.h"
#include "shared/mem.h"

enum { WORDS_MAX = 40, START_MS = 10000, LOOK_NS = 5000000 };

static char directory[64], path[96], url[112];
static pid_t guard;
static int life = -1; /* a pipe's end: the guard reads the other, and an end of file is the end of this process */
static redisContext *plain;
static redisReply *last;
static struct endpoint *endpoint;
static struct conn *conn;

/* Splits text in place. */
static size_t split(char *text, char *words[WORDS_MAX])
{
    size_t n = 0;
    for (char *save, *w = strtok_r(text, " ", &save); w && n < WORDS_MAX - 1; w = strtok_r(NULL, " ", &save))
        words[n++] = w;
    words[n] = NULL;
    return n;
}

static _Noreturn void become_server(const char *extra, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    char *text = mem_printf("redis-server --port 0 --unixsocket %s --dir %s --appendonly no --loglevel warning %s",
                            path, directory, extra ? extra : "");
    char *words[WORDS_MAX + 2];
    size_t n = split(text, words);
    words[n++] = mem_strdup("--save");
    words[n++] = mem_strdup("");
    words[n] = NULL;
    int nowhere = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) dup2(nowhere, fd);
    execvp(words[0], words);
    _exit(127);
}

/* Starts the server and outlives the test, so that one that fails or crashes leaves nothing behind either. */
static _Noreturn void become_guard(const char *extra, int until)
{
    pid_t self = getpid(), server = fork();
    if (server == 0) become_server(extra, self);
    char nothing;
    while (read(until, &nothing, 1) < 0) continue;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    unlink(path);
    rmdir(directory);
    _exit(0);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool answers(void)
{
    plain = redisConnectUnix(path);
    if (plain && !plain->err) return true;
    if (plain) redisFree(plain);
    plain = NULL;
    return false;
}

void private_redis_start(const char *extra)
{
    strcpy(directory, "/tmp/nwm-unit-XXXXXX");
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/redis.sock", directory);
    snprintf(url, sizeof url, "unix://%s", path);
    int fds[2];
    cr_assert(pipe2(fds, O_CLOEXEC) == 0);
    guard = fork();
    if (guard == 0) {
        close(fds[1]);
        become_guard(extra, fds[0]);
    }
    close(fds[0]);
    life = fds[1];
    int64_t deadline = now_ms() + START_MS;
    while (!answers()) {
        cr_assert(now_ms() < deadline, "redis-server does not start");
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
}

void private_redis_end(void)
{
    if (conn) conn_close(conn);
    endpoint_free(endpoint);
    if (last) freeReplyObject(last);
    if (plain) redisFree(plain);
    conn = NULL;
    endpoint = NULL;
    last = NULL;
    plain = NULL;
    close(life);
    waitpid(guard, NULL, 0);
}

void private_redis_stop(void)
{
    const char *pid = strstr(redis_text("INFO server"), "process_id:");
    cr_assert(pid != NULL);
    kill((pid_t)atoi(strchr(pid, ':') + 1), SIGSTOP);
}

const char *private_redis_url(void) { return url; }

struct endpoint *private_redis_endpoint(void)
{
    if (!endpoint) {
        endpoint = endpoint_new();
        struct fault *f = endpoint_set_url(endpoint, url);
        cr_assert(f == NULL);
    }
    return endpoint;
}

struct conn *private_redis_conn(void)
{
    if (!conn) {
        struct fault *f = conn_open(private_redis_endpoint(), "unit-test", START_MS, &conn);
        cr_assert(f == NULL, "%s", f ? fault_message(f) : "");
    }
    return conn;
}

__attribute__((format(printf, 1, 0))) static const redisReply *ask(const char *format, va_list args)
{
    char *text = mem_vprintf(format, args);
    char *words[WORDS_MAX];
    size_t n = split(text, words);
    if (last) freeReplyObject(last);
    last = redisCommandArgv(plain, (int)n, (const char **)words, NULL);
    free(text);
    cr_assert(last != NULL, "redis-server went away");
    return last;
}

const redisReply *redis_do(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const redisReply *reply = ask(format, args);
    va_end(args);
    return reply;
}

static void add_text(struct buf *b, const redisReply *r)
{
    switch (r->type) {
    case REDIS_REPLY_INTEGER: buf_printf(b, "%lld", r->integer); break;
    case REDIS_REPLY_NIL: buf_printf(b, "(nil)"); break;
    case REDIS_REPLY_ARRAY:
        for (size_t i = 0; i < r->elements; i++) {
            if (i > 0) buf_printf(b, " ");
            add_text(b, r->element[i]);
        }
        break;
    default: buf_append(b, r->str, r->len);
    }
}

const char *redis_text(const char *format, ...)
{
    static struct buf b;
    va_list args;
    va_start(args, format);
    b.len = 0;
    add_text(&b, ask(format, args));
    va_end(args);
    return buf_text(&b);
}
