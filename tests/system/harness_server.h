/*
 * harness_server.h - the part of the harness that starts and asks Redis servers; harness.h says what tests may use.
 */
#ifndef NWM_TESTS_HARNESS_SERVER_H
#define NWM_TESTS_HARNESS_SERVER_H

#include "tests/system/harness.h"

/* Memory until the process ends. */
void *harness_keep(size_t size);

/* Starts a server in dir (made here). NULL, or what went wrong. Needs no test to be running. */
const char *harness_server_start(struct server *s, const char *dir, bool tcp, const char *config);
/* SIGTERM, and SIGKILL when that takes longer than five seconds. */
void harness_server_end(struct server *s);

#endif
