/* One connection on the event loop, against a server that this test plays itself (in the same thread: the loop is turned by
 * hand), and against a real one. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "merger/link.h"
#include "shared/conn.h"
#include "shared/mem.h"
#include "tests/unit/private_redis.h"

enum { LONG = 20000, SHORT = 150 }; /* ms */

static struct event_base *base;
static struct endpoint *endpoint;
static struct link *link_;
static char directory[64], path[96];
static int listener = -1, peer = -1;
static redisReader *heard; /* what the peer was sent */

static void fine(struct fault *f) { cr_assert_null(f, "%s", f ? fault_message(f) : ""); }

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    base = event_base_new();
    endpoint = endpoint_new();
    strcpy(directory, "/tmp/nwm-link-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/s", directory);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    cr_assert_eq(listen(listener, 8), 0);
    heard = redisReaderCreate();
}

static void teardown(void)
{
    link_free(link_);
    endpoint_free(endpoint);
    event_base_free(base);
    redisReaderFree(heard);
    close(listener);
    if (peer >= 0) close(peer);
    unlink(path);
    rmdir(directory);
}

TestSuite(link, .init = setup, .fini = teardown, .timeout = 60);

/* ---- turning the loop */

static void turn(void)
{
    link_flush(link_);
    event_base_loop(base, EVLOOP_NONBLOCK);
}

/* For loops that wait for something; fails the test when that takes too long. */
static void turn_again(int64_t deadline)
{
    cr_assert_lt(clock_ms(), deadline, "what was waited for did not come");
    turn();
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static void open_link(int64_t timeout_ms)
{
    char url[128];
    snprintf(url, sizeof url, "unix://%s", path);
    fine(endpoint_set_url(endpoint, url));
    fine(endpoint_resolve(endpoint));
    link_ = link_new(base, endpoint, "unit", '\n', timeout_ms);
}

static void turn_until_state(enum link_state state)
{
    for (int64_t deadline = clock_ms() + LONG; link_state(link_) != state;) turn_again(deadline);
}

/* ---- the peer's side */

static void accept_it(void)
{
    for (int64_t deadline = clock_ms() + LONG; peer < 0;) {
        peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (peer < 0) turn_again(deadline);
    }
}

/* Waits for a command and compares its words. */
static void expect_command(const char *words)
{
    static char data[65536];
    redisReply *command = NULL;
    for (int64_t deadline = clock_ms() + LONG; !command;) {
        ssize_t n = read(peer, data, sizeof data);
        if (n > 0) cr_assert_eq(redisReaderFeed(heard, data, (size_t)n), REDIS_OK);
        cr_assert_eq(redisReaderGetReply(heard, (void **)&command), REDIS_OK);
        if (!command) turn_again(deadline);
    }
    struct buf text = {0};
    for (size_t i = 0; i < command->elements; i++) buf_printf(&text, "%s%s", i ? " " : "", command->element[i]->str);
    cr_assert_str_eq(buf_text(&text), words);
    buf_free(&text);
    freeReplyObject(command);
}

static void say_bytes(const char *data, size_t len)
{
    for (int64_t deadline = clock_ms() + LONG; len > 0;) {
        ssize_t n = write(peer, data, len);
        if (n < 0 && errno == EPIPE) return; /* it has hung up */
        if (n < 0) {
            turn_again(deadline);
            continue;
        }
        data += n;
        len -= (size_t)n;
    }
}

static void say(const char *text) { say_bytes(text, strlen(text)); }

static void hang_up(void)
{
    close(peer);
    peer = -1;
}

static void open_up(int64_t timeout_ms)
{
    open_link(timeout_ms);
    accept_it();
    expect_command("CLIENT SETNAME unit");
    say("+OK\r\n");
    turn_until_state(LINK_UP);
}

/* ---- what came back: callbacks only record */

struct answer {
    size_t times, order;
    void *reply;
};

enum { ANSWERS = 3000 };
static struct answer answers[ANSWERS];
static size_t answer_count;

static void record(void *owner, void *reply)
{
    struct answer *a = owner;
    a->times++;
    a->order = ++answer_count;
    a->reply = reply;
}

static void ask_range(struct answer *a, const char *key, uint64_t first, uint64_t last, uint64_t max_item)
{
    struct expectation e = {(uint32_t)(last - first + 1), max_item, 100, 1000};
    link_ask_range(link_, key, first, last, &e, record, a);
}

static void wait_for(const struct answer *a)
{
    for (int64_t deadline = clock_ms() + LONG; !a->times;) turn_again(deadline);
}

static void expect_items(struct answer *a, const char *joined)
{
    wait_for(a);
    cr_assert_eq(a->times, 1);
    cr_assert_not_null(a->reply);
    cr_assert(decoded_is_batch(a->reply));
    const struct batch *b = a->reply;
    cr_assert_eq(b->used, strlen(joined));
    cr_assert_eq(memcmp(b->bytes, joined, b->used), 0);
    decoded_free(a->reply);
    a->reply = NULL;
}

/* It goes down with that fault, and calls the first n answers back with nothing, in order. */
static void expect_down(enum fault_kind kind, const char *text, size_t n)
{
    turn_until_state(LINK_DOWN);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(answers[i].times, 1, "request %zu was called back %zu times", i, answers[i].times);
        cr_assert_null(answers[i].reply);
        cr_assert_eq(answers[i].order, i + 1);
    }
    cr_assert_eq(link_outstanding(link_), 0);
    cr_assert_eq(link_outstanding_bytes(link_), 0);
    struct fault *f = link_take_fault(link_);
    cr_assert_not_null(f);
    cr_assert(fault_is(f, kind), "%s: %s", fault_name(f), fault_message(f));
    cr_assert_not_null(strstr(fault_message(f), text), "%s", fault_message(f));
    cr_assert_not_null(strstr(fault_message(f), "unix://"), "%s", fault_message(f));
    fault_free(f);
    cr_assert_null(link_take_fault(link_));
    ask_range(&answers[ANSWERS - 1], "k", 0, 1, 0);
    turn();
    cr_assert_eq(answers[ANSWERS - 1].times, 0, "a link that is down calls nobody");
    cr_assert_eq(link_outstanding(link_), 0);
}

/* ---- replies */

Test(link, replies_come_in_order)
{
    open_up(LONG);
    ask_range(&answers[0], "a", 0, 1, 0);
    ask_range(&answers[1], "b", 0, 1, 0);
    ask_range(&answers[2], "c", 5, 5, 0);
    cr_assert_eq(link_outstanding(link_), 3);
    cr_assert_eq(link_outstanding_bytes(link_), 3000);
    expect_command("LRANGE a 0 1");
    expect_command("LRANGE b 0 1");
    expect_command("LRANGE c 5 5");
    say("*2\r\n$1\r\nx\r\n$1\r\ny\r\n*0\r\n*1\r\n$1\r\nz\r\n");
    expect_items(&answers[0], "x\ny\n");
    expect_items(&answers[1], "");
    expect_items(&answers[2], "z\n");
    cr_assert(answers[0].order == 1 && answers[1].order == 2 && answers[2].order == 3);
    cr_assert_eq(link_outstanding(link_), 0);
    cr_assert_eq(link_outstanding_bytes(link_), 0);
}

Test(link, asked_before_the_connection_stands)
{
    open_link(LONG);
    cr_assert_eq(link_state(link_), LINK_CONNECTING);
    ask_range(&answers[0], "a", 0, 0, 0);
    link_flush(link_);
    accept_it();
    expect_command("CLIENT SETNAME unit");
    ask_range(&answers[1], "b", 0, 0, 0); /* greeted, but not answered */
    expect_command("LRANGE a 0 0");
    expect_command("LRANGE b 0 0");
    cr_assert_eq(link_state(link_), LINK_CONNECTING);
    say("+OK\r\n*1\r\n$1\r\nx\r\n*1\r\n$1\r\ny\r\n");
    expect_items(&answers[0], "x\n");
    expect_items(&answers[1], "y\n");
    cr_assert_eq(link_state(link_), LINK_UP);
}

Test(link, a_name_that_is_refused_is_no_harm)
{
    open_link(LONG);
    accept_it();
    expect_command("CLIENT SETNAME unit");
    say("-ERR unknown command 'CLIENT'\r\n");
    turn_until_state(LINK_UP);
}

Test(link, error_replies_are_replies)
{
    open_up(LONG);
    ask_range(&answers[0], "a", 0, 1, 0);
    ask_range(&answers[1], "b", 0, 1, 0);
    say("-WRONGTYPE no\r\n*0\r\n");
    wait_for(&answers[0]);
    redisReply *reply = answers[0].reply;
    cr_assert_eq(reply->type, REDIS_REPLY_ERROR);
    decoded_free(reply);
    expect_items(&answers[1], "");
    cr_assert_eq(link_answered(link_), 1, "a refusal brings nothing");
}

static void ask_again(void *owner, void *reply)
{
    decoded_free(reply);
    if (reply) ask_range(owner, "second", 0, 0, 0);
}

Test(link, asking_from_within_a_callback)
{
    open_up(LONG);
    link_ask_range(link_, "first", 0, 0, &(struct expectation){.want = 1}, ask_again, &answers[0]);
    expect_command("LRANGE first 0 0");
    say("*1\r\n$1\r\nx\r\n");
    expect_command("LRANGE second 0 0");
    say("*1\r\n$1\r\ny\r\n");
    expect_items(&answers[0], "y\n");
}

Test(link, replies_in_any_pieces)
{
    static const char text[] = "*2\r\n$5\r\napple\r\n$0\r\n\r\n";
    open_up(LONG);
    for (size_t cut = 1; cut < sizeof text - 1; cut++) {
        answers[0] = (struct answer){0};
        ask_range(&answers[0], "a", 0, 1, 5);
        turn();
        say_bytes(text, cut);
        for (int i = 0; i < 3; i++) turn();
        cr_assert_eq(answers[0].times, 0);
        say(text + cut);
        expect_items(&answers[0], "apple\n\n");
    }
}

Test(link, thousands_of_requests_at_once)
{
    enum { N = 2000 };
    open_up(LONG);
    /* So that the oldest is not at the beginning when the ring grows. */
    for (size_t i = 0; i < 5; i++) {
        answers[i] = (struct answer){0};
        ask_range(&answers[i], "early", 0, 0, 0);
        expect_command("LRANGE early 0 0");
        say("*0\r\n");
        expect_items(&answers[i], "");
    }
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < N; i++) {
            char key[24];
            snprintf(key, sizeof key, "%zu", i);
            answers[i] = (struct answer){0};
            ask_range(&answers[i], key, 0, 0, 0);
        }
        cr_assert_eq(link_outstanding(link_), N);
        for (size_t i = 0; i < N; i++) {
            char text[64];
            snprintf(text, sizeof text, "LRANGE %zu 0 0", i);
            expect_command(text);
        }
        for (size_t i = 0; i < N; i++) {
            char text[64];
            snprintf(text, sizeof text, "*1\r\n$4\r\n%04zu\r\n", i);
            say(text);
        }
        for (size_t i = 0; i < N; i++) {
            char text[24];
            snprintf(text, sizeof text, "%04zu\n", i);
            expect_items(&answers[i], text);
        }
    }
}

/* ---- the ways down */

static void ask_three(void)
{
    ask_range(&answers[0], "a", 0, 1, 0);
    ask_range(&answers[1], "b", 0, 1, 0);
    ask_range(&answers[2], "c", 0, 1, 0);
    turn();
}

Test(link, closed_by_the_peer)
{
    open_up(LONG);
    ask_three();
    hang_up();
    expect_down(FAULT_UNREACHABLE, "", 3);
}

Test(link, closed_in_the_middle_of_a_reply)
{
    open_up(LONG);
    ask_three();
    say("*2\r\n$5\r\nappl");
    turn();
    hang_up();
    expect_down(FAULT_UNREACHABLE, "", 3);
}

Test(link, closed_before_it_greets)
{
    open_link(LONG);
    ask_three();
    accept_it();
    hang_up();
    expect_down(FAULT_UNREACHABLE, "", 3);
}

Test(link, nobody_listens)
{
    unlink(path);
    open_link(LONG);
    expect_down(FAULT_UNREACHABLE, "No such file", 0);
}

Test(link, not_allowed_in)
{
    open_link(LONG);
    ask_three();
    accept_it();
    say("-NOAUTH Authentication required.\r\n");
    turn_until_state(LINK_DOWN);
    struct fault *f = link_take_fault(link_);
    cr_assert(fault_is(f, FAULT_DENIED), "%s", fault_message(f));
    fault_free(f);
    for (size_t i = 0; i < 3; i++) cr_assert_eq(answers[i].times, 1);
}

Test(link, garbage)
{
    open_up(LONG);
    ask_three();
    say("HTTP/1.1 400 Bad Request\r\n");
    expect_down(FAULT_PROTOCOL, "does not speak as a Redis should", 3);
}

Test(link, garbage_for_a_greeting)
{
    open_link(LONG);
    accept_it();
    say("SSH-2.0-OpenSSH_9.2\r\n");
    expect_down(FAULT_PROTOCOL, "", 0);
}

Test(link, what_was_not_asked_for)
{
    open_up(LONG);
    say("+HELLO\r\n");
    expect_down(FAULT_PROTOCOL, "not asked for", 0);
}

Test(link, more_replies_than_requests)
{
    open_up(LONG);
    ask_range(&answers[0], "a", 0, 0, 0);
    turn();
    say("*1\r\n$1\r\nx\r\n*1\r\n$1\r\ny\r\n");
    expect_items(&answers[0], "x\n");
    turn_until_state(LINK_DOWN);
    struct fault *f = link_take_fault(link_);
    cr_assert(fault_is(f, FAULT_PROTOCOL));
    fault_free(f);
    cr_assert_eq(answers[0].times, 1);
}

Test(link, more_items_than_asked_for)
{
    open_up(LONG);
    ask_three();
    say("*3\r\n$1\r\nx\r\n$1\r\ny\r\n$1\r\nz\r\n");
    expect_down(FAULT_PROTOCOL, "more elements than were asked for", 3);
}

Test(link, a_list_for_a_greeting)
{
    open_link(LONG);
    accept_it();
    say("*0\r\n");
    expect_down(FAULT_PROTOCOL, "", 0);
}

/* The manifest says 10 bytes at most: a gigabyte is not waited for. */
Test(link, an_item_larger_than_any)
{
    open_up(LONG);
    ask_range(&answers[0], "a", 0, 1, 10);
    turn();
    char *data = mem_zalloc(1 << 20);
    say("*2\r\n$5\r\nfirst\r\n$1000000000\r\n");
    say_bytes(data, 1 << 20);
    free(data);
    expect_down(FAULT_CHANGED, "larger than its manifest says", 1);
}

Test(link, large_items_are_fine_where_the_manifest_says_so)
{
    enum { SIZE = 3 << 20 };
    open_up(LONG);
    ask_range(&answers[0], "a", 0, 0, SIZE);
    turn();
    char head[32], *data = mem_zalloc(SIZE + 2);
    snprintf(head, sizeof head, "*1\r\n$%d\r\n", (int)SIZE);
    memset(data, 'x', SIZE);
    memcpy(data + SIZE, "\r\n", 2);
    say(head);
    say_bytes(data, SIZE + 2);
    wait_for(&answers[0]);
    size_t len;
    cr_assert_eq(memcmp(batch_item(answers[0].reply, 0, &len), data, SIZE), 0);
    cr_assert_eq(len, SIZE);
    decoded_free(answers[0].reply);
    free(data);
}

/* ---- silence */

Test(link, no_answer)
{
    open_up(SHORT);
    ask_three();
    expect_down(FAULT_TIMEOUT, "no answer", 3);
}

Test(link, no_answer_to_the_greeting)
{
    int64_t began = clock_ms();
    open_link(SHORT);
    ask_three();
    expect_down(FAULT_TIMEOUT, "no connection", 3);
    cr_assert_geq(clock_ms() - began, SHORT - 10);
}

Test(link, half_an_answer_and_then_none)
{
    open_up(SHORT);
    ask_three();
    say("*2\r\n$5\r\nappl");
    expect_down(FAULT_TIMEOUT, "no answer", 3);
}

Test(link, slow_is_not_silent)
{
    static const char text[] = "*1\r\n$3\r\nabc\r\n";
    open_up(SHORT);
    ask_range(&answers[0], "a", 0, 0, 0);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        for (int64_t until = clock_ms() + SHORT / 5; clock_ms() < until;) turn_again(until + LONG);
        cr_assert_eq(link_state(link_), LINK_UP);
        say_bytes(text + i, 1);
    }
    expect_items(&answers[0], "abc\n");
}

/* With nothing outstanding no clock runs; the clock of a request begins when it is asked. */
Test(link, idle_for_longer_than_the_timeout)
{
    open_up(SHORT);
    for (int64_t until = clock_ms() + 2 * SHORT; clock_ms() < until;) turn_again(until + LONG);
    cr_assert_eq(link_state(link_), LINK_UP);
    ask_range(&answers[0], "a", 0, 0, 0);
    turn();
    cr_assert_eq(link_state(link_), LINK_UP);
    say("*1\r\n$1\r\nx\r\n");
    expect_items(&answers[0], "x\n");
    answers[0] = (struct answer){0};
    answer_count = 0;
    for (int64_t until = clock_ms() + 2 * SHORT; clock_ms() < until;) turn_again(until + LONG);
    ask_range(&answers[0], "a", 0, 0, 0);
    expect_down(FAULT_TIMEOUT, "no answer", 1);
}

Test(link, freed_while_requests_are_out)
{
    open_up(LONG);
    ask_three();
    link_free(link_);
    link_ = NULL;
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(answers[i].times, 1);
        cr_assert_null(answers[i].reply);
    }
    open_link(LONG);
    ask_range(&answers[3], "a", 0, 0, 0);
    link_free(link_);
    link_ = NULL;
    cr_assert_eq(answers[3].times, 1);
    link_free(NULL);
}

/* A peer that does not read: asking goes on without waiting, and what was asked arrives once it does. */
Test(link, a_peer_that_does_not_read)
{
    enum { N = 500 };
    open_up(LONG);
    char *key = mem_alloc(4001);
    memset(key, 'k', 4000);
    key[4000] = '\0';
    for (size_t i = 0; i < N; i++) ask_range(&answers[i], key, i, i, 0);
    turn();
    char *words = mem_alloc(4100);
    for (size_t i = 0; i < N; i++) {
        snprintf(words, 4100, "LRANGE %s %zu %zu", key, i, i);
        expect_command(words);
    }
    for (size_t i = 0; i < N; i++) say("*0\r\n");
    for (size_t i = 0; i < N; i++) expect_items(&answers[i], "");
    free(words);
    free(key);
}

/* ---- addresses */

/* Instead of the C library's: three.test has an address that fails at once, one where nobody listens, and 127.0.0.1; all
 * other names are numbers, which hiredis asks about. */
enum { ADDRESSES = 3 };
static struct sockaddr_in found[ADDRESSES];
static struct addrinfo answer_of[ADDRESSES];

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    static const char *const three[ADDRESSES] = {"255.255.255.255", "127.0.0.2", "127.0.0.1"};
    (void)hints;
    bool is_name = strcmp(node, "three.test") == 0;
    for (int i = 0; i < ADDRESSES; i++) {
        found[i] = (struct sockaddr_in){.sin_family = AF_INET};
        found[i].sin_port = service ? htons((uint16_t)strtoul(service, NULL, 10)) : 0;
        if (inet_pton(AF_INET, is_name ? three[i] : node, &found[i].sin_addr) != 1) return EAI_NONAME;
        answer_of[i] = (struct addrinfo){
            .ai_family = AF_INET,
            .ai_socktype = SOCK_STREAM,
            .ai_addr = (struct sockaddr *)&found[i],
            .ai_addrlen = sizeof found[i],
            .ai_next = is_name && i + 1 < ADDRESSES ? &answer_of[i + 1] : NULL,
        };
    }
    *out = answer_of;
    return 0;
}

void freeaddrinfo(struct addrinfo *all) { (void)all; }

Test(link, tries_every_address)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert_eq(bind(tcp, (struct sockaddr *)&a, len), 0);
    cr_assert_eq(listen(tcp, 8), 0);
    cr_assert_eq(getsockname(tcp, (struct sockaddr *)&a, &len), 0);
    dup2(tcp, listener);
    close(tcp);
    char url[64];
    snprintf(url, sizeof url, "redis://three.test:%d", ntohs(a.sin_port));
    fine(endpoint_set_url(endpoint, url));
    fine(endpoint_resolve(endpoint));
    cr_assert_eq(endpoint_addresses(endpoint), ADDRESSES);
    link_ = link_new(base, endpoint, "unit", '\n', LONG);
    accept_it();
    say("+OK\r\n");
    turn_until_state(LINK_UP);
    close(listener);
    link_free(link_);
    link_ = link_new(base, endpoint, "unit", '\n', LONG);
    turn_until_state(LINK_DOWN);
    struct fault *f = link_take_fault(link_);
    cr_assert(fault_is(f, FAULT_UNREACHABLE), "%s", fault_message(f));
    fault_free(f);
}

/* ---- a real server */

Test(link, a_real_server)
{
    private_redis_start(NULL);
    for (int i = 0; i < 1000; i++) redis_do("RPUSH list %d", i);
    redis_do("SET string x");
    fine(endpoint_set_url(endpoint, private_redis_url()));
    fine(endpoint_resolve(endpoint));
    link_ = link_new(base, endpoint, "unit", '\n', LONG);
    for (size_t i = 0; i < 100; i++) ask_range(&answers[i], "list", i * 10, i * 10 + 9, 3);
    ask_range(&answers[100], "none", 0, 9, 3);
    ask_range(&answers[101], "string", 0, 9, 3);
    ask_range(&answers[102], "list", 999, 999, 3);
    for (size_t i = 0; i < 100; i++) {
        struct buf want = {0};
        for (size_t j = 0; j < 10; j++) buf_printf(&want, "%zu\n", i * 10 + j);
        expect_items(&answers[i], buf_text(&want));
        buf_free(&want);
    }
    expect_items(&answers[100], "");
    expect_items(&answers[102], "999\n");
    const redisReply *wrong = answers[101].reply;
    cr_assert_eq(wrong->type, REDIS_REPLY_ERROR);
    decoded_free(answers[101].reply);
    cr_assert_not_null(strstr(redis_text("CLIENT LIST"), " name=unit "));
    private_redis_end();
    turn_until_state(LINK_DOWN);
}
