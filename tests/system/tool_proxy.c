/*
 * tool_proxy - a small proxy between a client and a Redis, which breaks things on demand.
 *
 *     tool_proxy --listen unix:PATH|tcp:PORT --to unix:PATH|tcp:PORT [FAULT...]
 *
 * Prints "ready" when it listens, and until SIGTERM passes bytes on; then it prints how many connections there were and
 * how many bytes went up (from the client) and down. FAULT, where DIR is up or down and N counts the bytes of one
 * connection in that direction:
 *
 *     --cut-DIR N        pass N bytes, then close both sides (SO_LINGER 0 on TCP: a reset)
 *     --half-close-DIR N pass N bytes, then say there is no more in that direction (shutdown), and drop what still comes
 *     --stall-DIR N      pass N bytes, then no more, and keep the connection open
 *     --garbage-DIR N    pass N bytes, then instead of what comes bytes that are no RESP
 *     --delay MS         every byte is passed on MS later, both ways, the throughput not limited
 *     --chunk N          at most N bytes a write (in small pieces)
 *     --only K           the faults strike connection K only (from 1); the others are passed on whole
 *     --first K          the faults strike the first K connections only
 *     --random SEED      each connection is cut after a number of bytes of its own, from half of N to one and a half
 *
 * One thread, poll, non-blocking sockets; a direction stops reading while more than 32 MB wait to be written.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

enum { WAITING_MOST = 32 << 20, READ_MOST = 256 << 10, PAIRS_MOST = 1000 };
enum { UP, DOWN };
static const uint64_t NEVER = UINT64_MAX;

static struct {
    uint64_t cut[2], half_close[2], stall[2], garbage[2];
    int64_t delay_us;
    size_t chunk;
    uint64_t only, first, random;
    const char *listen, *to;
} asked = {
    .cut = {UINT64_MAX, UINT64_MAX},
    .half_close = {UINT64_MAX, UINT64_MAX},
    .stall = {UINT64_MAX, UINT64_MAX},
    .garbage = {UINT64_MAX, UINT64_MAX},
};

/* Bytes that were read and are to be written when their time has come. */
struct piece {
    struct piece *next;
    int64_t due; /* µs */
    size_t len, done;
    char data[];
};

/* One direction of a connection: from fd `from` to fd `to`. */
struct flow {
    struct piece *head, **tail; /* tail is valid while there is a head; never inside this struct, which moves */
    size_t waiting;
    uint64_t passed; /* bytes taken in to be passed on, for the faults */
    bool ended;      /* the sender has said so, or a fault did */
    bool told;       /* the receiver has been told */
};

struct pair {
    int fd[2]; /* [UP] the client's, from which bytes go up; [DOWN] the server's */
    bool faulty, dead;
    uint64_t cut[2];
    struct flow flow[2];
};

static struct pair pairs[PAIRS_MOST];
static size_t pair_count;
static uint64_t connections, total[2];
static volatile sig_atomic_t stopped;

static void on_signal(int signal)
{
    (void)signal;
    stopped = 1;
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "tool_proxy: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- sockets */

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

static socklen_t parse_address(const char *text, union address *a)
{
    memset(a, 0, sizeof *a);
    if (!strncmp(text, "unix:", 5) && strlen(text + 5) < sizeof a->un.sun_path) {
        a->un.sun_family = AF_UNIX;
        memcpy(a->un.sun_path, text + 5, strlen(text + 5) + 1);
        return sizeof a->un;
    }
    if (strncmp(text, "tcp:", 4) != 0) {
        fprintf(stderr, "tool_proxy: \"%s\" is neither unix:PATH nor tcp:PORT\n", text);
        exit(2);
    }
    a->in.sin_family = AF_INET;
    a->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a->in.sin_port = htons((uint16_t)strtoul(text + 4, NULL, 10));
    return sizeof a->in;
}

static int listen_at(const char *text)
{
    union address a;
    socklen_t len = parse_address(text, &a);
    int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    if (a.any.sa_family == AF_UNIX)
        unlink(a.un.sun_path);
    else
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, &a.any, len) != 0 || listen(fd, 128) != 0) die(text);
    return fd;
}

static void make_quick(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* fails on a unix socket, where it is not needed */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Connects while the client waits: both are on this machine. */
static int connect_to(const char *text)
{
    union address a;
    socklen_t len = parse_address(text, &a);
    int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (connect(fd, &a.any, len) != 0) {
        close(fd);
        return -1;
    }
    make_quick(fd);
    return fd;
}

/* ---- connections */

static uint64_t cut_of_its_own(uint64_t at)
{
    static unsigned short state[3];
    if (at == NEVER || !asked.random) return at;
    if (state[0] == 0) state[0] = (unsigned short)asked.random;
    return at / 2 + (uint64_t)(erand48(state) * (double)at);
}

static void begin(int client)
{
    int server = pair_count < PAIRS_MOST ? connect_to(asked.to) : -1;
    connections++;
    if (server < 0) {
        close(client); /* the client sees a server that is gone */
        return;
    }
    make_quick(client);
    struct pair *p = &pairs[pair_count++];
    *p = (struct pair){.fd = {client, server}};
    for (int d = UP; d <= DOWN; d++) p->cut[d] = cut_of_its_own(asked.cut[d]);
    p->faulty = (!asked.only || asked.only == connections) && (!asked.first || connections <= asked.first);
}

static void end(struct pair *p)
{
    struct linger reset = {.l_onoff = 1};
    for (int d = UP; d <= DOWN; d++) {
        setsockopt(p->fd[d], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(p->fd[d]);
        for (struct piece *piece; (piece = p->flow[d].head);) {
            p->flow[d].head = piece->next;
            free(piece);
        }
    }
    p->dead = true;
}

static void bury(void)
{
    size_t kept = 0;
    for (size_t i = 0; i < pair_count; i++) {
        if (pairs[i].dead) continue;
        pairs[kept++] = pairs[i];
    }
    pair_count = kept;
}

static void append(struct flow *f, const char *data, size_t len)
{
    struct piece *p = malloc(sizeof *p + len);
    if (!p) die("malloc");
    *p = (struct piece){.due = now_us() + asked.delay_us, .len = len};
    memcpy(p->data, data, len);
    if (!f->head) f->tail = &f->head;
    *f->tail = p;
    f->tail = &p->next;
    f->waiting += len;
}

/* How many of these bytes still pass before the fault at byte `at`. */
static size_t until(uint64_t at, const struct flow *f, size_t len)
{
    if (at == NEVER || f->passed + len <= at) return len;
    return (size_t)(at > f->passed ? at - f->passed : 0);
}

static bool has_struck(uint64_t at, const struct flow *f) { return at != NEVER && f->passed >= at; }

static void take(struct pair *p, int d, char *data, size_t len)
{
    struct flow *f = &p->flow[d];
    if (!p->faulty) {
        append(f, data, len);
        return;
    }
    if (f->ended) return; /* half closed: dropped */
    size_t clean = until(asked.garbage[d], f, len);
    memset(data + clean, '\a', len - clean);
    len = until(asked.stall[d], f, until(asked.half_close[d], f, until(p->cut[d], f, len)));
    if (len) append(f, data, len);
    f->passed += len;
    if (has_struck(asked.half_close[d], f)) f->ended = true;
}

static void receive(struct pair *p, int d)
{
    static char data[READ_MOST];
    ssize_t n = read(p->fd[d], data, sizeof data);
    if (n > 0)
        take(p, d, data, (size_t)n);
    else if (n == 0)
        p->flow[d].ended = true;
    else if (errno != EAGAIN && errno != EINTR)
        end(p);
}

static void deliver(struct pair *p, int d)
{
    struct flow *f = &p->flow[d];
    while (f->head && f->head->due <= now_us()) {
        struct piece *piece = f->head;
        size_t len = piece->len - piece->done;
        if (asked.chunk && len > asked.chunk) len = asked.chunk;
        ssize_t n = send(p->fd[!d], piece->data + piece->done, len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n < 0) {
            end(p);
            return;
        }
        total[d] += (uint64_t)n;
        piece->done += (size_t)n;
        f->waiting -= (size_t)n;
        if (piece->done < piece->len) continue;
        f->head = piece->next;
        free(piece);
    }
}

/* What follows once all that was to be passed on has been. */
static void settle(struct pair *p)
{
    for (int d = UP; d <= DOWN && !p->dead; d++) {
        struct flow *f = &p->flow[d];
        if (f->head) continue;
        if (p->faulty && has_struck(p->cut[d], f))
            end(p);
        else if (f->ended && !f->told) {
            shutdown(p->fd[!d], SHUT_WR);
            f->told = true;
        }
    }
    if (!p->dead && p->flow[UP].told && p->flow[DOWN].told) end(p);
}

/* ---- the loop */

static bool wants_more(const struct pair *p, int d)
{
    const struct flow *f = &p->flow[d];
    bool dropping = p->faulty && has_struck(asked.half_close[d], f) && !f->told;
    return (!f->ended || dropping) && f->waiting < WAITING_MOST && !(p->faulty && has_struck(asked.stall[d], f));
}

/* Fills polls for the pair, and lowers *wake (µs) to when its next piece is due. */
static void watch(struct pair *p, struct pollfd polls[2], int64_t *wake)
{
    int64_t now = now_us();
    for (int d = UP; d <= DOWN; d++) {
        polls[d].fd = p->fd[d];
        polls[d].events = wants_more(p, d) ? POLLIN : 0;
    }
    for (int d = UP; d <= DOWN; d++) {
        const struct piece *head = p->flow[d].head;
        if (head && head->due <= now)
            polls[!d].events |= POLLOUT;
        else if (head && head->due < *wake)
            *wake = head->due;
    }
    /* poll reports a hang-up even if nothing is asked; of a stalled side it would do so without end. */
    for (int d = UP; d <= DOWN; d++)
        if (!polls[d].events) polls[d].fd = -1;
}

static void serve(struct pair *p, const struct pollfd polls[2])
{
    for (int d = UP; d <= DOWN && !p->dead; d++)
        if (polls[d].fd >= 0 && (polls[d].events & POLLIN) && polls[d].revents) receive(p, d);
    for (int d = UP; d <= DOWN && !p->dead; d++) deliver(p, d);
    if (!p->dead) settle(p);
}

static void turn(int listener)
{
    static struct pollfd polls[1 + 2 * PAIRS_MOST];
    size_t n = pair_count;
    int64_t wake = INT64_MAX;
    polls[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    for (size_t i = 0; i < n; i++) watch(&pairs[i], &polls[1 + 2 * i], &wake);
    int64_t pause = wake == INT64_MAX ? -1 : wake - now_us();
    struct timespec t = {.tv_sec = pause / 1000000, .tv_nsec = pause % 1000000 * 1000};
    if (pause < 0) t = (struct timespec){0};
    sigset_t none;
    sigemptyset(&none);
    if (ppoll(polls, 1 + 2 * n, wake == INT64_MAX ? NULL : &t, &none) < 0 && errno != EINTR) die("poll");
    if (stopped) return;
    for (size_t i = 0; i < n; i++) serve(&pairs[i], &polls[1 + 2 * i]);
    bury();
    int client = (polls[0].revents & POLLIN) ? accept(listener, NULL, NULL) : -1;
    if (client >= 0) begin(client);
}

/* ---- the command line */

static uint64_t number(const char *name, const char *text)
{
    char *rest;
    errno = 0;
    uint64_t n = strtoumax(text, &rest, 10);
    if (errno || rest == text || *rest || *text == '-') {
        fprintf(stderr, "tool_proxy: --%s wants a number, not \"%s\"\n", name, text);
        exit(2);
    }
    return n;
}

static void parse(int argc, char **argv)
{
    enum {
        LISTEN = 1,
        TO,
        CUT = 10,
        HALF_CLOSE = 20,
        STALL = 30,
        GARBAGE = 40,
        DELAY = 50,
        CHUNK,
        ONLY,
        FIRST,
        RANDOM
    };
    static const struct option table[] = {
        {"listen", 1, NULL, LISTEN},
        {"to", 1, NULL, TO},
        {"cut-up", 1, NULL, CUT + UP},
        {"cut-down", 1, NULL, CUT + DOWN},
        {"half-close-up", 1, NULL, HALF_CLOSE + UP},
        {"half-close-down", 1, NULL, HALF_CLOSE + DOWN},
        {"stall-up", 1, NULL, STALL + UP},
        {"stall-down", 1, NULL, STALL + DOWN},
        {"garbage-up", 1, NULL, GARBAGE + UP},
        {"garbage-down", 1, NULL, GARBAGE + DOWN},
        {"delay", 1, NULL, DELAY},
        {"chunk", 1, NULL, CHUNK},
        {"only", 1, NULL, ONLY},
        {"first", 1, NULL, FIRST},
        {"random", 1, NULL, RANDOM},
        {0},
    };
    for (int c, which; (c = getopt_long(argc, argv, "", table, &which)) != -1;) {
        if (c == '?') exit(2);
        uint64_t n = c == LISTEN || c == TO ? 0 : number(table[which].name, optarg);
        switch (c) {
        case LISTEN: asked.listen = optarg; break;
        case TO: asked.to = optarg; break;
        case CUT + UP: asked.cut[UP] = n; break;
        case CUT + DOWN: asked.cut[DOWN] = n; break;
        case HALF_CLOSE + UP: asked.half_close[UP] = n; break;
        case HALF_CLOSE + DOWN: asked.half_close[DOWN] = n; break;
        case STALL + UP: asked.stall[UP] = n; break;
        case STALL + DOWN: asked.stall[DOWN] = n; break;
        case GARBAGE + UP: asked.garbage[UP] = n; break;
        case GARBAGE + DOWN: asked.garbage[DOWN] = n; break;
        case DELAY: asked.delay_us = (int64_t)n * 1000; break;
        case CHUNK: asked.chunk = n; break;
        case ONLY: asked.only = n; break;
        case FIRST: asked.first = n; break;
        case RANDOM: asked.random = n; break;
        }
    }
    if (asked.listen && asked.to && optind == argc) return;
    fprintf(stderr, "usage: tool_proxy --listen unix:PATH|tcp:PORT --to unix:PATH|tcp:PORT [FAULT...]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    /* Stopping is seen only inside ppoll, so that none is missed. */
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigaddset(&term, SIGINT);
    sigprocmask(SIG_BLOCK, &term, NULL);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_signal}, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_signal}, NULL);
    int listener = listen_at(asked.listen);
    printf("ready\n");
    fflush(stdout);
    while (!stopped) turn(listener);
    printf("%" PRIu64 " connections, %" PRIu64 " bytes up, %" PRIu64 " bytes down\n", connections, total[UP],
           total[DOWN]);
    return 0;
}
