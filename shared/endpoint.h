/*
 * endpoint.h - where a Redis is and how to get in: URL, credentials, TLS → a context that is connecting.
 *
 *   redis://[user[:password]@]host[:port][/db]    rediss://… (TLS)    unix:///path[?db=N] (unix://user:password@/path too)
 *
 * Percent-encoding is decoded in user, password and path. Passwords are never printed; endpoint_name() has none.
 */
#ifndef NWM_ENDPOINT_H
#define NWM_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/fault.h"
#include "shared/redis_compat.h"
#include "shared/reply.h"

struct endpoint;

/* redis://127.0.0.1:6379, database 0. */
struct endpoint *endpoint_new(void);
/* Another one that says the same, for a thread of its own: resolving changes an endpoint. */
struct endpoint *endpoint_copy(const struct endpoint *e);
void endpoint_free(struct endpoint *e);
/* Usage, saying which part is wrong, and never repeating a password. */
struct fault *endpoint_set_url(struct endpoint *e, const char *url) MUST_CHECK;
struct fault *endpoint_set_host(struct endpoint *e, const char *host) MUST_CHECK;
struct fault *endpoint_set_port(struct endpoint *e, const char *port) MUST_CHECK;
struct fault *endpoint_set_socket(struct endpoint *e, const char *path) MUST_CHECK;
struct fault *endpoint_set_db(struct endpoint *e, const char *db) MUST_CHECK;
void endpoint_set_user(struct endpoint *e, const char *user);
void endpoint_set_password(struct endpoint *e, const char *password);
bool endpoint_has_user(const struct endpoint *e);
bool endpoint_has_password(const struct endpoint *e);
/* Usage "built without TLS: needs hiredis 1.0 or newer" where there is none. The files may be NULL. */
struct fault *endpoint_set_tls(struct endpoint *e, bool on) MUST_CHECK;
bool endpoint_uses_tls(const struct endpoint *e);
void endpoint_set_tls_files(struct endpoint *e, const char *cacert, const char *cert, const char *cert_key);

/* For people: "redis://127.0.0.1:6379", "unix:///run/redis.sock?db=2". No credentials. Owned by the endpoint. */
const char *endpoint_name(const struct endpoint *e);
/* The words to start redis-cli with, for the same server: "redis-cli -h … -p …", "redis-cli -s …". No credentials. */
const char *endpoint_redis_cli(const struct endpoint *e);

/* Looks the name up (blocks; call it before an event loop runs) and remembers the addresses, IPv4 and IPv6 in the system's order.
 * Unreachable when there is none. Needs no network for a unix socket. Idempotent. */
struct fault *endpoint_resolve(struct endpoint *e) MUST_CHECK;
/* The next endpoint_resolve() asks again: a name may point to another server after a failover. */
void endpoint_forget_addresses(struct endpoint *e);
/* How many addresses there are to try, at least 1 once resolved. */
size_t endpoint_addresses(const struct endpoint *e);

/* Starts a non-blocking connect to address number `which` and returns the context; the caller owns it (redisFree).
 * The connect is done when the descriptor becomes writable and endpoint_connected() is NULL. Sets TCP_NODELAY, keepalive, CLOEXEC. */
struct fault *endpoint_connect(const struct endpoint *e, size_t which, redisContext **out) MUST_CHECK;
/* After the descriptor became writable: NULL, or why it did not connect (Unreachable). Starts TLS where wanted (the handshake then
 * goes on inside redisBufferRead and redisBufferWrite). */
struct fault *endpoint_connected(const struct endpoint *e, redisContext *c) MUST_CHECK;
/* Appends AUTH, SELECT and CLIENT SETNAME (as needed) to the context's output; returns how many replies they bring. */
size_t endpoint_greet(const struct endpoint *e, redisContext *c, const char *client_name);
/* Judges reply number i of those (from 0): NULL, or Denied and so on. A refused SETNAME is fine. */
struct fault *endpoint_greeted(const struct endpoint *e, size_t i, const redisReply *reply) MUST_CHECK;

/* The poll() events to wait for, has_output being whether anything is unsent: POLLIN, and POLLOUT when sending waits for
 * it. During a TLS handshake the descriptor is writable while what is missing is the server's word: waiting for POLLOUT
 * would not wait at all. */
short endpoint_waits_for(const redisContext *c, bool has_output);
/* Has something come that poll() does not show, as the TLS library holds it? It must be read before waiting. */
bool endpoint_holds_input(const redisContext *c);

/* The fault of a context in error, with advice: refused, reset, closed by the server, protocol. */
struct fault *endpoint_context_fault(const struct endpoint *e, const redisContext *c);
/* The fault of a connection that was lost to errno `error` (0: the server closed it). */
struct fault *endpoint_lost(const struct endpoint *e, int error);

#endif
