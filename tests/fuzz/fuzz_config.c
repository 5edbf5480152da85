/*
 * fuzz_config.c - arbitrary bytes as a config file. The first byte chooses the program, and whether others may read the
 * file. What is refused must name the file and a line; what is accepted must make whole options.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"
#include "shared/options_config.h"
#include "shared/options_intake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A password file or a terminal is not this test's. */
static struct fault *finish(struct intake *in)
{
    in->layer_of[OPT_PASS_FILE] = LAYER_DEFAULT;
    char *words[] = {(char[]){"1"}, NULL};
    if (!in->o->id) in->o->id = mem_strdup("1");
    return intake_finish(in, words, 1, NULL);
}

static void check(const struct options *o, enum program program)
{
    if (o->program != program || !o->job || !o->prefix || !*o->prefix || o->endpoint_count == 0) abort();
    if (o->timeout_ms <= 0 || o->lease_ms < 1000 || o->memory < 1 << 20 || o->ttl_ms < 0 || o->keep_ms < 0) abort();
    if (!order_text(o->order)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    enum program program = data[0] & 1 ? PROGRAM_WORKER : PROGRAM_MERGER;
    FILE *file = fmemopen((void *)(uintptr_t)(data + 1), size - 1, "r");
    if (!file) abort();
    struct options o;
    struct intake in;
    intake_init(&in, &o, program);
    struct fault *f = config_read(&in, file, "fuzz.conf", data[0] & 2);
    if (f && (!fault_is(f, FAULT_BAD_CONFIG) || strncmp(fault_message(f), "fuzz.conf line ", 15) != 0)) abort();
    bool read = !f;
    fault_free(f);
    if (read) {
        in.layer = LAYER_COMMAND_LINE;
        f = finish(&in);
        if (!f) check(&o, program);
        fault_free(f);
    }
    intake_fini(&in);
    options_free(&o);
    fclose(file);
    return 0;
}
