/* The merger's options and what it says: servers, lists, -u, --limit, --tag, --verify, --status, --jobs, --stats, --memory,
 * --batch, -q, the receipt. Waiting has a file of its own, outputs have another. */
#include <stdio.h>
#include <sys/stat.h>

#include "tests/system/scene.h"

static void load_three(void)
{
    load("0", "-n", "1\n4\n7\n");
    load("1", "-n", "2\n5\n");
    load("2", "-n", "3\n6\n8\n");
}

/* ---- which datasets */

Test(datasets, ids_named_are_merged_in_that_order)
{
    load("a", "-k1,1n", "1 a\n2 a\n");
    load("b", "-k1,1n", "1 b\n2 b\n");
    load("c", "-k1,1n", "1 c\n");
    struct run r = run("nwm-merger b a");
    expect_exit(r, 0);
    expect_out(r, "1 b\n1 a\n2 b\n2 a\n");
    expect_err_has(r, "2 of 2");
}

/* As numbers if all are, else as bytes. */
Test(datasets, ids_sort_as_numbers)
{
    const char *const ids[] = {"10", "9", "007", "8"};
    for (int i = 0; i < 4; i++) load(ids[i], "-k1,1n", fmt("1 %s\n", ids[i]));
    expect_out(run("nwm-merger"), "1 007\n1 8\n1 9\n1 10\n");
    load("x", "-k1,1n", "1 x\n");
    expect_out(run("nwm-merger"), "1 007\n1 10\n1 8\n1 9\n1 x\n");
    expect_out(run("nwm-merger -w 5"), "1 007\n1 10\n1 8\n1 9\n1 x\n");
}

Test(datasets, prefix)
{
    load("0", "-n --prefix other:", "1\n");
    expect_fault(run("nwm-merger"), 4, "NoDatasets", NULL);
    struct run r = run("nwm-merger --prefix other:");
    expect_exit(r, 0);
    expect_out(r, "1\n");
    cr_assert_str_eq(redis("EXISTS other:{%s}", dataset("0")), "1");
}

/* ---- several servers */

Test(servers, the_job_is_their_union)
{
    struct server a, b;
    server_start(&a, "%s", "");
    server_start(&b, "%s", "");
    const char *urls[] = {b.url, a.url, b.url, a.url};
    for (int i = 0; i < 4; i++) load(fmt("%d", i), fmt("-n -U %s", urls[i]), numbers(i, 4, 1000));
    struct run r = run("nwm-merger -U %s -U %s --verify", a.url, b.url);
    expect_exit(r, 0);
    expect_out(r, numbers(0, 1, 4000));
    expect_err_has(r, "4 datasets");
    expect_exit(run("nwm-merger -U %s -U %s -w 4 -q", a.url, b.url), 0);
    expect_fault(run("nwm-merger -U %s -w 4 --wait 0", a.url), 6, "Timeout", NULL);
    r = run("nwm-merger -U %s -U %s --status", a.url, b.url);
    expect_exit(r, 0);
    cr_assert_eq(count_lines(r.out, r.out_len), 5, "%s", r.out);
}

/* Waiting hears events from both. */
Test(servers, waited_for_on_both)
{
    struct server a, b;
    server_start(&a, "%s", "");
    server_start(&b, "%s", "");
    struct proc *p = spawn("nwm-merger -U %s -U %s -w 2", a.url, b.url);
    expect_exit(run("echo 2 | nwm-worker -U %s -n -i 2", b.url), 0);
    expect_exit(run("echo 1 | nwm-worker -U %s -n -i 1", a.url), 0);
    struct run r = wait_exit(p, 20000);
    expect_exit(r, 0);
    expect_out(r, "1\n2\n");
}

Test(servers, an_id_on_two_of_them)
{
    struct server a;
    server_start(&a, "%s", "");
    load("0", "-n", "1\n");
    load("1", "-n", "1\n");
    load("1", fmt("-n -U %s", a.url), "2\n");
    struct run r = run("nwm-merger -U \"$NWM_URL\" -U %s", a.url);
    expect_fault(r, 2, "Usage", dataset("1"));
    expect_out(r, "");
    expect_exit(run("nwm-merger -U \"$NWM_URL\" -U %s 0", a.url), 0);
}

Test(servers, one_that_is_not_there)
{
    load("0", "-n", "1\n");
    struct run r = run("nwm-merger -U \"$NWM_URL\" -U unix://%s/none.sock", test_dir());
    expect_fault(r, 4, "Unreachable", NULL);
    expect_err_has(r, "none.sock");
    expect_out(r, "");
    cr_assert_lt(r.took, 10000);
}

Test(servers, by_host_and_port)
{
    struct server s;
    server_start_tcp(&s, "%s", "");
    expect_exit(run("echo 1 | nwm-worker --host 127.0.0.1 --port %d -n -i 0", s.port), 0);
    struct run r = run("nwm-merger --host 127.0.0.1 --port %d", s.port);
    expect_exit(r, 0);
    expect_out(r, "1\n");
    expect_out(run("nwm-merger -U redis://127.0.0.1:%d", s.port), "1\n");
    expect_out(run("nwm-merger --socket %s", s.socket), "1\n");
    expect_fault(run("nwm-merger -U redis://127.0.0.1:%d/3", s.port), 4, "NoDatasets", NULL);
}

/* ---- plain lists */

Test(lists, merged_and_said_to_be_unproven)
{
    redis("RPUSH %s.a 1 3 5", test_job());
    redis("RPUSH %s.b 2 4", test_job());
    struct run r = run("nwm-merger -n --list %s.a --list %s.b", test_job(), test_job());
    expect_exit(r, 0);
    expect_out(r, "1\n2\n3\n4\n5\n");
    expect_err_has(r, "2 plain lists");
    expect_err_has(r, "unproven");
}

Test(lists, beside_datasets_only_when_asked)
{
    load("0", "-n", "2\n");
    redis("RPUSH %s.a 1 3", test_job());
    expect_out(run("nwm-merger -n --list %s.a", test_job()), "1\n3\n"); /* NWM_JOB alone asks for nothing */
    struct run r = run("nwm-merger -j %s --list %s.a", test_job(), test_job());
    expect_exit(r, 0);
    expect_out(r, "1\n2\n3\n");
    expect_err_has(r, "1 dataset");
    expect_err_has(r, "1 plain list");
    expect_out(run("nwm-merger 0 --list %s.a", test_job()), "1\n2\n3\n");
}

Test(lists, one_that_is_missing)
{
    struct run r = run("nwm-merger --list %s.none", test_job());
    expect_fault(r, 1, "Vanished", fmt("%s.none", test_job()));
}

Test(lists, unsorted)
{
    redis("RPUSH %s.a 1 3 2", test_job());
    struct run r = run("nwm-merger -n --list %s.a", test_job());
    expect_fault(r, 1, "Unsorted", fmt("%s.a", test_job()));
    expect_err_has(r, "item 3 \"2\"");
}

/* Reading never changes the data: the server's own list of commands has none that writes. */
Test(lists, nothing_is_written)
{
    struct server s;
    server_start(&s, "%s", "");
    load("0", fmt("-n -U %s", s.url), numbers(0, 1, 1000));
    const char *before = server_redis(&s, "LASTSAVE");
    server_redis(&s, "CONFIG RESETSTAT");
    expect_exit(run("nwm-merger -U %s --verify", s.url), 0);
    expect_exit(run("nwm-merger -n -U %s --list %s", s.url, server_redis(&s, "HGET %s list", manifest_key("0"))), 0);
    const char *stats = server_redis(&s, "INFO commandstats");
    const char *const none[] = {"rpush", "lpush",  "ltrim",   "del",  "unlink", "hset",   "hdel",
                                "set",   "expire", "pexpire", "sadd", "srem",   "rename", "lset",
                                "lpop",  "rpop",   "evalsha", "eval", "keys",   "scan"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        cr_assert_null(strstr(stats, fmt("cmdstat_%s:", none[i])), "%s\n%s", none[i], stats);
    cr_assert_not_null(strstr(stats, "cmdstat_lrange:"));
    cr_assert_str_eq(server_redis(&s, "LASTSAVE"), before);
}

/* ---- -u, --limit, --tag */

Test(merger, unique)
{
    load("0", "-k1,1n", "1 a\n1 b\n2 c\n4 d\n");
    load("1", "-k1,1n", "1 e\n2 f\n3 g\n3 h\n");
    struct run r = run("nwm-merger -u --verify");
    expect_exit(r, 0);
    expect_out(r, "1 a\n2 c\n3 g\n4 d\n");
    expect_err_has(r, "4 items");
    expect_err_has(r, "8 items");
    expect_out(run("nwm-merger -u --batch 1 1 0"), "1 e\n2 f\n3 g\n4 d\n");
    expect_out(run("nwm-merger -u --limit 2"), "1 a\n2 c\n");
}

Test(merger, limit)
{
    load_three();
    struct run r = run("nwm-merger --limit 4");
    expect_exit(r, 0);
    expect_out(r, "1\n2\n3\n4\n");
    expect_err_has(r, "4 items");
    expect_out(run("nwm-merger --limit 0"), "");
    expect_out(run("nwm-merger --limit 8"), "1\n2\n3\n4\n5\n6\n7\n8\n");
    r = run("nwm-merger --limit 100");
    expect_exit(r, 0);
    expect_out(r, "1\n2\n3\n4\n5\n6\n7\n8\n");
    expect_err_has(r, "complete: 8 items");
}

/* Ten items of eight long lists read a few small batches: said by the server, not only by us. */
Test(merger, limit_stops_fetching)
{
    struct server s;
    server_start(&s, "%s", "");
    for (int i = 0; i < 8; i++) expect_exit(run("seq %d 8 1000000 | nwm-worker -U %s -q -n -i %d", i, s.url, i), 0);
    server_redis(&s, "CONFIG RESETSTAT");
    struct run r = run("nwm-merger -U %s --limit 10 --stats json", s.url);
    expect_exit(r, 0);
    expect_out(r, numbers(0, 1, 10));
    cr_assert_leq(calls_of(&s, "lrange"), 16, "%ld batches", calls_of(&s, "lrange"));
    for (int i = 0; i < 8; i++) {
        double items = json_number(r.err, fmt("\"name\":\"%s\"", dataset(fmt("%d", i))), "items");
        cr_assert(items >= 1 && items <= 64, "%g items of list %d: %s", items, i, r.err);
    }
    const char *net = strstr(server_redis(&s, "INFO stats"), "total_net_output_bytes:");
    cr_assert_lt(strtol(strchr(net, ':') + 1, NULL, 10), 64 * 1024);
}

Test(merger, tag)
{
    load("0", "-n", "1\n3\n");
    load("x-1.y", "-n", "2\n");
    redis("RPUSH %s.l 4", test_job());
    struct run r = run("nwm-merger --tag --verify 0 x-1.y --list %s.l", test_job());
    expect_exit(r, 0);
    expect_out(r, fmt("0\t1\nx-1.y\t2\n0\t3\n%s.l\t4\n", test_job()));
}

/* ---- --verify */

Test(verify, local_is_remote)
{
    for (int i = 0; i < 5; i++) load(fmt("%d", i), "-n", numbers(i * 7, 3, 3000));
    struct run r = run("nwm-merger --verify -o result");
    expect_exit(r, 0);
    expect_err_has(r, "local == remote: true\n");
    expect_exit(run("LC_ALL=C sort -n -s data.? | cmp - result"), 0);
}

/* The same item by two paths, and between them it changes: same length, still sorted, and without a digest. */
Test(verify, the_first_difference)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("seq -f %%012.0f 0 10 3000000 | nwm-worker -U %s -q -n -i 0", s.url), 0);
    const char *list = fmt("%s", server_redis(&s, "HGET %s list", manifest_key("0")));
    server_redis(&s, "HDEL %s digest", manifest_key("0"));
    struct tap *tap = tap_open("out");
    struct proc *p = spawn("nwm-merger -U %s --memory 2M --verify >out", s.url);
    tap_wait(tap, p);
    server_redis(&s, "LSET %s 299990 %s", list, "000002999901");
    size_t len;
    tap_drain(tap, &len);
    struct run r = wait_exit(p, RUN_DEADLINE);
    expect_fault(r, 1, "Mismatch", NULL);
    expect_err_has(r, "local == remote: false");
    expect_err_has(r, "item 299991 ");
    expect_err_has(r, "000002999900");
    expect_err_has(r, "000002999901");
}

/* ---- --status, --jobs */

Test(status, all_ready)
{
    load("0", "-k2,2nr -t,", "a,3\nb,1\n");
    load("1", "-k2,2nr -t,", "");
    struct run r = run("nwm-merger --status");
    expect_exit(r, 0);
    const char *const shown[] = {"ready", "-t", "a,3", "b,1", fmt("nwm:{%s}:1.", dataset("0"))};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) expect_out_has(r, shown[i]);
}

/* Ready means all that -w says. */
Test(status, fewer_than_expected)
{
    load("0", "-n", "1\n");
    expect_exit(run("nwm-merger --status -w 1"), 0);
    expect_exit(run("nwm-merger --status -w 2"), 6);
    expect_exit(run("nwm-merger -j nothing --status -w 1"), 6);
}

Test(status, something_failed)
{
    load("0", "-n", "1\n");
    expect_exit(run("nwm-worker -n -i 1 missing"), 4);
    struct run r = run("nwm-merger --status");
    expect_exit(r, 4);
    expect_out_has(r, "failed");
    expect_out_has(r, "ready");
    expect_err_has(r, "NoInput");
    write_file("bad", "2\n1\n");
    expect_exit(run("nwm-worker -n -i 1 bad"), 1);
    expect_exit(run("nwm-merger --status"), 4);
}

Test(status, something_is_loading)
{
    load("0", "-n", "1\n");
    cr_assert_eq(mkfifo(fmt("%s/slow", test_dir()), 0600), 0);
    struct proc *worker = spawn("nwm-worker -n -i 1 slow");
    cr_assert(wait_until(has_state, "1 loading", 20000));
    struct run r = run("nwm-merger --status");
    expect_exit(r, 6);
    expect_out_has(r, "loading");
    expect_exit(run("nwm-worker -n -i 2 missing"), 4);
    expect_exit(run("nwm-merger --status"), 4);
    expect_exit(run("nwm-merger --status 0"), 0);
    expect_exit(run("nwm-merger --status 7"), 6);
    expect_exit(run("seq 3 >slow"), 0);
    expect_exit(wait_exit(worker, 20000), 0);
}

Test(status, no_datasets) { expect_fault(run("nwm-merger --status"), 4, "NoDatasets", NULL); }

Test(jobs, listed)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_out(run("nwm-merger -U %s --jobs", s.url), "");
    const char *const jobs[] = {"b", "a", "c.1"};
    for (int i = 0; i < 3; i++) expect_exit(run("nwm-worker -U %s --example -j %s -i 1", s.url, jobs[i]), 0);
    struct run r = run("nwm-merger -U %s --jobs", s.url);
    expect_exit(r, 0);
    expect_out(r, "a\nb\nc.1\n");
    expect_exit(run("nwm-worker -U %s --drop --all -j b", s.url), 0);
    expect_out(run("nwm-merger -U %s --jobs", s.url), "a\nc.1\n");
}

/* ---- --stats */

/* One object on one line: brackets and quotes close as they should. */
static bool is_json_line(const char *text)
{
    int depth = 0;
    bool quoted = false;
    const char *p = text;
    for (; *p && *p != '\n'; p++) {
        if (quoted && *p == '\\') {
            p++;
        } else if (*p == '"') {
            quoted = !quoted;
        } else if (!quoted) {
            depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
        }
    }
    return *text == '{' && depth == 0 && !quoted && strcmp(p, "\n") == 0 && p[-1] == '}';
}

Test(stats, json)
{
    load_three();
    struct run r = run("nwm-merger --stats json --stats-file stats --batch 2");
    expect_exit(r, 0);
    char *stats = read_file("stats", NULL);
    cr_assert_not_null(stats);
    cr_assert(is_json_line(stats), "%s", stats);
    cr_assert_eq(json_number(stats, "", "items"), 8);
    cr_assert_eq(json_number(stats, "", "bytes"), 16);
    cr_assert_eq(json_number(stats, "", "batches"), 5);
    cr_assert_gt(json_number(stats, "", "seconds"), 0);
    cr_assert_geq(json_number(stats, "", "items_per_second"), 1);
    const char *second = fmt("\"name\":\"%s\"", dataset("1"));
    cr_assert_eq(json_number(stats, second, "items"), 2);
    cr_assert_eq(json_number(stats, second, "batches"), 1);
    cr_assert_geq(json_number(stats, second, "stalls"), 0);
    cr_assert_null(strstr(r.err, "{"), "%s", r.err);
    r = run("nwm-merger -q --stats json");
    cr_assert(is_json_line(r.err), "%s", r.err);
}

/* List keys may be anything; the line stays JSON. */
Test(stats, json_of_odd_names)
{
    redis("RPUSH %b 1", "a\"b\\c\n\xff", (size_t)7);
    struct run r = run("nwm-merger -q --stats json --list \"$(printf 'a\"b\\\\c\\n\\377')\"");
    expect_exit(r, 0);
    cr_assert(is_json_line(r.err), "%s", r.err);
    expect_err_has(r, "a\\\"b\\\\c\\u000a\\u00ff");
}

Test(stats, text)
{
    load_three();
    struct run r = run("nwm-merger --stats text");
    expect_exit(r, 0);
    expect_out(r, numbers(1, 1, 8));
    expect_err_has(r, "items");
    expect_err_has(r, "stalls");
    expect_err_has(r, dataset("2"));
}

/* They tell of a merge that failed, too. */
Test(stats, of_a_failure)
{
    plant("0", "-n", "3\n2\n");
    struct run r = run("nwm-merger --stats json --stats-file stats");
    expect_exit(r, 1);
    char *stats = read_file("stats", NULL);
    cr_assert(stats && is_json_line(stats), "%s", stats);
    cr_assert_not_null(strstr(stats, "\"Unsorted\""), "%s", stats);
}

Test(stats, file_that_cannot_be_written)
{
    load_three();
    expect_fault(run("nwm-merger --stats json --stats-file none/stats"), 5, "Output", NULL);
}

/* ---- memory and batches */

Test(merger, memory)
{
    for (int i = 0; i < 6; i++) expect_exit(run("seq %d 6 600000 | nwm-worker -q -n -i %d", i, i), 0);
    expect_exit(run("nwm-merger -o all"), 0);
    struct run r = run("nwm-merger --memory 2M -o small --stats json");
    expect_exit(r, 0);
    expect_same_files("all", "small");
    /* 2 MiB, and what a process is */
    if (MEMORY_TELLS) cr_assert_lt(json_number(r.err, "", "peak_memory_bytes"), 12 << 20, "%s", r.err);
    expect_exit(run("nwm-merger --memory 1G -o small"), 0);
    expect_same_files("all", "small");
}

/* Fixed: so many requests as that makes, no more and no fewer. */
Test(merger, batch)
{
    struct server s;
    server_start(&s, "%s", "");
    load("0", fmt("-n -U %s", s.url), numbers(0, 2, 100));
    load("1", fmt("-n -U %s", s.url), numbers(1, 2, 95));
    for (int n = 1; n <= 100; n = n * 3 + 1) {
        server_redis(&s, "CONFIG RESETSTAT");
        struct run r = run("nwm-merger -U %s --batch %d", s.url, n);
        expect_exit(r, 0);
        cr_assert_eq(count_lines(r.out, r.out_len), 195);
        cr_assert_eq(calls_of(&s, "lrange"), (100 + n - 1) / n + (95 + n - 1) / n, "batches of %d: %ld", n,
                     calls_of(&s, "lrange"));
    }
}

/* ---- what it says */

Test(merger, quiet)
{
    load_three();
    struct run r = run("nwm-merger -q");
    expect_exit(r, 0);
    expect_out(r, numbers(1, 1, 8));
    expect_err(r, "");
    r = run("nwm-merger -q --verify");
    expect_exit(r, 0);
    expect_fault(run("nwm-merger -q none --wait 0"), 6, "Timeout", NULL);
}

/* The last line on standard error, and nothing else there. */
Test(receipt, eight_of_eight)
{
    for (int i = 0; i < 8; i++) load(fmt("%d", i), "-n", numbers(i, 8, 100));
    struct run r = run("nwm-merger -w 8");
    expect_exit(r, 0);
    cr_assert_eq(count_lines(r.err, r.err_len), 1, "%s", r.err);
    expect_err_has(r, fmt("nwm-merger: complete: 800 items from 8 of 8 datasets of job %s, order -n", test_job()));
    expect_err_has(r, " s, ");
    expect_err_has(r, "items/s");
}

Test(receipt, as_found)
{
    for (int i = 0; i < 8; i++) load(fmt("%d", i), "-n", numbers(i, 8, 100));
    struct run r = run("nwm-merger -o result");
    expect_exit(r, 0);
    expect_err_has(r, "complete: 800 items from 8 datasets");
    expect_err_has(r, ", as found");
    cr_assert_null(strstr(r.err, " of 8"), "%s", r.err);
}

Test(merger, help_and_version)
{
    struct run r = run("nwm-merger --help");
    expect_exit(r, 0);
    expect_out_has(r, "--stats-file");
    r = run("nwm-merger --version");
    expect_exit(r, 0);
    expect_out_has(r, "nwm-merger ");
    expect_out_has(r, "contract 1");
    expect_out_has(r, "hiredis ");
    expect_out_has(r, "libevent ");
    expect_out_has(r, "TLS ");
    expect_out_has(run("nwm-worker --version"), "nwm-worker ");
}

/* The name the server knows it by. */
Test(merger, client_name)
{
    struct middle m;
    middle_begin(&m, "");
    cr_assert_not_null(strstr(server_redis(&m.server, "CLIENT LIST"), fmt(" name=nwm-merger:%s ", test_job())));
    tap_close(m.tap);
    expect_exit(wait_exit(m.merger, 20000), 141);
}
