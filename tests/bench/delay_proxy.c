/*
 * delay_proxy - a link with a round-trip time: passes bytes between a client and a server, each way half of it later.
 *
 *     delay_proxy LISTEN SERVER RTT-MICROSECONDS          unix sockets; prints "ready" when it listens
 *
 * It delays and does not limit: what is read gets the time at which it is due, and waits in a queue that holds 256 MB a
 * direction, several times what is under way in any of our runs. With 0 it goes the same way, so that a comparison
 * with 0 is about the delay and not about the proxy. It ends with its parent or on SIGTERM.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shared/mem.h"

enum { READ_SIZE = 128 << 10, QUEUE_MOST = 256 << 20, WAYS_MOST = 64 };

struct piece {
    struct piece *next;
    uint64_t due_ns;
    size_t len, sent;
    char data[READ_SIZE];
};

/* Those that are not in use. They are kept: fresh memory for each would make the long ways slow, which hold more of them. */
static struct piece *idle;

/* One direction of a connection. from: -1 when nothing more comes; to: -1 when it is closed. */
struct way {
    int from, to;
    struct piece *first, *last;
    size_t queued;
    bool full; /* the receiver takes no more just now */
};

static struct way ways[WAYS_MOST]; /* 2i goes up and 2i+1 comes down the same connection */
static size_t way_count;
static uint64_t delay_ns;

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- sockets ---- */

static int unix_socket(const char *path, struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || strlen(path) >= sizeof address->sun_path) fail(path);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    strcpy(address->sun_path, path);
    return fd;
}

static int listen_on(const char *path)
{
    struct sockaddr_un address;
    int fd = unix_socket(path, &address);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 64) != 0) fail(path);
    return fd;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address;
    int fd = unix_socket(path, &address);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

static size_t free_pair(void)
{
    size_t i = 0;
    while (i < way_count && (ways[i].to >= 0 || ways[i + 1].to >= 0)) i += 2;
    if (i == WAYS_MOST) fail("delay_proxy: too many connections");
    if (i == way_count) way_count += 2;
    return i;
}

static void take_client(int listener, const char *server)
{
    int client = accept(listener, NULL, NULL);
    int up = client >= 0 ? connect_to(server) : -1;
    if (up < 0) {
        if (client >= 0) close(client);
        return;
    }
    size_t i = free_pair();
    ways[i] = (struct way){.from = client, .to = up};
    ways[i + 1] = (struct way){.from = up, .to = client};
}

/* ---- passing on ---- */

static struct piece *take_piece(void)
{
    struct piece *p = idle;
    if (!p) return mem_alloc(sizeof *p);
    idle = p->next;
    return p;
}

static void give_back(struct piece *p)
{
    p->next = idle;
    idle = p;
}

static void take_in(struct way *w)
{
    struct piece *p = take_piece();
    ssize_t n = recv(w->from, p->data, READ_SIZE, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        give_back(p);
        return;
    }
    if (n <= 0) { /* the end travels as an empty piece, as late as the bytes before it */
        n = 0;
        w->from = -1;
    }
    p->next = NULL;
    p->due_ns = now_ns() + delay_ns;
    p->len = (size_t)n;
    p->sent = 0;
    if (w->last) {
        w->last->next = p;
    } else {
        w->first = p;
    }
    w->last = p;
    w->queued += p->len;
}

static void drop_first(struct way *w)
{
    struct piece *p = w->first;
    w->first = p->next;
    if (!w->first) w->last = NULL;
    w->queued -= p->len;
    give_back(p);
}

/* One side is gone: so is the connection. What the other way still held is of no use to anybody. */
static void close_pair(struct way *w)
{
    struct way *pair = &ways[(size_t)(w - ways) & ~(size_t)1];
    close(pair[0].to);
    close(pair[1].to);
    for (int i = 0; i < 2; i++) {
        while (pair[i].first) drop_first(&pair[i]);
        pair[i].from = pair[i].to = -1;
    }
}

static void give_out(struct way *w, uint64_t now)
{
    w->full = false;
    while (w->first && w->first->due_ns <= now) {
        struct piece *p = w->first;
        if (p->len == 0) {
            close_pair(w);
            return;
        }
        ssize_t n = send(w->to, p->data + p->sent, p->len - p->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) {
            close_pair(w);
            return;
        }
        w->full = n < 0;
        if (w->full) return;
        p->sent += (size_t)n;
        if (p->sent == p->len) drop_first(w);
    }
}

/* ---- waiting ---- */

static struct pollfd fds[1 + 2 * WAYS_MOST];

/* fds[1+2i] is where way i reads, fds[2+2i] where it writes. Returns when the next piece is due. */
static uint64_t prepare(void)
{
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < way_count; i++) {
        struct way *w = &ways[i];
        fds[1 + 2 * i] = (struct pollfd){w->queued < QUEUE_MOST ? w->from : -1, POLLIN, 0};
        fds[2 + 2 * i] = (struct pollfd){w->full ? w->to : -1, POLLOUT, 0};
        if (w->first && !w->full && w->first->due_ns < due) due = w->first->due_ns;
    }
    return due;
}

static void wait_until(uint64_t due)
{
    uint64_t now = now_ns(), rest = due > now ? due - now : 0;
    struct timespec ts = {(time_t)(rest / 1000000000), (long)(rest % 1000000000)};
    if (ppoll(fds, 1 + 2 * way_count, due == UINT64_MAX ? NULL : &ts, NULL) < 0 && errno != EINTR) fail("ppoll");
}

static void turn(int listener, const char *server)
{
    wait_until(prepare());
    size_t n = way_count;
    for (size_t i = 0; i < n; i++)
        if (fds[1 + 2 * i].revents && ways[i].from >= 0) take_in(&ways[i]);
    uint64_t now = now_ns();
    for (size_t i = 0; i < n; i++)
        if (ways[i].to >= 0) give_out(&ways[i], now);
    if (fds[0].revents) take_client(listener, server);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: delay_proxy LISTEN SERVER RTT-MICROSECONDS\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1); /* the kernel may be 50 µs late otherwise */
    delay_ns = strtoumax(argv[3], NULL, 10) * 1000 / 2;
    int listener = listen_on(argv[1]);
    fds[0] = (struct pollfd){listener, POLLIN, 0};
    puts("ready");
    fflush(stdout);
    for (;;) turn(listener, argv[2]);
}
