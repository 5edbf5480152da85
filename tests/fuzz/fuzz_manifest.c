/*
 * fuzz_manifest.c - arbitrary replies as manifests, arbitrary text as events.
 *
 * The first byte chooses. For a manifest the rest is a sequence of elements, each begun by one byte: a known field's
 * name, a plausible value, a string of arbitrary bytes, a missing element, or one of another type. The count may be
 * odd. The fields of a ready or of a failed manifest may follow; the first of two fields counts. What was accepted must
 * hold what manifest_read() promises, and no fault may print a control byte.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/dataset.h"
#include "shared/redis_compat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ELEMENTS_MAX = 128 };

static const char *const words[] = {
    "contract", "state",       "run",     "list",
    "token",    "lease",       "order",   "items",
    "bytes",    "max_item",    "first",   "last",
    "digest",   "source",      "error",   "exit",
    "at",       "message",     "started", "traceback",
    "finished", "loading",     "ready",   "consumed",
    "failed",   "max_window",  "1",       "dropped",
    "0",        "12",          "a:1:b",   "0123456789abcdeffedcba9876543210",
    "consumer", "consumed_at",
};
enum { WORDS = sizeof words / sizeof *words };

static const char *const ready[][2] = {
    {"contract", "1"},
    {"state", "ready"},
    {"run", "3"},
    {"list", "l"},
    {"token", "a:1:b"},
    {"order", "n"},
    {"items", "12"},
    {"bytes", "25"},
    {"max_item", "3"},
    {"lease", "15000"},
    {"first", "2"},
    {"last", "35"},
    {"digest", "0123456789abcdeffedcba9876543210"},
    {"source", "a.txt"},
    {"started", "1"},
    {"finished", "2"},
};
static const char *const failed[][2] = {
    {"contract", "1"}, {"state", "failed"}, {"run", "3"},     {"token", "a:1:b"},  {"error", "Lost"},
    {"exit", "4"},     {"message", "m"},    {"at", "line 1"}, {"source", "a.txt"}, {"traceback", "a\nb"},
};

struct input {
    const uint8_t *data;
    size_t size;
};

static unsigned take(struct input *in)
{
    if (!in->size) return 0;
    in->size--;
    return *in->data++;
}

static redisReply *make_string(const void *data, size_t len)
{
    redisReply *r = mem_zalloc(sizeof *r);
    r->type = REDIS_REPLY_STRING;
    r->str = mem_dup(data, len); /* as hiredis does it: with a NUL behind, so that reading further shows */
    r->len = (int)len;
    return r;
}

static redisReply *make_element(struct input *in)
{
    unsigned kind = take(in);
    if (kind == 255) return NULL;
    if (kind < WORDS) return make_string(words[kind], strlen(words[kind]));
    if (kind < 240) {
        size_t len = kind == 239 ? take(in) * 2u : kind % 24;
        if (len > in->size) len = in->size;
        redisReply *r = make_string(in->data, len);
        in->data += len;
        in->size -= len;
        return r;
    }
    redisReply *r = mem_zalloc(sizeof *r);
    r->type = (int)(kind - 240); /* without content, and so also a string without one */
    return r;
}

static void add_fields(redisReply *root, const char *const (*fields)[2], size_t n)
{
    for (size_t i = 0; i < 2 * n; i++) {
        const char *text = fields[i / 2][i % 2];
        root->element[root->elements++] = make_string(text, strlen(text));
    }
}

/* Escaped text is lines of valid UTF-8 without any control; what is above ASCII was checked character by character. */
static void check_printed(const struct fault *f)
{
    char *text;
    size_t len;
    FILE *to = open_memstream(&text, &len);
    fault_print(f, "fuzz", to);
    fclose(to);
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)text[i] < 0x20 && text[i] != '\n') || text[i] == 0x7f) abort();
    struct buf again = {0};
    for (char *line = text; *line;) {
        size_t n = strcspn(line, "\n");
        buf_escape(&again, line, n);
        buf_append(&again, "\n", 1);
        line += n + 1;
    }
    if (again.len != len || memcmp(again.data, text, len) != 0) abort();
    buf_free(&again);
    free(text);
}

static void check_accepted(const struct manifest *m)
{
    if (m->state > DATASET_DROPPED) abort();
    if (m->state == DATASET_READY && (!m->list || (m->items > 0 && !*m->list))) abort();
    if (m->state == DATASET_LOADING && !m->token) abort();
    if (m->state == DATASET_CONSUMED && m->has_consumed && (!m->list || m->consumed > m->items)) abort();
    if (m->lease_ms < 0 || m->started < 0 || m->finished < 0 || m->exit < 0 || m->exit > EXIT_TIMEOUT) abort();
    if (m->first.len > DATASET_EDGE_MAX || m->last.len > DATASET_EDGE_MAX) abort();
    struct fault *f = manifest_fault(m, "demo", "2");
    if (fault_exit(f) < EXIT_DATA || fault_exit(f) > EXIT_TIMEOUT) abort();
    check_printed(f);
    fault_free(f);
}

static void try_manifest(struct input in, unsigned with)
{
    redisReply *elements[ELEMENTS_MAX + 40], root = {.type = REDIS_REPLY_ARRAY, .element = elements};
    while (in.size && root.elements < ELEMENTS_MAX) elements[root.elements++] = make_element(&in);
    if (with == 2) add_fields(&root, ready, sizeof ready / sizeof *ready);
    if (with == 3) add_fields(&root, failed, sizeof failed / sizeof *failed);
    struct manifest m;
    struct fault *f = manifest_read(&m, &root);
    if (f)
        check_printed(f);
    else
        check_accepted(&m);
    fault_free(f);
    manifest_fini(&m);
    for (size_t i = 0; i < root.elements; i++) {
        if (elements[i]) free(elements[i]->str);
        free(elements[i]);
    }
}

static void try_event(struct input in)
{
    struct bytes id;
    enum dataset_state state;
    char *text = mem_alloc(in.size); /* no NUL behind it: reading beyond the length shows */
    if (in.size) memcpy(text, in.data, in.size);
    if (dataset_parse_event(text, in.size, &id, &state)) {
        char *name = mem_strndup(id.data, id.len);
        if (!dataset_name_is_valid(name) || state == DATASET_MISSING || state > DATASET_DROPPED) abort();
        free(name);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    unsigned choice = take(&in) % 4;
    if (choice == 0)
        try_event(in);
    else
        try_manifest(in, choice);
    return 0;
}
