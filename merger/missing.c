#include "merger/missing.h"

#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"

enum { NAMED = 20 };

/* ---- who did not come -------------------------------------------------------------------------------------------- */

static size_t unseen_of(const struct options *o, const struct attendance *a)
{
    size_t seen = attendance_datasets(a);
    return o->workers > seen ? o->workers - seen : 0;
}

static const char *why_waiting(const struct member *m)
{
    if (!m->found) return "not there";
    if (m->is_stale) return "older than --since";
    if (m->manifest.state != DATASET_LOADING) return dataset_state_name(m->manifest.state);
    return m->lease_left_ms >= 0 ? "loading" : "loading, but its worker holds no lease";
}

static const char *how_long(const struct options *o)
{
    return o->wait_ms ? " and nothing moved for the time of --wait" : " (--wait 0)";
}

struct fault *missing_timed_out(const struct options *o, const struct attendance *a)
{
    struct buf list = {0};
    size_t missing = 0, unseen = unseen_of(o, a);
    for (size_t i = 0; i < a->count; i++) {
        const struct member *m = &a->members[i];
        if (m->ready || m->is_plain || missing++ >= NAMED) continue;
        buf_printf(&list, "%s%s (%s)", list.len ? ", " : "", m->name, why_waiting(m));
    }
    if (missing > NAMED) buf_printf(&list, " and %zu more", missing - NAMED);
    if (unseen) buf_printf(&list, "%s%zu of the %zu of -w have not shown up", list.len ? "; " : "", unseen, o->workers);
    struct fault *fault = fault_new(FAULT_TIMEOUT, "job %s is not ready%s: %s", o->job, how_long(o), buf_text(&list));
    buf_free(&list);
    return fault;
}

/* ---- --partial --------------------------------------------------------------------------------------------------- */

static struct fault *late(const struct options *o, const struct member *m, const struct fault *away)
{
    struct fault *fault =
        away && !m->found ? fault_copy(away) : fault_new(FAULT_TIMEOUT, "%s%s", why_waiting(m), how_long(o));
    return fault_about(fault, "%s", m->name);
}

void missing_give_up(const struct options *o, struct attendance *a, const struct fault *away)
{
    size_t unseen = unseen_of(o, a);
    a->late = missing_timed_out(o, a);
    for (size_t i = 0; i < a->count; i++) {
        struct member *m = &a->members[i];
        if (m->ready || m->is_plain || m->fault) continue;
        m->fault = late(o, m, away);
        m->is_late = true;
    }
    if (unseen == 0) return;
    struct member *m = attendance_add(a, o->job, "?", false);
    m->is_late = true;
    m->fault =
        away ? fault_copy(away)
             : fault_new(FAULT_TIMEOUT, "%zu of the %zu of -w have not shown up%s", unseen, o->workers, how_long(o));
    fault_about(m->fault, "%s", m->name);
    a->unseen = unseen;
}

/* The fault that ends the merge without --partial; the others stay with their members and are printed too. */
static struct fault *take_first(struct attendance *a, bool (*is_meant)(const struct member *))
{
    for (size_t i = 0; i < a->count; i++) {
        struct member *m = &a->members[i];
        if (!m->fault || !is_meant(m)) continue;
        struct fault *fault = m->fault;
        m->fault = NULL;
        return fault;
    }
    return NULL;
}

static bool is_no_accident(const struct member *m) { return m->fault && fault_is(m->fault, FAULT_USAGE); }
static bool is_wrong(const struct member *m) { return m->fault && !m->is_late; }

/* That some are late is said once, for all of them. */
static struct fault *take_late(struct attendance *a)
{
    for (size_t i = 0; i < a->count; i++) {
        if (!a->members[i].is_late) continue;
        fault_free(a->members[i].fault);
        a->members[i].fault = NULL;
    }
    struct fault *fault = a->late;
    a->late = NULL;
    return fault;
}

/* Those with a fault go behind the others. */
static void move_out(struct attendance *a, size_t n)
{
    size_t total = a->count + a->left_out;
    struct member *sorted = mem_array(NULL, total + 1, sizeof *sorted);
    size_t in = 0, out = a->count - n;
    for (size_t i = 0; i < total; i++) sorted[a->members[i].fault ? out++ : in++] = a->members[i];
    memcpy(a->members, sorted, total * sizeof *sorted);
    free(sorted);
    a->count -= n;
    a->left_out += n;
}

struct fault *missing_settle(const struct options *o, struct attendance *a)
{
    size_t n = 0;
    for (size_t i = 0; i < a->count; i++) n += a->members[i].fault != NULL;
    if (n == 0) return NULL;
    struct fault *fault = take_first(a, is_no_accident);
    if (fault) return fault;
    size_t missing = n + a->left_out + (a->unseen ? a->unseen - 1 : 0);
    if (missing <= o->max_missing && n < a->count) {
        move_out(a, n);
        return NULL;
    }
    fault = take_first(a, is_wrong);
    return fault ? fault : take_late(a);
}

size_t missing_datasets(const struct attendance *a)
{
    size_t n = a->unseen ? a->unseen - 1 : 0;
    for (size_t i = 0; i < a->left_out; i++) n += !a->members[a->count + i].is_plain;
    return n;
}

size_t missing_lists(const struct attendance *a)
{
    size_t n = 0;
    for (size_t i = 0; i < a->left_out; i++) n += a->members[a->count + i].is_plain;
    return n;
}
