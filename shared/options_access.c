/*
 * From the words on how to get at Redis to endpoints. See options_intake.h.
 *
 * What is more specific wins: a password in a URL over REDISCLI_AUTH; what the command line says of host or password over
 * the URL; and a URL over the host, port, socket and database of weaker layers, which were meant for another server.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "shared/mem.h"
#include "shared/options_intake.h"
#include "shared/url.h"

enum { PASSWORD_MAX = 4096 };

/* Says which option it is about, and in a config file that it was there. */
static struct fault *about(const struct intake *in, enum option_id id, struct fault *f)
{
    if (!f) return NULL;
    enum layer layer = in->layer_of[id];
    bool in_file = layer == LAYER_CONFIG || layer == LAYER_CONFIG_SECTION;
    struct fault *named = fault_new(in_file ? FAULT_BAD_CONFIG : FAULT_USAGE, "%s%s: %s",
                                    in_file ? "config file: " : "--", option_rows[id].name, fault_message(f));
    fault_free(f);
    return named;
}

/* ---- the password ------------------------------------------------------------------------------------------------ */

/* The first line, without its end. Returns -1 at an error, with errno. */
static ssize_t read_line(int fd, char *line, size_t size)
{
    size_t len = 0;
    for (char c; len < size - 1; line[len++] = c) {
        ssize_t n = read(fd, &c, 1);
        if (n < 0) return -1;
        if (n == 0 || c == '\n') break;
    }
    if (len > 0 && line[len - 1] == '\r') len--;
    line[len] = '\0';
    return (ssize_t)len;
}

static char *keep_password(char line[PASSWORD_MAX])
{
    char *password = mem_strdup(line);
    explicit_bzero(line, PASSWORD_MAX);
    return password;
}

static struct fault *password_of_file(const char *path, char **out)
{
    char line[PASSWORD_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read_line(fd, line, sizeof line);
    int error = errno;
    if (fd >= 0) close(fd);
    if (len < 0) return fault_new(FAULT_USAGE, "%s cannot be read: %s", path, strerror(error));
    if (len == 0) return fault_new(FAULT_USAGE, "the first line of %s is empty", path);
    *out = keep_password(line);
    return NULL;
}

/* Whatever ends the reading, the terminal echoes again. */
static struct fault *ask_on(int tty, char **out)
{
    struct termios before, silent;
    char line[PASSWORD_MAX];
    if (tcgetattr(tty, &before) != 0) return fault_new(FAULT_USAGE, "no terminal to ask on: %s", strerror(errno));
    silent = before;
    silent.c_lflag &= (tcflag_t) ~(ECHO | ECHOE | ECHOK);
    silent.c_lflag |= ICANON | ECHONL;
    tcsetattr(tty, TCSAFLUSH, &silent);
    ssize_t len = dprintf(tty, "Password for Redis: ") < 0 ? -1 : read_line(tty, line, sizeof line);
    int error = errno;
    if (len < 0) dprintf(tty, "\n");
    tcsetattr(tty, TCSAFLUSH, &before);
    if (len < 0 && error == EINTR) return fault_new(FAULT_INTERRUPTED, "interrupted while asking for the password");
    if (len < 0) return fault_new(FAULT_USAGE, "the terminal cannot be asked: %s", strerror(error));
    *out = keep_password(line);
    return NULL;
}

static struct fault *ask_password(char **out)
{
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (tty < 0) return fault_new(FAULT_USAGE, "there is no terminal to ask on: %s", strerror(errno));
    struct fault *f = ask_on(tty, out);
    close(tty);
    return f;
}

/* Which of --pass, --pass-file and --askpass the strongest layer gives; OPT_COUNT for none. */
static struct fault *choose_password(const struct intake *in, enum option_id *chosen)
{
    static const enum option_id ways[] = {OPT_PASS, OPT_PASS_FILE, OPT_ASKPASS};
    *chosen = OPT_COUNT;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        enum layer layer = in->layer_of[ways[i]], best = *chosen == OPT_COUNT ? LAYER_DEFAULT : in->layer_of[*chosen];
        if (layer != LAYER_DEFAULT && layer == best)
            return fault_new(FAULT_USAGE, "--%s and --%s both give a password", option_rows[*chosen].name,
                             option_rows[ways[i]].name);
        if (layer > best) *chosen = ways[i];
    }
    return NULL;
}

/* NULL: there is none. */
static struct fault *get_password(const struct intake *in, enum option_id *way, char **out)
{
    *out = NULL;
    struct fault *f = choose_password(in, way);
    if (f || *way == OPT_COUNT) return f;
    if (*way == OPT_PASS_FILE) return about(in, *way, password_of_file(in->access.pass_file, out));
    if (*way == OPT_ASKPASS) {
        f = ask_password(out);
        return f && fault_is(f, FAULT_INTERRUPTED) ? f : about(in, *way, f);
    }
    if (*in->access.pass) *out = mem_strdup(in->access.pass);
    return NULL;
}

/* ---- endpoints --------------------------------------------------------------------------------------------------- */

/* Is it given, and not by a weaker layer than the URL it would change? */
static bool counts(const struct intake *in, enum option_id id)
{
    return in->layer_of[id] != LAYER_DEFAULT && in->layer_of[id] >= in->layer_of[OPT_URL];
}

static struct fault *refuse_several(const struct intake *in)
{
    static const enum option_id places[] = {OPT_HOST, OPT_PORT, OPT_SOCKET, OPT_DB};
    if (in->access.url_count < 2) return NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (counts(in, places[i]))
            return fault_new(FAULT_USAGE, "--%s: which of the %zu --url is meant? It can be part of each URL",
                             option_rows[places[i]].name, in->access.url_count);
    return NULL;
}

static enum layer stronger(enum layer a, enum layer b) { return a > b ? a : b; }

static struct fault *place_endpoint(struct intake *in, struct endpoint *e)
{
    const struct access *a = &in->access;
    enum layer tcp = stronger(in->layer_of[OPT_HOST], in->layer_of[OPT_PORT]), local = in->layer_of[OPT_SOCKET];
    if (tcp != LAYER_DEFAULT && tcp == local)
        return fault_new(FAULT_USAGE, "--socket does not go with --host and --port: they are two ways to one Redis");
    struct fault *f = NULL;
    if (counts(in, OPT_HOST)) f = about(in, OPT_HOST, endpoint_set_host(e, a->host));
    if (!f && counts(in, OPT_PORT)) f = about(in, OPT_PORT, endpoint_set_port(e, a->port));
    if (!f && local > tcp && counts(in, OPT_SOCKET)) f = about(in, OPT_SOCKET, endpoint_set_socket(e, a->socket));
    if (!f && counts(in, OPT_DB)) f = about(in, OPT_DB, endpoint_set_db(e, a->db));
    return f;
}

/* The URL's own credentials stay, but for a single URL and the command line. */
static void lend_credentials(const struct intake *in, struct endpoint *e, enum option_id way, const char *password)
{
    bool single = in->access.url_count < 2;
    bool insists = single && way != OPT_COUNT && intake_is_asked(in, way);
    if (in->access.user && (!endpoint_has_user(e) || (single && intake_is_asked(in, OPT_USER))))
        endpoint_set_user(e, in->access.user);
    if (password && (!endpoint_has_password(e) || insists)) endpoint_set_password(e, password);
}

static struct fault *secure(const struct intake *in, struct endpoint *e)
{
    const struct access *a = &in->access;
    endpoint_set_tls_files(e, a->cacert, a->cert, a->cert_key);
    return a->tls ? about(in, OPT_TLS, endpoint_set_tls(e, true)) : NULL;
}

static struct fault *make_endpoint(struct intake *in, const char *url)
{
    struct options *o = in->o;
    struct endpoint *e = endpoint_new();
    o->endpoints = mem_array(o->endpoints, o->endpoint_count + 1, sizeof *o->endpoints);
    o->endpoints[o->endpoint_count++] = e;
    struct fault *f = url ? about(in, OPT_URL, endpoint_set_url(e, url)) : NULL;
    if (!f && in->access.url_count < 2) f = place_endpoint(in, e);
    if (!f) f = secure(in, e);
    if (f) return f;
    for (size_t i = 0; i + 1 < o->endpoint_count; i++)
        if (strcmp(endpoint_name(o->endpoints[i]), endpoint_name(e)) == 0)
            return fault_new(FAULT_USAGE, "--url: %s is given twice", endpoint_name(e));
    return NULL;
}

static struct fault *check_tls_files(const struct intake *in)
{
    const struct access *a = &in->access;
    bool any = false;
    for (size_t i = 0; i < in->o->endpoint_count; i++) any = any || endpoint_uses_tls(in->o->endpoints[i]);
    if (!a->cert != !a->cert_key) return fault_new(FAULT_USAGE, "--cert and --cert-key are only good together");
    bool asked = intake_is_asked(in, OPT_CACERT) || intake_is_asked(in, OPT_CERT) || intake_is_asked(in, OPT_CERT_KEY);
    return asked && !any ? fault_new(FAULT_USAGE, "--cacert, --cert and --cert-key need --tls or rediss://") : NULL;
}

struct fault *access_finish(struct intake *in)
{
    const struct access *a = &in->access;
    struct fault *f = refuse_several(in);
    if (!f && a->url_count == 0) f = make_endpoint(in, NULL);
    for (size_t i = 0; i < a->url_count && !f; i++) f = make_endpoint(in, a->urls[i]);
    if (!f) f = check_tls_files(in);
    enum option_id way = OPT_COUNT;
    char *password = NULL;
    if (!f) f = get_password(in, &way, &password);
    for (size_t i = 0; i < in->o->endpoint_count && !f; i++) lend_credentials(in, in->o->endpoints[i], way, password);
    url_forget(password);
    return f;
}
