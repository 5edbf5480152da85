#include "merger/verdict.h"

#include <inttypes.h>
#include <stdlib.h>

#include "shared/conn.h"

enum { DEFAULT_LEASE_MS = 15000 /* of a worker that does not say */ };

/* A dataset that is loading, and nobody holds its lease: in two looks one lease apart, its worker is lost. */
static void judge_leaseless(struct member *m)
{
    int64_t now = clock_ms();
    if (m->leaseless_since == 0) m->leaseless_since = now;
    int64_t lease_ms = m->manifest.lease_ms ? m->manifest.lease_ms : DEFAULT_LEASE_MS;
    if (now - m->leaseless_since < lease_ms) return;
    char *worker = manifest_worker(&m->manifest);
    m->fault = fault_new(
        FAULT_WORKER_LOST,
        "its worker %s is gone: the load began and its lease of %g s has run out; load it again with nwm-worker",
        worker, (double)lease_ms / 1000);
    fault_about(m->fault, "%s", m->name);
    fault_origin(m->fault, "worker %s, run %" PRIu64, worker, m->manifest.run);
    free(worker);
}

/* ---- consumed ones ----------------------------------------------------------------------------------------------- */

struct fault *verdict_consumed(const struct member *m)
{
    const struct manifest *f = &m->manifest;
    struct fault *fault = f->has_consumed && f->consumed < f->items
                              ? fault_new(FAULT_CONSUMED,
                                          "run %" PRIu64 " is being consumed, %" PRIu64 " of %" PRIu64
                                          " items are gone: what is left is had with --consume only; or load it again",
                                          f->run, f->consumed, f->items)
                              : fault_new(FAULT_CONSUMED, "run %" PRIu64 " was consumed; load it again", f->run);
    return fault_about(fault, "%s", m->name);
}

/* What its items were is still there to compare with; what is left of them, to consume. */
static bool is_worth_something(const struct verdict_terms *terms, const struct manifest *m)
{
    if (terms->options->check_file || terms->accepts_consumed) return true;
    return terms->options->consume && m->has_consumed && m->consumed < m->items;
}

/* --consume of whatever the job has left: of this dataset that is nothing. */
static bool is_used_up(const struct options *o, const struct manifest *m)
{
    return o->consume && o->id_count == 0 && m->has_consumed && m->consumed == m->items;
}

static void judge_consumed(const struct verdict_terms *terms, struct member *m)
{
    const struct options *o = terms->options;
    m->ready = is_worth_something(terms, &m->manifest);
    bool waits_for_another = o->workers > 0 || o->has_since;
    if (m->ready || waits_for_another) return;
    m->ready = m->is_used_up = is_used_up(o, &m->manifest);
    if (!m->ready) m->fault = verdict_consumed(m);
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

bool verdict(const struct verdict_terms *terms, struct member *m)
{
    bool is_alive = m->lease_left_ms >= 0;
    if (m->manifest.state != DATASET_LOADING || is_alive) m->leaseless_since = 0;
    m->is_stale = m->found && terms->options->has_since && m->manifest.started < terms->since_s;
    if (m->is_stale) return false;
    switch (m->manifest.state) {
    case DATASET_READY: m->ready = true; return true;
    case DATASET_FAILED: m->fault = manifest_fault(&m->manifest, terms->options->job, m->id); break;
    case DATASET_LOADING:
        if (!is_alive) judge_leaseless(m);
        return is_alive;
    case DATASET_CONSUMED: judge_consumed(terms, m); break;
    case DATASET_MISSING:
    case DATASET_DROPPED: break;
    }
    return false;
}
