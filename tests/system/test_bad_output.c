/* Outputs that fail, and outputs that are no plain files. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tests/system/scene.h"

static const char *in_dir(const char *name) { return fmt("%s/%s", test_dir(), name); }

static mode_t mode_of(const char *name)
{
    struct stat st;
    return lstat(in_dir(name), &st) == 0 ? st.st_mode : 0;
}

static void expect_content(const char *name, const char *content)
{
    char *found = read_file(name, NULL);
    cr_assert_not_null(found, "there is no %s", name);
    cr_assert_str_eq(found, content);
}

/* How many files of that directory nobody here knows: an output's temporary would be one. */
static int strangers(const char *directory)
{
    int n = 0;
    DIR *d = opendir(directory);
    for (struct dirent *e; (e = readdir(d));)
        n += strncmp(e->d_name, ".nwm", 4) == 0 || strstr(e->d_name, "tmp") != NULL;
    closedir(d);
    return n;
}

static void load_two(void)
{
    load("0", "-n", "1\n3\n");
    load("1", "-n", "2\n");
}

static const char *const MERGED = "1\n2\n3\n";

Test(bad_output, dev_full)
{
    load_two();
    struct run r = run("nwm-merger >/dev/full");
    expect_fault(r, 5, "Output", NULL);
    expect_err_has(r, "No space left");
    r = run("nwm-merger -o /dev/full");
    expect_fault(r, 5, "Output", NULL);
    expect_err_has(r, "/dev/full");
    cr_assert_null(strstr(r.err, "complete:"), "%s", r.err);
    load("2", "-n", numbers(0, 1, 200000));
    expect_fault(run("nwm-merger >/dev/full"), 5, "Output", NULL);
}

Test(bad_output, dev_null_is_still_a_device)
{
    load_two();
    expect_exit(run("nwm-merger -o /dev/null"), 0);
    struct stat st;
    cr_assert_eq(stat("/dev/null", &st), 0);
    cr_assert(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3), "/dev/null is no longer the null device");
    cr_assert_eq(strangers("/dev"), 0);
}

Test(bad_output, through_a_symlink)
{
    load_two();
    cr_assert_eq(mkdir(in_dir("sub"), 0700), 0);
    write_file("sub/target", "old\n");
    cr_assert_eq(symlink("sub/target", in_dir("link")), 0);
    expect_exit(run("nwm-merger -o link"), 0);
    cr_assert(S_ISLNK(mode_of("link")), "the link was replaced");
    expect_content("sub/target", MERGED);
    cr_assert_eq(strangers(in_dir("sub")), 0);
}

Test(bad_output, through_a_symlink_to_nothing)
{
    load_two();
    cr_assert_eq(mkdir(in_dir("sub"), 0700), 0);
    cr_assert_eq(symlink("sub/target", in_dir("link")), 0);
    expect_exit(run("nwm-merger -o link"), 0);
    cr_assert(S_ISLNK(mode_of("link")));
    expect_content("sub/target", MERGED);
    cr_assert_eq(symlink("nowhere/target", in_dir("lost")), 0);
    expect_fault(run("nwm-merger -o lost"), 5, "Output", NULL);
}

Test(bad_output, to_a_fifo)
{
    load_two();
    cr_assert_eq(mkfifo(in_dir("fifo"), 0600), 0);
    struct proc *reader = spawn("cat fifo");
    expect_exit(run("nwm-merger -o fifo"), 0);
    struct run r = wait_exit(reader, 10000);
    expect_exit(r, 0);
    expect_out(r, MERGED);
    cr_assert(S_ISFIFO(mode_of("fifo")));
}

Test(bad_output, closed_pipe)
{
    load("0", "-n", numbers(0, 2, 200000));
    load("1", "-n", numbers(1, 2, 200000));
    struct run r = run("{ nwm-merger; echo $? >code; } | head -1");
    expect_out(r, "0\n");
    expect_err(r, "");
    expect_content("code", "141\n");
}

/* The reader goes while the merger waits for it. */
Test(bad_output, closed_pipe_while_blocked)
{
    struct middle m;
    middle_begin(&m, "");
    tap_close(m.tap);
    struct run r = wait_exit(m.merger, 10000);
    expect_exit(r, 128 + SIGPIPE);
    expect_err(r, "");
}

Test(bad_output, closed_standard_output)
{
    load_two();
    expect_fault(run("nwm-merger >&-"), 5, "Output", NULL);
    expect_fault(run("nwm-merger >&- 2>err <&-; code=$?; cat err >&2; exit $code"), 5, "Output", NULL);
    expect_exit(run("nwm-merger -o result >&- 2>&- <&-"), 0);
    expect_content("result", MERGED);
    expect_fault(run("nwm-worker -n -i 5 <&-"), 4, "NoInput", dataset("5"));
}

Test(bad_output, directory_that_does_not_exist)
{
    load_two();
    struct run r = run("nwm-merger -o none/result");
    expect_fault(r, 5, "Output", NULL);
    expect_err_has(r, "none/result");
    cr_assert_null(strstr(r.err, "complete:"));
}

Test(bad_output, a_directory)
{
    load_two();
    cr_assert_eq(mkdir(in_dir("sub"), 0700), 0);
    expect_fault(run("nwm-merger -o sub"), 5, "Output", NULL);
    expect_fault(run("nwm-merger -o sub/"), 5, "Output", NULL);
    cr_assert(S_ISDIR(mode_of("sub")));
}

/* ---- the good cases of -o */

Test(output, new_file)
{
    load_two();
    struct run r = run("umask 027; nwm-merger -o result");
    expect_exit(r, 0);
    expect_out(r, "");
    expect_content("result", MERGED);
    cr_assert_eq(mode_of("result") & 07777, 0640, "mode %o", mode_of("result"));
    cr_assert_eq(strangers(test_dir()), 0);
}

Test(output, existing_file_keeps_its_mode)
{
    load_two();
    write_file("result", "old and longer than what will be\n");
    chmod(in_dir("result"), 0604);
    expect_exit(run("nwm-merger -o result"), 0);
    expect_content("result", MERGED);
    cr_assert_eq(mode_of("result") & 07777, 0604, "mode %o", mode_of("result"));
}

/* Replaced, not overwritten: who has the old file open still reads the old one. */
Test(output, existing_file_is_replaced_whole)
{
    load_two();
    write_file("result", "old\n");
    struct run r = run("exec 3<result; nwm-merger -o result && cat <&3");
    expect_exit(r, 0);
    expect_out(r, "old\n");
    expect_content("result", MERGED);
}

Test(output, a_fault_leaves_the_old_file)
{
    plant("0", "-n", fmt("%s1\n", numbers(10, 1, 1000)));
    write_file("result", "old\n");
    expect_fault(run("nwm-merger -o result"), 1, "Unsorted", dataset("0"));
    expect_content("result", "old\n");
    cr_assert_eq(strangers(test_dir()), 0);
}

/* A merge of many small batches, and that has read a hundred of them. */
struct slow {
    struct server server;
    struct proc *merger;
};

static bool has_read_some(void *slow) { return calls_of(&((struct slow *)slow)->server, "lrange") > 100; }

static void slow_begin(struct slow *s, const char *options)
{
    server_start(&s->server, "%s", "");
    expect_exit(run("seq 200000 | nwm-worker -n -q -i 0 -U %s", s->server.url), 0);
    s->merger = spawn("nwm-merger -U %s --batch 1 %s", s->server.url, options);
    cr_assert(wait_until(has_read_some, s, 20000));
    cr_assert(is_alive(s->merger), "it was over before it could be disturbed");
}

/* Whatever kills it: nothing of it is left. */
Test(output, a_killed_merger_leaves_nothing)
{
    struct slow s;
    write_file("result", "old\n");
    slow_begin(&s, "-o result");
    send_signal(s.merger, SIGKILL);
    expect_exit(wait_exit(s.merger, 10000), 128 + SIGKILL);
    expect_content("result", "old\n");
    cr_assert_eq(strangers(test_dir()), 0);
}

/* A signal ends it as a signal does, and says so to shells; the old file stays. */
Test(output, an_interrupted_merger_leaves_the_old_file)
{
    struct slow s;
    write_file("result", "old\n");
    slow_begin(&s, "-o result");
    send_signal(s.merger, SIGTERM);
    expect_exit(wait_exit(s.merger, 10000), 128 + SIGTERM);
    expect_content("result", "old\n");
    cr_assert_eq(strangers(test_dir()), 0);
}

Test(output, interrupted_while_nobody_reads)
{
    struct middle m;
    middle_begin(&m, "");
    send_signal(m.merger, SIGINT);
    expect_exit(wait_exit(m.merger, 10000), 128 + SIGINT);
}

/* What is refused is refused before anything is read. */
Test(output, refused_before_the_first_read)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("seq 10 | nwm-worker -U %s -n -i 0", s.url), 0);
    long before = calls_of(&s, "lrange");
    expect_exit(run("nwm-merger -U %s -o none/result", s.url), 5);
    cr_assert_eq(calls_of(&s, "lrange"), before);
}

Test(output, carries_items_only)
{
    load_two();
    struct run r = run("nwm-merger -v --progress --stats text --verify");
    expect_exit(r, 0);
    expect_out(r, MERGED);
}
