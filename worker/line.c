#include "worker/line.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/backoff.h"
#include "shared/log.h"
#include "shared/mem.h"
#include "shared/stop.h"

/* What the last try has at least, which begins when the time is over. */
enum { TRY_LEAST_MS = 1000 };

struct line {
    struct endpoint *endpoint;
    char *client_name;
    struct conn *conn;
    struct backoff backoff;
    bool greeted, settled;
};

struct fault *line_open(struct endpoint *e, const char *client_name, int64_t timeout_ms, struct line **out)
{
    struct conn *conn;
    struct fault *f = conn_connect(e, timeout_ms, &conn);
    if (f) return f;
    struct line *l = mem_zalloc(sizeof *l);
    l->endpoint = e;
    l->client_name = mem_strdup(client_name);
    l->conn = conn;
    l->backoff = backoff_start(timeout_ms, clock_us() ^ (uint64_t)getpid() << 32);
    *out = l;
    return NULL;
}

static void hang_up(struct line *l)
{
    if (l->conn) conn_close(l->conn);
    l->conn = NULL;
}

void line_close(struct line *l)
{
    if (!l) return;
    hang_up(l);
    free(l->client_name);
    free(l);
}

struct fault *line_greet(struct line *l)
{
    struct fault *f = conn_greet(l->conn, l->client_name);
    if (!f) l->greeted = true;
    return f;
}

struct conn *line_conn(const struct line *l) { return l->conn; }
void line_settled(struct line *l) { l->settled = true; }

void line_progress(struct line *l) { backoff_progress(&l->backoff); }
void line_allow(struct line *l) { conn_set_timeout(l->conn, l->backoff.timeout_ms, true); }

double line_outage_s(const struct line *l) { return (double)backoff_tried_ms(&l->backoff, clock_ms()) / 1000; }

/* A handshake of TLS that fails the first time is no accident: certificates do not get better. */
bool line_may_return(const struct line *l, const struct fault *f)
{
    if (!l->greeted && endpoint_uses_tls(l->endpoint)) return false;
    return fault_is(f, FAULT_UNREACHABLE) && (l->settled || (l->conn && conn_is_lost(l->conn)));
}

bool line_is_dead(struct line *l)
{
    if (!l->conn) return true;
    bool ready = true;
    struct fault *f = NULL;
    while (!f && (f = conn_pump(l->conn, &ready)) == NULL && ready) {
        redisReply *reply;
        f = conn_reply(l->conn, &reply);
        if (!f) freeReplyObject(reply);
    }
    fault_free(f);
    return conn_is_lost(l->conn);
}

/* ---- again ---- */

static struct fault *pause_for(int64_t ms, const struct line *l)
{
    struct pollfd stop = {.fd = stop_fd(), .events = POLLIN};
    int64_t until = clock_ms() + ms;
    for (int64_t left = ms; left > 0; left = until - clock_ms())
        if (poll(&stop, 1, (int)left) > 0)
            return fault_new(FAULT_INTERRUPTED, "interrupted while waiting for %s", endpoint_name(l->endpoint));
    return NULL;
}

/* A try has what is left of the time. */
static struct fault *connect_anew(struct line *l)
{
    int64_t left = backoff_left_ms(&l->backoff, clock_ms());
    endpoint_forget_addresses(l->endpoint);
    struct fault *f = conn_connect(l->endpoint, left > TRY_LEAST_MS ? left : TRY_LEAST_MS, &l->conn);
    if (!f) f = line_greet(l);
    if (f) hang_up(l);
    return f;
}

static struct fault *give_up(const struct line *l, struct fault *why)
{
    return fault_frame(why, "try to go on with %s for %.1f s (--timeout), %u times", endpoint_name(l->endpoint),
                       line_outage_s(l), l->backoff.tries);
}

static bool passes(const struct fault *f) { return fault_is(f, FAULT_UNREACHABLE) || fault_is(f, FAULT_TIMEOUT); }

/* Of the last two: that the very last try, cut short, had no answer says less than what came before. */
static struct fault *more_telling(const struct line *l, struct fault *before, struct fault *last)
{
    bool cut_short = fault_is(last, FAULT_TIMEOUT) && backoff_left_ms(&l->backoff, clock_ms()) == 0;
    fault_free(cut_short ? last : before);
    return cut_short ? before : last;
}

struct fault *line_again(struct line *l, struct fault *why)
{
    hang_up(l);
    for (;;) {
        int64_t wait;
        if (!backoff_next(&l->backoff, clock_ms(), &wait)) return give_up(l, why);
        log_detail("%s; trying again in %d ms", fault_message(why), (int)wait);
        struct fault *f = pause_for(wait, l);
        if (!f) f = connect_anew(l);
        if (!f || !passes(f)) {
            fault_free(why);
            return f;
        }
        why = more_telling(l, why, f);
    }
}
