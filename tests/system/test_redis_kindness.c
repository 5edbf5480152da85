/* Kind to a production Redis, by the server's own word: no command moves more than 1 MB (or one item), at most 8 MB are
 * outstanding on a connection, lists go by UNLINK, nothing walks all keys, and every connection says who it is. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/system/feed.h"

enum { MB = 1000 * 1000, SOON = 20000 };

static struct proc *proxy(const char *to, const char *faults)
{
    struct proc *p = spawn("tool_proxy --listen unix:%s/proxy --to unix:%s %s", test_dir(), to, faults);
    for (int64_t end = now_ms() + SOON; now_ms() < end && strcmp(proc_out(p), "ready\n") != 0; nap(2)) continue;
    return p;
}

/* Everything both programs can do, on that server. */
static void do_everything(const char *url)
{
    expect_exit(run("seq -f %%0999.0f 3000 >large && seq 100000 199999 >small && printf '2\\n1\\n' >bad"), 0);
    for (int i = 0; i < 2; i++) {
        expect_exit(run("nwm-worker -q -n -i 0 -U %s large", url), 0); /* the second is a reload */
        expect_exit(run("nwm-worker -q -n -i 1 --keep 0 --ttl 1h -U %s small", url), 0);
    }
    expect_exit(run("nwm-worker -q -n -i 2 --sort -U %s bad", url), 0);
    expect_exit(run("nwm-worker -q -n -i 3 -U %s bad", url), 1);
    expect_exit(run("nwm-merger -q -U %s --wait 1s 0 1 4 >out", url), 6); /* subscribes, and waits */
    expect_exit(run("nwm-merger -U %s --verify 0 1 2 >out", url), 0);
    expect_exit(run("nwm-merger -U %s --list plain >out", url), 0);
    expect_exit(run("nwm-merger -U %s --status", url), 4);
    expect_exit(run("nwm-merger -U %s --jobs", url), 0);
    expect_exit(run("nwm-worker -U %s --drop -i 2", url), 0);
    expect_exit(run("nwm-worker -U %s --drop --all", url), 0);
}

/* ---- which commands */

/* Of config/users.acl, for both programs: "get hmget …". What is allowed there is known to be needed (test_redis_acl). */
static const char *allowed_commands(void)
{
    return run("grep '^user' %s/config/users.acl | tr ' ' '\\n' | sed -n 's/^+//p' | sort -u | tr '\\n' ' '",
               NWM_SOURCE)
        .out;
}

Test(commands, none_but_the_allowed)
{
    struct server s;
    server_start(&s, "%s", "");
    server_redis(&s, "RPUSH plain 1 2 3");
    do_everything(s.url);
    const char *allowed = fmt(/* and what the test itself says */ " %s info ping rpush ", allowed_commands());
    char *stats = fmt("%s", server_redis(&s, "INFO commandstats")), *rest = NULL;
    int seen = 0;
    for (char *line = strtok_r(stats, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest)) {
        char name[64];
        if (sscanf(line, "cmdstat_%63[^:]:", name) != 1) continue;
        seen++;
        cr_assert_not_null(strstr(allowed, fmt(" %s ", name)), "%s was called", name);
    }
    cr_assert_gt(seen, 15);
    static const char *const never[] = {"keys", "config", "debug", "scan", "flushall", "sort", "lrem", "save"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        cr_assert_null(strstr(server_redis(&s, "INFO commandstats"), fmt("cmdstat_%s", never[i])));
}

/* Lists go by UNLINK, whose work another thread of the server does. */
Test(commands, lists_are_unlinked)
{
    struct server s;
    server_start(&s, "%s", "");
    server_redis(&s, "RPUSH plain 1 2 3");
    struct proc *m = monitor_begin(&s);
    do_everything(s.url);
    monitor_end(&s, m);
    expect_exit(run("grep -q '\"UNLINK\" \"nwm:{[^\"]*}:[0-9]*\\.' monitor"), 0);
    expect_exit(run("grep '\"DEL\"' monitor | grep '}:[0-9]*\\.'"), 1);
    expect_exit(run("grep -q '\"DEL\"' monitor"), 0); /* of small keys, which this sees */
    cr_assert_gt(info_number(&s, "memory", "lazyfreed_objects"), 0);
    expect_exit(run("nwm-worker -q -i 0 -U %s large", s.url), 0);
    long before = info_number(&s, "memory", "lazyfreed_objects");
    expect_exit(run("nwm-worker -q -i 0 -U %s --drop", s.url), 0);
    for (int64_t end = now_ms() + SOON; now_ms() < end; nap(5))
        if (info_number(&s, "memory", "lazyfreed_objects") > before) break;
    cr_assert_gt(info_number(&s, "memory", "lazyfreed_objects"), before);
}

/* ---- how much at a time */

/* The longest line of MONITOR with that command; MONITOR shows every argument, whole. */
static long longest_command(const char *command)
{
    return strtol(
        run("LC_ALL=C awk 'index($0, \"\\\"%s\\\"\") && length($0) > n { n = length($0) } END { print n + 0 }' monitor",
            command)
            .out,
        NULL, 10);
}

/* The most items an LRANGE asked for. */
static long longest_range(void)
{
    return strtol(run("grep '\"LRANGE\"' monitor | tr -d '\"' | awk '{ n = $NF - $(NF-1) + 1; if (n > m) m = n } END { "
                      "print m + 0 }'")
                      .out,
                  NULL, 10);
}

/* Two lists of at most 12 MB. */
static void expect_small_commands(long item)
{
    struct server s;
    server_start(&s, "%s", "");
    long items = item < 100 ? 200000 : 12 * MB / item;
    struct proc *m = monitor_begin(&s);
    for (int i = 0; i < 2; i++)
        expect_exit(run("seq %ld | awk -v n=%ld '{ printf \"%%0*d\\n\", n, $1 }' >in && nwm-worker -q -i %d -U %s in",
                        items, item, i, s.url),
                    0);
    expect_exit(run("nwm-merger -q -U %s --verify -o out", s.url), 0);
    expect_exit(run("nwm-merger -q -U %s --batch 1000000 -o out", s.url), 0); /* the user's word does not count here */
    monitor_end(&s, m);
    cr_assert_gt(longest_command("RPUSHX"), 10000);
    cr_assert_leq(longest_command("RPUSHX"), MB);
    cr_assert_leq(longest_command("RPUSH"), MB);
    cr_assert_gt(longest_range(), 1);
    cr_assert_leq(longest_range() * item, MB, "%ld items of %ld bytes", longest_range(), item);
}

Test(size, of_commands_with_small_items) { expect_small_commands(10); }
Test(size, of_commands_with_middling_items) { expect_small_commands(999); }
Test(size, of_commands_with_large_items) { expect_small_commands(50000); }

/* An item of 3 MB goes alone, in both directions: what is re-read before it or behind it is small. */
Test(size, of_one_item)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(
        run("{ seq 10000 10999; printf 5; head -c 3000000 /dev/zero | tr '\\0' 5; echo; seq 60000 60999; } >in"), 0);
    struct proc *m = monitor_begin(&s);
    expect_exit(run("nwm-worker -q -i 0 -U %s in", s.url), 0);
    expect_exit(run("nwm-merger -q -U %s --memory 64M >out && cmp in out", s.url), 0);
    monitor_end(&s, m);
    cr_assert_gt(longest_command("RPUSHX"), 3000000);
    cr_assert_lt(longest_command("RPUSHX"), 3000000 + 300);
}

/* The server would end a connection for which more than 9 MB wait (its buffers are counted with what they could hold). */
static void limit_output(struct server *s)
{
    cr_assert_str_eq(server_redis(s, "CONFIG SET client-output-buffer-limit %s", "normal 9437184 0 0"), "OK");
}

/* What waits in the server for the merger, in bytes; -1 when there is none. */
static long waiting_for_merger(struct server *s)
{
    long most = -1;
    char *list = fmt("%s", server_redis(s, "CLIENT LIST")), *rest = NULL;
    for (char *line = strtok_r(list, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const char *omem = strstr(line, " omem=");
        if (!strstr(line, " name=nwm-merger:") || !omem) continue;
        long n = strtol(omem + strlen(" omem="), NULL, 10);
        if (n > most) most = n;
    }
    return most;
}

/* 40 lists of 6 items of 500,000 bytes, a cap of memory that would take them all, and a long way that makes it worth
 * while to ask for much (merger/fetch.c). After `passed` bytes no answer comes
 * through any more; what the merger has asked for then waits in the server, where it can be seen. */
static void expect_outstanding(long passed, long least)
{
    struct server s;
    server_start(&s, "%s", "");
    limit_output(&s);
    for (int i = 0; i < 40; i++)
        expect_exit(
            run("seq %d 40 240 | awk '{ printf \"%%0500000d\\n\", $1 }' | nwm-worker -q -i %d -U %s", i + 1, i, s.url),
            0);
    proxy(s.socket, fmt("--delay 20 --only 2 --stall-down %ld", passed)); /* the second is the one for data */
    struct proc *merger = spawn("nwm-merger -q --timeout 1s -U unix://%s/proxy --memory 512M >out", test_dir());
    long most = -1;
    for (; is_alive(merger); nap(5)) {
        long now = waiting_for_merger(&s);
        if (now > most) most = now;
    }
    expect_fault(wait_exit(merger, SOON), 6, "Timeout", NULL); /* it waited, and was not cut off */
    cr_assert_gt(most, least, "only %ld bytes were outstanding: this test sees nothing", most);
    cr_assert_leq(most, 9 * MB);
}

Test(size, of_what_is_outstanding_at_the_start) { expect_outstanding(5, 4 * MB); }
Test(size, of_what_is_outstanding_in_the_middle) { expect_outstanding(60 * MB, 2 * MB); }

/* The worker waits for answers when 8 MB are on their way. (The proxy lets answers through to its begin and to perhaps a
 * few pushes.) */
Test(size, of_what_the_worker_sends_ahead)
{
    struct server s;
    server_start(&s, "%s", "");
    struct proc *p = proxy(s.socket, "--stall-down 160");
    struct run r =
        run_within(SOON, "seq -f %%0999.0f 50000 | nwm-worker -i 0 --timeout 1s -U unix://%s/proxy", test_dir());
    expect_fault(r, 6, "Timeout", dataset("0"));
    send_signal(p, SIGTERM);
    r = wait_exit(p, SOON);
    long connections, up;
    cr_assert_eq(sscanf(strstr(r.out, "ready\n") + 6, "%ld connections, %ld bytes up", &connections, &up), 2, "%s",
                 r.out);
    cr_assert_gt(up, MB / 2, "%s", r.out);
    cr_assert_leq(up, 8 * 1024 * 1024 + MB, "%s", r.out);
}

/* ---- who is there */

static int count_clients(struct server *s, const char *name)
{
    int n = 0;
    for (const char *p = server_redis(s, "CLIENT LIST"); (p = strstr(p, fmt(" name=%s ", name))); p++) n++;
    return n;
}

static bool merger_has_two(void *server) { return count_clients(server, fmt("nwm-merger:%s", test_job())) >= 2; }

Test(names, of_connections)
{
    struct server s;
    server_start(&s, "%s", "");
    struct feed f;
    feed_begin(&f, &s, "0", "-n");
    cr_assert_eq(count_clients(&s, fmt("nwm-worker:%s", test_job())), 1);
    for (int64_t end = now_ms() + SOON; now_ms() < end; nap(5))
        if (count_clients(&s, "nwm-worker-lease") == 1) break;
    cr_assert_eq(count_clients(&s, "nwm-worker-lease"), 1);
    struct proc *merger = spawn("nwm-merger -U %s", s.url);
    cr_assert(wait_until(merger_has_two, &s, SOON)); /* one that looks, one that listens */
    cr_assert_null(strstr(server_redis(&s, "CLIENT LIST"), " name= cmd=eval"));
    expect_exit(feed_end(&f), 0);
    expect_exit(wait_exit(merger, SOON), 0);
}

/* A merge of many streams does not need many connections, nor long ones of the server's time. */
Test(names, one_data_connection)
{
    struct server s;
    server_start(&s, "%s", "");
    for (int i = 0; i < 50; i++) expect_exit(run("seq 100 | nwm-worker -q -n -i %d -U %s", i, s.url), 0);
    long before = info_number(&s, "stats", "total_connections_received");
    expect_exit(run("nwm-merger -q -U %s >out", s.url), 0);
    cr_assert_leq(info_number(&s, "stats", "total_connections_received") - before, 2);
}
