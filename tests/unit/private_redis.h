/*
 * private_redis.h - a redis-server of one unit test's own, on a unix socket in a temporary directory.
 *
 * It and its directory go with the test process, however that ends. A failure to start fails the test.
 */
#ifndef NWM_TESTS_PRIVATE_REDIS_H
#define NWM_TESTS_PRIVATE_REDIS_H

#include <hiredis/hiredis.h>

struct conn;
struct endpoint;

/* Starts it and waits until it answers; extra: "--maxmemory 2mb" and the like, words separated by blanks, or NULL. */
void private_redis_start(const char *extra);
/* Ends it, waits for that, and removes the directory. */
void private_redis_end(void);

/* It lives on but answers nobody (SIGSTOP); private_redis_end() ends it all the same. */
void private_redis_stop(void);

/* "unix:///tmp/…/redis.sock" */
const char *private_redis_url(void);
/* A connection through the code under test, closed by private_redis_end(). */
struct conn *private_redis_conn(void);
struct endpoint *private_redis_endpoint(void);

/* A command over a plain connection that shares no code with nwmerge; words separated by blanks. The reply is valid
 * until the next call. */
const redisReply *redis_do(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The reply as text: a string, a number in digits, "(nil)", or the elements of an array separated by blanks. */
const char *redis_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
