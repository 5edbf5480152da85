#include "worker/hold.h"

#include <inttypes.h>
#include <stdlib.h>

#include "shared/log.h"
#include "shared/mem.h"

/* ---- beginning ---- */

static struct fault *begin(struct work *w)
{
    const struct options *o = w->options;
    struct conn *conn = line_conn(w->line);
    struct fault *f = script_join(conn, &w->claim);
    if (!f) f = script_begin(conn, &w->claim, order_text(o->order), source_name(w->source), o->keep_ms);
    return f;
}

struct fault *hold_begin(struct work *w)
{
    const struct options *o = w->options;
    char *client = mem_printf("nwm-worker:%s", o->job);
    struct fault *f = line_open(o->endpoints[0], client, o->timeout_ms, &w->line);
    free(client);
    if (f) return f;
    claim_init(&w->claim, o->prefix, o->job, o->id, o->lease_ms);
    claim_set_patience(&w->claim, o->timeout_ms);
    f = line_greet(w->line);
    if (!f) f = begin(w);
    while (f && line_may_return(w->line, f)) {
        f = line_again(w->line, f);
        if (f) return f;
        f = begin(w);
    }
    if (f) return f;
    line_settled(w->line);
    line_progress(w->line);
    line_allow(w->line);
    return NULL;
}

struct fault *hold_lease(struct work *w)
{
    return lease_start(w->options->endpoints[0], &w->claim, w->options->timeout_ms, &w->lease);
}

void hold_end_lease(struct work *w)
{
    lease_stop(w->lease);
    lease_free(w->lease);
    w->lease = NULL;
}

/* ---- items that are read again ---- */

static struct fault *source_changed(const struct work *w)
{
    return fault_new(FAULT_CHANGED,
                     "%s changed while it was loaded: its first %" PRIu64 " items are not those that were read before",
                     source_name(w->source), checker_so_far(w->before)->items);
}

struct fault *hold_compare(struct work *w, bool end)
{
    if (!w->before) return NULL;
    const struct totals *was = checker_so_far(w->before), *is = checker_so_far(w->checker);
    if (is->items < was->items) return end ? source_changed(w) : NULL;
    if (!digest_equal(&is->digest, &was->digest)) return source_changed(w);
    checker_free(w->before);
    w->before = NULL;
    return NULL;
}

/* Of what was read before, the most is to be compared with. */
static void check_anew(struct work *w)
{
    if (!w->before || checker_so_far(w->before)->items < checker_so_far(w->checker)->items) {
        checker_free(w->before);
        w->before = w->checker;
    } else {
        checker_free(w->checker);
    }
    w->checker = checker_new(w->options->order);
}

static struct fault *lost(const struct work *w, uint64_t length)
{
    uint64_t acknowledged = loader_acknowledged(w->loader);
    return fault_new(FAULT_LOST,
                     "%" PRIu64 " of %" PRIu64
                     " items that Redis had acknowledged are gone: it was restarted without its "
                     "latest writes, a replica without them took over, or the list expired meanwhile; %s cannot be "
                     "read a second time: load a file, "
                     "or let Redis keep what it acknowledges (appendonly yes, appendfsync always)",
                     acknowledged - length, acknowledged, source_name(w->source));
}

/* The list has fewer items than were acknowledged. */
static struct fault *read_again(struct work *w, uint64_t length)
{
    if (!source_can_rewind(w->source)) return lost(w, length);
    struct fault *f = source_rewind(w->source);
    if (f) return f;
    log_note("%s: Redis lost %" PRIu64 " items; reading %s again from item %" PRIu64, w->subject,
             loader_acknowledged(w->loader) - length, source_name(w->source), length + 1);
    check_anew(w);
    loader_restart(w->loader, line_conn(w->line), length);
    return NULL;
}

/* ---- regaining ---- */

static struct fault *begin_anew(struct work *w)
{
    w->beginning = true;
    hold_end_lease(w);
    struct fault *f = begin(w);
    if (!f) f = hold_lease(w);
    if (f) return f;
    w->beginning = false;
    log_detail("%s: begun anew, run %" PRIu64 " into %s", w->subject, w->claim.run, w->claim.list);
    return NULL;
}

/* A thread that gave up over the same outage is replaced. */
static struct fault *keep_lease(struct work *w)
{
    if (w->lease && !lease_is_over(w->lease)) return NULL;
    hold_end_lease(w);
    return hold_lease(w);
}

static struct fault *ask_again(struct work *w, struct reclaimed *r)
{
    reclaimed_fini(r);
    return script_reclaim(line_conn(w->line), &w->claim, LOADER_LAST_MOST, r);
}

/* That there was no manifest may have been said by a server that has not heard of it yet: what is begun is looked at like what was. */
static struct fault *go_on(struct work *w, struct reclaimed *r)
{
    struct fault *f = r->how == RECLAIM_GONE ? begin_anew(w) : keep_lease(w);
    if (!f && r->how == RECLAIM_GONE) f = ask_again(w, r);
    if (f) return f;
    if (r->how != RECLAIM_OURS)
        return fault_new(FAULT_UNREACHABLE, "%s is not what it just was: several servers answer for one",
                         w->claim.manifest);
    if (r->items < loader_acknowledged(w->loader)) return read_again(w, r->items);
    return loader_resume(w->loader, line_conn(w->line), r->items, r->last);
}

/* Over a new connection. */
static struct fault *reclaim(struct work *w)
{
    struct reclaimed r = {.how = RECLAIM_GONE};
    struct fault *f = w->beginning ? NULL : script_reclaim(line_conn(w->line), &w->claim, LOADER_LAST_MOST, &r);
    if (!f && r.how == RECLAIM_READY)
        w->sealed = true;
    else if (!f)
        f = go_on(w, &r);
    reclaimed_fini(&r);
    return f;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Has the load got further than ever before? Else the time that began earlier goes on: that a server answers, or that
 * items it lost are loaded again, moves nothing. What a reclaim found to be in the list counts at the next failure. What
 * was only read counts when everything before it had been acknowledged: a connection may rest between two items for
 * longer than the server likes. */
static void note_progress(struct work *w)
{
    uint64_t acknowledged = loader_acknowledged(w->loader), read = checker_so_far(w->checker)->items;
    if (acknowledged > w->acknowledged || (w->was_idle && read > w->items)) line_progress(w->line);
    w->acknowledged = larger(w->acknowledged, acknowledged);
    w->items = larger(w->items, read);
}

/* The lease's thread can learn of a new, empty server before this one does: then its LeaseLost is only the lost
 * connection's, and a reclaim finds out. Its own end for another reason comes after as long a time as is tried here. */
static bool may_regain(struct work *w, const struct fault *why)
{
    if (!w->loader || !w->lease) return false;
    if (fault_is(why, FAULT_LEASE_LOST)) return line_is_dead(w->line);
    bool may_hold = !lease_is_over(w->lease) || lease_was_lost(w->lease);
    return may_hold && line_may_return(w->line, why);
}

struct fault *hold_regain(struct work *w, struct fault *why)
{
    if (!may_regain(w, why)) return why;
    note_progress(w);
    struct fault *f = why;
    do {
        f = line_again(w->line, f);
        if (f) return f;
        f = reclaim(w);
    } while (f && line_may_return(w->line, f));
    if (f) return fault_frame(f, "go on after a lost connection");
    log_note("%s: connected again after %.1f s, going on after item %" PRIu64, w->subject, line_outage_s(w->line),
             loader_acknowledged(w->loader));
    line_allow(w->line);
    w->was_idle = loader_is_idle(w->loader);
    return NULL;
}
