/* --resume: merges that end early, and the same command after them. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/scene.h"

/* Of four datasets: some 1.5 MB of output, which is six writes without checkpoints and twenty-four with one every 64 KB. */
enum { ITEMS = 30000, DATASETS = 4, PLANTED = 6000 };

static const char *in_dir(const char *name) { return fmt("%s/%s", test_dir(), name); }

/* Equal keys within a dataset and across them, so that -u has something to leave out. */
static void load_job(void)
{
    for (int i = 0; i < DATASETS; i++) {
        char *text = malloc(ITEMS * 16), *at = text;
        for (int n = 0; n < ITEMS; n++) at += sprintf(at, "%012d\n", (n * 3 + i) / 4);
        *at = '\0';
        load(fmt("%d", i), "-n", text);
        free(text);
    }
}

/* What the undisturbed merge makes of it, in the file "whole". */
static void merge_whole(const char *options) { expect_exit(run("nwm-merger %s -o whole", options), 0); }

/* A command of the merger with --resume -o out, one of whose calls is broken. */
static struct run broken(const char *plan, const char *options)
{
    return run_broken(plan, fmt("--resume --checkpoint-every 64K -o out %s", options));
}

static struct run resume(const char *options) { return run("nwm-merger --resume -o out %s", options); }

static void expect_no_traces(void)
{
    cr_assert_not(file_exists("out.nwm-part"), "the temporary is still there");
    cr_assert_not(file_exists("out.nwm-checkpoint"), "the checkpoint is still there");
    cr_assert_not(file_exists("out.nwm-checkpoint-new"), "the checkpoint's temporary is still there");
}

static void expect_finished(const char *options)
{
    struct run r = resume(options);
    expect_exit(r, 0);
    expect_err_has(r, strstr(options, "--limit") ? "stopped at --limit" : "complete: ");
    expect_same_files("out", "whole");
    expect_no_traces();
}

/* Leaves a merge in the middle: killed while it wrote. */
static void kill_in_the_middle(const char *options)
{
    expect_exit(broken("write 24 kill", options), 128 + SIGKILL);
    cr_assert(file_exists("out.nwm-checkpoint"));
    cr_assert_not(file_exists("out"));
}

Test(resume, undisturbed)
{
    load_job();
    merge_whole("");
    expect_finished("");
    expect_finished(""); /* and once more, over the file that is there */
}

/* Every point between the system calls that matter, each with the options that shape the output. */
static void kill_everywhere(const char *options, bool both)
{
    static const char *const calls[] = {"write", "fsync", "rename", "unlink"};
    static const int places[] = {1, 3, 8, 25};
    load_job();
    merge_whole(options);
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
        for (size_t p = 0; p < sizeof places / sizeof *places; p++)
            for (int after = 0; after <= both; after++) {
                char *plan = fmt("%s %d %s", calls[c], places[p], after ? "after" : "kill");
                struct run r = broken(plan, options);
                if (r.exit == 0) continue; /* there were not so many such calls */
                expect_exit(r, 128 + SIGKILL);
                expect_finished(options);
                cr_assert_eq(unlink(in_dir("out")), 0);
            }
}

Test(resume, killed_everywhere) { kill_everywhere("", true); }
Test(resume, killed_everywhere_unique) { kill_everywhere("-u", false); }
Test(resume, killed_everywhere_tagged) { kill_everywhere("--tag", false); }
Test(resume, killed_everywhere_zero) { kill_everywhere("-z --batch 333", false); }
Test(resume, killed_everywhere_limited) { kill_everywhere("--limit 83456", false); }
Test(resume, killed_everywhere_limited_unique) { kill_everywhere("-u --limit 15000", false); }

/* Each process gets on by a few checkpoints, and is killed then. */
Test(resume, killed_again_and_again)
{
    load_job();
    merge_whole("--tag");
    int kills = 0;
    for (struct run r; (r = broken("rename 3 kill", "--tag")).exit != 0; kills++) {
        expect_exit(r, 128 + SIGKILL);
        cr_assert_lt(kills, 100, "it does not get on");
    }
    cr_assert_gt(kills, 5);
    expect_same_files("out", "whole");
    expect_no_traces();
}

Test(resume, goes_on_where_it_was)
{
    load_job();
    merge_whole("");
    kill_in_the_middle("");
    struct run r = resume("--stats json");
    expect_exit(r, 0);
    expect_err_has(r, "goes on behind item ");
    expect_err_has(r, fmt("complete: %d items from %d datasets of job %s, as found, order -n, digest ",
                          ITEMS * DATASETS, DATASETS, test_job()));
    cr_assert_eq(json_number(r.err, "", "items"), ITEMS * DATASETS);
    expect_same_files("out", "whole");
}

/* ---- faults of the output ---------------------------------------------------------------------------------------- */

Test(resume, disk_full)
{
    load_job();
    merge_whole("");
    /* 512 bytes a block */
    struct run r = run("(ulimit -f 1500; nwm-merger --resume --checkpoint-every 64K -o out)");
    expect_fault(r, 5, "Output", NULL);
    expect_err_has(r, "; the same command continues");
    r = resume("");
    expect_exit(r, 0);
    expect_err_has(r, "goes on behind item ");
    expect_same_files("out", "whole");
    expect_no_traces();
}

static void fail_and_go_on(const char *plan)
{
    load_job();
    merge_whole("");
    struct run r = broken(plan, "");
    expect_fault(r, 5, "Output", NULL);
    expect_err_has(r, "Input/output error");
    expect_finished("");
}

Test(resume, fsync_fails) { fail_and_go_on("fsync 8 fail"); }
Test(resume, rename_fails) { fail_and_go_on("rename 5 fail"); }
Test(resume, write_fails) { fail_and_go_on("write 20 fail"); }
Test(resume, first_fsync_fails) { fail_and_go_on("fsync 1 fail"); }

/* ---- interrupts and rivals --------------------------------------------------------------------------------------- */

/* A merger in the middle that cannot get on: its server is stopped. */
struct halted {
    struct server server;
    struct proc *merger;
};

static bool has_checkpoint(void *unused)
{
    (void)unused;
    return file_exists("out.nwm-checkpoint");
}

static void halt(struct halted *h)
{
    server_start(&h->server, "%s", "");
    plant_many(&h->server, DATASETS, PLANTED);
    merge_whole(fmt("-U %s", h->server.url));
    h->merger = spawn("nwm-merger -U %s --resume --checkpoint-every 1K --batch 20 -o out", h->server.url);
    cr_assert(wait_until(has_checkpoint, NULL, 10000));
    server_pause(&h->server);
    cr_assert(is_alive(h->merger), "it was too fast");
}

static void interrupted_by(int signal)
{
    struct halted h;
    halt(&h);
    int64_t begin = now_ms();
    send_signal(h.merger, signal);
    struct run r = wait_exit(h.merger, 10000);
    expect_exit(r, 128 + signal);
    cr_assert_leq(now_ms() - begin, 1000 * (MEMORY_TELLS ? 1 : 5));
    expect_err_has(r, "; the same command continues");
    server_resume(&h.server);
    r = resume(fmt("-U %s", h.server.url));
    expect_exit(r, 0);
    expect_err_has(r, "goes on behind item ");
    expect_same_files("out", "whole");
    expect_no_traces();
    server_stop(&h.server);
}

Test(resume, terminated) { interrupted_by(SIGTERM); }
Test(resume, interrupted) { interrupted_by(SIGINT); }

/* More than it asks for at first: it has merged some. */
static bool has_read_some(void *server) { return calls_of(server, "lrange") > 1200; }

/* Long before a checkpoint was due: the end writes one. */
Test(resume, terminated_early)
{
    struct server s;
    server_start(&s, "%s", "");
    plant_many(&s, DATASETS, PLANTED);
    merge_whole(fmt("-U %s", s.url));
    server_redis(&s, "CONFIG RESETSTAT");
    struct proc *merger = spawn("nwm-merger -U %s --resume --batch 1 -o out", s.url);
    cr_assert(wait_until(has_read_some, &s, 10000));
    server_pause(&s);
    send_signal(merger, SIGTERM);
    struct run r = wait_exit(merger, 10000);
    expect_exit(r, 128 + SIGTERM);
    cr_assert(file_exists("out.nwm-checkpoint"));
    cr_assert_null(strstr(read_file("out.nwm-checkpoint", NULL), "\nitems=0\n"), "it had merged something");
    server_resume(&s);
    expect_exit(resume(fmt("-U %s", s.url)), 0);
    expect_same_files("out", "whole");
    expect_no_traces();
    server_stop(&s);
}

Test(resume, a_second_one_is_busy)
{
    struct halted h;
    halt(&h);
    struct run r = resume(fmt("-U %s", h.server.url));
    expect_fault(r, 4, "Busy", NULL);
    expect_err_has(r, "out.nwm-part");
    cr_assert(is_alive(h.merger));
    server_resume(&h.server);
    expect_exit(wait_exit(h.merger, 30000), 0);
    expect_same_files("out", "whole");
    expect_no_traces();
    server_stop(&h.server);
}

/* ---- what does not fit ------------------------------------------------------------------------------------------- */

struct kept {
    char *part, *checkpoint;
    size_t part_len, checkpoint_len;
};

static struct kept look(void)
{
    struct kept k;
    k.part = read_file("out.nwm-part", &k.part_len);
    k.checkpoint = read_file("out.nwm-checkpoint", &k.checkpoint_len);
    return k;
}

static void expect_untouched(const struct kept *was)
{
    struct kept is = look();
    cr_assert_eq(is.part_len, was->part_len);
    cr_assert_eq(is.checkpoint_len, was->checkpoint_len);
    cr_assert_eq(memcmp(is.part, was->part, is.part_len), 0);
    cr_assert_eq(memcmp(is.checkpoint, was->checkpoint, is.checkpoint_len), 0);
    cr_assert_not(file_exists("out"));
}

static void expect_refused(const char *command, int code, const char *name, const char *reason)
{
    struct kept k = look();
    struct run r = run("%s", command);
    expect_fault(r, code, name, NULL);
    expect_err_has(r, "does not fit: ");
    expect_err_has(r, reason);
    expect_err_has(r, "to begin afresh, remove it");
    expect_untouched(&k);
}

Test(resume, other_requests_are_refused)
{
    load_job();
    merge_whole("");
    kill_in_the_middle("");
    expect_refused("nwm-merger --resume -o out -u", 2, "Usage", "without -u");
    expect_refused("nwm-merger --resume -o out --tag", 2, "Usage", "without --tag");
    expect_refused("nwm-merger --resume -o out -z", 2, "Usage", "without -z");
    expect_refused("nwm-merger --resume -o out --limit 5", 2, "Usage", "without --limit");
    expect_refused("nwm-merger --resume -o out 0 1 2", 2, "Usage", "of the datasets 0 1 2 3");
    expect_refused("nwm-merger --resume -o out 1 0 2 3", 2, "Usage", "in this order");
    expect_fault(run("nwm-merger --resume -o out -g"), 2, "OrderConflict", NULL);
    expect_exit(run("nwm-worker -j other -n -i 0 /dev/null"), 0);
    expect_refused("nwm-merger --resume -o out -j other", 2, "Usage", fmt("of job %s", test_job()));
    load("4", "-n", "1\n");
    expect_refused("nwm-merger --resume -o out", 2, "Usage", "of the datasets 0 1 2 3");
    expect_exit(run("nwm-merger --resume -o out 0 1 2 3"), 0);
    expect_same_files("out", "whole");
    expect_no_traces();
}

Test(resume, another_limit_is_refused)
{
    load_job();
    merge_whole("--limit 90000");
    kill_in_the_middle("--limit 90000");
    expect_refused("nwm-merger --resume -o out --limit 90001", 2, "Usage", "--limit 90000");
    expect_refused("nwm-merger --resume -o out", 2, "Usage", "with --limit");
    expect_finished("--limit 90000");
}

Test(resume, another_load_is_refused)
{
    load_job();
    kill_in_the_middle("");
    load_job();
    expect_refused("nwm-merger --resume -o out", 1, "Changed", "0 was loaded anew: it is run 2 now, and was run 1");
    merge_whole("");
    cr_assert_eq(unlink(in_dir("out.nwm-checkpoint")), 0);
    expect_finished("");
}

Test(resume, a_changed_temporary_is_refused)
{
    load_job();
    merge_whole("");
    kill_in_the_middle("");
    struct kept k = look();
    char *changed = malloc(k.part_len);
    memcpy(changed, k.part, k.part_len);
    changed[100] ^= 1;
    write_bytes("out.nwm-part", changed, k.part_len);
    free(changed);
    expect_refused("nwm-merger --resume -o out", 1, "Changed", "it was changed");
    write_bytes("out.nwm-part", k.part, 1000);
    expect_refused("nwm-merger --resume -o out", 1, "Changed", "is shorter");
    cr_assert_eq(unlink(in_dir("out.nwm-part")), 0);
    expect_fault(run("nwm-merger --resume -o out"), 1, "Changed", NULL);
    cr_assert_not(file_exists("out.nwm-part"));
    write_bytes("out.nwm-part", k.part, k.part_len);
    expect_finished("");
}

Test(resume, a_garbled_checkpoint_is_refused)
{
    load_job();
    merge_whole("");
    kill_in_the_middle("");
    struct kept k = look();
    for (size_t at = 0; at < k.checkpoint_len; at += 97) {
        char *changed = malloc(k.checkpoint_len);
        memcpy(changed, k.checkpoint, k.checkpoint_len);
        changed[at] ^= 1;
        write_bytes("out.nwm-checkpoint", changed, k.checkpoint_len);
        free(changed);
        expect_refused("nwm-merger --resume -o out", 1, "Changed", "");
    }
    write_bytes("out.nwm-checkpoint", k.checkpoint, k.checkpoint_len / 2);
    expect_refused("nwm-merger --resume -o out", 1, "Changed", "it was cut or changed");
    write_bytes("out.nwm-checkpoint", "", 0);
    expect_refused("nwm-merger --resume -o out", 1, "Changed", "does not begin with \"nwmerge checkpoint 1\"");
    write_bytes("out.nwm-checkpoint", k.checkpoint, k.checkpoint_len);
    expect_finished("");
}

/* While no merger ran, an item was edited: the last one that was taken, or one that comes at the end. */
static void edit(bool taken, const char *fault)
{
    load_job();
    kill_in_the_middle("");
    long at = ITEMS - 2;
    if (taken) at = atol(strstr(strstr(look().checkpoint, "id=1\n"), "taken=") + strlen("taken=")) - 1;
    const char *list = manifest("1", "list"), *item = redis("LINDEX %s %d", list, (int)at);
    redis("LSET %s %d %s", list, (int)at, fmt(" %s", item + 1)); /* the same number */
    struct run r = resume("");
    expect_fault(r, 1, fault, dataset("1"));
    cr_assert_null(strstr(r.err, "the same command continues"), "%s", r.err);
    cr_assert_not(file_exists("out"));
}

Test(resume, an_edit_where_it_goes_on_is_found) { edit(true, "Changed"); }
Test(resume, an_edit_in_the_rest_is_found) { edit(false, "Mismatch"); }

/* ---- the end ----------------------------------------------------------------------------------------------------- */

/* The checkpoint is complete; the renames are those of the checkpoints and the result's, which is the last one. */
static void kill_at_the_end(const char *when)
{
    const char *options = "--checkpoint-every 1G --checkpoint-every 1h";
    load_job();
    merge_whole("");
    expect_exit(broken(fmt("rename 2 %s", when), options), 128 + SIGKILL);
    cr_assert(file_exists("out.nwm-checkpoint"));
    cr_assert_eq(file_exists("out"), strcmp(when, "after") == 0);
}

static struct stat stat_of(const char *name)
{
    struct stat st;
    cr_assert_eq(stat(in_dir(name), &st), 0);
    return st;
}

Test(resume, killed_before_the_rename)
{
    kill_at_the_end("kill");
    expect_finished("");
}

Test(resume, killed_before_the_rename_and_dropped)
{
    kill_at_the_end("kill");
    expect_exit(run("nwm-worker --drop --all"), 0);
    expect_finished("");
}

Test(resume, killed_before_the_rename_and_reloaded)
{
    kill_at_the_end("kill");
    load("2", "-n", "1\n");
    expect_refused("nwm-merger --resume -o out", 1, "Changed", "2 was loaded anew");
}

Test(resume, killed_after_the_rename)
{
    kill_at_the_end("after");
    struct stat was = stat_of("out");
    expect_finished("");
    struct stat is = stat_of("out");
    cr_assert_eq(was.st_ino, is.st_ino);
    cr_assert_eq(was.st_mtim.tv_sec, is.st_mtim.tv_sec);
    cr_assert_eq(was.st_mtim.tv_nsec, is.st_mtim.tv_nsec);
}

Test(resume, killed_after_the_rename_and_dropped)
{
    kill_at_the_end("after");
    expect_exit(run("nwm-worker --drop --all"), 0);
    expect_finished("");
}

/* The result stands; what is asked for now is another merge. */
Test(resume, killed_after_the_rename_and_reloaded)
{
    kill_at_the_end("after");
    load("2", "-n", "1\n");
    merge_whole("");
    expect_finished("");
}

Test(resume, killed_after_the_rename_and_edited)
{
    kill_at_the_end("after");
    write_file("out", "edited\n");
    struct run r = resume("");
    expect_fault(r, 1, "Changed", NULL);
    char *left = read_file("out", NULL);
    cr_assert_str_eq(left, "edited\n");
}

/* Yesterday's loads, tonight's command: what was complete then is not what is asked for. */
Test(resume, killed_after_the_rename_and_too_old)
{
    kill_at_the_end("after");
    for (int i = 0; i < DATASETS; i++) redis("HSET %s started 1000", manifest_key(fmt("%d", i)));
    expect_fault(resume("-w 4 --since 1h --wait 0"), 6, "Timeout", NULL);
}

Test(resume, killed_after_the_rename_and_expired)
{
    kill_at_the_end("after");
    expect_exit(run("nwm-worker --drop --all"), 0);
    expect_fault(resume("-w 4 --since 1h --wait 0"), 6, "Timeout", NULL);
}

Test(resume, killed_after_the_rename_and_fewer)
{
    kill_at_the_end("after");
    expect_exit(run("nwm-worker --drop -i 3"), 0);
    merge_whole("");
    expect_finished("-w 3");
}

/* A consumer that gave back what it claimed left the same items under another name. */
Test(resume, given_back_by_a_consumer)
{
    load_job();
    merge_whole("");
    kill_in_the_middle("");
    redis("SET %s:consumer other:1:2", manifest_key("3"));
    expect_fault(run("nwm-merger --consume -o other"), 4, "Busy", dataset("3"));
    redis("DEL %s:consumer", manifest_key("3"));
    expect_finished("");
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

Test(resume, a_stray_temporary_is_overwritten)
{
    load_job();
    merge_whole("");
    write_file("out.nwm-part", "something else\n");
    expect_finished("");
}

Test(resume, nothing_stays_of_a_merge_that_did_not_begin)
{
    expect_fault(resume(""), 4, "NoDatasets", NULL);
    expect_no_traces();
    load("0", "-n", "1\n");
    expect_fault(resume("0 1 --wait 0"), 6, "Timeout", NULL);
    expect_no_traces();
}

Test(resume, symlink_and_mode)
{
    load_job();
    merge_whole("");
    cr_assert_eq(mkdir(in_dir("sub"), 0700), 0);
    write_file("sub/target", "old\n");
    cr_assert_eq(chmod(in_dir("sub/target"), 0640), 0);
    cr_assert_eq(symlink("sub/target", in_dir("out")), 0);
    expect_exit(broken("write 24 kill", ""), 128 + SIGKILL);
    cr_assert(file_exists("sub/target.nwm-part"));
    cr_assert_eq(stat_of("sub/target.nwm-part").st_mode & 0777, 0600);
    char *old = read_file("sub/target", NULL);
    cr_assert_str_eq(old, "old\n");
    expect_exit(resume(""), 0);
    expect_same_files("sub/target", "whole");
    cr_assert_eq(stat_of("sub/target").st_mode & 0777, 0640);
    cr_assert_not(file_exists("sub/target.nwm-part"));
    cr_assert_not(file_exists("sub/target.nwm-checkpoint"));
}

Test(resume, a_symlink_in_the_temporarys_place_is_not_followed)
{
    load("0", "-n", "1\n");
    write_file("precious", "precious\n");
    cr_assert_eq(symlink("precious", in_dir("out.nwm-part")), 0);
    expect_fault(resume(""), 5, "Output", NULL);
    char *left = read_file("precious", NULL);
    cr_assert_str_eq(left, "precious\n");
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

static void expect_usage(const char *options, const char *reason)
{
    struct run r = run("nwm-merger %s", options);
    expect_fault(r, 2, "Usage", NULL);
    expect_err_has(r, reason);
}

Test(resume, usage)
{
    load("0", "-n", "1\n");
    cr_assert_eq(mkfifo(in_dir("fifo"), 0600), 0);
    expect_usage("--resume", "needs -o FILE");
    expect_usage("--resume -o /dev/null", "regular file");
    expect_usage("--resume -o fifo", "regular file");
    expect_usage("--resume -o out --verify", "--verify");
    expect_usage("--resume -o out --list key", "--list");
    expect_usage("--resume -o out --status", "--status");
    expect_usage("-o out --checkpoint-every 5s", "needs --resume");
    expect_usage("--resume -o out --checkpoint-every 0", "too short");
    expect_usage("--resume -o out --checkpoint-every 100K5", "neither a size");
    expect_usage("--resume -o out --checkpoint-every 0.5K", "at least 1K");
    expect_usage("--resume -o out --checkpoint-every 2d", "is no time");
}
