/*
 * options_intake.h - values of options on their way into struct options: checked one by one, layer by layer.
 *
 * The layers are taken from the weakest to the strongest, so that what comes later replaces what is there. Options that
 * mean something only together (the order; the URLs) are replaced together.
 */
#ifndef NWM_OPTIONS_INTAKE_H
#define NWM_OPTIONS_INTAKE_H

#include "shared/options.h"
#include "shared/options_table.h"

/* From the weakest to the strongest. */
enum layer { LAYER_DEFAULT, LAYER_CONFIG, LAYER_CONFIG_SECTION, LAYER_ENVIRONMENT, LAYER_COMMAND_LINE };

/* How to get at Redis, as words; options_access.c makes endpoints of them. */
struct access {
    char **urls;
    size_t url_count;
    char *host, *port, *socket, *db, *user, *pass, *pass_file, *cacert, *cert, *cert_key;
    bool askpass, tls;
};

struct intake {
    struct options *o;
    enum layer layer;               /* of what is taken now */
    enum layer layer_of[OPT_COUNT]; /* the last that gave this option; LAYER_DEFAULT: none did */
    enum layer order_layer;
    struct access access;
};

/* Fills *o with the defaults. */
void intake_init(struct intake *in, struct options *o, enum program program);
void intake_fini(struct intake *in);

/* Takes one value. A Usage fault that names the value and the limit, not the option. */
struct fault *intake_take(struct intake *in, const struct option_row *row, const char *value) MUST_CHECK;

/* Did the command line give it? */
bool intake_is_asked(const struct intake *in, enum option_id id);

/* Makes the endpoints, asking for the password if that was wished. */
struct fault *access_finish(struct intake *in) MUST_CHECK;
void access_fini(struct access *a);

/* Compiles the order, and refuses what does not go together. `words` are what is no option: FILE or IDs. `command` is
 * what came behind --, or NULL. */
struct fault *intake_finish(struct intake *in, char **words, size_t count, char **command) MUST_CHECK;

/* The takers of the table. Those with a field write to struct options (take_…) or struct access (access_…). */
typedef struct fault *option_taker(struct intake *in, const struct option_row *row, const char *value);
option_taker take_flag, take_text, take_name, take_job, take_time, take_wait, take_since, take_size, take_number,
    take_limit, take_missing, take_list, take_stats, take_letter, take_key, take_separator, take_zero, take_nothing,
    take_prefix, take_checkpoint;
option_taker access_flag, access_text, access_url, access_host, access_port, access_socket, access_db;

#endif
