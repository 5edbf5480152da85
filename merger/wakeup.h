/*
 * wakeup.h - the events of a job on one server: a subscription that only ever makes the roster look sooner.
 *
 * It may fail, be refused or be dropped; nothing depends on it. A connection of its own: a subscribed one can do nothing else.
 */
#ifndef NWM_WAKEUP_H
#define NWM_WAKEUP_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/endpoint.h"

struct wakeup;

/* Subscribes to the channel. NULL when that cannot be done; why is told with --verbose. */
struct wakeup *wakeup_new(struct endpoint *e, const char *client_name, const char *channel, int64_t timeout_ms);
void wakeup_free(struct wakeup *w);
/* Readable when an event came. */
int wakeup_fd(const struct wakeup *w);
/* Takes in all events that came. False when the subscription is lost. */
bool wakeup_drain(struct wakeup *w);

#endif
