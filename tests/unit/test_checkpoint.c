#include "merger/checkpoint.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct checkpoint_stream sample_stream(const char *id, uint64_t taken)
{
    return (struct checkpoint_stream){
        .id = mem_strdup(id),
        .token = mem_strdup("host:12:0123456789ab"),
        .list = mem_printf("nwm:{a job:%s}:3.0123456789ab", id),
        .run = 3,
        .items = 100,
        .at = {.items = taken,
               .bytes = taken * 7,
               .digest = {.high = 0x1234, .low = UINT64_MAX},
               .tail = {.high = 1, .low = taken},
               .tail_len = taken ? 7 : 0},
    };
}

static struct checkpoint sample(void)
{
    struct checkpoint c = {
        .job = mem_strdup("demo"),
        .order = mem_strdup("-k2,2nr -t\\x20 50%\n"),
        .unique = true,
        .separator = '\0',
        .has_limit = true,
        .limit = UINT64_MAX,
        .walked = 130,
        .items = 90,
        .bytes = 720,
        .digest = {.high = 7, .low = 8},
        .has_last = true,
        .last_len = 7,
        .count = 2,
    };
    c.streams = mem_zalloc(2 * sizeof *c.streams);
    c.streams[0] = sample_stream("1", 100);
    c.streams[1] = sample_stream("b", 30);
    return c;
}

static struct buf text_of(const struct checkpoint *c)
{
    struct buf text = {0};
    checkpoint_format(c, &text);
    return text;
}

static bool is_accepted(const char *text, size_t len)
{
    struct checkpoint c;
    struct fault *fault = checkpoint_parse(&c, text, len);
    if (fault) cr_assert(fault_is(fault, FAULT_CHANGED));
    checkpoint_fini(&c);
    bool accepted = !fault;
    fault_free(fault);
    return accepted;
}

/* The text with the sum it should have. */
static bool is_accepted_with_sum(const char *text)
{
    struct digest sum = {0, 0};
    char hex[DIGEST_TEXT];
    digest_add_item(&sum, text, strlen(text));
    digest_text(&sum, hex);
    char *whole = mem_printf("%ssum=%s\n", text, hex);
    bool accepted = is_accepted(whole, strlen(whole));
    free(whole);
    return accepted;
}

Test(checkpoint, comes_back_as_it_was)
{
    struct checkpoint c = sample(), back;
    struct buf text = text_of(&c);
    cr_assert_null(checkpoint_parse(&back, text.data, text.len));
    cr_assert_str_eq(back.job, "demo");
    cr_assert_str_eq(back.order, c.order);
    cr_assert(back.unique && !back.tag && !back.complete && back.separator == '\0');
    cr_assert(back.has_limit && back.limit == UINT64_MAX);
    cr_assert(back.has_last && back.last_len == 7);
    cr_assert_eq(back.walked, 130);
    cr_assert_eq(back.items, 90);
    cr_assert_eq(back.bytes, 720);
    cr_assert(digest_equal(&back.digest, &c.digest));
    cr_assert_eq(back.count, 2);
    const struct checkpoint_stream *s = &back.streams[1];
    cr_assert_str_eq(s->id, "b");
    cr_assert_str_eq(s->token, c.streams[1].token);
    cr_assert_str_eq(s->list, c.streams[1].list);
    cr_assert(s->run == 3 && s->items == 100 && s->at.items == 30 && s->at.bytes == 210 && s->at.tail_len == 7);
    cr_assert(digest_equal(&s->at.digest, &c.streams[1].at.digest) && digest_equal(&s->at.tail, &c.streams[1].at.tail));
    struct buf again = text_of(&back);
    cr_assert_eq(again.len, text.len);
    cr_assert_eq(memcmp(again.data, text.data, text.len), 0);
    buf_free(&again);
    buf_free(&text);
    checkpoint_fini(&back);
    checkpoint_fini(&c);
}

Test(checkpoint, every_changed_byte_and_every_cut_is_refused)
{
    struct checkpoint c = sample();
    struct buf text = text_of(&c);
    for (size_t i = 0; i < text.len; i++) {
        cr_assert_not(is_accepted(text.data, i), "cut at %zu", i);
        text.data[i] ^= 1;
        cr_assert_not(is_accepted(text.data, text.len), "changed at %zu", i);
        text.data[i] ^= 1;
    }
    cr_assert(is_accepted(text.data, text.len));
    buf_append(&text, "\n", 1);
    cr_assert_not(is_accepted(text.data, text.len), "something behind it");
    buf_free(&text);
    checkpoint_fini(&c);
}

static char *without_sum(struct checkpoint *c)
{
    struct buf text = text_of(c);
    char *copy = mem_strndup(text.data, (size_t)(strstr(buf_text(&text), "sum=") - text.data));
    buf_free(&text);
    checkpoint_fini(c);
    return copy;
}

/* One place replaced, and the sum made right. */
static bool accepts(const char *from, const char *to)
{
    struct checkpoint c = sample();
    char *text = without_sum(&c), *at = strstr(text, from);
    cr_assert_not_null(at, "%s", from);
    char *changed = mem_printf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    bool accepted = is_accepted_with_sum(changed);
    free(changed);
    free(text);
    return accepted;
}

Test(checkpoint, numbers_and_words)
{
    cr_assert(accepts("state=merging", "state=complete"));
    cr_assert_not(accepts("state=merging", "state=Merging"));
    cr_assert(accepts("run=3", "run=18446744073709551615"));
    cr_assert_not(accepts("run=3", "run=18446744073709551616"));
    cr_assert_not(accepts("run=3", "run=03"));
    cr_assert_not(accepts("run=3", "run="));
    cr_assert_not(accepts("run=3", "run=-3"));
    cr_assert_not(accepts("tag=0", "tag=2"));
    cr_assert_not(accepts("job=demo", "job=%64emo"));
    cr_assert_not(accepts("job=demo", "job=a b"));
    cr_assert_not(accepts("job=demo", "job=%0"));
    cr_assert_not(accepts("job=demo", "job=%00"));
    cr_assert_not(accepts("job=demo", "job=%0a"));
    cr_assert(accepts("job=demo", "job=%0A"));
    cr_assert_not(accepts("nwmerge checkpoint 1", "nwmerge checkpoint 2"));
    cr_assert_not(accepts("datasets=2", "datasets=1"));
    cr_assert_not(accepts("datasets=2", "datasets=3"));
    cr_assert_not(accepts("datasets=2", "datasets=18446744073709551615"));
    cr_assert_not(accepts("job=demo\n", ""));
    cr_assert_not(accepts("job=demo\n", "job=demo\njob=demo\n"));
}

Test(checkpoint, numbers_that_contradict_each_other)
{
    cr_assert_not(accepts("walked=130", "walked=131"), "more than the datasets gave");
    cr_assert_not(accepts("items=90", "items=131"), "more written than seen");
    cr_assert_not(accepts("of=100", "of=99"), "more taken than there were");
    cr_assert_not(accepts("limit=18446744073709551615", "limit=89"));
    cr_assert_not(accepts("unique=1", "unique=0"), "an item was left out without -u");
    cr_assert_not(accepts("last=7", "last=720"), "longer than the output");
    cr_assert_not(accepts("last=7", "last="), "-u needs it");
    cr_assert_not(accepts("bytes=720", "bytes=89"), "each item has a separator");
    cr_assert_not(accepts("tail=7", "tail=701"));
}

Test(checkpoint, files)
{
    char path[] = "/tmp/nwm-checkpoint-XXXXXX";
    cr_assert_not_null(mkdtemp(path));
    char *file = mem_printf("%s/c", path), *aside = mem_printf("%s/c-new", path);
    struct checkpoint c = sample(), back;
    bool found = true;
    cr_assert_null(checkpoint_read(&back, file, &found));
    cr_assert_not(found);
    cr_assert_null(checkpoint_write(&c, file, aside));
    cr_assert_eq(access(aside, F_OK), -1);
    cr_assert_null(checkpoint_read(&back, file, &found));
    cr_assert(found);
    cr_assert_eq(back.walked, c.walked);
    checkpoint_fini(&back);
    struct stat st;
    cr_assert_eq(stat(file, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    cr_assert_eq(unlink(file), 0);
    cr_assert_eq(mkdir(file, 0700), 0);
    struct fault *fault = checkpoint_read(&back, file, &found);
    cr_assert(fault && fault_is(fault, FAULT_CHANGED));
    fault_free(fault);
    checkpoint_fini(&back);
    fault = checkpoint_write(&c, file, aside);
    cr_assert(fault && fault_is(fault, FAULT_OUTPUT));
    cr_assert_eq(access(aside, F_OK), -1, "nothing is left behind");
    fault_free(fault);
    cr_assert_eq(rmdir(file), 0);
    cr_assert_eq(rmdir(path), 0);
    checkpoint_fini(&c);
    free(file);
    free(aside);
}
