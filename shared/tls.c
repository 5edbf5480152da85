#include "shared/tls.h"

#if NWM_TLS

#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

struct fault *tls_available(void) { return NULL; }

/* The innermost of OpenSSL's reasons, and its queue is empty afterwards. */
static const char *reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return text ? text : "unknown reason";
}

static struct fault *bad_file(const char *option, const char *path)
{
    const char *why = access(path, R_OK) == 0 ? reason() : strerror(errno);
    ERR_clear_error();
    return fault_new(FAULT_BAD_CONFIG, "%s %s cannot be used: %s", option, path, why);
}

static struct fault *load_files(SSL_CTX *context, const struct tls_files *files)
{
    if (files->cacert) {
        if (SSL_CTX_load_verify_locations(context, files->cacert, NULL) != 1)
            return bad_file("--cacert", files->cacert);
    } else if (SSL_CTX_set_default_verify_paths(context) != 1) {
        return fault_new(FAULT_BAD_CONFIG, "the system's certificate authorities cannot be read: %s", reason());
    }
    if (files->cert && SSL_CTX_use_certificate_chain_file(context, files->cert) != 1)
        return bad_file("--cert", files->cert);
    if (files->cert_key && SSL_CTX_use_PrivateKey_file(context, files->cert_key, SSL_FILETYPE_PEM) != 1)
        return bad_file("--cert-key", files->cert_key);
    return NULL;
}

static bool is_numeric(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* A name is sent along (SNI) and must be in the certificate; an address must be in it as an address. */
static bool expect_host(SSL *ssl, const char *host)
{
    if (is_numeric(host)) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

/* One SSL_CTX a connection: there are only a few, and the SSL keeps it alive. */
static struct fault *make_ssl(SSL_CTX *context, const char *host, const struct tls_files *files, SSL **out)
{
    struct fault *f = load_files(context, files);
    if (f) return f;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL *ssl = SSL_new(context);
    if (!ssl || !expect_host(ssl, host)) {
        SSL_free(ssl);
        return fault_new(FAULT_UNREACHABLE, "TLS cannot begin with host %s: %s", host, reason());
    }
    *out = ssl;
    return NULL;
}

struct fault *tls_start(redisContext *c, const char *host, const struct tls_files *files, const char *server)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context) return fault_new(FAULT_UNREACHABLE, "TLS cannot begin: %s", reason());
    SSL *ssl = NULL;
    struct fault *f = make_ssl(context, host, files, &ssl);
    SSL_CTX_free(context);
    if (f) return f;
    c->privdata = ssl; /* the context frees the SSL itself; this is for looking at it */
    if (redisInitiateSSL(c, ssl) == REDIS_OK) return NULL;
    const char *why = tls_failure(c);
    return fault_new(FAULT_UNREACHABLE, "no TLS with %s: %s", server, why ? why : c->errstr);
}

const char *tls_failure(const redisContext *c)
{
    SSL *ssl = c->privdata;
    if (!ssl) return NULL;
    long verified = SSL_get_verify_result(ssl);
    if (verified != X509_V_OK) return X509_verify_cert_error_string(verified);
    if (SSL_is_init_finished(ssl)) return NULL;
    unsigned long code = ERR_peek_last_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    return text ? text : "the handshake failed; does it speak TLS on this port?";
}

/* Only during the handshake: later the library remembers what the last read wanted, which says nothing of writes. */
bool tls_waits_for_input(const redisContext *c)
{
    SSL *ssl = c->privdata;
    return ssl && !SSL_is_init_finished(ssl) && SSL_want_read(ssl);
}

bool tls_holds_input(const redisContext *c)
{
    SSL *ssl = c->privdata;
    return ssl && SSL_pending(ssl) > 0;
}

#else

struct fault *tls_available(void) { return fault_new(FAULT_USAGE, "built without TLS: needs hiredis 1.0 or newer"); }

struct fault *tls_start(redisContext *c, const char *host, const struct tls_files *files, const char *server)
{
    (void)c, (void)host, (void)files, (void)server;
    return tls_available();
}

const char *tls_failure(const redisContext *c)
{
    (void)c;
    return NULL;
}

bool tls_waits_for_input(const redisContext *c)
{
    (void)c;
    return false;
}

bool tls_holds_input(const redisContext *c)
{
    (void)c;
    return false;
}

#endif
