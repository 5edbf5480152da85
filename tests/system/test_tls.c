/* TLS: where hiredis has it, against a redis-server with a certificate of a CA made here; where it has not, the refusal.
 * Which of the two is decided by what `nwm-merger --version` says; the tests of the other say that they are skipped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/system/feed.h"

static bool has_tls(void)
{
    struct run r = run("nwm-merger --version");
    bool yes = strstr(r.out, "TLS yes") != NULL;
    cr_assert(yes || strstr(r.out, "TLS no"), "%s", r.out);
    return yes;
}

/* Says why, once, and ends the test. */
#define SKIP_UNLESS(condition, why)                                                                                    \
    do {                                                                                                               \
        if (!(condition)) cr_skip("skipped: %s", why);                                                                 \
    } while (0)

/* ---- hiredis 0.14 */

static void expect_refusal(const char *command)
{
    struct run r = run("%s", command);
    expect_fault(r, 2, "Usage", NULL);
    expect_err_has(r, "built without TLS: needs hiredis 1.0 or newer");
    expect_out(r, "");
}

Test(without_tls, is_refused)
{
    SKIP_UNLESS(!has_tls(), "this build has TLS");
    expect_refusal("nwm-merger -U rediss://127.0.0.1:1");
    expect_refusal("nwm-worker --example -i 0 -U rediss://127.0.0.1:1");
    expect_refusal("nwm-merger --tls --host 127.0.0.1");
    expect_refusal("nwm-worker --example -i 0 --tls --host 127.0.0.1");
    expect_refusal("NWM_URL=rediss://127.0.0.1:1 nwm-merger --status");
    write_file("conf", "tls = yes\n");
    struct run r = run("NWM_URL= nwm-merger --config conf --host 127.0.0.1");
    cr_assert_eq(r.exit, 2, "%s", r.err);
    expect_err_has(r, "built without TLS");
}

/* ---- hiredis 1.x */

struct tls_server {
    struct server server;
    int port;
    char *url;
};

/* ca.pem signs NAME.pem, whose names are SAN. */
static void make_certificate(const char *name, const char *san)
{
    write_file("san", fmt("subjectAltName=%s\n", san));
    expect_exit(run("[ -e ca.pem ] || openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 "
                    "-subj '/CN=nwmerge test CA' 2>/dev/null"),
                0);
    expect_exit(
        run("openssl req -newkey rsa:2048 -nodes -keyout %s.key -out %s.csr -subj '/CN=%s' 2>/dev/null && openssl x509 "
            "-req -in %s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out %s.pem -days 2 -extfile san 2>/dev/null",
            name, name, name, name, name),
        0);
}

static void start(struct tls_server *t, const char *san, const char *more)
{
    make_certificate("server", san);
    t->port = free_port();
    server_start(&t->server,
                 "bind 127.0.0.1\ntls-port %d\ntls-cert-file %s/server.pem\ntls-key-file %s/server.key\n"
                 "tls-ca-cert-file %s/ca.pem\n%s",
                 t->port, test_dir(), test_dir(), test_dir(), more);
    t->url = fmt("rediss://127.0.0.1:%d", t->port);
}

static bool can_serve(void)
{
    if (run("openssl version").exit != 0) return false;
    struct run r = run("redis-server --tls-port %d --port 0 --tls-cert-file none --tls-key-file none", free_port());
    return strstr(r.out, "Bad directive") == NULL;
}

#define SKIP_WITHOUT_TLS()                                                                                             \
    do {                                                                                                               \
        SKIP_UNLESS(has_tls(), "built without TLS");                                                                   \
        SKIP_UNLESS(can_serve(), "no openssl(1), or a redis-server without TLS");                                      \
    } while (0)

Test(tls, load_and_merge)
{
    SKIP_WITHOUT_TLS();
    struct tls_server t;
    start(&t, "IP:127.0.0.1", "tls-auth-clients no");
    expect_exit(run("seq -f %%099.0f 1 2 200000 | nwm-worker -q -n -i 0 -U %s --cacert ca.pem", t.url), 0);
    expect_exit(
        run("seq -f %%099.0f 2 2 200000 | nwm-worker -q -n -i 1 --tls --host 127.0.0.1 --port %d --cacert ca.pem",
            t.port),
        0);
    struct run r = run("nwm-merger -U %s --cacert ca.pem --verify -o out", t.url);
    expect_exit(r, 0);
    expect_err_has(r, "local == remote: true");
    expect_exit(run("seq -f %%099.0f 200000 >expected && cmp out expected"), 0);
    expect_exit(run("nwm-merger -U %s --cacert ca.pem --status", t.url), 0);
    expect_exit(run("nwm-worker -U %s --cacert ca.pem --drop --all", t.url), 0);
}

/* Large items cross many TLS records; the merger waits for events meanwhile. */
Test(tls, large_items_and_waiting)
{
    SKIP_WITHOUT_TLS();
    struct tls_server t;
    start(&t, "IP:127.0.0.1", "tls-auth-clients no");
    struct proc *merger = spawn("nwm-merger -w 2 -q -U %s --cacert ca.pem -o out", t.url);
    expect_exit(run("{ echo 1; head -c 3000000 /dev/zero | tr '\\0' 5; echo; echo 9; } >in"), 0);
    expect_exit(run("nwm-worker -q -i 0 -U %s --cacert ca.pem in", t.url), 0);
    expect_exit(run("echo 7 | nwm-worker -q -i 1 -U %s --cacert ca.pem", t.url), 0);
    expect_exit(wait_exit(merger, 20000), 0);
    expect_exit(run("echo 7 | LC_ALL=C sort -s -m in - | cmp out"), 0);
}

static void expect_no_tls(struct run r, const char *what)
{
    expect_fault(r, 4, "Unreachable", NULL);
    expect_err_has(r, what);
    expect_out(r, "");
}

Test(tls, authority_not_trusted)
{
    SKIP_WITHOUT_TLS();
    struct tls_server t;
    start(&t, "IP:127.0.0.1", "tls-auth-clients no");
    expect_no_tls(run("nwm-merger -U %s", t.url), "certificate");
    expect_no_tls(run("nwm-worker --example -i 0 -U %s", t.url), "certificate");
    cr_assert_str_eq(server_redis(&t.server, "DBSIZE"), "0");
}

Test(tls, certificate_of_another_host)
{
    SKIP_WITHOUT_TLS();
    struct tls_server t;
    start(&t, "DNS:other.example,IP:127.0.0.2", "tls-auth-clients no");
    expect_no_tls(run("nwm-merger -U %s --cacert ca.pem", t.url), "mismatch");
    expect_no_tls(run("nwm-worker --example -i 0 -U %s --cacert ca.pem", t.url), "mismatch");
}

Test(tls, client_certificate)
{
    SKIP_WITHOUT_TLS();
    struct tls_server t;
    start(&t, "IP:127.0.0.1", "tls-auth-clients yes");
    make_certificate("client", "DNS:client.example");
    const char *mine = "--cacert ca.pem --cert client.pem --cert-key client.key";
    expect_exit(run("nwm-worker --example -i 0 -U %s %s", t.url, mine), 0);
    expect_exit(run("nwm-merger -U %s %s", t.url, mine), 0);
    struct run r = run_within(20000, "nwm-merger -U %s --cacert ca.pem", t.url);
    expect_exit(r, 4);
    expect_exit(run_within(20000, "nwm-worker --example -i 1 -U %s --cacert ca.pem", t.url), 4);
}

Test(tls, files_that_are_none)
{
    SKIP_WITHOUT_TLS();
    struct tls_server t;
    start(&t, "IP:127.0.0.1", "tls-auth-clients no");
    struct run r = run("nwm-merger -U %s --cacert none.pem", t.url);
    expect_fault(r, 2, "BadConfig", NULL);
    expect_err_has(r, "none.pem");
    r = run("nwm-merger -U %s --cacert ca.pem --cert san --cert-key server.key", t.url);
    expect_fault(r, 2, "BadConfig", NULL);
    expect_err_has(r, "san");
}

/* TLS spoken to a port without, and the other way round: told soon, not waited for. */
Test(tls, one_side_only)
{
    SKIP_WITHOUT_TLS();
    struct tls_server t;
    start(&t, "IP:127.0.0.1", "tls-auth-clients no");
    struct run r = run_within(20000, "nwm-merger --timeout 2s -U redis://127.0.0.1:%d", t.port);
    cr_assert(r.exit == 4 || r.exit == 6, "%s", run_describe(&r, "exit 4 or 6"));
    struct server plain;
    server_start_tcp(&plain, "%s", "");
    r = run_within(20000, "nwm-merger --timeout 2s -U rediss://127.0.0.1:%d --cacert ca.pem", plain.port);
    cr_assert(r.exit == 4 || r.exit == 6, "%s", run_describe(&r, "exit 4 or 6"));
    expect_err_has(r, fmt("127.0.0.1:%d", plain.port));
}
