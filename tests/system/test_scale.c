/* Many items, many datasets, several servers: identical to sort, in bounded memory, over one data connection. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "tests/system/scene.h"

enum { FILES = 8, ITEMS = 500000 };

/* The largest resident set of any process that this test has waited for, in KiB: workers and sort are smaller anyway. */
static long largest_child(void)
{
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return usage.ru_maxrss;
}

/* A generator of our own, so that every run sees the same numbers. */
static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15;
    uint64_t z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static void write_random(int file)
{
    uint64_t state = (uint64_t)file * 7919;
    FILE *f = fopen(fmt("%s/random.%d", test_dir(), file), "w");
    cr_assert_not_null(f);
    for (int i = 0; i < ITEMS; i++) fprintf(f, "%012llu\n", (unsigned long long)(next_random(&state) % 1000000000000));
    fclose(f);
    expect_exit(run("LC_ALL=C sort -n -s -S 32M random.%d -o numbers.%d", file, file), 0);
}

Test(scale, eight_files_of_half_a_million)
{
    struct server s;
    server_start(&s, "%s", "");
    for (int i = 0; i < FILES; i++) write_random(i);
    struct proc *workers[FILES];
    for (int i = 0; i < FILES; i++) workers[i] = spawn("nwm-worker -U %s -n -i %d numbers.%d", s.url, i, i);
    for (int i = 0; i < FILES; i++) expect_exit(wait_exit(workers[i], 120000), 0);
    struct run r = run("nwm-merger -U %s -w %d -o merged --stats json", s.url, FILES);
    expect_exit(r, 0);
    expect_err_has(r, "4000000 items from 8 of 8");
    cr_assert_gt(largest_child(), 1024);
    if (MEMORY_TELLS) cr_assert_lt(largest_child(), 96 * 1024, "%ld KiB", largest_child());
    cr_assert_eq(json_number(r.err, "", "items"), FILES * ITEMS);
    expect_exit(run("LC_ALL=C sort -m -n -s numbers.0 numbers.1 numbers.2 numbers.3 numbers.4 numbers.5 numbers.6 "
                    "numbers.7 | cmp - merged"),
                0);
}

/* How many connections of our mergers last did that ("lrange"); NULL: whatever they did. */
static int connections(struct server *s, const char *doing)
{
    int n = 0;
    for (const char *line = server_redis(s, "CLIENT LIST"), *end; *line; line = end + (*end != '\0')) {
        end = line + strcspn(line, "\n");
        const char *copy = fmt("%.*s", (int)(end - line), line);
        n += strstr(copy, fmt(" name=nwm-merger:%s ", test_job())) && (!doing || strstr(copy, fmt(" cmd=%s ", doing)));
    }
    return n;
}

Test(scale, two_thousand_datasets_over_one_connection)
{
    enum { DATASETS = 2000, EACH = 500 };
    struct server s;
    server_start(&s, "%s", "");
    plant_many(&s, DATASETS, EACH);
    struct tap *tap = tap_open("out");
    struct proc *p = spawn("nwm-merger -U %s -w %d >out", s.url, DATASETS);
    tap_wait(tap, p);
    cr_assert_eq(connections(&s, "lrange"), 1);
    cr_assert_leq(connections(&s, NULL), 2, "%s", server_redis(&s, "CLIENT LIST"));
    size_t len;
    char *out = tap_drain(tap, &len);
    struct run r = wait_exit(p, RUN_DEADLINE);
    expect_exit(r, 0);
    expect_err_has(r, "1000000 items from 2000 of 2000");
    write_bytes("merged", out, len);
    expect_exit(run("seq -f %%012.0f 0 %d | cmp - merged", DATASETS * EACH - 1), 0);
    expect_exit(run("nwm-merger -U %s --memory 8M -o again && cmp again merged", s.url), 0);
}

Test(scale, eight_lists_on_four_servers)
{
    struct server s[4];
    const char *urls = "";
    for (int i = 0; i < 4; i++) {
        server_start(&s[i], "%s", "");
        urls = fmt("%s -U %s", urls, s[i].url);
    }
    for (int i = 0; i < 8; i++)
        expect_exit(run("seq %d 8 799999 | nwm-worker -U %s -q -n -i %d", i, s[i % 4].url, i), 0);
    struct tap *tap = tap_open("out");
    struct proc *p = spawn("nwm-merger %s -w 8 --verify --memory 4M >out", urls);
    tap_wait(tap, p);
    for (int i = 0; i < 4; i++) cr_assert_eq(connections(&s[i], "lrange"), 1, "server %d", i);
    size_t len;
    char *out = tap_drain(tap, &len);
    struct run r = wait_exit(p, RUN_DEADLINE);
    expect_exit(r, 0);
    expect_err_has(r, "800000 items from 8 of 8");
    expect_err_has(r, "local == remote: true\n");
    write_bytes("merged", out, len);
    expect_exit(run("seq 0 799999 | cmp - merged"), 0);
}
