#include "merger/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "shared/mem.h"

/* JSON needs valid UTF-8; list keys may be any bytes, and high ones are given as the code point of the same number. */
static void json_string(struct buf *out, const char *text)
{
    buf_append(out, "\"", 1);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\') {
            buf_printf(out, "\\%c", *p);
        } else if (*p < 0x20 || *p >= 0x7f) {
            buf_printf(out, "\\u%04x", *p);
        } else {
            buf_append(out, p, 1);
        }
    }
    buf_append(out, "\"", 1);
}

struct totals {
    uint64_t batches, stalls, reconnects, items, bytes;
    double total_s, stream_s, output_s, cpu_s, working_s;
    long peak_kb;
};

/* Streams that take part. */
static size_t datasets(const struct session *s) { return session_streams(s) - merge_left_out_count(session_merge(s)); }

static double seconds(uint64_t us) { return (double)us / 1e6; }

static struct totals count_totals(const struct session *s)
{
    struct totals t = {0};
    for (size_t i = 0; i < session_streams(s); i++) {
        const struct stream_stats *st = stream_stats(session_stream(s, i));
        t.batches += st->batches;
        t.stalls += st->stalls;
    }
    t.reconnects = session_reconnects(s);
    struct session_times times = session_times(s);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    t.items = times.items;
    t.bytes = times.bytes;
    t.total_s = seconds(times.total_us);
    t.stream_s = seconds(times.stream_us);
    t.output_s = seconds(times.output_us);
    t.working_s = seconds(times.total_us - times.stream_us - times.output_us);
    t.cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
              (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    t.peak_kb = usage.ru_maxrss;
    return t;
}

/* --partial: what is not in the result, and why. */
static void write_left_out(struct buf *out, const struct roster *r)
{
    buf_printf(out, ",\"skipped\":[");
    for (size_t i = 0; i < roster_left_out(r); i++) {
        const struct member *m = roster_left_out_member(r, i);
        buf_printf(out, "%s{\"id\":", i ? "," : "");
        json_string(out, m->id);
        buf_printf(out, ",\"fault\":");
        json_string(out, fault_name(m->fault));
        buf_printf(out, ",\"message\":");
        json_string(out, fault_message(m->fault));
        buf_printf(out, "}");
    }
    buf_printf(out, "]");
}

static void write_json(struct buf *out, const struct options *o, const struct roster *r, const struct session *s,
                       const struct order *order, uint64_t bytes, const struct fault *fault)
{
    struct totals t = count_totals(s);
    uint64_t items = merge_items(session_merge(s));
    bool partial = roster_left_out(r) > 0;
    buf_printf(out, "{\"job\":");
    json_string(out, o->job);
    buf_printf(
        out, ",\"complete\":%s,\"fault\":", fault || partial || merge_is_limited(session_merge(s)) ? "false" : "true");
    if (fault || partial) {
        json_string(out, fault ? fault_name(fault) : fault_kind_name(FAULT_PARTIAL));
    } else {
        buf_printf(out, "null");
    }
    buf_printf(out, ",\"items\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"order\":", items, bytes);
    json_string(out, order_text(order));
    buf_printf(out, ",\"datasets\":%zu,\"seconds\":%.6f,\"items_per_second\":%.0f", datasets(s), t.total_s,
               t.total_s > 0 ? (double)t.items / t.total_s : 0);
    buf_printf(out,
               ",\"working_seconds\":%.6f,\"waiting_for_streams_seconds\":%.6f,\"waiting_for_output_seconds\":%.6f",
               t.working_s, t.stream_s, t.output_s);
    write_left_out(out, r);
    buf_printf(out,
               ",\"cpu_seconds\":%.6f,\"peak_memory_bytes\":%ld,\"batches\":%" PRIu64 ",\"stalls\":%" PRIu64
               ",\"reconnects\":%" PRIu64 ",\"streams\":[",
               t.cpu_s, t.peak_kb * 1024, t.batches, t.stalls, t.reconnects);
    for (size_t i = 0; i < session_streams(s); i++) {
        struct stream *st = session_stream(s, i);
        const struct stream_stats *n = stream_stats(st);
        buf_printf(out, "%s{\"name\":", i ? "," : "");
        json_string(out, stream_spec(st)->name);
        buf_printf(out, ",\"list\":");
        json_string(out, stream_spec(st)->list ? stream_spec(st)->list : "");
        buf_printf(out,
                   ",\"items\":%" PRIu64 ",\"of\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"batches\":%" PRIu64
                   ",\"stalls\":%" PRIu64 ",\"stalled_seconds\":%.6f}",
                   n->items, stream_spec(st)->items, n->bytes, n->batches, n->stalls, seconds(n->stalled_us));
    }
    buf_printf(out, "]}\n");
}

static void write_text(struct buf *out, const struct session *s, const struct order *order, uint64_t bytes)
{
    struct totals t = count_totals(s);
    uint64_t items = merge_items(session_merge(s));
    buf_printf(out, "items     %" PRIu64 " from %zu datasets, order %s, %" PRIu64 " bytes written\n", items,
               datasets(s), order_name(order), bytes);
    buf_printf(out, "time      %.3f s: %.3f working, %.3f waiting for streams, %.3f waiting for the output\n",
               t.total_s, t.working_s, t.stream_s, t.output_s);
    buf_printf(out, "rate      %.0f items/s, %.1f MB/s\n", t.total_s > 0 ? (double)t.items / t.total_s : 0,
               t.total_s > 0 ? (double)t.bytes / 1e6 / t.total_s : 0);
    buf_printf(out, "cpu       %.3f s, %.0f ns an item\n", t.cpu_s, t.items ? t.cpu_s * 1e9 / (double)t.items : 0);
    buf_printf(out, "memory    %.1f MiB at the peak\n", (double)t.peak_kb / 1024);
    buf_printf(out, "batches   %" PRIu64 ", %" PRIu64 " stalls, %" PRIu64 " reconnects\n", t.batches, t.stalls,
               t.reconnects);
    for (size_t i = 0; i < session_streams(s); i++) {
        struct stream *st = session_stream(s, i);
        const struct stream_stats *n = stream_stats(st);
        char *name = mem_quote(stream_spec(st)->name, strlen(stream_spec(st)->name));
        buf_printf(out,
                   "stream    %s: %" PRIu64 " of %" PRIu64 " items in %" PRIu64 " batches, %" PRIu64
                   " stalls, %.3f s waited\n",
                   name, n->items, stream_spec(st)->items, n->batches, n->stalls, seconds(n->stalled_us));
        free(name);
    }
}

static struct fault *write_to(const char *path, const struct buf *text)
{
    FILE *file = path ? fopen(path, "we") : stderr;
    bool worked = file && fwrite(text->data, 1, text->len, file) == text->len && fflush(file) == 0;
    int error = errno;
    if (file && path && fclose(file) != 0) worked = false;
    return worked ? NULL
                  : fault_new(FAULT_OUTPUT, "cannot write the statistics to %s: %s", path ? path : "standard error",
                              strerror(error));
}

struct fault *stats_print(const struct options *o, const struct roster *r, const struct session *s,
                          const struct order *order, uint64_t bytes, const struct fault *fault)
{
    if (o->stats == STATS_NONE) return NULL;
    struct buf text = {0};
    if (o->stats == STATS_JSON) {
        write_json(&text, o, r, s, order, bytes, fault);
    } else {
        write_text(&text, s, order, bytes);
    }
    struct fault *failed = write_to(o->stats_file, &text);
    buf_free(&text);
    return failed;
}
