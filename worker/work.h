/*
 * work.h - everything one worker holds, for main.c, which goes through its life, and hold.c, which keeps it alive.
 */
#ifndef NWM_WORK_H
#define NWM_WORK_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/options.h"
#include "shared/script.h"
#include "worker/checker.h"
#include "worker/lease.h"
#include "worker/line.h"
#include "worker/loader.h"
#include "worker/meter.h"
#include "worker/source.h"

/* Pointers are NULL until they are there. */
struct work {
    const struct options *options;
    char *subject; /* "demo:2"; with --check and no id, the source's name */
    char *place;   /* where in the source it failed: "line 18" */
    struct source *source;
    struct checker *checker;
    struct line *line;
    struct claim claim;
    struct lease *lease;
    struct loader *loader;
    struct meter meter;

    /* After lost connections (hold.c). */
    struct checker *before; /* while items are read again: what they were; else NULL */
    bool beginning;         /* a begin was sent and not answered */
    bool sealed;            /* ready was applied, though its answer was lost */
    bool was_idle;          /* as the last one was made good for, nothing was left to be sent again */
    uint64_t acknowledged;  /* the most that ever were, as one broke: acknowledged, */
    uint64_t items;         /* and read */
};

#endif
