#include "merger/roster.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "merger/control.h"
#include "merger/look.h"
#include "merger/missing.h"
#include "merger/verdict.h"
#include "merger/wakeup.h"
#include "shared/log.h"
#include "shared/mem.h"
#include "shared/stop.h"

enum { LOOK_EVERY_MS = 1000 };

struct server {
    struct endpoint *endpoint;
    struct control *control;
    struct wakeup *wakeup; /* only while something is waited for */
    struct fault *away;    /* --partial: why there is no connection */
};

struct roster {
    const struct options *options;
    char *client_name;
    struct server *servers;
    size_t server_count;
    struct attendance all;
    int64_t now_s;       /* Redis TIME at the start */
    int64_t since_s;     /* loads that began before are not there yet */
    int64_t progress_ms; /* clock_ms() when something last moved */
    bool accepts_consumed;
};

/* ---- members ----------------------------------------------------------------------------------------------------- */

/* Only the lists named take part when nothing else was asked for. */
static bool wants_datasets(const struct options *o)
{
    return o->list_count == 0 || o->job_is_given || o->id_count > 0 || o->workers > 0;
}

static struct fault *about_server(struct fault *f, const struct server *s)
{
    return f ? fault_frame(f, "ask %s", endpoint_name(s->endpoint)) : NULL;
}

struct set {
    const char *key;
    redisReply *reply;
};

static struct fault *ask_set(struct conn *c, void *set)
{
    struct set *s = set;
    return conn_ask(c, &s->reply, "SMEMBERS", s->key, NULL);
}

/* The strings of a set. Appended to *texts; foreign ones that are no valid names are left out. */
static struct fault *read_set(struct server *s, const char *key, char ***texts, size_t *n)
{
    if (s->away) return NULL;
    struct set set = {.key = key};
    struct fault *fault = control_ask(s->control, ask_set, &set);
    if (fault) return about_server(fault, s);
    redisReply *reply = set.reply;
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
        const redisReply *e = reply->element[i];
        if (e->type != REDIS_REPLY_STRING || strlen(e->str) != e->len || !dataset_name_is_valid(e->str)) continue;
        *texts = mem_array(*texts, *n + 1, sizeof **texts);
        (*texts)[(*n)++] = mem_strdup(e->str);
    }
    freeReplyObject(reply);
    return NULL;
}

static void free_texts(char **texts, size_t n)
{
    for (size_t i = 0; i < n; i++) free(texts[i]);
    free(texts);
}

/* Sorted, each once. Returns how many are left. */
static size_t sort_unique(char **texts, size_t n)
{
    if (n == 0) return 0;
    dataset_sort_ids(texts, n);
    size_t kept = 1;
    for (size_t i = 1; i < n; i++) {
        if (strcmp(texts[i], texts[kept - 1]) == 0) {
            free(texts[i]);
        } else {
            texts[kept++] = texts[i];
        }
    }
    return kept;
}

struct fault *roster_jobs(struct roster *r, char ***jobs, size_t *n)
{
    char *key = dataset_jobs_key(r->options->prefix);
    struct fault *fault = NULL;
    *jobs = NULL;
    *n = 0;
    for (size_t i = 0; i < r->server_count && !fault; i++) fault = read_set(&r->servers[i], key, jobs, n);
    *n = sort_unique(*jobs, *n);
    free(key);
    return fault;
}

static struct fault *no_datasets(struct roster *r)
{
    char **jobs;
    size_t n;
    struct fault *fault = roster_jobs(r, &jobs, &n);
    if (fault) return fault;
    struct buf list = {0};
    for (size_t i = 0; i < n && i < 20; i++) buf_printf(&list, "%s%s", i ? ", " : "", jobs[i]);
    if (n > 20) buf_printf(&list, " and %zu more", n - 20);
    fault = fault_new(FAULT_NO_DATASETS, "job %s has no datasets on %s%s; %s%s", r->options->job,
                      endpoint_name(r->servers[0].endpoint), r->server_count > 1 ? " or the other servers" : "",
                      n ? "jobs there: " : "there are no jobs at all", buf_text(&list));
    buf_free(&list);
    free_texts(jobs, n);
    return fault;
}

/* The ids of the job on all servers; with -w also those that joined since the last call. */
static struct fault *read_ids(struct roster *r)
{
    char *key = dataset_set_key(r->options->prefix, r->options->job);
    char **ids = NULL;
    size_t n = 0;
    struct fault *fault = NULL;
    for (size_t i = 0; i < r->server_count && !fault; i++) fault = read_set(&r->servers[i], key, &ids, &n);
    n = sort_unique(ids, n);
    if (!fault) attendance_add_new(&r->all, r->options->job, ids, n);
    free_texts(ids, n);
    free(key);
    return fault;
}

static struct fault *check_count(const struct roster *r)
{
    size_t n = attendance_datasets(&r->all);
    if (r->options->workers == 0 || n <= r->options->workers) return NULL;
    struct buf ids = {0};
    for (size_t i = 0, shown = 0; i < r->all.count && shown < 40; i++)
        if (!r->all.members[i].is_plain) buf_printf(&ids, "%s%s", shown++ ? " " : "", r->all.members[i].id);
    struct fault *fault =
        fault_new(FAULT_WRONG_COUNT,
                  "job %s has %zu datasets where -w says %zu: %s; name the ids to merge, or remove what "
                  "does not belong with nwm-worker --drop",
                  r->options->job, n, r->options->workers, buf_text(&ids));
    buf_free(&ids);
    return fault;
}

static struct fault *find_members(struct roster *r)
{
    const struct options *o = r->options;
    if (wants_datasets(o)) {
        for (size_t i = 0; i < o->id_count; i++) attendance_add(&r->all, o->job, o->ids[i], false);
        struct fault *fault = o->id_count == 0 ? read_ids(r) : NULL;
        if (!fault) fault = check_count(r);
        if (!fault && r->all.count == 0 && o->workers == 0) fault = no_datasets(r);
        if (fault) return fault;
    }
    for (size_t i = 0; i < o->list_count; i++) attendance_add(&r->all, o->job, o->lists[i], true);
    return NULL;
}

/* ---- looking ----------------------------------------------------------------------------------------------------- */

static bool is_decided(const struct member *m) { return m->ready || m->fault; }

/* The members as seen by one server. */
struct look {
    struct roster *roster;
    size_t server;
    bool watch;
};

static struct fault *ask_datasets(struct conn *c, void *look)
{
    const struct look *l = look;
    struct roster *r = l->roster;
    return look_at_datasets(c, l->server, r->options, r->all.members, r->all.count);
}

static struct fault *ask_lists(struct conn *c, void *look)
{
    const struct look *l = look;
    return look_at_lists(c, l->server, l->watch, l->roster->all.members, l->roster->all.count);
}

struct fault *roster_look(struct roster *r)
{
    struct fault *fault = NULL;
    if (r->options->workers > 0 && r->options->id_count == 0) {
        fault = read_ids(r);
        if (!fault) fault = check_count(r);
    }
    for (size_t i = 0; i < r->server_count && !fault; i++) {
        struct look look = {.roster = r, .server = i};
        if (r->servers[i].away) continue;
        fault = about_server(control_ask(r->servers[i].control, ask_datasets, &look), &r->servers[i]);
    }
    const struct verdict_terms terms = {r->options, r->since_s, r->accepts_consumed};
    for (size_t i = 0; i < r->all.count && !fault; i++) {
        struct member *m = &r->all.members[i];
        if (!m->is_plain && !is_decided(m) && verdict(&terms, m)) r->progress_ms = clock_ms();
    }
    return fault;
}

static struct fault *look_at_all_lists(struct roster *r, bool watch)
{
    struct fault *fault = NULL;
    for (size_t i = 0; i < r->server_count && !fault; i++) {
        struct look look = {r, i, watch};
        if (r->servers[i].away) continue;
        fault = about_server(control_ask(r->servers[i].control, ask_lists, &look), &r->servers[i]);
    }
    for (size_t i = 0; i < r->all.count && !fault; i++) {
        struct member *m = &r->all.members[i];
        if (!m->is_plain || m->fault) continue;
        m->ready = m->found;
        if (watch && m->found) control_watches(r->servers[m->server].control);
        if (!m->found)
            m->fault = fault_about(fault_new(FAULT_VANISHED, "there is no list of this name"), "%s", m->name);
    }
    return fault;
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static const struct member *first_wrong(const struct roster *r)
{
    for (size_t i = 0; i < r->all.count; i++)
        if (r->all.members[i].fault) return &r->all.members[i];
    return NULL;
}

static bool all_decided(const struct roster *r)
{
    if (r->options->workers > attendance_datasets(&r->all) && wants_datasets(r->options)) return false;
    for (size_t i = 0; i < r->all.count; i++)
        if (!r->all.members[i].is_plain && !is_decided(&r->all.members[i])) return false;
    return true;
}

/* One that is wrong ends the wait, except where it can be left out. */
static bool is_over(const struct roster *r) { return (first_wrong(r) && !r->options->partial) || all_decided(r); }

/* A member's fault on its way to the user: the member keeps none. */
static struct fault *take_fault(struct roster *r)
{
    struct member *m = (struct member *)first_wrong(r);
    struct fault *fault = m->fault;
    m->fault = NULL;
    return fault;
}

static void subscribe(struct roster *r)
{
    char *channel = dataset_events_channel(r->options->prefix, r->options->job);
    for (size_t i = 0; i < r->server_count; i++) {
        struct server *s = &r->servers[i];
        if (!s->wakeup && !s->away)
            s->wakeup = wakeup_new(s->endpoint, r->client_name, channel, r->options->timeout_ms);
    }
    free(channel);
}

static void unsubscribe(struct roster *r)
{
    for (size_t i = 0; i < r->server_count; i++) {
        wakeup_free(r->servers[i].wakeup);
        r->servers[i].wakeup = NULL;
    }
}

/* Until an event, a signal, or the time for the next look. */
static struct fault *wait_for_event(struct roster *r, int64_t most_ms)
{
    struct pollfd *fds = mem_zalloc((r->server_count + 1) * sizeof *fds);
    fds[0] = (struct pollfd){.fd = stop_fd(), .events = POLLIN};
    for (size_t i = 0; i < r->server_count; i++) {
        struct wakeup *w = r->servers[i].wakeup;
        fds[i + 1] = (struct pollfd){.fd = w ? wakeup_fd(w) : -1, .events = POLLIN};
    }
    poll(fds, r->server_count + 1, (int)most_ms);
    for (size_t i = 0; i < r->server_count; i++) {
        struct server *s = &r->servers[i];
        if (!fds[i + 1].revents || wakeup_drain(s->wakeup)) continue;
        wakeup_free(s->wakeup);
        s->wakeup = NULL;
    }
    free(fds);
    return stop_signal() ? fault_new(FAULT_INTERRUPTED, "interrupted while waiting for the datasets") : NULL;
}

static int64_t time_left(const struct roster *r)
{
    if (r->options->wait_ms == FOREVER) return INT64_MAX;
    return r->progress_ms + r->options->wait_ms - clock_ms();
}

static void tell_waiting(const struct roster *r)
{
    size_t ready = 0;
    for (size_t i = 0; i < r->all.count; i++) ready += !r->all.members[i].is_plain && r->all.members[i].ready;
    size_t of = r->options->workers > attendance_datasets(&r->all) ? r->options->workers : attendance_datasets(&r->all);
    char *line = mem_printf("waiting: %zu of %zu datasets ready", ready, of);
    if (log_is_terminal()) log_progress(line);
    free(line);
}

static const struct fault *first_away(const struct roster *r)
{
    for (size_t i = 0; i < r->server_count; i++)
        if (r->servers[i].away) return r->servers[i].away;
    return NULL;
}

/* The time is over. */
static struct fault *give_up(struct roster *r)
{
    if (!r->options->partial) return missing_timed_out(r->options, &r->all);
    missing_give_up(r->options, &r->all, first_away(r));
    return NULL;
}

static struct fault *wait_for_datasets(struct roster *r)
{
    r->progress_ms = clock_ms();
    struct fault *fault = roster_look(r);
    while (!fault && !is_over(r)) {
        int64_t left = time_left(r);
        if (left <= 0 || r->options->wait_ms == 0) {
            fault = give_up(r);
            break;
        }
        subscribe(r); /* before the look that decides, so that no event falls between */
        tell_waiting(r);
        if ((fault = roster_look(r)) != NULL || is_over(r)) break;
        fault = wait_for_event(r, left < LOOK_EVERY_MS ? left : LOOK_EVERY_MS);
        if (!fault) fault = roster_look(r);
    }
    unsubscribe(r);
    return fault;
}

struct fault *roster_settle(struct roster *r)
{
    if (r->options->partial) return missing_settle(r->options, &r->all);
    return first_wrong(r) ? take_fault(r) : NULL;
}

static bool member_is_used_up(const struct member *m) { return m->is_used_up; }

/* --consume takes what is left of a job. When that is nothing at all, it is said of the first. */
static struct fault *remove_used_up(struct roster *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->all.count; i++) n += r->all.members[i].is_used_up;
    if (n == 0) return NULL;
    if (n == r->all.count) return verdict_consumed(&r->all.members[0]);
    log_note("%zu of %zu datasets were consumed to their end before", n, r->all.count);
    attendance_remove(&r->all, member_is_used_up);
    return NULL;
}

struct fault *roster_wait(struct roster *r)
{
    struct fault *fault = wait_for_datasets(r);
    if (fault) return fault;
    if (!first_wrong(r) || r->options->partial) fault = look_at_all_lists(r, true);
    if (!fault) fault = roster_settle(r);
    if (!fault) fault = remove_used_up(r);
    if (fault) return fault;
    /* With -w, datasets join while they are waited for. */
    if (r->options->id_count == 0) attendance_sort(&r->all);
    return NULL;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static struct fault *ask_clock(struct conn *c, void *reply) { return conn_ask(c, reply, "TIME", NULL); }

static struct fault *read_clock(struct roster *r)
{
    redisReply *reply;
    const struct server *s = r->servers;
    while (s->away) s++;
    struct fault *fault = control_ask(s->control, ask_clock, &reply);
    if (fault) return about_server(fault, s);
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[0]->str)
        r->now_s = strtoll(reply->element[0]->str, NULL, 10);
    freeReplyObject(reply);
    const struct options *o = r->options;
    r->since_s = o->since_is_ago ? r->now_s - o->since_s : o->since_s;
    return NULL;
}

/* --partial: one of several servers may be away, where it can be told what is missing then. */
static bool can_be_away(const struct options *o, const struct fault *why)
{
    bool knows = o->id_count > 0 || o->workers > 0;
    bool is_its_own = !fault_is(why, FAULT_INTERRUPTED) && fault_exit(why) >= EXIT_SOURCE;
    return o->partial && knows && is_its_own && o->endpoint_count > 1;
}

static struct fault *all_away(struct roster *r)
{
    for (size_t i = 0; i < r->server_count; i++)
        if (!r->servers[i].away) return NULL;
    struct fault *fault = r->servers[0].away;
    r->servers[0].away = NULL;
    return fault;
}

struct fault *roster_connect(const struct options *o, struct roster **out)
{
    struct roster *r = mem_zalloc(sizeof *r);
    *out = r;
    r->options = o;
    r->server_count = o->endpoint_count;
    r->servers = mem_zalloc(r->server_count * sizeof *r->servers);
    r->client_name = mem_printf("nwm-merger:%s", o->job);
    /* Who asks how things stand wants to know that the server is away, not to wait for it. */
    int64_t patience_ms = o->status || o->jobs ? 0 : o->timeout_ms;
    struct fault *fault = NULL;
    for (size_t i = 0; i < r->server_count && !fault; i++) {
        struct server *s = &r->servers[i];
        s->endpoint = o->endpoints[i];
        fault = control_open(s->endpoint, r->client_name, o->timeout_ms, patience_ms, &s->control);
        if (!fault || !can_be_away(o, fault)) continue;
        s->away = fault;
        fault = NULL;
    }
    if (!fault) fault = all_away(r);
    /* Only these want to know how old something is; everybody else is spared the round trip. */
    bool asks_age = o->has_since || o->status;
    return fault || !asks_age ? fault : read_clock(r);
}

struct fault *roster_open(const struct options *o, struct roster **out)
{
    struct fault *fault = roster_connect(o, out);
    if (!fault) fault = find_members(*out);
    if (!fault) fault = look_at_all_lists(*out, false);
    if (!fault && first_wrong(*out) && !o->partial) fault = take_fault(*out);
    return fault;
}

void roster_free(struct roster *r)
{
    if (!r) return;
    unsubscribe(r);
    for (size_t i = 0; i < r->server_count; i++) {
        control_close(r->servers[i].control);
        fault_free(r->servers[i].away);
    }
    attendance_fini(&r->all);
    free(r->servers);
    free(r->client_name);
    free(r);
}

void roster_print_faults(const struct roster *r)
{
    for (size_t i = 0; i < r->all.count + r->all.left_out; i++)
        if (r->all.members[i].fault) log_fault(r->all.members[i].fault);
}

void roster_accept_consumed(struct roster *r) { r->accepts_consumed = true; }
size_t roster_size(const struct roster *r) { return r->all.count; }
const struct member *roster_member(const struct roster *r, size_t i) { return &r->all.members[i]; }
void roster_set_list(struct roster *r, size_t i, const char *list, uint64_t removed)
{
    struct member *m = &r->all.members[i];
    char *copy = mem_strdup(list);
    free(m->manifest.list);
    m->manifest.list = copy;
    m->removed = removed;
}

size_t roster_servers(const struct roster *r) { return r->server_count; }
struct control *roster_control(struct roster *r, size_t server) { return r->servers[server].control; }
const struct endpoint *roster_endpoint(const struct roster *r, size_t server) { return r->servers[server].endpoint; }
size_t roster_missing(const struct roster *r) { return missing_datasets(&r->all); }
size_t roster_missing_lists(const struct roster *r) { return missing_lists(&r->all); }
size_t roster_left_out(const struct roster *r) { return r->all.left_out; }
const struct member *roster_left_out_member(const struct roster *r, size_t i)
{
    return &r->all.members[r->all.count + i];
}

void roster_leave_out(struct roster *r, size_t i, struct fault *fault)
{
    r->all.members[i].ready = false;
    r->all.members[i].fault = fault;
}

size_t roster_may_leave_out(const struct roster *r)
{
    size_t gone = roster_missing(r) + roster_missing_lists(r), most = r->options->max_missing;
    if (!r->options->partial || r->all.count == 0 || gone >= most) return 0;
    return most - gone < r->all.count - 1 ? most - gone : r->all.count - 1;
}

int64_t roster_now(const struct roster *r) { return r->now_s; }

/* ---- what the merge needs ---------------------------------------------------------------------------------------- */

static struct fault *orders_differ(const struct member *a, const struct member *b)
{
    return fault_new(FAULT_ORDER_CONFLICT,
                     "%s is sorted by \"%s\" and %s by \"%s\"; datasets of one merge need one order", a->name,
                     a->manifest.order, b->name, b->manifest.order);
}

struct fault *roster_order(const struct roster *r, struct order **out)
{
    const struct member *sealed = NULL;
    const char *asked = order_is_given(r->options->order) ? order_text(r->options->order) : NULL;
    for (size_t i = 0; i < r->all.count; i++) {
        const struct member *m = &r->all.members[i];
        if (m->is_plain || !m->manifest.order) continue;
        if (!sealed) sealed = m;
        if (strcmp(m->manifest.order, sealed->manifest.order) != 0) return orders_differ(sealed, m);
    }
    if (sealed && asked && strcmp(sealed->manifest.order, asked) != 0)
        return fault_new(FAULT_ORDER_CONFLICT,
                         "%s was loaded sorted by \"%s\", and the command line says \"%s\"; leave the letters out, the "
                         "merger adopts the order of the datasets",
                         sealed->name, sealed->manifest.order, asked);
    struct fault *fault = order_parse(sealed ? sealed->manifest.order : order_text(r->options->order), out);
    if (!fault && r->options->separator == '\0') order_hint_zero(*out);
    return fault;
}

struct stream_spec roster_spec(const struct member *m)
{
    const struct manifest *f = &m->manifest;
    return (struct stream_spec){
        .name = m->name,
        .tag = m->id,
        .list = f->list,
        .items = f->items,
        .bytes = f->bytes,
        .max_item = f->max_item,
        .max_window = f->max_window,
        .first = f->first,
        .last = f->last,
        .has_digest = f->has_digest,
        .digest = f->digest,
        .is_plain = m->is_plain,
    };
}
