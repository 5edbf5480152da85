/*
 * loader.h - pushes items into the list of a claim, pipelined, so that none is ever applied twice.
 *
 * Items are encoded into a block, and a full block is one push: the first MULTI, RPUSH, PEXPIRE, EXEC (which creates
 * the list, with its expiry), the later ones RPUSHX, which a list that is gone ignores. Every reply must be the length
 * that is expected.
 *
 *      added ─ encoded in the block ─ handed to the connection ─ acknowledged by Redis
 */
#ifndef NWM_LOADER_H
#define NWM_LOADER_H

#include <stdint.h>

#include "shared/conn.h"
#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/pulse.h"
#include "shared/script.h"
#include "worker/checker.h"

struct loader;

/* Connection and claim (begun) must outlive the loader; nothing else may use the connection before loader_finish(). */
struct loader *loader_new(struct conn *conn, const struct claim *claim);
void loader_free(struct loader *l);
/* Beats with every push. */
void loader_set_pulse(struct loader *l, struct pulse p);

/* Copies the item, or sends it, and pushes as much as it must. Faults may be those of an earlier item: what Redis
 * answered to a push (Lost, Changed, ServerFull, …), what the connection or the pulse says. */
struct fault *loader_add(struct loader *l, struct bytes item) MUST_CHECK;
/* Pushes what is left, and waits for every reply. */
struct fault *loader_finish(struct loader *l) MUST_CHECK;
/* How many items Redis has acknowledged. */
uint64_t loader_acknowledged(const struct loader *l);

/* After loader_finish(): are length, first and last item in Redis what was sent? Changed or Lost. */
struct fault *loader_verify(struct loader *l, const struct checker *sent) MUST_CHECK;

#endif
