/*
 * options_config.h - the config file: INI, its keys the long option names.
 *
 * Keys before any section and in [nwmerge] hold for both programs, those in [worker] and [merger] for one. Blanks around
 * keys, values and lines do not count; # and ; begin a comment at the start of a line, a ; behind a blank anywhere.
 */
#ifndef NWM_OPTIONS_CONFIG_H
#define NWM_OPTIONS_CONFIG_H

#include <stdbool.h>
#include <stdio.h>

#include "shared/fault.h"
#include "shared/options_intake.h"

/* Reads it into the intake's config layers. path: for messages. is_private: nobody but its owner can read it, so
 * passwords may be in it. BadConfig, naming file and line. */
struct fault *config_read(struct intake *in, FILE *file, const char *path, bool is_private) MUST_CHECK;

/* Finds the one that counts and reads it: `named` (--config) or $NWM_CONFIG, which must be there; else
 * ~/.config/nwmerge.conf, else /etc/nwmerge.conf, if there is one. */
struct fault *config_find(struct intake *in, const char *named) MUST_CHECK;

#endif
