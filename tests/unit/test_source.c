/* Where items come from: framing, lifetimes, commands, signals, the arithmetic, sorting. Files are memfds: nothing is
 * left behind. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/options.h"
#include "shared/order.h"
#include "shared/stop.h"
#include "worker/source.h"

static struct options options;
static char path[64];

static void setup(void)
{
    stop_install();
    options = (struct options){.program = PROGRAM_WORKER, .separator = '\n', .order = order_new()};
    struct fault *f = order_compile(options.order);
    cr_assert(f == NULL);
}

static void teardown(void) { order_free(options.order); }

TestSuite(source, .init = setup, .fini = teardown, .timeout = 60);

/* A file with that content, as options.file. */
static void use_file(const char *data, size_t len)
{
    int fd = memfd_create("source", 0);
    cr_assert(fd >= 0);
    for (size_t at = 0; at < len;) {
        ssize_t n = write(fd, data + at, len - at);
        cr_assert(n > 0);
        at += (size_t)n;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    options.file = path;
}

static struct source *opened(void)
{
    struct source *s;
    struct fault *f = source_new(&options, &s);
    cr_assert(f == NULL, "%s", f ? fault_message(f) : "");
    f = source_open(s);
    cr_assert(f == NULL, "%s", f ? fault_message(f) : "");
    return s;
}

static bool next(struct source *s, struct bytes *item)
{
    bool end;
    struct fault *f = source_next(s, item, &end);
    cr_assert(f == NULL, "%s", f ? fault_message(f) : "");
    return !end;
}

/* All items, each followed by '|'. */
static char *all_items(void)
{
    struct source *s = opened();
    struct buf b = {0};
    struct bytes item;
    while (next(s, &item)) {
        buf_append(&b, item.data, item.len);
        buf_append(&b, "|", 1);
    }
    source_free(s);
    char *text = mem_dup(buf_text(&b), b.len);
    buf_free(&b);
    return text;
}

static void expect_items(const char *content, size_t len, const char *expected, size_t expected_len)
{
    use_file(content, len);
    char *items = all_items();
    cr_assert_arr_eq(items, expected, expected_len + 1, "got %s", items);
    free(items);
}
#define EXPECT(content, expected) expect_items(content, sizeof content - 1, expected, sizeof expected - 1)

/* The fault that ends the source, opened or read; the caller's. */
static struct fault *read_to_fault(void)
{
    struct source *s;
    struct bytes item;
    bool end = false;
    struct fault *f = source_new(&options, &s);
    if (f) return f;
    f = source_open(s);
    while (!f && !end) f = source_next(s, &item, &end);
    source_free(s);
    cr_assert(f != NULL, "no fault");
    return f;
}

static void expect_fault(enum fault_kind kind, const char *part)
{
    struct fault *f = read_to_fault();
    cr_assert(fault_is(f, kind), "%s: %s", fault_name(f), fault_message(f));
    cr_assert(strstr(fault_message(f), part) != NULL, "\"%s\" has no \"%s\"", fault_message(f), part);
    fault_free(f);
}

Test(source, lines)
{
    EXPECT("a\nb\n", "a|b|");
    EXPECT("a\nb", "a|b|");
    EXPECT("", "");
    EXPECT("\n", "|");
    EXPECT("\n\nx\n\n", "||x||");
    EXPECT("a\r\nb\r\n", "a\r|b\r|");
    EXPECT("a\0b\nc\0\n", "a\0b|c\0|");
}

Test(source, nul_separated)
{
    options.separator = '\0';
    EXPECT("a\nb\0c\0", "a\nb|c|");
    EXPECT("a\0\0b", "a||b|");
}

/* Item number n: mostly small, some larger than any block. Its bytes can be made again from n. */
static size_t length_of(unsigned n)
{
    unsigned mixed = n * 2654435761u;
    if (n % 97 == 96) return 300000 + mixed % 500000;
    if (n % 13 == 12) return mixed % 5000;
    return mixed >> 28;
}

static void make_item(unsigned n, struct buf *b)
{
    size_t len = length_of(n);
    char *at = buf_reserve(b, len);
    for (size_t i = 0; i < len; i++) at[i] = (char)('a' + (n + i) % 26);
    b->len += len;
}

static void expect_item(unsigned n, struct bytes item)
{
    struct buf b = {0};
    make_item(n, &b);
    cr_assert_eq(item.len, b.len, "item %u has %zu bytes, not %zu", n, item.len, b.len);
    cr_assert(b.len == 0 || memcmp(item.data, b.data, b.len) == 0, "item %u changed", n);
    buf_free(&b);
}

Test(source, an_item_lives_until_the_call_after_next)
{
    enum { ITEMS = 3000 };
    struct buf content = {0};
    for (unsigned n = 0; n < ITEMS; n++) {
        make_item(n, &content);
        buf_append(&content, "\n", 1);
    }
    use_file(content.data, content.len);
    struct source *s = opened();
    struct bytes item, before = {0};
    unsigned n = 0;
    for (; next(s, &item); n++) {
        if (n > 0) expect_item(n - 1, before);
        expect_item(n, item);
        before = item;
    }
    expect_item(n - 1, before); /* at the end too */
    cr_assert_eq(n, ITEMS);
    cr_assert_eq(source_bytes_read(s), content.len);
    cr_assert_eq(source_size(s), content.len);
    source_free(s);
    buf_free(&content);
}

Test(source, an_item_over_512_mb_is_refused_by_line)
{
    use_file("a\nb\n", 4);
    int fd = open(path, O_RDWR);
    cr_assert_eq(ftruncate(fd, ((off_t)513 << 20)), 0);
    close(fd);
    expect_fault(FAULT_BAD_ITEM, "line 3 of /proc/self/fd");
}

Test(source, no_input)
{
    options.file = (char *)"/nowhere/at/all";
    expect_fault(FAULT_NO_INPUT, "cannot open /nowhere/at/all: No such file or directory");
    options.file = (char *)"/";
    expect_fault(FAULT_NO_INPUT, "cannot read /: it is a directory");
    options.file = (char *)"/proc/self/mem"; /* reading at 0 is an I/O error */
    expect_fault(FAULT_NO_INPUT, "cannot read /proc/self/mem: Input/output error");
}

Test(source, names_and_places)
{
    use_file("a\n", 2);
    struct source *s = opened();
    cr_assert_str_eq(source_name(s), path);
    char *place = source_place(s, 18);
    cr_assert_str_eq(place, "line 18");
    free(place);
    source_free(s);
    options.separator = '\0';
    s = opened();
    place = source_place(s, 18);
    cr_assert_str_eq(place, "item 18");
    free(place);
    source_free(s);
}

Test(source, a_fifo_is_waited_for)
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    cr_assert_eq(write(fds[1], "x\ny", 3), 3);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
    options.file = path;
    struct source *s = opened();
    struct bytes item;
    cr_assert(next(s, &item));
    close(fds[1]);
    cr_assert(next(s, &item));
    cr_assert_eq(item.len, 1);
    cr_assert_not(next(s, &item));
    source_free(s);
}

static void use_silent_pipe(void)
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
    options.file = path;
}

Test(source, a_signal_ends_a_wait)
{
    use_silent_pipe();
    pid_t parent = getpid();
    if (fork() == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        kill(parent, SIGTERM);
        _exit(0);
    }
    expect_fault(FAULT_INTERRUPTED, "15");
}

static struct fault *third_time(void *arg)
{
    int *beats = arg;
    return ++*beats == 3 ? fault_new(FAULT_LEASE_LOST, "enough") : NULL;
}

Test(source, the_pulse_goes_on_in_a_wait_and_can_end_it)
{
    use_silent_pipe();
    struct source *s = opened();
    int beats = 0;
    source_set_pulse(s, (struct pulse){third_time, &beats});
    struct bytes item;
    bool end;
    struct fault *f = source_next(s, &item, &end);
    cr_assert(f && fault_is(f, FAULT_LEASE_LOST));
    fault_free(f);
    source_free(s);
}

static char *words[4] = {(char *)"/bin/sh", (char *)"-c"};

static void use_command(const char *script)
{
    words[2] = (char *)script;
    options.command = words;
}

Test(source, a_command)
{
    use_command("echo a; echo b");
    char *items = all_items();
    cr_assert_str_eq(items, "a|b|");
    free(items);
}

Test(source, a_command_that_fails_half_way)
{
    use_command("echo a; echo b; exit 3");
    expect_fault(FAULT_NO_INPUT, "' exited with 3 after 2 items");
    use_command("echo a; kill -9 $$");
    expect_fault(FAULT_NO_INPUT, "was ended by signal 9 (Killed) after 1 items");
    use_command("echo a; exec >&-; sleep 0.1; exit 4"); /* its output ends before it does */
    expect_fault(FAULT_NO_INPUT, "exited with 4 after 1 items");
    options.sort = true;
    use_command("echo a; exit 5");
    expect_fault(FAULT_NO_INPUT, "exited with 5 after 1 items");
}

Test(source, a_command_that_cannot_be_run)
{
    static char *none[] = {(char *)"/nowhere/gen", (char *)"3", NULL};
    options.command = none;
    expect_fault(FAULT_NO_INPUT, "cannot run command '/nowhere/gen 3': No such file or directory");
}

static pid_t pid_of(struct bytes item)
{
    char text[16] = "";
    memcpy(text, item.data, item.len < 15 ? item.len : 15);
    return (pid_t)atoi(text);
}

static bool is_gone(pid_t pid)
{
    for (int i = 0; i < 500; i++) {
        char name[32], state = 'Z';
        snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
        FILE *file = fopen(name, "r");
        if (!file) return true;
        if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 'Z';
        fclose(file);
        if (state == 'Z') return true; /* an orphan's new parent may take its time */
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

Test(source, a_command_and_its_children_do_not_outlive_the_source)
{
    use_command("sleep 1000 & echo $!; echo $$; wait");
    struct source *s = opened();
    struct bytes item;
    cr_assert(next(s, &item));
    pid_t child = pid_of(item);
    cr_assert(next(s, &item));
    pid_t shell = pid_of(item);
    cr_assert(child > 1 && shell > 1);
    cr_assert_eq(kill(child, 0), 0);
    source_free(s);
    cr_assert(is_gone(shell));
    cr_assert(is_gone(child));
}

Test(source, one_that_does_not_listen_is_killed)
{
    use_command("trap '' TERM; echo $$; while :; do sleep 0.1; done");
    struct source *s = opened();
    struct bytes item;
    cr_assert(next(s, &item));
    pid_t shell = pid_of(item);
    source_free(s);
    cr_assert(is_gone(shell));
}

static void expect_example(const char *id, const char *expected)
{
    options.id = (char *)id;
    char *items = all_items();
    cr_assert_str_eq(items, expected, "id %s: %s", id, items);
    free(items);
}

Test(source, the_example)
{
    options.example = true;
    expect_example("0", "4|5|6|7|");
    expect_example("1", "3|5|7|9|11|13|15|17|");
    expect_example("2", "2|5|8|11|14|17|20|23|26|29|32|35|");
    expect_example("5", "-1|5|11|17|23|29|35|41|47|53|59|65|71|77|83|89|95|101|107|113|119|125|131|137|");
}

Test(source, example_ids)
{
    options.example = true;
    const char *bad[] = {"x", "-1", "", "1x", "1000000001", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        options.id = (char *)bad[i];
        expect_fault(FAULT_USAGE, "from 0 to 1000000000");
    }
    options.id = (char *)"1000000000";
    struct source *s = opened();
    struct bytes item;
    cr_assert(next(s, &item));
    cr_assert_eq(item.len, strlen("-999999996"));
    source_free(s);
}

static void use_order(const char *key)
{
    order_free(options.order);
    options.order = order_new();
    struct fault *f = order_key(options.order, key);
    cr_assert(f == NULL);
    f = order_compile(options.order);
    cr_assert(f == NULL);
}

Test(source, sorting_is_stable)
{
    options.sort = true;
    use_order("1,1n");
    EXPECT("2 a\n1 b\n2 c\n10 d\n1 e\n", "1 b|1 e|2 a|2 c|10 d|");
    EXPECT("", "");
    EXPECT("1 x", "1 x|");
}

/* Many items with few keys: each key's items must come in the order of their numbers. */
Test(source, sorting_many)
{
    enum { ITEMS = 50000, KEYS = 37 };
    struct buf content = {0};
    for (unsigned n = 0; n < ITEMS; n++) buf_printf(&content, "%u %u\n", n * 2654435761u % KEYS, n);
    use_file(content.data, content.len);
    options.sort = true;
    use_order("1,1n");
    struct source *s = opened();
    struct bytes item;
    unsigned count = 0, last_key = 0, last_number = 0, key, number;
    for (; next(s, &item); count++) {
        char text[32] = "";
        memcpy(text, item.data, item.len);
        cr_assert_eq(sscanf(text, "%u %u", &key, &number), 2);
        cr_assert(count == 0 || key > last_key || (key == last_key && number > last_number), "%s after %u %u", text,
                  last_key, last_number);
        last_key = key;
        last_number = number;
    }
    cr_assert_eq(count, ITEMS);
    source_free(s);
    buf_free(&content);
}
