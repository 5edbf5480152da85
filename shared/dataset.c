#include "shared/dataset.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "shared/redis_compat.h"

/* A manifest's texts for people are cut here: nwmerge writes no longer ones, another make might. */
enum { TEXT_MAX = 65536 };
/* Lengths of time and moments; far beyond any that is meant, and may be multiplied by a million. */
#define TIME_MAX (INT64_MAX / 1000000)

/* ---- names ---- */

static bool is_name(const char *name, size_t len)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (len == 0 || len > DATASET_NAME_MAX) return false;
    for (size_t i = 0; i < len; i++)
        if (!memchr(allowed, name[i], sizeof allowed - 1)) return false;
    return true;
}

bool dataset_name_is_valid(const char *name) { return is_name(name, strnlen(name, DATASET_NAME_MAX + 1)); }

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Digits of any length: without leading zeros the longer one is the greater. */
static int by_number(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    x += strspn(x, "0");
    y += strspn(y, "0");
    size_t x_len = strlen(x), y_len = strlen(y);
    if (x_len != y_len) return x_len < y_len ? -1 : 1;
    int order = strcmp(x, y);
    return order ? order : by_bytes(a, b);
}

static bool is_numeric(const char *id) { return *id && id[strspn(id, "0123456789")] == '\0'; }

void dataset_sort_ids(char **ids, size_t n)
{
    size_t numeric = 0;
    while (numeric < n && is_numeric(ids[numeric])) numeric++;
    if (n > 1) qsort(ids, n, sizeof *ids, numeric == n ? by_number : by_bytes);
}

char *dataset_jobs_key(const char *prefix) { return mem_printf("%sjobs", prefix); }

char *dataset_set_key(const char *prefix, const char *job) { return mem_printf("%s%s:datasets", prefix, job); }

char *dataset_events_channel(const char *prefix, const char *job) { return mem_printf("%s%s:events", prefix, job); }

char *dataset_manifest_key(const char *prefix, const char *job, const char *id)
{
    return mem_printf("%s{%s:%s}", prefix, job, id);
}

char *dataset_lease_key(const char *prefix, const char *job, const char *id)
{
    return mem_printf("%s{%s:%s}:lease", prefix, job, id);
}

char *dataset_consumer_key(const char *prefix, const char *job, const char *id)
{
    return mem_printf("%s{%s:%s}:consumer", prefix, job, id);
}

char *dataset_list_key(const char *prefix, const char *job, const char *id, uint64_t run, const char *nonce)
{
    return mem_printf("%s{%s:%s}:%" PRIu64 ".%s", prefix, job, id, run, nonce);
}

void dataset_nonce(char nonce[DATASET_NONCE_LEN + 1])
{
    unsigned char random[DATASET_NONCE_LEN / 2];
    if (getentropy(random, sizeof random) != 0) {
        /* The nonce is the fence between loads (rule 3): a guessable one is worse than none. */
        fprintf(stderr, "%s: the system has no random bytes: %s\n", program_invocation_short_name, strerror(errno));
        exit(EXIT_SOURCE);
    }
    for (size_t i = 0; i < sizeof random; i++) {
        nonce[2 * i] = "0123456789abcdef"[random[i] >> 4];
        nonce[2 * i + 1] = "0123456789abcdef"[random[i] & 15];
    }
    nonce[DATASET_NONCE_LEN] = '\0';
}

/* ---- states ---- */

static const char *const state_names[] = {
    [DATASET_MISSING] = "missing", [DATASET_LOADING] = "loading",   [DATASET_READY] = "ready",
    [DATASET_FAILED] = "failed",   [DATASET_CONSUMED] = "consumed", [DATASET_DROPPED] = "dropped",
};

const char *dataset_state_name(enum dataset_state state) { return state_names[state]; }

static bool equals(struct bytes text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

/* "missing" is none: nobody can say that of himself. */
static bool parse_state(struct bytes text, enum dataset_state *state)
{
    for (enum dataset_state s = DATASET_LOADING; s <= DATASET_DROPPED; s++) {
        if (!equals(text, state_names[s])) continue;
        *state = s;
        return true;
    }
    return false;
}

/* Decimal digits and nothing else. */
static bool parse_number(struct bytes text, uint64_t limit, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        if (__builtin_mul_overflow(value, 10, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value)) return false;
    }
    *out = value;
    return text.len > 0 && value <= limit;
}

/* ---- the manifest's fields ---- */

static bool is_string(const redisReply *r)
{
    return r && (r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS) && r->str;
}

/* The value of a field, data NULL when absent. Linear: there are some twenty. */
static struct bytes field(const redisReply *reply, const char *name)
{
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        const redisReply *key = reply->element[i], *value = reply->element[i + 1];
        if (equals((struct bytes){key->str, key->len}, name)) return (struct bytes){value->str, value->len};
    }
    return (struct bytes){0};
}

static struct fault *garbled(const char *name, struct bytes value, const char *expected)
{
    char *quoted = mem_quote(value.data, value.len);
    struct fault *f = fault_new(FAULT_BAD_CONTRACT, "field %s of the manifest is %s, not %s", name, quoted, expected);
    free(quoted);
    return f;
}

/* Leaves *out alone when the field is absent. */
static struct fault *read_number(const redisReply *reply, const char *name, uint64_t limit, uint64_t *out)
{
    struct bytes value = field(reply, name);
    if (!value.data || parse_number(value, limit, out)) return NULL;
    return garbled(name, value, "a number within range");
}

/* What nwmerge acts on: a NUL byte in it would make two different values look alike. */
static struct fault *read_word(const redisReply *reply, const char *name, char **out)
{
    struct bytes value = field(reply, name);
    if (!value.data) return NULL;
    if (memchr(value.data, '\0', value.len)) return garbled(name, value, "a text without NUL bytes");
    *out = mem_dup(value.data, value.len);
    return NULL;
}

static void read_text(const redisReply *reply, const char *name, char **out)
{
    struct bytes value = field(reply, name);
    if (value.data) *out = mem_strndup(value.data, value.len < TEXT_MAX ? value.len : TEXT_MAX);
}

static struct fault *read_edge(const redisReply *reply, const char *name, struct bytes *out)
{
    struct bytes value = field(reply, name);
    if (value.len > DATASET_EDGE_MAX) return garbled(name, value, "at most 256 bytes");
    if (value.data) *out = (struct bytes){mem_dup(value.data, value.len), value.len};
    return NULL;
}

/* ---- the manifest ---- */

/* The shape of HGETALL's reply: names and values in turn, as an array, or as the map of RESP3. */
static struct fault *check_shape(const redisReply *reply)
{
    if (!reply) return fault_new(FAULT_BAD_CONTRACT, "there is no reply that could be a manifest");
    if (reply->type == REDIS_REPLY_ERROR && reply->str) {
        bool type = strncmp(reply->str, "WRONGTYPE", strlen("WRONGTYPE")) == 0;
        return fault_new(type ? FAULT_WRONG_TYPE : FAULT_PROTOCOL, "the manifest cannot be read: %s", reply->str);
    }
    bool is_list = reply->type == REDIS_REPLY_ARRAY;
#ifdef REDIS_REPLY_MAP
    is_list = is_list || reply->type == REDIS_REPLY_MAP;
#endif
    if (!is_list) return fault_new(FAULT_BAD_CONTRACT, "the manifest is no hash, but a reply of type %d", reply->type);
    if (reply->elements % 2) return fault_new(FAULT_BAD_CONTRACT, "the manifest has a field without a value");
    for (size_t i = 0; i < reply->elements; i++)
        if (!is_string(reply->element[i]))
            return fault_new(FAULT_BAD_CONTRACT, "the manifest's %s number %zu is no string", i % 2 ? "value" : "field",
                             i / 2 + 1);
    return NULL;
}

/* First of all: what another contract means by a field is not known here. */
static struct fault *check_contract(const redisReply *reply)
{
    struct bytes value = field(reply, "contract");
    uint64_t number;
    if (!value.data) return fault_new(FAULT_BAD_CONTRACT, "the manifest has no field contract: no worker made it");
    if (!parse_number(value, UINT64_MAX, &number)) return garbled("contract", value, "a number within range");
    if (number == CONTRACT) return NULL;
    return fault_new(FAULT_BAD_CONTRACT, "is of contract %" PRIu64 "; this nwmerge knows contract %d", number,
                     CONTRACT);
}

static struct fault *read_state(struct manifest *m, const redisReply *reply)
{
    struct bytes value = field(reply, "state");
    if (!value.data) return fault_new(FAULT_BAD_CONTRACT, "the manifest has no field state");
    return parse_state(value, &m->state) ? NULL : garbled("state", value, "a state of contract 1");
}

static struct fault *read_numbers(struct manifest *m, const redisReply *reply)
{
    uint64_t lease = 0, started = 0, finished = 0, code = 0;
    struct {
        const char *name;
        uint64_t limit, *out;
    } numbers[] = {
        {"run", UINT64_MAX, &m->run},
        {"items", UINT64_MAX, &m->items},
        {"bytes", UINT64_MAX, &m->bytes},
        {"max_item", UINT64_MAX, &m->max_item},
        {"max_window", UINT64_MAX, &m->max_window},
        {"consumed", UINT64_MAX, &m->consumed},
        {"lease", TIME_MAX, &lease},
        {"started", TIME_MAX, &started},
        {"finished", TIME_MAX, &finished},
    };
    struct fault *f = NULL;
    for (size_t i = 0; !f && i < sizeof numbers / sizeof *numbers; i++)
        f = read_number(reply, numbers[i].name, numbers[i].limit, numbers[i].out);
    if (!f && m->state == DATASET_FAILED) f = read_number(reply, "exit", EXIT_TIMEOUT, &code);
    if (!f && m->state == DATASET_FAILED && code == 0 && field(reply, "exit").data)
        f = garbled("exit", field(reply, "exit"), "an exit code from 1 to 6");
    m->has_consumed = field(reply, "consumed").data != NULL;
    m->lease_ms = (int64_t)lease;
    m->started = (int64_t)started;
    m->finished = (int64_t)finished;
    m->exit = (int)code;
    return f;
}

static struct fault *read_words(struct manifest *m, const redisReply *reply)
{
    struct fault *f = read_word(reply, "list", &m->list);
    if (!f) f = read_word(reply, "token", &m->token);
    if (!f) f = read_word(reply, "order", &m->order);
    if (!f) f = read_edge(reply, "first", &m->first);
    if (!f) f = read_edge(reply, "last", &m->last);
    if (!f) f = read_word(reply, "consumer", &m->consumer);
    if (!f) f = read_word(reply, "consumed_at", &m->consumed_at);
    read_text(reply, "source", &m->source);
    if (m->state == DATASET_FAILED) {
        read_text(reply, "error", &m->error);
        read_text(reply, "message", &m->message);
        read_text(reply, "traceback", &m->traceback);
        read_text(reply, "at", &m->at);
    }
    return f;
}

/* Absent or empty: a worker of another make, whose items cannot be proven. */
static struct fault *read_digest(struct manifest *m, const redisReply *reply)
{
    struct bytes value = field(reply, "digest");
    char text[DIGEST_TEXT] = "";
    if (value.len == 0) return NULL;
    if (value.len == DIGEST_TEXT - 1) memcpy(text, value.data, value.len);
    m->has_digest = digest_parse(text, &m->digest);
    return m->has_digest ? NULL : garbled("digest", value, "32 lower-case hex digits");
}

static struct fault *require(const redisReply *reply, const char *state, const char *const names[])
{
    for (; *names; names++)
        if (!field(reply, *names).data)
            return fault_new(FAULT_BAD_CONTRACT, "the manifest of a %s dataset has no field %s", state, *names);
    return NULL;
}

/* What a merger sizes its memory by and judges completeness by must at least fit together. */
static struct fault *check_ready(const struct manifest *m, const redisReply *reply)
{
    static const char *const needed[] = {"run", "list", "items", "bytes", "max_item", NULL};
    struct fault *f = require(reply, dataset_state_name(m->state), needed);
    if (f) return f;
    if (m->items > 0 && *m->list == '\0') return garbled("list", (struct bytes){"", 0}, "the key of a list");
    uint64_t most;
    bool unbounded = __builtin_mul_overflow(m->items, m->max_item, &most);
    if (m->max_item <= m->bytes && (unbounded || m->bytes <= most)) return NULL;
    return fault_new(FAULT_BAD_CONTRACT,
                     "the manifest contradicts itself: items %" PRIu64 ", max_item %" PRIu64 ", bytes %" PRIu64,
                     m->items, m->max_item, m->bytes);
}

/* The rest of it may be consumed too, so it must be as a ready one is. */
static struct fault *check_consumed(const struct manifest *m, const redisReply *reply)
{
    struct fault *f = check_ready(m, reply);
    if (f || m->consumed <= m->items) return f;
    return garbled("consumed", field(reply, "consumed"), "at most the number of items");
}

static struct fault *check_complete(const struct manifest *m, const redisReply *reply)
{
    static const char *const loading[] = {"run", "token", NULL};
    if (m->state == DATASET_READY) return check_ready(m, reply);
    if (m->state == DATASET_CONSUMED && m->has_consumed) return check_consumed(m, reply);
    if (m->state == DATASET_LOADING) return require(reply, "loading", loading);
    return NULL;
}

struct fault *manifest_read(struct manifest *m, const struct redisReply *reply)
{
    *m = (struct manifest){0};
    struct fault *f = check_shape(reply);
    if (f || reply->elements == 0) return f;
    f = check_contract(reply);
    if (!f) f = read_state(m, reply);
    if (!f) f = read_numbers(m, reply);
    if (!f) f = read_words(m, reply);
    if (!f) f = read_digest(m, reply);
    if (!f) f = check_complete(m, reply);
    return f;
}

void manifest_fini(struct manifest *m)
{
    char *owned[] = {m->list,    m->token,     m->order, m->source,   m->error,
                     m->message, m->traceback, m->at,    m->consumer, m->consumed_at};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    free((char *)m->first.data);
    free((char *)m->last.data);
    *m = (struct manifest){0};
}

char *manifest_worker(const struct manifest *m)
{
    if (!m->token || *m->token == '\0') return mem_strdup("unknown");
    const char *nonce = strrchr(m->token, ':');
    return nonce ? mem_strndup(m->token, (size_t)(nonce - m->token)) : mem_strdup(m->token);
}

struct fault *manifest_fault(const struct manifest *m, const char *job, const char *id)
{
    struct fault *f = fault_remote(m->error, m->exit, m->message, m->traceback);
    fault_about(f, "%s:%s", job, id);
    char *worker = manifest_worker(m);
    bool has_source = m->source && *m->source, has_at = m->at && *m->at;
    fault_origin(f, "worker %s, run %" PRIu64 "%s%s%s%s", worker, m->run, has_source || has_at ? ", " : "",
                 has_source ? m->source : "", has_source && has_at ? " " : "", has_at ? m->at : "");
    free(worker);
    return f;
}

/* ---- events ---- */

/* Cuts the next word off *rest; words are separated by one space. */
static struct bytes next_word(struct bytes *rest)
{
    const char *space = rest->len ? memchr(rest->data, ' ', rest->len) : NULL;
    size_t len = space ? (size_t)(space - rest->data) : rest->len;
    struct bytes word = {rest->data, len};
    size_t gone = space ? len + 1 : len;
    *rest = (struct bytes){rest->len ? rest->data + gone : rest->data, rest->len - gone};
    return word;
}

bool dataset_parse_event(const char *text, size_t len, struct bytes *id, enum dataset_state *state)
{
    struct bytes rest = {text, len};
    uint64_t number;
    *id = next_word(&rest);
    if (!is_name(id->data, id->len)) return false;
    if (!parse_state(next_word(&rest), state)) return false;
    if (!parse_number(next_word(&rest), UINT64_MAX, &number)) return false;
    return parse_number(rest, UINT64_MAX, &number);
}
