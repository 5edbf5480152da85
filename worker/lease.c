#include "worker/lease.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REPLY_MOST_MS = 2000, RETRY_MS = 200, TRIES_LEAST = 2 };

struct lease {
    struct endpoint *endpoint;
    const struct claim *claim;
    int64_t timeout_ms;
    pthread_t thread;
    struct conn *conn; /* the thread's until it has been joined; NULL while there is none */
    int64_t renewed;   /* clock_ms() of the last heartbeat that was answered */
    int failures;      /* since then */

    pthread_mutex_t lock; /* guards `stopping`, for the condition */
    pthread_cond_t changed;
    bool stopping;

    atomic_bool over; /* set last: then `why` belongs to the main thread */
    struct fault *why;
};

static struct fault *open_conn(struct lease *l)
{
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

/* After a failed heartbeat: is there any point in another? Once is always tried again: a process that was stopped for
 * longer than its lease wakes up with a dead connection, and the lease may still be had. */
static bool is_hopeless(const struct lease *l, const struct fault *f)
{
    return fault_is(f, FAULT_LEASE_LOST) ||
           (l->failures >= TRIES_LEAST && clock_ms() - l->renewed > l->claim->lease_ms);
}

/* One heartbeat; false when it was the last, and how long to wait for the next. */
static bool tend(struct lease *l, int64_t *wait_ms)
{
    struct fault *f = beat(l);
    *wait_ms = l->claim->lease_ms / 3;
    if (!f) {
        l->renewed = clock_ms();
        l->failures = 0;
        return true;
    }
    l->failures++;
    if (!fault_is(f, FAULT_LEASE_LOST)) forget_conn(l);
    if (is_hopeless(l, f)) {
        l->why = fault_frame(f, "renew the lease");
        atomic_store(&l->over, true);
        return false;
    }
    fault_free(f);
    if (*wait_ms > RETRY_MS) *wait_ms = RETRY_MS;
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
    int64_t wait_ms = l->claim->lease_ms / 3;
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

static void free_lease(struct lease *l)
{
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    fault_free(l->why);
    free(l);
}

static struct lease *new_lease(struct endpoint *e, const struct claim *claim, int64_t timeout_ms)
{
    struct lease *l = mem_zalloc(sizeof *l);
    l->endpoint = e;
    l->claim = claim;
    l->timeout_ms = timeout_ms < REPLY_MOST_MS ? timeout_ms : REPLY_MOST_MS;
    l->renewed = clock_ms();
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->changed, &attr);
    pthread_condattr_destroy(&attr);
    return l;
}

struct fault *lease_start(struct endpoint *e, const struct claim *claim, int64_t timeout_ms, struct lease **out)
{
    struct lease *l = new_lease(e, claim, timeout_ms);
    struct fault *f = open_conn(l);
    if (!f) {
        int failed = start_thread(l);
        if (failed)
            f = fault_new(FAULT_LEASE_LOST, "cannot start the thread that renews the lease: %s", strerror(failed));
    }
    if (f) {
        forget_conn(l);
        free_lease(l);
        return fault_frame(f, "start renewing the lease");
    }
    *out = l;
    return NULL;
}

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
    struct conn *left = l->conn;
    free_lease(l);
    return left;
}
