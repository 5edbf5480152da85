#include "merger/receipt.h"

#include <inttypes.h>

#include "shared/log.h"
#include "shared/mem.h"

enum { NAMED = 20 }; /* so many datasets are named in the line */

static bool takes_part(const struct session *s, size_t i) { return !merge_left_out(session_merge(s), i); }

/* What the items read add up to; what was consumed before is not among them. */
static struct digest sum_digests(const struct session *s)
{
    struct digest sum = {0, 0};
    for (size_t i = 0; i < session_streams(s); i++) {
        if (!takes_part(s, i)) continue;
        digest_add(&sum, stream_digest(session_stream(s, i)));
        digest_subtract(&sum, &stream_spec(session_stream(s, i))->base.digest);
    }
    return sum;
}

static uint64_t items_read(const struct session *s)
{
    uint64_t items = 0;
    for (size_t i = 0; i < session_streams(s); i++) {
        const struct stream_spec *spec = stream_spec(session_stream(s, i));
        if (takes_part(s, i)) items += spec->items - spec->base.items;
    }
    return items;
}

void receipt_sources(struct buf *line, const struct options *o, const struct roster *r)
{
    size_t n = roster_size(r), lists = 0, missing = roster_missing(r), missing_lists = roster_missing_lists(r);
    for (size_t i = 0; i < n; i++) lists += roster_member(r, i)->is_plain;
    size_t datasets = n - lists, asked = o->id_count ? o->id_count : o->workers;
    size_t of = asked ? asked : missing ? datasets + missing : 0;
    if (of) {
        buf_printf(line, "%zu of %zu datasets of job %s%s", datasets, of, o->job, asked ? "" : ", as found");
    } else if (datasets > 0) {
        buf_printf(line, "%zu dataset%s of job %s, as found", datasets, datasets == 1 ? "" : "s", o->job);
    }
    if (lists + missing_lists == 0) return;
    buf_printf(line, "%s%zu", of || datasets ? " and " : "", lists);
    if (missing_lists) buf_printf(line, " of %zu", lists + missing_lists);
    buf_printf(line, " plain list%s", lists + missing_lists == 1 ? "" : "s");
}

/* Those whose manifest holds no digest to compare with, and lists, which have no manifest. */
static void print_unproven(struct buf *line, const struct session *s)
{
    size_t n = 0;
    for (size_t i = 0; i < session_streams(s); i++) {
        const struct stream_spec *spec = stream_spec(session_stream(s, i));
        if (spec->has_digest || !takes_part(s, i)) continue;
        if (n < NAMED) buf_printf(line, "%s%s", n ? ", " : " (unproven, without a digest of their own: ", spec->name);
        n++;
    }
    if (n > NAMED) buf_printf(line, " and %zu more", n - NAMED);
    if (n > 0) buf_printf(line, ")");
}

/* Digests are of what was read. Where not all of it was written, or not all was read, the line says so. */
static void print_proof(struct buf *line, const struct options *o, const struct session *s)
{
    struct digest sum = sum_digests(s);
    char text[DIGEST_TEXT];
    digest_text(&sum, text);
    if (o->unique) buf_printf(line, ", the first of equal keys of %" PRIu64 " items read", items_read(s));
    buf_printf(line, ", digest %s%s", text, o->unique ? " of those" : "");
    print_unproven(line, s);
}

void receipt_print(const struct options *o, const struct roster *r, const struct session *s, const struct order *order)
{
    const struct merge *m = session_merge(s);
    uint64_t items = merge_items(m);
    bool limited = merge_is_limited(m);
    struct session_times times = session_times(s);
    double seconds = (double)times.total_us / 1e6;
    struct buf line = {0};
    const char *partial = roster_left_out(r) ? limited ? "partial, " : "partial" : "";
    const char *end = limited ? "stopped at --limit" : *partial ? "" : "complete";
    buf_printf(&line, "%s%s: %" PRIu64 " item%s from ", partial, end, items, items == 1 ? "" : "s");
    receipt_sources(&line, o, r);
    buf_printf(&line, ", order %s", order_name(order));
    if (limited) {
        buf_printf(&line, ", no digest: the rest was not read");
    } else {
        print_proof(&line, o, s);
    }
    buf_printf(&line, ", %.3f s, %.2f M items/s", seconds, seconds > 0 ? (double)times.items / seconds / 1e6 : 0);
    log_note("%s", buf_text(&line));
    buf_free(&line);
}
