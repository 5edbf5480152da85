#include "worker/meter.h"

#include <inttypes.h>

#include "shared/conn.h"
#include "shared/log.h"
#include "shared/mem.h"

/* A load shorter than the first wait shows nothing. */
enum { EVERY_MS = 250, FIRST_MS = 500 };

void meter_init(struct meter *m, const char *subject)
{
    m->subject = subject;
    m->began = clock_ms();
    m->next = log_is_terminal() ? m->began + FIRST_MS : INT64_MAX;
}

static void add_time(struct buf *b, double seconds)
{
    uint64_t s = (uint64_t)seconds;
    if (s >= 3600)
        buf_printf(b, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    else if (s >= 60)
        buf_printf(b, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    else
        buf_printf(b, "%" PRIu64 "s", s);
}

static void add_share(struct buf *b, double seconds, uint64_t read, uint64_t size)
{
    double share = read < size ? (double)read / (double)size : 1;
    buf_printf(b, ", %.0f%%", share * 100);
    if (read == 0) return;
    buf_printf(b, ", ");
    add_time(b, seconds / share - seconds);
    buf_printf(b, " left");
}

void meter_show(struct meter *m, const struct totals *t, uint64_t read, uint64_t size)
{
    int64_t now = clock_ms();
    if (now < m->next) return;
    m->next = now + EVERY_MS;
    double seconds = (double)(now - m->began) / 1000;
    struct buf b = {0};
    buf_printf(&b, "%s: %" PRIu64 " items, %.1f MB, %.0f items/s", m->subject, t->items, (double)t->bytes / 1e6,
               (double)t->items / seconds);
    if (size > 0) add_share(&b, seconds, read, size);
    log_progress(buf_text(&b));
    buf_free(&b);
}

void meter_clear(const struct meter *m)
{
    if (m->next != INT64_MAX) log_progress(NULL);
}
