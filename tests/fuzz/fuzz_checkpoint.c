/*
 * fuzz_checkpoint.c - arbitrary text as a checkpoint.
 *
 * The first byte chooses. Either the rest is the file as it is; or it is the file without its last line, which is added here with
 * the sum it should have, so that what lies before is looked at; or it gives the values of all lines in their order. Or it is
 * the place of a consumer in a manifest. What is accepted must give the same text again, byte for byte.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "merger/checkpoint.h"
#include "merger/consume.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const head[] = {"state",  "job",   "order", "unique", "tag",  "zero",    "limit",
                                   "walked", "items", "bytes", "digest", "last", "datasets"};
static const char *const stream[] = {"id",    "run",         "token",        "list", "of",
                                     "taken", "taken-bytes", "taken-digest", "tail", "tail-digest"};
static const char *const values[] = {"merging",
                                     "complete",
                                     "demo",
                                     "-n",
                                     "0",
                                     "1",
                                     "2",
                                     "3",
                                     "",
                                     "10",
                                     "12",
                                     "18446744073709551615",
                                     "0123456789abcdeffedcba9876543210",
                                     "%20"};
enum {
    HEAD = sizeof head / sizeof *head,
    STREAM = sizeof stream / sizeof *stream,
    VALUES = sizeof values / sizeof *values
};

struct input {
    const uint8_t *data;
    size_t size;
};

static uint8_t next(struct input *in) { return in->size ? (in->size--, *in->data++) : 0; }

/* One of those that are plausible, or bytes of the input. */
static void add_line(struct buf *out, const char *name, struct input *in)
{
    uint8_t choice = next(in);
    buf_printf(out, "%s=", name);
    if (choice < 0xc0) {
        buf_printf(out, "%s", values[choice % VALUES]);
    } else {
        for (int n = choice % 16; n > 0; n--) buf_append(out, (const char[]){(char)next(in)}, 1);
    }
    buf_append(out, "\n", 1);
}

static void add_lines(struct buf *out, struct input *in)
{
    buf_printf(out, "nwmerge checkpoint 1\n");
    for (int i = 0; i < HEAD; i++) add_line(out, head[i], in);
    while (in->size > 0)
        for (int i = 0; i < STREAM; i++) add_line(out, stream[i], in);
}

static void add_sum(struct buf *out)
{
    struct digest sum = {0, 0};
    char text[DIGEST_TEXT];
    digest_add_item(&sum, out->data, out->len);
    digest_text(&sum, text);
    buf_printf(out, "sum=%s\n", text);
}

static int try_place(const struct input *in)
{
    struct stream_mark at = {0};
    char *text = mem_strndup((const char *)in->data, in->size);
    if (consume_read_place(text, &at)) {
        char *again = consume_place_text(&at);
        if (strcmp(again, text) != 0) abort();
        free(again);
    }
    free(text);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    uint8_t choice = next(&in) % 5;
    if (choice == 4) return try_place(&in);
    struct buf text = {0}, again = {0};
    if (choice == 0) {
        buf_append(&text, in.data, in.size);
    } else if (choice == 1) {
        buf_append(&text, in.data, in.size);
        buf_text(&text);
        add_sum(&text);
    } else {
        add_lines(&text, &in);
        add_sum(&text);
    }
    struct checkpoint c;
    struct fault *fault = checkpoint_parse(&c, buf_text(&text), text.len);
    if (fault && !fault_is(fault, FAULT_CHANGED)) abort();
    if (!fault) {
        checkpoint_format(&c, &again);
        if (again.len != text.len || memcmp(again.data, text.data, text.len) != 0) abort();
    }
    fault_free(fault);
    checkpoint_fini(&c);
    buf_free(&text);
    buf_free(&again);
    return 0;
}
