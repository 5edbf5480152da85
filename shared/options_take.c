/*
 * The takers: one for each kind of value. See options_intake.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shared/dataset.h"
#include "shared/mem.h"
#include "shared/options_intake.h"

enum { PREFIX_MAX = 64, CHECKPOINT_LEAST = 1024 };

/* ---- what a value is --------------------------------------------------------------------------------------------- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Digits; *end is behind them. False without one, or when they overflow. */
static bool read_digits(const char *text, uint64_t *value, const char **end)
{
    if (!is_digit(*text)) return false;
    char *after;
    errno = 0;
    *value = strtoumax(text, &after, 10);
    *end = after;
    return errno == 0;
}

/* A number with a fraction, times unit(what follows it), rounded down. unit says 0 for what is no unit. */
static bool read_scaled(const char *text, uint64_t (*unit)(const char *), uint64_t *out)
{
    uint64_t whole, fraction = 0, scale = 1;
    const char *p;
    if (!read_digits(text, &whole, &p)) return false;
    if (*p == '.' && !is_digit(*++p)) return false;
    /* Six digits: the millionth of the largest unit is what anybody needs, and the product fits. */
    for (; is_digit(*p); p++)
        if (scale < 1000000) {
            fraction = fraction * 10 + (uint64_t)(*p - '0');
            scale *= 10;
        }
    uint64_t factor = unit(p), product;
    if (factor == 0 || __builtin_mul_overflow(whole, factor, &product)) return false;
    bool fits = !__builtin_add_overflow(product, factor / scale * fraction + factor % scale * fraction / scale, out);
    return fits &&
           (*out > 0 || (whole == 0 && fraction == 0)); /* next to nothing is not nothing, which may mean for ever */
}

static uint64_t time_unit(const char *text)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"", 1000}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(text, units[i].name) == 0) return units[i].ms;
    return 0;
}

static uint64_t size_unit(const char *text)
{
    static const char letters[] = "KMGT";
    if (*text == '\0') return 1;
    const char *at = text[1] == '\0' ? strchr(letters, *text & ~0x20) : NULL;
    return at ? UINT64_C(1) << (10 * (at - letters + 1)) : 0;
}

bool parse_time_ms(const char *text, int64_t *ms)
{
    uint64_t value;
    if (!read_scaled(text, time_unit, &value) || value > INT64_MAX) return false;
    *ms = (int64_t)value;
    return true;
}

bool parse_size(const char *text, size_t *bytes)
{
    uint64_t value;
    if (!read_scaled(text, size_unit, &value) || value > SIZE_MAX) return false;
    *bytes = (size_t)value;
    return true;
}

static bool parse_count(const char *text, uint64_t *out)
{
    const char *end;
    return read_digits(text, out, &end) && *end == '\0';
}

static bool parse_switch(const char *text, bool *on)
{
    static const char *const words[] = {"no", "yes", "off", "on", "false", "true", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(text, words[i]) == 0) {
            *on = i % 2;
            return true;
        }
    *on = true; /* the flag itself */
    return *text == '\0';
}

/* ---- takers ------------------------------------------------------------------------------------------------------ */

static struct fault *refuse(const char *value, const char *why)
{
    char *shown = mem_quote(value, strlen(value));
    struct fault *f = fault_new(FAULT_USAGE, "%s %s", shown, why);
    free(shown);
    return f;
}

static void *field(void *base, const struct option_row *row) { return (char *)base + row->field; }

static struct fault *set_switch(bool *where, const char *value)
{
    bool on;
    if (!parse_switch(value, &on)) return refuse(value, "is neither yes nor no");
    if (where) *where = on;
    return NULL;
}

static void set_text(char **where, const char *value)
{
    char *copy = mem_strdup(value);
    free(*where);
    *where = copy;
}

struct fault *take_flag(struct intake *in, const struct option_row *row, const char *value)
{
    return set_switch(option_id(row) == OPT_FROM_COMMAND ? NULL : field(in->o, row), value);
}

struct fault *take_nothing(struct intake *in, const struct option_row *row, const char *value)
{
    (void)in, (void)row, (void)value;
    return NULL;
}

struct fault *take_text(struct intake *in, const struct option_row *row, const char *value)
{
    if (*value == '\0') return refuse(value, "is empty");
    set_text(field(in->o, row), value);
    return NULL;
}

struct fault *take_name(struct intake *in, const struct option_row *row, const char *value)
{
    if (!dataset_name_is_valid(value)) return refuse(value, "is no name: 1 to 64 of A-Z a-z 0-9 . _ -");
    set_text(field(in->o, row), value);
    return NULL;
}

struct fault *take_job(struct intake *in, const struct option_row *row, const char *value)
{
    if (in->layer == LAYER_COMMAND_LINE) in->o->job_is_given = true;
    return take_name(in, row, value);
}

/* Braces would move the hash tag, and with it the slot of every key. */
struct fault *take_prefix(struct intake *in, const struct option_row *row, const char *value)
{
    size_t len = strlen(value);
    bool good = len > 0 && len <= PREFIX_MAX;
    for (const char *p = value; *p; p++) good = good && *p > ' ' && *p < 0x7f && !strchr("{}", *p);
    if (!good) return refuse(value, "is no prefix: 1 to 64 printable characters without blanks, { and }");
    set_text(field(in->o, row), value);
    return NULL;
}

static struct fault *read_time(const struct option_row *row, const char *value, int64_t *ms)
{
    if (!parse_time_ms(value, ms) || (uint64_t)*ms > row->high)
        return refuse(value, "is no time: a number with s, m, h or d behind it; bare it means seconds");
    if ((uint64_t)*ms >= row->low) return NULL;
    return refuse(value, row->low >= 1000 ? "is too short: at least 1s" : "is too short: it must be more than 0");
}

struct fault *take_time(struct intake *in, const struct option_row *row, const char *value)
{
    return read_time(row, value, field(in->o, row));
}

struct fault *take_wait(struct intake *in, const struct option_row *row, const char *value)
{
    if (strcmp(value, "forever") != 0) return take_time(in, row, value);
    in->o->wait_ms = FOREVER;
    return NULL;
}

struct fault *take_since(struct intake *in, const struct option_row *row, const char *value)
{
    uint64_t epoch;
    int64_t ms = 0;
    bool is_epoch = *value == '@';
    if (is_epoch && (!parse_count(value + 1, &epoch) || epoch > INT64_MAX / 1000))
        return refuse(value, "is no time: @ and the seconds since 1970");
    struct fault *f = is_epoch ? NULL : read_time(row, value, &ms);
    if (f) return f;
    in->o->has_since = true;
    in->o->since_is_ago = !is_epoch;
    in->o->since_s = is_epoch ? (int64_t)epoch : ms / 1000;
    return NULL;
}

struct fault *take_size(struct intake *in, const struct option_row *row, const char *value)
{
    size_t bytes;
    if (!parse_size(value, &bytes) || bytes > row->high)
        return refuse(value, "is no size: a number with K, M or G behind it; bare it means bytes");
    if (bytes < row->low) return refuse(value, "is too small: at least 1M");
    *(size_t *)field(in->o, row) = bytes;
    return NULL;
}

/* 64M or 5s; what could be both is a time: 5m are minutes, and a bare number seconds. */
struct fault *take_checkpoint(struct intake *in, const struct option_row *row, const char *value)
{
    int64_t ms;
    size_t bytes;
    if (parse_time_ms(value, &ms)) {
        struct fault *f = read_time(row, value, &ms);
        if (!f) in->o->checkpoint_ms = ms;
        return f;
    }
    if (!parse_size(value, &bytes)) return refuse(value, "is neither a size (64M) nor a time (5s) of at most a day");
    if (bytes < CHECKPOINT_LEAST) return refuse(value, "is too small: at least 1K");
    in->o->checkpoint_bytes = bytes;
    return NULL;
}

static struct fault *read_count(const struct option_row *row, const char *value, uint64_t *n)
{
    if (parse_count(value, n) && *n >= row->low && *n <= row->high) return NULL;
    char *why = mem_printf("is no number from %" PRIu64 " to %" PRIu64, row->low, row->high);
    struct fault *f = refuse(value, why);
    free(why);
    return f;
}

struct fault *take_number(struct intake *in, const struct option_row *row, const char *value)
{
    uint64_t n;
    struct fault *f = read_count(row, value, &n);
    if (!f) *(size_t *)field(in->o, row) = (size_t)n;
    return f;
}

struct fault *take_limit(struct intake *in, const struct option_row *row, const char *value)
{
    struct fault *f = read_count(row, value, &in->o->limit);
    if (!f) in->o->has_limit = true;
    return f;
}

/* Who says how many may be missing has said that some may. */
struct fault *take_missing(struct intake *in, const struct option_row *row, const char *value)
{
    struct fault *f = take_number(in, row, value);
    if (!f) in->o->partial = true;
    return f;
}

static void add_text(char ***list, size_t *count, const char *value)
{
    *list = mem_array(*list, *count + 1, sizeof **list);
    (*list)[(*count)++] = mem_strdup(value);
}

static void drop_texts(char ***list, size_t *count)
{
    for (size_t i = 0; i < *count; i++) free((*list)[i]);
    free(*list);
    *list = NULL;
    *count = 0;
}

/* Has a stronger layer begun to give what adds up? */
static bool begins_anew(const struct intake *in, const struct option_row *row)
{
    return in->layer_of[option_id(row)] != in->layer;
}

struct fault *take_list(struct intake *in, const struct option_row *row, const char *value)
{
    if (*value == '\0') return refuse(value, "is empty");
    if (begins_anew(in, row)) drop_texts(&in->o->lists, &in->o->list_count);
    for (size_t i = 0; i < in->o->list_count; i++)
        if (strcmp(in->o->lists[i], value) == 0) return refuse(value, "is given twice");
    add_text(&in->o->lists, &in->o->list_count, value);
    return NULL;
}

struct fault *take_stats(struct intake *in, const struct option_row *row, const char *value)
{
    (void)row;
    if (strcmp(value, "text") != 0 && strcmp(value, "json") != 0) return refuse(value, "is neither text nor json");
    in->o->stats = *value == 't' ? STATS_TEXT : STATS_JSON;
    return NULL;
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

/* The order is one thing: a layer that says anything about it says all. */
static struct order *order_of_layer(struct intake *in)
{
    if (in->order_layer != in->layer) {
        order_free(in->o->order);
        in->o->order = order_new();
        in->order_layer = in->layer;
    }
    return in->o->order;
}

/* row->field is the letter. */
struct fault *take_letter(struct intake *in, const struct option_row *row, const char *value)
{
    bool on;
    struct fault *f = set_switch(&on, value);
    return f || !on ? f : order_letter(order_of_layer(in), (char)row->field);
}

struct fault *take_key(struct intake *in, const struct option_row *row, const char *value)
{
    (void)row;
    return order_key(order_of_layer(in), value);
}

struct fault *take_separator(struct intake *in, const struct option_row *row, const char *value)
{
    (void)row;
    return order_separator(order_of_layer(in), value);
}

struct fault *take_zero(struct intake *in, const struct option_row *row, const char *value)
{
    (void)row;
    bool on;
    struct fault *f = set_switch(&on, value);
    if (!f) in->o->separator = on ? '\0' : '\n';
    return f;
}

/* ---- access ------------------------------------------------------------------------------------------------------ */

struct fault *access_flag(struct intake *in, const struct option_row *row, const char *value)
{
    return set_switch(field(&in->access, row), value);
}

struct fault *access_text(struct intake *in, const struct option_row *row, const char *value)
{
    set_text(field(&in->access, row), value);
    return NULL;
}

/* Takes it if an endpoint does. */
static struct fault *take_tried(struct intake *in, const struct option_row *row, const char *value,
                                struct fault *(*set)(struct endpoint *, const char *))
{
    struct endpoint *e = endpoint_new();
    struct fault *f = set(e, value);
    endpoint_free(e);
    return f ? f : access_text(in, row, value);
}

struct fault *access_host(struct intake *in, const struct option_row *row, const char *value)
{
    return take_tried(in, row, value, endpoint_set_host);
}

struct fault *access_port(struct intake *in, const struct option_row *row, const char *value)
{
    return take_tried(in, row, value, endpoint_set_port);
}

struct fault *access_socket(struct intake *in, const struct option_row *row, const char *value)
{
    return take_tried(in, row, value, endpoint_set_socket);
}

struct fault *access_db(struct intake *in, const struct option_row *row, const char *value)
{
    return take_tried(in, row, value, endpoint_set_db);
}

struct fault *access_url(struct intake *in, const struct option_row *row, const char *value)
{
    struct access *a = &in->access;
    struct endpoint *e = endpoint_new();
    struct fault *f = endpoint_set_url(e, value);
    endpoint_free(e);
    if (f) return f;
    if (begins_anew(in, row)) drop_texts(&a->urls, &a->url_count);
    if (a->url_count > 0 && in->o->program == PROGRAM_WORKER)
        return fault_new(FAULT_USAGE, "is given twice: a worker loads into one Redis");
    add_text(&a->urls, &a->url_count, value);
    return NULL;
}

void access_fini(struct access *a)
{
    drop_texts(&a->urls, &a->url_count);
    char *texts[] = {a->host, a->port,      a->socket, a->db,   a->user,
                     a->pass, a->pass_file, a->cacert, a->cert, a->cert_key};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
    *a = (struct access){0};
}
