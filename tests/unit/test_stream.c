/* The remote iterator over lists in memory: nothing is taken for the end but the end, and nothing changes unnoticed. */
#include "merger/stream.h"
#include "shared/dataset.h"
#include "tests/unit/fake_link.h"

static struct link *wire;
static struct fake_list *list;
static struct stream *stream;

static void setup(void)
{
    wire = fake_link_new('\n');
    list = fake_list(wire, "the list");
}

static void teardown(void)
{
    fake_go_down(wire);
    stream_free(stream);
    fake_link_free(wire);
}

TestSuite(stream, .init = setup, .fini = teardown, .timeout = 60);

static void push_numbers(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        char text[24];
        fake_push(list, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, 1000 + i));
    }
}

static struct bytes edge(struct bytes item)
{
    if (item.len > DATASET_EDGE_MAX) item.len = DATASET_EDGE_MAX;
    return item;
}

/* What a worker would have written into the manifest. */
static struct stream_spec honest_spec(void)
{
    struct stream_spec spec = {.name = "job:1", .tag = "1", .list = "the list", .items = list->n, .has_digest = true};
    for (size_t i = 0; i < list->n; i++) {
        size_t len = list->items[i].len;
        spec.bytes += len;
        if (len > spec.max_item) spec.max_item = len;
        digest_add_item(&spec.digest, list->items[i].data, len);
    }
    if (list->n > 0) {
        spec.first = edge(list->items[0]);
        spec.last = edge(list->items[list->n - 1]);
    }
    return spec;
}

static void open_with(const struct stream_spec *spec)
{
    stream_free(stream);
    stream = stream_new(spec, '\n');
    stream_set_link(stream, wire);
}

static void open_honest(void)
{
    struct stream_spec spec = honest_spec();
    open_with(&spec);
}

static void open_plain(void)
{
    struct stream_spec spec = {
        .name = "the list", .tag = "the list", .list = "the list", .items = list->n, .is_plain = true};
    open_with(&spec);
}

/* The number of items walked to the end or the fault, asking for `batch` at a time, `ahead` requests at once. */
static uint64_t walk(uint64_t batch, size_t ahead)
{
    uint64_t seen = 0;
    for (;;) {
        while (stream_state(stream) == STREAM_OPEN && link_outstanding(wire) < ahead && stream_unasked(stream) > 0)
            stream_ask(stream, batch < stream_unasked(stream) ? batch : stream_unasked(stream));
        struct batch *b = NULL;
        uint32_t from = 99;
        uint64_t number = 0;
        enum stream_next what = stream_next(stream, &b, &from, &number);
        if (what == STREAM_WAIT) {
            cr_assert(fake_answer(wire), "it waits for nothing");
            continue;
        }
        if (what != STREAM_BATCH) return seen;
        cr_assert_eq(number, seen + 1);
        cr_assert_eq(from, seen > 0);
        for (uint32_t i = from; i < b->count; i++, seen++) {
            size_t len;
            const char *item = batch_item(b, i, &len);
            cr_assert_eq(len, list->items[seen].len);
            cr_assert_eq(memcmp(item, list->items[seen].data, len), 0);
        }
        stream_return(stream, b);
    }
}

static void expect_whole(uint64_t batch, size_t ahead)
{
    cr_assert_eq(walk(batch, ahead), list->n, "batches of %d", (int)batch);
    cr_assert_null(stream_fault(stream), "%s", stream_fault(stream) ? fault_message(stream_fault(stream)) : "");
    cr_assert_eq(stream_state(stream), STREAM_ENDED);
    cr_assert_eq(stream_memory(stream), 0);
    cr_assert_eq(stream_reserved(stream), 0);
    cr_assert_eq(stream_stats(stream)->items, list->n);
}

Test(stream, whole_in_batches_of_any_size)
{
    push_numbers(97);
    struct stream_spec spec = honest_spec();
    for (uint64_t batch = 1; batch <= 100; batch += batch < 5 ? 1 : 19) {
        for (size_t ahead = 1; ahead <= 3; ahead++) {
            open_with(&spec);
            expect_whole(batch, ahead);
            cr_assert(digest_equal(stream_digest(stream), &spec.digest));
            cr_assert_eq(stream_stats(stream)->bytes, spec.bytes);
            cr_assert_eq(stream_stats(stream)->batches, (97 + batch - 1) / batch);
        }
        open_plain();
        expect_whole(batch, 2);
    }
}

Test(stream, empty_is_its_end)
{
    struct stream_spec spec = {.name = "job:1", .tag = "1", .has_digest = true};
    open_with(&spec);
    cr_assert_eq(stream_state(stream), STREAM_ENDED);
    cr_assert_eq(walk(1, 1), 0);
    cr_assert_null(stream_fault(stream));
    cr_assert_eq(wire->asked, 0);
}

Test(stream, one_item_and_empty_items)
{
    fake_push(list, "", 0);
    open_honest();
    expect_whole(1, 1);
    fake_push(list, "", 0);
    fake_push(list, "", 0);
    open_honest();
    expect_whole(1, 1);
    open_honest();
    expect_whole(2, 1);
}

Test(stream, nul_and_high_bytes)
{
    fake_push(list, "a\0b", 3);
    fake_push(list, "\xff\xfe\r", 3);
    open_honest();
    expect_whole(1, 1);
}

/* Edges are the first 256 bytes of longer items. */
Test(stream, edges_of_long_items)
{
    char item[400];
    memset(item, 'x', sizeof item);
    for (size_t len = 255; len <= 400; len += len == 257 ? 143 : 1) fake_push(list, item, len);
    open_honest();
    expect_whole(3, 1);
    struct stream_spec spec = honest_spec();
    char other[DATASET_EDGE_MAX];
    memset(other, 'x', sizeof other);
    other[255] = 'y';
    spec.last = (struct bytes){other, sizeof other};
    open_with(&spec);
    walk(3, 1);
    cr_assert(fault_is(stream_fault(stream), FAULT_CHANGED));
}

/* ---- what must never be an end */

/* It fails with that kind, and at least and at most so many items come out before. */
static void expect_fault(enum fault_kind kind, uint64_t batch, size_t ahead, uint64_t least, uint64_t most)
{
    uint64_t seen = walk(batch, ahead);
    const struct fault *f = stream_fault(stream);
    cr_assert_not_null(f, "no fault after %d items", (int)seen);
    cr_assert(fault_is(f, kind), "%s: %s", fault_name(f), fault_message(f));
    cr_assert_str_eq(fault_subject(f), stream_spec(stream)->name);
    cr_assert_eq(stream_state(stream), STREAM_FAILED);
    cr_assert(least <= seen && seen <= most, "%d items, then the fault", (int)seen);
    struct batch *b;
    uint32_t from;
    uint64_t number;
    fake_answer_all(wire);
    cr_assert_eq(stream_next(stream, &b, &from, &number), STREAM_FAULT, "and it stays failed");
    cr_assert_eq(stream_memory(stream), 0);
}

static void shorten(size_t n)
{
    while (list->n > n) free((char *)list->items[--list->n].data);
}

Test(stream, a_list_that_is_not_there)
{
    push_numbers(10);
    open_honest();
    fake_list_clear(list);
    expect_fault(FAULT_VANISHED, 4, 2, 0, 0);
}

/* Walks 10 of 30 items in batches of 5, then something happens to the list. */
static void walk_a_third(void)
{
    push_numbers(30);
    open_honest();
    for (int i = 0; i < 2; i++) {
        struct batch *b;
        uint32_t from;
        uint64_t number;
        stream_ask(stream, 5);
        cr_assert(fake_answer(wire));
        cr_assert_eq(stream_next(stream, &b, &from, &number), STREAM_BATCH);
        stream_return(stream, b);
    }
}

/* The rest of such a walk, as walk() would do it. */
static void expect_fault_behind(enum fault_kind kind, const char *text)
{
    struct batch *b;
    uint32_t from;
    uint64_t number;
    enum stream_next what;
    do {
        if (stream_state(stream) == STREAM_OPEN && stream_unasked(stream) > 0) {
            stream_ask(stream, 5);
            cr_assert(fake_answer(wire));
        }
        what = stream_next(stream, &b, &from, &number);
        if (what == STREAM_BATCH) stream_return(stream, b);
    } while (what == STREAM_BATCH);
    cr_assert_eq(what, STREAM_FAULT);
    const struct fault *f = stream_fault(stream);
    cr_assert(fault_is(f, kind), "%s: %s", fault_name(f), fault_message(f));
    cr_assert_not_null(strstr(fault_message(f), text), "%s", fault_message(f));
}

Test(stream, deleted_half_way)
{
    walk_a_third();
    fake_list_clear(list);
    expect_fault_behind(FAULT_VANISHED, "after 10 of 30 items");
}

/* Cut just behind what was read: the item that is re-read is all that comes. */
Test(stream, cut_at_the_border)
{
    walk_a_third();
    shorten(10);
    expect_fault_behind(FAULT_CHANGED, "brought 1 items where 6 were asked for");
}

Test(stream, cut_later)
{
    walk_a_third();
    shorten(29);
    expect_fault_behind(FAULT_CHANGED, "brought 5 items where 6 were asked for (from item 25 of 30)");
}

Test(stream, an_item_pushed_to_its_head)
{
    walk_a_third();
    fake_push(list, "1029", 4);
    for (size_t i = list->n - 1; i > 0; i--) {
        struct bytes swap = list->items[i];
        list->items[i] = list->items[i - 1];
        list->items[i - 1] = swap;
    }
    expect_fault_behind(FAULT_CHANGED, "item 10 ");
}

Test(stream, an_item_gone_from_its_head)
{
    walk_a_third();
    struct bytes first = list->items[0];
    memmove(list->items, list->items + 1, (list->n - 1) * sizeof *list->items);
    list->items[list->n - 1] = first; /* so that the count is what it was */
    expect_fault_behind(FAULT_CHANGED, "item 10 ");
}

Test(stream, the_item_re_read_differs)
{
    walk_a_third();
    fake_set(list, 9, "1008"); /* of the same length */
    expect_fault_behind(FAULT_CHANGED, "item 10 of list the list is no longer what it was");
}

Test(stream, the_item_re_read_has_another_length)
{
    walk_a_third();
    fake_set(list, 9, "109");
    expect_fault_behind(FAULT_CHANGED, "item 10 ");
}

Test(stream, the_last_item_is_another)
{
    walk_a_third();
    fake_set(list, 29, "9999");
    expect_fault_behind(FAULT_CHANGED, "item 30 ");
}

Test(stream, an_item_in_the_middle_is_another)
{
    walk_a_third();
    fake_set(list, 21, "9999");
    expect_fault_behind(FAULT_MISMATCH, "digest");
}

Test(stream, an_item_in_the_middle_is_shorter)
{
    walk_a_third();
    fake_set(list, 21, "999");
    expect_fault_behind(FAULT_CHANGED, "holds 119 bytes where the manifest says 120");
}

Test(stream, the_first_item_is_another)
{
    push_numbers(10);
    struct stream_spec spec = honest_spec();
    spec.first = (struct bytes){"1001", 4};
    open_with(&spec);
    expect_fault(FAULT_CHANGED, 3, 2, 0, 0);
}

Test(stream, without_a_digest_bytes_still_count)
{
    push_numbers(10);
    struct stream_spec spec = honest_spec();
    spec.has_digest = false;
    open_with(&spec);
    expect_whole(3, 2);
    spec.bytes++;
    open_with(&spec);
    expect_fault(FAULT_CHANGED, 3, 2, 9, 9);
}

/* A list longer than its manifest says is not this stream's to notice: it asks for no more, and the roster looks at the end. */
Test(stream, asks_for_no_more_than_the_manifest_says)
{
    push_numbers(10);
    struct stream_spec spec = honest_spec();
    fake_push(list, "more", 4);
    open_with(&spec);
    cr_assert_eq(walk(4, 3), 10);
    cr_assert_null(stream_fault(stream));
}

Test(stream, error_replies)
{
    push_numbers(10);
    open_honest();
    list->error = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    expect_fault(FAULT_WRONG_TYPE, 4, 3, 0, 0);
    list->error = ":5\r\n";
    open_honest();
    expect_fault(FAULT_PROTOCOL, 4, 3, 0, 0);
}

Test(stream, a_separator_within_an_item)
{
    push_numbers(10);
    fake_set(list, 6, "10\n06");
    for (uint64_t batch = 1; batch <= 10; batch++) {
        open_plain();
        expect_fault(FAULT_BAD_ITEM, batch, 1, 6 / batch * batch, 6 / batch * batch);
        const char *message = fault_message(stream_fault(stream));
        cr_assert_not_null(strstr(message, "item 7 \"10\\x0a06\" holds a newline"), "%s", message);
        cr_assert_not_null(strstr(message, "merge with -z"), "%s", message);
    }
}

Test(stream, the_first_fault_stays)
{
    push_numbers(10);
    open_honest();
    stream_fail(stream, fault_new(FAULT_UNSORTED, "one"));
    stream_fail(stream, fault_new(FAULT_CHANGED, "two"));
    cr_assert_str_eq(fault_message(stream_fault(stream)), "one");
    struct fault *mine = stream_take_fault(stream);
    cr_assert_str_eq(fault_message(mine), "one");
    cr_assert_null(stream_fault(stream));
    fault_free(mine);
}

/* ---- connections */

Test(stream, goes_on_where_a_dead_link_left_it)
{
    push_numbers(50);
    open_honest();
    for (int i = 0; i < 4; i++) stream_ask(stream, 5);
    cr_assert(fake_answer(wire));
    fake_go_down(wire);
    cr_assert_eq(stream_unasked(stream), 45, "what did not come is to be asked for again");
    cr_assert_eq(stream_reserved(stream), 0);
    cr_assert_null(stream_fault(stream));
    wire->state = LINK_UP;
    cr_assert_eq(walk(7, 2), 50);
    cr_assert_null(stream_fault(stream));
}

/* An answer that may pass is the connection's end, not the stream's. */
Test(stream, goes_on_after_an_answer_that_may_pass)
{
    push_numbers(50);
    open_honest();
    for (int i = 0; i < 4; i++) stream_ask(stream, 5);
    cr_assert(fake_answer(wire));
    list->error = "-LOADING Redis is loading the dataset in memory\r\n";
    cr_assert(fake_answer(wire));
    cr_assert_eq(wire->state, LINK_DOWN);
    cr_assert_null(stream_fault(stream));
    cr_assert_eq(stream_unasked(stream), 45);
    cr_assert_eq(stream_reserved(stream), 0);
    list->error = NULL;
    wire->state = LINK_UP;
    cr_assert_eq(walk(7, 2), 50);
    cr_assert_null(stream_fault(stream));
}

/* ---- how much */

/* In batches of n: what is reserved before is never less than what is held afterwards. */
static void expect_weight_holds(uint64_t batch)
{
    for (uint64_t left; (left = stream_unasked(stream)) > 0;) {
        uint64_t n = batch < left ? batch : left;
        size_t weight = stream_weight(stream, n);
        stream_ask(stream, n);
        cr_assert_eq(stream_reserved(stream), weight);
        cr_assert_eq(stream_memory(stream), weight);
        fake_answer(wire);
        cr_assert_eq(stream_reserved(stream), 0);
        cr_assert_leq(stream_memory(stream), weight, "batches of %d hold %zu bytes where %zu were reserved", (int)n,
                      stream_memory(stream), weight);
        struct batch *b;
        uint32_t from;
        uint64_t number;
        cr_assert_eq(stream_next(stream, &b, &from, &number), STREAM_BATCH);
        stream_return(stream, b);
        cr_assert_eq(stream_memory(stream), 0);
    }
}

Test(stream, weight_bounds_what_a_batch_holds)
{
    char item[3000];
    memset(item, 'x', sizeof item);
    for (int shape = 0; shape < 3; shape++) {
        fake_list_clear(list);
        for (size_t i = 0; i < 300; i++) {
            size_t skewed = i % 50 == 0 ? 3000 : i * 7 % 30, halves = i < 150 ? 10 : 30;
            fake_push(list, item, shape == 0 ? 12 : shape == 1 ? skewed : halves);
        }
        for (uint64_t batch = 1; batch < 300; batch = batch * 3 / 2 + 1) {
            open_honest();
            expect_weight_holds(batch);
        }
    }
}

/* Neighbours weigh what the manifest's window says, not what the largest item would make of them. */
Test(stream, a_window_tames_the_largest_item)
{
    struct stream_spec spec = {
        .name = "job:1", .tag = "1", .list = "the list", .items = 1000000, .bytes = 13000000, .max_item = 1000000};
    open_with(&spec);
    uint64_t without = stream_items_in(stream, 256 * 1024);
    cr_assert_eq(without, 1, "two items could be 2 MB");
    spec.max_window = 1000000 + 255 * 12; /* one large item and what is around it: they may come together */
    open_with(&spec);
    cr_assert_eq(stream_items_in(stream, 256 * 1024), 255, "and the one before");
    spec.max_window = 1000000 + 255 * 1100;
    open_with(&spec);
    cr_assert_eq(stream_items_in(stream, 256 * 1024), 1, "too much around it");
    spec.max_window = 20000;
    spec.max_item = 15000;
    open_with(&spec);
    cr_assert_gt(stream_items_in(stream, 256 * 1024), 5000);
}

Test(stream, no_request_is_for_more_than_1_mb)
{
    static const uint64_t max_items[] = {0, 1, 12, 100, 5000, 499000, 600000, 100000000};
    for (size_t i = 0; i < sizeof max_items / sizeof *max_items; i++) {
        uint64_t max = max_items[i];
        struct stream_spec spec = {.name = "job:1",
                                   .tag = "1",
                                   .list = "the list",
                                   .items = 100000000,
                                   .bytes = max * 100000000,
                                   .max_item = max};
        open_with(&spec);
        uint64_t n = stream_items_in(stream, SIZE_MAX);
        cr_assert_geq(n, 1);
        if (n > 1) cr_assert_leq((n + 1) * max, 1000000, "%d items of %d bytes, and one more", (int)n, (int)max);
        if (max > 0 && max < 100000) cr_assert_geq((n + 1) * (max + 16) * 2, 1000000, "it could be more: %d", (int)n);
    }
}

/* A hostile manifest must not be able to divide by zero or to overflow. */
Test(stream, absurd_numbers)
{
    struct stream_spec spec = {.name = "job:1",
                               .tag = "1",
                               .list = "the list",
                               .items = 1,
                               .bytes = UINT64_MAX,
                               .max_item = UINT64_MAX,
                               .max_window = UINT64_MAX};
    open_with(&spec);
    cr_assert_eq(stream_items_in(stream, 256 * 1024), 1);
    cr_assert_gt(stream_weight(stream, 1), (size_t)1 << 40);
    spec.items = UINT64_MAX;
    spec.max_item = 1;
    open_with(&spec);
    cr_assert_gt(stream_weight(stream, UINT64_MAX - 1), (size_t)1 << 40);
    cr_assert_geq(stream_items_in(stream, 256 * 1024), 1);
    spec.items = spec.max_item = (uint64_t)1 << 33;
    spec.max_window = 0;
    open_with(&spec);
    cr_assert_gt(stream_weight(stream, spec.items - 1), (size_t)1 << 40, "a product of 2^66");
}

/* A plain list says nothing about its items: estimates follow what was seen. */
Test(stream, plain_lists_are_judged_by_what_was_seen)
{
    char item[4000];
    memset(item, 'x', sizeof item);
    for (int i = 0; i < 100; i++) fake_push(list, item, sizeof item);
    open_plain();
    size_t before = stream_weight(stream, 10);
    uint64_t items_before = stream_items_in(stream, 64 * 1024);
    struct batch *b;
    uint32_t from;
    uint64_t number;
    stream_ask(stream, 3);
    fake_answer(wire);
    cr_assert_eq(stream_next(stream, &b, &from, &number), STREAM_BATCH);
    stream_return(stream, b);
    cr_assert_gt(stream_weight(stream, 10), before);
    cr_assert_geq(stream_weight(stream, 10), 40000);
    cr_assert_lt(stream_items_in(stream, 64 * 1024), items_before);
}

/* ---- places to go on from ---------------------------------------------------------------------------------------- */

static struct stream_mark mark_before(uint64_t n)
{
    struct stream_mark mark = {.items = n};
    for (uint64_t i = 0; i < n; i++) {
        digest_add_item(&mark.digest, list->items[i].data, list->items[i].len);
        mark.bytes += list->items[i].len;
    }
    if (n == 0) return mark;
    digest_add_item(&mark.tail, list->items[n - 1].data, list->items[n - 1].len);
    mark.tail_len = list->items[n - 1].len;
    return mark;
}

static void expect_mark(struct stream_mark is, uint64_t n)
{
    struct stream_mark should = mark_before(n);
    cr_assert_eq(is.items, n);
    cr_assert_eq(is.bytes, should.bytes);
    cr_assert(digest_equal(&is.digest, &should.digest), "the digest before item %d", (int)n);
    cr_assert_eq(is.tail_len, should.tail_len);
    cr_assert(digest_equal(&is.tail, &should.tail), "the item before item %d", (int)n);
}

/* Before every item, whether it has arrived with others or was returned with them. */
Test(stream, it_knows_every_place)
{
    push_numbers(25);
    open_honest();
    expect_mark(stream_mark(stream, NULL, 0), 0);
    for (uint64_t seen = 0; seen < 25;) {
        uint64_t n = stream_unasked(stream) < 4 ? stream_unasked(stream) : 4;
        if (n > 0) stream_ask(stream, n);
        struct batch *b;
        uint32_t from;
        uint64_t number;
        cr_assert(fake_answer(wire));
        cr_assert_eq(stream_next(stream, &b, &from, &number), STREAM_BATCH);
        for (uint32_t i = from; i <= b->count; i++) expect_mark(stream_mark(stream, b, i), seen + i - from);
        seen += b->count - from;
        stream_return(stream, b);
        expect_mark(stream_mark(stream, NULL, 0), seen);
    }
}

/* Reads the rest from item n on; the number of items that came. */
static uint64_t rest_from(uint64_t n, struct stream_mark from, bool from_end)
{
    struct stream_spec spec = honest_spec();
    spec.from = from;
    spec.from_end = from_end;
    open_with(&spec);
    uint64_t seen = 0;
    for (;;) {
        if (stream_state(stream) == STREAM_OPEN && stream_unasked(stream) > 0 && link_outstanding(wire) == 0)
            stream_ask(stream, stream_unasked(stream) < 7 ? stream_unasked(stream) : 7);
        struct batch *b;
        uint32_t first;
        uint64_t number;
        enum stream_next what = stream_next(stream, &b, &first, &number);
        if (what == STREAM_WAIT) cr_assert(fake_answer(wire));
        if (what == STREAM_END || what == STREAM_FAULT) return seen;
        if (what != STREAM_BATCH) continue;
        cr_assert_eq(number, n + seen + 1);
        seen += b->count - first;
        stream_return(stream, b);
    }
}

Test(stream, it_goes_on_from_every_place)
{
    push_numbers(25);
    for (uint64_t n = 0; n <= 25; n++)
        for (int from_end = 0; from_end < 2; from_end++) {
            cr_assert_eq(rest_from(n, mark_before(n), from_end), 25 - n);
            cr_assert_null(stream_fault(stream));
            cr_assert_eq(stream_stats(stream)->items, 25);
        }
}

Test(stream, a_place_that_is_not_the_lists_is_found)
{
    push_numbers(25);
    struct stream_mark wrong = mark_before(10);
    wrong.tail.low ^= 1;
    cr_assert_eq(rest_from(10, wrong, false), 0);
    cr_assert(fault_is(stream_fault(stream), FAULT_CHANGED));
    wrong = mark_before(10);
    wrong.digest.low ^= 1;
    rest_from(10, wrong, false);
    cr_assert(fault_is(stream_fault(stream), FAULT_MISMATCH));
    wrong = mark_before(10);
    wrong.bytes++;
    rest_from(10, wrong, false);
    cr_assert(fault_is(stream_fault(stream), FAULT_CHANGED));
}
