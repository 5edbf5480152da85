#include "worker/checker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shared/digest.h"

/* An item that is gone but can be recognised. */
struct print {
    size_t len;
    struct digest hash;
};

struct checker {
    const struct order *order;
    struct totals totals;
    struct bytes before; /* the last item, in its source's memory */
    uint64_t before_norm;
    size_t window; /* the bytes of the last DATASET_WINDOW items */
    size_t lengths[DATASET_WINDOW];
    struct print first_print, last_print;
    char first[DATASET_EDGE_MAX], last[DATASET_EDGE_MAX];
};

struct checker *checker_new(const struct order *order)
{
    struct checker *c = mem_zalloc(sizeof *c);
    c->order = order;
    return c;
}

void checker_free(struct checker *c) { free(c); }

static struct print print_of(struct bytes item)
{
    struct print p = {.len = item.len};
    digest_add_item(&p.hash, item.data, item.len);
    return p;
}

static bool print_fits(const struct print *p, struct bytes item)
{
    if (p->len != item.len) return false;
    struct print other = print_of(item);
    return digest_equal(&p->hash, &other.hash);
}

static struct bytes copy_edge(char to[DATASET_EDGE_MAX], struct bytes item)
{
    size_t len = item.len < DATASET_EDGE_MAX ? item.len : DATASET_EDGE_MAX;
    if (len > 0) memcpy(to, item.data, len);
    return (struct bytes){to, len};
}

static struct fault *unsorted(const struct checker *c, struct bytes item)
{
    char *this = mem_quote(item.data, item.len), *before = mem_quote(c->before.data, c->before.len);
    uint64_t n = c->totals.items;
    struct fault *f =
        fault_new(FAULT_UNSORTED,
                  "item %" PRIu64 " %s sorts before item %" PRIu64 " %s (sort it with %s, or load it with --sort)",
                  n + 1, this, n, before, order_sort_command(c->order));
    free(this);
    free(before);
    return f;
}

/* The norms decide, but for ties that are not exact. */
static inline bool in_order(const struct checker *c, uint64_t norm, struct bytes item)
{
    if (norm != c->before_norm) return norm > c->before_norm;
    return norm_is_exact(norm) || order_compare(c->order, c->before.data, c->before.len, item.data, item.len) <= 0;
}

static inline void count(struct checker *c, struct bytes item)
{
    struct totals *t = &c->totals;
    size_t *slot = &c->lengths[t->items % DATASET_WINDOW];
    c->window += item.len - *slot;
    *slot = item.len;
    t->items++;
    t->bytes += item.len;
    if (item.len > t->max_item) t->max_item = item.len;
    if (c->window > t->max_window) t->max_window = c->window;
    digest_add_item(&t->digest, item.data, item.len);
}

struct fault *checker_add(struct checker *c, struct bytes item)
{
    uint64_t norm = order_norm(c->order, item.data, item.len, 0);
    if (c->totals.items == 0) {
        c->totals.first = copy_edge(c->first, item);
        c->first_print = print_of(item);
    } else if (!in_order(c, norm, item)) {
        return unsorted(c, item);
    }
    count(c, item);
    c->before = item;
    c->before_norm = norm;
    return NULL;
}

const struct totals *checker_so_far(const struct checker *c) { return &c->totals; }

const struct totals *checker_totals(struct checker *c)
{
    if (c->before.data) {
        c->totals.last = copy_edge(c->last, c->before);
        c->last_print = print_of(c->before);
        c->before.data = NULL;
    }
    return &c->totals;
}

bool checker_is_first(const struct checker *c, struct bytes item) { return print_fits(&c->first_print, item); }
bool checker_is_last(const struct checker *c, struct bytes item) { return print_fits(&c->last_print, item); }
