/* Where merged items go: whole or not there, and never blocking on a slow reader. Every test has a directory of its own. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "merger/sink.h"
#include "shared/mem.h"

static char directory[64];

static void setup(void)
{
    strcpy(directory, "/tmp/nwm-sink-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    cr_assert_eq(chdir(directory), 0);
    umask(022);
    signal(SIGPIPE, SIG_IGN);
}

static size_t files_here(void)
{
    size_t n = 0;
    DIR *d = opendir(directory);
    for (struct dirent *e; (e = readdir(d));) n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

static void teardown(void)
{
    DIR *d = opendir(directory);
    for (struct dirent *e; (e = readdir(d));)
        if (unlinkat(dirfd(d), e->d_name, 0) != 0) unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
    closedir(d);
    rmdir(directory);
}

TestSuite(sink, .init = setup, .fini = teardown, .timeout = 60);

static void put_file(const char *name, const char *content, mode_t mode)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    cr_assert_eq(fchmod(fd, mode), 0);
    close(fd);
}

static void expect_file(const char *name, const char *content, size_t len)
{
    struct stat st;
    int fd = open(name, O_RDONLY);
    cr_assert_geq(fd, 0, "%s: %s", name, strerror(errno));
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq((size_t)st.st_size, len, "%s has %zu bytes instead of %zu", name, (size_t)st.st_size, len);
    char *data = mem_alloc(len + 1);
    cr_assert_eq(read(fd, data, len), (ssize_t)len);
    cr_assert_eq(memcmp(data, content, len), 0);
    free(data);
    close(fd);
}

static mode_t mode_of(const char *name)
{
    struct stat st;
    cr_assert_eq(lstat(name, &st), 0, "%s: %s", name, strerror(errno));
    return st.st_mode & 07777;
}

static void fine(struct fault *f) { cr_assert_null(f, "%s", f ? fault_message(f) : ""); }

static struct sink *open_sink(const char *path)
{
    struct sink *s;
    fine(sink_open(path, 5000, &s));
    return s;
}

static void append_text(struct sink *s, const char *text) { sink_append(s, text, strlen(text)); }

static void pump_all(struct sink *s)
{
    bool blocked;
    fine(sink_pump(s, true, &blocked));
    cr_assert_not(blocked);
    cr_assert_eq(sink_pending(s), 0);
}

static void finish(struct sink *s)
{
    pump_all(s);
    fine(sink_finish(s));
    sink_close(s);
}

static void write_whole(const char *path, const char *text)
{
    struct sink *s = open_sink(path);
    append_text(s, text);
    cr_assert_eq(sink_bytes(s), strlen(text));
    cr_assert_str_eq(sink_name(s), path);
    finish(s);
}

/* Refused with Output and that text in the message. */
static void expect_refused(const char *path, const char *text)
{
    struct sink *s;
    struct fault *f = sink_open(path, 5000, &s);
    cr_assert_not_null(f, "%s was opened", path);
    cr_assert(fault_is(f, FAULT_OUTPUT));
    cr_assert_not_null(strstr(fault_message(f), text), "%s", fault_message(f));
    if (*path) cr_assert_not_null(strstr(fault_message(f), path), "%s", fault_message(f));
    fault_free(f);
    sink_close(s);
}

/* ---- files */

Test(sink, new_file_obeys_the_umask)
{
    umask(027);
    write_whole("new", "a\nb\n");
    expect_file("new", "a\nb\n", 4);
    cr_assert_eq(mode_of("new"), 0640);
    cr_assert_eq(umask(027), 027, "the umask was changed");
    cr_assert_eq(files_here(), 1);
}

Test(sink, existing_file_is_replaced_and_keeps_its_mode)
{
    put_file("old", "before", 0604);
    struct sink *s = open_sink("old");
    append_text(s, "after\n");
    pump_all(s);
    expect_file("old", "before", 6);
    fine(sink_finish(s));
    expect_file("old", "after\n", 6);
    sink_close(s);
    cr_assert_eq(mode_of("old"), 0604);
    cr_assert_eq(files_here(), 1);
}

Test(sink, existing_file_keeps_owner_and_special_bits)
{
    if (geteuid() != 0) cr_skip_test("only root can give files away");
    put_file("old", "before", 0600);
    cr_assert_eq(chown("old", 12345, 23456), 0);
    cr_assert_eq(chmod("old", 06750), 0);
    write_whole("old", "after\n");
    struct stat st;
    cr_assert_eq(stat("old", &st), 0);
    cr_assert_eq(st.st_uid, 12345);
    cr_assert_eq(st.st_gid, 23456);
    cr_assert_eq(st.st_mode & 07777, 06750);
}

/* A reader that has the old file open keeps it whole: replaced, not overwritten. */
Test(sink, replaces_by_rename)
{
    put_file("old", "before", 0644);
    int fd = open("old", O_RDONLY);
    write_whole("old", "after\n");
    char data[7] = "";
    cr_assert_eq(read(fd, data, 6), 6);
    cr_assert_str_eq(data, "before");
    close(fd);
}

Test(sink, empty_result_is_an_empty_file)
{
    put_file("old", "before", 0644);
    write_whole("old", "");
    expect_file("old", "", 0);
}

Test(sink, without_finish_nothing_happened)
{
    put_file("old", "before", 0644);
    for (int i = 0; i < 2; i++) {
        struct sink *s = open_sink(i ? "new" : "old");
        append_text(s, "after\n");
        pump_all(s);
        sink_close(s);
    }
    expect_file("old", "before", 6);
    cr_assert_eq(files_here(), 1);
    sink_close(NULL);
}

Test(sink, symlink_stays_and_its_target_is_replaced)
{
    cr_assert_eq(mkdir("sub", 0755), 0);
    put_file("sub/real", "before", 0640);
    cr_assert_eq(symlink("sub/real", "link"), 0);
    write_whole("link", "after\n");
    struct stat st;
    cr_assert_eq(lstat("link", &st), 0);
    cr_assert(S_ISLNK(st.st_mode));
    expect_file("sub/real", "after\n", 6);
    cr_assert_eq(mode_of("sub/real"), 0640);
    unlink("sub/real");
}

Test(sink, dangling_symlink_gets_its_target)
{
    cr_assert_eq(symlink("later", "link"), 0);
    write_whole("link", "x\n");
    struct stat st;
    cr_assert_eq(lstat("link", &st), 0);
    cr_assert(S_ISLNK(st.st_mode));
    expect_file("later", "x\n", 2);
}

Test(sink, the_longest_name_a_file_can_have)
{
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    write_whole(name, "x\n");
    expect_file(name, "x\n", 2);
}

Test(sink, what_cannot_be_written_is_refused_at_once)
{
    expect_refused("missing/file", "No such file or directory");
    cr_assert_eq(mkdir("dir", 0755), 0);
    expect_refused("dir", "Is a directory");
    expect_refused("dir/", "Is a directory");
    expect_refused("new/", "Is a directory");
    expect_refused("", "No such file or directory");
    put_file("file", "", 0644);
    expect_refused("file/below", "Not a directory");
    char name[300];
    memset(name, 'n', 299);
    name[299] = '\0';
    expect_refused(name, "File name too long");
    cr_assert_eq(files_here(), 2);
    rmdir("dir");
}

Test(sink, a_rename_that_fails_leaves_nothing_behind)
{
    struct sink *s = open_sink("name");
    append_text(s, "x\n");
    pump_all(s);
    cr_assert_eq(mkdir("name", 0755), 0);
    struct fault *f = sink_finish(s);
    cr_assert_not_null(f);
    cr_assert(fault_is(f, FAULT_OUTPUT));
    cr_assert_not_null(strstr(fault_message(f), "rename"), "%s", fault_message(f));
    fault_free(f);
    sink_close(s);
    cr_assert_eq(files_here(), 1);
}

/* As somebody who is not root: an unwritable file, an unwritable directory. */
Test(sink, permissions_are_looked_at_at_once)
{
    put_file("closed", "before", 0444);
    cr_assert_eq(mkdir("shut", 0555), 0);
    cr_assert_eq(chmod(directory, 0777), 0);
    bool is_root = geteuid() == 0;
    if (is_root) cr_assert_eq(setresuid(65534, 65534, 0), 0);
    expect_refused("closed", "Permission denied");
    expect_refused("shut/new", "Permission denied");
    if (is_root) cr_assert_eq(setresuid(0, 0, 0), 0);
    expect_file("closed", "before", 6);
}

Test(sink, devices_stay_devices)
{
    write_whole("/dev/null", "x\n");
    struct stat st;
    cr_assert_eq(stat("/dev/null", &st), 0);
    cr_assert(S_ISCHR(st.st_mode));
}

Test(sink, full_disk)
{
    struct sink *s = open_sink("/dev/full");
    append_text(s, "x\n");
    bool blocked;
    struct fault *f = sink_pump(s, true, &blocked);
    cr_assert_not_null(f);
    cr_assert(fault_is(f, FAULT_OUTPUT));
    cr_assert_eq(fault_exit(f), EXIT_OUTPUT);
    cr_assert_not_null(strstr(fault_message(f), "/dev/full"));
    cr_assert_not_null(strstr(fault_message(f), "No space left"));
    cr_assert_not(sink_reader_is_gone(s));
    fault_free(f);
    sink_close(s);
}

/* ---- pipes */

/* Standard output becomes a pipe; returns the end to read from. */
static int pipe_stdout(void)
{
    int ends[2];
    fflush(NULL);
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    close(ends[1]);
    return ends[0];
}

static size_t read_all(int fd, char *into, size_t most)
{
    size_t len = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (len < most && poll(&p, 1, 0) > 0) {
        ssize_t n = read(fd, into + len, most - len);
        cr_assert_geq(n, 0);
        if (n == 0) break;
        len += (size_t)n;
    }
    return len;
}

Test(sink, fifo_is_written_to)
{
    cr_assert_eq(mkfifo("fifo", 0600), 0);
    int in = open("fifo", O_RDONLY | O_NONBLOCK);
    write_whole("fifo", "through\n");
    char data[32];
    cr_assert_eq(read_all(in, data, sizeof data), 8);
    cr_assert_eq(memcmp(data, "through\n", 8), 0);
    close(in);
    struct stat st;
    cr_assert_eq(stat("fifo", &st), 0);
    cr_assert(S_ISFIFO(st.st_mode));
}

Test(sink, reader_that_went_away)
{
    int in = pipe_stdout();
    struct sink *s = open_sink(NULL);
    cr_assert_str_eq(sink_name(s), "standard output");
    close(in);
    append_text(s, "x\n");
    bool blocked;
    struct fault *f = sink_pump(s, true, &blocked);
    cr_assert_not_null(f);
    cr_assert(fault_is(f, FAULT_OUTPUT));
    cr_assert(sink_reader_is_gone(s));
    fault_free(f);
    sink_close(s);
}

Test(sink, reader_that_was_never_there)
{
    int in = pipe_stdout();
    close(in);
    struct sink *s = open_sink(NULL);
    append_text(s, "x\n");
    bool blocked;
    struct fault *f = sink_pump(s, true, &blocked);
    cr_assert_not_null(f);
    cr_assert(sink_reader_is_gone(s));
    fault_free(f);
    sink_close(s);
}

/* 1 MB through a pipe of 64 KB, read in pieces: blocked in between, and nothing lost. */
static void slow_reader(int in, struct sink *s, bool outside)
{
    enum { TOTAL = 1000 * 1000, PIECE = 70000 };
    char *data = mem_alloc(TOTAL), *got = mem_alloc(TOTAL + 1);
    for (size_t i = 0; i < TOTAL; i++) data[i] = (char)('a' + i / 7 % 23);
    size_t given = 0, taken = 0, blocks = 0, piece = outside ? TOTAL : PIECE;
    bool blocked = false;
    while (taken < TOTAL) {
        for (; given < TOTAL && sink_has_room(s); given += piece) {
            if (piece > TOTAL - given) piece = TOTAL - given;
            sink_append(s, data + given, piece);
        }
        int64_t pending = (int64_t)sink_pending(s);
        fine(sink_pump(s, given == TOTAL, &blocked));
        cr_assert_leq((int64_t)sink_pending(s), pending);
        blocks += blocked;
        if (blocked) {
            struct pollfd p = {.fd = sink_wait_fd(s), .events = POLLOUT};
            cr_assert_eq(poll(&p, 1, 0), 0, "blocked, and yet writable");
        }
        taken += read_all(in, got + taken, blocked ? 50000 : TOTAL + 1 - taken);
    }
    cr_assert_gt(blocks, 3);
    cr_assert_eq(taken, TOTAL);
    cr_assert_eq(memcmp(got, data, TOTAL), 0);
    cr_assert_eq(sink_bytes(s), TOTAL);
    fine(sink_finish(s));
    char end;
    cr_assert_eq(read(in, &end, 1), 0, "finishing standard output closes it");
    sink_close(s);
    close(in);
    free(data);
    free(got);
}

Test(sink, blocked_pipe_goes_on)
{
    int in = pipe_stdout();
    slow_reader(in, open_sink(NULL), false);
}

Test(sink, blocked_pipe_goes_on_within_an_outside_piece)
{
    int in = pipe_stdout();
    slow_reader(in, open_sink(NULL), true);
}

/* Our O_NONBLOCK must not reach others that write to the same pipe. */
Test(sink, the_shells_pipe_stays_blocking)
{
    int in = pipe_stdout(), shared = dup(STDOUT_FILENO);
    struct sink *s = open_sink(NULL);
    cr_assert_eq(fcntl(shared, F_GETFL) & O_NONBLOCK, 0);
    sink_close(s);
    close(shared);
    close(in);
}

Test(sink, closed_standard_output_is_refused)
{
    fflush(NULL);
    close(STDOUT_FILENO);
    struct sink *s;
    struct fault *f = sink_open(NULL, 5000, &s);
    cr_assert_not_null(f);
    cr_assert(fault_is(f, FAULT_OUTPUT));
    fault_free(f);
    sink_close(s);
}

/* ---- the buffer */

/* Small pieces and large ones in any order come out in order. */
Test(sink, pieces_of_all_sizes)
{
    static const size_t sizes[] = {1, 200000, 3, 0, 262144, 1, 1000000, 131071, 262143, 131072, 5};
    struct buf all = {0};
    struct sink *s = open_sink("out");
    char *piece[sizeof sizes / sizeof *sizes];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bool blocked;
        if (!sink_has_room(s)) fine(sink_pump(s, false, &blocked));
        cr_assert(sink_has_room(s));
        piece[i] = mem_alloc(sizes[i] + 1);
        memset(piece[i], (int)('a' + i), sizes[i]);
        size_t pending = sink_pending(s);
        sink_append(s, piece[i], sizes[i]);
        buf_append(&all, piece[i], sizes[i]);
        cr_assert_eq(sink_pending(s), pending + sizes[i]);
        if (sink_has_room(s)) memset(piece[i], '?', sizes[i]); /* copied, so ours again */
    }
    cr_assert_eq(sink_bytes(s), all.len);
    finish(s);
    expect_file("out", all.data, all.len);
    buf_free(&all);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) free(piece[i]);
}

Test(sink, pump_without_all_leaves_what_has_room)
{
    struct sink *s = open_sink("out");
    append_text(s, "x\n");
    bool blocked;
    fine(sink_pump(s, false, &blocked));
    cr_assert_eq(sink_pending(s), 2);
    cr_assert_geq(sink_memory(), 128 * 1024);
    finish(s);
}

/* ---- kept ones ---- */

static struct sink *open_kept(void)
{
    struct sink *s;
    struct fault *fault = sink_open_kept("out", &s);
    cr_assert_null(fault, "%s", fault ? fault_message(fault) : "");
    return s;
}

static struct sink *finished(void)
{
    struct sink *s = open_kept();
    bool blocked;
    cr_assert_null(sink_take_up(s, 0, NULL));
    sink_append(s, "1\n", 2);
    cr_assert_null(sink_pump(s, true, &blocked));
    cr_assert_null(sink_finish(s));
    cr_assert(sink_is_finished(s));
    return s;
}

/* Its temporary has become FILE, and keeps nobody away any more. */
Test(sink, kept_locks_again_once_it_is_finished)
{
    struct sink *s = finished(), *other;
    cr_assert_null(sink_lock_again(s));
    struct fault *fault = sink_open_kept("out", &other);
    cr_assert(fault && fault_is(fault, FAULT_BUSY));
    fault_free(fault);
    sink_close(other);
    sink_let_go(s);
    sink_close(s);
    expect_file("out", "1\n", 2);
    cr_assert_eq(files_here(), 1);
}

/* Who was faster keeps the temporary. */
Test(sink, kept_leaves_the_next_one_alone)
{
    struct sink *s = finished(), *next = open_kept();
    struct fault *fault = sink_lock_again(s);
    cr_assert(fault && fault_is(fault, FAULT_BUSY));
    fault_free(fault);
    cr_assert(sink_is_finished(s));
    sink_close(s);
    cr_assert_eq(access("out.nwm-part", F_OK), 0);
    sink_close(next);
    cr_assert_eq(files_here(), 1);
}
