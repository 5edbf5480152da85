/* Does the harness itself hold what harness.h says? */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/system/fake.h"
#include "tests/system/harness.h"

Test(run, output_and_exit)
{
    struct run r = run("printf 'a\\0b'; echo oops >&2; exit 7");
    expect_exit(r, 7);
    cr_assert_eq(r.out_len, 3);
    cr_assert_eq(memcmp(r.out, "a\0b", 4), 0);
    expect_err(r, "oops\n");
}

Test(run, ends_at_the_deadline)
{
    struct run r = run_within(200, "echo begun; sleep 100 & wait");
    cr_assert_eq(r.exit, -1);
    expect_out(r, "begun\n");
    cr_assert_lt(r.took, 5000);
}

Test(run, signal_is_128_and_its_number) { expect_exit(run("kill -TERM $$"), 128 + SIGTERM); }

Test(run, environment_is_the_tests)
{
    setenv("NWM_ID", "from outside", 1);
    setenv("LC_ALL", "tr_TR.UTF-8", 1);
    struct run r =
        run("echo \"$LANG,$LC_ALL,$NWM_ID,$NWM_JOB\"; pwd; echo \"$HOME\"; redis-cli -s \"${NWM_URL#unix://}\" ping");
    expect_exit(r, 0);
    expect_out(r, fmt("C,,,%s\n%s\n%s\nPONG\n", test_job(), test_dir(), test_dir()));
}

Test(run, finds_the_build_first)
{
    struct run r = run("echo \"$PATH\"");
    cr_assert_eq(strncmp(r.out, fmt("%s:", test_build()), strlen(test_build()) + 1), 0, "%s", r.out);
    expect_exit(run("command -v tool_proxy"), 0);
}

Test(files, come_back)
{
    size_t len;
    write_bytes("f", "x\0y", 3);
    char *data = read_file("f", &len);
    cr_assert_eq(len, 3);
    cr_assert_eq(memcmp(data, "x\0y", 3), 0);
    cr_assert_null(read_file("none", NULL));
    cr_assert(!file_exists("none"));
    expect_out(run("wc -c <f"), "3\n");
}

Test(spawn, signals_and_output)
{
    struct proc *p = spawn("trap 'echo caught >&2; exit 3' USR1; echo ready >&2; while :; do sleep 0.05; done");
    wait_err(p, "ready", 5000);
    cr_assert(is_alive(p));
    kill(proc_pid(p), SIGUSR1);
    struct run r = wait_exit(p, 5000);
    expect_exit(r, 3);
    expect_err(r, "ready\ncaught\n");
    cr_assert(!is_alive(p));
}

Test(spawn, simple_command_is_the_process)
{
    struct proc *p = spawn("sleep 100 2>&1");
    kill(proc_pid(p), SIGKILL);
    expect_exit(wait_exit(p, 5000), 128 + SIGKILL);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

Test(wait, gives_up) { cr_assert(!wait_until(never, NULL, 50)); }

Test(redis, answers_as_text)
{
    cr_assert_str_eq(redis("SET %s %b", test_job(), "v", (size_t)1), "OK");
    cr_assert_str_eq(redis("GET %s", test_job()), "v");
    cr_assert_str_eq(redis("GET %s.none", test_job()), "(nil)");
    cr_assert_str_eq(redis("RPUSH %s.list a b", test_job()), "2");
    cr_assert_str_eq(redis("LRANGE %s.list 0 -1", test_job()), "a\nb");
    cr_assert_eq(strncmp(redis("LLEN %s", test_job()), "(error) WRONGTYPE", 17), 0);
}

Test(redis, states)
{
    redis("HSET %s state ready", manifest_key("4"));
    cr_assert_str_eq(manifest("4", "state"), "ready");
    cr_assert(has_state("4 ready"));
    cr_assert(!has_state("4 failed"));
    cr_assert(!has_state("5 ready"));
}

Test(server, stop_restart_kill)
{
    struct server s;
    server_start(&s, "appendonly yes\nappendfsync always");
    cr_assert_str_eq(server_redis(&s, "SET k v"), "OK");
    server_kill9(&s);
    cr_assert_eq(strncmp(server_redis(&s, "GET k"), "(", 1), 0);
    server_restart(&s);
    cr_assert_str_eq(server_redis(&s, "GET k"), "v");
    server_pause(&s);
    struct run r = run_within(300, "redis-cli -s %s ping", s.socket);
    cr_assert_eq(r.exit, -1);
    server_resume(&s);
    expect_out(run("redis-cli -s %s ping", s.socket), "PONG\n");
    server_stop(&s);
    expect_exit(run("redis-cli -s %s ping", s.socket), 1);
}

Test(server, replica)
{
    struct server master, replica;
    server_start_tcp(&master, "repl-diskless-sync-delay 0");
    server_start(&replica, "replicaof 127.0.0.1 %d", master.port);
    expect_out(run("redis-cli -p %d ping", master.port), "PONG\n");
    cr_assert_str_eq(server_redis(&master, "SET k v"), "OK");
    int64_t deadline = now_ms() + 10000;
    while (strcmp(server_redis(&replica, "GET k"), "v") != 0 && now_ms() < deadline) nap(10);
    cr_assert_str_eq(server_redis(&replica, "GET k"), "v");
}

static struct server as_server(const char *socket)
{
    struct server s = {0};
    snprintf(s.socket, sizeof s.socket, "%s", socket);
    return s;
}

Test(fake, plays_its_script)
{
    struct fake *f = fake_start("EXPECT PING *\nSEND +PO\nSTALL 20\nSEND NG\\x0d\\n\nEXPECT GET\nSEND -ERR no\\r\\n\n"
                                "EXPECT LRANGE\nSEND-ITEMS 2 3\nCLOSE\n");
    struct server s = as_server(fake_socket(f));
    cr_assert_str_eq(server_redis(&s, "CLIENT SETNAME me"), "OK");
    cr_assert_str_eq(server_redis(&s, "PING x"), "PONG");
    cr_assert_str_eq(server_redis(&s, "GET k"), "(error) ERR no");
    cr_assert_str_eq(server_redis(&s, "LRANGE"), "555\n555");
    cr_assert_eq(strncmp(server_redis(&s, "PING"), "(connection: ", 13), 0);
    cr_assert_str_eq(fake_end(f, 5000), "");
}

Test(fake, names_what_was_not_expected)
{
    struct fake *f = fake_start("EXPECT GET\n");
    run("redis-cli -s %s SET a b", fake_socket(f));
    cr_assert_str_eq(fake_end(f, 5000), "line 1: expected GET, got SET a b");
    struct fake *still = fake_start("EXPECT GET\n");
    cr_assert_str_eq(fake_end(still, 2000), "line 0: waiting for a connection (still)");
}

Test(fake, relays)
{
    struct fake *f = fake_start("RELAY LLEN\nEXPECT LLEN *\nSEND :-7\\r\\n\nRELAY\n");
    redis("RPUSH %s.r a b", test_job());
    struct server s = as_server(fake_socket(f));
    cr_assert_str_eq(server_redis(&s, "LRANGE %s.r 0 -1", test_job()), "a\nb");
    cr_assert_str_eq(server_redis(&s, "LLEN %s.r", test_job()), "-7");
    cr_assert_str_eq(server_redis(&s, "LLEN %s.r", test_job()), "2");
    server_stop(&s);
    cr_assert_str_eq(fake_end(f, 5000), "");
}

static struct proc *proxy(const char *faults)
{
    struct proc *p =
        spawn("tool_proxy --listen unix:%s/proxy --to unix:%s %s", test_dir(), getenv("NWM_TEST_SOCKET"), faults);
    int64_t deadline = now_ms() + 5000;
    while (strcmp(proc_out(p), "ready\n") != 0 && now_ms() < deadline) nap(2);
    return p;
}

static struct run through(const char *command)
{
    return run_within(5000, "timeout 1 redis-cli -s %s/proxy %s", test_dir(), command);
}

Test(proxy, passes_all_and_counts)
{
    struct proc *p = proxy("--chunk 7");
    size_t len = 300000;
    char *item = calloc(1, len + 1);
    memset(item, 'x', len);
    redis("SET %s.big %s", test_job(), item);
    struct run r = through(fmt("GET %s.big", test_job()));
    cr_assert_eq(r.out_len, len + 1);
    cr_assert_eq(memcmp(r.out, item, len), 0);
    free(item);
    send_signal(p, SIGTERM);
    r = wait_exit(p, 5000);
    expect_exit(r, 0);
    expect_out_has(r, "1 connections, ");
    expect_out_has(r, " 300011 bytes down");
}

Test(proxy, cuts)
{
    proxy("--cut-down 3 --only 1");
    expect_err_has(through("PING"), "Error: ");
    expect_out(through("PING"), "PONG\n");
}

Test(proxy, cuts_the_way_up)
{
    proxy("--cut-up 10");
    cr_assert_neq(through("PING").exit, 0);
}

Test(proxy, half_closes)
{
    proxy("--half-close-down 3");
    expect_err(through("PING"), "Error: Server closed the connection\n");
}

Test(proxy, stalls)
{
    proxy("--stall-down 3");
    expect_exit(through("PING"), 124);
}

Test(proxy, makes_garbage)
{
    proxy("--garbage-down 0");
    expect_err_has(through("PING"), "Protocol error");
}

Test(proxy, delays)
{
    proxy("--delay 100");
    struct run r = through("PING");
    expect_out(r, "PONG\n");
    cr_assert_geq(r.took, 200);
}
