/*
 * nwm-worker: loads one sorted dataset into Redis, says so, and leaves.
 *
 *   options → connect → begin → [ source → checker → loader ] … → verify → ready → the reference
 *                         │       └── meanwhile a thread renews the lease
 *                         └── from here on, whatever goes wrong is recorded in the manifest: fail
 *
 * The contract that all this keeps is in shared/dataset.h and shared/script.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/conn.h"
#include "shared/fault.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/script.h"
#include "shared/stdfd.h"
#include "shared/stop.h"
#include "worker/checker.h"
#include "worker/drop.h"
#include "worker/lease.h"
#include "worker/loader.h"
#include "worker/meter.h"
#include "worker/source.h"

enum { FAREWELL_MS = 2000 };

/* Everything one worker holds. Pointers are NULL until they are there. */
struct work {
    const struct options *options;
    char *subject; /* "demo:2"; with --check and no id, the source's name */
    char *place;   /* where in the source it failed: "line 18" */
    struct source *source;
    struct checker *checker;
    struct conn *conn;
    struct claim claim;
    struct lease *lease;
    struct loader *loader;
    struct meter meter;
};

/* ---- items ---- */

/* The pulse of source and loader. */
static struct fault *beat(void *arg)
{
    struct work *w = arg;
    meter_show(&w->meter, checker_so_far(w->checker), source_bytes_read(w->source), source_size(w->source));
    return w->lease ? lease_check(w->lease) : NULL;
}

static struct fault *reject(struct work *w, struct fault *f)
{
    const struct options *o = w->options;
    w->place = source_place(w->source, checker_so_far(w->checker)->items + 1);
    fault_frame(f, "check order %s at %s", order_name(o->order), w->place);
    return fault_frame(f, "read %s", source_name(w->source));
}

/* Every item of the source: checked, and with a loader pushed. */
static struct fault *take_items(struct work *w)
{
    for (;;) {
        struct bytes item;
        bool end;
        struct fault *f = source_next(w->source, &item, &end);
        if (f || end) return f;
        f = checker_add(w->checker, item);
        if (f) return reject(w, f);
        f = w->loader ? loader_add(w->loader, item) : NULL;
        if (f) return f;
    }
}

/* ---- --check ---- */

static void print_totals(struct work *w)
{
    const struct totals *t = checker_totals(w->checker);
    if (w->options->quiet) return;
    printf("%s: %" PRIu64 " items, %" PRIu64 " bytes, order %s\n", source_name(w->source), t->items, t->bytes,
           order_name(w->options->order));
}

static struct fault *check(struct work *w)
{
    struct fault *f = source_open(w->source);
    if (!f) f = take_items(w);
    meter_clear(&w->meter);
    if (!f) print_totals(w);
    return f;
}

/* ---- loading ---- */

static struct fault *connect_and_begin(struct work *w)
{
    const struct options *o = w->options;
    char *client = mem_printf("nwm-worker:%s", o->job);
    struct fault *f = conn_open(o->endpoints[0], client, o->timeout_ms, &w->conn);
    free(client);
    if (f) return f;
    claim_init(&w->claim, o->prefix, o->job, o->id, o->lease_ms);
    f = script_join(w->conn, &w->claim);
    if (!f) f = script_begin(w->conn, &w->claim, order_text(o->order), source_name(w->source), o->keep_ms);
    return f;
}

static struct fault *load_items(struct work *w)
{
    w->loader = loader_new(w->conn, &w->claim);
    loader_set_pulse(w->loader, (struct pulse){beat, w});
    struct fault *f = take_items(w);
    if (!f) f = loader_finish(w->loader);
    meter_clear(&w->meter);
    return f;
}

static void stop_lease(struct work *w, struct conn **left)
{
    *left = lease_stop(w->lease);
    w->lease = NULL;
}

/* The lease ends with the load; what is left of it is long enough for the seal, and the token is what counts. The
 * source's memory is given back first: comparing a large item needs room for it. */
static struct fault *seal(struct work *w)
{
    const struct totals *t = checker_totals(w->checker);
    source_free(w->source);
    w->source = NULL;
    struct fault *f = loader_verify(w->loader, w->checker);
    if (f) return f;
    struct conn *left;
    stop_lease(w, &left);
    if (left) conn_close(left);
    f = script_ready(w->conn, &w->claim, t, w->options->ttl_ms);
    return f ? fault_frame(f, "signal ready") : NULL;
}

static struct fault *load_begun(struct work *w)
{
    struct fault *f = source_open(w->source);
    if (!f) f = lease_start(w->options->endpoints[0], &w->claim, w->options->timeout_ms, &w->lease);
    if (!f) f = load_items(w);
    if (!f) f = seal(w);
    return f;
}

static void print_reference(struct work *w)
{
    const struct totals *t = checker_totals(w->checker);
    if (w->options->quiet) return;
    printf("%s: %" PRIu64 " items, %" PRIu64 " bytes, order %s, run %" PRIu64 ", %s\n", w->subject, t->items, t->bytes,
           order_name(w->options->order), w->claim.run, w->claim.list);
}

/* ---- when it failed ---- */

/* Records the failure over that connection, if there is time left. True when that is settled. */
static bool record(struct work *w, struct conn *conn, const struct fault *why, int64_t deadline)
{
    int64_t left = deadline - clock_ms();
    if (left <= 0) return false;
    conn_set_timeout(conn, left, false);
    struct fault *f = script_fail(conn, &w->claim, checker_so_far(w->checker), why, w->place);
    bool settled = !f || fault_is(f, FAULT_LEASE_LOST);
    fault_free(f);
    return settled;
}

/* A connection of its own, for a farewell when the others are gone. */
static bool record_anew(struct work *w, const struct fault *why, int64_t deadline)
{
    struct conn *conn;
    int64_t left = deadline - clock_ms();
    if (left <= 0) return false;
    struct fault *f = conn_open(w->options->endpoints[0], "nwm-worker", left, &conn);
    if (f) {
        fault_free(f);
        return false;
    }
    bool settled = record(w, conn, why, deadline);
    conn_close(conn);
    return settled;
}

/* Pushes that are on their way arrive when they do: the first of them would make the list again after the failure removed it. So
 * their answers are waited for, for half of the farewell; a server that does not answer then leaves a list that expires. */
static void settle_pushes(struct work *w)
{
    struct fault *f = NULL;
    conn_set_timeout(w->conn, FAREWELL_MS / 2, false);
    int64_t until = clock_ms() + FAREWELL_MS / 2;
    while (!f && conn_outstanding(w->conn) > 0 && clock_ms() < until) {
        redisReply *reply;
        f = conn_reply(w->conn, &reply);
        if (!f) freeReplyObject(reply);
    }
    fault_free(f);
}

/* The loader's connection may be in the middle of a push; the lease's is at rest. */
static void farewell(struct work *w, const struct fault *why)
{
    struct conn *left;
    stop_lease(w, &left);
    int64_t deadline = clock_ms() + FAREWELL_MS;
    settle_pushes(w);
    bool settled = left && record(w, left, why, deadline);
    if (!settled && conn_outstanding(w->conn) == 0 && conn_unsent(w->conn) == 0)
        settled = record(w, w->conn, why, deadline);
    if (!settled) settled = record_anew(w, why, deadline);
    if (!settled) log_note("%s: the failure could not be recorded in Redis; its lease will run out", w->subject);
    if (left) conn_close(left);
}

/* A signal or the deadline can end any wait, and each says so in its own way; here is what people need to know. */
static struct fault *explain(const struct work *w, struct fault *f)
{
    int number = stop_signal();
    if (!f || number == 0 || !fault_is(f, FAULT_INTERRUPTED)) return f;
    uint64_t items = checker_so_far(w->checker)->items;
    fault_free(f);
    if (number == SIGALRM)
        return stop_explain(fault_new(FAULT_INTERRUPTED, "interrupted after %" PRIu64 " items", items));
    return fault_new(FAULT_INTERRUPTED, "ended by signal %d (%s) after %" PRIu64 " items", number, strsignal(number),
                     items);
}

static struct fault *load(struct work *w)
{
    struct fault *f = connect_and_begin(w);
    if (f) return fault_frame(f, "begin dataset %s", w->subject);
    log_detail("%s: run %" PRIu64 " begun, reading %s into %s", w->subject, w->claim.run, source_name(w->source),
               w->claim.list);
    f = load_begun(w);
    meter_clear(&w->meter);
    if (!f) {
        print_reference(w);
        return NULL;
    }
    f = fault_frame(explain(w, f), "load dataset %s", w->subject);
    farewell(w, f);
    return f;
}

static struct fault *drop(struct work *w)
{
    const struct options *o = w->options;
    struct fault *f = conn_open(o->endpoints[0], "nwm-worker", o->timeout_ms, &w->conn);
    return f ? f : drop_datasets(w->conn, o);
}

/* ---- the program ---- */

static void work_fini(struct work *w)
{
    loader_free(w->loader);
    if (w->conn) conn_close(w->conn);
    source_free(w->source);
    checker_free(w->checker);
    claim_fini(&w->claim);
    free(w->place);
    free(w->subject);
}

static struct fault *work_init(struct work *w, const struct options *o)
{
    *w = (struct work){.options = o};
    struct fault *f = source_new(o, &w->source);
    if (f) return f;
    w->subject = o->id ? mem_printf("%s:%s", o->job, o->id) : mem_strdup(source_name(w->source));
    source_set_pulse(w->source, (struct pulse){beat, w});
    w->checker = checker_new(o->order);
    meter_init(&w->meter, w->subject);
    return NULL;
}

static struct fault *run(const struct options *o)
{
    struct work w;
    if (o->drop) {
        w = (struct work){.options = o};
        struct fault *f = drop(&w);
        work_fini(&w);
        return f;
    }
    struct fault *f = work_init(&w, o);
    if (!f) f = o->check ? explain(&w, check(&w)) : load(&w);
    if (f && w.subject) fault_about(f, "%s", w.subject);
    work_fini(&w);
    return f;
}

/* Standard output is a line or a few, so this is where writing fails. A reader that has gone is no news: the end is
 * quiet then, as by SIGPIPE. */
static struct fault *flush_output(void)
{
    if (fflush(stdout) == 0) return NULL;
    if (errno == EPIPE) stop_raise(SIGPIPE);
    return fault_new(FAULT_OUTPUT, "cannot write to standard output: %s", strerror(errno));
}

static int leave(struct fault *f)
{
    if (!f) return EXIT_DONE;
    log_fault(f);
    int code = fault_exit(f);
    bool interrupted = fault_is(f, FAULT_INTERRUPTED);
    fault_free(f);
    if (interrupted && stop_signal() != 0) stop_raise(stop_signal());
    return code;
}

int main(int argc, char **argv)
{
    stdfd_hold();
    log_init("nwm-worker", false, false);
    stop_install();
    struct options o;
    struct fault *f = options_parse(&o, PROGRAM_WORKER, argc, argv);
    if (!f && o.help) {
        options_print_help(PROGRAM_WORKER);
    } else if (!f && o.version) {
        options_print_version(PROGRAM_WORKER);
    } else if (!f) {
        log_init("nwm-worker", o.quiet, o.verbose);
        stop_at_deadline(o.deadline_ms);
        f = stop_explain(run(&o));
    }
    if (!f) f = flush_output();
    options_free(&o);
    return leave(f);
}
