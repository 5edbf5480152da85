#include "worker/lease.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/backoff.h"

enum { REPLY_MOST_MS = 2000 };

struct lease {
    struct endpoint *endpoint; /* the thread's own: it looks the address up again */
    const struct claim *claim;
    int64_t timeout_ms;
    pthread_t thread;
    struct conn *conn; /* the thread's until it has been joined; NULL while there is none */
    struct backoff backoff;

    pthread_mutex_t lock; /* guards `stopping`, for the condition */
    pthread_cond_t changed;
    bool stopping;

    atomic_bool over; /* set last: then `why` belongs to the main thread */
    struct fault *why;
    bool lost; /* that is LeaseLost */
};

static struct fault *open_conn(struct lease *l)
{
    endpoint_forget_addresses(l->endpoint);
    struct fault *f = conn_open(l->endpoint, "nwm-worker-lease", l->timeout_ms, &l->conn);
    if (!f) /* a signal must not leave half a heartbeat behind: the farewell may need this connection */
        conn_set_timeout(l->conn, l->timeout_ms, false);
    else
        l->conn = NULL;
    return f;
}

static struct fault *beat(struct lease *l)
{
    struct fault *f = l->conn ? NULL : open_conn(l);
    if (!f) f = script_heartbeat(l->conn, l->claim);
    if (!f) f = script_join(l->conn, l->claim);
    return f;
}

/* The connection may be dead or half a reply behind; it is not used again. */
static void forget_conn(struct lease *l)
{
    if (l->conn) conn_close(l->conn);
    l->conn = NULL;
}

/* One heartbeat; false when it was the last, and how long to wait for the next. Once is always tried again: a process
 * that was stopped for longer than its lease wakes up with a dead connection, and the lease may still be had. */
static bool tend(struct lease *l, int64_t *wait_ms)
{
    struct fault *f = beat(l);
    int64_t regular = l->claim->lease_ms / 3;
    *wait_ms = regular;
    if (!f) {
        backoff_progress(&l->backoff);
        return true;
    }
    bool hopeless = fault_is(f, FAULT_LEASE_LOST);
    if (!hopeless) {
        forget_conn(l);
        hopeless = !backoff_next(&l->backoff, clock_ms(), wait_ms);
    }
    if (hopeless) {
        l->lost = fault_is(f, FAULT_LEASE_LOST);
        l->why = fault_frame(f, "renew the lease");
        atomic_store(&l->over, true);
        return false;
    }
    fault_free(f);
    if (*wait_ms > regular) *wait_ms = regular;
    return true;
}

/* False when it is time to end. */
static bool sleep_for(struct lease *l, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&l->lock);
    while (!l->stopping && pthread_cond_timedwait(&l->changed, &l->lock, &until) == 0) continue;
    bool go_on = !l->stopping;
    pthread_mutex_unlock(&l->lock);
    return go_on;
}

static void *run(void *arg)
{
    struct lease *l = arg;
    int64_t wait_ms = l->conn ? l->claim->lease_ms / 3 : BACKOFF_FIRST_MS;
    while (sleep_for(l, wait_ms) && tend(l, &wait_ms)) continue;
    return NULL;
}

/* Signals are the main thread's. */
static int start_thread(struct lease *l)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&l->thread, NULL, run, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

void lease_free(struct lease *l)
{
    if (!l) return;
    forget_conn(l);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    endpoint_free(l->endpoint);
    fault_free(l->why);
    free(l);
}

static struct lease *new_lease(const struct endpoint *e, const struct claim *claim, int64_t timeout_ms)
{
    struct lease *l = mem_zalloc(sizeof *l);
    l->endpoint = endpoint_copy(e);
    l->claim = claim;
    l->timeout_ms = timeout_ms < REPLY_MOST_MS ? timeout_ms : REPLY_MOST_MS;
    l->backoff = backoff_start(timeout_ms > claim->lease_ms ? timeout_ms : claim->lease_ms, clock_us());
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->changed, &attr);
    pthread_condattr_destroy(&attr);
    return l;
}

/* What the thread itself would try again is left to it. */
static struct fault *open_first(struct lease *l)
{
    struct fault *f = open_conn(l);
    if (!f || !(fault_is(f, FAULT_UNREACHABLE) || fault_is(f, FAULT_TIMEOUT))) return f;
    fault_free(f);
    return NULL;
}

struct fault *lease_start(const struct endpoint *e, const struct claim *claim, int64_t timeout_ms, struct lease **out)
{
    struct lease *l = new_lease(e, claim, timeout_ms);
    struct fault *f = open_first(l);
    if (!f) {
        int failed = start_thread(l);
        if (failed)
            f = fault_new(FAULT_LEASE_LOST, "cannot start the thread that renews the lease: %s", strerror(failed));
    }
    if (f) {
        lease_free(l);
        return fault_frame(f, "start renewing the lease");
    }
    *out = l;
    return NULL;
}

bool lease_is_over(struct lease *l) { return atomic_load(&l->over); }
bool lease_was_lost(struct lease *l) { return lease_is_over(l) && l->lost; }

struct fault *lease_check(struct lease *l)
{
    if (!atomic_load(&l->over) || !l->why) return NULL;
    struct fault *f = l->why;
    l->why = NULL;
    return f;
}

struct conn *lease_stop(struct lease *l)
{
    if (!l) return NULL;
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    return l->conn;
}
