#include "merger/session.h"

#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>

#include "merger/fetch.h"
#include "merger/lifeline.h"
#include "merger/progress.h"
#include "merger/recheck.h"
#include "merger/stream.h"
#include "shared/conn.h"
#include "shared/log.h"
#include "shared/mem.h"
#include "shared/stop.h"

enum {
    QUOTA = 1000,             /* items a turn: N took 1.09 of the drain's time with it, 1.34 without (measured) */
    FLUSH_EVERY_US = 20000,   /* a merge that waits shows what it has, so often at most */
    SETTLE_MS = 500,          /* so long a reader may take for the rest of what was begun */
    LINK_MEMORY = 512 * 1024, /* a read of 256 KB, and requests that wait to be sent */
};

enum phase { PHASE_MERGING, PHASE_FLUSHING, PHASE_OVER };

struct session {
    const struct options *options;
    struct roster *roster;
    struct sink *sink;
    struct resume *resume;   /* or NULL */
    struct consume *consume; /* or NULL */
    struct event_base *base;
    struct event *stop_event;
    struct event *sink_event;  /* only where the output can block */
    struct event *flush_event; /* ends a wait when there is something to show, */
    struct event *lease_event; /* and when a lease is to be renewed */
    struct lifeline **lines;   /* one a server; NULL where no stream lives */
    size_t line_count;
    struct stream **streams;
    size_t stream_count;
    struct fetch *fetch;
    struct merge *merge;
    struct progress *progress;

    enum phase phase;
    bool sink_waited_for;
    bool stalled;
    size_t stalled_on;
    uint64_t begun_us, flushed_us;
    struct session_times times;
};

/* ---- building ---------------------------------------------------------------------------------------------------- */

/* Only to wake the loop: stop_signal() and the sink's own poll() say the rest. */
static void on_wake(evutil_socket_t fd, short what, void *arg) { (void)fd, (void)what, (void)arg; }

static void make_lines(struct session *s)
{
    s->line_count = roster_servers(s->roster);
    s->lines = mem_zalloc(s->line_count * sizeof *s->lines);
    char *name = mem_printf("nwm-merger:%s", s->options->job);
    for (size_t i = 0; i < roster_size(s->roster); i++) {
        const struct member *m = roster_member(s->roster, i);
        struct lifeline **l = &s->lines[m->server];
        if (!*l && m->manifest.items > 0)
            *l = lifeline_new(s->base, s->options->endpoints[m->server], name, s->options->separator,
                              s->options->timeout_ms);
    }
    free(name);
}

static size_t server_of(const struct session *s, size_t stream) { return roster_member(s->roster, stream)->server; }

/* The stream's server has a link, or another than before. */
static void give_link(struct session *s, size_t stream)
{
    const struct lifeline *l = s->lines[server_of(s, stream)];
    stream_set_link(s->streams[stream], l ? lifeline_link(l) : NULL);
}

static void make_streams(struct session *s)
{
    s->stream_count = roster_size(s->roster);
    s->streams = mem_zalloc((s->stream_count + 1) * sizeof *s->streams);
    for (size_t i = 0; i < s->stream_count; i++) {
        struct stream_spec spec = roster_spec(roster_member(s->roster, i));
        if (s->resume) spec.from = resume_mark(s->resume, i);
        if (s->consume) consume_spec(s->consume, i, &spec);
        s->streams[i] = stream_new(&spec, s->options->separator);
        give_link(s, i);
    }
}

static struct fault *make_fetch(struct session *s)
{
    struct fetch_limits limits = {
        .memory = s->options->memory,
        .fixed = sink_memory() + s->line_count * LINK_MEMORY,
        .batch = s->options->batch,
        .has_item_limit = s->options->has_limit && !s->options->unique,
        .item_limit = s->options->limit,
    };
    if (s->resume && limits.has_item_limit) limits.item_limit -= resume_past(s->resume).items;
    return fetch_new(s->streams, s->stream_count, &limits, &s->fetch);
}

static void watch_descriptors(struct session *s)
{
    s->stop_event = event_new(s->base, stop_fd(), EV_READ | EV_PERSIST, on_wake, NULL);
    event_add(s->stop_event, NULL);
    s->sink_event = event_new(s->base, sink_wait_fd(s->sink), EV_WRITE, on_wake, NULL);
    s->flush_event = evtimer_new(s->base, on_wake, NULL);
    s->lease_event = evtimer_new(s->base, on_wake, NULL);
}

struct fault *session_new(const struct options *o, struct roster *r, const struct order *order, struct sink *sink,
                          struct resume *resume, struct consume *consume, merge_observer *observer,
                          void *observer_context, struct session **out)
{
    struct session *s = mem_zalloc(sizeof *s);
    *out = s;
    s->options = o;
    s->roster = r;
    s->sink = sink;
    s->resume = resume;
    s->consume = consume;
    s->base = event_base_new();
    if (!s->base) return fault_new(FAULT_NO_MEMORY, "the event loop could not be made");
    make_lines(s);
    make_streams(s);
    struct fault *fault = make_fetch(s);
    if (fault) {
        session_free(s);
        *out = NULL;
        return fault;
    }
    struct merge_options options = {
        .order = order,
        .unique = o->unique,
        .tag = o->tag,
        .has_limit = o->has_limit,
        .limit = o->limit,
        .may_leave_out = roster_may_leave_out(r),
        .observer = observer,
        .observer_context = observer_context,
    };
    if (resume) options.past = resume_past(resume);
    s->merge = merge_new(s->streams, s->stream_count, s->fetch, sink, &options);
    s->progress = progress_new(o, s->streams, s->stream_count);
    watch_descriptors(s);
    return NULL;
}

void session_free(struct session *s)
{
    if (!s) return;
    progress_free(s->progress);
    merge_free(s->merge);
    fetch_free(s->fetch);
    for (size_t i = 0; i < s->line_count; i++) lifeline_free(s->lines[i]);
    for (size_t i = 0; i < s->stream_count; i++) stream_free(s->streams[i]);
    if (s->stop_event) event_free(s->stop_event);
    if (s->sink_event) event_free(s->sink_event);
    if (s->flush_event) event_free(s->flush_event);
    if (s->lease_event) event_free(s->lease_event);
    if (s->base) event_base_free(s->base);
    free(s->lines);
    free(s->streams);
    free(s);
}

size_t session_streams(const struct session *s) { return s->stream_count; }
struct stream *session_stream(const struct session *s, size_t i) { return s->streams[i]; }
const struct merge *session_merge(const struct session *s) { return s->merge; }
struct session_times session_times(const struct session *s) { return s->times; }

uint64_t session_reconnects(const struct session *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->line_count; i++)
        if (s->lines[i]) n += lifeline_reconnects(s->lines[i]);
    return n;
}

/* ---- one turn ---------------------------------------------------------------------------------------------------- */

/* Does a stream on this link still want something from it? */
static bool is_needed(const struct session *s, const struct link *l)
{
    for (size_t i = 0; i < s->stream_count; i++)
        if (stream_link(s->streams[i]) == l && stream_state(s->streams[i]) == STREAM_OPEN &&
            stream_unasked(s->streams[i]) > 0)
            return true;
    return false;
}

static bool wants_from(const struct session *s, size_t stream, size_t server)
{
    return server_of(s, stream) == server && stream_unasked(s->streams[stream]) > 0;
}

/* The stream of this server that the merge waits for, or will. */
static size_t waiting_stream(const struct session *s, size_t server)
{
    if (s->stalled && wants_from(s, s->stalled_on, server)) return s->stalled_on;
    size_t i = 0;
    while (i < s->stream_count && !wants_from(s, i, server)) i++;
    return i;
}

static struct fault *about_server(const struct session *s, size_t server, struct fault *fault)
{
    size_t i = waiting_stream(s, server);
    if (i < s->stream_count) fault_about(fault, "%s", stream_spec(s->streams[i])->name);
    return fault_frame(fault, "merge job %s", s->options->job);
}

/* --partial: a server that is lost takes only its own streams with it. The merge knows which can be left out. */
static void fail_streams(struct session *s, size_t server, struct fault *fault)
{
    for (size_t i = 0; i < s->stream_count; i++)
        if (wants_from(s, i, server)) stream_fail(s->streams[i], fault_copy(fault));
    fault_free(fault);
    s->stalled = false; /* there is no event that would end a wait for them */
}

/* What a server that is back no longer has as it was: the first such dataset ends the merge; with --partial each takes only itself with it,
 * where anything of it is still wanted. Takes the faults. */
static struct fault *take_found(struct session *s, struct fault **found)
{
    struct fault *first = NULL;
    for (size_t i = 0; i < s->stream_count; i++) {
        if (!found[i]) continue;
        if (s->options->partial && stream_unasked(s->streams[i]) > 0) {
            stream_fail(s->streams[i], fault_frame(found[i], "merge job %s", s->options->job));
        } else if (!s->options->partial && !first) {
            first = found[i];
        } else {
            fault_free(found[i]);
        }
    }
    return first;
}

static struct fault *recheck(struct session *s, size_t server)
{
    struct fault **found = mem_zalloc((s->stream_count + 1) * sizeof *found);
    struct fault *fault = recheck_server(s->roster, s->options, server, found);
    if (!fault) fault = take_found(s, found);
    free(found);
    return fault;
}

/* A server is back. If it has what it had, its streams go on from what they need: what was asked and did not come is unasked again. The
 * loop must not wait before they have asked. */
static struct fault *go_on(struct session *s, size_t server)
{
    struct fault *fault = recheck(s, server);
    if (fault && fault_may_pass(fault)) return lifeline_failed(s->lines[server], fault);
    if (fault) return fault;
    lifeline_adopt(s->lines[server]);
    for (size_t i = 0; i < s->stream_count; i++) {
        if (server_of(s, i) != server) continue;
        give_link(s, i);
        fetch_reconnected(s->fetch, i);
    }
    s->stalled = false;
    return NULL;
}

/* A link that is down is replaced, unless everything it was to bring is here. */
static struct fault *tend_lines(struct session *s)
{
    for (size_t i = 0; i < s->line_count; i++) {
        struct lifeline *l = s->lines[i];
        if (!l || link_state(lifeline_link(l)) != LINK_DOWN || !is_needed(s, lifeline_link(l))) continue;
        bool back;
        struct fault *fault = lifeline_turn(l, &back);
        if (fault && s->options->partial) {
            fail_streams(s, i, fault_frame(fault, "merge job %s", s->options->job));
            continue;
        }
        if (!fault && back) fault = go_on(s, i);
        if (fault) return about_server(s, i, fault);
    }
    return NULL;
}

/* The clocks of the servers stand still while the reader of the output is the slow side. */
static void hold_lines(struct session *s, bool held)
{
    for (size_t i = 0; i < s->line_count; i++)
        if (s->lines[i]) lifeline_hold(s->lines[i], held);
}

static struct fault *take_stream_fault(struct session *s)
{
    for (size_t i = 0; i < s->stream_count; i++)
        if (stream_fault(s->streams[i])) return stream_take_fault(s->streams[i]);
    return NULL;
}

static void begin_stall(struct session *s)
{
    size_t i = merge_waits_for(s->merge);
    if (s->stalled && s->stalled_on == i) return;
    s->stalled = true;
    s->stalled_on = i;
    stream_stats(s->streams[i])->stalls++;
    fetch_stalled(s->fetch, i);
}

/* Writes while the output takes it. Full blocks always; the rest when there is time. */
static struct fault *write_out(struct session *s, bool all)
{
    bool blocked;
    struct fault *fault = sink_pump(s->sink, all, &blocked);
    s->sink_waited_for = blocked;
    if (blocked) event_add(s->sink_event, NULL);
    s->flushed_us = clock_us();
    return fault;
}

/* What a waiting merge has goes out at once, unless it did so a moment ago; then a little later. */
static struct fault *flush_in_time(struct session *s)
{
    if (sink_pending(s->sink) == 0) return NULL;
    if (clock_us() - s->flushed_us > FLUSH_EVERY_US) return write_out(s, true);
    const struct timeval later = {.tv_usec = FLUSH_EVERY_US};
    if (!evtimer_pending(s->flush_event, NULL)) evtimer_add(s->flush_event, &later);
    return NULL;
}

/* The sink holds whole items, but a pipe may have taken half of one: who is interrupted writes what is there, as far as somebody
 * reads it. */
static void settle_output(struct session *s)
{
    int64_t until = clock_ms() + SETTLE_MS;
    for (bool blocked = true; blocked && clock_ms() < until;) {
        fault_free(sink_pump(s->sink, true, &blocked));
        struct pollfd ready = {.fd = sink_wait_fd(s->sink), .events = POLLOUT};
        if (blocked) poll(&ready, 1, (int)(until - clock_ms()));
    }
}

static struct fault *turn_merge(struct session *s)
{
    enum merge_turn what = merge_turn(s->merge, QUOTA);
    if (what != MERGE_DRY) s->stalled = false;
    switch (what) {
    case MERGE_MORE: return sink_has_room(s->sink) ? NULL : write_out(s, false);
    case MERGE_BLOCKED: return write_out(s, false);
    case MERGE_DRY: begin_stall(s); return flush_in_time(s);
    case MERGE_FAILED: return take_stream_fault(s);
    case MERGE_DONE: s->phase = PHASE_FLUSHING; return NULL;
    }
    return NULL;
}

/* With --resume: now and then what is written is made to last, with a note of how far it goes. */
static struct fault *save(struct session *s)
{
    if (!s->resume || !resume_is_due(s->resume, sink_bytes(s->sink))) return NULL;
    struct fault *fault = write_out(s, true);
    if (s->consume) consume_hold(s->consume, s->merge);
    if (!fault) fault = resume_save(s->resume, s->merge);
    return fault || !s->consume ? fault : consume_saved(s->consume, s->merge);
}

/* The loop must not sleep through the time at which a lease is to be renewed. */
static struct fault *tend_leases(struct session *s)
{
    if (!s->consume) return NULL;
    uint64_t appended = sink_bytes(s->sink);
    struct fault *fault = consume_turn(s->consume, s->merge, appended, appended - sink_pending(s->sink));
    int64_t ms = consume_wake_ms(s->consume);
    const struct timeval when = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    if (!fault && !evtimer_pending(s->lease_event, NULL)) evtimer_add(s->lease_event, &when);
    return fault;
}

/* A merge that ends early is between two items, too. Should this fail, the checkpoint before holds. */
static void save_last(struct session *s)
{
    struct fault *fault = write_out(s, true);
    if (s->consume) consume_hold(s->consume, s->merge);
    if (!fault && s->resume) fault = resume_save(s->resume, s->merge);
    bool written = !fault && sink_pending(s->sink) == 0;
    if (written && s->consume && !s->resume) fault = consume_finish(s->consume, s->merge);
    fault_free(fault);
}

static struct fault *turn(struct session *s)
{
    if (stop_signal()) {
        settle_output(s);
        return fault_new(FAULT_INTERRUPTED, "interrupted after %llu items", (unsigned long long)merge_items(s->merge));
    }
    struct fault *fault = NULL;
    if (s->phase == PHASE_MERGING) {
        fault = turn_merge(s);
        if (!fault) fault = tend_lines(s);
        if (!fault) fault = save(s);
    }
    if (!fault) fault = tend_leases(s);
    if (!fault && s->phase == PHASE_FLUSHING) {
        fault = write_out(s, true);
        if (!fault && sink_pending(s->sink) == 0) s->phase = PHASE_OVER;
    }
    if (fault) return fault;
    if (s->phase == PHASE_MERGING) fetch_ask(s->fetch);
    for (size_t i = 0; i < s->line_count; i++)
        if (s->lines[i]) link_flush(lifeline_link(s->lines[i]));
    progress_tick(s->progress, merge_items(s->merge));
    /* A link that died while sending has no events left: nothing would end the wait that comes now. */
    return s->phase == PHASE_MERGING ? tend_lines(s) : NULL;
}

/* The callbacks of the loop read and decode: that is work. */
static uint64_t reading_us(const struct session *s)
{
    uint64_t us = 0;
    for (size_t i = 0; i < s->line_count; i++)
        if (s->lines[i]) us += link_reading_us(lifeline_link(s->lines[i]));
    return us;
}

/* Waits for the loop when there is nothing to do but wait, and counts for whom. */
static void spin(struct session *s)
{
    bool waits = s->stalled || s->sink_waited_for;
    uint64_t before = waits ? clock_us() - reading_us(s) : 0;
    if (s->sink_waited_for) hold_lines(s, true);
    event_base_loop(s->base, waits ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
    if (s->sink_waited_for) hold_lines(s, false);
    if (!waits) return;
    uint64_t passed = clock_us() - reading_us(s) - before;
    if (s->sink_waited_for) {
        s->times.output_us += passed;
    } else {
        s->times.stream_us += passed;
        stream_stats(s->streams[s->stalled_on])->stalled_us += passed;
    }
    s->sink_waited_for = false;
}

struct fault *session_run(struct session *s)
{
    s->begun_us = clock_us();
    uint64_t items_before = merge_items(s->merge), bytes_before = sink_bytes(s->sink);
    struct fault *fault = NULL;
    while (s->phase != PHASE_OVER && !fault) {
        fault = turn(s);
        if (!fault && s->phase != PHASE_OVER) spin(s);
    }
    if (fault && (s->resume || s->consume) && !fault_is(fault, FAULT_OUTPUT)) save_last(s);
    s->times.total_us = clock_us() - s->begun_us;
    s->times.items = merge_items(s->merge) - items_before;
    s->times.bytes = sink_bytes(s->sink) - bytes_before;
    progress_clear(s->progress);
    return fault;
}
