/* What others do to the lists while they are merged: a prefix is never taken for the whole, and the end is never clean. */
#include "tests/system/scene.h"

/* The merger is in the middle of four lists, and its reader does not read; then this command, and the rest is read. */
static struct run disturbed(struct middle *m, char **out, size_t *len)
{
    struct run r = middle_end(m, out, len);
    cr_assert_lt(count_lines(*out, *len), (size_t)4 * MIDDLE_ITEMS, "everything was written all the same");
    cr_assert_null(strstr(r.err, "complete:"), "%s", r.err);
    return r;
}

static void expect_disturbed(struct middle *m, const char *name, const char *id)
{
    char *out;
    size_t len;
    expect_fault(disturbed(m, &out, &len), 1, name, dataset(id));
}

/* The reference: the same merge, left alone. */
Test(middle, left_alone)
{
    struct middle m;
    char *out;
    size_t len;
    middle_begin(&m, "");
    struct run r = middle_end(&m, &out, &len);
    expect_exit(r, 0);
    write_bytes("merged", out, len);
    expect_exit(run("seq -f %%012.0f 0 %d | cmp - merged", 4 * MIDDLE_ITEMS - 1), 0);
}

Test(middle, list_deleted)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "DEL %s", m.list[2]);
    expect_disturbed(&m, "Vanished", "2");
}

/* What a merge that stops at its limit has not read belongs to it all the same. */
Test(middle, list_shorter_under_a_limit)
{
    struct middle m;
    middle_begin(&m, fmt("--limit %d >out", 2 * MIDDLE_ITEMS));
    server_redis(&m.server, "LTRIM %s 0 -2", m.list[3]);
    expect_disturbed(&m, "Changed", "3");
}

Test(middle, list_expired)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "PEXPIRE %s 1", m.list[1]);
    expect_disturbed(&m, "Vanished", "1");
}

Test(middle, everything_flushed)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "FLUSHALL");
    char *out;
    size_t len;
    expect_fault(disturbed(&m, &out, &len), 1, "Vanished", NULL);
}

Test(middle, list_trimmed_at_the_end)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "LTRIM %s 0 -2", m.list[3]);
    expect_disturbed(&m, "Changed", "3");
}

/* All that is left moves: what is re-read at the next border is no longer what it was. Not only the end tells. */
static void expect_noticed_at_once(struct middle *m)
{
    char *out;
    size_t len;
    expect_fault(disturbed(m, &out, &len), 1, "Changed", dataset("0"));
    cr_assert_lt(count_lines(out, len), (size_t)4 * MIDDLE_ITEMS * 3 / 4);
}

Test(middle, list_trimmed_at_the_head)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "LTRIM %s 1 -1", m.list[0]);
    expect_noticed_at_once(&m);
}

Test(middle, list_pushed_to_at_the_head)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "LPUSH %s 000000000000", m.list[0]);
    expect_noticed_at_once(&m);
}

/* Every batch came as it should; only the length at the end tells. */
Test(middle, list_pushed_to_at_the_end)
{
    struct middle m;
    char *out;
    size_t len;
    middle_begin(&m, ">out");
    server_redis(&m.server, "RPUSH %s 999999999999", m.list[0]);
    struct run r = middle_end(&m, &out, &len);
    expect_fault(r, 1, "Changed", dataset("0"));
    cr_assert_null(strstr(r.err, "complete:"), "%s", r.err);
}

/* As many items of the same length as before, in order: the digest tells. */
Test(middle, item_replaced)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "LSET %s %d %012d", m.list[2], MIDDLE_ITEMS - 10, 4 * (MIDDLE_ITEMS - 10) + 3);
    char *out;
    size_t len;
    struct run r = middle_end(&m, &out, &len);
    expect_fault(r, 1, "Mismatch", dataset("2"));
    cr_assert_null(strstr(r.err, "complete:"), "%s", r.err);
}

/* Far from the end, where the digest would tell first. */
Test(middle, item_out_of_order)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "LSET %s %d 000000000000", m.list[2], MIDDLE_ITEMS / 2);
    expect_disturbed(&m, "Unsorted", "2");
}

Test(middle, list_replaced_by_another_type)
{
    struct middle m;
    middle_begin(&m, "");
    server_redis(&m.server, "SET %s x", m.list[2]);
    char *out;
    size_t len;
    expect_fault(disturbed(&m, &out, &len), 4, "WrongType", dataset("2"));
}

Test(middle, dropped)
{
    struct middle m;
    middle_begin(&m, "");
    expect_exit(run("nwm-worker -U %s -i 1 --drop", m.server.url), 0);
    expect_disturbed(&m, "Vanished", "1");
}

Test(middle, dropped_and_reloaded)
{
    struct middle m;
    middle_begin(&m, "");
    expect_exit(run("nwm-worker -U %s -i 1 --drop && seq -f %%012.0f 1 4 199999 | nwm-worker -U %s -n -i 1",
                    m.server.url, m.server.url),
                0);
    expect_disturbed(&m, "Vanished", "1");
}

/* A new run has a list of its own: merges in flight finish on the old one. */
Test(middle, reloaded)
{
    struct middle m;
    char *out;
    size_t len;
    middle_begin(&m, "");
    expect_exit(run("echo 5 | nwm-worker -U %s -n -i 1", m.server.url), 0);
    struct run r = middle_end(&m, &out, &len);
    expect_exit(r, 0);
    cr_assert_eq(count_lines(out, len), (size_t)4 * MIDDLE_ITEMS);
    r = run("nwm-merger -U %s 1", m.server.url);
    expect_out(r, "5\n");
}

/* With --keep 1s the old list is gone a second after the reload. */
Test(middle, reloaded_and_the_old_run_not_kept)
{
    struct middle m;
    middle_begin(&m, "");
    expect_exit(run("echo 5 | nwm-worker -U %s -n -i 1 --keep 1s", m.server.url), 0);
    int64_t deadline = now_ms() + 10000;
    while (strcmp(server_redis(&m.server, "EXISTS %s", m.list[1]), "0") != 0 && now_ms() < deadline) nap(10);
    expect_disturbed(&m, "Vanished", "1");
}

/* A lost connection is no end: test_reconnect.c has what becomes of it. */
Test(middle, server_killed)
{
    struct middle m;
    middle_begin(&m, ">out --timeout 1s");
    server_kill9(&m.server);
    char *out;
    size_t len;
    expect_fault(disturbed(&m, &out, &len), 4, "Unreachable", NULL);
}

/* It accepts and never answers; --timeout is the bound. */
Test(middle, server_stalls)
{
    struct middle m;
    middle_begin(&m, ">out --timeout 1s");
    server_pause(&m.server);
    char *out;
    size_t len;
    struct run r = disturbed(&m, &out, &len);
    server_resume(&m.server);
    expect_fault(r, 6, "Timeout", NULL);
    cr_assert_lt(r.took, 20000);
}

/* The clock of a source stands still while the reader is the slow side. */
Test(middle, reader_stalls_longer_than_the_timeout)
{
    struct middle m;
    char *out;
    size_t len;
    middle_begin(&m, ">out --timeout 1s");
    nap(1500); /* what must not happen needs a while not to happen in */
    cr_assert(is_alive(m.merger));
    expect_exit(middle_end(&m, &out, &len), 0);
}

/* ---- plain lists: watched */

/* A merger in the middle of a list that is no dataset's (any more), then the command. */
static void expect_plain_fault(const char *change, const char *name)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("seq 100000 299999 | nwm-worker -U %s -q -n -i 0", s.url), 0);
    server_redis(&s, "RENAME %s plain", server_redis(&s, "HGET %s list", manifest_key("0")));
    struct tap *tap = tap_open("out");
    struct proc *p = spawn("nwm-merger -U %s --list plain --memory 2M >out", s.url);
    tap_wait(tap, p);
    expect_exit(run("redis-cli -e -s %s %s", s.socket, change), 0);
    size_t len;
    tap_drain(tap, &len);
    struct run r = wait_exit(p, RUN_DEADLINE);
    expect_fault(r, 1, name, NULL);
    cr_assert_null(strstr(r.err, "complete:"), "%s", r.err);
}

/* What was already read: nothing but the watch can tell. */
Test(middle, watched_list_changed_where_it_was_read) { expect_plain_fault("LSET plain 1 100000", "Changed"); }

Test(middle, watched_list_pushed_to) { expect_plain_fault("RPUSH plain 999999", "Changed"); }

Test(middle, watched_list_popped_from) { expect_plain_fault("RPOP plain", "Changed"); }

Test(middle, watched_list_deleted) { expect_plain_fault("DEL plain", "Vanished"); }

/* There and back again: the watch has seen it. */
Test(middle, watched_list_changed_and_changed_back)
{
    expect_plain_fault("EVAL \"redis.call('RPUSH','plain','x') redis.call('RPOP','plain')\" 0", "Changed");
}

static bool reads(void *s) { return calls_of(s, "lrange") > 100; }

/* The same with -o: there is no FILE. */
Test(middle, file_is_not_there)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("seq 100000 299999 | nwm-worker -U %s -q -n -i 0", s.url), 0);
    struct proc *p = spawn("nwm-merger -U %s --batch 3 -o result", s.url);
    cr_assert(wait_until(reads, &s, 20000));
    server_redis(&s, "DEL %s", server_redis(&s, "HGET %s list", manifest_key("0")));
    expect_fault(wait_exit(p, RUN_DEADLINE), 1, "Vanished", dataset("0"));
    cr_assert(!file_exists("result"));
}
