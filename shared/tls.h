/*
 * tls.h - TLS on a connected context, where hiredis can (NWM_TLS). Only endpoint.c uses this.
 *
 * The server's certificate is always verified: against --cacert or the system's authorities, and its name against the
 * host of the URL (hiredis itself checks no names).
 */
#ifndef NWM_TLS_H
#define NWM_TLS_H

#include <stdbool.h>

#include "shared/fault.h"
#include "shared/redis_compat.h"

/* PEM files; NULL: none. cert needs cert_key. */
struct tls_files {
    char *cacert, *cert, *cert_key;
};

/* NULL, or Usage "built without TLS: …". */
struct fault *tls_available(void) MUST_CHECK;
/* Starts the handshake, which goes on inside redisBufferRead and redisBufferWrite. host: a name or a numeric address.
 * server: its name in messages. BadConfig for files that cannot be used, Unreachable. */
struct fault *tls_start(redisContext *c, const char *host, const struct tls_files *files, const char *server)
    MUST_CHECK;
/* Why the handshake failed, for people; NULL when it did not, or there is none. */
const char *tls_failure(const redisContext *c);
/* Does all sending wait for something to arrive first? */
bool tls_waits_for_input(const redisContext *c);
/* Does the library hold bytes that were received, and that the descriptor therefore does not show any more? */
bool tls_holds_input(const redisContext *c);

#endif
