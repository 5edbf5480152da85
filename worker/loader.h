/*
 * loader.h - pushes items into the list of a claim, pipelined, so that none is ever applied twice.
 *
 * Items are encoded into a block, and a full block is one push: the first MULTI, RPUSH, PEXPIRE, EXEC (which creates
 * the list, with its expiry), the later ones RPUSHX, which a list that is gone ignores. Every reply must be the length
 * that is expected.
 *
 *      added ─ encoded in the block ─ handed to the connection ─ acknowledged by Redis
 *              └─────────────── held here, to be sent again ──────────────┘
 */
#ifndef NWM_LOADER_H
#define NWM_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/conn.h"
#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/pulse.h"
#include "shared/script.h"
#include "worker/checker.h"

struct loader;

/* Up to which length loader_resume() wants to see the last item of the list. */
enum { LOADER_LAST_MOST = 64 << 10 };

/* Connection and claim (begun) must outlive the loader; nothing else may use the connection before loader_finish(). */
struct loader *loader_new(struct conn *conn, const struct claim *claim);
void loader_free(struct loader *l);
/* Beats with every push. */
void loader_set_pulse(struct loader *l, struct pulse p);

/* Takes the item, also when it returns a fault, and pushes as much as it must. Items are copied, but for huge ones: those
 * are waited for, and after a fault must stay where they are until loader_resume() has returned without one. Faults may
 * be those of an earlier item: what Redis answered to a push (Lost, Changed, ServerFull, …), what the connection or the
 * pulse says. */
struct fault *loader_add(struct loader *l, struct bytes item) MUST_CHECK;
/* Pushes what is left, and waits for every reply. */
struct fault *loader_finish(struct loader *l) MUST_CHECK;
/* How many items Redis has acknowledged. */
uint64_t loader_acknowledged(const struct loader *l);
/* Is nothing held that was sent, or is to be sent? */
bool loader_is_idle(const struct loader *l);

/* After a lost connection and script_reclaim(), which found the list to hold `length` items, not less than were
 * acknowledged, `last` being the last of them (data NULL: longer than LOADER_LAST_MOST): goes on behind it, over that
 * connection. Changed when these are not the items that were sent; else as loader_add(). */
struct fault *loader_resume(struct loader *l, struct conn *conn, uint64_t length, struct bytes last) MUST_CHECK;
/* When acknowledged items are gone: forgets what it holds. All items are to be added again from the first on, and it
 * passes over as many of them as the list has. */
void loader_restart(struct loader *l, struct conn *conn, uint64_t length);

/* After loader_finish(): are length, first and last item in Redis what was sent? Changed or Lost. */
struct fault *loader_verify(struct loader *l, const struct checker *sent) MUST_CHECK;

#endif
