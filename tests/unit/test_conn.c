#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/conn.h"
#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/stop.h"
#include "tests/unit/private_redis.h"

enum { PATIENCE_MS = 10000, SHORT_MS = 150 };

static void cr_fine(struct fault *f)
{
    cr_assert(f == NULL, "%s: %s", f ? fault_name(f) : "", f ? fault_message(f) : "");
}

/* Is it that fault, with these words in its message? Frees it. */
static void cr_fault(struct fault *f, const char *name, const char *words)
{
    cr_assert(f != NULL, "no fault, where %s was expected", name);
    cr_assert_str_eq(fault_name(f), name, "%s: %s", fault_name(f), fault_message(f));
    cr_assert(strstr(fault_message(f), words) != NULL, "%s", fault_message(f));
    fault_free(f);
}

/* ---- with a Redis ------------------------------------------------------------------------------------------------ */

static void start(void) { private_redis_start(NULL); }
TestSuite(conn, .init = start, .fini = private_redis_end);

Test(conn, asks_and_answers)
{
    redisReply *reply;
    cr_fine(conn_ask(private_redis_conn(), &reply, "PING", NULL));
    cr_assert_str_eq(reply->str, "PONG");
    freeReplyObject(reply);
    cr_assert_str_eq(
        redis_text("CLIENT LIST") ? strstr(redis_text("CLIENT LIST"), "name=unit-test") ? "yes" : "no" : "", "yes");
}

Test(conn, any_byte_goes_through)
{
    const char *argv[] = {"SET", "a\r\n\0b", "%s\0\xff"};
    size_t lens[] = {3, 5, 4};
    redisReply *reply;
    cr_fine(conn_call(private_redis_conn(), &reply, 3, argv, lens));
    freeReplyObject(reply);
    argv[0] = "GET";
    cr_fine(conn_call(private_redis_conn(), &reply, 2, argv, lens));
    cr_assert_eq((size_t)reply->len, 4u);
    cr_assert_arr_eq(reply->str, "%s\0\xff", 4);
    freeReplyObject(reply);
}

Test(conn, an_error_reply_is_its_fault)
{
    redis_do("SET key value");
    redisReply *reply;
    cr_fault(conn_ask(private_redis_conn(), &reply, "LLEN", "key", NULL), "WrongType", "LLEN key: ");
    cr_assert(reply == NULL);
    cr_fine(conn_ask(private_redis_conn(), &reply, "PING", NULL));
    freeReplyObject(reply);
}

Test(conn, pipelines_in_order)
{
    struct conn *c = private_redis_conn();
    for (int i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        conn_append_words(c, "ECHO", text, NULL);
    }
    conn_append_words(c, "LLEN", NULL);
    cr_assert_eq(conn_outstanding(c), 1001u);
    redisReply *reply;
    for (int i = 0; i < 1000; i++) {
        cr_fine(conn_reply(c, &reply));
        cr_assert_eq(atoi(reply->str), i);
        freeReplyObject(reply);
    }
    cr_fine(conn_reply(c, &reply));
    cr_assert_eq(reply->type, REDIS_REPLY_ERROR);
    freeReplyObject(reply);
    cr_assert_eq(conn_outstanding(c), 0u);
    cr_assert_eq(conn_unsent(c), 0u);
}

Test(conn, pump_does_not_wait)
{
    struct conn *c = private_redis_conn();
    bool ready;
    cr_fine(conn_pump(c, &ready));
    cr_assert_not(ready);
    conn_append_words(c, "PING", NULL);
    int64_t end = clock_ms() + PATIENCE_MS;
    do {
        cr_fine(conn_pump(c, &ready));
        struct pollfd p = {.fd = conn_fd(c), .events = POLLIN};
        if (!ready) poll(&p, 1, PATIENCE_MS);
    } while (!ready && clock_ms() < end);
    redisReply *reply;
    cr_fine(conn_reply(c, &reply));
    cr_assert_str_eq(reply->str, "PONG");
    freeReplyObject(reply);
}

Test(conn, a_large_value_there_and_back)
{
    enum { SIZE = 20 * 1000 * 1000 };
    char *value = mem_alloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) value[i] = (char)(i * 7 / 3);
    struct conn *c = private_redis_conn();
    redisReply *reply;
    cr_fine(conn_call(c, &reply, 3, (const char *[]){"SET", "k", value}, (size_t[]){3, 1, SIZE}));
    freeReplyObject(reply);
    cr_fine(conn_ask(c, &reply, "GET", "k", NULL));
    cr_assert_eq((size_t)reply->len, (size_t)SIZE);
    cr_assert(memcmp(reply->str, value, SIZE) == 0);
    freeReplyObject(reply);
    free(value);
}

static struct fault *open_as(const char *user, const char *password, const char *db, struct conn **c)
{
    struct endpoint *e = private_redis_endpoint();
    endpoint_set_user(e, user);
    endpoint_set_password(e, password);
    cr_fine(endpoint_set_db(e, db));
    return conn_open(e, "unit-test", PATIENCE_MS, c);
}

Test(conn, logs_in)
{
    struct conn *c;
    redis_do("CONFIG SET requirepass geheim");
    redis_do("ACL SETUSER bob on >word ~* +@all");
    cr_fault(open_as(NULL, NULL, "0", &c), "Denied", "NOAUTH");
    cr_fault(open_as(NULL, "falsch", "0", &c), "Denied", "password");
    struct fault *f = open_as("bob", "falsch", "0", &c);
    cr_assert(f && !strstr(fault_message(f), "falsch"));
    fault_free(f);
    cr_fine(open_as("bob", "word", "3", &c));
    redisReply *reply;
    cr_fine(conn_ask(c, &reply, "SET", "k", "v", NULL));
    freeReplyObject(reply);
    conn_close(c);
    cr_fine(open_as(NULL, "geheim", "0", &c));
    conn_close(c);
    redis_do("AUTH geheim");
    redis_do("SELECT 3");
    cr_assert_str_eq(redis_text("GET k"), "v");
}

Test(conn, a_database_that_is_not_there)
{
    struct conn *c;
    cr_fault(open_as(NULL, NULL, "999", &c), "Usage", "--db");
    cr_assert(c == NULL);
}

Test(conn, may_not_name_itself)
{
    redis_do("ACL SETUSER bob on >word ~* +ping +auth");
    struct conn *c;
    cr_fine(open_as("bob", "word", "0", &c));
    redisReply *reply;
    cr_fault(conn_ask(c, &reply, "GET", "k", NULL), "Denied", "NOPERM");
    conn_close(c);
}

Test(conn, a_server_with_all_its_clients)
{
    redis_do("CONFIG SET maxclients 1");
    signal(SIGPIPE, SIG_IGN);
    struct conn *c;
    cr_fault(open_as(NULL, NULL, "0", &c), "Unreachable", "maxclients");
}

Test(conn, a_connection_killed)
{
    struct conn *c = private_redis_conn();
    redis_do("CLIENT KILL TYPE normal SKIPME yes");
    redisReply *reply;
    cr_fault(conn_ask(c, &reply, "PING", NULL), "Unreachable", "redis.sock");
    cr_fault(conn_ask(c, &reply, "PING", NULL), "Unreachable", "redis.sock");
}

/* ---- with a server that is none ---------------------------------------------------------------------------------- */

static char directory[64], path[96];
static pid_t fake;

static void fake_init(void)
{
    strcpy(directory, "/tmp/nwm-unit-XXXXXX");
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/fake.sock", directory);
    signal(SIGPIPE, SIG_IGN);
}

static void fake_fini(void)
{
    if (fake) {
        kill(fake, SIGKILL);
        waitpid(fake, NULL, 0);
    }
    unlink(path);
    rmdir(directory);
}

TestSuite(conn_fake, .init = fake_init, .fini = fake_fini);

static int listen_unix(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 5) == 0);
    return fd;
}

static void echo(int fd)
{
    char data[65536];
    for (ssize_t n; (n = read(fd, data, sizeof data)) > 0;)
        for (ssize_t at = 0, m; at < n; at += m)
            if ((m = write(fd, data + at, (size_t)(n - at))) < 0) _exit(1);
}

/* Accepts once, answers the greeting, then says `text` after the next bytes come, and closes, stays silent or echoes. */
static _Noreturn void serve(int listener, const char *greeting, const char *text, char then, pid_t parent)
{
    char data[4096];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    int fd = accept(listener, NULL, NULL);
    if (greeting && (read(fd, data, sizeof data) <= 0 || write(fd, greeting, strlen(greeting)) < 0)) _exit(1);
    if (text && (read(fd, data, sizeof data) <= 0 || write(fd, text, strlen(text)) < 0)) _exit(1);
    if (then == 'e') echo(fd);
    while (then == 's' && read(fd, data, sizeof data) > 0) continue;
    if (then == 'd') pause();
    _exit(0);
}

enum { CLOSES = 'c', SILENT = 's', ECHOES = 'e', DEAF = 'd' };

static struct endpoint *fake_server(const char *greeting, const char *text, char then)
{
    int listener = listen_unix();
    pid_t parent = getpid();
    fake = fork();
    if (fake == 0) serve(listener, greeting, text, then, parent);
    close(listener);
    struct endpoint *e = endpoint_new();
    cr_fine(endpoint_set_socket(e, path));
    return e;
}

static struct fault *open_fake(struct endpoint *e, struct conn **c)
{
    return conn_open(e, "unit-test", PATIENCE_MS, c);
}

Test(conn_fake, one_that_never_answers_the_login)
{
    struct endpoint *e = fake_server(NULL, NULL, DEAF);
    struct conn *c;
    int64_t before = clock_ms();
    struct fault *f = conn_open(e, "unit-test", SHORT_MS, &c);
    cr_assert_geq(clock_ms() - before, SHORT_MS - 1);
    cr_assert_lt(clock_ms() - before, PATIENCE_MS);
    cr_assert(strstr(fault_message(f), "fake.sock") && strstr(fault_message(f), "--timeout"), "%s", fault_message(f));
    cr_fault(f, "Timeout", "the login");
    endpoint_free(e);
}

Test(conn_fake, one_that_never_answers_a_question)
{
    struct endpoint *e = fake_server("+OK\r\n", NULL, SILENT);
    struct conn *c;
    redisReply *reply;
    cr_fine(open_fake(e, &c));
    conn_set_timeout(c, SHORT_MS, true);
    cr_fault(conn_ask(c, &reply, "LLEN", "nwm:x", NULL), "Timeout", "LLEN nwm:x");
    conn_close(c);
    endpoint_free(e);
}

Test(conn_fake, one_that_takes_nothing)
{
    struct endpoint *e = fake_server("+OK\r\n", NULL, DEAF);
    struct conn *c;
    cr_fine(open_fake(e, &c));
    conn_set_timeout(c, SHORT_MS, true);
    char *much = mem_zalloc(16 << 20);
    conn_append_raw(c, much, 16 << 20, 1);
    cr_fault(conn_flush(c, 1000), "Timeout", "takes nothing");
    free(much);
    conn_close(c);
    endpoint_free(e);
}

static void says(const char *text, char then, const char *name, const char *words)
{
    struct endpoint *e = fake_server("+OK\r\n", text, then);
    struct conn *c;
    redisReply *reply;
    cr_fine(open_fake(e, &c));
    cr_fault(conn_ask(c, &reply, "PING", NULL), name, words);
    conn_close(c);
    endpoint_free(e);
}

Test(conn_fake, garbage)
{
    says("HTTP/1.1 400 Bad Request\r\n", CLOSES, "Protocol", "does not speak as a Redis should");
}
Test(conn_fake, half_a_reply) { says("$100\r\nabc", CLOSES, "Unreachable", "closed the connection"); }
Test(conn_fake, hangs_up) { says("", CLOSES, "Unreachable", "closed the connection"); }
Test(conn_fake, half_a_reply_and_silence)
{
    struct endpoint *e = fake_server("+OK\r\n", "*2\r\n$3\r\nabc\r\n", SILENT);
    struct conn *c;
    redisReply *reply;
    cr_fine(open_fake(e, &c));
    conn_set_timeout(c, SHORT_MS, true);
    cr_fault(conn_ask(c, &reply, "PING", NULL), "Timeout", "no answer");
    conn_close(c);
    endpoint_free(e);
}
Test(conn_fake, too_many_elements) { says("*4194305\r\n", SILENT, "Protocol", "too many elements"); }
Test(conn_fake, too_many_elements_nested) { says("*2\r\n*3\r\n*4194300\r\n", SILENT, "Protocol", "too many elements"); }
Test(conn_fake, nested_too_deep)
{
    says("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", SILENT, "Protocol",
         "does not speak");
}

Test(conn_fake, says_more_than_was_asked)
{
    struct endpoint *e = fake_server("+OK\r\n", "+PONG\r\n+PONG\r\n", SILENT);
    struct conn *c;
    redisReply *reply;
    cr_fine(open_fake(e, &c));
    cr_fine(conn_ask(c, &reply, "PING", NULL));
    freeReplyObject(reply);
    bool ready;
    cr_fault(conn_pump(c, &ready), "Protocol", "nobody asked for");
    conn_close(c);
    endpoint_free(e);
}

Test(conn_fake, what_it_said_before_it_hung_up_counts)
{
    struct endpoint *e = fake_server("+OK\r\n", "+PONG\r\n", CLOSES);
    struct conn *c;
    redisReply *reply;
    cr_fine(open_fake(e, &c));
    cr_fine(conn_ask(c, &reply, "PING", NULL));
    freeReplyObject(reply);
    cr_fault(conn_ask(c, &reply, "PING", NULL), "Unreachable", "fake.sock");
    conn_close(c);
    endpoint_free(e);
}

/* The server stops reading while nobody takes what it sends. */
static void both_ways(bool flush)
{
    enum { REPLIES = 200, SIZE = 100000 };
    struct endpoint *e = fake_server("+OK\r\n", NULL, ECHOES);
    struct conn *c;
    redisReply *reply;
    cr_fine(open_fake(e, &c));
    char *value = mem_zalloc(SIZE + 2);
    memcpy(value + SIZE, "\r\n", 2);
    for (int i = 0; i < REPLIES; i++) {
        conn_append_raw(c, "$100000\r\n", 9, 0);
        conn_append_raw(c, value, SIZE + 2, 1);
        if (flush) cr_fine(conn_flush(c, SIZE));
        if (flush) cr_assert_leq(conn_unsent(c), (size_t)SIZE);
    }
    for (int i = 0; i < REPLIES; i++) {
        cr_fine(conn_reply(c, &reply));
        cr_assert_eq((size_t)reply->len, (size_t)SIZE);
        freeReplyObject(reply);
    }
    free(value);
    conn_close(c);
    endpoint_free(e);
}

Test(conn_fake, a_big_pipeline_goes_both_ways) { both_ways(false); }
Test(conn_fake, flush_takes_in_what_arrives) { both_ways(true); }

Test(conn_fake, a_signal_ends_a_wait_unless_it_is_a_farewell)
{
    struct endpoint *e = fake_server("+OK\r\n", NULL, SILENT);
    struct conn *c;
    redisReply *reply;
    stop_install();
    cr_fine(open_fake(e, &c));
    raise(SIGTERM);
    cr_fault(conn_ask(c, &reply, "PING", NULL), "Interrupted", "fake.sock");
    conn_set_timeout(c, SHORT_MS, false);
    cr_fault(conn_reply(c, &reply), "Timeout", "PING");
    conn_close(c);
    endpoint_free(e);
}

Test(conn_fake, no_socket_there)
{
    struct endpoint *e = endpoint_new();
    struct conn *c;
    cr_fine(endpoint_set_socket(e, path));
    cr_fault(open_fake(e, &c), "Unreachable", "No such file");
    endpoint_free(e);
}

Test(conn_fake, a_socket_without_permission)
{
    if (geteuid() == 0 && (setegid(65534) != 0 || seteuid(65534) != 0)) cr_skip_test("cannot be another user");
    struct endpoint *e = endpoint_new();
    struct conn *c;
    cr_fine(endpoint_set_socket(e, path));
    cr_fault(open_fake(e, &c), "Unreachable", "Permission denied");
    endpoint_free(e);
    cr_assert(seteuid(0) == 0 || geteuid() != 0);
}

/* A TCP socket on a free port, bound but not listening. */
static int bind_tcp(char port[8])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
    cr_assert(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    snprintf(port, 8, "%d", ntohs(a.sin_port));
    return fd;
}

Test(conn_fake, refused)
{
    char port[8];
    int fd = bind_tcp(port);
    struct endpoint *e = endpoint_new();
    struct conn *c;
    cr_fine(endpoint_set_port(e, port));
    char *advice =
        mem_printf("cannot connect to redis://127.0.0.1:%s: Connection refused; is a Redis running there? (try "
                   "redis-cli -h 127.0.0.1 -p %s ping)",
                   port, port);
    cr_fault(open_fake(e, &c), "Unreachable", advice);
    free(advice);
    endpoint_free(e);
    close(fd);
}

Test(conn_fake, tcp_sockets_are_set_up)
{
    char port[8];
    int listener = bind_tcp(port);
    cr_assert(listen(listener, 1) == 0);
    pid_t parent = getpid();
    fake = fork();
    if (fake == 0) serve(listener, "+OK\r\n", NULL, SILENT, parent);
    close(listener);
    struct endpoint *e = endpoint_new();
    struct conn *c;
    cr_fine(endpoint_set_port(e, port));
    cr_fine(open_fake(e, &c));
    int on = 0;
    socklen_t len = sizeof on;
    cr_assert(getsockopt(conn_fd(c), IPPROTO_TCP, TCP_NODELAY, &on, &len) == 0 && on);
    cr_assert(getsockopt(conn_fd(c), SOL_SOCKET, SO_KEEPALIVE, &on, &len) == 0 && on);
    cr_assert(fcntl(conn_fd(c), F_GETFD) & FD_CLOEXEC);
    conn_close(c);
    endpoint_free(e);
}
