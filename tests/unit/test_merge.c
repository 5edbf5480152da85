/* The merge against a stable sort of everything, over lists in memory: any number of streams, batches and equal keys. */
#include <fcntl.h>
#include <unistd.h>

#include "merger/merge.h"
#include "shared/dataset.h"
#include "tests/unit/fake_link.h"

enum { MB = 1 << 20 };

/* One merge, and what it should bring. */
struct fixture {
    struct link *wire;
    struct stream **streams;
    char **tags;
    size_t k;
    struct order *order;
    struct sink *sink;
    struct fetch *fetch;
    struct merge *merge;
    char path[64];
    struct merge_options options;
    uint64_t observed;
};

static struct fixture x;
static uint64_t state;

static uint64_t any(uint64_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % below;
}

static void fine(struct fault *f) { cr_assert_null(f, "%s", f ? fault_message(f) : ""); }

static void begin(size_t k)
{
    memset(&x, 0, sizeof x);
    x.k = k;
    x.wire = fake_link_new('\n');
    x.streams = mem_zalloc((k + 1) * sizeof *x.streams);
    x.tags = mem_zalloc((k + 1) * sizeof *x.tags);
    for (size_t i = 0; i < k; i++) x.tags[i] = mem_printf("%zu", i);
    x.order = order_new();
}

static struct fake_list *list_of(size_t stream)
{
    char key[40];
    snprintf(key, sizeof key, "list %zu", stream);
    return fake_list(x.wire, key);
}

static void push_text(size_t stream, const char *text) { fake_push(list_of(stream), text, strlen(text)); }

/* "-n -k2,2r": the letters and keys of the order under test. */
static void set_order(const char *text)
{
    char *copy = mem_strdup(text), *save;
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        if (w[1] == 'k') {
            fine(order_key(x.order, w + 2));
        } else if (w[1] == 't') {
            fine(order_separator(x.order, w + 2));
        } else {
            for (char *c = w + 1; *c; c++) fine(order_letter(x.order, *c));
        }
    }
    free(copy);
    fine(order_compile(x.order));
}

static void count_observed(void *context, const struct batch *batch, uint32_t from, uint32_t to)
{
    (void)batch;
    *(uint64_t *)context += to - from;
}

static void open_merge(size_t batch)
{
    for (size_t i = 0; i < x.k; i++) {
        char key[40];
        const struct fake_list *list = list_of(i);
        snprintf(key, sizeof key, "list %zu", i);
        struct stream_spec spec = {.name = key, .tag = x.tags[i], .list = key, .items = list->n};
        for (size_t j = 0; j < list->n; j++) {
            spec.bytes += list->items[j].len;
            if (list->items[j].len > spec.max_item) spec.max_item = list->items[j].len;
        }
        x.streams[i] = stream_new(&spec, '\n');
        stream_set_link(x.streams[i], x.wire);
    }
    strcpy(x.path, "/tmp/nwm-merge-XXXXXX");
    int fd = mkstemp(x.path);
    cr_assert_geq(fd, 0);
    close(fd);
    fine(sink_open(x.path, 5000, &x.sink));
    struct fetch_limits limits = {.memory = 64 * (size_t)MB,
                                  .fixed = sink_memory(),
                                  .batch = batch,
                                  .has_item_limit = x.options.has_limit && !x.options.unique,
                                  .item_limit = x.options.limit};
    fine(fetch_new(x.streams, x.k, &limits, &x.fetch));
    x.options.order = x.order;
    x.options.observer = count_observed;
    x.options.observer_context = &x.observed;
    x.merge = merge_new(x.streams, x.k, x.fetch, x.sink, &x.options);
}

/* Turns until it is done or has failed, as the session does. */
static enum merge_turn run_merge(uint64_t quota)
{
    for (;;) {
        fetch_ask(x.fetch);
        enum merge_turn what = merge_turn(x.merge, quota);
        bool blocked;
        if (what == MERGE_DONE || what == MERGE_FAILED) return what;
        if (what == MERGE_BLOCKED) {
            cr_assert_not(sink_has_room(x.sink));
            fine(sink_pump(x.sink, false, &blocked));
        }
        if (what == MERGE_MORE && any(4) == 0) fake_answer(x.wire);
        if (what != MERGE_DRY) continue;
        fetch_stalled(x.fetch, merge_waits_for(x.merge));
        fetch_ask(x.fetch);
        cr_assert(fake_answer(x.wire), "it waits for stream %zu, of which nothing is on its way",
                  merge_waits_for(x.merge));
    }
}

/* What was written. The caller frees. */
static char *output(size_t *len)
{
    bool blocked;
    fine(sink_pump(x.sink, true, &blocked));
    fine(sink_finish(x.sink));
    FILE *f = fopen(x.path, "r");
    cr_assert_not_null(f);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    char *data = mem_zalloc(*len + 1);
    cr_assert_eq(fread(data, 1, *len, f), *len);
    fclose(f);
    return data;
}

static void end(void)
{
    merge_free(x.merge);
    fake_go_down(x.wire);
    fetch_free(x.fetch);
    sink_close(x.sink);
    for (size_t i = 0; i < x.k; i++) {
        stream_free(x.streams[i]);
        free(x.tags[i]);
    }
    fake_link_free(x.wire);
    order_free(x.order);
    free(x.streams);
    free(x.tags);
    if (*x.path) unlink(x.path);
}

/* ---- the oracle */

struct element {
    struct bytes item;
    size_t stream, at;
};

static int compare_elements(const void *a, const void *b)
{
    const struct element *l = a, *r = b;
    int c = order_compare(x.order, l->item.data, l->item.len, r->item.data, r->item.len);
    return c != 0 ? c : l->at < r->at ? -1 : l->at > r->at;
}

/* All items, sorted, those of equal keys by stream and then by place. */
static struct element *sorted(size_t *n)
{
    struct element *all = NULL;
    *n = 0;
    for (size_t i = 0; i < x.k; i++) {
        const struct fake_list *list = list_of(i);
        all = mem_array(all, *n + list->n + 1, sizeof *all);
        for (size_t j = 0; j < list->n; j++, (*n)++) all[*n] = (struct element){list->items[j], i, *n};
    }
    if (*n > 0) qsort(all, *n, sizeof *all, compare_elements);
    return all;
}

static struct buf expected(uint64_t *items)
{
    size_t n;
    struct element *all = sorted(&n);
    struct buf text = {0};
    *items = 0;
    for (size_t i = 0, last = 0; i < n; i++) {
        if (x.options.has_limit && *items == x.options.limit) break;
        const struct bytes *item = &all[i].item, *before = &all[last].item;
        bool repeats = i > 0 && order_compare(x.order, before->data, before->len, item->data, item->len) == 0;
        if (x.options.unique && repeats) continue;
        last = i;
        if (x.options.tag) buf_printf(&text, "%s\t", x.tags[all[i].stream]);
        buf_append(&text, item->data, item->len);
        buf_append(&text, "\n", 1);
        (*items)++;
    }
    free(all);
    return text;
}

/* Every list is put into its order first. */
static void sort_lists(void)
{
    for (size_t i = 0; i < x.k; i++) {
        struct fake_list *list = list_of(i);
        struct element *elements = mem_array(NULL, list->n + 1, sizeof *elements);
        for (size_t j = 0; j < list->n; j++) elements[j] = (struct element){list->items[j], i, j};
        qsort(elements, list->n, sizeof *elements, compare_elements);
        for (size_t j = 0; j < list->n; j++) list->items[j] = elements[j].item;
        free(elements);
    }
}

static void expect_sorted(size_t batch, uint64_t quota)
{
    uint64_t items;
    sort_lists();
    struct buf want = expected(&items);
    open_merge(batch);
    enum merge_turn what = run_merge(quota);
    for (size_t i = 0; i < x.k; i++)
        if (stream_fault(x.streams[i])) cr_assert_fail("%s", fault_message(stream_fault(x.streams[i])));
    cr_assert_eq(what, MERGE_DONE);
    size_t len;
    char *got = output(&len);
    cr_assert_eq(len, want.len, "k %zu, batches of %zu: %zu bytes instead of %zu", x.k, batch, len, want.len);
    if (len > 0)
        cr_assert_eq(memcmp(got, want.data, len), 0, "k %zu, batches of %zu, order %s", x.k, batch,
                     order_name(x.order));
    cr_assert_eq(merge_items(x.merge), items);
    cr_assert_eq(x.observed, items);
    cr_assert_eq(sink_bytes(x.sink), want.len);
    free(got);
    buf_free(&want);
}

/* ---- random merges */

static void push_random(size_t stream, size_t n, unsigned kinds, bool long_prefix)
{
    for (size_t j = 0; j < n; j++) {
        char text[80];
        uint64_t value = any(kinds);
        size_t len = (size_t)snprintf(text, sizeof text, "%s%s%d,%c %d", long_prefix ? "the same long prefix " : "",
                                      any(3) ? "" : "-", (int)value, (char)('a' + any(3)), (int)any(kinds));
        fake_push(list_of(stream), text, len);
    }
}

static const char *const orders[] = {"",           "-n",     "-r", "-nr", "-g", "-f", "-t, -k2,2 -k1,1n",
                                     "-t, -k2,2r", "-k2,2n", "-M"};

static void random_merge(size_t k, size_t items, unsigned kinds, size_t batch, const char *order)
{
    begin(k);
    set_order(order);
    bool long_prefix = any(2) == 0;
    for (size_t i = 0; i < k; i++) push_random(i, any(4) == 0 ? 0 : (size_t)any(items) + 1, kinds, long_prefix);
    x.options.unique = any(4) == 0;
    x.options.tag = any(4) == 0;
    x.options.has_limit = any(4) == 0;
    x.options.limit = any(items * k / 2 + 1);
    expect_sorted(batch, any(3) == 0 ? 1 : any(3) == 0 ? 7 : 1000);
    end();
}

static void random_merges(unsigned seed)
{
    static const size_t ks[] = {1, 2, 3, 5}, batches[] = {1, 2, 3, 0};
    static const unsigned kinds[] = {1, 3, 1000};
    state = seed;
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++)
        for (size_t k = 0; k < 4; k++)
            for (size_t b = 0; b < 4; b++) random_merge(ks[k], 60, kinds[any(3)], batches[b], orders[o]);
}

Test(merge, equals_a_stable_sort_1, .timeout = 120) { random_merges(1); }
Test(merge, equals_a_stable_sort_2, .timeout = 120) { random_merges(2); }

Test(merge, a_thousand_streams, .timeout = 120)
{
    state = 3;
    for (size_t b = 0; b < 3; b++) random_merge(1000, 12, b == 1 ? 2 : 100000, b, b == 2 ? "-n" : "");
}

Test(merge, equal_keys_everywhere)
{
    for (size_t batch = 0; batch <= 3; batch++) {
        for (int tag = 0; tag < 2; tag++) {
            begin(5);
            set_order("-t, -k1,1n");
            for (size_t i = 0; i < 5; i++)
                for (size_t j = 0; j < 7; j++) {
                    char text[24];
                    snprintf(text, sizeof text, "7,%zu.%zu", i, j);
                    push_text(i, text);
                }
            x.options.tag = tag;
            expect_sorted(batch, 1000);
            end();
        }
    }
}

/* Keys that are equal in their first eight bytes and more, so that whole items decide. */
Test(merge, keys_that_differ_late)
{
    for (size_t batch = 0; batch <= 3; batch++) {
        begin(3);
        set_order("");
        for (size_t j = 0; j < 40; j++) {
            char text[48];
            snprintf(text, sizeof text, "2026-11-22T19:17:%02zu", j / 3);
            push_text(j % 3, text);
            push_text(j * 7 % 3, text);
        }
        expect_sorted(batch, 5);
        end();
    }
}

Test(merge, disjoint_ranges_and_one_long_stream)
{
    begin(4);
    set_order("-n");
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < (i == 2 ? 20000 : 1); j++) {
            char text[24];
            snprintf(text, sizeof text, "%zu", i * 100000 + j);
            push_text(i, text);
        }
    expect_sorted(0, 1000);
    end();
}

Test(merge, no_streams_and_only_empty_ones)
{
    for (size_t k = 0; k < 4; k++) {
        begin(k);
        set_order("");
        expect_sorted(0, 1000);
        cr_assert_eq(x.wire->asked, 0);
        cr_assert_not(merge_is_limited(x.merge));
        end();
    }
}

/* Larger than the sink's buffer: referred to, not copied, in any mixture. */
Test(merge, items_of_a_megabyte)
{
    for (int way = 0; way < 4; way++) {
        begin(3);
        set_order("");
        char *big = mem_alloc(1000000);
        for (size_t i = 0; i < 3; i++)
            for (int j = 0; j < 6; j++) {
                size_t len = j % 2 ? 1000000 - i : j == 4 ? 70000 : 10;
                memset(big, 'a' + j, len);
                fake_push(list_of(i), big, len);
            }
        free(big);
        x.options.tag = way & 1;
        x.options.unique = way & 2;
        expect_sorted(0, 1000);
        end();
    }
}

/* A plain list's tag is its key, and keys can be long. */
Test(merge, long_tags)
{
    static const size_t lens[] = {600, 30000, 131071};
    for (size_t t = 0; t < 3; t++) {
        begin(2);
        set_order("-n");
        x.tags[0] = mem_realloc(x.tags[0], lens[t] + 1);
        memset(x.tags[0], 't', lens[t]);
        x.tags[0][lens[t]] = '\0';
        for (size_t j = 0; j < 1200; j++) {
            char text[24];
            snprintf(text, sizeof text, "%zu", j);
            push_text(j / 600, text);
        }
        push_text(0, "99999");
        x.options.tag = true;
        expect_sorted(0, 1000);
        end();
    }
}

/* Log lines: thousands of ties on a shared prefix, which then changes in one stream before it does in the others. */
Test(merge, prefixes_that_come_and_go)
{
    static const char *const some[] = {"", "-r", "-t, -k1,1", "-f"};
    for (size_t o = 0; o < 4; o++) {
        for (size_t batch = 0; batch <= 3; batch += 3) {
            begin(3);
            state = o;
            set_order(some[o]);
            for (size_t j = 0; j < 3000; j++) {
                char text[64];
                int hour = (int)(j / 700), late = j % 1000 == 999;
                snprintf(text, sizeof text, "%s %02d:%02d:%02d host service[%d]", late ? "2026-11-23" : "2026-11-22",
                         hour, (int)(j / 60 % 60), (int)(j % 60), (int)any(3));
                push_text((size_t)any(3), j % 611 == 610 ? "2026" : text);
            }
            x.options.unique = o == 1;
            expect_sorted(batch, 100);
            end();
        }
    }
}

/* ---- limits */

static void expect_limited(uint64_t limit, bool unique, bool is_limited)
{
    begin(2);
    set_order("-n");
    for (int j = 0; j < 10; j++) {
        char text[24];
        snprintf(text, sizeof text, "%d", j);
        push_text(0, text);
        push_text(1, text);
    }
    x.options.has_limit = true;
    x.options.limit = limit;
    x.options.unique = unique;
    expect_sorted(3, 1000);
    cr_assert_eq(merge_is_limited(x.merge), is_limited, "limit %d", (int)limit);
    end();
}

Test(merge, limit_says_whether_anything_was_left)
{
    expect_limited(0, false, true);
    expect_limited(1, false, true);
    expect_limited(19, false, true);
    expect_limited(20, false, false);
    expect_limited(21, false, false);
    expect_limited(9, true, true);
    expect_limited(11, true, false);
}

/* ---- what is not sorted */

/* Stream `bad` of two has item number `at` (from 1) of 20 out of order; everything before it is written, nothing after. */
static void unsorted_at(uint64_t at, size_t batch, bool tag, size_t bad)
{
    begin(2);
    set_order("-n");
    for (uint64_t j = 1; j <= 20; j++) {
        char text[24];
        snprintf(text, sizeof text, "%d", (int)(j == at ? j * 10 - 15 : j * 10));
        push_text(bad, text);
        snprintf(text, sizeof text, "%d", (int)(j * 10 + 5));
        push_text(1 - bad, text);
    }
    x.options.tag = tag;
    open_merge(batch);
    cr_assert_eq(run_merge(1000), MERGE_FAILED);
    const struct fault *f = stream_fault(x.streams[bad]);
    cr_assert_not_null(f);
    cr_assert(fault_is(f, FAULT_UNSORTED), "%s", fault_name(f));
    cr_assert_null(stream_fault(x.streams[1 - bad]));
    char want[80];
    snprintf(want, sizeof want, "item %d \"%d\" sorts before item %d \"%d\"", (int)at, (int)(at * 10 - 15), (int)at - 1,
             (int)(at - 1) * 10);
    cr_assert_not_null(strstr(fault_message(f), want), "%s instead of %s", fault_message(f), want);
    cr_assert_not_null(strstr(fault_message(f), "sort -s -n"), "%s", fault_message(f));
    /* A prefix of the right output: items 10, 15, 20 … up to the bad one's predecessor at most. */
    size_t len, at_byte = 0;
    char *got = output(&len);
    for (int value = 10; at_byte < len; value += 5) {
        char line[24];
        size_t n = (size_t)snprintf(line, sizeof line, "%s%d\n",
                                    !tag                           ? ""
                                    : (value % 10 ? 1 - bad : bad) ? "1\t"
                                                                   : "0\t",
                                    value);
        cr_assert(n <= len - at_byte && memcmp(got + at_byte, line, n) == 0, "%s", got);
        cr_assert_leq(value, (int)(at - 1) * 10);
        at_byte += n;
    }
    free(got);
    end();
}

Test(merge, unsorted_anywhere, .timeout = 120)
{
    for (uint64_t at = 2; at <= 20; at++)
        for (size_t batch = 0; batch <= 3; batch++)
            for (int way = 0; way < 4; way++) unsorted_at(at, batch, way & 1, way >> 1);
}

/* Keys that differ only where their codes do not reach. */
Test(merge, unsorted_behind_the_code)
{
    for (size_t batch = 0; batch <= 3; batch++) {
        begin(1);
        set_order("");
        push_text(0, "a long prefix 1");
        push_text(0, "a long prefix 3");
        push_text(0, "a long prefix 3");
        push_text(0, "a long prefix 2");
        open_merge(batch);
        cr_assert_eq(run_merge(1000), MERGE_FAILED);
        cr_assert(fault_is(stream_fault(x.streams[0]), FAULT_UNSORTED));
        cr_assert_not_null(strstr(fault_message(stream_fault(x.streams[0])), "item 4 \"a long prefix 2\""));
        size_t len;
        free(output(&len));
        cr_assert_leq(len, 48);
        end();
    }
}

Test(merge, a_failed_stream_ends_it_behind_what_it_brought)
{
    begin(2);
    set_order("-n");
    for (int j = 1; j <= 9; j++) {
        char text[24];
        snprintf(text, sizeof text, "%d", j);
        push_text(0, text);
        push_text(1, text);
    }
    open_merge(3);
    fetch_ask(x.fetch);
    fake_list_clear(list_of(1));
    cr_assert_eq(run_merge(1000), MERGE_FAILED);
    cr_assert(fault_is(stream_fault(x.streams[1]), FAULT_VANISHED));
    cr_assert_eq(merge_items(x.merge), 0);
    end();
}

/* ---- streams that are left out */

/* Cuts some of the lists after the streams were told how long they are; original[] is what they were. */
static void cut_lists(size_t *original)
{
    for (size_t i = 0; i < x.k; i++) {
        struct fake_list *list = list_of(i);
        original[i] = list->n;
        if (list->n > 0 && any(3) == 0) list->n = any(list->n);
    }
}

/* The rest of a stream turns out to be gone while its first batch waits in the heap: none of that is written. */
Test(left_out, while_its_first_batch_waits)
{
    begin(2);
    set_order("-n");
    for (int j = 1; j <= 60; j++) {
        char text[24];
        snprintf(text, sizeof text, "%d", j);
        push_text(0, text);
        snprintf(text, sizeof text, "%d", 100 + j);
        push_text(1, text);
    }
    x.options.may_leave_out = 1;
    open_merge(3);
    list_of(1)->n = 3;
    cr_assert_eq(run_merge(2), MERGE_DONE);
    cr_assert(fault_is(stream_fault(x.streams[1]), FAULT_CHANGED) ||
              fault_is(stream_fault(x.streams[1]), FAULT_VANISHED));
    cr_assert(merge_left_out(x.merge, 1));
    cr_assert_eq(merge_items(x.merge), 60);
    list_of(1)->n = 60;
    end();
}

/* Whatever fails when: the result is the merge of all that is not left out, each whole, or a failure. */
static enum merge_turn merge_the_rest(void)
{
    size_t original[8], len;
    uint64_t items;
    sort_lists();
    x.options.may_leave_out = any(x.k);
    open_merge(1 + any(8));
    cut_lists(original);
    enum merge_turn what = run_merge(1 + any(50));
    size_t left_out = 0;
    for (size_t i = 0; i < x.k; i++) {
        left_out += merge_left_out(x.merge, i);
        list_of(i)->n = merge_left_out(x.merge, i) ? 0 : original[i];
    }
    cr_assert_leq(left_out, x.options.may_leave_out);
    cr_assert_eq(left_out, merge_left_out_count(x.merge));
    struct buf want = expected(&items);
    char *got = output(&len);
    if (what == MERGE_DONE) cr_assert_eq(len, want.len, "%zu bytes instead of %zu", len, want.len);
    cr_assert_leq(len, want.len);
    cr_assert(len == 0 || memcmp(got, want.data, len) == 0);
    for (size_t i = 0; i < x.k; i++) list_of(i)->n = original[i];
    free(got);
    buf_free(&want);
    return what;
}

Test(left_out, what_is_written_is_whole)
{
    size_t done = 0, failed = 0, without = 0;
    for (unsigned round = 0; round < 600; round++) {
        state = round;
        begin(1 + any(6));
        set_order(any(2) ? "-n" : "");
        for (size_t i = 0; i < x.k; i++) push_random(i, any(40), 30, any(2));
        x.options.unique = any(4) == 0;
        enum merge_turn what = merge_the_rest();
        done += what == MERGE_DONE;
        failed += what == MERGE_FAILED;
        without += what == MERGE_DONE && merge_left_out_count(x.merge) > 0;
        end();
    }
    cr_assert(done > 50 && failed > 50 && without > 20, "%zu done, %zu of them without some, %zu failed", done, without,
              failed);
}
