/*
 * script_run.h - how a script is sent and what may come back: the words of one EVAL, and its answer, an array that begins with a
 * word. What the scripts are is in script.h (loading) and script_consume.h (consuming).
 *
 * All scripts: KEYS[1] the manifest, KEYS[2] a lease; ARGV[1] the dataset's token, ARGV[2] the events' channel, ARGV[3] the id. They
 * find owned(list) and tell(state, run, items) defined.
 */
#ifndef NWM_SCRIPT_RUN_H
#define NWM_SCRIPT_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/conn.h"
#include "shared/fault.h"

struct script {
    const char *name, *text;
};

/* The words of one EVAL: the fixed ones, then what each script adds. They borrow the texts; numbers are printed into `numbers`. */
struct script_words {
    const char *argv[48];
    size_t lens[48], count;
    char numbers[16][24];
    size_t numbers_used;
};

void script_words_begin(struct script_words *w, const char *manifest, const char *lease, const char *token,
                        const char *channel, const char *id);
void script_words_add(struct script_words *w, const char *text);
void script_words_add_bytes(struct script_words *w, const char *data, size_t len);
void script_words_add_number(struct script_words *w, uint64_t n);

/* Sends it (buffers it), and takes the reply, which is an answer then and the caller's; every other one is a fault. manifest: for the
 * fault. Several may be sent before the first reply is taken. */
void script_send(struct conn *conn, const struct script *s, struct script_words *w);
struct fault *script_take(struct conn *conn, const struct script *s, const char *manifest, redisReply **reply)
    MUST_CHECK;

bool script_answer_is(const redisReply *reply, const char *word);
/* Word i of an answer; "" when it is not there or no string. */
const char *script_answer_text(const redisReply *reply, size_t i);
/* Number i of an answer, as an integer or in digits; 0 when it is neither. */
uint64_t script_answer_number(const redisReply *reply, size_t i);

/* HOST:PID:NONCE of this process; the caller frees. */
char *script_own_token(const char *nonce);
/* HOST:PID of a token, for people; the caller frees. */
char *script_holder(const char *token);

#endif
