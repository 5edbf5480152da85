#include "merger/consume.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/backoff.h"
#include "shared/conn.h"
#include "shared/dataset.h"
#include "shared/log.h"
#include "shared/mem.h"
#include "shared/script_consume.h"
#include "shared/script_run.h"
#include "shared/stop.h"

enum {
    PIPELINE = 256,    /* so many scripts are sent before the first answer is taken */
    FAREWELL_MS = 500, /* a merge that ends is not held up by a server that does not answer */
};

enum step { CLAIM, TRIM, RENEW, RELEASE };

struct part {
    struct consumer consumer; /* its strings: */
    char *manifest, *lease, *channel;
    char nonce[DATASET_NONCE_LEN + 1];
    size_t server;
    uint64_t items;
    bool claimed; /* or perhaps: a claim was sent */
    bool held;    /* items of it are, or may be, in a file with a checkpoint */
    char *list;
    struct stream_mark base, at; /* struct stream_spec */
    struct stream_mark target;   /* to be removed up to here, */
    uint64_t trimmed;            /* removed up to here */
};

struct server {
    struct conn *conn; /* NULL while there is none */
    struct backoff backoff;

    bool busy; /* a round is under way: */
    enum step step;
    size_t sent, taken;    /* parts, of all */
    bool asked[PIPELINE];  /* those that concern it, part i at i % PIPELINE */
    struct fault *refused; /* the first refusal */
    int64_t since;         /* clock_ms() of the last question or answer */
};

struct consume {
    const struct options *options;
    struct roster *roster;
    struct resume *resume;
    char *who;
    struct part *parts;
    size_t count;
    struct server *servers;
    bool in_order;    /* RELEASE: the merge is complete, so nothing is held any more */
    int64_t renew_at; /* clock_ms() */

    /* To a pipe: what is removed once the output has come to `due_bytes`. */
    bool is_due;
    uint64_t due_bytes, done_bytes;
    int64_t done_ms;
};

/* ---- the place in a dataset, as the manifest keeps it ------------------------------------------------------------ */

char *consume_place_text(const struct stream_mark *at)
{
    char digest[DIGEST_TEXT], tail[DIGEST_TEXT];
    digest_text(&at->digest, digest);
    digest_text(&at->tail, tail);
    return mem_printf("%" PRIu64 " %s %zu %s", at->bytes, digest, at->tail_len, tail);
}

bool consume_read_place(const char *text, struct stream_mark *at)
{
    char digest[DIGEST_TEXT], tail[DIGEST_TEXT];
    uint64_t tail_len;
    if (sscanf(text, "%" SCNu64 " %32s %" SCNu64 " %32s", &at->bytes, digest, &tail_len, tail) != 4) return false;
    at->tail_len = tail_len;
    if (!digest_parse(digest, &at->digest) || !digest_parse(tail, &at->tail)) return false;
    char *again = consume_place_text(at);
    bool same = strcmp(again, text) == 0;
    free(again);
    return same;
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

/* What is in the output already must not have been consumed by others since. */
static void send_claim(struct consume *c, struct conn *conn, struct part *p)
{
    bool begun = p->at.items > p->base.items;
    p->claimed = true;
    script_claim_send(conn, &p->consumer, begun ? p->base.items : UINT64_MAX, c->resume != NULL);
}

/* The last item that is consumed is still in the list, but for the last of all. From when a trim is sent, so much may be gone. */
static void expect_removed(struct consume *c, struct part *p, uint64_t consumed)
{
    uint64_t removed = consumed == p->items || consumed == 0 ? consumed : consumed - 1;
    roster_set_list(c->roster, (size_t)(p - c->parts), p->list, removed);
}

static void send_step(struct consume *c, struct conn *conn, struct part *p, enum step step)
{
    if (step == CLAIM) send_claim(c, conn, p);
    if (step == RENEW) script_renew_send(conn, &p->consumer);
    if (step == RELEASE) script_release_send(conn, &p->consumer, c->in_order || !p->held);
    if (step != TRIM) return;
    expect_removed(c, p, p->target.items);
    char *at = consume_place_text(&p->target);
    script_trim_send(conn, &p->consumer, p->target.items, at);
    free(at);
}

static struct fault *nothing_left(const struct part *p)
{
    return fault_about(fault_new(FAULT_CONSUMED, "it was consumed to its end; load it again"), "%s", p->consumer.name);
}

/* Where the dataset begins, now. What the checkpoint says holds, as soon as it says anything. */
static struct fault *take_place(struct consume *c, struct part *p, const struct claimed *claimed)
{
    struct stream_mark gone = {.items = claimed->consumed};
    bool known = gone.items == 0 || (claimed->at && consume_read_place(claimed->at, &gone));
    bool begun = c->resume && p->at.items > p->base.items;
    p->trimmed = gone.items;
    expect_removed(c, p, gone.items);
    if (begun && gone.items <= p->at.items) return NULL;
    if (begun || !known || gone.items > p->items)
        return fault_about(fault_new(FAULT_CHANGED,
                                     "its manifest says of %" PRIu64
                                     " items that they are consumed, which does not fit to what is known",
                                     gone.items),
                           "%s", p->consumer.name);
    if (gone.items == p->items && p->items > 0) return nothing_left(p);
    p->base = p->at = gone;
    if (gone.items > 0)
        log_note("%s: begins behind item %" PRIu64 ", which was consumed before", p->consumer.name, gone.items);
    return NULL;
}

static struct fault *take_claim(struct consume *c, struct conn *conn, struct part *p)
{
    struct claimed claimed;
    struct fault *fault = script_claim_take(conn, &p->consumer, &claimed);
    if (fault) return fault;
    free(p->list);
    p->list = claimed.list;
    fault = take_place(c, p, &claimed);
    free(claimed.at);
    return fault;
}

static struct fault *take_step(struct consume *c, struct conn *conn, struct part *p, enum step step)
{
    if (step == CLAIM) return take_claim(c, conn, p);
    if (step == RENEW) return script_renew_take(conn, &p->consumer);
    if (step == RELEASE) return script_release_take(conn, &p->consumer);
    struct fault *fault = script_trim_take(conn, &p->consumer);
    if (!fault) p->trimmed = p->target.items;
    return fault;
}

/* Of a dataset without items nothing is ever removed: it is consumed when the merge is complete. */
static bool is_to_release(const struct consume *c, const struct part *p)
{
    return p->claimed && (p->trimmed < p->items || (p->items == 0 && !c->in_order));
}

static bool concerns(const struct consume *c, const struct part *p, enum step step)
{
    switch (step) {
    case CLAIM: return true;
    case TRIM: return p->target.items > p->trimmed;
    case RENEW: return p->trimmed < p->items;
    case RELEASE: return is_to_release(c, p);
    }
    return false;
}

/* No more answers come on this connection, or none that belong to what was asked. */
static bool is_lost(const struct fault *fault)
{
    static const enum fault_kind kinds[] = {FAULT_UNREACHABLE, FAULT_TIMEOUT, FAULT_INTERRUPTED, FAULT_PROTOCOL};
    if (fault && fault_may_pass(fault)) return true;
    for (size_t i = 0; fault && i < sizeof kinds / sizeof *kinds; i++)
        if (fault_is(fault, kinds[i])) return true;
    return false;
}

static void forget_conn(struct server *s)
{
    if (s->conn) conn_close(s->conn);
    s->conn = NULL;
}

/* After a signal only farewells are said, and not for long. */
static struct fault *open_conn(struct consume *c, struct server *s, size_t server)
{
    char *name = mem_printf("nwm-merger:%s", c->options->job);
    struct endpoint *e = c->options->endpoints[server];
    struct fault *fault = NULL;
    if (!s->conn)
        fault = stop_signal() ? conn_open_at_end(e, name, FAREWELL_MS, &s->conn)
                              : conn_open(e, name, c->options->timeout_ms, &s->conn);
    free(name);
    if (fault) s->conn = NULL;
    if (s->conn && stop_signal()) conn_set_timeout(s->conn, FAREWELL_MS, false);
    return fault;
}

/* ---- rounds: one step for all datasets of a server --------------------------------------------------------------- */

static void begin_round(struct server *s, enum step step)
{
    s->busy = true;
    s->step = step;
    s->sent = s->taken = 0;
}

/* How the round ended. */
static struct fault *end_round(struct server *s, struct fault *lost)
{
    struct fault *fault = s->refused;
    s->refused = NULL;
    s->busy = false;
    if (!lost) return fault;
    fault_free(fault);
    forget_conn(s);
    return lost;
}

static void send_next(struct consume *c, struct server *s, size_t server)
{
    size_t end = s->sent + PIPELINE < c->count ? s->sent + PIPELINE : c->count;
    for (size_t i = s->sent; i < end; i++) {
        struct part *p = &c->parts[i];
        s->asked[i % PIPELINE] = p->server == server && concerns(c, p, s->step);
        if (s->asked[i % PIPELINE]) send_step(c, s->conn, p, s->step);
    }
    s->sent = end;
    s->since = clock_ms();
}

/* A refusal does not end the round: no claim may be on its way still when they are given back. A fault: the connection is lost. */
static struct fault *take_next(struct consume *c, struct server *s)
{
    struct fault *fault = NULL;
    if (s->asked[s->taken % PIPELINE]) fault = take_step(c, s->conn, &c->parts[s->taken], s->step);
    if (is_lost(fault)) return fault;
    s->taken++;
    s->since = clock_ms();
    if (s->refused) {
        fault_free(fault);
    } else {
        s->refused = fault;
    }
    return NULL;
}

/* Without waiting: can the next answer be taken? */
static struct fault *look_for_answer(struct consume *c, struct server *s, bool *ready)
{
    struct fault *fault = conn_pump(s->conn, ready);
    if (fault || *ready || clock_ms() - s->since < c->options->timeout_ms) return fault;
    return fault_new(FAULT_TIMEOUT, "no answer from %s for %g s (--timeout), to a script of --consume",
                     endpoint_name(conn_endpoint(s->conn)), (double)c->options->timeout_ms / 1000);
}

/* Goes on with the round, to its end if it is to wait; else as far as there are answers. */
static struct fault *advance(struct consume *c, size_t server, bool waits)
{
    struct server *s = &c->servers[server];
    struct fault *lost = NULL;
    while (!lost && (s->taken < s->sent || s->sent < c->count)) {
        if (s->taken == s->sent) send_next(c, s, server);
        bool ready = waits || !s->asked[s->taken % PIPELINE];
        if (!ready) lost = look_for_answer(c, s, &ready);
        if (!lost && !ready) return NULL;
        if (!lost) lost = take_next(c, s);
    }
    return end_round(s, lost);
}

static struct fault *ask_server(struct consume *c, size_t server, enum step step)
{
    struct server *s = &c->servers[server];
    struct fault *fault = open_conn(c, s, server);
    if (!fault && s->busy) fault = advance(c, server, true);
    if (fault) return fault;
    begin_round(s, step);
    return advance(c, server, true);
}

static bool concerns_server(const struct consume *c, size_t server, enum step step)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->parts[i].server == server && concerns(c, &c->parts[i], step)) return true;
    return false;
}

/* Every step may be repeated, so a lost connection is no more than that. */
static struct fault *ask_patiently(struct consume *c, size_t server, enum step step)
{
    struct backoff *backoff = &c->servers[server].backoff;
    for (;;) {
        struct fault *fault = ask_server(c, server, step);
        if (!fault) backoff_progress(backoff);
        int64_t wait;
        if (!fault || !fault_may_pass(fault) || stop_signal() || !backoff_next(backoff, clock_ms(), &wait))
            return fault;
        log_detail("%s; trying again in %" PRId64 " ms", fault_message(fault), wait);
        fault_free(fault);
        struct pollfd stop = {.fd = stop_fd(), .events = POLLIN};
        poll(&stop, 1, (int)wait);
    }
}

static void lease_is_renewed(struct consume *c) { c->renew_at = clock_ms() + c->options->lease_ms / 3; }

/* Waits for all answers. */
static struct fault *ask(struct consume *c, enum step step)
{
    struct fault *fault = NULL;
    for (size_t i = 0; i < roster_servers(c->roster) && !fault; i++)
        if (concerns_server(c, i, step)) fault = ask_patiently(c, i, step);
    if (!fault) lease_is_renewed(c);
    return fault;
}

static bool is_busy(const struct consume *c)
{
    for (size_t i = 0; i < roster_servers(c->roster); i++)
        if (c->servers[i].busy) return true;
    return false;
}

/* Goes on with a round while the merge does. When the connection is lost, it is made again at once and waited for. */
static struct fault *tend(struct consume *c, size_t server)
{
    struct server *s = &c->servers[server];
    if (!s->busy) return NULL;
    struct fault *fault = advance(c, server, false);
    if (!fault || !fault_may_pass(fault)) return fault;
    fault_free(fault);
    return ask_patiently(c, server, s->step);
}

/* Asks without waiting: the answers are taken in later turns. Nothing may be on its way. */
static struct fault *start(struct consume *c, enum step step)
{
    struct fault *fault = NULL;
    for (size_t i = 0; i < roster_servers(c->roster) && !fault; i++) {
        struct server *s = &c->servers[i];
        if (!concerns_server(c, i, step)) continue;
        fault = open_conn(c, s, i);
        if (fault && fault_may_pass(fault)) {
            fault_free(fault);
            fault = ask_patiently(c, i, step);
        } else if (!fault) {
            begin_round(s, step);
            fault = tend(c, i);
        }
    }
    if (!fault) lease_is_renewed(c);
    return fault;
}

/* ---- beginning --------------------------------------------------------------------------------------------------- */

static void make_part(struct consume *c, struct part *p, const struct member *m)
{
    const char *prefix = c->options->prefix, *job = c->options->job;
    p->manifest = dataset_manifest_key(prefix, job, m->id);
    p->lease = dataset_consumer_key(prefix, job, m->id);
    p->channel = dataset_events_channel(prefix, job);
    dataset_nonce(p->nonce);
    p->server = m->server;
    p->items = m->manifest.items;
    p->consumer = (struct consumer){
        .name = m->name,
        .manifest = p->manifest,
        .lease = p->lease,
        .channel = p->channel,
        .id = m->id,
        .token = m->manifest.token ? m->manifest.token : "",
        .who = c->who,
        .nonce = p->nonce,
        .lease_ms = c->options->lease_ms,
    };
}

static char *new_token(void)
{
    char nonce[DATASET_NONCE_LEN + 1];
    dataset_nonce(nonce);
    return script_own_token(nonce);
}

/* With -o the claim stands in the checkpoint before it is made: whoever finds the checkpoint can take it up. */
static struct fault *begin_resume(struct consume *c)
{
    const char *who = resume_consumer(c->resume);
    c->who = who ? mem_strdup(who) : new_token();
    return resume_set_consumer(c->resume, c->who);
}

static void make_parts(struct consume *c)
{
    c->count = roster_size(c->roster);
    c->parts = mem_zalloc((c->count + 1) * sizeof *c->parts);
    for (size_t i = 0; i < c->count; i++) {
        struct part *p = &c->parts[i];
        make_part(c, p, roster_member(c->roster, i));
        if (!c->resume) continue;
        p->at = resume_mark(c->resume, i);
        p->base = resume_base(c->resume, i);
        p->held = p->at.items > p->base.items;
    }
}

static struct consume *new_consume(const struct options *o, struct roster *r, struct resume *resume)
{
    struct consume *c = mem_zalloc(sizeof *c);
    c->options = o;
    c->roster = r;
    c->resume = resume;
    c->done_ms = clock_ms();
    c->servers = mem_zalloc(roster_servers(r) * sizeof *c->servers);
    for (size_t i = 0; i < roster_servers(r); i++)
        c->servers[i].backoff = backoff_start(o->timeout_ms, clock_us() * (uint64_t)getpid() + i);
    return c;
}

struct fault *consume_new(const struct options *o, struct roster *r, struct resume *resume, struct consume **out)
{
    struct consume *c = *out = new_consume(o, r, resume);
    struct fault *fault = NULL;
    if (resume) {
        fault = begin_resume(c);
    } else {
        c->who = new_token();
    }
    make_parts(c);
    if (!fault) fault = ask(c, CLAIM);
    for (size_t i = 0; i < c->count && resume && !fault; i++)
        resume_set_place(resume, i, &c->parts[i].base, &c->parts[i].at);
    return fault;
}

void consume_free(struct consume *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->count; i++) {
        free(c->parts[i].manifest);
        free(c->parts[i].lease);
        free(c->parts[i].channel);
        free(c->parts[i].list);
    }
    for (size_t i = 0; i < roster_servers(c->roster); i++) fault_free(end_round(&c->servers[i], NULL));
    for (size_t i = 0; i < roster_servers(c->roster); i++) forget_conn(&c->servers[i]);
    free(c->servers);
    free(c->parts);
    free(c->who);
    free(c);
}

void consume_spec(const struct consume *c, size_t stream, struct stream_spec *spec)
{
    const struct part *p = &c->parts[stream];
    spec->list = p->list;
    spec->base = p->base;
    spec->from = p->at;
    spec->from_end = true;
}

/* ---- removing ---------------------------------------------------------------------------------------------------- */

static void aim(struct consume *c, const struct merge *m)
{
    for (size_t i = 0; i < c->count; i++) c->parts[i].target = merge_mark(m, i);
}

void consume_hold(struct consume *c, const struct merge *m)
{
    for (size_t i = 0; i < c->count && c->resume; i++) {
        struct part *p = &c->parts[i];
        if (!p->held) p->held = merge_mark(m, i).items > p->base.items;
    }
}

struct fault *consume_saved(struct consume *c, const struct merge *m)
{
    if (is_busy(c)) return NULL;
    aim(c, m);
    return fault_frame(start(c, TRIM), "remove what is safe");
}

struct fault *consume_finish(struct consume *c, const struct merge *m)
{
    struct fault *fault = NULL;
    for (size_t i = 0; i < roster_servers(c->roster) && !fault; i++)
        if (c->servers[i].busy) fault = ask_patiently(c, i, c->servers[i].step);
    if (!fault) aim(c, m);
    return fault_frame(fault ? fault : ask(c, TRIM), "remove what is safe");
}

/* To a pipe: what has been appended now is removed when all of it has been written. */
static struct fault *remove_written(struct consume *c, const struct merge *m, uint64_t appended, uint64_t written)
{
    int64_t now = clock_ms();
    bool much = appended - c->done_bytes >= c->options->checkpoint_bytes;
    bool long_ago = appended > c->done_bytes && now - c->done_ms >= c->options->checkpoint_ms;
    if (!c->is_due && !is_busy(c) && (much || long_ago)) {
        c->is_due = true;
        c->due_bytes = appended;
        aim(c, m);
    }
    if (!c->is_due || written < c->due_bytes || is_busy(c)) return NULL;
    c->is_due = false;
    c->done_bytes = c->due_bytes;
    c->done_ms = now;
    return fault_frame(start(c, TRIM), "remove what was written");
}

int64_t consume_wake_ms(const struct consume *c)
{
    int64_t ms = c->renew_at - clock_ms();
    return ms > 1 ? ms : 1;
}

struct fault *consume_turn(struct consume *c, const struct merge *m, uint64_t appended, uint64_t written)
{
    struct fault *fault = NULL;
    for (size_t i = 0; i < roster_servers(c->roster) && !fault; i++) fault = tend(c, i);
    if (!fault && !c->resume) fault = remove_written(c, m, appended, written);
    if (fault || clock_ms() < c->renew_at || is_busy(c)) return fault;
    return fault_frame(start(c, RENEW), "renew the lease");
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

bool consume_release(struct consume *c)
{
    bool released = true;
    for (size_t i = 0; i < roster_servers(c->roster); i++) {
        if (!concerns_server(c, i, RELEASE)) continue;
        struct fault *fault = ask_server(c, i, RELEASE);
        released &= !fault;
        fault_free(fault);
    }
    return released;
}

struct fault *consume_give_back(struct consume *c)
{
    c->in_order = true;
    struct fault *fault = ask(c, RELEASE);
    for (size_t i = 0; i < c->count && !fault; i++) c->parts[i].claimed = false;
    return fault_frame(fault, "give back what is left");
}

struct fault *consume_settle(const struct options *o, struct roster *r, const char *who)
{
    struct consume *c = new_consume(o, r, NULL);
    c->who = mem_strdup(who);
    make_parts(c);
    for (size_t i = 0; i < c->count; i++) c->parts[i].claimed = roster_member(r, i)->found;
    struct fault *fault = consume_give_back(c);
    consume_free(c);
    return fault;
}
