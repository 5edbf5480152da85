#include "merger/lifeline.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared/backoff.h"
#include "shared/conn.h"
#include "shared/log.h"
#include "shared/mem.h"

struct lifeline {
    struct event_base *base;
    const struct endpoint *endpoint;
    char *client_name;
    char separator;
    int64_t timeout_ms;

    struct link *link; /* what the streams ask */
    struct link *next; /* what may replace it */
    bool lost;         /* the link is down, and that has been seen */
    struct backoff backoff;
    int64_t retry_at;   /* clock_ms() */
    int64_t adopted_at; /* clock_ms() */
    int64_t held_at;    /* clock_ms(), 0: is not held */
    struct fault *last; /* what went wrong last */
    struct event *alarm;
    uint64_t reconnects;
};

/* Only to wake the loop. */
static void on_alarm(evutil_socket_t fd, short what, void *arg) { (void)fd, (void)what, (void)arg; }

static struct link *make_link(const struct lifeline *l)
{
    return link_new(l->base, l->endpoint, l->client_name, l->separator, l->timeout_ms);
}

struct lifeline *lifeline_new(struct event_base *base, const struct endpoint *e, const char *client_name,
                              char separator, int64_t timeout_ms)
{
    struct lifeline *l = mem_zalloc(sizeof *l);
    l->base = base;
    l->endpoint = e;
    l->client_name = mem_strdup(client_name);
    l->separator = separator;
    l->timeout_ms = timeout_ms;
    l->backoff = backoff_start(timeout_ms, clock_us() * (uint64_t)getpid());
    l->alarm = evtimer_new(base, on_alarm, l);
    l->adopted_at = clock_ms();
    l->link = make_link(l);
    return l;
}

void lifeline_free(struct lifeline *l)
{
    if (!l) return;
    link_free(l->link);
    link_free(l->next);
    event_free(l->alarm);
    fault_free(l->last);
    free(l->client_name);
    free(l);
}

struct link *lifeline_link(const struct lifeline *l) { return l->link; }
uint64_t lifeline_reconnects(const struct lifeline *l) { return l->reconnects; }

/* libevent's clock is a coarse one, so the alarm may come some milliseconds early: whoever finds that sets it again. */
static void wake_at(struct lifeline *l, int64_t when)
{
    int64_t ms = when - clock_ms();
    if (ms < 1) ms = 1;
    struct timeval tv = {ms / 1000, (ms % 1000) * 1000};
    evtimer_add(l->alarm, &tv);
}

static struct fault *give_up(struct lifeline *l)
{
    enum fault_kind kind = fault_is(l->last, FAULT_TIMEOUT) ? FAULT_TIMEOUT : FAULT_UNREACHABLE;
    return fault_new(kind, "%s; nothing more came from %s for %.3g s (--timeout %g s), trying again %u times",
                     fault_message(l->last), endpoint_name(l->endpoint),
                     (double)backoff_tried_ms(&l->backoff, clock_ms()) / 1000, (double)l->timeout_ms / 1000,
                     l->backoff.tries - 1);
}

struct fault *lifeline_failed(struct lifeline *l, struct fault *fault)
{
    link_free(l->next);
    l->next = NULL;
    if (!fault_may_pass(fault)) return fault;
    fault_free(l->last);
    l->last = fault;
    int64_t wait;
    if (!backoff_next(&l->backoff, clock_ms(), &wait)) return give_up(l);
    log_detail("%s; trying again in %" PRId64 " ms", fault_message(fault), wait);
    l->retry_at = clock_ms() + wait;
    wake_at(l, l->retry_at);
    return NULL;
}

/* So long nothing was wanted of the server. */
static void forgive(struct lifeline *l, int64_t ms)
{
    int64_t now = clock_ms();
    l->backoff.since += ms;
    if (l->backoff.since > now) l->backoff.since = now;
}

/* Items that came over the link that is lost now were progress. Else the time without any goes on, but for that in which
 * nothing was asked of it. */
static void judge_lost_link(struct lifeline *l)
{
    int64_t since = link_waiting_since(l->link);
    if (link_answered(l->link) > 0)
        backoff_progress(&l->backoff);
    else
        forgive(l, (since ? since : clock_ms()) - l->adopted_at);
}

static struct fault *begin_outage(struct lifeline *l)
{
    l->lost = true;
    judge_lost_link(l);
    return lifeline_failed(l, link_take_fault(l->link));
}

static void try_again(struct lifeline *l)
{
    l->next = make_link(l);
    if (l->held_at) link_hold(l->next, true);
}

struct fault *lifeline_turn(struct lifeline *l, bool *back)
{
    *back = false;
    if (!l->lost) return begin_outage(l);
    int64_t now = clock_ms();
    if (!l->next && now < l->retry_at) {
        wake_at(l, l->retry_at);
        return NULL;
    }
    if (!l->next) try_again(l);
    switch (link_state(l->next)) {
    case LINK_UP: *back = true; return NULL;
    case LINK_DOWN: return lifeline_failed(l, link_take_fault(l->next));
    case LINK_CONNECTING: break;
    }
    int64_t left = backoff_left_ms(&l->backoff, now);
    wake_at(l, now + left);
    return left > 0 ? NULL : give_up(l);
}

void lifeline_adopt(struct lifeline *l)
{
    link_free(l->link);
    l->link = l->next;
    l->next = NULL;
    l->lost = false;
    l->adopted_at = clock_ms();
    l->reconnects++;
    evtimer_del(l->alarm);
    log_detail("connected to %s again", endpoint_name(l->endpoint));
}

void lifeline_hold(struct lifeline *l, bool held)
{
    if (held == (l->held_at != 0)) return;
    link_hold(l->link, held);
    if (l->next) link_hold(l->next, held);
    if (!held) forgive(l, clock_ms() - l->held_at);
    l->held_at = held ? clock_ms() : 0;
}
