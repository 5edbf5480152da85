/*
 * look.h - one look at the members of a roster that live on one server: manifest and lease of each in one MULTI, all of
 * them in one pipeline.
 */
#ifndef NWM_LOOK_H
#define NWM_LOOK_H

#include "merger/roster.h"

/* Looks at those of the n members that are not decided yet and may live on this server. What it finds goes into the member: manifest, lease,
 * server. A manifest that is not understood becomes the member's fault; what concerns the server is returned. Can be
 * repeated from the beginning. */
struct fault *look_at_datasets(struct conn *c, size_t server, const struct options *o, struct member *members, size_t n)
    MUST_CHECK;

/* The plain lists among the members: their length becomes manifest.items. watch: WATCH them first, so that closing_check() can tell
 * whether they were touched; no other MULTI may follow on this connection. */
struct fault *look_at_lists(struct conn *c, size_t server, bool watch, struct member *members, size_t n) MUST_CHECK;

#endif
