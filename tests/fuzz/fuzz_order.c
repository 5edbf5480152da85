/*
 * The order compiler and everything it compiles to, fed with arbitrary bytes: options up to the first 0xff byte, then
 * three items with 0xff between them. What must hold for any order and any items is trapped if it does not.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/fault.h"
#include "shared/mem.h"
#include "shared/order.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ITEMS = 3 };

static void require(bool held)
{
    if (!held) __builtin_trap();
}

static int sign(int n) { return (n > 0) - (n < 0); }

/* A word of the options: 'k' and a key, 't' and a separator, or letters. */
static struct fault *apply(struct order *o, const char *word)
{
    if (word[0] == 'k') return order_key(o, word + 1);
    if (word[0] == 't') return order_separator(o, word + 1);
    struct fault *f = NULL;
    for (; f == NULL && *word != '\0'; word++) f = order_letter(o, *word);
    return f;
}

/* NULL when the words, each ended by a newline, are no order. */
static struct order *build(const char *options)
{
    char *words = mem_strdup(options), *rest = words;
    struct order *o = order_new();
    struct fault *f = NULL;
    while (f == NULL && rest != NULL) f = apply(o, strsep(&rest, "\n"));
    if (f == NULL) f = order_compile(o);
    free(words);
    if (f == NULL) return o;
    require(fault_is(f, FAULT_USAGE));
    fault_free(f);
    order_free(o);
    return NULL;
}

/* NULL when the text is not canonical. */
static struct order *parse(const char *text)
{
    struct order *o = NULL;
    struct fault *f = order_parse(text, &o);
    require((f == NULL) == (o != NULL));
    if (f == NULL) {
        require(strcmp(order_text(o), text) == 0);
        return o;
    }
    require(fault_is(f, FAULT_BAD_CONTRACT));
    fault_free(f);
    return NULL;
}

static void check_norms(uint64_t x, uint64_t y, int truth)
{
    require((x ^ y) != NORM_INEXACT);
    if (x == y)
        require(!norm_is_exact(x) || truth == 0);
    else
        require(truth == (x < y ? -1 : 1));
}

static int check_pair(const struct order *o, struct bytes a, struct bytes b)
{
    int truth = sign(order_compare(o, a.data, a.len, b.data, b.len));
    require(sign(order_compare(o, b.data, b.len, a.data, a.len)) == -truth);
    require(order_compare(o, a.data, a.len, a.data, a.len) == 0);
    check_norms(order_norm(o, a.data, a.len, 0), order_norm(o, b.data, b.len, 0), truth);
    if (!order_can_skip(o)) return truth;
    size_t shared = order_shared(o, a.data, a.len, b.data, b.len);
    const char *key;
    size_t key_len;
    order_first_key(o, a.data, a.len, &key, &key_len);
    require(shared <= key_len);
    uint64_t x = order_norm(o, a.data, a.len, shared), y = order_norm(o, b.data, b.len, shared), behind = 0;
    check_norms(x, y, truth);
    require(order_norm_behind(o, b.data, b.len, key, shared, &behind) && behind == y);
    bool falls;
    if (!order_is_bytes(o)) return truth;
    require(order_norm_after(o, a.data, a.len, b.data, b.len, shared, &behind, &falls) && behind == y);
    require(falls == (truth > 0));
    return truth;
}

static void check_key(const struct order *o, struct bytes item)
{
    const char *key;
    size_t len;
    order_first_key(o, item.data, item.len, &key, &len);
    require(key >= item.data && key <= item.data + item.len && len <= (size_t)(item.data + item.len - key));
}

static void check_order(const struct order *o, const struct bytes *items)
{
    for (int i = 0; i < ITEMS; i++) check_key(o, items[i]);
    int ab = check_pair(o, items[0], items[1]);
    int bc = check_pair(o, items[1], items[2]);
    int ac = check_pair(o, items[0], items[2]);
    if (ab == bc || ab == 0 || bc == 0) require(ac == (ab != 0 ? ab : bc));
}

/* The next part of the input, up to 0xff, in memory of its own size: a byte read behind it is found. */
static struct bytes cut(const uint8_t **data, size_t *size)
{
    const uint8_t *end = *size > 0 ? memchr(*data, 0xff, *size) : NULL;
    size_t len = end != NULL ? (size_t)(end - *data) : *size;
    char *copy = mem_alloc(len != 0 ? len : 1);
    if (len > 0) memcpy(copy, *data, len);
    size_t used = end != NULL ? len + 1 : len;
    *data += used;
    *size -= used;
    return (struct bytes){copy, len};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes options = cut(&data, &size), items[ITEMS];
    for (int i = 0; i < ITEMS; i++) items[i] = cut(&data, &size);
    char *text = mem_dup(options.data, options.len);
    struct order *built = build(text), *parsed = parse(text);
    if (built != NULL) {
        struct order *again = parse(order_text(built));
        require(again != NULL && strcmp(order_sort_command(again), order_sort_command(built)) == 0);
        check_order(built, items);
        order_free(again);
    }
    if (parsed != NULL) check_order(parsed, items);
    order_free(built);
    order_free(parsed);
    free(text);
    free((char *)options.data);
    for (int i = 0; i < ITEMS; i++) free((char *)items[i].data);
    return 0;
}
