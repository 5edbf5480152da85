/* Read-ahead over lists in memory: however it is consumed, memory stays under the cap and everything comes. */
#include "merger/fetch.h"
#include "shared/dataset.h"
#include "tests/unit/fake_link.h"

enum { MB = 1 << 20, STREAMS = 64, OUTSTANDING = 8 * 1000 * 1000 };

static struct link *wire;
static struct stream *streams[STREAMS];
static size_t stream_count;
static struct fetch *fetch;
static uint64_t state;

static uint64_t any(uint64_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % below;
}

static void setup(void)
{
    wire = fake_link_new('\n');
    state = 1;
}

static void teardown(void)
{
    fake_go_down(wire);
    fetch_free(fetch);
    fetch = NULL;
    while (stream_count > 0) stream_free(streams[--stream_count]);
    fake_link_free(wire);
}

static void begin_anew(void)
{
    teardown();
    setup();
}

TestSuite(fetch, .init = setup, .fini = teardown, .timeout = 120);

/* A list of n items whose sizes are drawn by size_of(), and its stream. */
static struct stream_spec add_list(size_t n, size_t (*size_of)(size_t i), bool is_plain)
{
    static char data[MB];
    char key[16];
    snprintf(key, sizeof key, "%zu", stream_count);
    struct fake_list *list = fake_list(wire, key);
    struct stream_spec spec = {.name = key, .tag = key, .list = key, .items = n, .is_plain = is_plain};
    for (size_t i = 0; i < n; i++) {
        size_t len = size_of(i);
        fake_push(list, data, len);
        spec.bytes += len;
        if (len > spec.max_item) spec.max_item = len;
    }
    if (is_plain) spec.bytes = spec.max_item = 0;
    streams[stream_count] = stream_new(&spec, '\n');
    stream_set_link(streams[stream_count++], wire);
    return spec;
}

static size_t twelve(size_t i)
{
    (void)i;
    return 12;
}

static size_t skewed(size_t i) { return i % 97 == 96 ? 20000 + (size_t)any(5000) : (size_t)any(40); }
static size_t large(size_t i) { return 50000 + i % 3; }

static size_t memory_held(void)
{
    size_t sum = 0;
    for (size_t i = 0; i < stream_count; i++) sum += stream_memory(streams[i]);
    return sum;
}

static struct fault *open_fetch(const struct fetch_limits *limits)
{
    return fetch_new(streams, stream_count, limits, &fetch);
}

static void fine(struct fault *f) { cr_assert_null(f, "%s", f ? fault_message(f) : ""); }

/* A consumer that takes items from whichever stream `choose` names, as the merge would: it returns the batch, says so, and
 * waits when the next is not here. */
struct consumer {
    struct batch *batch[STREAMS];
    uint64_t taken[STREAMS];
    size_t most_memory, open, stalls;
};

static struct consumer consumer;

static void look_at_memory(const struct fetch_limits *limits)
{
    size_t held = memory_held();
    if (held > consumer.most_memory) consumer.most_memory = held;
    cr_assert_leq(held + limits->fixed, limits->memory, "%zu bytes are held, with %zu elsewhere, under a cap of %zu",
                  held, limits->fixed, limits->memory);
    cr_assert_leq(wire->most_weight, OUTSTANDING);
}

/* One batch of stream i is used up and the next is wanted. False: it has ended. */
static bool next_batch(size_t i, const struct fetch_limits *limits)
{
    if (consumer.batch[i]) {
        stream_return(streams[i], consumer.batch[i]);
        consumer.batch[i] = NULL;
        fetch_consumed(fetch, i);
    }
    bool waited = false;
    for (;;) {
        uint32_t from;
        uint64_t number;
        enum stream_next what = stream_next(streams[i], &consumer.batch[i], &from, &number);
        cr_assert_neq(what, STREAM_FAULT);
        if (what == STREAM_END) return false;
        if (what == STREAM_BATCH) {
            consumer.taken[i] += consumer.batch[i]->count - from;
            return true;
        }
        if (!waited) fetch_stalled(fetch, i);
        consumer.stalls += !waited;
        waited = true;
        fetch_ask(fetch);
        look_at_memory(limits);
        cr_assert(fake_answer(wire), "stream %zu waits for a reply that nobody asked for", i);
        fetch_ask(fetch);
        look_at_memory(limits);
    }
}

/* Takes everything, the next batch always from the stream that choose(step) names, or the next that is still open. */
static void consume(size_t (*choose)(size_t step), const struct fetch_limits *limits)
{
    bool ended[STREAMS] = {false};
    consumer = (struct consumer){.open = stream_count};
    for (size_t step = 0; consumer.open > 0; step++) {
        size_t i = choose(step) % stream_count;
        while (ended[i]) i = (i + 1) % stream_count;
        if (any(3) == 0) fake_answer(wire);
        if (next_batch(i, limits)) continue;
        ended[i] = true;
        consumer.open--;
    }
    for (size_t i = 0; i < stream_count; i++) cr_assert_eq(consumer.taken[i], stream_spec(streams[i])->items);
    cr_assert_eq(memory_held(), 0);
}

static size_t in_turn(size_t step) { return step; }
static size_t one_after_the_other(size_t step) { return step / 1000000; }
static size_t at_random(size_t step)
{
    (void)step;
    return (size_t)any(STREAMS);
}
/* Long stretches from one stream, then from another, so that what was lent to the first is still held when others wait. */
static size_t in_stretches(size_t step) { return step / 5 * 7; }

static size_t (*const ways[])(size_t) = {in_turn, one_after_the_other, at_random, in_stretches};

static void consume_in_all_ways(size_t lists, size_t n, size_t (*size_of)(size_t), bool is_plain,
                                struct fetch_limits limits)
{
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        begin_anew();
        for (size_t i = 0; i < lists; i++) add_list(n, size_of, is_plain);
        fine(open_fetch(&limits));
        consume(ways[w], &limits);
    }
}

Test(fetch, memory_stays_under_the_cap)
{
    consume_in_all_ways(8, 10000, twelve, false, (struct fetch_limits){.memory = 1 * MB, .fixed = 300000});
    consume_in_all_ways(8, 2000, skewed, false, (struct fetch_limits){.memory = 2 * MB, .fixed = 300000});
    consume_in_all_ways(64, 200, skewed, false, (struct fetch_limits){.memory = 5 * MB, .fixed = 300000});
    consume_in_all_ways(8, 60, large, false, (struct fetch_limits){.memory = 3 * MB, .fixed = 300000});
    consume_in_all_ways(1, 40000, twelve, false, (struct fetch_limits){.memory = 1 * MB, .fixed = 300000});
}

Test(fetch, plain_lists_come_whole)
{
    consume_in_all_ways(3, 10000, twelve, true, (struct fetch_limits){.memory = 1 * MB, .fixed = 300000});
}

Test(fetch, fixed_batches)
{
    static const size_t batches[] = {1, 2, 3, 1000};
    for (size_t b = 0; b < 4; b++) {
        struct fetch_limits limits = {.memory = 1 * MB, .fixed = 300000, .batch = batches[b]};
        consume_in_all_ways(3, 500, twelve, false, limits);
        begin_anew();
        add_list(500, twelve, false);
        fine(open_fetch(&limits));
        consume(in_turn, &limits);
        cr_assert_leq(wire->largest_request, batches[b] + 1, "one more is re-read");
        cr_assert_eq(stream_stats(streams[0])->batches, (500 + batches[b] - 1) / batches[b]);
    }
}

/* Whatever the user allows, a connection carries 8 MB of replies. */
Test(fetch, outstanding_is_bounded)
{
    struct fetch_limits limits = {.memory = 512 * (size_t)MB};
    for (size_t i = 0; i < 40; i++) add_list(100, large, false);
    wire->rtt_us = 1000000; /* so far away that nothing but the bound holds it back */
    fine(open_fetch(&limits));
    for (size_t i = 0; i < 2000; i++) fetch_stalled(fetch, i % stream_count);
    fetch_ask(fetch);
    cr_assert_gt(wire->weight, OUTSTANDING / 2, "and yet it reads ahead");
    while (wire->count > 0) {
        cr_assert_leq(wire->weight, OUTSTANDING);
        fake_answer(wire);
        fetch_ask(fetch);
    }
}

/* One item may be larger than that, alone. */
Test(fetch, starts_small)
{
    struct fetch_limits limits = {.memory = 64 * (size_t)MB};
    for (size_t i = 0; i < 8; i++) add_list(10000, twelve, false);
    fine(open_fetch(&limits));
    fetch_ask(fetch);
    for (size_t i = 0; i < wire->count; i++) {
        const struct fake_request *r = &wire->requests[i];
        if (r->first == 0) cr_assert_leq(r->last + 1, 16);
    }
    cr_assert_eq(wire->requests[0].first, 0);
    cr_assert_leq(memory_held(), 8 * 17 * 1024);
}

static uint64_t new_items(const struct fake_request *r) { return r->last - r->first + (r->first == 0); }

/* With many streams the merge can begin when each has a little: all get their first items before any gets more. */
Test(fetch, first_items_for_all_then_more)
{
    struct fetch_limits limits = {.memory = 64 * (size_t)MB};
    for (size_t i = 0; i < 4; i++) add_list(10000, twelve, false);
    fine(open_fetch(&limits));
    fetch_ask(fetch);
    cr_assert_geq(wire->count, 12);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(new_items(&wire->requests[i]), 16);
        cr_assert_eq(new_items(&wire->requests[4 + i]), 64);
        cr_assert_eq(new_items(&wire->requests[8 + i]), 256);
    }
}

/* However small the windows: while one batch is consumed, another is here or on its way. */
Test(fetch, two_batches_in_any_window)
{
    struct fetch_limits limits = {.memory = MB, .fixed = 0};
    for (size_t i = 0; i < STREAMS; i++) add_list(5000, twelve, false);
    fine(open_fetch(&limits));
    for (int round = 0; round < 40; round++) {
        for (size_t i = 0; i < STREAMS; i++) {
            fetch_ask(fetch);
            fake_answer_all(wire);
            fetch_ask(fetch);
            fake_answer_all(wire);
            uint64_t number;
            uint32_t from;
            struct batch *held, *next;
            if (stream_next(streams[i], &held, &from, &number) != STREAM_BATCH) continue;
            fetch_ask(fetch);
            fake_answer_all(wire);
            enum stream_next what = stream_next(streams[i], &next, &from, &number);
            if (round > 4) cr_assert_neq(what, STREAM_WAIT, "round %d, stream %zu", round, i);
            stream_return(streams[i], held);
            fetch_consumed(fetch, i);
            if (what != STREAM_BATCH) continue;
            stream_return(streams[i], next);
            fetch_consumed(fetch, i);
        }
    }
}

/* A stream that is followed alone has what its connection can carry, however many share it. */
Test(fetch, a_lone_stream_is_given_the_connection)
{
    struct fetch_limits limits = {.memory = 64 * (size_t)MB};
    for (size_t i = 0; i < 16; i++) add_list(i == 0 ? 400000 : 10000, twelve, false);
    fine(open_fetch(&limits));
    fetch_ask(fetch);
    fake_answer_all(wire);
    consumer = (struct consumer){.open = 1};
    for (int i = 0; i < 30; i++) cr_assert(next_batch(0, &limits));
    fetch_ask(fetch);
    size_t others = 0;
    for (size_t i = 1; i < 16; i++) others += stream_memory(streams[i]);
    cr_assert_gt(stream_memory(streams[0]), 300 * 1024, "%zu", stream_memory(streams[0]));
    cr_assert_lt(others, 16 * 17 * 1024);
    stream_return(streams[0], consumer.batch[0]);
}

/* However long the merge waits for it: a server next door gets a few requests at a time, for it answers all before it sends any. */
Test(fetch, a_waiting_stream_does_not_bury_its_server)
{
    enum { ENOUGH = (256 + 64) * 1024 };
    struct fetch_limits limits = {.memory = 64 * (size_t)MB};
    for (size_t i = 0; i < 2; i++) add_list(400000, twelve, false);
    fine(open_fetch(&limits));
    consumer = (struct consumer){.open = 1};
    for (int i = 0; i < 60; i++) {
        for (int again = 0; again < 20; again++) fetch_stalled(fetch, 0);
        cr_assert(next_batch(0, &limits));
    }
    cr_assert_leq(wire->most_weight, ENOUGH);
    cr_assert_gt(wire->most_weight, ENOUGH / 2, "and yet it reads ahead");
    stream_return(streams[0], consumer.batch[0]);
}

Test(fetch, limit_is_never_read_beyond)
{
    struct fetch_limits limits = {.memory = 64 * (size_t)MB, .has_item_limit = true, .item_limit = 25};
    for (size_t i = 0; i < 4; i++) add_list(i == 3 ? 7 : 10000, twelve, false);
    fine(open_fetch(&limits));
    for (int i = 0; i < 20; i++) {
        for (size_t s = 0; s < 4; s++) fetch_stalled(fetch, s);
        fetch_ask(fetch);
        fake_answer_all(wire);
    }
    for (size_t i = 0; i < 4; i++) cr_assert_eq(stream_stats(streams[i])->items, i == 3 ? 7 : 25);
}

static size_t million(size_t i)
{
    (void)i;
    return 1000000;
}

/* What the fault says suffices does, and a MiB less does not. */
Test(fetch, no_memory_says_what_suffices)
{
    for (size_t i = 0; i < 5; i++) add_list(3, million, false);
    struct fetch_limits limits = {.memory = 2 * MB, .fixed = 300000};
    struct fault *f = open_fetch(&limits);
    cr_assert_not_null(f);
    cr_assert(fault_is(f, FAULT_NO_MEMORY));
    size_t said = 0;
    const char *at = strstr(fault_message(f), "; --memory ");
    cr_assert_not_null(at, "%s", fault_message(f));
    cr_assert_eq(sscanf(at, "; --memory %zuM suffices", &said), 1);
    fault_free(f);
    limits.memory = (said - 1) * MB;
    f = open_fetch(&limits);
    cr_assert_not_null(f);
    fault_free(f);
    limits.memory = said * MB;
    fine(open_fetch(&limits));
    consume(in_turn, &limits);
}

/* A manifest full of nonsense is too large for any cap, not too small to see. */
Test(fetch, absurd_sizes_are_no_memory)
{
    static const uint64_t sizes[] = {UINT64_MAX, UINT64_MAX / 2 + 1, UINT64_MAX / 4, (uint64_t)1 << 45};
    for (size_t i = 0; i < 4; i++) {
        struct stream_spec spec = {.name = "x",
                                   .tag = "x",
                                   .list = "x",
                                   .items = 1,
                                   .bytes = sizes[i],
                                   .max_item = sizes[i],
                                   .max_window = sizes[i]};
        for (stream_count = 0; stream_count < 4; stream_count++) {
            streams[stream_count] = stream_new(&spec, '\n');
            stream_set_link(streams[stream_count], wire);
        }
        struct fetch_limits limits = {.memory = 64 * (size_t)MB};
        struct fault *f = open_fetch(&limits);
        cr_assert_not_null(f, "%llx", (unsigned long long)sizes[i]);
        cr_assert(fault_is(f, FAULT_NO_MEMORY));
        fault_free(f);
        while (stream_count > 0) stream_free(streams[--stream_count]);
    }
}

Test(fetch, empty_and_no_streams)
{
    struct fetch_limits limits = {.memory = 1 * MB};
    fine(open_fetch(&limits));
    fetch_ask(fetch);
    fetch_free(fetch);
    struct stream_spec spec = {.name = "e", .tag = "e"};
    streams[stream_count++] = stream_new(&spec, '\n'); /* no link: none was made for it */
    fine(open_fetch(&limits));
    fetch_ask(fetch);
    cr_assert_eq(wire->asked, 0);
}

/* A link that is down is not asked. */
Test(fetch, nothing_is_asked_of_a_dead_link)
{
    struct fetch_limits limits = {.memory = 1 * MB};
    add_list(10, twelve, false);
    fine(open_fetch(&limits));
    wire->state = LINK_DOWN;
    fetch_ask(fetch);
    cr_assert_eq(wire->asked, 0);
}
