#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/options.h"
#include "shared/options_table.h"

enum { WORDS_MAX = 40 };

static char directory[64];
static struct options o;

/* No variable and no config file of this machine gets in. */
static void init(void)
{
    static const char *const variables[] = {"NWM_URL", "NWM_JOB", "NWM_ID", "REDISCLI_AUTH"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) unsetenv(variables[i]);
    strcpy(directory, "/tmp/nwm-unit-XXXXXX");
    cr_assert(mkdtemp(directory) != NULL);
    cr_assert(chdir(directory) == 0);
    setenv("HOME", directory, 1);
    setenv("NWM_CONFIG", "/dev/null", 1);
}

static void fini(void)
{
    options_free(&o);
    unlink("c.conf");
    unlink(".config/nwmerge.conf");
    rmdir(".config");
    rmdir(directory);
}

TestSuite(options, .init = init, .fini = fini);

/* A word of two quotes is empty; ~ stands for a blank. */
static struct fault *parse(enum program program, const char *line)
{
    static char text[1024], *words[WORDS_MAX];
    snprintf(text, sizeof text, "program %s", line);
    int n = 0;
    for (char *save, *w = strtok_r(text, " ", &save); w && n < WORDS_MAX - 1; w = strtok_r(NULL, " ", &save)) {
        for (char *p = w; *p; p++)
            if (*p == '~') *p = ' ';
        words[n++] = strcmp(w, "''") == 0 ? w + 2 : w;
    }
    words[n] = NULL;
    return options_parse(&o, program, n, words);
}

static void takes(enum program program, const char *line)
{
    options_free(&o);
    struct fault *f = parse(program, line);
    cr_assert(f == NULL, "%s: %s", line, f ? fault_message(f) : "");
}

static void refuses_as(const char *name, enum program program, const char *line, const char *words)
{
    options_free(&o);
    struct fault *f = parse(program, line);
    cr_assert(f != NULL, "taken: %s", line);
    cr_assert_str_eq(fault_name(f), name, "%s: %s", line, fault_message(f));
    cr_assert_eq(fault_exit(f), 2);
    cr_assert(strstr(fault_message(f), words) != NULL, "%s: %s", line, fault_message(f));
    fault_free(f);
}

static void refuses(enum program program, const char *line, const char *words)
{
    refuses_as("Usage", program, line, words);
}

static const char *url(size_t i) { return endpoint_name(o.endpoints[i]); }

/* ---- values ------------------------------------------------------------------------------------------------------ */

static int64_t ms(const char *text)
{
    int64_t value;
    return parse_time_ms(text, &value) ? value : -1;
}

Test(options, times)
{
    cr_assert_eq(ms("90"), 90000);
    cr_assert_eq(ms("90s"), 90000);
    cr_assert_eq(ms("1.5s"), 1500);
    cr_assert_eq(ms("0.25m"), 15000);
    cr_assert_eq(ms("2h"), 7200000);
    cr_assert_eq(ms("1d"), 86400000);
    cr_assert_eq(ms("0"), 0);
    cr_assert_eq(ms("0.0019"), 1);
    cr_assert_eq(ms("1.00000000000000000000000001"), 1000);
    static const char *const bad[] = {"",
                                      "s",
                                      "-1",
                                      "+1",
                                      "1x",
                                      "1 s",
                                      " 1",
                                      "1.s",
                                      ".5",
                                      "1ms",
                                      "1s ",
                                      "0x10",
                                      "1e3",
                                      "99999999999999999999",
                                      "18446744073709551615d",
                                      "nan",
                                      "1..2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) cr_assert_eq(ms(bad[i]), -1, "%s", bad[i]);
}

static size_t size(const char *text)
{
    size_t value;
    return parse_size(text, &value) ? value : 7;
}

Test(options, sizes)
{
    cr_assert_eq(size("64M"), (size_t)64 << 20);
    cr_assert_eq(size("64m"), (size_t)64 << 20);
    cr_assert_eq(size("1G"), (size_t)1 << 30);
    cr_assert_eq(size("512K"), (size_t)512 << 10);
    cr_assert_eq(size("1.5K"), 1536u);
    cr_assert_eq(size("12345"), 12345u);
    static const char *const bad[] = {
        "", "M", "-1M", "1MB", "1%", "50%", "1 M", "99999999999999999999", "99999999999T"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) cr_assert_eq(size(bad[i]), 7u, "%s", bad[i]);
}

/* ---- what there is ----------------------------------------------------------------------------------------------- */

Test(options, defaults)
{
    takes(PROGRAM_MERGER, "");
    cr_assert_str_eq(o.job, "default");
    cr_assert_str_eq(o.prefix, "nwm:");
    cr_assert_str_eq(url(0), "redis://127.0.0.1:6379");
    cr_assert_eq(o.endpoint_count, 1u);
    cr_assert_eq(o.separator, '\n');
    cr_assert_not(order_is_given(o.order));
    cr_assert_eq(o.timeout_ms, 30000);
    cr_assert_eq(o.wait_ms, 30000);
    cr_assert_eq(o.memory, (size_t)64 << 20);
    cr_assert_eq(o.id_count, 0u);
    cr_assert_not(o.has_limit || o.has_since || o.job_is_given || o.quiet || o.verbose);
    takes(PROGRAM_WORKER, "-i 1");
    cr_assert_eq(o.keep_ms, 3600000);
    cr_assert_eq(o.lease_ms, 15000);
    cr_assert_eq(o.ttl_ms, 0);
    cr_assert(o.file == NULL && o.command == NULL);
}

Test(options, all_of_the_worker)
{
    takes(PROGRAM_WORKER,
          "-j logs -i web-1 --sort --ttl 2h --keep 10m --lease 5 --prefix x: --timeout 1.5 -q -z -k2,2nr -k1 "
          "-t , -m -s file");
    cr_assert_str_eq(o.job, "logs");
    cr_assert_str_eq(o.id, "web-1");
    cr_assert_str_eq(o.file, "file");
    cr_assert_str_eq(o.prefix, "x:");
    cr_assert(o.sort && o.quiet && o.job_is_given);
    cr_assert_eq(o.ttl_ms, 7200000);
    cr_assert_eq(o.keep_ms, 600000);
    cr_assert_eq(o.lease_ms, 5000);
    cr_assert_eq(o.timeout_ms, 1500);
    cr_assert_eq(o.separator, '\0');
    cr_assert_str_eq(order_text(o.order), "-k2,2nr -k1 -t2c");
    takes(PROGRAM_WORKER, "--check -");
    cr_assert(o.check && !o.file && !o.id);
    takes(PROGRAM_WORKER, "--drop --all --force");
    cr_assert(o.drop && o.drop_all && o.force);
    takes(PROGRAM_WORKER, "-i 2 --example");
    cr_assert_str_eq(order_text(o.order), "-n");
    takes(PROGRAM_WORKER, "-i 2 --example -n");
}

Test(options, all_of_the_merger)
{
    takes(PROGRAM_MERGER,
          "-w 3 --since @1700000000 --wait forever -o out -u --limit 0 --tag --verify --stats json --stats-file "
          "s --memory 1M --batch 3 --progress -v b 1 a");
    cr_assert_eq(o.workers, 3u);
    cr_assert_eq(o.id_count, 3u);
    cr_assert_str_eq(o.ids[0], "b");
    cr_assert_str_eq(o.ids[2], "a");
    cr_assert(o.has_since && !o.since_is_ago && o.since_s == 1700000000);
    cr_assert_eq(o.wait_ms, FOREVER);
    cr_assert(o.unique && o.tag && o.verify && o.progress && o.verbose && o.has_limit && o.limit == 0);
    cr_assert(o.stats == STATS_JSON && o.batch == 3 && o.memory == (size_t)1 << 20);
    cr_assert_str_eq(o.output, "out");
    cr_assert_str_eq(o.stats_file, "s");
    takes(PROGRAM_MERGER, "--since 90m --wait 0 --list a --list b");
    cr_assert(o.has_since && o.since_is_ago && o.since_s == 5400 && o.wait_ms == 0);
}

Test(options, sorts_long_names)
{
    takes(PROGRAM_MERGER,
          "--numeric-sort --reverse --ignore-leading-blanks --merge --stable --unique --output=o --zero-terminated");
    cr_assert_str_eq(order_text(o.order), "-nr");
    takes(PROGRAM_MERGER, "--key=2,2 --key=1n --field-separator=:");
    cr_assert_str_eq(order_text(o.order), "-k2,2 -k1n -t3a");
    takes(PROGRAM_MERGER, "--month-sort");
    takes(PROGRAM_MERGER, "--general-numeric-sort");
    takes(PROGRAM_MERGER, "--ignore-case");
}

Test(options, bad_values_name_option_value_and_limit)
{
    static const struct {
        enum program program;
        char line[60], words[60];
    } bad[] = {
        {PROGRAM_MERGER, "-w 0", "-w: \"0\" is no number from 1 to 1000000"},
        {PROGRAM_MERGER, "--workers=3x", "--workers: \"3x\""},
        {PROGRAM_MERGER, "--wait soon", "--wait: \"soon\" is no time"},
        {PROGRAM_MERGER, "--timeout 0", "--timeout: \"0\" is too short"},
        {PROGRAM_MERGER, "--timeout 99999d", "--timeout: \"99999d\""},
        {PROGRAM_MERGER, "--since @1x", "--since: \"@1x\""},
        {PROGRAM_MERGER, "--since @", "--since: \"@\""},
        {PROGRAM_MERGER, "--memory 50%", "--memory: \"50%\" is no size"},
        {PROGRAM_MERGER, "--memory 1K", "at least 1M"},
        {PROGRAM_MERGER, "--batch 0", "--batch: \"0\""},
        {PROGRAM_MERGER, "--limit -1", "--limit: \"-1\""},
        {PROGRAM_MERGER, "--limit 18446744073709551616", "--limit"},
        {PROGRAM_MERGER, "--stats xml", "--stats: \"xml\" is neither text nor json"},
        {PROGRAM_MERGER, "-j a/b", "-j: \"a/b\" is no name: 1 to 64"},
        {PROGRAM_MERGER, "-j ''", "-j: \"\""},
        {PROGRAM_MERGER, "--prefix a{b", "--prefix: \"a{b\""},
        {PROGRAM_MERGER, "--prefix ''", "--prefix"},
        {PROGRAM_MERGER, "--list a --list a", "--list: \"a\" is given twice"},
        {PROGRAM_MERGER, "-o ''", "-o: \"\" is empty"},
        {PROGRAM_MERGER, "-k 0", "-k \"0\""},
        {PROGRAM_MERGER, "-t ab", "-t \"ab\""},
        {PROGRAM_MERGER, "-n -g", "-gn"},
        {PROGRAM_WORKER, "-i a~b", "-i: \"a b\" is no name"},
        {PROGRAM_WORKER, "-i 1 --lease 0.5", "--lease: \"0.5\" is too short: at least 1s"},
        {PROGRAM_WORKER, "-i 1 --port 63x", "--port: \"63x\" is no port: a number from 1 to 65535"},
        {PROGRAM_WORKER, "-i 1 --db x", "--db: \"x\""},
        {PROGRAM_WORKER, "-i 1 --host a~b", "--host: \"a b\""},
        {PROGRAM_WORKER, "-i", "-i: its value is missing (ID)"},
        {PROGRAM_WORKER, "--id", "--id: its value is missing (ID)"},
        {PROGRAM_WORKER, "-i 1 --sort=numeric", "--sort takes no value"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refuses(bad[i].program, bad[i].line, bad[i].words);
}

Test(options, habits)
{
    refuses(PROGRAM_MERGER, "-h localhost", "-h: redis-cli's -h is --host");
    refuses(PROGRAM_WORKER, "-p 7000", "--port");
    refuses(PROGRAM_WORKER, "-a word", "--pass-file");
    refuses(PROGRAM_MERGER, "-d", "sort has it");
    refuses(PROGRAM_WORKER, "-d", "sort has it");
    refuses(PROGRAM_MERGER, "-i 1", "ids are named without it");
    refuses(PROGRAM_MERGER, "-R", "sort has it");
    refuses(PROGRAM_MERGER, "-V", "sort has it");
    refuses(PROGRAM_MERGER, "-S 1G", "--memory");
    refuses(PROGRAM_MERGER, "-T /tmp", "no temporary files");
    refuses(PROGRAM_MERGER, "-c", "--check");
    refuses(PROGRAM_WORKER, "-u redis://a", "-U");
    refuses(PROGRAM_WORKER, "--output=x", "it is one of nwm-merger");
    refuses(PROGRAM_MERGER, "--example", "it is one of nwm-worker");
    refuses(PROGRAM_MERGER, "--parallel=4", "--parallel: one thread");
    refuses(PROGRAM_MERGER, "--nonsense=4", "there is no option --nonsense; --help");
    refuses(PROGRAM_MERGER, "-Q", "there is no option -Q; --help");
    refuses(PROGRAM_MERGER, "data/part.txt", "loaded by nwm-worker");
    refuses(PROGRAM_MERGER, "redis://me:geheim@host", "-U URL");
    refuses(PROGRAM_MERGER, "a~b", "no id");
    refuses(PROGRAM_WORKER, "3", "-i ID");
}

Test(options, what_does_not_go_together)
{
    refuses(PROGRAM_WORKER, "", "id is missing");
    refuses(PROGRAM_WORKER, "--drop", "id is missing");
    refuses(PROGRAM_WORKER, "--example --check", "id is missing");
    refuses(PROGRAM_WORKER, "-i 1 a b", "\"b\" is a second FILE");
    refuses(PROGRAM_WORKER, "-i 1 --example f", "FILE");
    refuses(PROGRAM_WORKER, "-i a --example", "calculates with a number");
    refuses(PROGRAM_WORKER, "-i 1 --example -g", "--example is in order -n");
    refuses(PROGRAM_WORKER, "-i 1 --example --sort", "--example does not go with --sort");
    refuses(PROGRAM_WORKER, "-i 1 --check --drop", "--check does not go with --drop");
    refuses(PROGRAM_WORKER, "-i 1 --check --ttl 1", "--check does not go with --ttl");
    refuses(PROGRAM_WORKER, "-i 1 --drop f", "FILE");
    refuses(PROGRAM_WORKER, "-i 1 --drop -n", "order");
    refuses(PROGRAM_WORKER, "-i 1 --drop --all", "--all does not go with --id");
    refuses(PROGRAM_WORKER, "--all", "--all needs --drop");
    refuses(PROGRAM_WORKER, "-i 1 --force", "--force needs --drop");
    refuses(PROGRAM_WORKER, "-i 1 -q -v", "--quiet does not go with --verbose");
    refuses(PROGRAM_MERGER, "--verify --status", "--verify does not go with --status");
    refuses(PROGRAM_MERGER, "--jobs --status", "--status does not go with --jobs");
    refuses(PROGRAM_MERGER, "--jobs 1", "no use");
    refuses(PROGRAM_MERGER, "1 2 1", "\"1\" is named twice");
    refuses(PROGRAM_MERGER, "-w 3 1 2", "--workers 3, but 2 ids are named");
    refuses(PROGRAM_MERGER, "--stats-file x", "--stats-file needs --stats");
    takes(PROGRAM_MERGER, "-w 2 1 2");
    cr_assert_eq(o.workers, 2u);
}

Test(options, from_command)
{
    takes(PROGRAM_WORKER, "-i 1 --from-command -- ls -l -- x");
    cr_assert_str_eq(o.command[0], "ls");
    cr_assert_str_eq(o.command[1], "-l");
    cr_assert_str_eq(o.command[2], "--");
    cr_assert_str_eq(o.command[3], "x");
    cr_assert(o.command[4] == NULL && o.file == NULL);
    refuses(PROGRAM_WORKER, "-i 1 --from-command ls", "behind --");
    refuses(PROGRAM_WORKER, "-i 1 --from-command f -- ls", "behind --");
    refuses(PROGRAM_WORKER, "-i 1 --from-command --", "behind --");
    refuses(PROGRAM_WORKER, "-i 1 --from-command", "behind --");
    takes(PROGRAM_WORKER, "-i 1 -- -file");
    cr_assert_str_eq(o.file, "-file");
}

Test(options, help_comes_before_anything_is_checked)
{
    takes(PROGRAM_WORKER, "--help --wrong");
    cr_assert(o.help);
    takes(PROGRAM_MERGER, "a/b --version");
    cr_assert(o.version);
    setenv("NWM_CONFIG", "/nowhere", 1);
    takes(PROGRAM_MERGER, "--help");
}

/* ---- where Redis is ---------------------------------------------------------------------------------------------- */

Test(options, endpoints)
{
    takes(PROGRAM_MERGER, "-U redis://a -U unix:///run/r.sock");
    cr_assert_eq(o.endpoint_count, 2u);
    cr_assert_str_eq(url(1), "unix:///run/r.sock");
    takes(PROGRAM_WORKER, "-i 1 --host h --port 7 --db 2");
    cr_assert_str_eq(url(0), "redis://h:7/2");
    takes(PROGRAM_WORKER, "-i 1 -U redis://h --port 7");
    cr_assert_str_eq(url(0), "redis://h:7");
    takes(PROGRAM_WORKER, "-i 1 --socket /s");
    cr_assert_str_eq(url(0), "unix:///s");
    refuses(PROGRAM_WORKER, "-i 1 -U redis://a -U redis://b", "-U: is given twice");
    refuses(PROGRAM_MERGER, "-U redis://a -U redis://a:6379", "redis://a:6379 is given twice");
    refuses(PROGRAM_MERGER, "-U redis://a -U redis://b --port 7", "--port");
    refuses(PROGRAM_MERGER, "--socket /s --port 7", "--socket does not go with");
    refuses(PROGRAM_MERGER, "-U redis://x:geheim@h:p", "bad URL");
    refuses(PROGRAM_MERGER, "--cert x", "--cert-key");
    refuses(PROGRAM_MERGER, "--cacert x", "--tls");
#if !NWM_TLS
    refuses(PROGRAM_MERGER, "--tls", "--tls: built without TLS: needs hiredis 1.0 or newer");
    refuses(PROGRAM_MERGER, "-U rediss://a", "-U: built without TLS: needs hiredis 1.0 or newer");
#endif
}

static void write_file(const char *path, mode_t mode, const char *text)
{
    FILE *f = fopen(path, "w");
    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0 && chmod(path, mode) == 0);
}

Test(options, passwords)
{
    takes(PROGRAM_MERGER, "--pass x -U redis://a -U redis://b");
    cr_assert(endpoint_has_password(o.endpoints[0]) && endpoint_has_password(o.endpoints[1]));
    write_file("c.conf", 0600, "secret\r\nmore\n");
    takes(PROGRAM_MERGER, "--pass-file c.conf");
    cr_assert(endpoint_has_password(o.endpoints[0]));
    write_file("c.conf", 0600, "\n");
    refuses(PROGRAM_MERGER, "--pass-file c.conf", "--pass-file: the first line of c.conf is empty");
    refuses(PROGRAM_MERGER, "--pass-file nowhere", "--pass-file: nowhere cannot be read: No such file");
    refuses(PROGRAM_MERGER, "--pass x --pass-file c.conf", "both give a password");
    takes(PROGRAM_MERGER, "");
    cr_assert_not(endpoint_has_password(o.endpoints[0]));
    setenv("REDISCLI_AUTH", "x", 1);
    takes(PROGRAM_MERGER, "");
    cr_assert(endpoint_has_password(o.endpoints[0]));
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

Test(options, environment)
{
    setenv("NWM_URL", "redis://e/1", 1);
    setenv("NWM_JOB", "ej", 1);
    setenv("NWM_ID", "ei", 1);
    takes(PROGRAM_WORKER, "");
    cr_assert_str_eq(url(0), "redis://e:6379/1");
    cr_assert_str_eq(o.job, "ej");
    cr_assert_str_eq(o.id, "ei");
    cr_assert_not(o.job_is_given);
    takes(PROGRAM_WORKER, "-i 1 -j cj -U redis://c");
    cr_assert_str_eq(url(0), "redis://c:6379");
    cr_assert_str_eq(o.job, "cj");
    cr_assert_str_eq(o.id, "1");
    takes(PROGRAM_WORKER, "--drop --all");
    setenv("NWM_JOB", "a/b", 1);
    refuses(PROGRAM_MERGER, "", "NWM_JOB: \"a/b\" is no name");
    takes(PROGRAM_MERGER, "-j x");
    setenv("NWM_JOB", "", 1);
    takes(PROGRAM_MERGER, "");
    cr_assert_str_eq(o.job, "default");
    setenv("NWM_URL", "redis://:geheim@x:y", 1);
    refuses(PROGRAM_MERGER, "", "NWM_URL: bad URL: the port");
}

static void config(const char *text)
{
    write_file("c.conf", 0644, text);
    setenv("NWM_CONFIG", "c.conf", 1);
}

Test(options, config_file)
{
    config("# a comment\n; another\n\njob = cj\n   url=redis://c/1\nnumeric-sort = yes\nkey = 2,2\nkey: 1\ntag = yes\n"
           "timeout = 5s\n[nwmerge]\nprefix = p:\n[worker]\nid = w1\ntimeout = 6s\nttl = 1h ; a comment\n[merger]\n"
           "timeout = 7s\nmemory = 128M\nunique = off\n");
    takes(PROGRAM_WORKER, "");
    cr_assert_str_eq(o.job, "cj");
    cr_assert_str_eq(o.id, "w1");
    cr_assert_str_eq(o.prefix, "p:");
    cr_assert_str_eq(url(0), "redis://c:6379/1");
    cr_assert_eq(o.timeout_ms, 6000);
    cr_assert_eq(o.ttl_ms, 3600000);
    cr_assert_str_eq(order_text(o.order), "-k2,2n -k1n");
    takes(PROGRAM_MERGER, "");
    cr_assert_eq(o.timeout_ms, 7000);
    cr_assert_eq(o.memory, (size_t)128 << 20);
    cr_assert(o.tag && !o.unique && !o.job_is_given);
}

Test(options, stronger_layers_replace)
{
    config("job = cj\nurl = redis://c1\nport = 7\nkey = 2,2\nnumeric-sort = yes\n[merger]\nurl = redis://m1\nurl = "
           "redis://m2\n");
    setenv("NWM_JOB", "ej", 1);
    takes(PROGRAM_MERGER, "");
    cr_assert_str_eq(o.job, "ej");
    cr_assert_eq(o.endpoint_count, 2u);
    cr_assert_str_eq(url(0), "redis://m1:6379");
    takes(PROGRAM_MERGER, "-j xj -M -U redis://x");
    cr_assert_str_eq(o.job, "xj");
    cr_assert_str_eq(order_text(o.order), "-M");
    cr_assert_str_eq(url(0), "redis://x:6379");
    cr_assert_eq(o.endpoint_count, 1u);
    takes(PROGRAM_WORKER, "-i 1 --host h");
    cr_assert_str_eq(url(0), "redis://h:7");
    takes(PROGRAM_WORKER, "-i 1 --socket /s");
    cr_assert_str_eq(url(0), "unix:///s");
    takes(PROGRAM_WORKER, "-i 1 --example");
    cr_assert_str_eq(order_text(o.order), "-n");
}

Test(options, bad_config_names_file_and_line)
{
    static const struct {
        char text[80], words[60];
    } bad[] = {
        {"job = a\nnonsense = 1\n", "c.conf line 2: there is no option \"nonsense\""},
        {"\n[workers]\nid = 1\n", "c.conf line 3: there is no section \"workers\""},
        {"timeout = soon\n", "c.conf line 1: timeout: \"soon\" is no time"},
        {"[worker]\ntag = yes\n", "c.conf line 2: tag is an option of the merger"},
        {"[merger]\nid = 1\n", "c.conf line 2: id is an option of the worker"},
        {"status = yes\n", "c.conf line 1: status is for the command line only"},
        {"job = a\njob = b\n", "c.conf line 2: job is given again, after line 1"},
        {"tag = maybe\n", "c.conf line 1: tag: \"maybe\" is neither yes nor no"},
        {"job\n", "c.conf line 1: it is neither [section] nor key = value"},
        {"# x\n[worker\n", "c.conf line 2: it is neither"},
        {"job =\n", "c.conf line 1: job: the value is missing"},
        {"url = redis://c:x\n", "c.conf line 1: url: bad URL"},
        {"key = 0\n", "c.conf line 1: key: -k \"0\""},
        {"pass = geheim\n", "c.conf line 1: there is a password in it"},
        {"url = redis://:geheim@c\n", "c.conf line 1: there is a password in it"},
        {"numeric-sort = yes\nmonth-sort = yes\n", "order of the config file"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        config(bad[i].text);
        refuses_as("BadConfig", PROGRAM_MERGER, "1", bad[i].words);
    }
    char *text = mem_printf("# %0300d\njob = %0300d\n", 0, 0);
    config(text);
    refuses_as("BadConfig", PROGRAM_MERGER, "", "c.conf line 1: it is longer than");
    free(text);
}

Test(options, a_config_with_a_password_is_its_owners)
{
    config("pass = geheim\n");
    chmod("c.conf", 0600);
    takes(PROGRAM_MERGER, "-U redis://elsewhere");
    cr_assert(endpoint_has_password(o.endpoints[0]));
    chmod("c.conf", 0640);
    refuses_as("BadConfig", PROGRAM_MERGER, "", "chmod 600");
    config("pass = a ;b\n");
    chmod("c.conf", 0600);
    refuses_as("BadConfig", PROGRAM_MERGER, "", "begins a comment");
}

Test(options, which_config)
{
    cr_assert(mkdir(".config", 0700) == 0);
    write_file(".config/nwmerge.conf", 0644, "job = home\n");
    write_file("c.conf", 0644, "prefix = c:\n");
    unsetenv("NWM_CONFIG");
    takes(PROGRAM_MERGER, "");
    cr_assert_str_eq(o.job, "home");
    setenv("NWM_CONFIG", "c.conf", 1);
    takes(PROGRAM_MERGER, "");
    cr_assert_str_eq(o.job, "default");
    cr_assert_str_eq(o.prefix, "c:");
    takes(PROGRAM_MERGER, "--config .config/nwmerge.conf");
    cr_assert_str_eq(o.job, "home");
    cr_assert_str_eq(o.prefix, "nwm:");
    refuses_as("BadConfig", PROGRAM_MERGER, "--config nowhere", "--config: there is no file nowhere");
    refuses_as("BadConfig", PROGRAM_MERGER, "--config .", "Is a directory");
    setenv("NWM_CONFIG", "nowhere", 1);
    refuses_as("BadConfig", PROGRAM_MERGER, "", "NWM_CONFIG: there is no file nowhere");
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

Test(options, the_table_is_sound)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        cr_assert(row->name && row->help && row->take && row->programs, "%zu", i);
        cr_assert_eq(option_named(row->name, row->programs), row, "%s is there twice", row->name);
        if (row->letter)
            cr_assert_eq(option_lettered(row->letter, row->programs), row, "-%c is there twice", row->letter);
    }
}

static char *printed_help(enum program program)
{
    fflush(stdout);
    int before = dup(STDOUT_FILENO), fds = fileno(tmpfile());
    dup2(fds, STDOUT_FILENO);
    options_print_help(program);
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    static char text[20000];
    ssize_t n = pread(fds, text, sizeof text - 1, 0);
    cr_assert(n > 0);
    text[n] = '\0';
    return text;
}

static size_t characters(const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

Test(options, help_shows_every_option_in_a_hundred_columns)
{
    static const enum program programs[] = {PROGRAM_WORKER, PROGRAM_MERGER};
    for (size_t p = 0; p < 2; p++) {
        const char *help = printed_help(programs[p]);
        for (size_t i = 0; i < OPT_COUNT; i++) {
            const struct option_row *row = &option_rows[i];
            char *shown = row->letter ? mem_printf("\n  -%c, --%s", row->letter, row->name)
                                      : mem_printf("\n      --%s", row->name);
            const char *at = strstr(help, shown);
            while (at && !strchr(" \n", at[strlen(shown)]))
                at = strstr(at + 1, shown); /* --check, --checkpoint-every */
            bool there = at != NULL;
            cr_assert_eq(there, (row->programs & programs[p]) != 0, "--%s", row->name);
            free(shown);
        }
        for (const char *line = help; *line; line += strcspn(line, "\n") + 1)
            cr_assert_leq(characters(line, strcspn(line, "\n")), 100u, "%.120s", line);
    }
}
