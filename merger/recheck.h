/*
 * recheck.h - after a reconnect, before a merge goes on: is what it reads still there?
 *
 * A server that comes back may have lost everything (restarted without persistence), a part (the last second before a crash), or be
 * another one that took over. So each list must have the length it was read with, and a manifest that still tells of the same
 * load must say the same. One that tells of a newer load says nothing: the list of the older one lives on for --keep.
 * That the items are the same is what the streams prove: they read the last one again, and the digest covers all.
 */
#ifndef NWM_RECHECK_H
#define NWM_RECHECK_H

#include "merger/roster.h"

/* The datasets and plain lists of one server. found: one place for each member of the roster, NULL at first; those that do not fit get
 * their fault there, the caller's: Vanished and Changed, saying that the server came back without it; Lost when plain lists were
 * watched and the watch is gone. Returns what is about the server: what may pass (fault_may_pass) when it is away again. */
struct fault *recheck_server(struct roster *r, const struct options *o, size_t server, struct fault **found) MUST_CHECK;

#endif
