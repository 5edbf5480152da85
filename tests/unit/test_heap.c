/* The heap against an oracle that looks at every entry each time. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "merger/heap.h"
#include "shared/order.h"

enum { MOST = 1000 };

/* What the heap should hold. `rank` is the truth behind inexact keys: entries with equal inexact keys go by it, then by
 * stream; entries with equal exact keys go by stream alone, whatever their rank. */
struct model {
    struct heap *heap;
    size_t n;
    bool in[MOST];
    uint64_t key[MOST];
    unsigned rank[MOST];
    size_t ties_asked;
    uint64_t state; /* of the random numbers */
};

static struct model m;

/* xorshift64* (Marsaglia 2003; Vigna 2016). */
static uint64_t any(uint64_t below)
{
    m.state ^= m.state >> 12;
    m.state ^= m.state << 25;
    m.state ^= m.state >> 27;
    return m.state * UINT64_C(2685821657736338717) % below;
}

static bool rank_before(void *context, uint32_t a, uint32_t b)
{
    struct model *model = context;
    model->ties_asked++;
    cr_assert_eq(model->key[a], model->key[b], "the callback is for equal keys");
    cr_assert(!norm_is_exact(model->key[a]), "the callback is for inexact keys");
    cr_assert_neq(a, b);
    return model->rank[a] != model->rank[b] ? model->rank[a] < model->rank[b] : a < b;
}

static bool comes_before(uint32_t a, uint32_t b)
{
    if (m.key[a] != m.key[b]) return m.key[a] < m.key[b];
    if (!norm_is_exact(m.key[a]) && m.rank[a] != m.rank[b]) return m.rank[a] < m.rank[b];
    return a < b;
}

/* The smallest stream but `but`, MOST for none. */
static uint32_t smallest(uint32_t but)
{
    uint32_t best = MOST;
    for (uint32_t i = 0; i < m.n; i++)
        if (m.in[i] && i != but && (best == MOST || comes_before(i, best))) best = i;
    return best;
}

static void begin(size_t n, uint64_t seed)
{
    m = (struct model){.n = n, .state = seed * 2 + 1};
    m.heap = heap_new(n, rank_before, &m);
}

/* A key of few values, so that ties are everywhere, half of them inexact. As order.h promises, keys of equal upper 63 bits have
 * the same lowest bit. */
static uint64_t key_for(uint64_t upper) { return upper << 1 | (upper & 1 ? NORM_INEXACT : 0); }

static void set_random(uint32_t stream, uint64_t kinds)
{
    m.key[stream] = key_for(any(kinds));
    m.rank[stream] = (unsigned)any(3);
}

static void enter(uint32_t stream, uint64_t kinds)
{
    set_random(stream, kinds);
    m.in[stream] = true;
    heap_enter(m.heap, m.key[stream], stream);
}

static size_t count_in(void)
{
    size_t n = 0;
    for (size_t i = 0; i < m.n; i++) n += m.in[i];
    return n;
}

static void expect_top_and_second(void)
{
    size_t size = count_in();
    cr_assert_eq(heap_size(m.heap), size);
    struct heap_entry second;
    if (size == 0) {
        cr_assert_not(heap_second(m.heap, &second));
        return;
    }
    struct heap_entry top = heap_top(m.heap);
    cr_assert_eq(top.stream, smallest(MOST));
    cr_assert_eq(top.key, m.key[top.stream]);
    cr_assert_eq(heap_second(m.heap, &second), size > 1);
    if (size == 1) return;
    cr_assert_eq(second.stream, smallest(top.stream));
    cr_assert_eq(second.key, m.key[second.stream]);
    cr_assert(heap_before(m.heap, top, second));
    cr_assert_not(heap_before(m.heap, second, top));
}

static void random_steps(size_t n, size_t steps, uint64_t kinds)
{
    begin(n, n * 1000 + kinds);
    for (uint32_t i = 0; i < n; i++)
        if (any(8) > 0) enter(i, kinds); /* some never take part */
    heap_play(m.heap);
    expect_top_and_second();
    for (size_t step = 0; step < steps; step++) {
        uint64_t what = any(steps / 2);
        uint32_t top = smallest(MOST);
        if (top == MOST) break;
        if (what < n / 2) {
            m.in[top] = false;
            heap_pop(m.heap);
        } else {
            set_random(top, kinds);
            heap_replace_top(m.heap, m.key[top]);
        }
        expect_top_and_second();
    }
    while (heap_size(m.heap) > 0) {
        m.in[heap_top(m.heap).stream] = false;
        heap_pop(m.heap);
        expect_top_and_second();
    }
    heap_free(m.heap);
}

static const size_t sizes[] = {1, 2, 3, 5, 8, 64, 1000};

Test(heap, follows_an_oracle)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t steps = sizes[i] < 1000 ? 3000 : 500;
        random_steps(sizes[i], steps, 2);
        random_steps(sizes[i], steps, 7);
        random_steps(sizes[i], steps, UINT64_C(1) << 62);
    }
}

Test(heap, equal_exact_keys_go_by_stream_number)
{
    begin(8, 1);
    const uint32_t in_this_order[] = {5, 2, 7, 0, 6, 1, 4, 3};
    for (size_t i = 0; i < 8; i++) heap_enter(m.heap, 42, in_this_order[i]);
    heap_play(m.heap);
    for (uint32_t i = 0; i < 8; i++) {
        cr_assert_eq(heap_top(m.heap).stream, i);
        heap_pop(m.heap);
    }
    cr_assert_eq(m.ties_asked, 0);
    heap_free(m.heap);
}

Test(heap, equal_inexact_keys_go_by_the_callback)
{
    begin(4, 1);
    for (uint32_t i = 0; i < 4; i++) {
        m.key[i] = 43;
        m.rank[i] = 3 - i;
        heap_enter(m.heap, 43, i);
    }
    heap_play(m.heap);
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert_eq(heap_top(m.heap).stream, 3 - i);
        heap_pop(m.heap);
    }
    cr_assert_gt(m.ties_asked, 0);
    heap_free(m.heap);
}

Test(heap, without_a_callback_all_ties_go_by_stream_number)
{
    struct heap *h = heap_new(3, NULL, NULL);
    for (uint32_t i = 3; i-- > 0;) heap_enter(h, 43, i);
    heap_play(h);
    cr_assert_eq(heap_top(h).stream, 0);
    heap_replace_top(h, 43);
    cr_assert_eq(heap_top(h).stream, 0, "an unchanged key keeps its place");
    heap_free(h);
}

Test(heap, keys_are_unsigned_and_reach_both_ends)
{
    struct heap *h = heap_new(4, NULL, NULL);
    const uint64_t keys[] = {UINT64_MAX, UINT64_MAX / 2 + 1, UINT64_MAX / 2, 0};
    for (uint32_t i = 0; i < 4; i++) heap_enter(h, keys[i], i);
    heap_play(h);
    for (uint32_t i = 4; i-- > 0; heap_pop(h)) cr_assert_eq(heap_top(h).key, keys[i]);
    heap_free(h);
}

static uint64_t three_times(void *context, uint32_t stream)
{
    (void)context;
    return m.key[stream] * 3;
}

Test(heap, rekey_keeps_the_order)
{
    begin(64, 9);
    for (uint32_t i = 0; i < 64; i++) {
        m.in[i] = true;
        m.key[i] = any(20) << 1;
        heap_enter(m.heap, m.key[i], i);
    }
    heap_play(m.heap);
    heap_rekey(m.heap, three_times, NULL);
    for (uint32_t i = 0; i < 64; i++) m.key[i] *= 3;
    while (heap_size(m.heap) > 0) {
        uint32_t top = heap_top(m.heap).stream;
        cr_assert_eq(heap_top(m.heap).key, m.key[top]);
        cr_assert_eq(top, smallest(MOST));
        m.in[top] = false;
        heap_pop(m.heap);
    }
    heap_free(m.heap);
}

Test(heap, none_and_null)
{
    struct heap *h = heap_new(0, NULL, NULL);
    cr_assert_eq(heap_size(h), 0);
    heap_free(h);
    heap_free(NULL);
}
