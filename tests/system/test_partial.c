/* --partial: without what cannot be had, if the user says so, and never without saying so. */
#include <signal.h>

#include "tests/system/fake.h"
#include "tests/system/scene.h"

/* A load that failed, for good. */
static void load_bad(const char *id)
{
    write_file("bad", "2\n1\n");
    expect_exit(run("nwm-worker -n -i %s bad", id), 1);
}

/* Ready, says its manifest, and its list is gone. */
static void plant_gone(const char *id)
{
    plant(id, "-n", "5\n6\n");
    redis("DEL %s", manifest(id, "list"));
}

/* Of a dataset's 3000 numbers only the first 2000 are there. */
static void load_cut(const char *id, long first)
{
    load(id, "-n", numbers(first, 1, 3000));
    redis("LTRIM %s 0 1999", manifest(id, "list"));
}

static void expect_partial(struct run r, const char *out, const char *from)
{
    expect_exit(r, 3);
    expect_out(r, out);
    expect_err_has(r, fmt(" %s of job %s", from, test_job()));
    expect_err_has(r, "nwm-merger: partial: ");
    cr_assert_null(strstr(r.err, "nwm-merger: complete"), "%s", r.err);
}

/* ---- what was never there */

Test(partial, goes_on_without_a_failed_dataset)
{
    load("0", "-n", "1\n3\n");
    load_bad("1");
    load("2", "-n", "2\n");
    expect_fault(run("nwm-merger"), 1, "Unsorted", dataset("1"));
    struct run r = run("nwm-merger --partial --stats json");
    expect_partial(r, "1\n2\n3\n", "3 items from 2 of 3 datasets");
    expect_err_has(r, ", as found, order -n");
    expect_err_has(r, fmt("nwm-merger: %s: Unsorted: item 2 \"1\"", dataset("1")));
    expect_err_has(r, "\"complete\":false,\"fault\":\"Partial\"");
    expect_err_has(r, "\"skipped\":[{\"id\":\"1\",\"fault\":\"Unsorted\",\"message\":\"item 2 ");
    r = run("nwm-merger 0 2 --partial --stats json");
    expect_exit(r, 0);
    expect_err_has(r, "\"skipped\":[]");
    expect_err_has(r, "complete: 3 items from 2 of 2");
}

Test(partial, quiet_names_what_is_left_out)
{
    load("0", "-n", "1\n");
    load_bad("1");
    struct run r = run("nwm-merger -q --partial");
    expect_exit(r, 3);
    expect_err_has(r, fmt("nwm-merger: %s: Unsorted: ", dataset("1")));
    cr_assert_null(strstr(r.err, "partial:"), "%s", r.err);
}

Test(partial, goes_on_without_what_did_not_come)
{
    load("0", "-n", "1\n");
    struct run r = run("nwm-merger --wait 0 --partial 1 0 2");
    expect_partial(r, "1\n", "1 item from 1 of 3 datasets");
    expect_err_has(r, fmt("%s: Timeout: not there (--wait 0)", dataset("1")));
    expect_err_has(r, fmt("%s: Timeout: not there", dataset("2")));
    r = run("nwm-merger --wait 1s --partial -w 4");
    expect_partial(r, "1\n", "1 item from 1 of 4 datasets");
    expect_err_has(r, fmt("%s: Timeout: 3 of the 4 of -w have not shown up", dataset("?")));
    cr_assert(r.took >= 1000);
}

Test(partial, waits_for_those_that_come_in_time)
{
    load_bad("0");
    struct proc *p = spawn("nwm-merger --partial -w 3 --wait 20s");
    cr_assert(wait_until(merger_listens, NULL, 20000));
    load("1", "-n", "1\n");
    nap(50);
    cr_assert(is_alive(p));
    load("2", "-n", "2\n");
    expect_partial(wait_exit(p, 20000), "1\n2\n", "2 items from 2 of 3 datasets");
}

Test(partial, states_of_every_kind)
{
    load("0", "-n", "1\n");
    plant("consumed", "-n", "2\n");
    redis("HSET %s state consumed", manifest_key("consumed"));
    plant("lost", "-n", "3\n");
    redis("HSET %s state loading lease 1", manifest_key("lost"));
    redis("SET %s string", manifest_key("wrong"));
    redis("HSET %s contract 9 state ready", manifest_key("later"));
    struct run r = run("nwm-merger --wait 5s --partial 0 consumed lost wrong later --list %s.none -n", test_job());
    expect_partial(r, "1\n", "1 item from 1 of 5 datasets");
    expect_err_has(r, "and 0 of 1 plain list");
    expect_err_has(r, fmt("%s: Consumed: ", dataset("consumed")));
    expect_err_has(r, fmt("%s: WorkerLost: ", dataset("lost")));
    expect_err_has(r, fmt("%s: WrongType: ", dataset("wrong")));
    expect_err_has(r, fmt("%s: BadContract: ", dataset("later")));
    expect_err_has(r, fmt("%s.none: Vanished: ", test_job()));
}

/* ---- what is gone when it is read */

Test(partial, goes_on_without_what_vanished_before_its_first_item)
{
    load("1", "-n", "1\n3\n");
    load("3", "-n", "2\n");
    static const char *const gone[] = {"0", "2", "4"};
    for (size_t i = 0; i < 3; i++) {
        plant_gone(gone[i]);
        expect_fault(run("nwm-merger"), 1, "Vanished", dataset(gone[i]));
        struct run r = run("nwm-merger --partial --stats json -o result");
        expect_partial(r, "", "3 items from 2 of 3 datasets");
        cr_assert_str_eq(read_file("result", NULL), "1\n2\n3\n");
        expect_err_has(r, fmt("%s: Vanished: ", dataset(gone[i])));
        expect_err_has(r, fmt("\"skipped\":[{\"id\":\"%s\",\"fault\":\"Vanished\"", gone[i]));
        redis("DEL %s", manifest_key(gone[i]));
        redis("SREM nwm:%s:datasets %s", test_job(), gone[i]);
    }
}

/* The digest is that of what was merged. */
Test(partial, the_digest_is_of_what_is_there)
{
    load("0", "-n", "1\n3\n");
    struct run whole = run("nwm-merger 0 -o whole");
    const char *digest = strstr(whole.err, ", digest ");
    cr_assert_not_null(digest);
    plant_gone("1");
    struct run r = run("nwm-merger --partial");
    expect_partial(r, "1\n3\n", "2 items from 1 of 2 datasets");
    expect_err_has(r, fmt("%.41s, ", digest));
}

/* Its first items are here and wait for their turn when the rest turns out to be gone. */
Test(partial, goes_on_while_nothing_of_it_was_written)
{
    load("0", "-n", numbers(0, 1, 100000));
    load_cut("1", 1000000);
    load("2", "-n", numbers(100000, 1, 1000));
    struct run r = run("nwm-merger --batch 100 --memory 8M --partial --verify --max-missing 1 -o result");
    if (r.exit == 1) { /* the rest was asked for only when the first had been written */
        expect_fault(r, 1, "Changed", dataset("1"));
        cr_assert_fail("%s", r.err);
    }
    expect_partial(r, "", "101000 items from 2 of 3 datasets");
    write_file("want", numbers(0, 1, 101000));
    expect_same_files("result", "want");
}

Test(partial, cannot_go_on_after_some_was_written)
{
    load("0", "-n", numbers(0, 1, 5000));
    load_cut("1", 0);
    struct run r = run("nwm-merger --partial -o result");
    expect_fault(r, 1, "Changed", dataset("1"));
    cr_assert_not(file_exists("result"));
    expect_fault(run("nwm-merger -u --partial -o result"), 1, "Changed", dataset("1"));
}

/* ---- how many */

Test(partial, max_missing)
{
    load("0", "-n", "1\n");
    load_bad("1");
    plant_gone("2");
    expect_partial(run("nwm-merger --max-missing 2"), "1\n", "1 item from 1 of 3 datasets");
    struct run r = run("nwm-merger --max-missing 1");
    expect_fault(r, 1, "Vanished", dataset("2"));
    expect_err_has(r, fmt("%s: Unsorted: ", dataset("1")));
    expect_out(r, "");
    expect_fault(run("nwm-merger --partial --max-missing 0"), 1, "Unsorted", dataset("1"));
    expect_fault(run("nwm-merger --max-missing 1 --wait 0 0 7 8"), 6, "Timeout", NULL);
    expect_partial(run("nwm-merger --max-missing 2 --wait 0 0 7 8"), "1\n", "1 item from 1 of 3 datasets");
    expect_fault(run("nwm-merger --max-missing 2 --wait 0 -w 6"), 1, "Unsorted", dataset("1"));
}

Test(partial, all_missing_fails_as_strict_does)
{
    expect_fault(run("nwm-merger --partial"), 4, "NoDatasets", NULL);
    struct run strict = run("nwm-merger --wait 0 8 9"), r = run("nwm-merger --partial --wait 0 8 9");
    expect_fault(r, 6, "Timeout", NULL);
    expect_err(r, strict.err);
    expect_fault(run("nwm-merger --partial --wait 0 -w 2"), 6, "Timeout", NULL);
    load_bad("0");
    plant_gone("1");
    expect_fault(run("nwm-merger --partial -o result 0"), 1, "Unsorted", dataset("0"));
    expect_fault(run("nwm-merger --partial -o result 1"), 1, "Vanished", dataset("1"));
    expect_fault(run("nwm-merger --partial -o result"), 1, "Vanished", dataset("1"));
    cr_assert_not(file_exists("result"));
}

/* An empty dataset is no missing one. */
Test(partial, empty_datasets_are_there)
{
    load("0", "-n", "");
    load_bad("1");
    expect_partial(run("nwm-merger --partial"), "", "0 items from 1 of 2 datasets");
}

/* ---- with other options */

Test(partial, verify_compares_what_was_merged)
{
    load("0", "-n", "1\n3\n3\n");
    load("1", "-n", "2\n3\n");
    plant_gone("2");
    load_bad("3");
    struct run r = run("nwm-merger --partial --verify");
    expect_partial(r, "1\n2\n3\n3\n3\n", "5 items from 2 of 4 datasets");
    expect_err_has(r, "local == remote: true");
    expect_fault(run("nwm-merger --max-missing 1 --verify"), 1, "Vanished", dataset("2"));
    r = run("nwm-merger --partial --verify -u");
    expect_partial(r, "1\n2\n3\n", "3 items from 2 of 4 datasets");
    expect_err_has(r, "local == remote: true");
    r = run("nwm-merger --partial --verify --limit 2 -u");
    expect_exit(r, 3);
    expect_out(r, "1\n2\n");
    expect_err_has(r, "partial, stopped at --limit: 2 items from 2 of 4");
}

Test(partial, conflicts_are_never_skipped)
{
    load("0", "-n", "1\n");
    load("1", "-r", "2\n");
    expect_fault(run("nwm-merger --partial"), 2, "OrderConflict", NULL);
    expect_fault(run("nwm-merger --partial -w 1"), 2, "WrongCount", NULL);
    expect_fault(run("nwm-merger --partial --status"), 2, "Usage", NULL);
    expect_fault(run("nwm-merger --max-missing 1 --jobs"), 2, "Usage", NULL);
    expect_fault(run("nwm-merger --partial --check x"), 2, "Usage", NULL);
    expect_fault(run("nwm-merger --partial --resume -o x"), 2, "Usage", NULL);
    expect_fault(run("nwm-merger --max-missing x"), 2, "Usage", NULL);
    expect_fault(run("nwm-merger --max-missing -1"), 2, "Usage", NULL);
}

Test(partial, never_silently_unsorted)
{
    load("0", "-n", "1\n");
    plant("1", "-n", "5\n4\n");
    struct run r = run("nwm-merger --partial -o result");
    expect_fault(r, 1, "Unsorted", dataset("1"));
    cr_assert_not(file_exists("result"));
}

/* ---- servers */

Test(partial, a_server_that_is_away)
{
    struct server s;
    server_start(&s, "%s", "");
    load("0", "-n", "1\n");
    expect_exit(run("echo 2 | nwm-worker -U %s -n -i 1", s.url), 0);
    const char *both = fmt("-U $NWM_URL -U %s --partial --wait 0", s.url);
    struct run r = run("nwm-merger %s 0 1", both);
    expect_exit(r, 0);
    expect_out(r, "1\n2\n");
    server_stop(&s);
    r = run("nwm-merger %s 0 1", both);
    expect_partial(r, "1\n", "1 item from 1 of 2 datasets");
    expect_err_has(r, fmt("%s: Unreachable: ", dataset("1")));
    r = run("nwm-merger %s -w 2 --verify --since 1h", both);
    expect_partial(r, "1\n", "1 item from 1 of 2 datasets");
    expect_err_has(r, fmt("%s: Unreachable: ", dataset("?")));
    expect_partial(run("nwm-merger -U %s -U $NWM_URL --since 1h --partial --wait 0 1 0", s.url), "1\n",
                   "1 item from 1 of 2 datasets");
    expect_fault(run("nwm-merger %s", both), 4, "Unreachable", NULL); /* who knows what is on it? */
    expect_fault(run("nwm-merger -U %s --partial 0 1", s.url), 4, "Unreachable", NULL);
    expect_fault(run("nwm-merger -U %s -U unix:///nothing --partial 0 1", s.url), 4, "Unreachable", NULL);
    expect_fault(run("nwm-merger -U $NWM_URL -U %s --wait 0 0 1", s.url), 4, "Unreachable", NULL);
}

/* It answered while the datasets were looked for, and not when they were to be read. */
Test(partial, a_server_that_goes_before_the_first_item)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("echo 1 | nwm-worker -U %s -n -i 0", s.url), 0);
    load("1", "-n", "2\n");
    struct fake *f = fake_start("RELAY-UNTIL-NEXT\nCLOSE\n");
    struct run r = run("nwm-merger -U %s -U %s --timeout 2s --partial 0 1", s.url, fake_url(f));
    expect_partial(r, "1\n", "1 item from 1 of 2 datasets");
    expect_err_has(r, fmt("%s: Unreachable: ", dataset("1")));
}

/* It was fetched whole for the comparison before the merge had to do without it. */
Test(partial, verify_without_what_the_merge_left_out)
{
    struct server s;
    server_start(&s, "%s", "");
    expect_exit(run("printf '1\\n3\\n' | nwm-worker -U %s -n -i 0", s.url), 0);
    load("1", "-n", "2\n4\n");
    struct fake *f = fake_start("RELAY-UNTIL-NEXT\nRELAY-UNTIL-NEXT\nCLOSE\n");
    struct run r = run("nwm-merger -U %s -U %s --timeout 2s --partial --verify 0 1", s.url, fake_url(f));
    expect_partial(r, "1\n3\n", "2 items from 1 of 2 datasets");
    expect_err_has(r, "local == remote: true");
}
