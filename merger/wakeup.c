#include "merger/wakeup.h"

#include <stdlib.h>

#include "shared/conn.h"
#include "shared/log.h"
#include "shared/mem.h"

/* One SUBSCRIBE brings a confirmation and then events without end. */
enum { EVENTS_WITHOUT_END = 1 << 30 };

struct wakeup {
    struct conn *conn;
};

static void tell(struct fault *fault)
{
    log_detail("no events from this server, looking every second instead: %s", fault_message(fault));
    fault_free(fault);
}

struct wakeup *wakeup_new(struct endpoint *e, const char *client_name, const char *channel, int64_t timeout_ms)
{
    struct conn *conn;
    struct fault *fault = conn_open(e, client_name, timeout_ms, &conn);
    if (fault) {
        tell(fault);
        return NULL;
    }
    char *command;
    int len = redisFormatCommand(&command, "SUBSCRIBE %s", channel);
    conn_append_raw(conn, command, (size_t)len, EVENTS_WITHOUT_END);
    redisFreeCommand(command);
    struct wakeup *w = mem_zalloc(sizeof *w);
    w->conn = conn;
    if (!wakeup_drain(w)) {
        wakeup_free(w);
        return NULL;
    }
    return w;
}

void wakeup_free(struct wakeup *w)
{
    if (!w) return;
    conn_close(w->conn);
    free(w);
}

int wakeup_fd(const struct wakeup *w) { return conn_fd(w->conn); }

bool wakeup_drain(struct wakeup *w)
{
    for (;;) {
        bool ready;
        struct fault *fault = conn_pump(w->conn, &ready);
        if (!fault && !ready) return true;
        redisReply *reply = NULL;
        if (!fault) fault = conn_reply(w->conn, &reply);
        if (!fault) fault = reply_fault(reply, "SUBSCRIBE");
        freeReplyObject(reply);
        if (fault) {
            tell(fault);
            return false;
        }
    }
}
