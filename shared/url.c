#include "shared/url.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "shared/mem.h"

enum { HOST_MAX = 253, PORT_MAX = 65535 };
/* sun_path with its NUL; hiredis cuts longer ones silently. */
enum { PATH_ROOM = sizeof((struct sockaddr_un *)0)->sun_path };

void url_forget(char *secret)
{
    if (secret) explicit_bzero(secret, strlen(secret));
    free(secret);
}

/* Digits only, and at most `most`. */
static bool parse_number(const char *text, unsigned most, unsigned *out)
{
    size_t len = strlen(text);
    if (len == 0 || len > 9 || strspn(text, "0123456789") != len) return false;
    unsigned long n = strtoul(text, NULL, 10);
    *out = (unsigned)n;
    return n <= most;
}

bool url_parse_port(const char *text, int *port)
{
    unsigned n;
    if (!parse_number(text, PORT_MAX, &n) || n == 0) return false;
    *port = (int)n;
    return true;
}

bool url_parse_db(const char *text, unsigned *db) { return parse_number(text, URL_DB_MAX, db); }

bool url_is_path(const char *text) { return *text && strlen(text) < PATH_ROOM; }

/* Characters of names, and of addresses of both families. */
bool url_is_host(const char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > HOST_MAX) return false;
    for (const char *p = text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(".-_:%", *p)) return false;
    return *text != '-';
}

static struct fault *bad_url(const char *why)
{
    return fault_new(FAULT_USAGE,
                     "bad URL: %s (redis://[user[:password]@]host[:port][/db], rediss://…, "
                     "unix:///path[?db=N])",
                     why);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes %XX into new memory; NULL when it is malformed or a NUL. */
static char *decode(struct bytes text)
{
    char *out = mem_alloc(text.len + 1), *end = out;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (c == '%') {
            int high = i + 2 < text.len ? hex_digit(text.data[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_digit(text.data[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0)) {
                free(out);
                return NULL;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        *end++ = c;
    }
    *end = '\0';
    return out;
}

/* Takes what stands before the first `mark`, and the mark, off the text. False, and nothing taken, without one. */
static bool take_until(struct bytes *text, char mark, struct bytes *out)
{
    const char *at = text->len ? memchr(text->data, mark, text->len) : NULL;
    if (!at) return false;
    *out = (struct bytes){text->data, (size_t)(at - text->data)};
    text->len -= out->len + 1;
    text->data = at + 1;
    return true;
}

static bool begins_with(struct bytes text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text.len >= len && memcmp(text.data, prefix, len) == 0;
}

/* user[:password] */
static struct fault *take_userinfo(struct url *u, struct bytes text)
{
    struct bytes user;
    bool has_password = take_until(&text, ':', &user);
    if (!has_password) user = text;
    char *decoded = decode(user);
    char *password = has_password ? decode(text) : NULL;
    if (!decoded || (has_password && !password)) {
        free(decoded);
        url_forget(password);
        return bad_url("user or password has a % that no two hex digits follow");
    }
    if (*decoded)
        u->user = decoded;
    else
        free(decoded);
    if (password && *password)
        u->password = password;
    else
        free(password);
    return NULL;
}

/* Splits USERINFO@REST at the last @: one in a password should be written %40, but is understood. */
static struct fault *take_authority(struct url *u, struct bytes authority, struct bytes *rest)
{
    *rest = authority;
    const char *at = authority.len ? memrchr(authority.data, '@', authority.len) : NULL;
    if (!at) return NULL;
    size_t len = (size_t)(at - authority.data);
    *rest = (struct bytes){at + 1, authority.len - len - 1};
    return take_userinfo(u, (struct bytes){authority.data, len});
}

static struct fault *take_db(struct url *u, struct bytes text)
{
    char *db = mem_strndup(text.data, text.len);
    bool good = url_parse_db(db, &u->db);
    free(db);
    return good ? NULL : bad_url("the database must be a number, 0 or more");
}

static struct fault *take_port(struct url *u, struct bytes text)
{
    char *port = mem_strndup(text.data, text.len);
    bool good = url_parse_port(port, &u->port);
    free(port);
    return good ? NULL : bad_url("the port must be a number from 1 to 65535");
}

static struct fault *take_host(struct url *u, struct bytes text)
{
    if (text.len == 0) return bad_url("the host is missing");
    char *host = decode(text);
    if (!host || !url_is_host(host)) {
        free(host);
        return bad_url("the host must be a name or an address");
    }
    u->host = host;
    return NULL;
}

/* host, host:port, [address] or [address]:port */
static struct fault *take_host_port(struct url *u, struct bytes text)
{
    struct bytes host, port = {0};
    bool has_port;
    if (text.len > 0 && text.data[0] == '[') {
        text.data++;
        text.len--;
        if (!take_until(&text, ']', &host)) return bad_url("the ] behind the address is missing");
        if (text.len > 0 && text.data[0] != ':') return bad_url("only :port may follow the ] of an address");
        has_port = text.len > 0;
        if (has_port) port = (struct bytes){text.data + 1, text.len - 1};
    } else {
        has_port = take_until(&text, ':', &host);
        if (has_port)
            port = text;
        else
            host = text;
        if (has_port && memchr(port.data, ':', port.len))
            return bad_url("more than one : in host:port; an IPv6 address stands in []");
    }
    struct fault *f = take_host(u, host);
    return f || !has_port ? f : take_port(u, port);
}

static struct fault *parse_host_url(struct url *u, struct bytes text)
{
    size_t len = strcspn(text.data, "/?#");
    struct bytes authority = {text.data, len}, after = {text.data + len, text.len - len}, rest;
    if (memchr(text.data + len, '@', text.len - len))
        return bad_url("/, ? and # in a user name or password are written %2F, %3F and %23");
    struct fault *f = take_authority(u, authority, &rest);
    if (!f) f = take_host_port(u, rest);
    if (f) return f;
    if (after.len > 0 && after.data[0] != '/') return bad_url("only /db may follow the host");
    if (after.len <= 1) return NULL;
    return take_db(u, (struct bytes){after.data + 1, after.len - 1});
}

static struct fault *parse_unix_url(struct url *u, struct bytes text)
{
    size_t len = strcspn(text.data, "/");
    struct bytes authority = {text.data, len}, path = {text.data + len, text.len - len}, query, rest;
    struct fault *f = take_authority(u, authority, &rest);
    if (f) return f;
    if (path.len == 0 || rest.len > 0) return bad_url("the path of a unix socket begins with /");
    struct bytes all = path;
    if (take_until(&all, '?', &path)) {
        query = all;
        if (!begins_with(query, "db=")) return bad_url("only ?db=N may follow the path");
        f = take_db(u, (struct bytes){query.data + 3, query.len - 3});
        if (f) return f;
    }
    if (path.len < 2) return bad_url("the path of a unix socket is missing");
    char *decoded = decode(path);
    if (!decoded) return bad_url("the path has a % that no two hex digits follow");
    u->path = decoded;
    return url_is_path(decoded) ? NULL : bad_url("the path is too long for a socket");
}

struct fault *url_parse(struct url *u, const char *text)
{
    *u = (struct url){0};
    static const char *const schemes[] = {"redis://", "rediss://", "unix://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t len = strlen(schemes[i]);
        if (strncasecmp(text, schemes[i], len) != 0) continue;
        struct bytes rest = {text + len, strlen(text) - len};
        u->tls = i == 1;
        return i == 2 ? parse_unix_url(u, rest) : parse_host_url(u, rest);
    }
    return bad_url("it does not begin with redis://, rediss:// or unix://");
}

void url_fini(struct url *u)
{
    url_forget(u->password);
    free(u->user);
    free(u->host);
    free(u->path);
    *u = (struct url){0};
}
