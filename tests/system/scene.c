#include "tests/system/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/harness_server.h"

/* ---- data */

char *numbers(long first, long step, size_t n)
{
    char *text = harness_keep(n * 24 + 1), *end = text;
    *end = '\0';
    for (size_t i = 0; i < n; i++) end += sprintf(end, "%ld\n", first + step * (long)i);
    return text;
}

size_t count_lines(const char *text, size_t len)
{
    size_t n = 0;
    for (const char *p = text; (p = memchr(p, '\n', len - (size_t)(p - text))) != NULL; p++) n++;
    return n;
}

void expect_same_files(const char *a, const char *b) { expect_exit(run("cmp %s %s", a, b), 0); }

/* ---- datasets */

const char *dataset(const char *id) { return fmt("%s:%s", test_job(), id); }

struct run load(const char *id, const char *options, const char *content)
{
    const char *file = fmt("data.%s", id);
    write_file(file, content);
    struct run r = run("nwm-worker %s -i %s %s", options, id, file);
    expect_exit(r, 0);
    return r;
}

void plant(const char *id, const char *order, const char *items)
{
    const char *list = fmt("nwm:{%s}:1.0123456789ab", dataset(id)), *first = "", *last = "";
    size_t count = 0, bytes = 0, longest = 0;
    redis("DEL %s", list);
    for (const char *p = items, *end; *p; p = end + 1, count++) {
        end = strchr(p, '\n');
        size_t len = (size_t)(end - p);
        last = fmt("%.*s", (int)len, p);
        if (count == 0) first = last;
        if (len > longest) longest = len;
        bytes += len;
        redis("RPUSH %s %b", list, p, len);
    }
    redis("HSET %s contract 1 state ready run 1 list %s token by.hand:1:0123456789ab lease 15000 order %s items %d "
          "bytes %d max_item %d first %s last %s source none started 1700000000 finished 1700000001",
          manifest_key(id), list, order, (int)count, (int)bytes, (int)longest, first, last);
    redis("SADD nwm:jobs %s", test_job());
    redis("SADD nwm:%s:datasets %s", test_job(), id);
}

void plant_many(struct server *s, int n, int each)
{
    static const char script[] =
        "local job, n, each = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])\n"
        "redis.call('SADD', 'nwm:jobs', job)\n"
        "for i = 0, n - 1 do\n"
        "  local key = 'nwm:{' .. job .. ':' .. i .. '}'\n"
        "  local list, items = key .. ':1.0123456789ab', {}\n"
        "  for j = 0, each - 1 do items[j + 1] = string.format('%012d', i + n * j) end\n"
        "  redis.call('RPUSH', list, unpack(items))\n"
        "  redis.call('HSET', key, 'contract', 1, 'state', 'ready', 'run', 1, 'list', list, 'token', "
        "'by.hand:1:0123456789ab',\n"
        "    'lease', 15000, 'order', '-n', 'items', each, 'bytes', 12 * each, 'max_item', 12, 'first', items[1],\n"
        "    'last', items[each], 'source', 'none', 'started', 1700000000, 'finished', 1700000001)\n"
        "  redis.call('SADD', 'nwm:' .. job .. ':datasets', i)\n"
        "end\n"
        "return 'done'";
    cr_assert_str_eq(server_redis(s, "EVAL %s 0 %s %d %d", script, test_job(), n, each), "done");
}

/* ---- a reader that does not read */

struct tap {
    int fd;
};

struct tap *tap_open(const char *name)
{
    struct tap *t = harness_keep(sizeof *t);
    const char *path = fmt("%s/%s", test_dir(), name);
    if (mkfifo(path, 0600) != 0 || (t->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) < 0)
        cr_assert_fail("%s: %s", path, strerror(errno));
    return t;
}

void tap_wait(struct tap *t, struct proc *writer)
{
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    if (poll(&p, 1, RUN_DEADLINE) == 1 && (p.revents & POLLIN)) return;
    struct run r = wait_exit(writer, 0);
    cr_assert_fail("%s", run_describe(&r, "something to be written to the FIFO"));
}

char *tap_drain(struct tap *t, size_t *len)
{
    size_t capacity = 16 << 20;
    char *all = harness_keep(capacity);
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    *len = 0;
    for (;;) {
        if (poll(&p, 1, RUN_DEADLINE) != 1) cr_assert_fail("nothing comes from the FIFO, and no end");
        ssize_t n = read(t->fd, all + *len, capacity - 1 - *len);
        if (n < 0 && errno == EAGAIN) continue;
        if (n <= 0) break;
        *len += (size_t)n;
    }
    all[*len] = '\0';
    return all;
}

void tap_close(struct tap *t) { close(t->fd); }

/* ---- in the middle */

void middle_begin(struct middle *m, const char *options) { middle_begin_with(m, "", options); }

void middle_begin_with(struct middle *m, const char *config, const char *options)
{
    server_start(&m->server, "%s", config);
    struct run r = run("for i in 0 1 2 3; do seq -f %%012.0f $i 4 %d | nwm-worker -q -n -U %s -i $i || exit; done",
                       4 * MIDDLE_ITEMS - 1, m->server.url);
    expect_exit(r, 0);
    for (int i = 0; i < 4; i++)
        m->list[i] = fmt("%s", server_redis(&m->server, "HGET %s list", manifest_key(fmt("%d", i))));
    m->tap = tap_open("out");
    m->merger = spawn("nwm-merger -U %s --memory 2M %s", m->server.url, *options ? options : ">out");
    tap_wait(m->tap, m->merger);
}

struct run middle_end(struct middle *m, char **out, size_t *len)
{
    *out = tap_drain(m->tap, len);
    return wait_exit(m->merger, RUN_DEADLINE);
}

/* ---- watching */

bool merger_is_there(void *unused)
{
    (void)unused;
    return strstr(redis("CLIENT LIST"), fmt(" name=nwm-merger:%s ", test_job())) != NULL;
}

bool merger_listens(void *unused)
{
    (void)unused;
    return strcmp(redis("PUBSUB NUMSUB nwm:%s:events", test_job()), fmt("nwm:%s:events\n1", test_job())) == 0;
}

long calls_of(struct server *s, const char *command)
{
    const char *found = strstr(server_redis(s, "INFO commandstats"), fmt("cmdstat_%s:calls=", command));
    return found ? strtol(strchr(found, '=') + 1, NULL, 10) : 0;
}

double json_number(const char *json, const char *after, const char *name)
{
    const char *from = strstr(json, after);
    const char *found = from ? strstr(from, fmt("\"%s\":", name)) : NULL;
    return found ? strtod(strchr(found + 1, ':') + 1, NULL) : -1;
}

struct run run_broken(const char *plan, const char *options)
{
    return run(
        "LD_PRELOAD=%s/tests/system/shim_calls.so ASAN_OPTIONS=verify_asan_link_order=0 NWM_SHIM='%s' nwm-merger %s",
        test_build(), plan, options);
}
