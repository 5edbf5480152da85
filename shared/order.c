/*
 * The canonical text, precisely:
 *
 *     order     = "" | "-" letters | keys [ " -t" hex hex ]
 *     keys      = key { " " key }
 *     key       = "-k" F [ "." C ] letters                                 up to the end of the item
 *               | "-k" F [ "." C ] [ "b" ] "," F [ "." C ] letters         up to a field's end, or to a character of it
 *     letters   = [ "b" ] [ "f" ] [ "g" | "M" | "n" ] [ "r" ]
 *
 * The b before the comma is that of the start, the one behind it that of the end. Numbers have no zeros in front.
 * What cannot make a difference is left out, so that orders that are the same have the same text as far as that is
 * certain without looking at data:
 *   - one key that is the whole item is written without -k: "-k1n" is "-n", "-k1" is "" (bytes)
 *   - keys behind one that compares the whole item as plain bytes: they would only see equal items
 *   - f with g, M or n; b with them where the key starts at the beginning of a field; b at an end that has no character
 *   - ".1" at the start and ".0" at the end, and -t when no key needs fields
 * order_parse() reads it with the functions that read the command line and then demands the very same text back.
 */
#include "shared/order.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "shared/collate.h"
#include "shared/decimal.h"
#include "shared/mem.h"
#include "shared/order_key.h"
#include "shared/word8.h"

enum {
    /* No order for people has more; it bounds what a text from elsewhere makes us do. */
    MOST_KEYS = 64,
    MOST_TEXT = 4096,
};

typedef int compare_fn(const char *a, size_t alen, const char *b, size_t blen);
typedef uint64_t norm_fn(const char *key, size_t len);

/* A key with the function for its kind. */
struct sealed_key {
    struct order_key key;
    compare_fn *compare;
};

struct order {
    /* The global letters, as given. */
    unsigned letters;
    int separator;
    struct sealed_key *keys;
    size_t key_count;
    bool separator_given, key_given, sealed;

    /* From here on: made by order_compile(). */
    uint64_t (*norm)(const struct order *o, const char *item, size_t len, size_t skip);
    norm_fn *key_norm;
    struct order_key normed; /* the first key, without an end that its norm does not need */
    /* What -r turns over in a norm, and NORM_INEXACT where further keys decide between equal first ones. */
    uint64_t flip, tie;
    /* All that is compared is the whole item as bytes, or -r of that: 1, or -1. Otherwise 0. */
    int whole_bytes;
    bool can_skip;
    char *text, *sort_command;
};

/* ---------------------------------------------------------------- building */

struct order *order_new(void)
{
    struct order *o = mem_zalloc(sizeof *o);
    o->separator = SEPARATOR_NONE;
    return o;
}

void order_free(struct order *o)
{
    if (o == NULL) return;
    free(o->keys);
    free(o->text);
    free(o->sort_command);
    free(o);
}

struct fault *order_letter(struct order *o, char letter)
{
    assert(!o->sealed);
    unsigned bits = key_letter(letter);
    if (bits == 0) {
        const char option[] = {'-', letter, '\0'};
        char *quoted = mem_quote(option, 2);
        struct fault *f = key_letter_fault(letter, quoted);
        free(quoted);
        return f;
    }
    o->letters |= bits;
    return NULL;
}

static struct order_key *add_key(struct order *o)
{
    o->keys = mem_array(o->keys, o->key_count + 1, sizeof *o->keys);
    struct sealed_key *added = &o->keys[o->key_count++];
    *added = (struct sealed_key){.compare = NULL};
    return &added->key;
}

struct fault *order_key(struct order *o, const char *keydef)
{
    assert(!o->sealed);
    struct order_key key;
    struct fault *f = key_parse(&key, keydef);
    if (f != NULL) return f;
    if (o->key_count == MOST_KEYS) return fault_new(FAULT_USAGE, "-k: at most %d keys", MOST_KEYS);
    *add_key(o) = key;
    o->key_given = true;
    return NULL;
}

static struct fault *set_separator(struct order *o, int separator)
{
    if (o->separator_given && o->separator != separator) return fault_new(FAULT_USAGE, "-t: two different separators");
    o->separator = separator;
    o->separator_given = true;
    return NULL;
}

struct fault *order_separator(struct order *o, const char *text)
{
    assert(!o->sealed);
    if (text[0] == '\0') return fault_new(FAULT_USAGE, "-t: the separator is empty; a NUL byte is given as \\0");
    if (strcmp(text, "\\0") == 0) return set_separator(o, '\0');
    if (text[1] == '\0') return set_separator(o, (unsigned char)text[0]);
    char *quoted = mem_quote(text, strlen(text));
    struct fault *f = fault_new(FAULT_USAGE, "-t %s: the separator is a single byte", quoted);
    free(quoted);
    return f;
}

bool order_is_given(const struct order *o) { return o->letters != 0 || o->key_given || o->separator_given; }

/* ---------------------------------------------------------------- comparing and normalising */

int order_compare(const struct order *o, const char *a, size_t alen, const char *b, size_t blen)
{
    if (o->whole_bytes != 0) return o->whole_bytes * bytes_compare(a, alen, b, blen);
    for (size_t i = 0; i < o->key_count; i++) {
        const struct sealed_key *k = &o->keys[i];
        struct bytes x = key_find(&k->key, o->separator, a, alen);
        struct bytes y = key_find(&k->key, o->separator, b, blen);
        int difference = k->compare(x.data, x.len, y.data, y.len);
        if (difference != 0) return (difference > 0) == ((k->key.letters & KEY_REVERSE) == 0) ? 1 : -1;
    }
    return 0;
}

static inline uint64_t finish_norm(const struct order *o, uint64_t norm) { return (norm ^ o->flip) | o->tie; }

/* Whole items need no looking for the key. skip is 0 where it means nothing. */
static uint64_t norm_whole_bytes(const struct order *o, const char *item, size_t len, size_t skip)
{
    skip = skip < len ? skip : len;
    return finish_norm(o, bytes_norm(item + skip, len - skip));
}

static uint64_t norm_whole_number(const struct order *o, const char *item, size_t len, size_t skip)
{
    (void)skip;
    return finish_norm(o, decimal_norm(item, len));
}

static uint64_t norm_key(const struct order *o, const char *item, size_t len, size_t skip)
{
    struct bytes key = key_find(&o->normed, o->separator, item, len);
    skip = !o->can_skip ? 0 : skip < key.len ? skip : key.len;
    return finish_norm(o, o->key_norm(key.data + skip, key.len - skip));
}

uint64_t order_norm(const struct order *o, const char *item, size_t len, size_t skip)
{
    return o->norm(o, item, len, skip);
}

bool order_norm_behind(const struct order *o, const char *item, size_t len, const char *prefix, size_t prefix_len,
                       uint64_t *norm)
{
    struct bytes key = {item, len};
    if (o->norm != norm_whole_bytes) key = key_find(&o->keys[0].key, o->separator, item, len);
    if (key.len < prefix_len || memcmp(key.data, prefix, prefix_len) != 0) return false;
    *norm = finish_norm(o, bytes_norm(key.data + prefix_len, key.len - prefix_len));
    return true;
}

/* What two texts share, and below, at or above zero, how they compare. */
static inline size_t compare_from_start(const char *a, size_t alen, const char *b, size_t blen, int *difference)
{
    size_t shorter = alen < blen ? alen : blen;
    for (size_t i = 0; i < shorter; i += 8) {
        uint64_t x = word8_load_most(a + i, shorter - i), y = word8_load_most(b + i, shorter - i);
        if (x == y) continue;
        *difference = word8_big_endian(x) < word8_big_endian(y) ? -1 : 1;
        return i + (unsigned)__builtin_ctzll(x ^ y) / 8;
    }
    *difference = (alen > blen) - (alen < blen);
    return shorter;
}

bool order_norm_after(const struct order *o, const char *before, size_t before_len, const char *item, size_t len,
                      size_t prefix_len, uint64_t *norm, bool *falls)
{
    int difference;
    if (compare_from_start(before, before_len, item, len, &difference) < prefix_len) return false;
    *falls = o->whole_bytes * difference > 0;
    *norm = finish_norm(o, bytes_norm(item + prefix_len, len - prefix_len));
    return true;
}

bool order_is_bytes(const struct order *o) { return o->whole_bytes != 0; }
bool order_can_skip(const struct order *o) { return o->can_skip; }

size_t order_shared(const struct order *o, const char *a, size_t alen, const char *b, size_t blen)
{
    const struct order_key *key = &o->keys[0].key;
    struct bytes x = key_find(key, o->separator, a, alen), y = key_find(key, o->separator, b, blen);
    return bytes_shared(x.data, x.len, y.data, y.len, false);
}

void order_first_key(const struct order *o, const char *item, size_t len, const char **key, size_t *key_len)
{
    struct bytes found = key_find(&o->keys[0].key, o->separator, item, len);
    *key = found.data;
    *key_len = found.len;
}

/* ---------------------------------------------------------------- the texts */

static bool is_letters_only(const struct order *o) { return o->key_count == 1 && key_is_whole(&o->keys[0].key); }

static void put_keys(const struct order *o, struct buf *text)
{
    if (is_letters_only(o)) {
        if (o->keys[0].key.letters != 0) {
            buf_append(text, "-", 1);
            key_put_letters(text, o->keys[0].key.letters);
        }
        return;
    }
    for (size_t i = 0; i < o->key_count; i++) {
        if (i > 0) buf_append(text, " ", 1);
        key_put(text, &o->keys[i].key);
    }
}

static char *make_text(const struct order *o)
{
    struct buf text = {0};
    put_keys(o, &text);
    if (o->separator != SEPARATOR_NONE) buf_printf(&text, " -t%02x", (unsigned)o->separator);
    buf_text(&text);
    return text.data;
}

/* One byte as a word of any POSIX shell. Command substitution drops newlines at its end, so that one needs $'…', which
 * not every sh has. */
static void put_shell_byte(struct buf *command, unsigned char byte)
{
    if (byte == '\0')
        buf_printf(command, "'\\0'");
    else if (byte == '\n')
        buf_printf(command, "$'\\n'");
    else if (byte == '\t')
        buf_printf(command, "\"$(printf '\\t')\"");
    else if (byte < ' ' || byte > '~')
        buf_printf(command, "\"$(printf '\\%03o')\"", byte);
    else if (byte == '\'')
        buf_printf(command, "\"'\"");
    else if ((byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
             strchr(",.:/_+-@%", byte) != NULL)
        buf_printf(command, "%c", byte);
    else
        buf_printf(command, "'%c'", byte);
}

static char *make_sort_command(const struct order *o)
{
    struct buf command = {0};
    buf_printf(&command, "LC_ALL=C sort -s");
    size_t before = command.len;
    buf_append(&command, " ", 1);
    put_keys(o, &command);
    if (command.len == before + 1) command.len = before;
    if (o->separator != SEPARATOR_NONE) {
        buf_printf(&command, " -t ");
        put_shell_byte(&command, (unsigned char)o->separator);
    }
    buf_text(&command);
    return command.data;
}

const char *order_text(const struct order *o) { return o->text; }

const char *order_name(const struct order *o) { return o->text[0] != '\0' ? o->text : "bytes"; }

const char *order_sort_command(const struct order *o) { return o->sort_command; }

void order_hint_zero(struct order *o)
{
    assert(o->sealed);
    char *command = mem_printf("%s -z", o->sort_command);
    free(o->sort_command);
    o->sort_command = command;
}

/* ---------------------------------------------------------------- compiling */

/* As sort does it: a key takes all global letters if it has none of its own, and none otherwise; and global letters
 * that no key takes are not even checked. */
static void inherit_letters(struct order *o)
{
    if (o->key_count == 0) add_key(o);
    for (size_t i = 0; i < o->key_count; i++) {
        if (o->keys[i].key.letters == 0) o->keys[i].key.letters = o->letters;
    }
}

static struct fault *check_kinds(const struct order *o)
{
    for (size_t i = 0; i < o->key_count; i++) {
        unsigned kinds = o->keys[i].key.letters & KEY_KINDS;
        if ((kinds & (kinds - 1)) == 0) continue;
        struct buf letters = {0};
        key_put_letters(&letters, kinds);
        struct fault *f =
            fault_new(FAULT_USAGE, "-%s: a key is compared by one of -g, -M and -n only", buf_text(&letters));
        buf_free(&letters);
        return f;
    }
    return NULL;
}

static void simplify(struct order *o)
{
    bool fields = false;
    for (size_t i = 0; i < o->key_count; i++) {
        struct order_key *key = &o->keys[i].key;
        key_simplify(key);
        fields = fields || key_uses_fields(key);
        if (key_is_whole(key) && (key->letters & ~(unsigned)KEY_REVERSE) == 0) o->key_count = i + 1;
    }
    if (!fields) o->separator = SEPARATOR_NONE;
}

static compare_fn *compare_of(unsigned letters)
{
    if (letters & KEY_NUMBER) return decimal_compare;
    if (letters & KEY_GENERAL) return general_compare;
    if (letters & KEY_MONTH) return month_compare;
    return letters & KEY_FOLD ? folded_compare : bytes_compare;
}

static norm_fn *norm_of(unsigned letters)
{
    if (letters & KEY_NUMBER) return decimal_norm;
    if (letters & KEY_GENERAL) return general_norm;
    if (letters & KEY_MONTH) return month_norm;
    return letters & KEY_FOLD ? folded_norm : bytes_norm;
}

static void choose_functions(struct order *o)
{
    for (size_t i = 0; i < o->key_count; i++) o->keys[i].compare = compare_of(o->keys[i].key.letters);
    const struct order_key *first = &o->keys[0].key;
    o->key_norm = norm_of(first->letters);
    o->norm = norm_key;
    o->normed = *first;
    if (o->key_norm == decimal_norm && key_number_ends_itself(first, o->separator)) o->normed.has_end = false;
    o->flip = first->letters & KEY_REVERSE ? ~(uint64_t)NORM_INEXACT : 0;
    o->tie = o->key_count > 1 ? NORM_INEXACT : 0;
    o->can_skip = (first->letters & (KEY_KINDS | KEY_FOLD)) == 0;
    if (!key_is_whole(first) || first->letters & KEY_BLANKS_START) return;
    if (o->key_norm == decimal_norm) o->norm = norm_whole_number;
    if (o->key_norm != bytes_norm) return;
    o->norm = norm_whole_bytes;
    o->whole_bytes = first->letters & KEY_REVERSE ? -1 : 1;
}

struct fault *order_compile(struct order *o)
{
    assert(!o->sealed);
    inherit_letters(o);
    struct fault *f = check_kinds(o);
    if (f != NULL) return f;
    simplify(o);
    choose_functions(o);
    o->text = make_text(o);
    o->sort_command = make_sort_command(o);
    o->sealed = true;
    return NULL;
}

/* ---------------------------------------------------------------- the canonical text back */

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

static struct fault *parse_separator(struct order *o, const char *hex)
{
    int high = hex_digit(hex[0]), low = high >= 0 ? hex_digit(hex[1]) : -1;
    if (low < 0 || hex[2] != '\0') return fault_new(FAULT_USAGE, "-t without two hex digits");
    return set_separator(o, high << 4 | low);
}

static struct fault *parse_word(struct order *o, const char *word)
{
    if (strncmp(word, "-k", 2) == 0) return order_key(o, word + 2);
    if (strncmp(word, "-t", 2) == 0) return parse_separator(o, word + 2);
    if (word[0] != '-') return fault_new(FAULT_USAGE, "a word without -");
    struct fault *f = NULL;
    for (const char *letter = word + 1; f == NULL && *letter != '\0'; letter++) f = order_letter(o, *letter);
    return f;
}

static struct fault *parse_words(struct order *o, const char *canonical)
{
    char *words = mem_strdup(canonical), *rest = words;
    struct fault *f = NULL;
    while (f == NULL && rest != NULL && *words != '\0') f = parse_word(o, strsep(&rest, " "));
    free(words);
    return f;
}

static struct fault *not_canonical(const char *canonical, const char *why)
{
    char *quoted = mem_quote(canonical, strnlen(canonical, MOST_TEXT));
    struct fault *f = fault_new(FAULT_BAD_CONTRACT, "%s is no canonical order: %s", quoted, why);
    free(quoted);
    return f;
}

struct fault *order_parse(const char *canonical, struct order **out)
{
    *out = NULL;
    if (strnlen(canonical, MOST_TEXT + 1) > MOST_TEXT) return not_canonical(canonical, "it is longer than any");
    struct order *o = order_new();
    struct fault *f = parse_words(o, canonical);
    if (f == NULL) f = order_compile(o);
    struct fault *result = NULL;
    if (f != NULL)
        result = not_canonical(canonical, fault_message(f));
    else if (strcmp(o->text, canonical) != 0)
        result = not_canonical(canonical, "it has another form");
    fault_free(f);
    if (result == NULL)
        *out = o;
    else
        order_free(o);
    return result;
}
