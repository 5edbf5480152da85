#include "shared/script_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/mem.h"

/*
 * A name that is not the manifest's own with :RUN.NONCE behind is left alone by every script.
 * Before Redis 5 effects were not replicated by themselves; replicate_commands() is then what allows TIME before a
 * write.
 */
static const char prologue[] =
    "if redis.replicate_commands then redis.replicate_commands() end\n"
    "local function owned(list)\n"
    "  local stem = KEYS[1] .. ':'\n"
    "  return list and string.sub(list, 1, #stem) == stem and string.find(list, '^%d+%.%w+$', #stem + 1)\n"
    "end\n"
    "local function tell(state, run, items)\n"
    "  redis.call('PUBLISH', ARGV[2], ARGV[3] .. ' ' .. state .. ' ' .. run .. ' ' .. items)\n"
    "end\n";

enum { WORD_SCRIPT = 1 };

char *script_own_token(const char *nonce)
{
    char host[256];
    if (gethostname(host, sizeof host) != 0) strcpy(host, "unknown");
    host[sizeof host - 1] = '\0';
    return mem_printf("%s:%ld:%s", host, (long)getpid(), nonce);
}

char *script_holder(const char *token)
{
    const char *nonce = strrchr(token, ':');
    return nonce && nonce != token ? mem_strndup(token, (size_t)(nonce - token))
                                   : mem_strdup(*token ? token : "somebody");
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

void script_words_add_bytes(struct script_words *w, const char *data, size_t len)
{
    w->argv[w->count] = data;
    w->lens[w->count++] = len;
}

void script_words_add(struct script_words *w, const char *text) { script_words_add_bytes(w, text, strlen(text)); }

void script_words_add_number(struct script_words *w, uint64_t n)
{
    char *text = w->numbers[w->numbers_used++];
    snprintf(text, sizeof w->numbers[0], "%" PRIu64, n);
    script_words_add(w, text);
}

void script_words_begin(struct script_words *w, const char *manifest, const char *lease, const char *token,
                        const char *channel, const char *id)
{
    w->count = w->numbers_used = 0;
    const char *fixed[] = {"EVAL", "", "2", manifest, lease, token, channel, id};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) script_words_add(w, fixed[i]);
}

void script_send(struct conn *conn, const struct script *s, struct script_words *w)
{
    char *text = mem_printf("%s%s", prologue, s->text);
    w->argv[WORD_SCRIPT] = text;
    w->lens[WORD_SCRIPT] = strlen(text);
    conn_append(conn, w->count, w->argv, w->lens);
    free(text);
}

/* ---- what comes back --------------------------------------------------------------------------------------------- */

/* Redis 5 and 6 wrap the error of a command in a script: "ERR Error running script (call to f_…): @user_script:9:
 * WRONGTYPE …", sometimes twice and with a '-' before the code. This finds the inner one, which says what happened on
 * every version. */
static const char *inner_error(const char *text)
{
    const char *inner = text;
    for (const char *p = text; (p = strstr(p, "@user_script:")) != NULL;) {
        p += strlen("@user_script:");
        const char *end = p + strspn(p, " 0123456789");
        if (end[0] == ':' && end[1] == ' ' && end[2] != '\0') inner = end + 2;
    }
    return inner[0] == '-' ? inner + 1 : inner;
}

/* What a user may not do is NOPERM everywhere, but in scripts: there Redis 6 and 7.0, and newer ones, say it like this. */
static const char *denial(const char *text)
{
    static const char *const beginnings[] = {"The user executing the script can't ", "ACL failure in script: "};
    if (strncmp(text, "ERR ", 4) == 0) text += 4;
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
        if (strncmp(text, beginnings[i], strlen(beginnings[i])) == 0) return text;
    return NULL;
}

static struct fault *script_fault(const struct script *s, const char *manifest, redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ERROR) return NULL;
    const char *inner = inner_error(reply->str), *denied = denial(inner);
    char *text = denied ? mem_printf("NOPERM %s", denied) : mem_strdup(inner);
    redisReply plain = {.type = REDIS_REPLY_ERROR, .str = text, .len = strlen(text)};
    char *doing = mem_printf("script %s on %s", s->name, manifest);
    struct fault *f = reply_fault(&plain, doing);
    free(doing);
    free(text);
    return f;
}

/* What an answer must look like; a server, a proxy or a renamed command may send anything. */
static bool is_answer(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 && reply->element[0]->type == REDIS_REPLY_STRING;
}

struct fault *script_take(struct conn *conn, const struct script *s, const char *manifest, redisReply **reply)
{
    struct fault *f = conn_reply(conn, reply);
    if (f) return f;
    f = script_fault(s, manifest, *reply);
    if (!f && !is_answer(*reply))
        f = fault_new(FAULT_PROTOCOL, "script %s on %s answered what no script of nwmerge answers", s->name, manifest);
    if (f) freeReplyObject(*reply);
    return f;
}

bool script_answer_is(const redisReply *reply, const char *word) { return strcmp(reply->element[0]->str, word) == 0; }

const char *script_answer_text(const redisReply *reply, size_t i)
{
    return i < reply->elements && reply->element[i]->type == REDIS_REPLY_STRING ? reply->element[i]->str : "";
}

uint64_t script_answer_number(const redisReply *reply, size_t i)
{
    if (i < reply->elements && reply->element[i]->type == REDIS_REPLY_INTEGER)
        return reply->element[i]->integer > 0 ? (uint64_t)reply->element[i]->integer : 0;
    const char *text = script_answer_text(reply, i);
    return *text >= '0' && *text <= '9' ? strtoumax(text, NULL, 10) : 0;
}
