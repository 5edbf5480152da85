/* config/users.acl is the smallest set: without any one of its permissions, something ends in Denied, which names what was
 * denied. (test_rights shows that the whole is enough.) */
#include <stdio.h>
#include <stdlib.h>

#include "tests/system/feed.h"

static const char *const programs[] = {"nwm-worker", "nwm-merger"};

/* The line of config/users.acl for that user. */
static const char *rules_of(const char *user)
{
    const char *text = read_file(NWM_SOURCE "/config/users.acl", NULL), *line = strstr(text, fmt("\nuser %s ", user));
    cr_assert_not_null(line, "%s has no rules", user);
    return fmt("%.*s", (int)strcspn(line + 1, "\n"), line + 1);
}

/* Both users with the password "secret", given by ACL SETUSER; one word of one user's line is left out ("" for none). */
static void grant(struct server *s, const char *user, const char *without)
{
    for (size_t i = 0; i < 2; i++) {
        char *rest = NULL, *line = fmt("%s", rules_of(programs[i])), *rules = fmt("%s", "");
        bool found = false;
        strtok_r(line, " ", &rest);
        strtok_r(NULL, " ", &rest);
        for (char *word; (word = strtok_r(NULL, " ", &rest));) {
            bool left_out = strcmp(programs[i], user) == 0 && strcmp(word, without) == 0;
            found = found || left_out;
            if (!left_out) rules = fmt("%s %s", rules, word);
        }
        cr_assert(found || !*without || strcmp(programs[i], user) != 0, "%s has no %s", user, without);
        cr_assert_str_eq(ask(s, "ACL SETUSER %s reset >secret%s", programs[i], rules), "OK");
    }
}

static const char *as(const char *user, const struct server *s)
{
    return fmt("-U unix://%s:secret@%s", user, s->socket);
}

/* What the two programs do with every right they have, one command each; WHERE stands for -U and what belongs to it. */
static const char *const uses[2][8] = {
    {
        "nwm-worker WHERE -n -i 1 large",
        "nwm-worker WHERE -n -i 1 --keep 1h --ttl 1h large", /* a second run */
        "nwm-worker WHERE -n -i 2 bad; c=$?; [ $c = 1 ] || exit $c",
        "nwm-worker WHERE?db=1 -n -i 1 large",
        "rm -f f; mkfifo f; { seq 100000 106999; redis-cli -s $OF client kill user nwm-worker >/dev/null; "
        "seq 107000 112999; } >f & nwm-worker WHERE -n -i 1 f",
        "nwm-worker WHERE --drop -i 1",
        "nwm-worker WHERE --drop --all",
    },
    {
        "nwm-merger WHERE --verify -q 7 8",
        "nwm-merger WHERE -q",
        "nwm-merger WHERE -q --list nwm:plain",
        "nwm-merger WHERE --status",
        "nwm-merger WHERE --jobs",
        "nwm-merger WHERE?db=1 --jobs",
        "nwm-merger WHERE -q --wait 0.1s 7 8 none; c=$?; [ $c = 6 ] || exit $c",
    },
};

static const char *put_in(const char *command, const char *where)
{
    const char *at = strstr(command, "WHERE");
    return fmt("%.*s%s%s", (int)(at - command), command, where, at + strlen("WHERE"));
}

/* Datasets that the merger finds, made by one that may do anything. */
static void prepare(struct server *s)
{
    expect_exit(run("seq 100000 112999 >large && printf '2\\n1\\n' >bad"), 0);
    server_start(s, "%s", "");
    setenv("OF", s->socket, 1);
    for (int i = 7; i < 9; i++) expect_exit(run("nwm-worker -q -n -i %d -U %s large", i, s->url), 0);
    ask(s, "RPUSH nwm:plain 1 2 3");
}

/* The first of the uses that ends in Denied; exit 0 when none does. */
static struct run first_denied(struct server *s, int program)
{
    for (const char *const *use = uses[program]; *use; use++) {
        struct run r = run("%s", put_in(*use, as(programs[program], s)));
        if (r.exit == 4 && strstr(r.err, ": Denied: ")) return r;
        if (r.exit != 0) cr_assert_fail("%s", run_describe(&r, "success, or Denied"));
    }
    return (struct run){0};
}

Test(acl, whole)
{
    struct server s;
    prepare(&s);
    grant(&s, "", "");
    for (int program = 1; program >= 0; program--) { /* the worker drops all in the end */
        struct run r = first_denied(&s, program);
        cr_assert_eq(r.exit, 0, "%s", r.err);
    }
    cr_assert_str_eq(server_redis(&s, "ACL LOG"), "");
}

/* What can be refused without harm: a connection's name, and to be woken (there is a look every second). */
static bool is_optional(const char *word) { return !strcmp(word, "+client|setname") || !strcmp(word, "+subscribe"); }

/* In scripts, servers before Redis 7.2 do not say which command; the fault then names the script. */
static void expect_named(const struct run *r, const char *command)
{
    bool named = strcasestr(r->err, fmt("'%s'", command)) ||
                 strstr(r->err, "server answers \"NOPERM The user executing the script");
    cr_assert(named, "%s", run_describe(r, fmt("%s to be named", command)));
    cr_assert_not_null(strstr(r->err, "NOPERM"), "%s", r->err);
    cr_assert(strstr(r->err, test_job()) || strstr(r->err, "unix://"), "it does not say where: %s", r->err);
    cr_assert_not_null(strstr(r->err, "ask for the ACL rules"), "%s", r->err);
}

static void without_each(int program)
{
    struct server s;
    prepare(&s);
    int tried = 0;
    char *rest = NULL, *line = fmt("%s", rules_of(programs[program]));
    for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        if (*word != '+') continue;
        tried++;
        grant(&s, programs[program], word);
        if (program == 0) server_redis(&s, "FLUSHALL"); /* what a script half done has left */
        struct run r = first_denied(&s, program);
        if (is_optional(word)) {
            cr_assert_eq(r.exit, 0, "without %s:\n%s", word, r.err);
        } else {
            cr_assert_eq(r.exit, 4, "%s is not needed", word);
            expect_named(&r, word + 1);
        }
    }
    cr_assert_gt(tried, 10);
}

Test(acl, without_each_of_the_worker) { without_each(0); }
Test(acl, without_each_of_the_merger) { without_each(1); }

/* Keys and channels. */
Test(acl, without_keys_or_channels)
{
    struct server s;
    prepare(&s);
    for (int program = 0; program < 2; program++) {
        grant(&s, programs[program], "~nwm:*");
        struct run r = first_denied(&s, program);
        cr_assert_eq(r.exit, 4);
    }
    grant(&s, "nwm-merger", "&nwm:*"); /* it looks every second */
    struct run r = first_denied(&s, 1);
    cr_assert_eq(r.exit, 0, "%s", r.err);
    grant(&s, "nwm-worker", "&nwm:*");
    r = first_denied(&s, 0);
    cr_assert_eq(r.exit, 4);
}
