/*
 * progress.h - how far the merge is, once a second on a terminal: items of the total the manifests promise, rate, time left.
 */
#ifndef NWM_PROGRESS_H
#define NWM_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

#include "merger/stream.h"
#include "shared/options.h"

struct progress;

/* Shows something only with --progress or on a terminal, and not with --quiet; otherwise every call is cheap and silent. */
struct progress *progress_new(const struct options *o, struct stream **streams, size_t n);
void progress_free(struct progress *p);
/* Items written so far; call as often as you like. */
void progress_tick(struct progress *p, uint64_t items);
/* Takes the line away. */
void progress_clear(struct progress *p);

#endif
