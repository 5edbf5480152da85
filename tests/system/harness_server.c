#include "tests/system/harness_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/redis_compat.h"

enum { START_DEADLINE = 20000, END_DEADLINE = 5000, REPLY_DEADLINE = 30000 };

/* Below the ports that connections are given, so that none takes it meanwhile, and low enough for a cluster, whose servers also listen
 * 10,000 above. */
enum { PORTS_FROM = 20000, PORTS = 12000 };

static bool is_free(int port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    if (fd >= 0) close(fd);
    return is;
}

int free_port(void)
{
    static unsigned calls;
    for (unsigned tries = 0; tries < PORTS; tries++) {
        int port = PORTS_FROM + (int)(((unsigned)getpid() * 7u + calls++) % PORTS);
        if (is_free(port)) return port;
    }
    cr_assert_fail("no free port");
    return 0;
}

/* ---- asking */

static redisContext *connect_to(const char *socket)
{
    struct timeval limit = {.tv_sec = REPLY_DEADLINE / 1000};
    redisContext *c = redisConnectUnixWithTimeout(socket, limit);
    if (c && !c->err && redisSetTimeout(c, limit) == REDIS_OK) return c;
    if (c) redisFree(c);
    return NULL;
}

static const char *reply_text(const redisReply *r)
{
    switch (r->type) {
    case REDIS_REPLY_INTEGER: return fmt("%lld", r->integer);
    case REDIS_REPLY_NIL: return "(nil)";
    case REDIS_REPLY_ERROR: return fmt("(error) %s", r->str);
    case REDIS_REPLY_ARRAY: break;
    default: return fmt("%.*s", (int)r->len, r->str);
    }
    char *all = fmt("%s", "");
    for (size_t i = 0; i < r->elements; i++) all = fmt("%s%s%s", all, i ? "\n" : "", reply_text(r->element[i]));
    return all;
}

static const char *ask(redisContext **link, const char *socket, const char *format, va_list args)
{
    if (!*link && !(*link = connect_to(socket))) return fmt("(no server at %s)", socket);
    /* Noted where a leak checker looks: a test's struct server is on its stack, and gone when the check comes. */
    *(redisContext **)harness_keep(sizeof *link) = *link;
    /* A server that has just closed the connection would end the test by a signal; what tests start must not inherit the ignoring. */
    void (*was)(int) = signal(SIGPIPE, SIG_IGN);
    redisReply *reply = redisvCommand(*link, format, args);
    signal(SIGPIPE, was);
    if (!reply) {
        const char *why = fmt("(connection: %s)", (*link)->errstr);
        redisFree(*link);
        *link = NULL;
        return why;
    }
    const char *answer = reply_text(reply);
    freeReplyObject(reply);
    return answer;
}

const char *server_redis(struct server *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisContext *link = s->link;
    const char *answer = ask(&link, s->socket, format, args);
    s->link = link;
    va_end(args);
    return answer;
}

const char *redis(const char *format, ...)
{
    static redisContext *link;
    va_list args;
    va_start(args, format);
    const char *answer = ask(&link, getenv("NWM_TEST_SOCKET"), format, args);
    va_end(args);
    return answer;
}

const char *manifest_key(const char *id) { return fmt("nwm:{%s:%s}", test_job(), id); }

const char *manifest(const char *id, const char *field) { return redis("HGET %s %s", manifest_key(id), field); }

bool has_state(void *id_state)
{
    char *id = fmt("%s", (const char *)id_state), *state = strchr(id, ' ');
    if (!state) cr_assert_fail("has_state wants \"ID STATE\", not \"%s\"", id);
    *state++ = '\0';
    return strcmp(manifest(id, "state"), state) == 0;
}

/* ---- starting and ending */

static bool answers(void *arg)
{
    struct server *s = arg;
    if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
        s->pid = 0;
        return true; /* no use waiting any longer */
    }
    if (access(s->socket, F_OK) != 0) return false;
    const char *answer = server_redis(s, "PING"); /* NOAUTH is an answer too, where a test wants passwords */
    return !strcmp(answer, "PONG") || (!strncmp(answer, "(error)", 7) && !strstr(answer, "LOADING"));
}

static void become_server(const struct server *s)
{
    int out = open(fmt("%s/redis.log", s->dir), O_WRONLY | O_CREAT | O_APPEND, 0600), in = open("/dev/null", O_RDONLY);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0); /* ^C at the terminal is for the tests */
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    for (int fd = 3; fd < 256; fd++) close(fd);
    execlp("redis-server", "redis-server", fmt("%s/redis.conf", s->dir), (char *)NULL);
    execlp("valkey-server", "valkey-server", fmt("%s/redis.conf", s->dir), (char *)NULL);
    _exit(127);
}

static const char *launch(struct server *s)
{
    fflush(NULL);
    unlink(s->socket);
    s->pid = fork();
    if (s->pid < 0) return strerror(errno);
    if (s->pid == 0) become_server(s);
    bool in_time = wait_until(answers, s, START_DEADLINE);
    if (in_time && s->pid > 0) return NULL;
    char *log = read_file(fmt("%s/redis.log", s->dir), NULL);
    const char *what = s->pid ? "it does not answer" : "it ended at once";
    harness_server_end(s);
    return fmt("%s; its log:\n%s", what, log ? log : "");
}

const char *harness_server_start(struct server *s, const char *dir, bool tcp, const char *config)
{
    *s = (struct server){.port = tcp ? free_port() : 0};
    snprintf(s->dir, sizeof s->dir, "%s", dir);
    snprintf(s->socket, sizeof s->socket, "%s/redis.sock", dir);
    snprintf(s->url, sizeof s->url, "unix://%s", s->socket);
    if (mkdir(dir, 0700) != 0) return fmt("mkdir %s: %s", dir, strerror(errno));
    FILE *f = fopen(fmt("%s/redis.conf", dir), "w");
    if (!f) return fmt("%s/redis.conf: %s", dir, strerror(errno));
    fprintf(f, "include %s/config/redis.conf\nunixsocket %s\ndir %s\n", NWM_SOURCE, s->socket, dir);
    if (tcp) fprintf(f, "bind 127.0.0.1\nport %d\n", s->port);
    fprintf(f, "%s\n", config);
    fclose(f);
    return launch(s);
}

/* A port that was free a moment ago may have been taken by another test. */
static void start_or_fail(struct server *s, bool tcp, const char *config)
{
    static unsigned number;
    const char *problem;
    int tries = 5;
    do problem = harness_server_start(s, fmt("%s/server.%u", test_dir(), ++number), tcp, config);
    while (problem && tcp && strstr(problem, "Address already in use") && --tries > 0);
    if (problem) cr_assert_fail("redis-server: %s", problem);
}

HARNESS_PRINTF(1, 0) static char *config_text(const char *format, va_list args)
{
    char config[8192];
    vsnprintf(config, sizeof config, format, args);
    return fmt("%s", config);
}

void server_start(struct server *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    start_or_fail(s, false, config_text(format, args));
    va_end(args);
}

void server_start_tcp(struct server *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    start_or_fail(s, true, config_text(format, args));
    va_end(args);
}

void server_restart(struct server *s)
{
    const char *problem = launch(s);
    if (problem) cr_assert_fail("redis-server, again: %s", problem);
}

static bool has_gone(void *arg)
{
    struct server *s = arg;
    return waitpid(s->pid, NULL, WNOHANG) != 0;
}

static void hang_up(struct server *s)
{
    if (s->link) redisFree(s->link);
    s->link = NULL;
}

void harness_server_end(struct server *s)
{
    hang_up(s);
    if (s->pid <= 0) return;
    kill(s->pid, SIGTERM);
    kill(s->pid, SIGCONT);
    if (!wait_until(has_gone, s, END_DEADLINE)) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
    }
    s->pid = 0;
}

void server_stop(struct server *s) { harness_server_end(s); }

void server_kill9(struct server *s)
{
    hang_up(s);
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

void server_pause(struct server *s) { kill(s->pid, SIGSTOP); }
void server_resume(struct server *s) { kill(s->pid, SIGCONT); }
