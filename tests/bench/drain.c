/*
 * drain - the floor of a merge: fetches lists over one connection and throws the bytes away.
 *
 *     drain SOCKET BATCH DEPTH <lists          BATCH items a request, DEPTH requests in flight
 *
 * Standard input names the lists, one "KEY ITEMS" a line. They are asked in turn, a batch each, as a merge uses them
 * up. Of the replies only as much is looked at as is needed to find where each ends: the lengths of its elements, which
 * are stepped over. Nothing is copied, nothing is kept; the items are counted, and one missing is an error.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/mem.h"

enum { READ_SIZE = 1 << 20 };

struct list {
    char *key;
    uint64_t items, asked;
};

/* Where in a reply we are. */
struct skim {
    uint64_t elements; /* of this reply still to come */
    uint64_t step;     /* bytes of the current element still to come, with its CR LF */
    char type;         /* of the header being read; 0 between headers */
    uint64_t number;   /* its digits so far */
    uint64_t items, replies;
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- the lists ---- */

static struct list *read_lists(size_t *count)
{
    struct list *lists = NULL;
    size_t n = 0, room = 0;
    char *line = NULL;
    while (getline(&line, &room, stdin) > 0) {
        char *space = strrchr(line, ' ');
        if (!space) continue;
        lists = mem_array(lists, n + 1, sizeof *lists);
        lists[n++] = (struct list){mem_strndup(line, (size_t)(space - line)), strtoumax(space + 1, NULL, 10), 0};
    }
    free(line);
    *count = n;
    return lists;
}

/* The request for the next batch of the next list that has one; false when all is asked for. */
static bool put_request(struct buf *out, struct list *lists, size_t n, size_t *turn, uint64_t batch)
{
    for (size_t tries = 0; tries < n; tries++) {
        struct list *l = &lists[*turn];
        *turn = (*turn + 1) % n;
        if (l->asked == l->items) continue;
        uint64_t until = l->items - l->asked < batch ? l->items : l->asked + batch;
        char from[24], to[24];
        int from_len = snprintf(from, sizeof from, "%" PRIu64, l->asked);
        int to_len = snprintf(to, sizeof to, "%" PRIu64, until - 1);
        buf_printf(out, "*4\r\n$6\r\nLRANGE\r\n$%zu\r\n%s\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", strlen(l->key), l->key,
                   from_len, from, to_len, to);
        l->asked = until;
        return true;
    }
    return false;
}

/* ---- replies ---- */

static void end_header(struct skim *s)
{
    if (s->type == '*') {
        s->elements = s->number;
        if (s->elements == 0) s->replies++;
    } else if (s->type == '$' && s->elements > 0) {
        s->step = s->number + 2;
    } else {
        fprintf(stderr, "drain: a reply that is no list\n");
        exit(1);
    }
    s->type = 0;
    s->number = 0;
}

static void end_element(struct skim *s)
{
    s->items++;
    if (--s->elements == 0) s->replies++;
}

static void skim(struct skim *s, const char *p, size_t len)
{
    for (const char *end = p + len; p < end;) {
        if (s->step > 0) {
            uint64_t part = s->step < (uint64_t)(end - p) ? s->step : (uint64_t)(end - p);
            s->step -= part;
            p += part;
            if (s->step == 0) end_element(s);
            continue;
        }
        char c = *p++;
        if (s->type == 0) {
            s->type = c;
        } else if (c == '\n') {
            end_header(s);
        } else if (c != '\r') {
            s->number = s->number * 10 + (uint64_t)(c - '0');
        }
    }
}

/* ---- the connection ---- */

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || strlen(path) >= sizeof address.sun_path) fail("socket");
    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail(path);
    return fd;
}

static void send_all(int fd, struct buf *out)
{
    for (size_t sent = 0; sent < out->len;) {
        ssize_t n = write(fd, out->data + sent, out->len - sent);
        if (n < 0 && errno != EINTR) fail("write");
        if (n > 0) sent += (size_t)n;
    }
    out->len = 0;
}

static uint64_t drain(int fd, struct list *lists, size_t n, uint64_t batch, uint64_t depth)
{
    char *buffer = mem_alloc(READ_SIZE);
    struct buf out = {0};
    struct skim s = {0};
    uint64_t asked = 0;
    size_t turn = 0;
    for (;;) {
        while (asked - s.replies < depth && put_request(&out, lists, n, &turn, batch)) asked++;
        send_all(fd, &out);
        if (asked == s.replies) break;
        ssize_t got = read(fd, buffer, READ_SIZE);
        if (got == 0 || (got < 0 && errno != EINTR)) fail("read");
        if (got > 0) skim(&s, buffer, (size_t)got);
    }
    buf_free(&out);
    free(buffer);
    return s.items;
}

int main(int argc, char **argv)
{
    uint64_t batch = argc == 4 ? strtoumax(argv[2], NULL, 10) : 0, depth = argc == 4 ? strtoumax(argv[3], NULL, 10) : 0;
    if (batch == 0 || depth == 0) {
        fprintf(stderr, "usage: drain SOCKET BATCH DEPTH <lists\n");
        return 2;
    }
    size_t n;
    struct list *lists = read_lists(&n);
    uint64_t expected = 0;
    for (size_t i = 0; i < n; i++) expected += lists[i].items;
    uint64_t items = n ? drain(connect_to(argv[1]), lists, n, batch, depth) : 0;
    for (size_t i = 0; i < n; i++) free(lists[i].key);
    free(lists);
    if (items == expected) return 0;
    fprintf(stderr, "drain: %" PRIu64 " items where %" PRIu64 " were expected\n", items, expected);
    return 1;
}
