/* Requests that cannot be done, or not with what is there: options, values, URLs, config files, ids, counts, orders. */
#include <sys/stat.h>

#include "tests/system/scene.h"

#include <criterion/parameterized.h>

/* ---- the command line: exit 2, Usage, and the message names what is wrong */

struct usage {
    char command[80], named[40];
};

static struct usage usages[] = {
    {"nwm-merger --no-such-option", "--no-such-option"},
    {"nwm-merger -Y", "Y"},
    {"nwm-merger --batch", "batch"},
    {"nwm-merger --batch 0", "--batch"},
    {"nwm-merger --batch 12x", "12x"},
    {"nwm-merger --batch -1", "-1"},
    {"nwm-merger -w 0", "0"},
    {"nwm-merger -w 99999999999999999999999", "99999999999999999999999"},
    {"nwm-merger --limit ten", "ten"},
    {"nwm-merger --memory 1", "--memory"},
    {"nwm-merger --memory 64Q", "64Q"},
    {"nwm-merger --wait soon", "soon"},
    {"nwm-merger --wait -1s", "-1s"},
    {"nwm-merger --timeout 5y", "5y"},
    {"nwm-merger --since yesterday", "yesterday"},
    {"nwm-merger --since @", "@"},
    {"nwm-merger --stats xml", "xml"},
    {"nwm-merger -j 'a b'", "a b"},
    {"nwm-merger -j ''", "-j"},
    {"nwm-merger 'a:b'", "a:b"},
    {"nwm-merger 1 2 1", "1"},
    {"nwm-merger -k 0", "0"},
    {"nwm-merger -k 1,x", "1,x"},
    {"nwm-merger -t ab", "ab"},
    {"nwm-merger -n -g", "-"},
    {"nwm-merger -V", "-V"},
    {"nwm-merger -d", "-d"},
    {"nwm-merger -R", "-R"},
    {"nwm-merger -h", "--host"},
    {"nwm-merger -p 6379", "--port"},
    {"nwm-merger --port 63x", "63x"},
    {"nwm-merger --port 65536", "65536"},
    {"nwm-merger --db -1", "-1"},
    {"nwm-merger -U nonsense", "redis://"},
    {"nwm-merger -U http://localhost", "redis://"},
    {"nwm-merger -U redis://h:99999/", "65535"},
    {"nwm-merger -U redis://h/x", "x"},
    {"nwm-merger -U redis://", "redis://"},
    {"nwm-worker", "id"},
    {"nwm-worker -i", "i"},
    {"nwm-worker -i 'a{b' file", "a{b"},
    {"nwm-worker -i 1 file file2", "file2"},
    {"nwm-worker -i 1 --ttl 0x10 file", "0x10"},
    {"nwm-worker -i 1 --ttl 0.0001 file", "0.0001"},
    {"nwm-worker -i 1 --lease 1ms file", "1ms"},
    {"nwm-worker -i 1 -U redis://a -U redis://b file", "-U"},
    {"nwm-worker -i 1 --from-command", "--from-command"},
    {"nwm-worker -i 1 --example file", "file"},
};

ParameterizedTestParameters(bad_request, usage)
{
    return cr_make_param_array(struct usage, usages, sizeof usages / sizeof *usages);
}

ParameterizedTest(struct usage *u, bad_request, usage)
{
    struct run r = run_within(10000, "%s", u->command);
    expect_fault(r, 2, "Usage", NULL);
    expect_out(r, "");
    expect_err_has(r, u->named);
}

/* A password in a URL that is refused is not shown. */
Test(bad_request, password_is_never_printed)
{
    const char *const urls[] = {"redis://user:hunter2@h:99999", "redis://:hunter2@h/x", "redis://u:hunter2@h:1:2"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct run r = run("nwm-merger -U %s", urls[i]);
        expect_exit(r, 2);
        cr_assert_null(strstr(r.err, "hunter2"), "%s", r.err);
    }
}

/* ---- the config file: BadConfig names file and line */

struct config {
    char content[80], named[40];
};

static struct config configs[] = {
    {"job = a\nno such thing\n", "line 2: "}, {"job = a\n\nno-such-option = 1\n", "line 3: "},
    {"# fine\ntimeout = soon\n", "line 2: "}, {"job = a b\n", "line 1: "},
    {"[section that\njob = a\n", "line 1: "}, {"url = redis://h:99999\n", "line 1: "},
    {"job = a\nbatch = 12x\n", "line 2: "},
};

ParameterizedTestParameters(bad_request, config_line)
{
    return cr_make_param_array(struct config, configs, sizeof configs / sizeof *configs);
}

ParameterizedTest(struct config *c, bad_request, config_line)
{
    write_file("nwm.conf", c->content);
    struct run r = run("nwm-merger --config nwm.conf");
    expect_fault(r, 2, "BadConfig", NULL);
    expect_err_has(r, fmt("nwm.conf %s", c->named));
    r = run("NWM_CONFIG=nwm.conf nwm-merger");
    expect_fault(r, 2, "BadConfig", NULL);
    expect_err_has(r, fmt("nwm.conf %s", c->named));
}

Test(bad_request, config_that_is_not_there)
{
    struct run r = run("nwm-merger --config none.conf");
    expect_fault(r, 2, "BadConfig", NULL);
    expect_err_has(r, "none.conf");
}

Test(bad_request, config_with_a_password_others_can_read)
{
    write_file("nwm.conf", "pass = secret\n");
    chmod(fmt("%s/nwm.conf", test_dir()), 0644);
    struct run r = run("nwm-merger --config nwm.conf");
    expect_fault(r, 2, "BadConfig", NULL);
    cr_assert_null(strstr(r.err, "secret"));
}

Test(bad_request, config_gives_way_to_environment_and_command_line)
{
    load("0", "-n", "1\n");
    write_file("nwm.conf", "job = from-config\n");
    expect_fault(run("NWM_JOB= nwm-merger --config nwm.conf -j named"), 4, "NoDatasets", NULL);
    struct run r = run("nwm-merger --config nwm.conf"); /* NWM_JOB is the test's */
    expect_exit(r, 0);
    expect_out(r, "1\n");
    r = run("env -u NWM_JOB nwm-merger --config nwm.conf");
    expect_fault(r, 4, "NoDatasets", NULL);
    expect_err_has(r, "from-config");
}

/* ---- datasets that are not what was asked for */

Test(bad_request, unknown_ids)
{
    load("0", "-n", "1\n");
    struct run r = run("nwm-merger --wait 0 0 7 x");
    expect_fault(r, 6, "Timeout", NULL);
    expect_err_has(r, dataset("7"));
    expect_err_has(r, dataset("x"));
    cr_assert_null(strstr(r.err, fmt("%s ", dataset("0"))));
    expect_out(r, "");
}

Test(bad_request, no_datasets)
{
    load("0", "-n", "1\n");
    struct run r = run_within(5000, "nwm-merger -j no-such-job");
    expect_fault(r, 4, "NoDatasets", NULL);
    expect_err_has(r, "no-such-job");
    struct server s; /* with few enough jobs that all are named */
    server_start(&s, "%s", "");
    r = run("nwm-merger -U %s -j no-such-job", s.url);
    expect_fault(r, 4, "NoDatasets", NULL);
    expect_exit(
        run("nwm-worker -U %s --example -j there -i 0 && nwm-worker -U %s --example -j also -i 0", s.url, s.url), 0);
    r = run("nwm-merger -U %s -j no-such-job", s.url);
    expect_fault(r, 4, "NoDatasets", NULL);
    expect_err_has(r, "also, there");
}

Test(bad_request, one_dataset_too_many_for_w)
{
    for (int i = 0; i < 3; i++) load(fmt("%d", i), "-n", "1\n");
    struct run r = run("nwm-merger -w 2 -o result");
    expect_fault(r, 2, "WrongCount", NULL);
    expect_err_has(r, "0 1 2");
    cr_assert(!file_exists("result"));
    expect_exit(run("nwm-merger -w 3"), 0);
}

Test(bad_request, one_dataset_too_few_for_w)
{
    for (int i = 0; i < 3; i++) load(fmt("%d", i), "-n", "1\n");
    struct run r = run("nwm-merger -w 4 --wait 1s -o result");
    expect_fault(r, 6, "Timeout", NULL);
    expect_err_has(r, "4");
    cr_assert_geq(r.took, 900);
    cr_assert_lt(r.took, 8000);
    cr_assert(!file_exists("result"));
}

Test(bad_request, orders_that_differ)
{
    load("0", "-n", "1\n");
    load("1", "", "1\n");
    struct run r = run("nwm-merger");
    expect_fault(r, 2, "OrderConflict", NULL);
    expect_err_has(r, dataset("0"));
    expect_err_has(r, dataset("1"));
    expect_out(r, "");
    expect_exit(run("nwm-merger 0"), 0);
}

Test(bad_request, order_other_than_sealed)
{
    load("0", "-k2,2nr -t,", "a,9\nb,7\n");
    expect_fault(run("nwm-merger -n"), 2, "OrderConflict", NULL);
    expect_fault(run("nwm-merger -t: -k2,2nr"), 2, "OrderConflict", NULL);
    expect_exit(run("nwm-merger -t, -k2,2rn"), 0); /* the same in other words */
    expect_exit(run("nwm-merger"), 0);
}

Test(bad_request, run_older_than_since)
{
    load("0", "-n", "1\n");
    load("1", "-n", "2\n");
    redis("HSET %s started 1000000000", manifest_key("1"));
    struct run r = run("nwm-merger --since 1h --wait 0");
    expect_fault(r, 6, "Timeout", NULL);
    expect_err_has(r, dataset("1"));
    cr_assert_null(strstr(r.err, dataset("0")), "%s", r.err);
    expect_fault(run("nwm-merger --since @1000000001 --wait 0"), 6, "Timeout", NULL);
    expect_exit(run("nwm-merger --since @1000000000 --wait 0"), 0);
}

Test(bad_request, manifest_of_contract_2)
{
    load("0", "-n", "1\n");
    redis("HSET %s contract 2", manifest_key("0"));
    struct run r = run("nwm-merger");
    expect_fault(r, 2, "BadContract", dataset("0"));
    expect_err_has(r, "2");
    expect_out(r, "");
    expect_err_has(run("nwm-merger --status"), "BadContract");
}

Test(bad_request, manifest_with_a_field_missing)
{
    const char *const fields[] = {"list", "items", "state", "bytes", "max_item", "run", "contract"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        load("0", "-n", "1\n2\n");
        redis("HDEL %s %s", manifest_key("0"), fields[i]);
        struct run r = run("nwm-merger --wait 0");
        expect_fault(r, 2, "BadContract", dataset("0"));
        expect_err_has(r, fields[i]);
    }
}

/* Where a list should be there is something else; where a manifest should be, too. */
Test(bad_request, keys_of_another_type)
{
    load("0", "-n", "1\n");
    redis("DEL %s", manifest("0", "list"));
    redis("SET %s x", manifest("0", "list"));
    expect_fault(run("nwm-merger"), 4, "WrongType", dataset("0"));
    redis("SET %s x", manifest_key("1"));
    redis("SADD nwm:%s:datasets 1", test_job());
    expect_fault(run("nwm-merger 1"), 4, "WrongType", dataset("1"));
    expect_fault(run("nwm-merger --list %s", manifest_key("0")), 4, "WrongType", NULL);
}

/* Before there is anything to tell of. */
Test(bad_request, no_memory_with_stats)
{
    expect_exit(run("head -c 2000000 /dev/zero | tr '\\0' x >big; nwm-worker -i 0 big"), 0);
    expect_fault(run("nwm-merger --memory 1M --stats text"), 2, "NoMemory", NULL);
    expect_fault(run("nwm-merger --memory 1M --stats json --verify"), 2, "NoMemory", NULL);
}

/* What a config file says of all merges yields to what the command line says of this one. */
Test(bad_request, config_that_does_not_go_with_the_command_line)
{
    load("0", "-n", "1\n");
    expect_exit(run("nwm-merger -o whole"), 0);
    write_file("partial.conf", "[merger]\npartial = yes\n");
    write_file("resume.conf", "[merger]\nresume = yes\n");
    write_file("verify.conf", "[merger]\nverify = yes\n");
    expect_exit(run("nwm-merger --config partial.conf --resume -o a"), 0);
    expect_exit(run("nwm-merger --config resume.conf --partial -o b"), 0);
    expect_exit(run("nwm-merger --config resume.conf -o /dev/null"), 0);
    struct run r = run("nwm-merger --config verify.conf --resume -o c");
    expect_exit(r, 0);
    cr_assert_null(strstr(r.err, "local == remote"));
    expect_exit(run("nwm-merger --config partial.conf --consume -o d"), 0);
    write_file("bad", "2\n1\n");
    expect_exit(run("nwm-worker -n -i 1 bad"), 1);
    expect_fault(run("nwm-merger --config partial.conf --check whole"), 1, "Unsorted", dataset("1"));
}
