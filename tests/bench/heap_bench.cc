/*
 * heap_bench - the heap alone: nanoseconds an item to merge k sorted sequences of keys.
 *
 *     heap_bench [ITEMS [ROUNDS]]          prints CSV: keys,k,heap,ns (the median of the rounds)
 *
 * The keys stand ready in memory, the same for all; the heaps take turns. Keys:
 *     random     evenly spread over 2^63
 *     clustered  neighbours of a sequence lie close together, about 16 of them before another sequence has its turn
 *     few        16 different ones
 * Heaps:
 *     nwmerge    merger/heap.c, one heap_replace_top() an item
 *     runs       the same as merge.c uses it: a sequence that wins twice is followed for as long as it stays below the second
 *     std        std::priority_queue, pop and push
 *     textbook   sifting down from the root, comparing with the new key on every level
 * All put the same (key, sequence) pairs out in the same order, which a checksum proves.
 */
#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <queue>
#include <random>
#include <string>
#include <vector>

extern "C" {
#include "merger/heap.h"
}

using Keys = std::vector<std::vector<uint64_t>>;
using Entry = heap_entry;

static bool before(const Entry &a, const Entry &b) { return a.key != b.key ? a.key < b.key : a.stream < b.stream; }

/* ---- keys: exact ones, which are even (shared/order.h) ---- */

static Keys make_keys(const std::string &kind, size_t k, size_t items)
{
    std::mt19937_64 random(42);
    Keys keys(k);
    std::vector<uint64_t> values(16);
    for (auto &v : values) v = random() >> 1 & ~UINT64_C(1);
    for (auto &sequence : keys) {
        sequence.resize(items / k);
        uint64_t cluster = 0;
        for (size_t i = 0; i < sequence.size(); i++) {
            uint64_t x = random();
            if (kind == "few") {
                sequence[i] = values[x % 16];
            } else if (kind == "random") {
                sequence[i] = x >> 1 & ~UINT64_C(1);
            } else {
                if (i % 16 == 0) cluster = x >> 1 & ~UINT64_C(0xffff);
                sequence[i] = cluster + (x & 0xfffe);
            }
        }
        std::sort(sequence.begin(), sequence.end());
    }
    return keys;
}

/* ---- what the merges share ---- */

struct Front {
    const uint64_t *next, *end;
};

static std::vector<Front> fronts_of(const Keys &keys)
{
    std::vector<Front> fronts;
    for (const auto &s : keys) fronts.push_back({s.data(), s.data() + s.size()});
    return fronts;
}

static inline void note(uint64_t &sum, uint64_t key, uint32_t stream)
{
    sum = (sum ^ key ^ stream) * UINT64_C(0x100000001b3);
}

/* ---- the merges ---- */

static uint64_t merge_nwmerge(const Keys &keys)
{
    auto fronts = fronts_of(keys);
    uint64_t sum = 0;
    heap *h = heap_new(keys.size(), nullptr, nullptr);
    for (size_t i = 0; i < fronts.size(); i++) heap_enter(h, *fronts[i].next++, (uint32_t)i);
    heap_play(h);
    while (heap_size(h) > 0) {
        Entry top = heap_top(h);
        note(sum, top.key, top.stream);
        Front &f = fronts[top.stream];
        if (f.next == f.end) {
            heap_pop(h);
        } else {
            heap_replace_top(h, *f.next++);
        }
    }
    heap_free(h);
    return sum;
}

static uint64_t merge_runs(const Keys &keys)
{
    auto fronts = fronts_of(keys);
    uint64_t sum = 0;
    heap *h = heap_new(keys.size(), nullptr, nullptr);
    for (size_t i = 0; i < fronts.size(); i++) heap_enter(h, *fronts[i].next++, (uint32_t)i);
    heap_play(h);
    bool follows = false;
    while (heap_size(h) > 0) {
        Entry top = heap_top(h), second = {UINT64_MAX, UINT32_MAX};
        const uint32_t stream = top.stream;
        Front &f = fronts[stream];
        if (follows) {
            heap_second(h, &second);
            do note(sum, top.key, stream);
            while (f.next != f.end && (top.key = *f.next++, before(top, second)));
            if (before(top, second)) {
                heap_pop(h);
            } else {
                heap_replace_top(h, top.key);
            }
        } else {
            note(sum, top.key, stream);
            if (f.next == f.end) {
                heap_pop(h);
            } else {
                heap_replace_top(h, *f.next++);
            }
        }
        follows = heap_size(h) > 0 && heap_top(h).stream == stream;
    }
    heap_free(h);
    return sum;
}

static uint64_t merge_std(const Keys &keys)
{
    auto fronts = fronts_of(keys);
    uint64_t sum = 0;
    auto later = [](const Entry &a, const Entry &b) { return before(b, a); };
    std::vector<Entry> room;
    room.reserve(keys.size());
    std::priority_queue<Entry, std::vector<Entry>, decltype(later)> queue(later, std::move(room));
    for (size_t i = 0; i < fronts.size(); i++) queue.push({*fronts[i].next++, (uint32_t)i});
    while (!queue.empty()) {
        Entry top = queue.top();
        note(sum, top.key, top.stream);
        queue.pop();
        Front &f = fronts[top.stream];
        if (f.next != f.end) queue.push({*f.next++, top.stream});
    }
    return sum;
}

static void sift_down(std::vector<Entry> &h, size_t hole)
{
    Entry e = h[hole];
    for (size_t child; (child = 2 * hole + 1) < h.size(); hole = child) {
        if (child + 1 < h.size() && before(h[child + 1], h[child])) child++;
        if (!before(h[child], e)) break;
        h[hole] = h[child];
    }
    h[hole] = e;
}

static uint64_t merge_textbook(const Keys &keys)
{
    auto fronts = fronts_of(keys);
    uint64_t sum = 0;
    std::vector<Entry> h;
    for (size_t i = 0; i < fronts.size(); i++) h.push_back({*fronts[i].next++, (uint32_t)i});
    for (size_t i = h.size() / 2; i-- > 0;) sift_down(h, i);
    while (!h.empty()) {
        Entry top = h[0];
        note(sum, top.key, top.stream);
        Front &f = fronts[top.stream];
        if (f.next == f.end) {
            h[0] = h.back();
            h.pop_back();
        } else {
            h[0].key = *f.next++;
        }
        if (!h.empty()) sift_down(h, 0);
    }
    return sum;
}

/* ---- the measuring ---- */

struct Contender {
    const char *name;
    uint64_t (*merge)(const Keys &);
    std::vector<double> ns;
};

static bool compare(const char *kind, size_t k, size_t items, int rounds)
{
    Contender contenders[] = {{"nwmerge", merge_nwmerge, {}},
                              {"runs", merge_runs, {}},
                              {"std", merge_std, {}},
                              {"textbook", merge_textbook, {}}};
    Keys keys = make_keys(kind, k, items);
    uint64_t expected = merge_std(keys);
    for (int r = 0; r < rounds; r++)
        for (auto &c : contenders) {
            auto begun = std::chrono::steady_clock::now();
            uint64_t sum = c.merge(keys);
            std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begun;
            c.ns.push_back(took.count() / (double)(items / k * k));
            if (sum == expected) continue;
            std::fprintf(stderr, "heap_bench: %s puts out something else than std::priority_queue\n", c.name);
            return false;
        }
    for (auto &c : contenders) {
        std::sort(c.ns.begin(), c.ns.end());
        std::printf("%s,%zu,%s,%.1f\n", kind, k, c.name, c.ns[c.ns.size() / 2]);
    }
    return true;
}

int main(int argc, char **argv)
{
    size_t items = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2000000;
    int rounds = argc > 2 ? std::atoi(argv[2]) : 5;
    std::puts("keys,k,heap,ns");
    for (const char *kind : {"random", "clustered", "few"})
        for (size_t k : {2, 8, 64, 512, 4096})
            if (!compare(kind, k, std::max(items, k), std::max(rounds, 1))) return 1;
    return 0;
}
