/* What a Redis can answer instead of doing what it was asked: each a fault that says what, where and what to do, in both
 * programs, and nothing hangs. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/system/fake.h"
#include "tests/system/feed.h"

enum { SOON = 10000, TIMEOUT_CODE = 6 };

/* For fake servers: reads the first command of either program, whichever that is. */
#define FIRST_COMMAND "EXPECT CLIENT SETNAME\nSEND +OK\\r\\n\nEXPECT *\n"

static struct run worker_at(const char *url)
{
    return run_within(SOON, "nwm-worker --timeout 2s --example -i 0 -U '%s'", url);
}

static struct run merger_at(const char *url) { return run_within(SOON, "nwm-merger --wait 5s -U '%s'", url); }

/* For what may pass: the merger asks again, and again. */
static struct run patient_merger_at(const char *url)
{
    return run_within(SOON, "nwm-merger --wait 5s --timeout 1s -U '%s'", url);
}

/* A fake that answers the first command of every connection so. */
static struct fake *fake_that_always(const char *answer)
{
    char *script = fmt(FIRST_COMMAND "%s", answer);
    for (int i = 0; i < 40; i++) script = fmt("%sACCEPT\n" FIRST_COMMAND "%s", script, answer);
    return fake_start(script);
}

/* The fault's name, where it was (NULL: not asked), what was answered, what to do. */
static void expect_told(struct run r, int code, const char *name, const char *where, const char *what,
                        const char *advice)
{
    expect_fault(r, code, name, NULL);
    expect_out(r, "");
    if (where) expect_err_has(r, where);
    expect_err_has(r, what);
    expect_err_has(r, advice);
}

/* ---- no way in */

Test(connecting, refused)
{
    const char *nowhere = fmt("unix://%s/no.sock", test_dir());
    expect_told(worker_at(nowhere), 4, "Unreachable", nowhere, "No such file", "unixsocket");
    expect_told(merger_at(nowhere), 4, "Unreachable", nowhere, "No such file", "unixsocket");
    const char *closed = fmt("redis://127.0.0.1:%d", free_port());
    expect_told(worker_at(closed), 4, "Unreachable", closed, "Connection refused", "is a Redis running there?");
    expect_told(merger_at(closed), 4, "Unreachable", closed, "Connection refused", "redis-cli -h 127.0.0.1 -p");
    expect_told(worker_at("redis://no.such.host.invalid"), 4, "Unreachable", "no.such.host.invalid", "address",
                "name right?");
    expect_told(merger_at("redis://no.such.host.invalid"), 4, "Unreachable", "no.such.host.invalid", "address",
                "name right?");
}

Test(connecting, dead_socket)
{
    struct server s;
    server_start(&s, "%s", "");
    server_kill9(&s); /* its socket file stays */
    expect_told(worker_at(s.url), 4, "Unreachable", s.url, "refused", "is a Redis running there?");
    expect_told(merger_at(s.url), 4, "Unreachable", s.url, "refused", "is a Redis running there?");
}

Test(connecting, password)
{
    struct server s;
    server_start(&s, "requirepass right");
    expect_told(worker_at(s.url), 4, "Denied", NULL, "NOAUTH", "--pass-file");
    expect_told(merger_at(s.url), 4, "Denied", NULL, "NOAUTH", "REDISCLI_AUTH");
    const char *wrong = fmt("unix://default:wr0ng@%s", s.socket);
    struct run rs[] = {worker_at(wrong), merger_at(wrong)};
    for (int i = 0; i < 2; i++) {
        expect_told(rs[i], 4, "Denied", s.url, "WRONGPASS", "password is wrong");
        cr_assert_null(strstr(rs[i].err, "wr0ng"), "%s", rs[i].err);
    }
    expect_exit(worker_at(fmt("unix://default:right@%s", s.socket)), 0);
    expect_exit(run("REDISCLI_AUTH=right nwm-merger -U %s", s.url), 0);
    write_file("secret", "right\n");
    run("chmod 600 secret");
    expect_exit(run("nwm-merger --pass-file secret -U %s", s.url), 0);
    expect_told(worker_at(fmt("unix://nobody:right@%s", s.socket)), 4, "Denied", s.url, "WRONGPASS",
                "password is wrong");
}

/* A password where none is wanted is taken by Redis 6 and newer; a database that is not there is not. */
Test(connecting, database)
{
    struct server s;
    server_start(&s, "databases 2");
    expect_told(worker_at(fmt("%s?db=7", s.url)), 2, "Usage", NULL, "out of range", "--db");
    expect_told(merger_at(fmt("%s?db=7", s.url)), 2, "Usage", NULL, "out of range", "--db");
    expect_exit(worker_at(fmt("%s?db=1", s.url)), 0);
    expect_exit(merger_at(fmt("%s?db=1", s.url)), 0);
    expect_exit(merger_at(s.url), 4);
}

Test(connecting, too_many_clients)
{
    struct server s;
    server_start(&s, "maxclients 2");
    server_redis(&s, "PING");
    struct proc *other = spawn("redis-cli -s %s subscribe x", s.socket);
    for (int64_t end = now_ms() + 5000; now_ms() < end && !strstr(proc_out(other), "subscribe"); nap(5)) continue;
    expect_told(worker_at(s.url), 4, "Unreachable", NULL, "max number of clients", "maxclients");
    expect_told(merger_at(s.url), 4, "Unreachable", NULL, "max number of clients", "maxclients");
}

/* ---- what the server refuses */

static const struct {
    char answer[80], name[16], advice[40];
} answers[] = {
    {"LOADING Redis is loading the dataset in memory", "Unreachable", "try again"},
    {"READONLY You can't write against a read only replica", "Unreachable", "primary"},
    {"MOVED 3999 127.0.0.1:7001", "Unreachable", "Redis Cluster"},
    {"CLUSTERDOWN Hash slot not served", "Unreachable", "CLUSTER INFO"},
    {"MASTERDOWN Link with MASTER is down", "Unreachable", "primary"},
    {"OOM command not allowed when used memory > 'maxmemory'", "ServerFull", "raise the limit"},
    {"MISCONF Redis is configured to save RDB snapshots", "ServerFull", "disk space"},
    {"NOREPLICAS Not enough good replicas to write", "Unreachable", "min-replicas-to-write"},
    {"NOAUTH Authentication required", "Denied", "--askpass"},
    {"NOPERM this user has no permissions", "Denied", "ACL rules"},
    {"WRONGTYPE Operation against a key", "WrongType", "TYPE shows what it is"},
    {"ERR unknown command", "Protocol", "Redis 5 or newer"},
    {"ERR max number of clients reached", "Unreachable", "maxclients"},
    {"XYZ nobody knows this one", "Protocol", "nobody knows this one"},
};
enum { ANSWERS = sizeof answers / sizeof *answers };

ParameterizedTestParameters(answer, of_the_server)
{
    static int which[ANSWERS];
    for (int i = 0; i < ANSWERS; i++) which[i] = i;
    return cr_make_param_array(int, which, ANSWERS);
}

static bool passes(const char *answer)
{
    static const char *const passing[] = {"LOADING ", "MASTERDOWN ", "ERR max number of clients"};
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (strncmp(answer, passing[i], strlen(passing[i])) == 0) return true;
    return false;
}

/* To the first command, and to a later one: of the worker a push, of the merger its first batch. */
ParameterizedTest(int *which, answer, of_the_server)
{
    const char *answer = answers[*which].answer, *name = answers[*which].name, *advice = answers[*which].advice;
    const char *refuse = fmt("SEND -%s\\r\\n\nSTALL\n", answer);
    int code = 4;
    struct fake *f;
    if (strncmp(answer, "LOADING", 7) == 0)
        f = fake_that_always(fmt("SEND -%s\\r\\n\n", answer)); /* that passes: the worker asks again */
    else
        f = fake_start(fmt(FIRST_COMMAND "%s", refuse));
    expect_told(worker_at(fake_url(f)), code, name, NULL, answer, advice);
    if (passes(answer)) {
        struct run r = patient_merger_at(fake_url(fake_that_always(fmt("SEND -%s\\r\\n\n", answer))));
        expect_told(r, code, name, NULL, answer, advice);
        cr_assert_gt(r.took, 900);
        return; /* in the middle of a merge: test_reconnect.c */
    }
    f = fake_start(fmt(FIRST_COMMAND "%s", refuse));
    expect_told(merger_at(fake_url(f)), code, name, NULL, answer, advice);

    expect_exit(run("nwm-worker -q --example -i 5"), 0);
    f = fake_start(fmt("RELAY-UNTIL-NEXT\nEXPECT LRANGE\n%s", refuse));
    expect_told(merger_at(fake_url(f)), code, name, NULL, answer, advice);
    cr_assert_str_eq(manifest("5", "state"), "ready");
}

/* ---- real servers in these states */

Test(server, loading)
{
    struct server s;
    server_start(&s, "save 3600 1000000");
    expect_exit(run("seq 20000 | sed 's/^/SET k/;s/$/ x/' | redis-cli -s %s >/dev/null", s.socket), 0);
    cr_assert_str_eq(server_redis(&s, "SAVE"), "OK");
    server_stop(&s);
    expect_exit(
        run("printf 'key-load-delay 2000\\nloading-process-events-interval-bytes 1024\\n' >>%s/redis.conf", s.dir), 0);
    struct proc *again = spawn("redis-server %s/redis.conf", s.dir);
    for (int64_t end = now_ms() + SOON; now_ms() < end; nap(5))
        if (strncmp(server_redis(&s, "GET k"), "(error) LOADING", 15) == 0) break;
    expect_told(worker_at(s.url), 4, "Unreachable", NULL, "LOADING", "try again when that is done");
    expect_told(patient_merger_at(s.url), 4, "Unreachable", NULL, "LOADING", "try again when that is done");
    send_signal(again, SIGKILL);
    wait_exit(again, SOON);
}

/* The list goes first, so that there is room for the fault. */
Test(server, out_of_memory)
{
    struct server s;
    server_start(&s, "maxmemory 20mb\nmaxmemory-policy noeviction");
    expect_exit(run("seq -f %%099.0f 400000 >large && seq -f %%099.0f 20000 >small"), 0);
    struct run r = run("nwm-worker -n -i 0 -U %s large", s.url);
    expect_told(r, 4, "ServerFull", dataset("0"), "OOM", "raise the limit");
    expect_err_has(r, fmt("nwm:{%s}:1.", dataset("0")));
    cr_assert_str_eq(field(&s, "0", "state"), "failed");
    cr_assert_str_eq(field(&s, "0", "error"), "ServerFull");
    cr_assert_str_eq(field(&s, "0", "exit"), "4");
    cr_assert_str_eq(server_redis(&s, "EXISTS %s", field(&s, "0", "list")), "0");
    cr_assert_lt(info_number(&s, "memory", "used_memory"), 10 << 20);
    r = run("nwm-merger -U %s", s.url);
    expect_told(r, 4, "ServerFull", dataset("0"), "OOM", "from worker ");
    expect_exit(run("nwm-worker -n -i 0 -U %s small", s.url), 0);
    expect_exit(run("nwm-merger -U %s >out && cmp out small", s.url), 0);
}

/* Full before it begins; reading works all the same. */
Test(server, out_of_memory_from_the_start)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("nwm-worker -n -i 1 --example -U %s", s.url), 0);
    server_redis(&s, "CONFIG SET maxmemory-policy noeviction");
    server_redis(&s, "CONFIG SET maxmemory 1000");
    expect_told(worker_at(s.url), 4, "ServerFull", dataset("0"), "OOM", "raise the limit");
    struct run r = merger_at(s.url);
    expect_exit(r, 0);
    expect_out(r, "3\n5\n7\n9\n11\n13\n15\n17\n");
    expect_exit(run("nwm-worker --drop -i 1 -U %s", s.url), 0); /* this makes room */
}

Test(server, readonly)
{
    struct server master, replica;
    server_start_tcp(&master, "repl-diskless-sync-delay 0");
    server_start(&replica, "replicaof 127.0.0.1 %d", master.port);
    expect_told(worker_at(replica.url), 4, "Unreachable", NULL, "READONLY", "give the URL of its primary");
}

Test(server, no_replicas)
{
    struct server s;
    server_start(&s, "min-replicas-to-write 1");
    expect_told(worker_at(s.url), 4, "Unreachable", NULL, "NOREPLICAS", "min-replicas-to-write");
}

Test(server, cannot_save)
{
    struct server s;
    server_start(&s, "save 1 1\nstop-writes-on-bgsave-error yes\nrdbcompression no");
    server_redis(&s, "SET k v");
    expect_exit(run("mkdir %s/dump.rdb", s.dir), 0); /* what is to be replaced by a file */
    server_redis(&s, "BGSAVE");
    for (int64_t end = now_ms() + SOON; now_ms() < end; nap(10))
        if (strstr(server_redis(&s, "INFO persistence"), "rdb_last_bgsave_status:err")) break;
    expect_told(worker_at(s.url), 4, "ServerFull", NULL, "MISCONF", "disk space");
}

Test(server, cluster_without_slots)
{
    struct server s;
    server_start_tcp(&s, "cluster-enabled yes\ncluster-port %d", free_port());
    expect_told(worker_at(s.url), 4, "Unreachable", NULL, "CLUSTERDOWN", "CLUSTER INFO");
    expect_told(merger_at(s.url), 4, "Unreachable", NULL, "CLUSTERDOWN", "CLUSTER INFO");
}

/* One that has all slots is like any other, for hash tags keep a dataset's keys together; with two nodes, the first key
 * of another is refused and the node that has it is named. */
Test(server, moved)
{
    struct server s;
    server_start_tcp(&s, "cluster-enabled yes\ncluster-port %d", free_port());
    cr_assert_str_eq(server_redis(&s, "CLUSTER ADDSLOTSRANGE 0 16383"), "OK");
    for (int64_t end = now_ms() + SOON; now_ms() < end; nap(10))
        if (strstr(server_redis(&s, "CLUSTER INFO"), "cluster_state:ok")) break;
    expect_exit(worker_at(s.url), 0);
    expect_exit(merger_at(s.url), 0);
    struct fake *f =
        fake_start("EXPECT SADD\nSEND :1\\r\\n\nEXPECT SADD\nSEND -MOVED 5798 10.0.0.7:6379\\r\\n\nSTALL\n");
    expect_told(worker_at(fake_url(f)), 4, "Unreachable", NULL, "MOVED 5798 10.0.0.7:6379", "node it names");
}

/* ---- keys that are something else */

static void expect_wrong_type(const char *key)
{
    redis("SET %s x", key);
    expect_told(run("nwm-worker --example -i 0"), 4, "WrongType", dataset("0"), key, "TYPE shows what it is");
    cr_assert_str_eq(redis("GET %s", key), "x");
    redis("DEL %s", key);
}

Test(wrong_type, worker)
{
    expect_wrong_type(manifest_key("0"));
    expect_wrong_type(fmt("nwm:%s:datasets", test_job()));
    redis("RPUSH %s:lease a", manifest_key("0"));
    expect_told(run("nwm-worker --example -i 0"), 4, "WrongType", dataset("0"), manifest_key("0"),
                "TYPE shows what it is");
    expect_told(run("nwm-worker --drop -i 0"), 4, "WrongType", dataset("0"), manifest_key("0"),
                "TYPE shows what it is");
}

/* The list of a load that goes on is replaced by something else. */
Test(wrong_type, list_of_the_worker)
{
    struct feed f;
    feed_begin(&f, NULL, "0", "-n");
    redis("SET %s x", f.list);
    feed_numbers(&f, 0, FEED_BLOCK);
    struct run r = feed_end(&f);
    expect_told(r, 4, "WrongType", dataset("0"), f.list, "TYPE shows what it is");
    cr_assert_str_eq(manifest("0", "error"), "WrongType");
}

Test(wrong_type, merger)
{
    plant("0", "", "a\nb\n");
    const char *list = manifest("0", "list");
    redis("DEL %s", list);
    redis("SET %s x", list);
    struct run r = run("nwm-merger");
    expect_fault(r, 4, "WrongType", dataset("0"));
    expect_out(r, "");
    redis("DEL %s", manifest_key("0"));
    redis("SET %s x", manifest_key("0"));
    expect_fault(run("nwm-merger"), 4, "WrongType", dataset("0"));
    redis("SET nwm:%s.other:datasets x", test_job());
    expect_fault(run("nwm-merger -j %s.other", test_job()), 4, "WrongType", NULL);
}

/* ---- no Redis at all, or one that is broken */

static void expect_protocol(const char *answer)
{
    struct fake *f = fake_start(fmt(FIRST_COMMAND "SEND %s\nSTALL\n", answer));
    struct run r = worker_at(fake_url(f));
    expect_fault(r, 4, "Protocol", NULL);
    f = fake_start(fmt(FIRST_COMMAND "SEND %s\nSTALL\n", answer));
    r = merger_at(fake_url(f));
    expect_fault(r, 4, "Protocol", NULL);
    expect_out(r, "");
}

Test(garbage, instead_of_an_answer)
{
    expect_protocol("HTTP/1.1 400 Bad Request\\r\\n\\r\\n");
    expect_protocol("SSH-2.0-OpenSSH_9.2p1\\r\\n");
    expect_protocol("\\x15\\x03\\x01\\x00\\x02\\x02\\x46"); /* a TLS alert */
    expect_protocol("$99999999999999999999\\r\\n");
    expect_protocol("*-7\\r\\n");
    expect_protocol("*999999999\\r\\n");
}

/* Valid answers, but not to what was asked. */
Test(garbage, of_another_kind)
{
    static const char *const answers_to_begin[] = {"+OK\\r\\n", ":1\\r\\n", "*0\\r\\n", "*1\\r\\n$5\\r\\nbegun\\r\\n",
                                                   "*3\\r\\n$5\\r\\nbegun\\r\\n:0\\r\\n$1\\r\\nx\\r\\n"};
    for (size_t i = 0; i < sizeof answers_to_begin / sizeof *answers_to_begin; i++) {
        struct fake *f = fake_start(fmt("RELAY EVAL\nEXPECT EVAL\nSEND %s\nSTALL\n", answers_to_begin[i]));
        expect_fault(worker_at(fake_url(f)), 4, "Protocol", NULL);
    }
    expect_exit(run("nwm-worker -q --example -i 5"), 0);
    static const char *const answers_to_look[] = {"+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n+OK\\r\\n",
                                                  "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*1\\r\\n*0\\r\\n",
                                                  "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*2\\r\\n:1\\r\\n:1\\r\\n"};
    for (size_t i = 0; i < sizeof answers_to_look / sizeof *answers_to_look; i++) {
        struct fake *f =
            fake_start(fmt("RELAY MULTI\nEXPECT MULTI\nEXPECT HGETALL\nEXPECT PTTL\nEXPECT EXEC\nSEND %s\nSTALL\n",
                           answers_to_look[i]));
        struct run r = run_within(SOON, "nwm-merger -U %s 5", fake_url(f));
        int code = i == 2 ? 2 : 4; /* a manifest that is none is BadContract */
        cr_assert_eq(r.exit, code, "%s: %s", answers_to_look[i], run_describe(&r, fmt("exit %d", code)));
        expect_out(r, "");
    }
}

/* What nobody asked for, behind a right answer. */
Test(garbage, in_the_middle)
{
    expect_exit(run("seq -f %%099.0f 100000 >in && nwm-worker -q -n -i 0 in"), 0);
    struct proc *p = spawn("tool_proxy --listen unix:%s/proxy --to unix:%s --garbage-down 3000000", test_dir(),
                           getenv("NWM_TEST_SOCKET"));
    for (int64_t end = now_ms() + SOON; now_ms() < end && strcmp(proc_out(p), "ready\n") != 0; nap(2)) continue;
    struct run r = run_within(SOON, "nwm-merger -U unix://%s/proxy -o out", test_dir());
    expect_fault(r, 4, "Protocol", NULL);
    cr_assert(!file_exists("out"));
}

Test(closed, by_the_server)
{
    struct fake *f = fake_start(FIRST_COMMAND "CLOSE\n");
    expect_told(worker_at(fake_url(f)), 4, "Unreachable", fake_url(f), "is a Redis running there?",
                "try to go on with");
    f = fake_that_always("SEND *3\\r\\n$1\\r\\n\nCLOSE\n"); /* half an answer */
    expect_told(patient_merger_at(fake_url(f)), 4, "Unreachable", fake_url(f), "closed the connection", "its log");
}

/* ---- silence */

static void expect_silence(struct run r, const char *where)
{
    expect_told(r, TIMEOUT_CODE, "Timeout", where, "1 s", "--timeout");
    cr_assert(r.took >= 900 && r.took < 6000, "it took %d ms", (int)r.took);
    expect_out(r, "");
}

Test(silence, after_accepting)
{
    struct fake *f = fake_start("STALL\n");
    expect_silence(run_within(SOON, "nwm-worker --timeout 1s --example -i 0 -U %s", fake_url(f)), fake_url(f));
    f = fake_start("STALL\n");
    expect_silence(run_within(SOON, "nwm-merger --timeout 1s -U %s", fake_url(f)), fake_url(f));
    f = fake_start("STALL\n");
    expect_silence(run_within(SOON, "nwm-merger --timeout 1s --status -U %s", fake_url(f)), fake_url(f));
    f = fake_start("STALL\n");
    expect_silence(run_within(SOON, "nwm-worker --timeout 1s --drop -i 0 -U %s", fake_url(f)), fake_url(f));
}

/* A server that stops in the middle: of a load (whose farewell is refused the same way), and of a merge. */
Test(silence, in_the_middle)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("seq -f %%099.0f 400000 >in"), 0);
    struct proc *worker = spawn("nwm-worker --timeout 1s -n -i 0 -U %s in", s.url);
    wait_state(&s, "0", "loading");
    server_pause(&s);
    struct run r = wait_exit(worker, SOON);
    server_resume(&s);
    expect_fault(r, TIMEOUT_CODE, "Timeout", dataset("0"));
    expect_err_has(r, "--timeout");
    cr_assert_str_neq(field(&s, "0", "state"), "ready");

    struct middle m;
    middle_begin(&m, ">out --timeout 1s");
    server_pause(&m.server);
    char *out;
    size_t len;
    r = middle_end(&m, &out, &len);
    server_resume(&m.server);
    expect_fault(r, TIMEOUT_CODE, "Timeout", NULL);
    cr_assert_lt(count_lines(out, len), (size_t)4 * MIDDLE_ITEMS);
}
