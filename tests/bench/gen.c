/*
 * gen - the data of the benchmark: sorted lists as text files, the same bytes for the same arguments on every machine.
 *
 *     gen KIND SEED ITEMS LISTS DIRECTORY          writes DIRECTORY/0 … DIRECTORY/LISTS-1, ITEMS in all
 *
 *     numbers  random numbers of 12 digits, in the order of sort -n
 *     few      the same, but only 16 different ones
 *     lines    log lines of about 70 bytes that begin with a timestamp, all lists of the same day, in the order of bytes
 *     fields   the same lines as `lines`, in the order of sort -s -k3,3n
 *     days     log lines, each list of a day of its own: logs that were rotated
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"

enum { LINE_MOST = 96, DAY_MS = 86400 * 1000, FEW = 16 };

struct line {
    uint64_t field, number; /* the third field, and the line's place in the list: what `fields` sorts by */
    char text[LINE_MOST];
};

/* ---- chance: splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014) ---- */

static uint64_t state;

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t draw(void) { return mix(state += UINT64_C(0x9e3779b97f4a7c15)); }

/* Evenly from 0 … below-1; the bias is below 2^-24 for what is asked for here. */
static uint64_t draw_below(uint64_t below) { return draw() % below; }

static uint64_t twelve_digits(uint64_t x) { return UINT64_C(100000000000) + x % UINT64_C(900000000000); }

/* ---- files ---- */

static FILE *open_list(const char *directory, uint64_t list)
{
    char *path = mem_printf("%s/%" PRIu64, directory, list);
    FILE *file = fopen(path, "w");
    if (!file) {
        perror(path);
        exit(1);
    }
    setvbuf(file, NULL, _IOFBF, 1 << 20);
    free(path);
    return file;
}

static void close_list(FILE *file)
{
    if (!ferror(file) && fclose(file) == 0) return;
    perror("gen: write");
    exit(1);
}

/* ---- numbers ---- */

/* By the lowest 40 bits, 10 at a time from the right: four passes. */
static void radix_sort(uint64_t *keys, uint64_t *scratch, size_t n)
{
    for (int shift = 0; shift < 40; shift += 10) {
        size_t begin[1025] = {0};
        for (size_t i = 0; i < n; i++) begin[((keys[i] >> shift) & 1023) + 1]++;
        for (int d = 0; d < 1024; d++) begin[d + 1] += begin[d];
        for (size_t i = 0; i < n; i++) scratch[begin[(keys[i] >> shift) & 1023]++] = keys[i];
        uint64_t *swap = keys;
        keys = scratch;
        scratch = swap;
    }
}

static void write_numbers(FILE *file, const uint64_t *numbers, size_t n)
{
    char text[13];
    text[12] = '\n';
    for (size_t i = 0; i < n; i++) {
        uint64_t rest = numbers[i];
        for (int d = 11; d >= 0; d--, rest /= 10) text[d] = (char)('0' + rest % 10);
        fwrite(text, 1, sizeof text, file);
    }
}

static void make_numbers(FILE *file, uint64_t seed, size_t n, bool few)
{
    uint64_t *numbers = mem_array(NULL, 2 * n + 1, sizeof *numbers);
    for (size_t i = 0; i < n; i++) numbers[i] = twelve_digits(few ? mix(seed + 1 + draw_below(FEW)) : draw());
    radix_sort(numbers, numbers + n, n); /* an even number of passes: the result is where it began */
    write_numbers(file, numbers, n);
    free(numbers);
}

/* ---- lines ---- */

static int by_bytes(const void *a, const void *b)
{
    return strcmp(((const struct line *)a)->text, ((const struct line *)b)->text);
}

static int by_field(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    if (x->field != y->field) return x->field < y->field ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

static void make_line(struct line *l, uint64_t ms, unsigned day, unsigned host)
{
    static const char *const methods[] = {"GET", "GET", "GET", "POST", "HEAD"};
    static const int answers[] = {200, 200, 200, 304, 404};
    unsigned s = (unsigned)(ms / 1000);
    l->field = draw_below(10000000);
    const char *method = methods[draw_below(5)];
    int answer = answers[draw_below(5)];
    unsigned item = (unsigned)draw_below(100000), took = (unsigned)draw_below(10000);
    snprintf(l->text, sizeof l->text,
             "2026-03-%02uT%02u:%02u:%02u.%03uZ web-%u %" PRIu64 " %s /shop/item/%u %d %u.%03u", day, s / 3600 % 24,
             s / 60 % 60, s % 60, (unsigned)(ms % 1000), host, l->field, method, item, answer, took / 1000,
             took % 1000);
}

static void make_lines(FILE *file, size_t n, unsigned day, unsigned host, bool by_the_field)
{
    struct line *lines = mem_array(NULL, n + 1, sizeof *lines);
    for (size_t i = 0; i < n; i++) make_line(&lines[i], draw_below(DAY_MS), day, host);
    qsort(lines, n, sizeof *lines, by_bytes);
    for (size_t i = 0; i < n; i++) lines[i].number = i;
    if (by_the_field) qsort(lines, n, sizeof *lines, by_field);
    for (size_t i = 0; i < n; i++) fprintf(file, "%s\n", lines[i].text);
    free(lines);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: gen numbers|few|lines|fields|days SEED ITEMS LISTS DIRECTORY\n");
        return 2;
    }
    const char *kind = argv[1];
    uint64_t seed = strtoumax(argv[2], NULL, 10), items = strtoumax(argv[3], NULL, 10),
             lists = strtoumax(argv[4], NULL, 10);
    for (uint64_t i = 0; i < lists; i++) {
        size_t n = (size_t)(items * (i + 1) / lists - items * i / lists);
        state = mix(seed) + mix(i + 1);
        FILE *file = open_list(argv[5], i);
        if (strcmp(kind, "numbers") == 0 || strcmp(kind, "few") == 0) {
            make_numbers(file, seed, n, *kind == 'f');
        } else {
            bool rotated = strcmp(kind, "days") == 0;
            make_lines(file, n, rotated ? 1 + (unsigned)i % 28 : 14, rotated ? 1 : 1 + (unsigned)i,
                       strcmp(kind, "fields") == 0);
        }
        close_list(file);
    }
    return 0;
}
