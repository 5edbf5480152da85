/*
 * nwm-worker: loads one sorted dataset into Redis, says so, and leaves.
 *
 *   options → connect → begin → [ source → checker → loader ] … → verify → ready → the reference
 *                         │       └── meanwhile a thread renews the lease
 *                         │       └── a lost connection: connect again, reclaim the list, go on where it ends
 *                         └── from here on, whatever else goes wrong is recorded in the manifest: fail
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
#include "shared/stdfd.h"
#include "shared/stop.h"
#include "worker/drop.h"
#include "worker/hold.h"
#include "worker/work.h"

enum { FAREWELL_MS = 2000 };

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
        struct fault *f = hold_compare(w, false);
        if (!f) f = source_next(w->source, &item, &end);
        if (f) return f;
        if (end) return hold_compare(w, true);
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

/* The source's memory is given back first: comparing a large item needs room for it. The lease ends after the seal: that
 * may have to be tried for long. */
static struct fault *seal(struct work *w)
{
    const struct totals *t = checker_totals(w->checker);
    source_rest(w->source);
    struct fault *f = loader_verify(w->loader, w->checker);
    /* A --drop of what was there before may have taken the id out of its set since the load began. */
    if (!f) f = script_join(line_conn(w->line), &w->claim);
    if (f) return f;
    f = script_ready(line_conn(w->line), &w->claim, t, w->options->ttl_ms);
    return f ? fault_frame(f, "signal ready") : NULL;
}

static struct fault *load_items(struct work *w)
{
    struct fault *f = take_items(w);
    if (!f) f = loader_finish(w->loader);
    meter_clear(&w->meter);
    return f ? f : seal(w);
}

static struct fault *load_begun(struct work *w)
{
    struct fault *f = source_open(w->source);
    if (!f) f = hold_lease(w);
    if (f) return f;
    w->loader = loader_new(line_conn(w->line), &w->claim);
    loader_set_pulse(w->loader, (struct pulse){beat, w});
    while ((f = load_items(w)) != NULL) {
        f = hold_regain(w, f);
        if (f) return f;
        if (w->sealed) break;
    }
    hold_end_lease(w);
    return NULL;
}

static void print_reference(struct work *w)
{
    const struct totals *t = checker_totals(w->checker);
    if (w->options->quiet) return;
    printf("%s: %" PRIu64 " items, %" PRIu64 " bytes, order %s, run %" PRIu64 ", %s\n", w->subject, t->items, t->bytes,
           order_name(w->options->order), w->claim.run, w->claim.list);
}

/* ---- when it failed ---- */

/* Records the failure over that connection, if there is time left. True when that is settled; *taken is then why not,
 * when the dataset is another's. */
static bool record(struct work *w, struct conn *conn, const struct fault *why, int64_t deadline, struct fault **taken)
{
    int64_t left = deadline - clock_ms();
    if (left <= 0) return false;
    conn_set_timeout(conn, left, false);
    struct fault *f = script_fail(conn, &w->claim, checker_so_far(w->checker), why, w->place);
    bool is_taken = f && fault_is(f, FAULT_LEASE_LOST);
    if (is_taken)
        *taken = f;
    else
        fault_free(f);
    return !f || is_taken;
}

/* A connection of its own, for a farewell when the others are gone. */
static bool record_anew(struct work *w, const struct fault *why, int64_t deadline, struct fault **taken)
{
    struct conn *conn;
    int64_t left = deadline - clock_ms();
    if (left <= 0) return false;
    struct fault *f = conn_open_at_end(w->options->endpoints[0], "nwm-worker", left, &conn);
    if (f) {
        fault_free(f);
        return false;
    }
    bool settled = record(w, conn, why, deadline, taken);
    conn_close(conn);
    return settled;
}

/* Pushes that are on their way arrive when they do: the first of them would make the list again after the failure removed it. So
 * their answers are waited for, for half of the farewell; a server that does not answer then leaves a list that expires.
 * (What a connection that was given up still delivers reaches a name that is no list any more, or one that expires.) */
static void settle_pushes(struct conn *conn)
{
    struct fault *f = NULL;
    conn_set_timeout(conn, FAREWELL_MS / 2, false);
    int64_t until = clock_ms() + FAREWELL_MS / 2;
    while (!f && conn_outstanding(conn) > 0 && clock_ms() < until) {
        redisReply *reply;
        f = conn_reply(conn, &reply);
        if (!f) freeReplyObject(reply);
    }
    fault_free(f);
}

/* The loader's connection may be in the middle of a push, or not be there; the lease's is at rest. Returns LeaseLost when
 * the dataset is another's by now, else NULL. */
static struct fault *farewell(struct work *w, const struct fault *why)
{
    struct fault *taken = NULL;
    struct conn *left = lease_stop(w->lease), *own = line_conn(w->line);
    int64_t deadline = clock_ms() + FAREWELL_MS;
    if (own) settle_pushes(own);
    bool settled = left && record(w, left, why, deadline, &taken);
    if (!settled && own && conn_outstanding(own) == 0 && conn_unsent(own) == 0)
        settled = record(w, own, why, deadline, &taken);
    if (!settled) settled = record_anew(w, why, deadline, &taken);
    if (!settled) log_note("%s: the failure could not be recorded in Redis; its lease will run out", w->subject);
    lease_free(w->lease);
    w->lease = NULL;
    return taken;
}

/* Who loses a dataset to another may see its list vanish first: then that is told, not what followed from it. */
static struct fault *part(struct work *w, struct fault *f)
{
    struct fault *taken = farewell(w, f);
    bool explains = taken && (fault_is(f, FAULT_LOST) || fault_is(f, FAULT_CHANGED));
    fault_free(explains ? f : taken);
    return explains ? fault_frame(taken, "load dataset %s", w->subject) : f;
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
    struct fault *f = hold_begin(w);
    if (f) return fault_frame(f, "begin dataset %s", w->subject);
    log_detail("%s: run %" PRIu64 " begun, reading %s into %s", w->subject, w->claim.run, source_name(w->source),
               w->claim.list);
    f = load_begun(w);
    meter_clear(&w->meter);
    if (!f) {
        print_reference(w);
        return NULL;
    }
    return part(w, fault_frame(explain(w, f), "load dataset %s", w->subject));
}

static struct fault *drop(const struct options *o)
{
    struct conn *conn;
    struct fault *f = conn_open(o->endpoints[0], "nwm-worker", o->timeout_ms, &conn);
    if (f) return f;
    f = drop_datasets(conn, o);
    conn_close(conn);
    return f;
}

/* ---- the program ---- */

static void work_fini(struct work *w)
{
    loader_free(w->loader);
    line_close(w->line);
    source_free(w->source);
    checker_free(w->before);
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
    if (o->drop) return drop(o);
    struct work w;
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
