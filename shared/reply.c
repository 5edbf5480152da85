#include "shared/reply.h"

#include <string.h>

enum { ERROR_SHOWN = 300 };

struct known {
    const char *prefix; /* of the error text; ends where a word of it ends */
    enum fault_kind kind;
    const char *advice;
};

/* Texts of Redis 5 to 8 and Valkey. The first that fits counts. */
static const struct known known_errors[] = {
    {"OOM", FAULT_SERVER_FULL, "its maxmemory is reached: free memory in it or raise the limit"},
    {"LOADING", FAULT_UNREACHABLE, "it is reading its data from disk: try again when that is done"},
    {"READONLY", FAULT_UNREACHABLE, "it is a replica, which takes no writes: give the URL of its primary"},
    {"MISCONF", FAULT_SERVER_FULL, "it refuses writes because it cannot save to disk: see its log and its disk space"},
    {"NOREPLICAS", FAULT_UNREACHABLE, "it wants more replicas than are connected (min-replicas-to-write)"},
    {"MASTERDOWN", FAULT_UNREACHABLE,
     "it is a replica that lost its primary: wait until they are connected again, or use the primary"},
    {"MOVED", FAULT_UNREACHABLE,
     "it is one node of a Redis Cluster, and redirects are not followed: give the URL of the node it names"},
    {"ASK", FAULT_UNREACHABLE, "the Redis Cluster is moving this slot: try again when that is done"},
    {"TRYAGAIN", FAULT_UNREACHABLE, "the Redis Cluster is moving this slot: try again when that is done"},
    {"CLUSTERDOWN", FAULT_UNREACHABLE, "the Redis Cluster does not serve this slot: see CLUSTER INFO"},
    {"CROSSSLOT", FAULT_UNREACHABLE, "it is a Redis Cluster, and these keys live in different slots of it"},
    {"NOAUTH", FAULT_DENIED, "it wants a password: --pass-file, --askpass or REDISCLI_AUTH give one"},
    {"WRONGPASS", FAULT_DENIED, "user name or password is wrong, or the user is disabled"},
    {"NOPERM", FAULT_DENIED, "this user may not do that: ask for the ACL rules that nwmerge's documentation lists"},
    {"DENIED", FAULT_DENIED,
     "it is in protected mode and takes connections from its own machine only: it needs a password or a bind address"},
    {"ERR invalid password", FAULT_DENIED, "the password is wrong"},
    {"ERR Client sent AUTH, but no password is set", FAULT_DENIED, "it has no password: leave it out"},
    {"ERR AUTH <password> called without any password", FAULT_DENIED, "it has no password: leave it out"},
    {"ERR wrong number of arguments for 'auth'", FAULT_DENIED,
     "it is older than Redis 6 and knows no users: give the password alone"},
    {"ERR operation not permitted", FAULT_DENIED,
     "it wants a password: --pass-file, --askpass or REDISCLI_AUTH give one"},
    {"WRONGTYPE", FAULT_WRONG_TYPE, "something else than nwmerge uses this key: TYPE shows what it is"},
    {"BUSY", FAULT_BUSY, "another client's script runs for long: wait for it, or end it with SCRIPT KILL"},
    {"EXECABORT", FAULT_PROTOCOL, "a command of this transaction was refused"},
    {"ERR max number of clients", FAULT_UNREACHABLE, "close other connections to it or raise its maxclients"},
    {"ERR DB index is out of range", FAULT_USAGE, "it has fewer databases than that: see --db"},
    {"ERR invalid DB index", FAULT_USAGE, "it has fewer databases than that: see --db"},
    {"ERR SELECT is not allowed in cluster mode", FAULT_USAGE, "a Redis Cluster has only database 0: see --db"},
    {"ERR unknown command", FAULT_PROTOCOL, "nwmerge needs Redis 5 or newer, with none of its commands renamed"},
};

/* What passes by itself in a while: trying again is the answer. */
static const char *const passing[] = {"LOADING", "MASTERDOWN", "TRYAGAIN", "ERR max number of clients"};

static bool may_pass(const struct known *k)
{
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (strcmp(k->prefix, passing[i]) == 0) return true;
    return false;
}

/* A prefix fits where the text's word ends with it: BUSY is not BUSYKEY. */
static bool fits(const char *text, size_t len, const char *prefix)
{
    size_t n = strlen(prefix);
    if (len < n || memcmp(text, prefix, n) != 0) return false;
    return len == n || strchr(" ,.:;'`(", text[n]) != NULL;
}

/* Why EXEC was refused at all counts, not that it was. */
static const struct known *find_known(const char *text, size_t len)
{
    static const char aborted[] = "EXECABORT Transaction discarded because of: ";
    if (len > strlen(aborted) && memcmp(text, aborted, strlen(aborted)) == 0)
        return find_known(text + strlen(aborted), len - strlen(aborted));
    for (size_t i = 0; i < sizeof known_errors / sizeof *known_errors; i++)
        if (fits(text, len, known_errors[i].prefix)) return &known_errors[i];
    return NULL;
}

struct fault *reply_fault(const redisReply *reply, const char *doing)
{
    if (reply->type != REDIS_REPLY_ERROR) return NULL;
    size_t len = (size_t)reply->len; /* 0.14 and 1.x differ in its type */
    int shown = len < ERROR_SHOWN ? (int)len : ERROR_SHOWN;
    while (shown > 0 && strchr(". \r\n", reply->str[shown - 1])) shown--;
    const struct known *k = find_known(reply->str, len);
    if (!k) return fault_new(FAULT_PROTOCOL, "%s: the server answers \"%.*s\"", doing, shown, reply->str);
    struct fault *f = fault_new(k->kind, "%s: the server answers \"%.*s\"; %s", doing, shown, reply->str, k->advice);
    return may_pass(k) ? fault_passing(f) : f;
}
