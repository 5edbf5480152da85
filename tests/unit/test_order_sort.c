/*
 * Is an order what GNU sort makes of the same options? Random options and random items, sorted by order_compare() and
 * by sort(1); every byte must agree, with -u too, and where sort refuses the options nwmerge must refuse them.
 *
 * NWM_SEED repeats a run, NWM_CASES makes it longer (default 700 each with and without -z: about 5 seconds).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/mem.h"
#include "shared/order.h"
#include "tests/unit/order_random.h"

enum { MOST_ITEMS = 200 };

struct items {
    struct buf bytes;
    struct bytes list[MOST_ITEMS];
    unsigned count;
};

struct one_case {
    struct random random;
    struct random_options options;
    bool zero;
    struct order *order;
    struct items items;
    const char *what;
};

/* ---------------------------------------------------------------- sort(1) */

static int memory_file(const struct buf *content)
{
    int fd = memfd_create("items", MFD_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, content->data, content->len), (ssize_t)content->len);
    cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void read_all(int fd, struct buf *out)
{
    cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
    ssize_t n;
    while ((n = read(fd, buf_reserve(out, 65536), 65536)) > 0) out->len += (size_t)n;
    cr_assert_eq(n, 0);
    close(fd);
}

/* Its exit status; out: what it printed. argv[0] is found in PATH. */
static int run(char *const argv[], const struct buf *in, struct buf *out)
{
    const struct buf nothing = {.data = (char *)"", .len = 0};
    int input = memory_file(in), output = memory_file(&nothing);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    pid_t pid;
    cr_assert_eq(posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    int status;
    while (waitpid(pid, &status, 0) < 0) cr_assert_eq(errno, EINTR);
    close(input);
    read_all(output, out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* sort -s, with the case's options; unique: with -u. */
static int run_sort(struct one_case *c, bool unique, struct buf *out)
{
    char *argv[16] = {"sort", "-s", "--parallel=1", "-S1M"};
    int n = 4;
    for (int i = 0; i < c->options.argc; i++) argv[n++] = c->options.argv[i];
    if (c->zero) argv[n++] = "-z";
    if (unique) argv[n++] = "-u";
    return run(argv, &c->items.bytes, out);
}

/* ---------------------------------------------------------------- ours */

static void make_items(struct one_case *c)
{
    size_t starts[MOST_ITEMS + 1];
    c->items.bytes.len = 0;
    c->items.count = 1 + random_below(&c->random, MOST_ITEMS);
    char separator = c->zero ? '\0' : '\n';
    bool prefixed = random_chance(&c->random, 15);
    for (unsigned i = 0; i < c->items.count; i++) {
        starts[i] = c->items.bytes.len;
        if (prefixed) buf_append(&c->items.bytes, "2026-01-01T00", random_chance(&c->random, 95) ? 13 : 11);
        random_item(&c->random, &c->options, c->zero, &c->items.bytes);
        buf_append(&c->items.bytes, &separator, 1);
    }
    starts[c->items.count] = c->items.bytes.len;
    for (unsigned i = 0; i < c->items.count; i++)
        c->items.list[i] = (struct bytes){c->items.bytes.data + starts[i], starts[i + 1] - starts[i] - 1};
}

static int compare(const struct order *o, struct bytes a, struct bytes b)
{
    return order_compare(o, a.data, a.len, b.data, b.len);
}

/* Stable, by insertion behind all that is not greater: simple enough to be right. */
static void sort_items(const struct order *o, struct bytes *sorted, const struct items *items)
{
    for (unsigned i = 0; i < items->count; i++) {
        unsigned from = 0, to = i;
        while (from < to) {
            unsigned middle = (from + to) / 2;
            if (compare(o, items->list[i], sorted[middle]) < 0)
                to = middle;
            else
                from = middle + 1;
        }
        memmove(&sorted[from + 1], &sorted[from], (i - from) * sizeof *sorted);
        sorted[from] = items->list[i];
    }
}

static void join(const struct one_case *c, const struct bytes *sorted, bool unique, struct buf *out)
{
    for (unsigned i = 0; i < c->items.count; i++) {
        if (unique && i > 0 && compare(c->order, sorted[i - 1], sorted[i]) == 0) continue;
        buf_append(out, sorted[i].data, sorted[i].len + 1);
    }
}

/* ---------------------------------------------------------------- checks */

static void expect_same(const struct one_case *c, struct buf *theirs, struct buf *ours, const char *how)
{
    size_t n = 0, line = 0;
    while (n < theirs->len && n < ours->len && theirs->data[n] == ours->data[n]) n++;
    if (n == theirs->len && n == ours->len) return;
    for (line = n; line > 0 && ours->data[line - 1] != (c->zero ? '\0' : '\n'); line--)
        ;
    char *expected = mem_quote(theirs->data + line, theirs->len - line),
         *got = mem_quote(ours->data + line, ours->len - line);
    cr_assert_fail("%s, options \"%s\" (%s): from byte %zu on\n  sort has %s\n  we have  %s", c->what,
                   random_options_text(&c->options), how, line, expected, got);
}

/* With NaNs sort 9.1 is neither stable nor the same twice: it compares bytes of them that nothing has set. So its output
 * need not be ours, but where no further key hangs on such a comparison it must be in order for us: it is not refused. */
static void expect_in_order(const struct one_case *c, const struct buf *theirs)
{
    if (strstr(order_text(c->order), " -k") != NULL) return;
    struct bytes before = {NULL, 0};
    for (size_t at = 0; at < theirs->len;) {
        const char *end = memchr(theirs->data + at, c->zero ? '\0' : '\n', theirs->len - at);
        struct bytes item = {theirs->data + at, (size_t)(end - theirs->data) - at};
        cr_assert(before.data == NULL || compare(c->order, before, item) <= 0, "%s, options \"%s\": byte %zu", c->what,
                  random_options_text(&c->options), at);
        before = item;
        at += item.len + 1;
    }
}

static bool is_float_with_nan(const struct one_case *c)
{
    return !c->options.no_nan && strchr(random_options_text(&c->options), 'g') != NULL;
}

static int sign(int n) { return (n > 0) - (n < 0); }

static void check_norms(const struct one_case *c, struct bytes a, struct bytes b, size_t skip)
{
    uint64_t x = order_norm(c->order, a.data, a.len, skip), y = order_norm(c->order, b.data, b.len, skip);
    int truth = sign(compare(c->order, a, b));
    bool lower_alone = (x ^ y) == NORM_INEXACT;
    int claim = x < y ? -1 : x > y ? 1 : 0;
    if (!lower_alone && (claim == truth || (claim == 0 && !norm_is_exact(x)))) return;
    char *p = mem_quote(a.data, a.len), *q = mem_quote(b.data, b.len);
    cr_assert_fail("%s, options \"%s\", skip %zu: %s has norm %llx and %s %llx, but they compare %d", c->what,
                   random_options_text(&c->options), skip, p, (unsigned long long)x, q, (unsigned long long)y, truth);
}

static size_t shared_by_all(const struct one_case *c)
{
    size_t least = SIZE_MAX;
    const struct bytes *list = c->items.list;
    for (unsigned i = 0; i < c->items.count; i++) {
        size_t n = order_shared(c->order, list[0].data, list[0].len, list[i].data, list[i].len);
        least = n < least ? n : least;
    }
    return least;
}

static void check_all_norms(struct one_case *c, const struct bytes *sorted)
{
    size_t skip = order_can_skip(c->order) ? shared_by_all(c) : 0;
    for (unsigned i = 0; i < c->items.count; i++) {
        const struct bytes *other = &sorted[random_below(&c->random, c->items.count)];
        check_norms(c, sorted[i], *other, 0);
        check_norms(c, sorted[i], *other, skip);
        if (i > 0) {
            check_norms(c, sorted[i - 1], sorted[i], 0);
            check_norms(c, sorted[i - 1], sorted[i], skip);
        }
    }
}

/* The canonical text read back is itself, and the command made of it sorts the same way. */
static void check_texts(struct one_case *c, struct buf *ours)
{
    struct order *again = NULL;
    struct fault *f = order_parse(order_text(c->order), &again);
    cr_assert_null(f, "%s: options \"%s\": the text %s is refused", c->what, random_options_text(&c->options),
                   order_text(c->order));
    cr_assert_str_eq(order_text(again), order_text(c->order));
    order_free(again);
    if (random_chance(&c->random, 90) || is_float_with_nan(c) || strstr(order_sort_command(c->order), "$'") != NULL)
        return;
    char *command = mem_printf("%s%s", order_sort_command(c->order), c->zero ? " -z" : "");
    char *argv[] = {"sh", "-c", command, NULL};
    struct buf theirs = {0};
    cr_assert_eq(run(argv, &c->items.bytes, &theirs), 0, "%s fails", command);
    expect_same(c, &theirs, ours, command);
    buf_free(&theirs);
    free(command);
}

static void check_sorted(struct one_case *c)
{
    struct bytes sorted[MOST_ITEMS];
    sort_items(c->order, sorted, &c->items);
    struct buf theirs = {0}, ours = {0};
    cr_assert_eq(run_sort(c, false, &theirs), 0, "%s: sort refuses \"%s\", we accept it", c->what,
                 random_options_text(&c->options));
    join(c, sorted, false, &ours);
    if (is_float_with_nan(c))
        expect_in_order(c, &theirs);
    else
        expect_same(c, &theirs, &ours, "plain");
    check_all_norms(c, sorted);
    check_texts(c, &ours);
    if (!is_float_with_nan(c) && random_chance(&c->random, 30)) {
        theirs.len = ours.len = 0;
        cr_assert_eq(run_sort(c, true, &theirs), 0);
        join(c, sorted, true, &ours);
        expect_same(c, &theirs, &ours, "-u");
    }
    buf_free(&theirs);
    buf_free(&ours);
}

/* Were the options accepted? */
static bool check_case(struct one_case *c)
{
    random_options_make(&c->random, &c->options);
    make_items(c);
    struct fault *f = random_options_order(&c->options, &c->order);
    bool accepted = f == NULL;
    if (accepted) {
        check_sorted(c);
        order_free(c->order);
    } else {
        struct buf nothing = {0};
        cr_assert_neq(run_sort(c, false, &nothing), 0, "%s: we refuse \"%s\" (%s), sort does not", c->what,
                      random_options_text(&c->options), fault_message(f));
        buf_free(&nothing);
        fault_free(f);
    }
    return accepted;
}

static void check_cases(const char *what, bool zero)
{
    setenv("LC_ALL", "C", 1);
    uint64_t seed = random_seed(what);
    unsigned cases = random_cases(700), refused = 0;
    for (unsigned i = 0; i < cases; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s, NWM_SEED=%llu, case %u", what, (unsigned long long)seed, i);
        struct one_case c = {.random = {seed * 1000003 + 2 * i + zero}, .zero = zero, .what = name};
        refused += !check_case(&c);
        buf_free(&c.items.bytes);
    }
    fprintf(stderr, "%s: %u cases, %u of them refused by both\n", what, cases, refused);
    cr_assert_lt(refused, cases / 2 + 1);
}

Test(order_sort, lines) { check_cases("lines", false); }

Test(order_sort, zero) { check_cases("-z", true); }
