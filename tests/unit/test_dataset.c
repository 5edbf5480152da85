/* The contract: names, manifests, events. Replies are made here, as hiredis would make them. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shared/dataset.h"
#include "shared/redis_compat.h"

/* ---- a reply of HGETALL ---- */

enum { FIELDS_MAX = 40 };

struct fake {
    redisReply root, parts[2 * FIELDS_MAX], *elements[2 * FIELDS_MAX];
};

static void fake_init(struct fake *k)
{
    memset(k, 0, sizeof *k);
    k->root.type = REDIS_REPLY_ARRAY;
    k->root.element = k->elements;
}

static void fake_push(struct fake *k, const char *data, size_t len)
{
    size_t i = k->root.elements++;
    k->parts[i] = (redisReply){.type = REDIS_REPLY_STRING, .str = (char *)data, .len = (int)len};
    k->elements[i] = &k->parts[i];
}

/* Sets a field; a NULL value takes it away. */
static void fake_set(struct fake *k, const char *name, const char *value)
{
    size_t i = 0;
    while (i < k->root.elements && strcmp(k->parts[i].str, name) != 0) i += 2;
    if (i == k->root.elements && value) {
        fake_push(k, name, strlen(name));
        fake_push(k, value, strlen(value));
    } else if (value) {
        k->parts[i + 1].str = (char *)value;
        k->parts[i + 1].len = strlen(value);
    } else if (i < k->root.elements) {
        size_t last = k->root.elements -= 2;
        k->parts[i] = k->parts[last];
        k->parts[i + 1] = k->parts[last + 1];
    }
}

#define LIST "nwm:{demo:2}:3.0123456789ab"
#define DIGEST "0123456789abcdeffedcba9876543210"

static void fake_ready(struct fake *k)
{
    static const char *const fields[][2] = {
        {"contract", "1"},
        {"state", "ready"},
        {"run", "3"},
        {"list", LIST},
        {"token", "host-a:4211:0123456789ab"},
        {"lease", "15000"},
        {"order", "n"},
        {"items", "12"},
        {"bytes", "25"},
        {"max_item", "3"},
        {"first", "2"},
        {"last", "35"},
        {"digest", DIGEST},
        {"source", "part-2.txt"},
        {"started", "1700000000"},
        {"finished", "1700000009"},
    };
    fake_init(k);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) fake_set(k, fields[i][0], fields[i][1]);
}

static void fake_failed(struct fake *k)
{
    fake_ready(k);
    fake_set(k, "state", "failed");
    fake_set(k, "error", "Unsorted");
    fake_set(k, "exit", "1");
    fake_set(k, "message", "item 18 \"5\" sorts before item 17 \"9\"");
    fake_set(k, "traceback", "load dataset demo:2\nread part-2.txt\ncheck order -n at line 18");
    fake_set(k, "at", "line 18");
}

static void assert_fine(struct fake *k)
{
    struct manifest m;
    struct fault *f = manifest_read(&m, &k->root);
    cr_assert_null(f, "%s", fault_message(f));
    manifest_fini(&m);
}

static void assert_bad(struct fake *k, enum fault_kind kind, const char *part)
{
    struct manifest m;
    struct fault *f = manifest_read(&m, &k->root);
    cr_assert_not_null(f, "accepted, where a fault about \"%s\" was due", part);
    cr_assert(fault_is(f, kind), "%s", fault_name(f));
    cr_assert(strstr(fault_message(f), part), "\"%s\" is not in: %s", part, fault_message(f));
    fault_free(f);
    manifest_fini(&m);
}

/* ---- names ---- */

Test(dataset, names)
{
    static const char *const good[] = {"0", "demo", "A-Z_a.z", "..",
                                       "1234567890123456789012345678901234567890123456789012345678901234"};
    static const char *const bad[] = {
        "",    " ",   "a b",      "a:b", "{a}",
        "a/b", "a\n", "\xc3\xbc", "*",   "12345678901234567890123456789012345678901234567890123456789012345"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) cr_assert(dataset_name_is_valid(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) cr_assert_not(dataset_name_is_valid(bad[i]), "%s", bad[i]);
}

static void assert_sorted(const char *given, const char *expected)
{
    char copy[256], joined[256] = "", *ids[32];
    size_t n = 0;
    snprintf(copy, sizeof copy, "%s", given);
    for (char *id = strtok(copy, " "); id; id = strtok(NULL, " ")) ids[n++] = id;
    dataset_sort_ids(ids, n);
    for (size_t i = 0; i < n; i++) {
        strcat(joined, i ? " " : "");
        strcat(joined, ids[i]);
    }
    cr_assert_str_eq(joined, expected, "%s", joined);
}

Test(dataset, ids_sort_as_numbers_if_all_are)
{
    assert_sorted("10 9 1 2 100 0", "0 1 2 9 10 100");
    assert_sorted("7 007 07 6 8", "6 007 07 7 8");
    assert_sorted("99999999999999999999999 100000000000000000000000 18446744073709551616 18446744073709551615",
                  "18446744073709551615 18446744073709551616 99999999999999999999999 100000000000000000000000");
    assert_sorted("00 0 000", "0 00 000");
}

Test(dataset, ids_sort_as_bytes_if_one_is_no_number)
{
    assert_sorted("10 9 1 2 a", "1 10 2 9 a");
    assert_sorted("10 9 -1", "-1 10 9");
    assert_sorted("b B a A", "A B a b");
    assert_sorted("", "");
    assert_sorted("x", "x");
}

Test(dataset, keys)
{
    char *keys[] = {
        dataset_jobs_key("nwm:"),
        dataset_set_key("nwm:", "demo"),
        dataset_events_channel("nwm:", "demo"),
        dataset_manifest_key("x.", "demo", "2"),
        dataset_lease_key("nwm:", "demo", "2"),
        dataset_list_key("nwm:", "demo", "2", 3, "0123456789ab"),
    };
    static const char *const expected[] = {"nwm:jobs",   "nwm:demo:datasets",  "nwm:demo:events",
                                           "x.{demo:2}", "nwm:{demo:2}:lease", LIST};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        cr_assert_str_eq(keys[i], expected[i]);
        free(keys[i]);
    }
}

Test(dataset, nonces_are_12_hex_digits_and_differ)
{
    enum { N = 200 };
    char nonces[N][DATASET_NONCE_LEN + 1];
    for (size_t i = 0; i < N; i++) {
        dataset_nonce(nonces[i]);
        cr_assert_eq(strlen(nonces[i]), 12);
        cr_assert_eq(strspn(nonces[i], "0123456789abcdef"), 12);
        for (size_t j = 0; j < i; j++) cr_assert_str_neq(nonces[i], nonces[j]);
    }
    for (size_t digit = 0; digit < 12; digit++) { /* every digit varies */
        size_t same = 0;
        for (size_t i = 0; i < N; i++) same += nonces[i][digit] == nonces[0][digit];
        cr_assert_lt(same, N / 2);
    }
}

/* ---- manifests ---- */

Test(dataset, a_missing_key_is_a_missing_dataset)
{
    struct fake k;
    struct manifest m;
    fake_init(&k);
    k.root.element = NULL;
    cr_assert_null(manifest_read(&m, &k.root));
    cr_assert_eq(m.state, DATASET_MISSING);
    manifest_fini(&m);
}

Test(dataset, a_ready_manifest_is_read_whole)
{
    struct fake k;
    struct manifest m;
    fake_ready(&k);
    fake_set(&k, "max_window", "25");
    fake_set(&k, "colour", "green"); /* other makes may add fields */
    cr_assert_null(manifest_read(&m, &k.root));
    cr_assert_eq(m.state, DATASET_READY);
    cr_assert_eq(m.run, 3);
    cr_assert_str_eq(m.list, LIST);
    cr_assert_str_eq(m.token, "host-a:4211:0123456789ab");
    cr_assert_str_eq(m.order, "n");
    cr_assert_str_eq(m.source, "part-2.txt");
    cr_assert_eq(m.lease_ms, 15000);
    cr_assert_eq(m.items, 12);
    cr_assert_eq(m.bytes, 25);
    cr_assert_eq(m.max_item, 3);
    cr_assert_eq(m.max_window, 25);
    cr_assert_eq(m.first.len, 1);
    cr_assert_arr_eq(m.first.data, "2", 1);
    cr_assert_eq(m.last.len, 2);
    cr_assert_arr_eq(m.last.data, "35", 2);
    cr_assert(m.has_digest);
    cr_assert_eq(m.digest.high, 0x0123456789abcdef);
    cr_assert_eq(m.digest.low, 0xfedcba9876543210);
    cr_assert_eq(m.started, 1700000000);
    cr_assert_eq(m.finished, 1700000009);
    cr_assert_null(m.error);
    manifest_fini(&m);
    cr_assert_null(m.list);
}

Test(dataset, every_state_is_known)
{
    static const char *const names[] = {"missing", "loading", "ready", "failed", "consumed", "dropped"};
    for (enum dataset_state s = DATASET_MISSING; s <= DATASET_DROPPED; s++) {
        struct fake k;
        struct manifest m;
        cr_assert_str_eq(dataset_state_name(s), names[s]);
        fake_ready(&k);
        fake_set(&k, "state", names[s]);
        struct fault *f = manifest_read(&m, &k.root);
        cr_assert_eq(f == NULL, s != DATASET_MISSING);
        if (!f) cr_assert_eq(m.state, s);
        fault_free(f);
        manifest_fini(&m);
    }
}

Test(dataset, another_contract_is_refused_first)
{
    struct fake k;
    fake_ready(&k);
    fake_set(&k, "state", "molten"); /* what contract 2 may know */
    fake_set(&k, "contract", "2");
    assert_bad(&k, FAULT_BAD_CONTRACT, "is of contract 2; this nwmerge knows contract 1");
    fake_ready(&k);
    fake_set(&k, "contract", "1x");
    assert_bad(&k, FAULT_BAD_CONTRACT, "contract of the manifest is \"1x\"");
    fake_set(&k, "contract", "");
    assert_bad(&k, FAULT_BAD_CONTRACT, "contract");
    fake_set(&k, "contract", NULL);
    assert_bad(&k, FAULT_BAD_CONTRACT, "no field contract");
}

Test(dataset, numbers_are_strict)
{
    static const char *const names[] = {"run",        "items", "bytes",   "max_item",
                                        "max_window", "lease", "started", "finished"};
    static const char *const bad[] = {
        "",   "-1", "+1", " 1", "1 ", "1x", "0x1", "1.0", "1e3", "18446744073709551616", "99999999999999999999999",
        "nan"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
            struct fake k;
            fake_ready(&k);
            fake_set(&k, names[n], bad[b]);
            assert_bad(&k, FAULT_BAD_CONTRACT, names[n]);
        }
}

Test(dataset, numbers_reach_to_64_bits)
{
    struct fake k;
    struct manifest m;
    fake_ready(&k);
    fake_set(&k, "run", "18446744073709551615");
    fake_set(&k, "items", "18446744073709551615");
    fake_set(&k, "bytes", "18446744073709551615");
    cr_assert_null(manifest_read(&m, &k.root));
    cr_assert_eq(m.run, UINT64_MAX);
    cr_assert_eq(m.items, UINT64_MAX);
    cr_assert_eq(m.bytes, UINT64_MAX);
    manifest_fini(&m);
    fake_set(&k, "lease", "9223372036854775807"); /* callers reckon with times */
    assert_bad(&k, FAULT_BAD_CONTRACT, "lease");
}

Test(dataset, ready_needs_what_readiness_promises)
{
    static const char *const needed[] = {"state", "run", "list", "items", "bytes", "max_item"};
    static const char *const spare[] = {"token",  "lease",  "order",   "first",   "last",
                                        "digest", "source", "started", "finished"};
    struct fake k;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        fake_ready(&k);
        fake_set(&k, needed[i], NULL);
        char expected[40];
        snprintf(expected, sizeof expected, "no field %s", needed[i]);
        assert_bad(&k, FAULT_BAD_CONTRACT, expected);
    }
    for (size_t i = 0; i < sizeof spare / sizeof *spare; i++) {
        fake_ready(&k);
        fake_set(&k, spare[i], NULL);
        assert_fine(&k);
    }
    fake_ready(&k);
    fake_set(&k, "list", "");
    assert_bad(&k, FAULT_BAD_CONTRACT, "list");
}

Test(dataset, an_empty_dataset_is_a_dataset)
{
    struct fake k;
    fake_ready(&k);
    fake_set(&k, "items", "0");
    fake_set(&k, "bytes", "0");
    fake_set(&k, "max_item", "0");
    fake_set(&k, "first", NULL);
    fake_set(&k, "last", NULL);
    assert_fine(&k);
    fake_set(&k, "list", "");
    assert_fine(&k);
}

Test(dataset, numbers_of_a_ready_manifest_fit_together)
{
    static const struct {
        const char *items, *bytes, *max_item;
        bool fine;
    } rows[] = {
        {"12", "25", "3", true},  {"12", "36", "3", true},
        {"12", "37", "3", false}, {"12", "3", "3", true},
        {"12", "2", "3", false},  {"12", "0", "0", true},
        {"0", "1", "1", false},   {"0", "0", "1", false},
        {"12", "25", "0", false}, {"18446744073709551615", "18446744073709551615", "18446744073709551615", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fake k;
        fake_ready(&k);
        fake_set(&k, "items", rows[i].items);
        fake_set(&k, "bytes", rows[i].bytes);
        fake_set(&k, "max_item", rows[i].max_item);
        if (rows[i].fine)
            assert_fine(&k);
        else
            assert_bad(&k, FAULT_BAD_CONTRACT, "contradicts itself");
    }
}

Test(dataset, what_is_consumed)
{
    struct fake k;
    struct manifest m;
    fake_ready(&k);
    fake_set(&k, "state", "consumed");
    assert_fine(&k); /* of another make, which says no more */
    fake_set(&k, "consumed", "5");
    fake_set(&k, "consumer", "host-b:1:0123456789ab");
    fake_set(&k, "consumed_at", "10 a 2 b");
    cr_assert_null(manifest_read(&m, &k.root));
    cr_assert(m.has_consumed);
    cr_assert_eq(m.consumed, 5);
    cr_assert_str_eq(m.consumer, "host-b:1:0123456789ab");
    cr_assert_str_eq(m.consumed_at, "10 a 2 b");
    manifest_fini(&m);
    fake_set(&k, "consumed", "12");
    assert_fine(&k);
    fake_set(&k, "consumed", "13");
    assert_bad(&k, FAULT_BAD_CONTRACT, "consumed");
    fake_set(&k, "consumed", "x");
    assert_bad(&k, FAULT_BAD_CONTRACT, "consumed");
    fake_set(&k, "consumed", "5");
    fake_set(&k, "list", NULL);
    assert_bad(&k, FAULT_BAD_CONTRACT, "a consumed dataset has no field list");
}

Test(dataset, loading_needs_run_and_token)
{
    struct fake k;
    fake_init(&k);
    fake_set(&k, "contract", "1");
    fake_set(&k, "state", "loading");
    assert_bad(&k, FAULT_BAD_CONTRACT, "run");
    fake_set(&k, "run", "1");
    assert_bad(&k, FAULT_BAD_CONTRACT, "token");
    fake_set(&k, "token", "a:1:b");
    assert_fine(&k);
}

Test(dataset, the_edges_may_hold_any_bytes_but_not_many)
{
    struct fake k;
    struct manifest m;
    char edge[DATASET_EDGE_MAX + 2];
    memset(edge, 'x', sizeof edge);
    edge[DATASET_EDGE_MAX] = '\0';
    fake_ready(&k);
    fake_set(&k, "first", "");
    fake_set(&k, "last", NULL);
    fake_push(&k, "last", 4);
    fake_push(&k, "a\0\xff", 3);
    cr_assert_null(manifest_read(&m, &k.root));
    cr_assert_not_null(m.first.data, "an empty first item is there");
    cr_assert_eq(m.first.len, 0);
    cr_assert_eq(m.last.len, 3);
    cr_assert_arr_eq(m.last.data, "a\0\xff", 3);
    manifest_fini(&m);
    fake_set(&k, "last", edge);
    assert_fine(&k);
    edge[DATASET_EDGE_MAX] = 'x';
    edge[DATASET_EDGE_MAX + 1] = '\0';
    fake_set(&k, "last", edge);
    assert_bad(&k, FAULT_BAD_CONTRACT, "last");
}

Test(dataset, what_is_acted_on_holds_no_nul)
{
    static const char *const names[] = {"list", "token", "order"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fake k;
        fake_ready(&k);
        fake_set(&k, names[i], NULL);
        fake_push(&k, names[i], strlen(names[i]));
        fake_push(&k, "a\0b", 3);
        assert_bad(&k, FAULT_BAD_CONTRACT, names[i]);
    }
}

Test(dataset, a_digest_is_whole_or_absent)
{
    static const char *const bad[] = {"0", "0123456789abcdeffedcba987654321", DIGEST "0",
                                      "0123456789ABCDEFfedcba9876543210"};
    struct fake k;
    struct manifest m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fake_ready(&k);
        fake_set(&k, "digest", bad[i]);
        assert_bad(&k, FAULT_BAD_CONTRACT, "digest");
    }
    static const char *const none[] = {"", NULL};
    for (size_t i = 0; i < 2; i++) {
        fake_ready(&k);
        fake_set(&k, "digest", none[i]);
        cr_assert_null(manifest_read(&m, &k.root));
        cr_assert_not(m.has_digest);
        manifest_fini(&m);
    }
}

Test(dataset, replies_of_a_wrong_shape)
{
    struct fake k;
    struct manifest m;
    fake_ready(&k);
    k.root.elements--;
    assert_bad(&k, FAULT_BAD_CONTRACT, "without a value");
    static const int types[] = {REDIS_REPLY_ARRAY, REDIS_REPLY_INTEGER, REDIS_REPLY_NIL, REDIS_REPLY_ERROR, 77};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t i = 0; i < 4; i++) {
            fake_ready(&k);
            k.parts[i] = (redisReply){.type = types[t]};
            assert_bad(&k, FAULT_BAD_CONTRACT, i % 2 ? "value number" : "field number");
        }
    fake_ready(&k);
    k.elements[1] = NULL;
    assert_bad(&k, FAULT_BAD_CONTRACT, "value number 1");
    fake_ready(&k);
    k.parts[1].type = REDIS_REPLY_ERROR; /* has a text, too */
    assert_bad(&k, FAULT_BAD_CONTRACT, "value number 1");
    for (size_t t = 1; t < sizeof types / sizeof *types; t++) {
        fake_ready(&k);
        k.root = (redisReply){.type = types[t]};
        assert_bad(&k, FAULT_BAD_CONTRACT, "no hash");
    }
    struct fault *f = manifest_read(&m, NULL);
    cr_assert(fault_is(f, FAULT_BAD_CONTRACT));
    fault_free(f);
    manifest_fini(&m);
}

Test(dataset, error_replies)
{
    struct fake k;
    char wrong[] = "WRONGTYPE Operation against a key holding the wrong kind of value", other[] = "LOADING Redis";
    fake_init(&k);
    k.root = (redisReply){.type = REDIS_REPLY_ERROR, .str = wrong, .len = sizeof wrong - 1};
    assert_bad(&k, FAULT_WRONG_TYPE, "WRONGTYPE");
    k.root = (redisReply){.type = REDIS_REPLY_ERROR, .str = other, .len = sizeof other - 1};
    assert_bad(&k, FAULT_PROTOCOL, "LOADING");
}

#ifdef REDIS_REPLY_MAP
Test(dataset, the_map_of_resp3_will_do)
{
    struct fake k;
    fake_ready(&k);
    k.root.type = REDIS_REPLY_MAP;
    assert_fine(&k);
}
#endif

/* ---- faults ---- */

static void assert_fault_prints(const struct fake *k, const char *expected)
{
    struct manifest m;
    char *text;
    size_t len;
    cr_assert_null(manifest_read(&m, &k->root));
    struct fault *f = manifest_fault(&m, "demo", "2");
    FILE *to = open_memstream(&text, &len);
    fault_print(f, "nwm-merger", to);
    fclose(to);
    cr_assert_str_eq(text, expected, "%s", text);
    free(text);
    fault_free(f);
    manifest_fini(&m);
}

Test(dataset, a_failed_manifest_is_the_fault_of_its_worker)
{
    struct fake k;
    struct manifest m;
    fake_failed(&k);
    assert_fault_prints(&k, "nwm-merger: demo:2: Unsorted: item 18 \"5\" sorts before item 17 \"9\"\n"
                            "  from worker host-a:4211, run 3, part-2.txt line 18\n"
                            "  Traceback (most recent call last):\n"
                            "    load dataset demo:2\n"
                            "    read part-2.txt\n"
                            "    check order -n at line 18\n");
    cr_assert_null(manifest_read(&m, &k.root));
    struct fault *f = manifest_fault(&m, "demo", "2");
    cr_assert(fault_is(f, FAULT_UNSORTED));
    cr_assert_eq(fault_exit(f), EXIT_DATA);
    fault_free(f);
    manifest_fini(&m);
}

Test(dataset, the_origin_says_what_is_known)
{
    struct fake k;
    fake_failed(&k);
    fake_set(&k, "traceback", NULL);
    fake_set(&k, "message", "x");
    fake_set(&k, "at", NULL);
    assert_fault_prints(&k, "nwm-merger: demo:2: Unsorted: x\n  from worker host-a:4211, run 3, part-2.txt\n");
    fake_set(&k, "at", "line 18");
    fake_set(&k, "source", "");
    assert_fault_prints(&k, "nwm-merger: demo:2: Unsorted: x\n  from worker host-a:4211, run 3, line 18\n");
    fake_set(&k, "at", "");
    fake_set(&k, "token", NULL);
    fake_set(&k, "error", NULL);
    assert_fault_prints(&k, "nwm-merger: demo:2: Unknown: x\n  from worker unknown, run 3\n");
}

Test(dataset, the_exit_code_of_a_failed_manifest)
{
    static const char *const bad[] = {"0", "7", "141", "-1", "x", ""};
    struct fake k;
    struct manifest m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fake_failed(&k);
        fake_set(&k, "exit", bad[i]);
        assert_bad(&k, FAULT_BAD_CONTRACT, "exit");
    }
    for (int code = 1; code <= 6; code++) {
        char text[2] = {(char)('0' + code), '\0'};
        fake_failed(&k);
        fake_set(&k, "exit", text);
        cr_assert_null(manifest_read(&m, &k.root));
        cr_assert_eq(m.exit, code);
        struct fault *f = manifest_fault(&m, "demo", "2");
        cr_assert_eq(fault_exit(f), code);
        fault_free(f);
        manifest_fini(&m);
    }
    fake_failed(&k);
    fake_set(&k, "exit", NULL);
    assert_fine(&k);
}

Test(dataset, long_texts_are_cut)
{
    struct fake k;
    struct manifest m;
    size_t len = 1 << 20;
    char *text = mem_alloc(len + 1);
    memset(text, 'x', len);
    text[len] = '\0';
    fake_failed(&k);
    fake_set(&k, "message", text);
    fake_set(&k, "traceback", text);
    cr_assert_null(manifest_read(&m, &k.root));
    cr_assert_eq(strlen(m.message), 65536);
    cr_assert_eq(strlen(m.traceback), 65536);
    manifest_fini(&m);
    free(text);
}

Test(dataset, the_worker_of_a_token)
{
    static const char *const rows[][2] = {{"host-a:4211:0123456789ab", "host-a:4211"},
                                          {"::1:12:ab", "::1:12"},
                                          {"somebody", "somebody"},
                                          {"", "unknown"},
                                          {NULL, "unknown"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct manifest m = {.token = (char *)rows[i][0]};
        char *worker = manifest_worker(&m);
        cr_assert_str_eq(worker, rows[i][1]);
        free(worker);
    }
}

/* ---- events ---- */

Test(dataset, events)
{
    struct bytes id;
    enum dataset_state state;
    static const char good[] = "part-2 ready 3 4000000";
    cr_assert(dataset_parse_event(good, strlen(good), &id, &state));
    cr_assert_eq(id.data, good);
    cr_assert_eq(id.len, 6);
    cr_assert_eq(state, DATASET_READY);
    cr_assert(dataset_parse_event("0 dropped 0 0", 13, &id, &state));
    cr_assert_eq(state, DATASET_DROPPED);
}

Test(dataset, what_is_no_event)
{
    static const char *const bad[] = {"",
                                      " ",
                                      "a",
                                      "a ready",
                                      "a ready 1",
                                      "a ready 1 ",
                                      "a ready 1 2 3",
                                      "a ready 1 2 ",
                                      " a ready 1 2",
                                      "a  ready 1 2",
                                      "a Ready 1 2",
                                      "a missing 1 2",
                                      "a ready -1 2",
                                      "a ready 1 x",
                                      "a:b ready 1 2",
                                      "a ready 1 18446744073709551616",
                                      "a ready  2",
                                      "a ready 1 2\n",
                                      " ready 1 2"};
    struct bytes id;
    enum dataset_state state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not(dataset_parse_event(bad[i], strlen(bad[i]), &id, &state), "%s", bad[i]);
    cr_assert_not(dataset_parse_event("a ready 1 2\0", 12, &id, &state));
    cr_assert_not(dataset_parse_event("a ready 1 2", 10, &id, &state), "text beyond the length");
    cr_assert_not(dataset_parse_event(NULL, 0, &id, &state));
}
