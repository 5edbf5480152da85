#include "merger/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "merger/checkpoint.h"
#include "shared/conn.h"
#include "shared/log.h"
#include "shared/mem.h"
#include "shared/stop.h"

enum { READ_SIZE = 256 * 1024 };

struct resume {
    const struct options *options;
    struct sink *sink;
    const struct roster *roster;
    const struct order *order;
    char *path, *aside; /* of the checkpoint */

    bool found; /* there is a checkpoint of an earlier process, that is to be continued: */
    struct checkpoint past;
    char *last;                    /* -u: the item written last, past.last_len bytes */
    struct stream_mark *at, *base; /* of each dataset, where this process begins */
    char *consumer;                /* with --consume */

    bool saved; /* a checkpoint is there */
    bool broken;
    uint64_t saved_bytes;
    int64_t saved_ms;
};

/* ---- what does not fit ------------------------------------------------------------------------------------------- */

/* A refusal names the file, and the way out, which is none where items exist nowhere else. */
static struct fault *refusal(struct resume *r, struct fault *fault)
{
    static const enum fault_kind refused[] = {FAULT_CHANGED, FAULT_USAGE, FAULT_ORDER_CONFLICT};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (!fault || !fault_is(fault, refused[i])) continue;
        r->saved = false;
        struct fault *told =
            fault_new(refused[i], "the checkpoint %s does not fit: %s; to begin afresh, remove it%s", r->path,
                      fault_message(fault), r->options->consume ? ", and with it the items that are only there" : "");
        fault_free(fault);
        return told;
    }
    return fault;
}

static struct fault *asks_otherwise(const char *option, bool then)
{
    return fault_new(FAULT_USAGE, "it was begun %s %s", then ? "with" : "without", option);
}

static struct fault *check_limit(const struct resume *r)
{
    const struct checkpoint *c = &r->past;
    const struct options *o = r->options;
    if (c->has_limit != o->has_limit) return asks_otherwise("--limit", c->has_limit);
    if (c->has_limit && c->limit != o->limit)
        return fault_new(FAULT_USAGE, "it was begun with --limit %" PRIu64, c->limit);
    return NULL;
}

static struct fault *check_order(const struct checkpoint *c, const char *text)
{
    if (strcmp(c->order, text) == 0) return NULL;
    return fault_new(FAULT_ORDER_CONFLICT, "it is in order \"%s\", this merge is in order \"%s\"", c->order, text);
}

static struct fault *check_request(const struct resume *r)
{
    const struct checkpoint *c = &r->past;
    const struct options *o = r->options;
    if (strcmp(c->job, o->job) != 0) return fault_new(FAULT_USAGE, "it is of job %s", c->job);
    if (c->unique != o->unique) return asks_otherwise("-u", c->unique);
    if (c->tag != o->tag) return asks_otherwise("--tag", c->tag);
    if (!c->consumer == o->consume) return asks_otherwise("--consume", c->consumer);
    if (c->separator != o->separator) return asks_otherwise("-z", c->separator == '\0');
    if (order_is_given(o->order)) {
        struct fault *fault = check_order(c, order_text(o->order));
        if (fault) return fault;
    }
    return check_limit(r);
}

/* The list may have another name by now: whoever claims a dataset gives it one, and may give the dataset back. */
static struct fault *check_load(const struct checkpoint_stream *s, const struct member *m)
{
    const struct manifest *f = &m->manifest;
    if (f->token && strcmp(f->token, s->token) == 0 && f->items == s->items) return NULL;
    return fault_new(FAULT_CHANGED, "%s was loaded anew: it is run %" PRIu64 " now, and was run %" PRIu64, m->name,
                     f->run, s->run);
}

static struct fault *other_datasets(const struct resume *r)
{
    struct buf list = {0};
    for (size_t i = 0; i < r->past.count && i < 20; i++) buf_printf(&list, "%s%s", i ? " " : "", r->past.streams[i].id);
    if (r->past.count > 20) buf_printf(&list, " and %zu more", r->past.count - 20);
    struct fault *fault = fault_new(FAULT_USAGE, "it is of the datasets %s, in this order", buf_text(&list));
    buf_free(&list);
    return fault;
}

static struct fault *check_datasets(const struct resume *r, const struct roster *roster)
{
    const struct checkpoint *c = &r->past;
    bool same = c->count == roster_size(roster);
    for (size_t i = 0; same && i < c->count; i++) same = strcmp(c->streams[i].id, roster_member(roster, i)->id) == 0;
    if (!same) return other_datasets(r);
    struct fault *fault = NULL;
    for (size_t i = 0; i < c->count && !fault; i++) fault = check_load(&c->streams[i], roster_member(roster, i));
    return fault;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

struct fault *resume_open(const struct options *o, struct sink **sink, struct resume **out)
{
    struct resume *r = mem_zalloc(sizeof *r);
    *out = r;
    r->options = o;
    struct fault *fault = sink_open_kept(o->output, sink);
    if (fault) return fault;
    r->sink = *sink;
    r->path = mem_printf("%s.nwm-checkpoint", sink_target(r->sink));
    r->aside = mem_printf("%s-new", r->path);
    fault = checkpoint_read(&r->past, r->path, &r->found);
    r->saved = r->found && !fault;
    r->saved_bytes = r->past.bytes;
    return refusal(r, fault);
}

void resume_free(struct resume *r)
{
    if (!r) return;
    checkpoint_fini(&r->past);
    free(r->last);
    free(r->at);
    free(r->base);
    free(r->consumer);
    free(r->path);
    free(r->aside);
    free(r);
}

static struct fault *save(struct resume *r, const struct merge *m, bool complete);

static struct fault *read_last(struct resume *r)
{
    const struct checkpoint *c = &r->past;
    if (!c->has_last) return NULL;
    r->last = mem_alloc(c->last_len + 1);
    return sink_read_back(r->sink, c->bytes - 1 - c->last_len, r->last, c->last_len);
}

static struct fault *take_up(struct resume *r)
{
    struct fault *fault = check_request(r);
    if (!fault) fault = check_datasets(r, r->roster);
    if (!fault) fault = check_order(&r->past, order_text(r->order));
    if (!fault) fault = sink_take_up(r->sink, r->past.bytes, &r->past.digest);
    if (!fault) fault = read_last(r);
    if (fault) return refusal(r, fault);
    for (size_t i = 0; i < r->past.count; i++) {
        r->at[i] = r->past.streams[i].at;
        r->base[i] = r->past.streams[i].base;
    }
    log_note("goes on behind item %" PRIu64 " of %s", r->past.items, r->options->output);
    return NULL;
}

/* What may lie there without a checkpoint tells nobody what it is. A consumer has always written one before, so there it may be the only
 * copy of items whose checkpoint was lost. */
static struct fault *start_afresh(struct resume *r)
{
    if (r->options->consume && !sink_is_empty(r->sink))
        return fault_new(FAULT_OUTPUT,
                         "%s.nwm-part holds something and has no checkpoint: it may be the only copy of items that "
                         "were consumed; move it away to begin afresh",
                         sink_target(r->sink));
    sink_set_stays(r->sink, false);
    return sink_take_up(r->sink, 0, NULL);
}

struct fault *resume_begin(struct resume *r, const struct roster *roster, const struct order *order)
{
    r->roster = roster;
    r->order = order;
    r->saved_ms = clock_ms();
    r->at = mem_zalloc((roster_size(roster) + 1) * sizeof *r->at);
    r->base = mem_zalloc((roster_size(roster) + 1) * sizeof *r->base);
    return r->found ? take_up(r) : start_afresh(r);
}

bool resume_is_found(const struct resume *r) { return r->found && !r->past.complete; }
struct stream_mark resume_mark(const struct resume *r, size_t stream) { return r->at[stream]; }
struct stream_mark resume_base(const struct resume *r, size_t stream) { return r->base[stream]; }
const char *resume_consumer(const struct resume *r) { return r->past.consumer; }

struct fault *resume_set_consumer(struct resume *r, const char *who)
{
    r->consumer = mem_strdup(who);
    return r->found ? NULL : save(r, NULL, false);
}

void resume_set_place(struct resume *r, size_t stream, const struct stream_mark *base, const struct stream_mark *at)
{
    r->base[stream] = *base;
    r->at[stream] = *at;
}

struct merge_past resume_past(const struct resume *r)
{
    return (struct merge_past){
        .items = r->past.items,
        .walked = r->past.walked,
        .last = {.data = r->last, .len = r->past.last_len},
    };
}

/* ---- saving ------------------------------------------------------------------------------------------------------ */

bool resume_is_due(const struct resume *r, uint64_t bytes)
{
    if (bytes == r->saved_bytes) return false;
    return bytes - r->saved_bytes >= r->options->checkpoint_bytes ||
           clock_ms() - r->saved_ms >= r->options->checkpoint_ms;
}

static char *copy(const char *text) { return mem_strdup(text ? text : ""); }

static void record_stream(struct checkpoint_stream *s, const struct member *m, struct stream_mark at,
                          struct stream_mark base)
{
    *s = (struct checkpoint_stream){
        .id = copy(m->id),
        .token = copy(m->manifest.token),
        .list = copy(m->manifest.list),
        .run = m->manifest.run,
        .items = m->manifest.items,
        .at = at,
        .base = base,
    };
}

static void record(const struct resume *r, const struct merge *m, bool complete, struct checkpoint *c)
{
    const struct options *o = r->options;
    struct merge_past past = m ? merge_past(m) : (struct merge_past){0};
    *c = (struct checkpoint){
        .complete = complete,
        .job = copy(o->job),
        .order = copy(order_text(r->order)),
        .consumer = r->consumer ? copy(r->consumer) : NULL,
        .unique = o->unique,
        .tag = o->tag,
        .separator = o->separator,
        .has_limit = o->has_limit,
        .limit = o->has_limit ? o->limit : 0,
        .walked = past.walked,
        .items = past.items,
        .bytes = sink_bytes(r->sink),
        .digest = sink_digest(r->sink),
        .has_last = past.last.data != NULL,
        .last_len = past.last.len,
        .count = roster_size(r->roster),
    };
    c->streams = mem_zalloc((c->count + 1) * sizeof *c->streams);
    for (size_t i = 0; i < c->count; i++)
        record_stream(&c->streams[i], roster_member(r->roster, i), m ? merge_mark(m, i) : r->at[i], r->base[i]);
}

static struct fault *save(struct resume *r, const struct merge *m, bool complete)
{
    struct checkpoint now;
    if (r->broken) return NULL;
    r->broken = true;
    struct fault *fault = sink_sync(r->sink);
    if (fault) return fault;
    record(r, m, complete, &now);
    fault = checkpoint_write(&now, r->path, r->aside);
    uint64_t bytes = now.bytes;
    checkpoint_fini(&now);
    if (fault) return fault;
    sink_set_stays(r->sink, true); /* from here on a checkpoint speaks of it, whatever becomes of the directory */
    fault = sink_sync_directory(r->sink);
    if (fault) return fault;
    r->broken = false;
    r->saved = true;
    r->saved_bytes = bytes;
    r->saved_ms = clock_ms();
    return NULL;
}

struct fault *resume_save(struct resume *r, const struct merge *m) { return save(r, m, false); }
struct fault *resume_complete(struct resume *r, const struct merge *m) { return save(r, m, true); }

/* Since the rename nothing held another merger back: the lock went with the temporary's name. */
struct fault *resume_remove(struct resume *r)
{
    r->saved = false;
    bool was_finished = sink_is_finished(r->sink);
    struct fault *fault = sink_lock_again(r->sink);
    if (fault && fault_is(fault, FAULT_BUSY)) {
        fault_free(fault);
        return NULL;
    }
    if (fault) return fault;
    unlink(r->aside);
    if (unlink(r->path) != 0 && errno != ENOENT)
        fault = fault_new(FAULT_OUTPUT, "%s is complete, but its checkpoint %s cannot be removed: %s",
                          r->options->output, r->path, strerror(errno));
    if (was_finished) sink_let_go(r->sink);
    return fault ? fault : sink_sync_directory(r->sink);
}

void resume_forget(struct resume *r)
{
    if (r->found || !r->saved) return;
    fault_free(resume_remove(r));
    sink_set_stays(r->sink, false);
}

/* Data that is wrong stays so. */
void resume_tell(const struct resume *r, const struct fault *fault)
{
    if (!r->saved) return;
    if (sink_is_finished(r->sink)) {
        log_note("%s is complete; the same command does what is left to do", r->options->output);
        return;
    }
    bool helps = fault_exit(fault) != EXIT_DATA && fault_exit(fault) != EXIT_REQUEST;
    log_note("%" PRIu64 " bytes of the result are kept in %s.nwm-part%s", r->saved_bytes, sink_target(r->sink),
             helps ? "; the same command continues" : "");
}

/* ---- a merge that was complete already --------------------------------------------------------------------------- */

static struct fault *digest_file(int fd, struct byte_digest *digest)
{
    char *buffer = mem_alloc(READ_SIZE);
    ssize_t n = 1;
    while (n > 0 && !stop_signal()) {
        n = read(fd, buffer, READ_SIZE);
        if (n > 0) byte_digest_add(digest, buffer, (size_t)n);
        if (n < 0 && errno == EINTR) n = 1;
    }
    free(buffer);
    if (stop_signal()) return fault_new(FAULT_INTERRUPTED, "interrupted while the output was read again");
    return n < 0 ? fault_new(FAULT_OUTPUT, "cannot read the output again: %s", strerror(errno)) : NULL;
}

/* Is FILE what the checkpoint says? Of that length it is read whole. */
static struct fault *look_at_target(const struct resume *r, bool *is_result)
{
    *is_result = false;
    struct stat st;
    int fd = open(sink_target(r->sink), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    struct fault *fault = NULL;
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size == r->past.bytes) {
        struct byte_digest *digest = byte_digest_new();
        fault = digest_file(fd, digest);
        struct digest found = byte_digest_value(digest);
        *is_result = !fault && digest_equal(&found, &r->past.digest);
        byte_digest_free(digest);
    }
    close(fd);
    return fault;
}

static const struct checkpoint_stream *stream_of(const struct checkpoint *c, const char *id)
{
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->streams[i].id, id) == 0) return &c->streams[i];
    return NULL;
}

static bool is_there(const struct roster *roster, const char *id)
{
    for (size_t i = 0; i < roster_size(roster); i++) {
        const struct member *m = roster_member(roster, i);
        if (strcmp(m->id, id) == 0) return m->manifest.token && !m->is_stale;
    }
    return false;
}

/* Do the options that say which loads count say it of those? With --since, ones that are gone by now might have been older. */
static bool are_asked_for(const struct resume *r, const struct roster *roster)
{
    const struct options *o = r->options;
    const struct checkpoint *c = &r->past;
    if (o->workers > 0 && o->workers != c->count) return false;
    if (o->id_count > 0 && o->id_count != c->count) return false;
    for (size_t i = 0; i < o->id_count; i++)
        if (strcmp(o->ids[i], c->streams[i].id) != 0) return false;
    for (size_t i = 0; i < c->count && o->has_since; i++)
        if (!is_there(roster, c->streams[i].id)) return false;
    return true;
}

/* Would the same command merge the same loads again? Datasets that are gone by now were not replaced by others. */
static bool is_same_merge(const struct resume *r, const struct roster *roster)
{
    struct fault *fault = check_request(r);
    for (size_t i = 0; i < roster_size(roster) && !fault; i++) {
        const struct member *m = roster_member(roster, i);
        const struct checkpoint_stream *s = stream_of(&r->past, m->id);
        if (!s) fault = other_datasets(r);
        if (s && m->manifest.token) fault = check_load(s, m);
    }
    bool same = !fault && are_asked_for(r, roster);
    fault_free(fault);
    return same;
}

static void tell_settled(const struct resume *r)
{
    const struct checkpoint *c = &r->past;
    struct digest sum = {0, 0};
    uint64_t total = 0;
    for (size_t i = 0; i < c->count; i++) {
        digest_add(&sum, &c->streams[i].at.digest);
        digest_subtract(&sum, &c->streams[i].base.digest);
        total += c->streams[i].items - c->streams[i].base.items;
    }
    bool limited = c->walked < total;
    struct buf line = {0};
    buf_printf(&line, "%s: %" PRIu64 " item%s from %zu dataset%s of job %s",
               limited ? "stopped at --limit" : "complete", c->items, c->items == 1 ? "" : "s", c->count,
               c->count == 1 ? "" : "s", c->job);
    char text[DIGEST_TEXT];
    digest_text(&sum, text);
    if (!limited) buf_printf(&line, ", digest %s", text);
    log_note("%s, as an earlier process left them in %s", buf_text(&line), r->options->output);
    buf_free(&line);
}

/* The temporary is empty when FILE is the result: nothing of this merge is in it. */
static struct fault *put_in_place(struct resume *r, bool in_place)
{
    if (in_place) {
        sink_set_stays(r->sink, false);
        return NULL;
    }
    struct fault *fault = sink_take_up(r->sink, r->past.bytes, &r->past.digest);
    if (!fault) fault = sink_finish(r->sink);
    return refusal(r, fault);
}

struct fault *resume_settle(struct resume *r, struct roster *roster, struct fault *fault, enum resume_past *past)
{
    *past = RESUME_NO_PAST;
    bool none_left = fault && fault_is(fault, FAULT_NO_DATASETS);
    if (!r->found || !r->past.complete || (fault && !none_left)) return fault;
    struct fault *failed = fault ? NULL : roster_look(roster);
    bool in_place = false;
    if (!failed) failed = look_at_target(r, &in_place);
    bool same = !failed && is_same_merge(r, roster);
    if (same) failed = put_in_place(r, in_place);
    if (failed) {
        fault_free(fault);
        return failed;
    }
    if (same) {
        *past = RESUME_SAME;
        fault_free(fault);
        return NULL;
    }
    if (in_place) *past = RESUME_ANOTHER;
    return fault;
}

struct fault *resume_settled(struct resume *r, enum resume_past past)
{
    struct fault *fault = resume_remove(r);
    if (past == RESUME_SAME && !fault) tell_settled(r);
    if (past == RESUME_SAME) return fault;
    checkpoint_fini(&r->past);
    r->found = false;
    return fault;
}
