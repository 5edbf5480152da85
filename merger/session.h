/*
 * session.h - one merge from ready datasets to finished output: the event loop and what turns in it.
 *
 * One thread, one event_base. The callbacks of links, signals and the output only record; after each turn of the loop
 * session's one function does the work: merge at most a thousand items, ask for the next batches, write what is full.
 * While the output is blocked no source's clock runs. A server that is lost is waited for and asked again (lifeline.h), after a look
 * whether it still has what it had (recheck.h).
 */
#ifndef NWM_SESSION_H
#define NWM_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "merger/consume.h"
#include "merger/merge.h"
#include "merger/resume.h"
#include "merger/roster.h"
#include "merger/sink.h"
#include "shared/fault.h"
#include "shared/options.h"

struct session;

/* Everything that can be refused before the first byte: NoMemory, no connection. Roster, order, sink and options stay the
 * caller's and must outlive the session. resume: with --resume, begun; else NULL. consume: with --consume; else NULL. observer: sees what is written, or NULL. */
struct fault *session_new(const struct options *o, struct roster *r, const struct order *order, struct sink *sink,
                          struct resume *resume, struct consume *consume, merge_observer *observer,
                          void *observer_context, struct session **out) MUST_CHECK;
void session_free(struct session *s);

/* Runs until everything is written. The sink is left for the caller to finish. The first fault in stream order; the faults of further
 * streams stay with them (session_stream). Interrupted when a signal came; Output with sink_reader_is_gone() when nobody
 * reads any more. */
struct fault *session_run(struct session *s) MUST_CHECK;

size_t session_streams(const struct session *s);
struct stream *session_stream(const struct session *s, size_t i);
const struct merge *session_merge(const struct session *s);

/* How often a server was lost and came back. */
uint64_t session_reconnects(const struct session *s);

/* Where the time went, in microseconds, and what it brought: working, waiting for streams, waiting for the reader of the output. */
struct session_times {
    uint64_t total_us, stream_us, output_us;
    uint64_t items, bytes; /* written in that time: with --resume not all that are in the output */
};
struct session_times session_times(const struct session *s);

#endif
