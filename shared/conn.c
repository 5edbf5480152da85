/*
 * What is to be sent stands in a buffer of the conn's own, not in hiredis's: that one moves the rest to its front after
 * every write, which for a pipeline of megabytes costs more than sending it. Only the greetings, and under TLS everything
 * (in chunks), go through hiredis. Reading is by 256 KB at a time where no TLS is in between, 16 KB being hiredis's way.
 *
 * Waiting always sends and takes in at once: a server stops reading when nobody takes its replies.
 */
#include "shared/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shared/mem.h"
#include "shared/stop.h"

enum { READ_SIZE = 256 * 1024, READ_MOST = 4 * READ_SIZE, TLS_CHUNK = 64 * 1024 };
/* hiredis frees an emptied buffer larger than this; 0 (never) would keep the memory of one huge item for ever. */
enum { READER_KEEPS = 1024 * 1024 };
/* The elements one reply may have, nested ones too: a hostile count would cost its memory before an element is there. */
enum { ELEMENTS_MOST = 4 * 1024 * 1024 };
/* How deep arrays may stand in arrays: hiredis 0.14's own limit. 1.x has none, and frees replies by recursion. */
enum { NESTING_MOST = 7 };
/* What may stand unparsed: Redis's largest string, and what came with it. */
enum { UNPARSED_MOST = 512 * 1024 * 1024 + 2 * READ_MOST };
enum { WORDS_MAX = 64, ASKED_SHOWN = 96 };

/* The default reply functions with a bound on arrays; reader->privdata is this. */
struct bounds {
    redisReplyObjectFunctions fn;
    void *(*create_array)(const redisReadTask *, nwm_array_count);
    size_t elements; /* of the reply that is being read */
    bool refused;
};

struct conn {
    struct endpoint *endpoint;
    int64_t timeout_ms;
    bool ends_at_signal;
    redisContext *context;
    struct bounds bounds;
    char *scratch; /* READ_SIZE bytes */

    struct buf out; /* from `sent` on it is still to be sent */
    size_t sent;
    bool library_has_output; /* hiredis's own buffer holds some, which goes first */
    size_t outstanding;
    redisReply *next;        /* a reply that has come and was not asked for yet */
    char asked[ASKED_SHOWN]; /* the last command, for messages */

    /* Once set, nothing is read any more; what came before is still given out. */
    bool lost;
    int lost_errno;    /* 0: closed by the server */
    bool write_failed; /* its last words may still be read */
    bool loss_told;    /* a fault has said so */
    bool loading;      /* the server said that it still reads its data */
    bool more_to_read; /* the TLS library holds bytes that the descriptor does not show */
};

uint64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

int64_t clock_ms(void) { return (int64_t)(clock_us() / 1000); }

/* ---- replies ----------------------------------------------------------------------------------------------------- */

static void *bounded_array(const redisReadTask *task, nwm_array_count n)
{
    struct bounds *b = task->privdata;
    if (!task->parent) b->elements = 0;
    b->elements += (size_t)n;
    int depth = 1;
    for (const redisReadTask *t = task->parent; t; t = t->parent) depth++;
    b->refused = b->elements > ELEMENTS_MOST || depth > NESTING_MOST;
    return b->refused ? NULL : b->create_array(task, n);
}

static void bound_reader(struct conn *c)
{
    redisReader *reader = c->context->reader;
    c->bounds.fn = *reader->fn;
    c->bounds.create_array = reader->fn->createArray;
    c->bounds.fn.createArray = bounded_array;
    reader->fn = &c->bounds.fn;
    reader->privdata = &c->bounds;
    reader->maxbuf = READER_KEEPS;
}

static struct fault *no_redis(const struct conn *c, const char *why)
{
    return fault_new(FAULT_PROTOCOL, "%s does not speak as a Redis should: %s", endpoint_name(c->endpoint), why);
}

/* Parses the next reply, if all of it has come, into c->next. */
static struct fault *parse(struct conn *c)
{
    redisReader *reader = c->context->reader;
    if (reader->len - reader->pos > UNPARSED_MOST) return no_redis(c, "its reply does not end");
    if (c->next) return NULL;
    if (c->outstanding == 0) return reader->len > reader->pos ? no_redis(c, "it sent what nobody asked for") : NULL;
    void *reply = NULL;
    if (redisReaderGetReply(reader, &reply) != REDIS_OK)
        return no_redis(c, c->bounds.refused ? "its reply has too many elements, or nested too deep" : reader->errstr);
    c->next = reply;
    if (reply && c->next->type == REDIS_REPLY_ERROR && strncmp(c->next->str, "LOADING", 7) == 0) c->loading = true;
    return NULL;
}

/* ---- in and out -------------------------------------------------------------------------------------------------- */

static void lose(struct conn *c, int error)
{
    c->lost = true;
    c->lost_errno = error;
}

static struct fault *lost_fault(struct conn *c)
{
    c->loss_told = true;
    return c->context->err ? endpoint_context_fault(c->endpoint, c->context)
                           : endpoint_lost(c->endpoint, c->lost_errno);
}

/* One read; how many bytes came. */
static size_t read_plain(struct conn *c)
{
    ssize_t n = read(c->context->fd, c->scratch, READ_SIZE);
    if (n == 0) lose(c, 0);
    if (n < 0 && errno != EAGAIN && errno != EINTR) lose(c, errno);
    if (n <= 0) return 0;
    if (redisReaderFeed(c->context->reader, c->scratch, (size_t)n) != REDIS_OK) lose(c, ENOMEM);
    return (size_t)n;
}

/* Under TLS the library reads. */
static size_t read_by_library(struct conn *c)
{
    size_t before = c->context->reader->len;
    if (redisBufferRead(c->context) != REDIS_OK) lose(c, 0);
    return c->context->reader->len - before;
}

/* Takes in what has come, up to READ_MOST bytes. A short read says that there is no more for now; under TLS only an
 * empty one does. Returns whether anything came. */
static bool take_in(struct conn *c)
{
    bool tls = endpoint_uses_tls(c->endpoint);
    size_t total = 0, n = READ_SIZE;
    while (!c->lost && total < READ_MOST && n > 0 && (tls || n == READ_SIZE)) {
        n = tls ? read_by_library(c) : read_plain(c);
        total += n;
    }
    c->more_to_read = tls && n > 0 && !c->lost;
    return total > 0;
}

size_t conn_unsent(const struct conn *c) { return c->out.len - c->sent; }

static void fail_write(struct conn *c, int error)
{
    c->write_failed = true;
    c->lost_errno = error;
}

static void write_by_library(struct conn *c)
{
    int done = 0;
    if (redisBufferWrite(c->context, &done) != REDIS_OK)
        fail_write(c, 0);
    else if (done)
        c->library_has_output = false;
}

/* Bytes taken, 0 when there is no room. */
static size_t write_plain(struct conn *c, const char *data, size_t len)
{
    ssize_t n = send(c->context->fd, data, len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) fail_write(c, errno);
    return n > 0 ? (size_t)n : 0;
}

static size_t write_chunk(struct conn *c, const char *data, size_t len)
{
    size_t chunk = len < TLS_CHUNK ? len : TLS_CHUNK;
    if (redisAppendFormattedCommand(c->context, data, chunk) != REDIS_OK) {
        fail_write(c, 0);
        return 0;
    }
    c->library_has_output = true;
    write_by_library(c);
    return chunk;
}

static bool has_output(const struct conn *c)
{
    return !c->write_failed && (c->library_has_output || conn_unsent(c) > 0);
}

/* Sends what can be sent without waiting; returns whether anything was. */
static bool send_out(struct conn *c)
{
    bool tls = endpoint_uses_tls(c->endpoint), any = false;
    if (c->library_has_output && !c->write_failed) write_by_library(c);
    while (conn_unsent(c) > 0 && !c->library_has_output && !c->write_failed) {
        const char *from = c->out.data + c->sent;
        size_t n = tls ? write_chunk(c, from, conn_unsent(c)) : write_plain(c, from, conn_unsent(c));
        if (n == 0) break;
        c->sent += n;
        any = true;
    }
    if (conn_unsent(c) == 0) c->sent = c->out.len = 0;
    return any;
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static struct fault *silence(const struct conn *c)
{
    const char *name = endpoint_name(c->endpoint);
    double s = (double)c->timeout_ms / 1000;
    if (conn_unsent(c) > 0)
        return fault_new(FAULT_TIMEOUT, "%s takes nothing of what is sent, for %g s (--timeout), last %s", name, s,
                         c->asked);
    return fault_new(FAULT_TIMEOUT, "no answer from %s for %g s (--timeout), to %s", name, s, c->asked);
}

/* Waits for any of these events of the connection; *came is false when the deadline passed. */
static struct fault *wait_for(const struct conn *c, short events, int64_t deadline, bool *came)
{
    for (;;) {
        int64_t left = deadline - clock_ms();
        if (left < 0) left = 0;
        if (left > INT32_MAX) left = INT32_MAX;
        struct pollfd fds[] = {{.fd = c->context->fd, .events = events},
                               {.fd = c->ends_at_signal ? stop_fd() : -1, .events = POLLIN}};
        int n = poll(fds, 2, (int)left);
        if (n > 0 && fds[1].revents)
            return fault_new(FAULT_INTERRUPTED, "interrupted while waiting for %s", endpoint_name(c->endpoint));
        if (n < 0 && errno != EINTR) return endpoint_lost(c->endpoint, errno);
        *came = n > 0;
        if (n > 0 || (n == 0 && left == 0)) return NULL;
    }
}

/* One wait, and what came of it. The deadline moves on with every byte that goes either way. */
static struct fault *wait_and_move(struct conn *c, int64_t *deadline)
{
    bool came;
    short events = endpoint_waits_for(c->context, has_output(c));
    struct fault *f = wait_for(c, events, c->more_to_read ? 0 : *deadline, &came);
    if (f) return f;
    came = came || c->more_to_read;
    bool moved = came && send_out(c);
    if (came && take_in(c)) moved = true;
    if (moved) *deadline = clock_ms() + c->timeout_ms;
    return came ? NULL : silence(c);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static struct fault *no_connection(const struct conn *c)
{
    return fault_new(FAULT_TIMEOUT, "no connection to %s within %g s (--timeout); is there a firewall between?",
                     endpoint_name(c->endpoint), (double)c->timeout_ms / 1000);
}

static void drop_context(struct conn *c)
{
    if (c->context) redisFree(c->context);
    c->context = NULL;
}

static struct fault *try_address(struct conn *c, size_t which, int64_t deadline)
{
    struct fault *f = endpoint_connect(c->endpoint, which, &c->context);
    if (f) return f;
    bool came = false;
    f = wait_for(c, POLLOUT, deadline, &came);
    if (!f) f = came ? endpoint_connected(c->endpoint, c->context) : no_connection(c);
    if (f) drop_context(c);
    return f;
}

/* Each address gets its share of the time that is left. */
static struct fault *connect_any(struct conn *c)
{
    struct fault *f = endpoint_resolve(c->endpoint);
    if (f) return f;
    int64_t end = clock_ms() + c->timeout_ms;
    size_t n = endpoint_addresses(c->endpoint);
    for (size_t i = 0; i < n; i++) {
        fault_free(f);
        int64_t now = clock_ms();
        f = try_address(c, i, now + (end - now) / (int64_t)(n - i));
        if (!f || fault_is(f, FAULT_INTERRUPTED)) return f;
    }
    return f;
}

struct fault *conn_greet(struct conn *c, const char *client_name)
{
    size_t n = endpoint_greet(c->endpoint, c->context, client_name);
    c->outstanding = n;
    c->library_has_output = n > 0;
    snprintf(c->asked, sizeof c->asked, "the login");
    struct fault *f = NULL;
    for (size_t i = 0; i < n && !f; i++) {
        redisReply *reply;
        f = conn_reply(c, &reply);
        if (f) return fault_frame(f, "log in to %s", endpoint_name(c->endpoint));
        f = endpoint_greeted(c->endpoint, i, reply);
        freeReplyObject(reply);
    }
    return f;
}

static struct fault *connect_to(struct endpoint *e, int64_t timeout_ms, bool ends_at_signal, struct conn **out)
{
    struct conn *c = mem_zalloc(sizeof *c);
    *out = NULL;
    c->endpoint = e;
    c->timeout_ms = timeout_ms;
    c->ends_at_signal = ends_at_signal;
    struct fault *f = connect_any(c);
    if (f) {
        conn_close(c);
        return f;
    }
    c->scratch = mem_alloc(READ_SIZE);
    bound_reader(c);
    *out = c;
    return NULL;
}

struct fault *conn_connect(struct endpoint *e, int64_t timeout_ms, struct conn **out)
{
    return connect_to(e, timeout_ms, true, out);
}

static struct fault *open_to(struct endpoint *e, const char *client_name, int64_t timeout_ms, bool ends_at_signal,
                             struct conn **out)
{
    struct fault *f = connect_to(e, timeout_ms, ends_at_signal, out);
    if (!f) f = conn_greet(*out, client_name);
    if (!f || !*out) return f;
    conn_close(*out);
    *out = NULL;
    return f;
}

struct fault *conn_open(struct endpoint *e, const char *client_name, int64_t timeout_ms, struct conn **out)
{
    return open_to(e, client_name, timeout_ms, true, out);
}

struct fault *conn_open_at_end(struct endpoint *e, const char *client_name, int64_t timeout_ms, struct conn **out)
{
    return open_to(e, client_name, timeout_ms, false, out);
}

void conn_close(struct conn *c)
{
    if (!c) return;
    if (c->next) freeReplyObject(c->next);
    drop_context(c);
    buf_free(&c->out);
    free(c->scratch);
    free(c);
}

void conn_set_timeout(struct conn *c, int64_t timeout_ms, bool ends_at_signal)
{
    c->timeout_ms = timeout_ms;
    c->ends_at_signal = ends_at_signal;
}

bool conn_is_lost(const struct conn *c) { return c->loss_told || c->loading; }
const struct endpoint *conn_endpoint(const struct conn *c) { return c->endpoint; }
size_t conn_outstanding(const struct conn *c) { return c->outstanding; }
int conn_fd(const struct conn *c) { return c->context->fd; }

/* ---- asking ------------------------------------------------------------------------------------------------------ */

static size_t length(const char *const argv[], const size_t *lens, size_t i)
{
    return lens ? lens[i] : strlen(argv[i]);
}

/* The command and its key, for messages; the rest may be data. */
static char *describe(size_t argc, const char *const argv[], const size_t *lens)
{
    struct buf b = {0};
    for (size_t i = 0; i < argc && i < 2 && (i == 0 || strcasecmp(argv[0], "AUTH") != 0); i++) {
        size_t len = length(argv, lens, i);
        if (i) buf_append(&b, " ", 1);
        buf_escape(&b, argv[i], len < ASKED_SHOWN ? len : ASKED_SHOWN);
    }
    buf_text(&b);
    return b.data;
}

/* What was sent makes room before the buffer grows. */
static struct buf *room(struct conn *c)
{
    if (c->sent > 0 && c->sent >= conn_unsent(c)) {
        memmove(c->out.data, c->out.data + c->sent, conn_unsent(c));
        c->out.len = conn_unsent(c);
        c->sent = 0;
    }
    return &c->out;
}

void conn_append(struct conn *c, size_t argc, const char *const argv[], const size_t *lens)
{
    struct buf *out = room(c);
    buf_printf(out, "*%zu\r\n", argc);
    for (size_t i = 0; i < argc; i++) {
        size_t len = length(argv, lens, i);
        buf_printf(out, "$%zu\r\n", len);
        buf_append(out, argv[i], len);
        buf_append(out, "\r\n", 2);
    }
    c->outstanding++;
    char *text = describe(argc, argv, lens);
    snprintf(c->asked, sizeof c->asked, "%s", text);
    free(text);
}

static size_t gather(const char *argv[WORDS_MAX], va_list words)
{
    size_t n = 0;
    for (const char *word; n < WORDS_MAX && (word = va_arg(words, const char *));) argv[n++] = word;
    return n;
}

void conn_append_words(struct conn *c, ...)
{
    const char *argv[WORDS_MAX];
    va_list words;
    va_start(words, c);
    size_t argc = gather(argv, words);
    va_end(words);
    conn_append(c, argc, argv, NULL);
}

void conn_append_raw(struct conn *c, const char *data, size_t len, size_t replies)
{
    buf_append(room(c), data, len);
    c->outstanding += replies;
    snprintf(c->asked, sizeof c->asked, "a batch of commands");
}

struct fault *conn_pump(struct conn *c, bool *ready)
{
    *ready = false;
    send_out(c);
    struct fault *f = parse(c);
    if (!f && !c->next) {
        take_in(c);
        f = parse(c);
    }
    *ready = c->next != NULL;
    if (f || c->next || !(c->lost || c->write_failed)) return f;
    return lost_fault(c);
}

/* After a failed write only what the server had said before is left to read. */
struct fault *conn_reply(struct conn *c, redisReply **reply)
{
    *reply = NULL;
    int64_t deadline = clock_ms() + c->timeout_ms;
    send_out(c);
    for (;;) {
        struct fault *f = parse(c);
        if (f) return f;
        if (c->next) break;
        if (c->lost) return lost_fault(c);
        f = wait_and_move(c, &deadline);
        if (f) return f;
    }
    *reply = c->next;
    c->next = NULL;
    c->outstanding--;
    return NULL;
}

/* What arrives waits in the reader for conn_reply(). */
struct fault *conn_flush(struct conn *c, size_t most)
{
    int64_t deadline = clock_ms() + c->timeout_ms;
    send_out(c);
    while (conn_unsent(c) > most) {
        if (c->lost || c->write_failed) return lost_fault(c);
        struct fault *f = wait_and_move(c, &deadline);
        if (!f) f = parse(c);
        if (f) return f;
    }
    return NULL;
}

struct fault *conn_call(struct conn *c, redisReply **reply, size_t argc, const char *const argv[], const size_t *lens)
{
    conn_append(c, argc, argv, lens);
    struct fault *f = conn_reply(c, reply);
    if (f) return f;
    char *doing = describe(argc, argv, lens);
    f = reply_fault(*reply, doing);
    free(doing);
    if (!f) return NULL;
    freeReplyObject(*reply);
    *reply = NULL;
    return f;
}

struct fault *conn_ask(struct conn *c, redisReply **reply, ...)
{
    const char *argv[WORDS_MAX];
    va_list words;
    va_start(words, reply);
    size_t argc = gather(argv, words);
    va_end(words);
    return conn_call(c, reply, argc, argv, NULL);
}
