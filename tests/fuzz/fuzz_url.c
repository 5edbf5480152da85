/*
 * fuzz_url.c - arbitrary text as a URL. What is accepted must give a name without the password in it, and that name,
 * where it is one that a URL can be made of, must be accepted again and name the same; what is refused must not be
 * repeated.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/endpoint.h"
#include "shared/mem.h"
#include "shared/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_parts(const struct url *u)
{
    if (!u->host == !u->path) abort();
    if (u->host && !url_is_host(u->host)) abort();
    if (u->path && (!url_is_path(u->path) || u->path[0] != '/' || u->tls)) abort();
    if (u->port < 0 || u->port > 65535 || u->db > URL_DB_MAX) abort();
    if ((u->user && !*u->user) || (u->password && !*u->password)) abort();
}

static void check_refusal(struct fault *f, const char *text)
{
    if (!fault_is(f, FAULT_USAGE)) abort();
    /* Longer than anything the messages hold of themselves. */
    if (strlen(text) > 24 && strstr(fault_message(f), text)) abort();
    fault_free(f);
}

/* A % or ? in it would be read as something else. */
static void check_name(const char *name)
{
    if (strpbrk(name, "%?")) return;
    struct endpoint *again = endpoint_new();
    struct fault *f = endpoint_set_url(again, name);
    if (f || strcmp(endpoint_name(again), name) != 0) abort();
    endpoint_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mem_strndup((const char *)data, size);
    struct url u;
    struct fault *f = url_parse(&u, text);
    if (f)
        check_refusal(f, text);
    else
        check_parts(&u);
    url_fini(&u);
    struct endpoint *e = endpoint_new();
    struct fault *refused = endpoint_set_url(e, text);
    fault_free(refused);
    if (!refused) check_name(endpoint_name(e));
    endpoint_free(e);
    free(text);
    return 0;
}
