#include "merger/progress.h"

#include <inttypes.h>
#include <stdlib.h>

#include "shared/conn.h"
#include "shared/log.h"
#include "shared/mem.h"

enum { TERMINAL_EVERY_MS = 500, FILE_EVERY_MS = 5000, LOOK_EVERY_TICKS = 64 };

struct progress {
    bool shown;
    uint64_t total;
    int64_t begun, last, every;
    unsigned ticks;
};

struct progress *progress_new(const struct options *o, struct stream **streams, size_t n)
{
    struct progress *p = mem_zalloc(sizeof *p);
    bool terminal = log_is_terminal();
    p->shown = !o->quiet && (o->progress || terminal);
    p->every = terminal ? TERMINAL_EVERY_MS : FILE_EVERY_MS;
    p->begun = p->last = clock_ms();
    for (size_t i = 0; i < n; i++) p->total += stream_spec(streams[i])->items;
    if (o->has_limit && o->limit < p->total) p->total = o->limit;
    return p;
}

void progress_free(struct progress *p) { free(p); }

static void show(const struct progress *p, uint64_t items, int64_t now)
{
    double seconds = (double)(now - p->begun) / 1000;
    double rate = seconds > 0 ? (double)items / seconds : 0;
    double share = p->total ? 100.0 * (double)items / (double)p->total : 100;
    struct buf line = {0};
    buf_printf(&line, "%" PRIu64 " of %" PRIu64 " items (%.0f%%), %.2f M/s", items, p->total, share, rate / 1e6);
    if (rate > 0) buf_printf(&line, ", %.0f s left", (double)(p->total - items) / rate);
    log_progress(buf_text(&line));
    buf_free(&line);
}

void progress_tick(struct progress *p, uint64_t items)
{
    if (!p->shown || ++p->ticks % LOOK_EVERY_TICKS != 0) return;
    int64_t now = clock_ms();
    if (now - p->last < p->every) return;
    p->last = now;
    show(p, items, now);
}

void progress_clear(struct progress *p)
{
    if (p->shown) log_progress(NULL);
}
