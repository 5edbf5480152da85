#include <criterion/criterion.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/endpoint.h"
#include "shared/fault.h"
#include "shared/url.h"

#define SECRET "geheim"

static struct endpoint *with_url(const char *url)
{
    struct endpoint *e = endpoint_new();
    struct fault *f = endpoint_set_url(e, url);
    cr_assert(f == NULL, "%s: %s", url, f ? fault_message(f) : "");
    return e;
}

static void cr_names(const char *url, const char *name, const char *cli)
{
    struct endpoint *e = with_url(url);
    cr_assert_str_eq(endpoint_name(e), name);
    cr_assert_str_eq(endpoint_redis_cli(e), cli);
    endpoint_free(e);
}

Test(endpoint, names)
{
    struct endpoint *e = endpoint_new();
    cr_assert_str_eq(endpoint_name(e), "redis://127.0.0.1:6379");
    endpoint_free(e);
    cr_names("redis://host-a", "redis://host-a:6379", "redis-cli -h host-a -p 6379");
    cr_names("REDIS://host-a:7000/3", "redis://host-a:7000/3", "redis-cli -h host-a -p 7000 -n 3");
    cr_names("redis://host-a/", "redis://host-a:6379", "redis-cli -h host-a -p 6379");
    cr_names("redis://[::1]:7000", "redis://[::1]:7000", "redis-cli -h ::1 -p 7000");
    cr_names("redis://[fe80::1%25eth0]", "redis://[fe80::1%eth0]:6379", "redis-cli -h fe80::1%eth0 -p 6379");
    cr_names("unix:///run/redis.sock", "unix:///run/redis.sock", "redis-cli -s /run/redis.sock");
    cr_names("unix:///run/a%20b@c.sock?db=2", "unix:///run/a b@c.sock?db=2", "redis-cli -s '/run/a b@c.sock' -n 2");
    cr_names("unix:///it's", "unix:///it's", "redis-cli -s '/it'\\''s'");
}

Test(endpoint, credentials_are_taken_and_not_shown)
{
    static const char *const urls[] = {
        "redis://:" SECRET "@host-a",
        "redis://me:" SECRET "@host-a:7000/1",
        "redis://:a@b" SECRET "@host-a",
        "unix://me:" SECRET "@/run/redis.sock",
    };
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct endpoint *e = with_url(urls[i]);
        cr_assert(endpoint_has_password(e), "%s", urls[i]);
        cr_assert(!strstr(endpoint_name(e), SECRET) && !strstr(endpoint_redis_cli(e), SECRET));
        endpoint_free(e);
    }
    struct endpoint *e = with_url("redis://me@host-a");
    cr_assert(endpoint_has_user(e) && !endpoint_has_password(e));
    endpoint_free(e);
}

Test(endpoint, percent_encoding_is_decoded)
{
    struct url u;
    struct fault *f = url_parse(&u, "redis://m%65:p%40%2f%3A%25@host-a");
    cr_assert(f == NULL);
    cr_assert_str_eq(u.user, "me");
    cr_assert_str_eq(u.password, "p@/:%");
    url_fini(&u);
}

Test(endpoint, bad_urls_are_refused_without_repeating_them)
{
    static const char *const urls[] = {
        "",
        SECRET,
        "host-a:6379",
        "http://" SECRET "@host-a",
        "redis:/host-a",
        "redis://",
        "redis://:" SECRET "@",
        "redis://:" SECRET "@:6379",
        "redis://host-a:0",
        "redis://host-a:65536",
        "redis://host-a:" SECRET,
        "redis://host-a:",
        "redis://host-a:6379x",
        "redis://host-a:+1",
        "redis://host-a:1:2",
        "redis://host-a/x",
        "redis://host-a/-1",
        "redis://host-a/1/2",
        "redis://host-a/1000000",
        "redis://host-a?db=1",
        "redis://host-a#1",
        "redis://me:ge/" SECRET "@host-a",
        "redis://me:ge?" SECRET "@host-a",
        "redis://me:%" SECRET "@host-a",
        "redis://me:%0"
        "@host-a",
        "redis://me:" SECRET "%00@host-a",
        "redis://ho st",
        "redis://-host",
        "redis://[::1",
        "redis://[::1]7",
        "redis://::1",
        "unix://",
        "unix:///",
        "unix:///?db=1",
        "unix://run/redis.sock",
        "unix:///run/r.sock?db=",
        "unix:///run/r.sock?x=1",
        "unix:///run/r.sock?db=1x",
        "unix:///run/%zz",
        "unix://me:" SECRET "@run/r.sock",
        "unix:///0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789/"
        "0123456",
    };
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct endpoint *e = endpoint_new();
        struct fault *f = endpoint_set_url(e, urls[i]);
        cr_assert(f != NULL, "taken: %s", urls[i]);
        cr_assert_str_eq(fault_name(f), "Usage");
        cr_assert(!strstr(fault_message(f), SECRET) && !strstr(fault_message(f), "ge/"), "%s", fault_message(f));
        cr_assert_str_eq(endpoint_name(e), "redis://127.0.0.1:6379");
        fault_free(f);
        endpoint_free(e);
    }
}

static void cr_refuses(struct fault *f, const char *what)
{
    cr_assert(f != NULL, "taken: %s", what);
    cr_assert_str_eq(fault_name(f), "Usage");
    cr_assert(strstr(fault_message(f), what) != NULL, "%s", fault_message(f));
    fault_free(f);
}

Test(endpoint, parts)
{
    struct endpoint *e = endpoint_new();
    cr_assert(endpoint_set_host(e, "host-b") == NULL);
    cr_assert(endpoint_set_port(e, "7001") == NULL);
    cr_assert(endpoint_set_db(e, "4") == NULL);
    cr_assert_str_eq(endpoint_name(e), "redis://host-b:7001/4");
    cr_assert(endpoint_set_socket(e, "/run/r.sock") == NULL);
    cr_assert_str_eq(endpoint_name(e), "unix:///run/r.sock?db=4");
    cr_refuses(endpoint_set_port(e, "63x"), "63x");
    cr_refuses(endpoint_set_port(e, "-1"), "65535");
    cr_refuses(endpoint_set_port(e, "4294967297"), "65535");
    cr_refuses(endpoint_set_db(e, ""), "database");
    cr_refuses(endpoint_set_host(e, "a b"), "a b");
    cr_refuses(endpoint_set_host(e, "redis://a"), "--url");
    cr_refuses(endpoint_set_socket(e, ""), "socket");
    endpoint_free(e);
}

Test(endpoint, tls)
{
    struct endpoint *e = endpoint_new();
#if NWM_TLS
    cr_assert(endpoint_set_url(e, "rediss://host-a") == NULL);
    cr_assert(endpoint_uses_tls(e));
    cr_assert_str_eq(endpoint_name(e), "rediss://host-a:6379");
    cr_refuses(endpoint_set_socket(e, "/run/r.sock"), "TLS");
#else
    cr_refuses(endpoint_set_url(e, "rediss://host-a"), "built without TLS: needs hiredis 1.0 or newer");
    cr_refuses(endpoint_set_tls(e, true), "built without TLS: needs hiredis 1.0 or newer");
    cr_assert_not(endpoint_uses_tls(e));
#endif
    endpoint_free(e);
}

/* Not every bare machine knows localhost. */
Test(endpoint, resolves_numbers_and_names)
{
    static const char *const urls[] = {"redis://127.0.0.1", "redis://[::1]", "unix:///nowhere", "redis://localhost"};
    struct addrinfo *found = NULL;
    bool has_names = getaddrinfo("localhost", NULL, NULL, &found) == 0;
    if (found) freeaddrinfo(found);
    for (size_t i = 0; i < sizeof urls / sizeof *urls - !has_names; i++) {
        struct endpoint *e = with_url(urls[i]);
        for (int twice = 0; twice < 2; twice++) {
            struct fault *f = endpoint_resolve(e);
            cr_assert(f == NULL, "%s", f ? fault_message(f) : "");
            cr_assert_geq(endpoint_addresses(e), 1u);
        }
        endpoint_free(e);
    }
}

/* A label of 64 characters is no name for any resolver, so that none has to be asked. */
Test(endpoint, a_name_that_is_none_is_unreachable)
{
    struct endpoint *e = with_url("redis://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.invalid");
    struct fault *f = endpoint_resolve(e);
    cr_assert(f != NULL);
    cr_assert_str_eq(fault_name(f), "Unreachable");
    cr_assert(strstr(fault_message(f), "cannot find the address of redis://aaaa") != NULL, "%s", fault_message(f));
    fault_free(f);
    endpoint_free(e);
}

/* ---- error replies */

static struct fault *fault_of(const char *text)
{
    redisReply reply = {.type = REDIS_REPLY_ERROR, .str = (char *)(size_t)text};
    reply.len = strlen(text);
    return reply_fault(&reply, "RPUSHX key");
}

Test(reply, known_errors_have_their_fault_and_advice)
{
    static const struct {
        char text[100], name[16], advice[24];
    } known[] = {
        {"OOM command not allowed when used memory > 'maxmemory'.", "ServerFull", "maxmemory"},
        {"LOADING Redis is loading the dataset in memory", "Unreachable", "try again"},
        {"READONLY You can't write against a read only replica.", "Unreachable", "primary"},
        {"MISCONF Redis is configured to save RDB snapshots", "ServerFull", "disk"},
        {"NOREPLICAS Not enough good replicas to write.", "Unreachable", "min-replicas"},
        {"MASTERDOWN Link with MASTER is down", "Unreachable", "primary"},
        {"MOVED 3999 127.0.0.1:6381", "Unreachable", "Cluster"},
        {"ASK 3999 127.0.0.1:6381", "Unreachable", "Cluster"},
        {"CROSSSLOT Keys in request don't hash to the same slot", "Unreachable", "Cluster"},
        {"NOAUTH Authentication required.", "Denied", "REDISCLI_AUTH"},
        {"NOPERM this user has no permissions", "Denied", "ACL"},
        {"WRONGPASS invalid username-password pair", "Denied", "wrong"},
        {"DENIED Redis is running in protected mode", "Denied", "protected mode"},
        {"ERR invalid password", "Denied", "wrong"},
        {"ERR Client sent AUTH, but no password is set", "Denied", "leave it out"},
        {"ERR AUTH <password> called without any password configured", "Denied", "leave it out"},
        {"WRONGTYPE Operation against a key", "WrongType", "TYPE"},
        {"BUSY Redis is busy running a script.", "Busy", "SCRIPT KILL"},
        {"EXECABORT Transaction discarded", "Protocol", "transaction"},
        {"EXECABORT Transaction discarded because of: NOPERM no 'exec'", "Denied", "may not"},
        {"ERR max number of clients reached", "Unreachable", "maxclients"},
        {"ERR DB index is out of range", "Usage", "--db"},
        {"ERR unknown command 'UNLINK'", "Protocol", "Redis 5"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct fault *f = fault_of(known[i].text);
        cr_assert_str_eq(fault_name(f), known[i].name, "%s", known[i].text);
        cr_assert(strstr(fault_message(f), known[i].advice) != NULL, "%s", fault_message(f));
        cr_assert(strstr(fault_message(f), "RPUSHX key: ") == fault_message(f), "%s", fault_message(f));
        cr_assert_eq(fault_exit(f), fault_is(f, FAULT_USAGE) ? 2 : 4);
        fault_free(f);
    }
}

Test(reply, others_are_repeated_as_they_are)
{
    struct fault *f = fault_of("BUSYKEY Target key name already exists.");
    cr_assert_str_eq(fault_name(f), "Protocol");
    cr_assert_str_eq(fault_message(f), "RPUSHX key: the server answers \"BUSYKEY Target key name already exists\"");
    fault_free(f);
    f = fault_of("");
    cr_assert_str_eq(fault_name(f), "Protocol");
    fault_free(f);
}

Test(reply, what_is_no_error_is_no_fault)
{
    redisReply reply = {.type = REDIS_REPLY_STATUS};
    cr_assert(reply_fault(&reply, "x") == NULL);
}
