#include "shared/endpoint.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "shared/mem.h"
#include "shared/tls.h"
#include "shared/url.h"

enum { DEFAULT_PORT = 6379 };
/* Keepalive: a first probe after so many seconds of silence, then so often, and so many without an answer. */
enum { KEEPALIVE_IDLE_S = 15, KEEPALIVE_EVERY_S = 5, KEEPALIVE_PROBES = 3 };
/* How often, and how long apart, a unix socket whose queue is full is tried. */
enum { QUEUE_TRIES = 100, QUEUE_PAUSE_MS = 10 };

struct endpoint {
    char *host; /* a name or an address; without brackets */
    int port;
    char *path; /* a unix socket instead, or NULL */
    unsigned db;
    char *user, *password; /* NULL: none */
    bool tls;
    struct tls_files files;
    char *name, *redis_cli;
    char **addresses; /* numeric; empty until resolved */
    size_t address_count;
};

/* ---- names ------------------------------------------------------------------------------------------------------- */

static char *make_name(const struct endpoint *e)
{
    struct buf b = {0};
    if (e->path) {
        buf_printf(&b, "unix://%s", e->path);
        if (e->db) buf_printf(&b, "?db=%u", e->db);
    } else {
        bool is_v6 = strchr(e->host, ':') != NULL;
        buf_printf(&b, is_v6 ? "%s://[%s]:%d" : "%s://%s:%d", e->tls ? "rediss" : "redis", e->host, e->port);
        if (e->db) buf_printf(&b, "/%u", e->db);
    }
    buf_text(&b);
    return b.data;
}

/* As a word of the shell. */
static void put_word(struct buf *b, const char *word)
{
    bool plain = *word != '\0';
    for (const char *p = word; *p; p++) plain = plain && (isalnum((unsigned char)*p) || strchr("/._-:@%+,", *p));
    buf_printf(b, plain ? " " : " '");
    for (const char *p = word; *p; p++) {
        if (*p == '\'')
            buf_printf(b, "'\\''");
        else
            buf_append(b, p, 1);
    }
    if (!plain) buf_printf(b, "'");
}

static char *make_redis_cli(const struct endpoint *e)
{
    struct buf b = {0};
    if (e->path) {
        buf_printf(&b, "redis-cli -s");
        put_word(&b, e->path);
    } else {
        buf_printf(&b, "redis-cli -h");
        put_word(&b, e->host);
        buf_printf(&b, " -p %d", e->port);
    }
    if (e->tls) buf_printf(&b, " --tls");
    if (e->tls && e->files.cacert) {
        buf_printf(&b, " --cacert");
        put_word(&b, e->files.cacert);
    }
    if (e->db) buf_printf(&b, " -n %u", e->db);
    buf_text(&b);
    return b.data;
}

/* After every change. Names are made at once, so that threads may share an endpoint that changes no more. */
static void changed(struct endpoint *e)
{
    free(e->name);
    free(e->redis_cli);
    e->name = make_name(e);
    e->redis_cli = make_redis_cli(e);
    endpoint_forget_addresses(e);
}

void endpoint_forget_addresses(struct endpoint *e)
{
    for (size_t i = 0; i < e->address_count; i++) free(e->addresses[i]);
    free(e->addresses);
    e->addresses = NULL;
    e->address_count = 0;
}

const char *endpoint_name(const struct endpoint *e) { return e->name; }
const char *endpoint_redis_cli(const struct endpoint *e) { return e->redis_cli; }

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void replace(char **where, const char *text)
{
    char *copy = text ? mem_strdup(text) : NULL;
    free(*where);
    *where = copy;
}

struct endpoint *endpoint_new(void)
{
    struct endpoint *e = mem_zalloc(sizeof *e);
    e->host = mem_strdup("127.0.0.1");
    e->port = DEFAULT_PORT;
    changed(e);
    return e;
}

struct endpoint *endpoint_copy(const struct endpoint *e)
{
    struct endpoint *copy = mem_zalloc(sizeof *copy);
    copy->port = e->port;
    copy->db = e->db;
    copy->tls = e->tls;
    replace(&copy->host, e->host);
    replace(&copy->path, e->path);
    replace(&copy->user, e->user);
    replace(&copy->password, e->password);
    endpoint_set_tls_files(copy, e->files.cacert, e->files.cert, e->files.cert_key);
    return copy;
}

void endpoint_free(struct endpoint *e)
{
    if (!e) return;
    endpoint_forget_addresses(e);
    url_forget(e->password);
    free(e->host);
    free(e->path);
    free(e->user);
    free(e->files.cacert);
    free(e->files.cert);
    free(e->files.cert_key);
    free(e->name);
    free(e->redis_cli);
    free(e);
}

/* ---- the parts --------------------------------------------------------------------------------------------------- */

static struct fault *bad_value(const char *value, const char *why)
{
    char *shown = mem_quote(value, strlen(value));
    struct fault *f = fault_new(FAULT_USAGE, "%s is no %s", shown, why);
    free(shown);
    return f;
}

struct fault *endpoint_set_host(struct endpoint *e, const char *host)
{
    if (strstr(host, "://")) return fault_new(FAULT_USAGE, "this is a URL: --url takes those");
    if (!url_is_host(host)) return bad_value(host, "host: a name or an address");
    replace(&e->host, host);
    replace(&e->path, NULL);
    changed(e);
    return NULL;
}

struct fault *endpoint_set_port(struct endpoint *e, const char *port)
{
    if (!url_parse_port(port, &e->port)) return bad_value(port, "port: a number from 1 to 65535");
    replace(&e->path, NULL);
    changed(e);
    return NULL;
}

struct fault *endpoint_set_socket(struct endpoint *e, const char *path)
{
    if (!url_is_path(path)) return bad_value(path, "socket: the path of one has 1 to 107 bytes");
    if (e->tls) return fault_new(FAULT_USAGE, "TLS is for hosts, not for unix sockets");
    replace(&e->path, path);
    changed(e);
    return NULL;
}

struct fault *endpoint_set_db(struct endpoint *e, const char *db)
{
    if (!url_parse_db(db, &e->db)) return bad_value(db, "database: a number, 0 or more");
    changed(e);
    return NULL;
}

void endpoint_set_user(struct endpoint *e, const char *user) { replace(&e->user, user); }
void endpoint_set_password(struct endpoint *e, const char *password)
{
    char *copy = password ? mem_strdup(password) : NULL;
    url_forget(e->password);
    e->password = copy;
}

bool endpoint_has_user(const struct endpoint *e) { return e->user != NULL; }
bool endpoint_has_password(const struct endpoint *e) { return e->password != NULL; }
bool endpoint_uses_tls(const struct endpoint *e) { return e->tls; }

struct fault *endpoint_set_tls(struct endpoint *e, bool on)
{
    struct fault *f = on ? tls_available() : NULL;
    if (f) return f;
    if (on && e->path) return fault_new(FAULT_USAGE, "TLS is for hosts, not for unix sockets");
    e->tls = on;
    changed(e);
    return NULL;
}

void endpoint_set_tls_files(struct endpoint *e, const char *cacert, const char *cert, const char *cert_key)
{
    replace(&e->files.cacert, cacert);
    replace(&e->files.cert, cert);
    replace(&e->files.cert_key, cert_key);
    changed(e);
}

static void move_text(char **to, char **from)
{
    free(*to);
    *to = *from;
    *from = NULL;
}

/* What the URL does not say is as it is by default; user and password too. */
static struct fault *adopt(struct endpoint *e, struct url *u)
{
    struct fault *f = u->tls ? tls_available() : NULL;
    if (f) return f;
    if (u->host) move_text(&e->host, &u->host);
    move_text(&e->path, &u->path);
    move_text(&e->user, &u->user);
    url_forget(e->password);
    e->password = u->password;
    u->password = NULL;
    e->port = u->port ? u->port : DEFAULT_PORT;
    e->db = u->db;
    e->tls = u->tls;
    changed(e);
    return NULL;
}

struct fault *endpoint_set_url(struct endpoint *e, const char *url)
{
    struct url u;
    struct fault *f = url_parse(&u, url);
    if (!f) f = adopt(e, &u);
    url_fini(&u);
    return f;
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

static void add_address(struct endpoint *e, const struct addrinfo *a)
{
    char text[NI_MAXHOST];
    if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0) return;
    e->addresses = mem_array(e->addresses, e->address_count + 1, sizeof *e->addresses);
    e->addresses[e->address_count++] = mem_strdup(text);
}

struct fault *endpoint_resolve(struct endpoint *e)
{
    if (e->path || e->address_count > 0) return NULL;
    struct addrinfo *all = NULL, hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(e->host, NULL, &hints, &all);
    if (error == 0) {
        for (const struct addrinfo *a = all; a; a = a->ai_next) add_address(e, a);
        freeaddrinfo(all);
    }
    if (e->address_count > 0) return NULL;
    const char *why = error == EAI_SYSTEM ? strerror(errno) : error ? gai_strerror(error) : "it has none";
    return fault_new(FAULT_UNREACHABLE,
                     "cannot find the address of %s: %s; is the host's name right? (try getent hosts %s)", e->name, why,
                     e->host);
}

size_t endpoint_addresses(const struct endpoint *e) { return e->path ? 1 : e->address_count; }

/* ---- connecting -------------------------------------------------------------------------------------------------- */

static struct fault *describe_refusal(const struct endpoint *e, const char *why, int error)
{
    if (error == ENOENT)
        return fault_new(FAULT_UNREACHABLE,
                         "cannot connect to %s: %s; is this the path the server has as `unixsocket`, "
                         "and is it running?",
                         e->name, why);
    if (error == EACCES || error == EPERM)
        return fault_new(FAULT_UNREACHABLE,
                         "cannot connect to %s: %s; who may use it is a matter of the socket's mode and "
                         "group (unixsocketperm) and of its directories",
                         e->name, why);
    if (error == EHOSTUNREACH || error == ENETUNREACH || error == ETIMEDOUT)
        return fault_new(FAULT_UNREACHABLE,
                         "cannot connect to %s: %s; is there a way to this host, and no firewall "
                         "between?",
                         e->name, why);
    return fault_new(FAULT_UNREACHABLE, "cannot connect to %s: %s; is a Redis running there? (try %s ping)", e->name,
                     why, e->redis_cli);
}

/* Whoever was there before waits for it to come back. */
static struct fault *cannot_connect(const struct endpoint *e, const char *why, int error)
{
    return fault_passing(describe_refusal(e, why, error));
}

/* What cannot be set is not missed: a unix socket has none of these. hiredis 0.14 sets TCP_NODELAY itself, 1.x leaves it
 * to whoever connects without blocking. */
static void set_up_socket(int fd)
{
    int on = 1, idle = KEEPALIVE_IDLE_S, every = KEEPALIVE_EVERY_S, probes = KEEPALIVE_PROBES;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static redisContext *start_context(const struct endpoint *e, size_t which)
{
    errno = 0;
    return e->path ? redisConnectUnixNonBlock(e->path) : redisConnectNonBlock(e->addresses[which], e->port);
}

/* A unix socket whose queue is full (hundreds connect at once, or the server is busy) says EAGAIN, and there is nothing
 * to wait for but time. */
static redisContext *start_patiently(const struct endpoint *e, size_t which)
{
    redisContext *c = start_context(e, which);
    for (int i = 0; i < QUEUE_TRIES && c && c->err == REDIS_ERR_IO && errno == EAGAIN; i++) {
        redisFree(c);
        poll(NULL, 0, QUEUE_PAUSE_MS);
        c = start_context(e, which);
    }
    return c;
}

struct fault *endpoint_connect(const struct endpoint *e, size_t which, redisContext **out)
{
    redisContext *c = start_patiently(e, which);
    int error = errno;
    if (!c) return fault_new(FAULT_NO_MEMORY, "no memory for a connection to %s", e->name);
    if (c->err) {
        struct fault *f = cannot_connect(e, c->errstr, c->err == REDIS_ERR_IO ? error : 0);
        redisFree(c);
        return f;
    }
    set_up_socket(c->fd);
    *out = c;
    return NULL;
}

struct fault *endpoint_connected(const struct endpoint *e, redisContext *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) error = errno;
    if (error) return cannot_connect(e, strerror(error), error);
    return e->tls ? tls_start(c, e->host, &e->files, e->name) : NULL;
}

/* ---- the handshake ----------------------------------------------------------------------------------------------- */

static size_t append(redisContext *c, int argc, const char **argv)
{
    return redisAppendCommandArgv(c, argc, argv, NULL) == REDIS_OK;
}

size_t endpoint_greet(const struct endpoint *e, redisContext *c, const char *client_name)
{
    size_t n = 0;
    if (e->user)
        n += append(c, 3, (const char *[]){"AUTH", e->user, e->password ? e->password : ""});
    else if (e->password)
        n += append(c, 2, (const char *[]){"AUTH", e->password});
    if (e->db) {
        char db[16];
        snprintf(db, sizeof db, "%u", e->db);
        n += append(c, 2, (const char *[]){"SELECT", db});
    }
    if (client_name) n += append(c, 3, (const char *[]){"CLIENT", "SETNAME", client_name});
    return n;
}

/* Refused: by the rules for this user, by a server that does not know it, for its characters. What any command would be
 * told counts. */
static struct fault *judge_name(const redisReply *reply)
{
    struct fault *f = reply_fault(reply, "CLIENT SETNAME");
    bool is_refused = f && (fault_is(f, FAULT_PROTOCOL) || strncmp(reply->str, "NOPERM", 6) == 0);
    if (!is_refused) return f;
    fault_free(f);
    return NULL;
}

struct fault *endpoint_greeted(const struct endpoint *e, size_t i, const redisReply *reply)
{
    bool has_auth = e->user || e->password;
    struct fault *f;
    if (has_auth && i == 0)
        f = reply_fault(reply, "AUTH");
    else if (e->db && i == has_auth)
        f = reply_fault(reply, "SELECT");
    else
        f = judge_name(reply);
    return fault_frame(f, "log in to %s", e->name);
}

/* ---- what went wrong --------------------------------------------------------------------------------------------- */

short endpoint_waits_for(const redisContext *c, bool has_output)
{
    return has_output && !tls_waits_for_input(c) ? POLLIN | POLLOUT : POLLIN;
}

bool endpoint_holds_input(const redisContext *c) { return tls_holds_input(c); }

struct fault *endpoint_lost(const struct endpoint *e, int error)
{
    struct fault *f = error ? fault_new(FAULT_UNREACHABLE, "connection to %s lost: %s", e->name, strerror(error))
                            : fault_new(FAULT_UNREACHABLE,
                                        "%s closed the connection; was it restarted, or did it end this client? (its "
                                        "log says why)",
                                        e->name);
    return fault_passing(f);
}

struct fault *endpoint_context_fault(const struct endpoint *e, const redisContext *c)
{
    const char *tls = e->tls ? tls_failure(c) : NULL;
    if (tls) return fault_passing(fault_new(FAULT_UNREACHABLE, "no TLS with %s: %s", e->name, tls));
    switch (c->err) {
    case REDIS_ERR_EOF: return endpoint_lost(e, 0);
    case REDIS_ERR_PROTOCOL:
        return fault_new(FAULT_PROTOCOL, "%s does not speak as a Redis should: %s", e->name, c->errstr);
    case REDIS_ERR_OOM: return fault_new(FAULT_NO_MEMORY, "no memory for a reply of %s", e->name);
    default: return fault_passing(fault_new(FAULT_UNREACHABLE, "connection to %s lost: %s", e->name, c->errstr));
    }
}
