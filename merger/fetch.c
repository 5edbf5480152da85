#include "merger/fetch.h"

#include <stdlib.h>

#include "merger/link.h"
#include "shared/mem.h"

/* Bytes, where nothing else is said. */
enum {
    FIRST_ITEMS = 16,          /* items of the first batch: something to begin with, */
    GROWTH = 4,                /* and each one after it may have so many times as many */
    FIRST_WINDOW = 16 * 1024,  /* what a stream may hold before anything of it was consumed */
    BASE_WINDOW = 192 * 1024,  /* what a stream that is being consumed reads ahead at least */
    BATCHES_IN_WINDOW = 4,     /* so that while one is consumed, others are on their way */
    MIN_BATCH = 16 * 1024,     /* where the window allows it, not less */
    MAX_BATCH = 64 * 1024,     /* a batch is of no use before all of it is here (R: 98 to 82 ns an item, from 256 KB) */
    LONG_BATCH = 256 * 1024,   /* of lists so long that Redis has far to walk to the place: */
    LONG_LIST = 1024,          /* when MAX_BATCH would be less than this part of the list */
    OUTSTANDING = 8 * 1000000, /* replies on one connection, never more */
    ALWAYS_OUT = 256 * 1024,   /* keeps a server next door busy */
    SERVER_RATE = 400,         /* a microsecond: what one Redis can send of short items */
};

#define ABSURD_ITEM ((uint64_t)1 << 40)

enum urgency { URGENT, PATIENT, URGENCIES };

/* A stream as the read-ahead sees it. */
struct lane {
    struct stream *stream;
    struct wire *wire;
    size_t floor;    /* one item and the one before it: always granted */
    size_t window;   /* what it may hold now, floor included */
    uint64_t most;   /* items the next request may ask for: few at first on a connection, then more and more */
    bool gives_back; /* what it was lent, as that runs off */
    struct lane *behind[URGENCIES];
    bool queued[URGENCIES];
};

/* One connection, as what it may carry: the lanes that may want to ask on it, in the order they came. */
struct wire {
    const struct link
        *link;    /* of the streams when we began, only to tell them apart: a reconnect replaces it in all of them */
    size_t lanes; /* how many share it */
    struct lane *first[URGENCIES], *last[URGENCIES];
};

struct fetch {
    struct lane *lanes;
    size_t n;
    struct wire *wires;
    size_t wire_count;
    struct fetch_limits limits;
    size_t fair;  /* what a window may grow to without having stalled, beyond its floor */
    size_t spare; /* what stalled streams may still add */
};

/* ---- the queues of lanes that may want to ask -------------------------------------------------------------------- */

static void enqueue(struct lane *lane, enum urgency u)
{
    struct wire *w = lane->wire;
    if (lane->queued[u]) return;
    lane->queued[u] = true;
    lane->behind[u] = NULL;
    if (w->last[u]) {
        w->last[u]->behind[u] = lane;
    } else {
        w->first[u] = lane;
    }
    w->last[u] = lane;
}

static void dequeue(struct wire *w, enum urgency u)
{
    struct lane *lane = w->first[u];
    lane->queued[u] = false;
    w->first[u] = lane->behind[u];
    if (!w->first[u]) w->last[u] = NULL;
}

void fetch_touch(struct fetch *f, size_t stream) { enqueue(&f->lanes[stream], PATIENT); }

void fetch_reconnected(struct fetch *f, size_t stream)
{
    f->lanes[stream].most = FIRST_ITEMS;
    fetch_touch(f, stream);
}

/* ---- windows ----------------------------------------------------------------------------------------------------- */

/* Manifests are what others wrote: sums over thousands of streams must not overflow. Redis has no items near this. */
static uint64_t largest_item(const struct stream *s)
{
    uint64_t max = stream_spec(s)->max_item;
    return max < ABSURD_ITEM ? max : ABSURD_ITEM;
}

/* One item and the one re-read before it. */
static size_t floor_of(const struct stream *s)
{
    const struct stream_spec *spec = stream_spec(s);
    uint64_t two = 2 * largest_item(s);
    if (!spec->is_plain && two > spec->bytes) two = spec->bytes;
    return (size_t)two + 512;
}

static struct fault *check_memory(const struct fetch_limits *limits, size_t floors, size_t largest)
{
    size_t need = limits->fixed + floors + largest;
    if (need <= limits->memory) return NULL;
    size_t suffices = (need + (1 << 20) - 1) >> 20;
    return fault_new(
        FAULT_NO_MEMORY,
        "--memory %zuM is too small: holding one item and its predecessor of each dataset, and reading one of "
        "them, can take %zuM; --memory %zuM suffices",
        limits->memory >> 20, suffices, suffices);
}

static struct wire *wire_of(struct fetch *f, const struct link *link)
{
    for (size_t i = 0; i < f->wire_count; i++)
        if (f->wires[i].link == link) return &f->wires[i];
    f->wires[f->wire_count].link = link;
    return &f->wires[f->wire_count++];
}

struct fault *fetch_new(struct stream **streams, size_t n, const struct fetch_limits *limits, struct fetch **out)
{
    size_t floors = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        floors += floor_of(streams[i]);
        size_t item = (size_t)largest_item(streams[i]);
        if (item > largest) largest = item;
    }
    /* With -u the merge keeps a copy of the item it wrote last. */
    struct fault *fault = check_memory(limits, floors, largest);
    if (fault) return fault;

    struct fetch *f = mem_zalloc(sizeof *f);
    f->limits = *limits;
    f->n = n;
    f->lanes = mem_zalloc((n + 1) * sizeof *f->lanes);
    f->wires = mem_zalloc((n + 1) * sizeof *f->wires);
    size_t spare = limits->memory - limits->fixed - floors - largest;
    f->fair = n ? spare / 2 / n : 0;
    f->spare = spare / 2;
    for (size_t i = 0; i < n; i++) {
        struct lane *lane = &f->lanes[i];
        lane->stream = streams[i];
        lane->wire = wire_of(f, stream_link(streams[i]));
        lane->wire->lanes++;
        lane->floor = floor_of(streams[i]);
        lane->most = FIRST_ITEMS;
        lane->window = lane->floor + (f->fair < FIRST_WINDOW ? f->fair : FIRST_WINDOW);
        fetch_touch(f, i);
    }
    *out = f;
    return NULL;
}

void fetch_free(struct fetch *f)
{
    if (!f) return;
    free(f->lanes);
    free(f->wires);
    free(f);
}

/* Windows beyond the even share and f->spare always add up to the same, and none shrinks below what its stream holds: that is
 * what keeps the sum under the cap. */
static void give_back(struct fetch *f, struct lane *lane)
{
    size_t keep = lane->floor + f->fair, held = stream_memory(lane->stream);
    if (keep < held) keep = held;
    if (lane->window <= keep) return;
    f->spare += lane->window - keep;
    lane->window = keep;
}

/* Nothing is left for those who wait: all others are to give back what they were lent. */
static void start_over(struct fetch *f, const struct lane *waiting)
{
    for (size_t i = 0; i < f->n; i++) {
        struct lane *lane = &f->lanes[i];
        if (lane == waiting) continue;
        lane->gives_back = true;
        give_back(f, lane);
    }
}

/*
 * What should be on its way on a connection so that the server is never idle: what it can send in two round trips. More is no
 * use, and costs: blocks that were read long before they are merged have left the cache (N: 107 to 132 ns an item with 30 MB
 * ahead, 71 to 78 with 2 to 4, measured).
 */
static size_t target_of(const struct link *l)
{
    uint64_t target = ALWAYS_OUT + 2 * link_rtt_us(l) * SERVER_RATE;
    return target < OUTSTANDING ? (size_t)target : OUTSTANDING;
}

/* What a lane that is being consumed may hold: what its connection should carry, twice, because all of it can be here before the merge
 * comes to it; and of that its part, when `lanes` are being consumed. At once, not step by step: each step would cost a round trip. */
static size_t base_of(const struct fetch *f, const struct lane *lane, size_t lanes)
{
    size_t base = 2 * target_of(stream_link(lane->stream)) / lanes;
    if (base < BASE_WINDOW) base = BASE_WINDOW;
    return lane->floor + (base < f->fair ? base : f->fair);
}

static void widen(struct lane *lane, size_t window)
{
    if (lane->window < window) lane->window = window;
}

/* Is what is on its way on the connection mostly its own? Then the merge follows this stream only, for now. */
static bool has_connection_for_itself(const struct lane *lane)
{
    return 2 * stream_reserved(lane->stream) > link_outstanding_bytes(stream_link(lane->stream));
}

static void grow(struct lane *lane, size_t most)
{
    if (lane->window < most) lane->window = 2 * lane->window < most ? 2 * lane->window : most;
}

void fetch_consumed(struct fetch *f, size_t stream)
{
    struct lane *lane = &f->lanes[stream];
    if (lane->gives_back) give_back(f, lane);
    widen(lane, base_of(f, lane, lane->wire->lanes));
    enqueue(lane, PATIENT);
}

/* The merge waits. Where the connection carries what it can, the server is the limit and a larger window would change nothing; where it
 * does not, this stream has to carry it alone. */
void fetch_stalled(struct fetch *f, size_t stream)
{
    struct lane *lane = &f->lanes[stream];
    const struct link *link = stream_link(lane->stream);
    enqueue(lane, URGENT);
    if (has_connection_for_itself(lane)) widen(lane, base_of(f, lane, 1));
    if (link_outstanding_bytes(link) >= target_of(link) / 2) return;
    size_t fair = lane->floor + f->fair;
    lane->gives_back = false;
    if (lane->window < fair) {
        grow(lane, fair);
        return;
    }
    if (f->spare == 0) start_over(f, lane);
    size_t more = lane->window < f->spare ? lane->window : f->spare;
    lane->window += more;
    f->spare -= more;
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

/* What a request of this lane should bring at most, in bytes. */
static size_t largest_batch(const struct lane *lane)
{
    uint64_t part = stream_spec(lane->stream)->bytes / LONG_LIST;
    return part < MAX_BATCH ? MAX_BATCH : part < LONG_BATCH ? (size_t)part : LONG_BATCH;
}

/* Items that the lane's next request may ask for, if there is room. */
static uint64_t decent_batch(const struct fetch *f, const struct lane *lane)
{
    const struct stream *s = lane->stream;
    if (f->limits.batch) {
        uint64_t safe = stream_items_in(s, SIZE_MAX); /* the promise of 1 MB a command holds for --batch too */
        return f->limits.batch < safe ? f->limits.batch : safe;
    }
    size_t bytes = lane->window / BATCHES_IN_WINDOW;
    if (bytes < MIN_BATCH) bytes = MIN_BATCH < lane->window / 2 ? MIN_BATCH : lane->window / 2;
    if (bytes > largest_batch(lane)) bytes = largest_batch(lane);
    uint64_t n = stream_items_in(s, bytes);
    /* While one is consumed another one has to be on its way. */
    while (n > 1 && 2 * stream_weight(s, n) > lane->window) n -= n / 16 + 1;
    return n < lane->most ? n : lane->most;
}

/* How many items the next request should bring, 0 for none now. */
static uint64_t next_request(const struct fetch *f, const struct lane *lane)
{
    const struct stream *s = lane->stream;
    uint64_t left = stream_unasked(s);
    uint64_t asked = stream_spec(s)->items - left;
    if (f->limits.has_item_limit) {
        uint64_t of_it = asked - stream_spec(s)->from.items;
        uint64_t useful = f->limits.item_limit > of_it ? f->limits.item_limit - of_it : 0;
        if (left > useful) left = useful;
    }
    if (left == 0) return 0;

    size_t memory = stream_memory(s);
    size_t room = lane->window > memory ? lane->window - memory : 0;
    uint64_t n = decent_batch(f, lane);
    if (n > left) n = left;
    while (n > 1 && stream_weight(s, n) > room) {
        if (memory > 0) return 0; /* wait until the window has room for a batch of a decent size */
        n /= 2;
    }
    if (stream_weight(s, n) > room && memory > 0) return 0;
    return n;
}

/* Whether a lane has asked for all it may have now. */
enum asked {
    ASKED_ALL,
    ASKED_SOME, /* it may ask for more, after the others behind it */
    ASKED_FULL, /* the connection is: it has to wait its turn */
};

/*
 * How much may be on its way on a connection. Those that the merge waits for may add a batch to what is enough for the server, no more:
 * Redis answers all the requests that it reads at once before it sends any of the answers, so that many for one stream would hold
 * them all back (D: 58 requests, 32 ms; wall time by what Redis worked 1.22 to 1.17, of R 1.31 to 1.22).
 */
static size_t most_out(const struct link *l, enum urgency u)
{
    size_t most = target_of(l) + (u == URGENT ? MAX_BATCH : 0);
    return most < OUTSTANDING ? most : OUTSTANDING;
}

/* Asks as far as the lane's window and its connection go. As long as its batches are still growing, one at a time: with thousands of streams
 * all have their first items soon, and the merge is under way while what comes behind them is fetched (K: 255 to 151 ns an item). */
static enum asked ask_lane(struct lane *lane, const struct fetch *f, enum urgency u)
{
    struct stream *s = lane->stream;
    struct link *link = stream_link(s);
    if (stream_state(s) != STREAM_OPEN) return ASKED_ALL;
    size_t most = most_out(link, u);
    for (uint64_t n; link_state(link) != LINK_DOWN && (n = next_request(f, lane)) > 0;) {
        size_t outstanding = link_outstanding_bytes(link);
        if (outstanding > 0 && outstanding + stream_weight(s, n) > most) return ASKED_FULL;
        stream_ask(s, n);
        if (n < lane->most) continue;
        lane->most = n < UINT64_MAX / GROWTH ? GROWTH * n : UINT64_MAX;
        return ASKED_SOME;
    }
    return ASKED_ALL;
}

static void ask_wire(struct fetch *f, struct wire *w)
{
    for (enum urgency u = URGENT; u < URGENCIES; u++) {
        while (w->first[u]) {
            struct lane *lane = w->first[u];
            enum asked asked = ask_lane(lane, f, u);
            if (asked == ASKED_FULL) return;
            dequeue(w, u);
            if (asked == ASKED_SOME) enqueue(lane, u);
        }
    }
}

void fetch_ask(struct fetch *f)
{
    for (size_t i = 0; i < f->wire_count; i++) ask_wire(f, &f->wires[i]);
}
