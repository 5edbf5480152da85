#include "tests/system/fake.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/redis_compat.h"
#include "tests/system/harness_server.h"

struct fake {
    pid_t pid;
    char *socket, *url, *notes; /* notes: the file in which the child says where it stands */
    bool ended;
    int status;
};

/* ---- what follows runs in the child */

struct play {
    const char *notes;
    int listener, client;
    redisReader *reader;
    redisReply *command; /* read and not yet used */
    unsigned line;
};

static void note(const struct play *p, const char *what) { write_file(p->notes, fmt("line %u: %s", p->line, what)); }

static _Noreturn void fail(const struct play *p, const char *what)
{
    note(p, what);
    _exit(1);
}

static void accept_next(struct play *p)
{
    p->client = accept(p->listener, NULL, NULL); /* the older one stays open until the end */
    if (p->client < 0) fail(p, fmt("accept: %s", strerror(errno)));
    p->reader = redisReaderCreate();
}

static void send_all(const struct play *p, int fd, const char *data, size_t len)
{
    for (ssize_t n; len > 0; data += n, len -= (size_t)n) {
        n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0) fail(p, fmt("the peer closed before all was sent: %s", strerror(errno)));
    }
}

/* The next whole reply (or command, which has the form of one) from fd, or NULL when the peer hangs up. Everything read is
 * appended to *raw, if that is asked for. */
static redisReply *read_one(const struct play *p, int fd, redisReader *reader, char **raw, size_t *raw_len)
{
    for (;;) {
        void *reply = NULL;
        char data[65536];
        if (redisReaderGetReply(reader, &reply) != REDIS_OK) fail(p, fmt("no RESP: %s", reader->errstr));
        if (reply) return reply;
        ssize_t n = read(fd, data, sizeof data);
        if (n <= 0) return NULL;
        redisReaderFeed(reader, data, (size_t)n);
        if (!raw) continue;
        *raw = realloc(*raw, *raw_len + (size_t)n);
        memcpy(*raw + *raw_len, data, (size_t)n);
        *raw_len += (size_t)n;
    }
}

/* The next command of the client without using it up. NULL when the client has hung up. */
static const redisReply *peek_command(struct play *p)
{
    if (!p->command) p->command = read_one(p, p->client, p->reader, NULL, NULL);
    if (p->command && (p->command->type != REDIS_REPLY_ARRAY || p->command->elements == 0))
        fail(p, "what came is no command");
    return p->command;
}

static void use_command(struct play *p)
{
    freeReplyObject(p->command);
    p->command = NULL;
}

static const char *command_text(const redisReply *c)
{
    char *all = fmt("%s", "");
    for (size_t i = 0; i < c->elements && i < 8; i++) all = fmt("%s%s%.60s", all, i ? " " : "", c->element[i]->str);
    return all;
}

static bool begins_with(const redisReply *c, const char *words)
{
    char *copy = fmt("%s", words), *rest = NULL;
    size_t i = 0;
    for (char *w = strtok_r(copy, " ", &rest); w; w = strtok_r(NULL, " ", &rest), i++)
        if (i >= c->elements || (strcmp(w, "*") != 0 && strcasecmp(w, c->element[i]->str) != 0)) return false;
    return true;
}

static void expect(struct play *p, const char *words)
{
    static const char *const greetings[] = {"CLIENT", "AUTH", "SELECT", "HELLO"};
    for (const redisReply *c; (c = peek_command(p)); use_command(p)) {
        bool is_greeting = false;
        for (size_t i = 0; i < sizeof greetings / sizeof *greetings; i++)
            is_greeting = is_greeting || begins_with(c, greetings[i]);
        if (begins_with(c, words)) {
            use_command(p);
            return;
        }
        if (!is_greeting) fail(p, fmt("expected %s, got %s", words, command_text(c)));
        send_all(p, p->client, "+OK\r\n", 5);
    }
    fail(p, fmt("expected %s, but the client hung up", words));
}

static void send_text(struct play *p, const char *text)
{
    char *out = fmt("%s", text);
    size_t len = 0;
    for (const char *s = text; *s; len++) {
        unsigned byte;
        if (s[0] == '\\' && s[1] == 'x' && sscanf(s + 2, "%2x", &byte) == 1) {
            out[len] = (char)byte;
            s += 4;
        } else if (s[0] == '\\' && s[1]) {
            out[len] = s[1] == 'r' ? '\r' : s[1] == 'n' ? '\n' : s[1];
            s += 2;
        } else {
            out[len] = *s++;
        }
    }
    send_all(p, p->client, out, len);
}

static void send_items(struct play *p, const char *args)
{
    unsigned long n, len;
    if (sscanf(args, "%lu %lu", &n, &len) != 2) fail(p, "SEND-ITEMS wants two numbers");
    char *item = harness_keep(len + 3), *head = fmt("$%lu\r\n", len);
    memset(item, '5', len);
    memcpy(item + len, "\r\n", 3);
    send_all(p, p->client, fmt("*%lu\r\n", n), strlen(fmt("*%lu\r\n", n)));
    for (unsigned long i = 0; i < n; i++) {
        send_all(p, p->client, head, strlen(head));
        send_all(p, p->client, item, len + 2);
    }
}

static void pass_on(struct play *p, const redisReply *c, redisContext *server)
{
    const char **argv = harness_keep(c->elements * sizeof *argv);
    size_t *lens = harness_keep(c->elements * sizeof *lens), raw_len = 0;
    for (size_t i = 0; i < c->elements; i++) {
        argv[i] = c->element[i]->str;
        lens[i] = (size_t)c->element[i]->len;
    }
    char *wire = NULL, *raw = NULL;
    long long len = redisFormatCommandArgv(&wire, (int)c->elements, argv, lens);
    send_all(p, server->fd, wire, (size_t)len);
    redisFreeCommand(wire);
    redisReply *reply = read_one(p, server->fd, server->reader, &raw, &raw_len);
    if (!reply) fail(p, "the private server hung up");
    freeReplyObject(reply);
    send_all(p, p->client, raw, raw_len);
    free(raw);
}

static void relay(struct play *p, const char *until)
{
    redisContext *server = redisConnectUnix(getenv("NWM_TEST_SOCKET"));
    if (!server || server->err) fail(p, "the private server does not answer");
    for (const redisReply *c; (c = peek_command(p)) && !(*until && begins_with(c, until)); use_command(p))
        pass_on(p, c, server);
    redisFree(server);
    if (*until && !p->command) fail(p, fmt("waiting for %s, but the client hung up", until));
}

/* The next whole command that has been read already, into p->command. */
static bool has_command(struct play *p)
{
    void *command = NULL;
    if (!p->command && redisReaderGetReply(p->reader, &command) == REDIS_OK) p->command = command;
    return p->command != NULL;
}

static void relay_until_next(struct play *p)
{
    redisContext *server = redisConnectUnix(getenv("NWM_TEST_SOCKET"));
    if (!server || server->err) fail(p, "the private server does not answer");
    for (;;) {
        for (; has_command(p); use_command(p)) pass_on(p, p->command, server);
        struct pollfd fds[] = {{.fd = p->client, .events = POLLIN}, {.fd = p->listener, .events = POLLIN}};
        poll(fds, 2, -1);
        if (fds[0].revents) {
            char data[65536];
            ssize_t n = read(p->client, data, sizeof data);
            if (n > 0) redisReaderFeed(p->reader, data, (size_t)n);
            if (n <= 0) p->client = -1; /* gone; poll ignores it */
        } else if (fds[1].revents) {
            break;
        }
    }
    redisFree(server);
    accept_next(p);
}

static void stall(struct play *p, const char *ms)
{
    char data[4096];
    if (*ms)
        nap(strtol(ms, NULL, 10));
    else
        while (read(p->client, data, sizeof data) > 0) continue;
}

static void hang_up(struct play *p)
{
    close(p->client);
    p->client = -1;
}

static void step(struct play *p, char *line)
{
    char *args = strchr(line, ' ');
    if (args)
        *args++ = '\0';
    else
        args = line + strlen(line);
    if (!strcmp(line, "ACCEPT"))
        accept_next(p);
    else if (!strcmp(line, "EXPECT"))
        expect(p, args);
    else if (!strcmp(line, "SEND"))
        send_text(p, args);
    else if (!strcmp(line, "SEND-ITEMS"))
        send_items(p, args);
    else if (!strcmp(line, "RELAY"))
        relay(p, args);
    else if (!strcmp(line, "RELAY-UNTIL-NEXT"))
        relay_until_next(p);
    else if (!strcmp(line, "STALL"))
        stall(p, args);
    else if (!strcmp(line, "CLOSE"))
        hang_up(p);
    else
        fail(p, fmt("no such step: %s", line));
}

static _Noreturn void act(struct fake *f, int listener, const char *script)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct play p = {.notes = f->notes, .listener = listener};
    note(&p, "waiting for a connection");
    accept_next(&p);
    char *copy = fmt("%s", script), *rest = NULL;
    for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        p.line++;
        note(&p, fmt("at %s", line));
        step(&p, line);
    }
    _exit(0);
}

/* ---- the test's side */

struct fake *fake_start(const char *script)
{
    static unsigned number;
    struct fake *f = harness_keep(sizeof *f);
    *f = (struct fake){.socket = fmt("%s/fake.%u", test_dir(), ++number)};
    f->url = fmt("unix://%s", f->socket);
    f->notes = fmt("%s.notes", f->socket);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", f->socket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 16) != 0)
        cr_assert_fail("fake server at %s: %s", f->socket, strerror(errno));
    fflush(NULL);
    f->pid = fork();
    if (f->pid < 0) cr_assert_fail("fork: %s", strerror(errno));
    if (f->pid == 0) act(f, fd, script);
    close(fd);
    return f;
}

const char *fake_url(const struct fake *f) { return f->url; }
const char *fake_socket(const struct fake *f) { return f->socket; }

static bool is_done(void *arg)
{
    struct fake *f = arg;
    f->ended = f->ended || waitpid(f->pid, &f->status, WNOHANG) == f->pid;
    return f->ended;
}

const char *fake_end(struct fake *f, int64_t ms)
{
    bool in_time = wait_until(is_done, f, ms);
    if (!in_time) {
        kill(f->pid, SIGKILL);
        waitpid(f->pid, &f->status, 0);
        f->ended = true;
    }
    if (in_time && WIFEXITED(f->status) && WEXITSTATUS(f->status) == 0) return "";
    char *notes = read_file(f->notes, NULL);
    return fmt("%s%s", notes ? notes : "", in_time ? "" : " (still)");
}
