#include "merger/link.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "shared/conn.h"
#include "shared/log.h"
#include "shared/mem.h"

/* How much one readable event takes in before the merge gets its turn. The kernel's socket buffer holds about 200 KB: reading
 * all of it at once leaves the server room to go on. */
enum { READ_SIZE = 256 * 1024 };

struct request {
    link_reply_fn *fn;
    void *owner;
    struct expectation reply;
};

struct link {
    struct event_base *base;
    const struct endpoint *endpoint;
    char *client_name;
    char separator;
    int64_t timeout_ms;

    enum link_state state;
    struct fault *fault;
    size_t address; /* which of the endpoint's addresses is being tried */
    redisContext *context;
    struct decoder *decoder;
    struct event *readable, *writable, *silence;
    size_t greetings, greeted; /* replies of the handshake: all, and those that came */
    uint64_t greeted_at_us, rtt_us;
    struct buf early; /* commands asked for before the connection stood */

    struct request *requests; /* a ring: oldest at head */
    size_t head, count, capacity;
    size_t weight;     /* of all requests in the ring */
    bool unsent;       /* something was queued since link_flush() */
    uint64_t answered; /* ranges, with items */
    int64_t
        waiting_since; /* clock_ms() of the first request of those that are out, or of the last answer; 0: none is out */
    bool held;         /* the output is the slow side: silence means nothing */
    bool waits_for_input; /* what is to be sent waits for the server's part of a TLS handshake */
    char *scratch;        /* READ_SIZE bytes */
    uint64_t reading_us;
};

static void start_connect(struct link *l);

/* ---- the FIFO of requests ---------------------------------------------------------------------------------------- */

static void push_request(struct link *l, struct request r)
{
    if (l->count == l->capacity) {
        size_t bigger = l->capacity ? 2 * l->capacity : 16;
        struct request *ring = mem_array(NULL, bigger, sizeof *ring);
        for (size_t i = 0; i < l->count; i++) ring[i] = l->requests[(l->head + i) % l->capacity];
        free(l->requests);
        l->requests = ring;
        l->capacity = bigger;
        l->head = 0;
    }
    l->requests[(l->head + l->count++) % l->capacity] = r;
    l->weight += r.reply.memory_most;
}

static struct request pop_request(struct link *l)
{
    struct request r = l->requests[l->head];
    l->head = (l->head + 1) % l->capacity;
    l->count--;
    l->weight -= r.reply.memory_most;
    return r;
}

/* ---- coming and going -------------------------------------------------------------------------------------------- */

static void drop_context(struct link *l)
{
    if (l->readable) event_free(l->readable);
    if (l->writable) event_free(l->writable);
    l->readable = l->writable = NULL;
    if (l->context) redisFree(l->context);
    l->context = NULL;
    decoder_free(l->decoder);
    l->decoder = NULL;
}

/* The one way down. Takes the fault. */
static void go_down(struct link *l, struct fault *fault)
{
    if (l->state == LINK_DOWN) {
        fault_free(fault);
        return;
    }
    l->state = LINK_DOWN;
    l->fault = fault;
    drop_context(l);
    evtimer_del(l->silence);
    while (l->count > 0) {
        struct request r = pop_request(l);
        r.fn(r.owner, NULL);
    }
}

static void restart_silence(struct link *l)
{
    struct timeval tv = {l->timeout_ms / 1000, (l->timeout_ms % 1000) * 1000};
    evtimer_add(l->silence, &tv);
}

static void on_silence(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct link *l = arg;
    if (l->held) {
        restart_silence(l);
        return;
    }
    const char *name = endpoint_name(l->endpoint);
    double seconds = (double)l->timeout_ms / 1000;
    if (l->state == LINK_CONNECTING) {
        go_down(l, fault_new(FAULT_TIMEOUT, "no connection to %s within %g s (--timeout)", name, seconds));
    } else if (l->count > 0) {
        go_down(l, fault_new(FAULT_TIMEOUT, "no answer from %s for %g s (--timeout), %zu requests outstanding", name,
                             seconds, l->count));
    }
}

/* ---- replies ----------------------------------------------------------------------------------------------------- */

static void expect_next(struct link *l)
{
    static const struct expectation a_line = {.want = 0};
    decoder_expect(l->decoder, l->greeted < l->greetings ? &a_line : &l->requests[l->head].reply);
}

static void take_greeting(struct link *l, void *reply)
{
    if (l->greeted == 0) l->rtt_us = clock_us() - l->greeted_at_us;
    struct fault *fault = decoded_is_batch(reply) ? fault_new(FAULT_PROTOCOL, "%s answered a greeting with a list",
                                                              endpoint_name(l->endpoint))
                                                  : endpoint_greeted(l->endpoint, l->greeted++, reply);
    decoded_free(reply);
    if (fault) {
        go_down(l, fault);
    } else if (l->greeted == l->greetings) {
        l->state = LINK_UP;
    }
}

static void take_reply(struct link *l, void *reply)
{
    if (l->greeted < l->greetings) {
        take_greeting(l, reply);
    } else {
        struct request r = pop_request(l);
        if (decoded_is_batch(reply)) l->answered++;
        l->waiting_since = l->count > 0 ? clock_ms() : 0;
        r.fn(r.owner, reply);
    }
}

/* A link with nothing outstanding hears nothing, unless the peer speaks out of turn. */
static bool expects_something(const struct link *l) { return l->greeted < l->greetings || l->count > 0; }

static struct fault *refusal_fault(const struct link *l)
{
    const char *name = endpoint_name(l->endpoint);
    if (decoder_item_too_large(l->decoder))
        return fault_new(FAULT_CHANGED, "%s sends an item larger than its manifest says any is", name);
    return fault_new(FAULT_PROTOCOL, "%s does not speak as a Redis should: %s", name, decoder_refusal(l->decoder));
}

static void take_bytes(struct link *l, const char *data, size_t len)
{
    while (len > 0 && l->state != LINK_DOWN) {
        if (!expects_something(l)) {
            go_down(l, fault_new(FAULT_PROTOCOL, "%s sent what was not asked for", endpoint_name(l->endpoint)));
            return;
        }
        expect_next(l);
        void *reply;
        size_t taken = decoder_feed(l->decoder, data, len, &reply);
        data += taken;
        len -= taken;
        if (reply) {
            take_reply(l, reply);
        } else if (decoder_refusal(l->decoder)) {
            go_down(l, refusal_fault(l));
        }
    }
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static void write_out(struct link *l)
{
    int done = 0;
    if (redisBufferWrite(l->context, &done) != REDIS_OK) {
        go_down(l, endpoint_context_fault(l->endpoint, l->context));
        return;
    }
    bool waits_for_room = !done && (endpoint_waits_for(l->context, true) & POLLOUT);
    l->waits_for_input = !done && !waits_for_room;
    if (waits_for_room) {
        event_add(l->writable, NULL);
    } else {
        event_del(l->writable);
    }
}

/* One readable event, one large read. Under TLS a read brings one record at most, so there are several; what the library
 * holds beyond that is read as well, for the descriptor will not become readable for it. */
static void read_in(struct link *l)
{
    ssize_t n;
    size_t total = 0;
    do {
        n = redis_read(l->context, l->scratch, READ_SIZE);
        if (n < 0) {
            go_down(l, endpoint_context_fault(l->endpoint, l->context));
            return;
        }
        total += (size_t)n;
        take_bytes(l, l->scratch, (size_t)n);
    } while (n > 0 && l->state != LINK_DOWN && endpoint_uses_tls(l->endpoint) &&
             (total < READ_SIZE || endpoint_holds_input(l->context)));
    if (total > 0 && l->state != LINK_DOWN) restart_silence(l);
    if (l->waits_for_input && l->state != LINK_DOWN) write_out(l);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct link *l = arg;
    uint64_t begun_us = clock_us();
    read_in(l);
    l->reading_us += clock_us() - begun_us;
}

/* An address failed: is there another to try? Takes the fault. */
static bool has_next_address(struct link *l, struct fault *fault)
{
    if (l->address + 1 >= endpoint_addresses(l->endpoint)) {
        go_down(l, fault);
        return false;
    }
    log_detail("%s; trying the next address", fault_message(fault));
    fault_free(fault);
    l->address++;
    return true;
}

static void on_connected(struct link *l)
{
    struct fault *fault = endpoint_connected(l->endpoint, l->context);
    if (fault) {
        if (!has_next_address(l, fault)) return;
        drop_context(l);
        start_connect(l);
        return;
    }
    l->greetings = endpoint_greet(l->endpoint, l->context, l->client_name);
    if (l->greetings == 0) l->state = LINK_UP;
    if (l->early.len > 0) redisAppendFormattedCommand(l->context, l->early.data, l->early.len);
    buf_free(&l->early);
    event_add(l->readable, NULL);
    l->greeted_at_us = clock_us();
    write_out(l);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct link *l = arg;
    if (l->greetings == 0 && l->state == LINK_CONNECTING) {
        on_connected(l);
    } else {
        write_out(l);
    }
}

static void start_connect(struct link *l)
{
    for (struct fault *fault; (fault = endpoint_connect(l->endpoint, l->address, &l->context)) != NULL;)
        if (!has_next_address(l, fault)) return;
    l->decoder = decoder_new(l->separator);
    l->readable = event_new(l->base, l->context->fd, EV_READ | EV_PERSIST, on_readable, l);
    l->writable = event_new(l->base, l->context->fd, EV_WRITE | EV_PERSIST, on_writable, l);
    event_add(l->writable, NULL);
}

/* ---- the verbs --------------------------------------------------------------------------------------------------- */

struct link *link_new(struct event_base *base, const struct endpoint *e, const char *client_name, char separator,
                      int64_t timeout_ms)
{
    struct link *l = mem_zalloc(sizeof *l);
    l->base = base;
    l->endpoint = e;
    l->client_name = mem_strdup(client_name);
    l->separator = separator;
    l->timeout_ms = timeout_ms;
    l->scratch = mem_alloc(READ_SIZE);
    l->silence = evtimer_new(base, on_silence, l);
    restart_silence(l);
    start_connect(l);
    return l;
}

void link_free(struct link *l)
{
    if (!l) return;
    go_down(l, NULL);
    event_free(l->silence);
    fault_free(l->fault);
    buf_free(&l->early);
    free(l->requests);
    free(l->client_name);
    free(l->scratch);
    free(l);
}

enum link_state link_state(const struct link *l) { return l->state; }
const struct endpoint *link_endpoint(const struct link *l) { return l->endpoint; }
uint64_t link_rtt_us(const struct link *l) { return l->rtt_us; }
uint64_t link_answered(const struct link *l) { return l->answered; }
uint64_t link_reading_us(const struct link *l) { return l->reading_us; }
int64_t link_waiting_since(const struct link *l) { return l->waiting_since; }
void link_break(struct link *l, struct fault *fault) { go_down(l, fault); }
size_t link_outstanding(const struct link *l) { return l->count; }
size_t link_outstanding_bytes(const struct link *l) { return l->weight; }

/* When the output goes on, the server's time begins anew. */
void link_hold(struct link *l, bool held)
{
    if (l->held && !held && l->state != LINK_DOWN) restart_silence(l);
    l->held = held;
}

struct fault *link_take_fault(struct link *l)
{
    struct fault *fault = l->fault;
    l->fault = NULL;
    return fault;
}

static bool connection_stands(const struct link *l) { return l->state == LINK_UP || l->greetings > 0; }

void link_ask_range(struct link *l, const char *key, int64_t first, int64_t last, const struct expectation *reply,
                    link_reply_fn *fn, void *owner)
{
    if (l->state == LINK_DOWN) return;
    char from[24], to[24];
    snprintf(from, sizeof from, "%" PRId64, first);
    snprintf(to, sizeof to, "%" PRId64, last);
    const char *argv[] = {"LRANGE", key, from, to};
    const size_t lens[] = {6, strlen(key), strlen(from), strlen(to)};
    if (connection_stands(l)) {
        if (redisAppendCommandArgv(l->context, 4, argv, lens) != REDIS_OK) {
            go_down(l, endpoint_context_fault(l->endpoint, l->context));
            return;
        }
    } else {
        char *text;
        int len = redisFormatCommandArgv(&text, 4, argv, lens);
        buf_append(&l->early, text, (size_t)len);
        redisFreeCommand(text);
    }
    if (l->count == 0) {
        restart_silence(l);
        l->waiting_since = clock_ms();
    }
    push_request(l, (struct request){fn, owner, *reply});
    l->unsent = true;
}

void link_flush(struct link *l)
{
    if (!l->unsent || l->state == LINK_DOWN || !connection_stands(l)) return;
    l->unsent = false;
    write_out(l);
}
