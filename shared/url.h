/*
 * url.h - takes the URL of a Redis apart, strictly.
 *
 *   redis://[user[:password]@]host[:port][/db]    rediss://…    unix://[user[:password]@]/path[?db=N]
 *
 * Percent-encoding is decoded in user, password, host and path.
 */
#ifndef NWM_URL_H
#define NWM_URL_H

#include <stdbool.h>

#include "shared/fault.h"

enum { URL_DB_MAX = 999999 };

struct url {
    bool tls;
    char *user, *password; /* NULL: none */
    char *host;            /* without brackets; NULL for a unix socket */
    int port;              /* 0: none given */
    char *path;            /* of a unix socket, or NULL */
    unsigned db;
};

/* Usage that says which part is wrong and repeats none of it: whatever is wrong with a URL, a piece of it may be a piece
 * of a password. url_fini() in every case. */
struct fault *url_parse(struct url *u, const char *text) MUST_CHECK;
void url_fini(struct url *u);

/* The parts on their own. */
bool url_is_host(const char *text);
bool url_is_path(const char *text);
bool url_parse_port(const char *text, int *port);
bool url_parse_db(const char *text, unsigned *db);
/* Frees a password, having overwritten it. NULL is fine. */
void url_forget(char *secret);

#endif
