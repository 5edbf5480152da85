#include "merger/control.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared/backoff.h"
#include "shared/log.h"
#include "shared/mem.h"
#include "shared/stop.h"

struct control {
    struct endpoint *endpoint;
    const char *client_name;
    int64_t timeout_ms, patience_ms;
    struct conn *conn; /* NULL: lost */
    bool proven;       /* it has answered a question: losing it says nothing about the server */
    bool watches;
};

struct fault *control_open(struct endpoint *e, const char *client_name, int64_t timeout_ms, int64_t patience_ms,
                           struct control **out)
{
    struct control *c = mem_zalloc(sizeof *c);
    *out = c;
    c->endpoint = e;
    c->client_name = client_name;
    c->timeout_ms = timeout_ms;
    c->patience_ms = patience_ms;
    return conn_open(e, client_name, timeout_ms, &c->conn);
}

void control_close(struct control *c)
{
    if (!c) return;
    conn_close(c->conn);
    free(c);
}

void control_watches(struct control *c) { c->watches = true; }

/* Takes the fault. */
static struct fault *watch_lost(const struct control *c, struct fault *fault)
{
    struct fault *lost =
        fault_new(FAULT_LOST,
                  "the connection that watched the lists of --list is gone (%s): nothing can prove that "
                  "they stayed as they were; merge them again",
                  fault_message(fault));
    fault_free(fault);
    return fault_frame(lost, "watch lists on %s", endpoint_name(c->endpoint));
}

/* After a fault that may pass: what was under way on this connection is not worth keeping. Takes the fault and returns what it is now. */
static struct fault *lose(struct control *c, struct fault *fault)
{
    if (c->watches) return watch_lost(c, fault);
    conn_close(c->conn);
    c->conn = NULL;
    c->proven = false;
    return fault;
}

/* One try on the connection there is, or on a new one. */
static struct fault *try_once(struct control *c, control_question *ask, void *context)
{
    struct fault *fault = c->conn ? NULL : conn_open(c->endpoint, c->client_name, c->timeout_ms, &c->conn);
    if (!fault) fault = ask(c->conn, context);
    if (!fault) c->proven = true;
    return fault && fault_may_pass(fault) ? lose(c, fault) : fault;
}

struct fault *control_ask_now(struct control *c, control_question *ask, void *context)
{
    bool was_proven = c->proven;
    struct fault *fault = try_once(c, ask, context);
    if (!fault || !fault_may_pass(fault) || !was_proven) return fault;
    log_detail("%s; asking again", fault_message(fault));
    fault_free(fault);
    return try_once(c, ask, context);
}

static struct fault *wait_ms(const struct control *c, int64_t ms)
{
    struct pollfd stop = {.fd = stop_fd(), .events = POLLIN};
    if (!stop_signal()) poll(&stop, 1, (int)ms);
    return stop_signal() ? fault_new(FAULT_INTERRUPTED, "interrupted while waiting for %s", endpoint_name(c->endpoint))
                         : NULL;
}

static struct fault *gave_up(const struct control *c, const struct backoff *b, const struct fault *last)
{
    return fault_new(FAULT_UNREACHABLE,
                     "%s; nothing more came from %s for %.3g s (--timeout %g s), asking again %u times",
                     fault_message(last), endpoint_name(c->endpoint), (double)backoff_tried_ms(b, clock_ms()) / 1000,
                     (double)c->timeout_ms / 1000, b->tries - 1);
}

struct fault *control_ask(struct control *c, control_question *ask, void *context)
{
    struct backoff b = backoff_start(c->patience_ms, clock_us() * (uint64_t)getpid());
    for (;;) {
        struct fault *fault = control_ask_now(c, ask, context);
        int64_t wait;
        if (!fault || !fault_may_pass(fault) || c->patience_ms == 0) return fault;
        if (!backoff_next(&b, clock_ms(), &wait)) {
            struct fault *last = gave_up(c, &b, fault);
            fault_free(fault);
            return last;
        }
        log_detail("%s; asking again in %" PRId64 " ms", fault_message(fault), wait);
        fault_free(fault);
        fault = wait_ms(c, wait);
        if (fault) return fault;
    }
}
