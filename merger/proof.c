#include "merger/proof.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "merger/receipt.h"
#include "shared/log.h"
#include "shared/mem.h"
#include "shared/reader.h"

enum { NAMED = 20 }; /* so many datasets without a digest are named */

/* What a merge of these datasets adds up to, or what the file did. */
struct sum {
    uint64_t items, bytes; /* without separators */
    uint64_t max_item;
    struct digest digest;
};

struct proof {
    const struct options *options;
    const struct order *order;
    const char *name; /* of the file, for people */
    struct sum wanted, found;
    struct bytes before; /* the last item; the reader keeps it for us */
    uint64_t before_norm;
};

/* ---- what the manifests say -------------------------------------------------------------------------------------- */

static struct sum sum_manifests(const struct roster *r)
{
    struct sum sum = {0};
    for (size_t i = 0; i < roster_size(r); i++) {
        const struct manifest *f = &roster_member(r, i)->manifest;
        sum.items += f->items;
        sum.bytes += f->bytes;
        if (f->max_item > sum.max_item) sum.max_item = f->max_item;
        digest_add(&sum.digest, &f->digest);
    }
    return sum;
}

/* "demo:1, demo:2", or nothing when each can be proven. An empty dataset needs no digest. */
static char *unproven(const struct roster *r)
{
    struct buf names = {0};
    size_t n = 0;
    for (size_t i = 0; i < roster_size(r); i++) {
        const struct member *m = roster_member(r, i);
        if (m->manifest.has_digest || m->manifest.items == 0) continue;
        if (n < NAMED) buf_printf(&names, "%s%s", n ? ", " : "", m->name);
        n++;
    }
    if (n > NAMED) buf_printf(&names, " and %zu more", n - NAMED);
    buf_text(&names);
    return names.data;
}

/* ---- what the file holds ----------------------------------------------------------------------------------------- */

static const char *unit(const struct proof *p) { return p->options->separator == '\n' ? "line" : "item"; }

static struct fault *unsorted(const struct proof *p, struct bytes item)
{
    char *this = mem_quote(item.data, item.len), *before = mem_quote(p->before.data, p->before.len);
    struct fault *f = fault_new(FAULT_UNSORTED, "%s %" PRIu64 " %s sorts before %s %" PRIu64 " %s", unit(p),
                                p->found.items + 1, this, unit(p), p->found.items, before);
    free(this);
    free(before);
    return fault_frame(f, "check order %s", order_name(p->order));
}

static bool in_order(const struct proof *p, uint64_t norm, struct bytes item)
{
    if (norm != p->before_norm) return norm > p->before_norm;
    return norm_is_exact(norm) || order_compare(p->order, p->before.data, p->before.len, item.data, item.len) <= 0;
}

static struct fault *take_item(struct proof *p, struct bytes item)
{
    uint64_t norm = order_norm(p->order, item.data, item.len, 0);
    if (p->found.items > 0 && !in_order(p, norm, item)) return unsorted(p, item);
    p->before = item;
    p->before_norm = norm;
    p->found.items++;
    p->found.bytes += item.len;
    digest_add_item(&p->found.digest, item.data, item.len);
    return NULL;
}

/* What the reader says is about any input; here is what it means for this one. */
static struct fault *explain(const struct proof *p, struct fault *f)
{
    if (f && fault_is(f, FAULT_INTERRUPTED))
        fault_become(f, FAULT_INTERRUPTED, "interrupted after %" PRIu64 " items of %s", p->found.items, p->name);
    if (f && fault_is(f, FAULT_BAD_ITEM))
        fault_become(f, FAULT_MISMATCH,
                     "%s %" PRIu64 " is longer than %" PRIu64 " bytes, the largest item of the datasets%s", unit(p),
                     p->found.items + 1, p->wanted.max_item,
                     p->options->separator ? "; a file written with -z is checked with -z" : "");
    return f;
}

static struct fault *read_items(struct proof *p, struct reader *reader)
{
    for (;;) {
        struct bytes item;
        bool end;
        struct fault *f = explain(p, reader_next(reader, &item, &end));
        if (f || end) return f;
        f = take_item(p, item);
        if (f) return f;
    }
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

static struct fault *compare(const struct proof *p, uint64_t read)
{
    static const char hint[] = "what -u, --tag or --limit wrote cannot be proven";
    const struct sum *wanted = &p->wanted, *found = &p->found;
    if (found->items != wanted->items)
        return fault_new(FAULT_MISMATCH, "%" PRIu64 " items where the manifests say %" PRIu64 " (%s)", found->items,
                         wanted->items, hint);
    if (read != found->bytes + found->items)
        return fault_new(FAULT_MISMATCH, "the last %s has no %s behind it: the file is cut off", unit(p),
                         p->options->separator ? "newline" : "NUL byte");
    if (found->bytes != wanted->bytes)
        return fault_new(FAULT_MISMATCH,
                         "%" PRIu64 " bytes in %" PRIu64 " items where the manifests say %" PRIu64 " (%s)",
                         found->bytes, found->items, wanted->bytes, hint);
    return NULL;
}

static struct fault *compare_digest(const struct proof *p, const struct roster *r)
{
    char found[DIGEST_TEXT], wanted[DIGEST_TEXT];
    char *names = unproven(r);
    struct fault *f = NULL;
    digest_text(&p->found.digest, found);
    digest_text(&p->wanted.digest, wanted);
    if (*names) {
        f = fault_new(FAULT_MISMATCH,
                      "cannot be proven: %s without a digest; what could be compared, count, bytes and order, is right",
                      names);
    } else if (!digest_equal(&p->found.digest, &p->wanted.digest)) {
        f = fault_new(FAULT_MISMATCH, "digest %s where those of the manifests add up to %s: an item is another one",
                      found, wanted);
    }
    free(names);
    return f;
}

static void print_proven(const struct proof *p, const struct roster *r)
{
    char text[DIGEST_TEXT];
    digest_text(&p->found.digest, text);
    struct buf line = {0};
    buf_printf(&line, "%s: proven: %" PRIu64 " item%s from ", p->name, p->found.items, p->found.items == 1 ? "" : "s");
    receipt_sources(&line, p->options, r);
    buf_printf(&line, ", order %s, digest %s", order_name(p->order), text);
    log_note("%s", buf_text(&line));
    buf_free(&line);
}

struct fault *proof_check(const struct options *o, const struct roster *r, const struct order *order)
{
    bool is_stdin = strcmp(o->check_file, "-") == 0;
    struct proof p = {.options = o, .order = order, .wanted = sum_manifests(r)};
    p.name = is_stdin ? "standard input" : o->check_file;
    int fd;
    struct fault *f = reader_open(is_stdin ? NULL : o->check_file, p.name, &fd);
    if (f) return fault_about(f, "%s", p.name);
    struct reader *reader = reader_new(fd, p.name, o->separator);
    reader_set_longest(reader, p.wanted.max_item);
    f = read_items(&p, reader);
    if (!f) f = compare(&p, reader_bytes(reader));
    if (!f) f = compare_digest(&p, r);
    if (!f) print_proven(&p, r);
    reader_free(reader);
    return f ? fault_about(fault_frame(f, "check %s", p.name), "%s", p.name) : NULL;
}
