/* Are the rights in config/users.acl enough for everything the programs do, and no more than what they need? */
#include <stdio.h>
#include <string.h>

#include "tests/system/harness.h"

/* A server whose users are those of config/users.acl, with passwords; nobody else may do anything. */
static void start(struct server *s)
{
    char *rules = fmt("user default on >admin ~* &* +@all\n");
    for (char *line = read_file(NWM_SOURCE "/config/users.acl", NULL); *line; line += strcspn(line, "\n") + 1) {
        char name[32];
        int rest;
        if (sscanf(line, "user %31s on%n", name, &rest) == 1)
            rules = fmt("%suser %s on >secret%.*s\n", rules, name, (int)strcspn(line + rest, "\n"), line + rest);
    }
    write_file("users.acl", rules);
    server_start(s, "aclfile %s/users.acl", test_dir());
}

static const char *as(const char *user, const struct server *s)
{
    return fmt("-U unix://%s:secret@%s", user, s->socket);
}

static void expect_nothing_denied(struct server *s)
{
    cr_assert_str_eq(server_redis(s, "AUTH admin"), "OK");
    cr_assert_str_eq(server_redis(s, "ACL LOG"), "");
}

Test(rights, are_enough)
{
    struct server s;
    start(&s);
    const char *worker = as("nwm-worker", &s), *merger = as("nwm-merger", &s);
    write_file("f", "1\n2\n3\n");
    write_file("bad", "2\n1\n");
    struct proc *waiting = spawn("nwm-merger %s -w 2", merger); /* subscribes */
    expect_exit(run("nwm-worker %s -n -i 1 f", worker), 0);
    expect_exit(run("nwm-worker %s -n -i 2 --ttl 1h f", worker), 0);
    expect_out(wait_exit(waiting, 20000), "1\n1\n2\n2\n3\n3\n");
    expect_exit(run("nwm-worker %s -n -i 2 f", worker), 0);   /* a second run */
    expect_exit(run("nwm-worker %s -n -i 3 bad", worker), 1); /* a failure is written */
    expect_exit(run("nwm-merger %s", merger), 1);
    expect_exit(run("nwm-merger %s --verify 1 2", merger), 0);
    expect_exit(run("nwm-merger %s --status", merger), 4);
    expect_exit(run("nwm-merger %s --jobs", merger), 0);
    expect_exit(run("nwm-merger %s -n --list $(redis-cli -s %s --user default --pass admin --no-auth-warning hget "
                    "'nwm:{%s:1}' list)",
                    merger, s.socket, test_job()),
                0);
    const char *consumer = as("nwm-consumer", &s);
    expect_exit(run("nwm-merger %s --consume --limit 2 1 2", consumer), 0);
    expect_exit(run("nwm-merger %s --consume -o out 1 2", consumer), 0);
    expect_exit(run("nwm-worker %s -i 1 --drop", worker), 0);
    expect_exit(run("nwm-worker %s --drop --all", worker), 0);
    expect_nothing_denied(&s);
}

Test(rights, are_no_more_than_needed)
{
    struct server s;
    start(&s);
    server_redis(&s, "AUTH nwm-merger secret");
    static const char *const refused[] = {"SET nwm:x 1",  "DEL nwm:x", "RPUSH nwm:x 1",   "KEYS *",  "FLUSHALL",
                                          "CONFIG GET *", "GET other", "SUBSCRIBE other", "ACL LIST"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        cr_expect_eq(strncmp(server_redis(&s, refused[i]), "(error) NOPERM", 14), 0, "merger: %s", refused[i]);
    server_redis(&s, "AUTH nwm-worker secret");
    static const char *const worker[] = {
        "KEYS *", "FLUSHALL", "CONFIG GET *", "SET other 1", "PUBLISH other x", "SCAN 0", "SHUTDOWN",
    };
    for (size_t i = 0; i < sizeof worker / sizeof *worker; i++)
        cr_expect_eq(strncmp(server_redis(&s, worker[i]), "(error) NOPERM", 14), 0, "worker: %s", worker[i]);
}

/* A missing right is said with the command, and nothing else happens. */
Test(rights, missing_right_is_named)
{
    struct server s;
    start(&s);
    write_file("f", "1\n");
    struct run r = run("nwm-worker %s -i 1 f", as("nwm-merger", &s));
    expect_exit(r, 4);
    expect_err_has(r, "Denied");
    r = run("nwm-merger -U unix://nwm-merger:wrong@%s", s.socket);
    expect_exit(r, 4);
    expect_err_has(r, "Denied");
    cr_assert_null(strstr(r.err, "wrong@"), "%s", r.err);
}
