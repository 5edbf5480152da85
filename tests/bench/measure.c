/*
 * measure - runs commands and says what they took.
 *
 *     measure FD COMMAND [ARG…] [+ COMMAND [ARG…]]…
 *
 * All commands start together; when all have ended, one line goes to descriptor FD:
 *     STATUS WALL-NS USER-US SYSTEM-US PEAK-KB
 * STATUS is 0 if all ended with 0, else the first other one (128+n for a signal). Times are sums over the commands and
 * over all processes they started and waited for; PEAK is the resident memory of the largest single process.
 *
 * Before that, memory is touched and given back: a virtual machine returns to its host what was free for some seconds, and the first
 * to use it again pays for that (10 µs for 4 KB of it instead of 1.5, measured), whoever it is.
 *
 * Why not the driver itself: what a process inherits through fork and exec counts into its peak, and a Python that
 * starts something gives it 20 MB that way. This program is small, so what it reports is the command's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* More than any command of ours, or a server that is being loaded, takes. Left out where there is not so much. */
enum { WARM_BYTES = 256 << 20, PAGE = 4096 };

static void warm_memory(void)
{
    char *memory = mmap(NULL, WARM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return;
    for (size_t at = 0; at < WARM_BYTES; at += PAGE) memory[at] = 1;
    munmap(memory, WARM_BYTES);
}

/* The command ends with us, and we with the driver. */
static void start(char **argv)
{
    pid_t pid = fork();
    if (pid > 0) return;
    if (pid < 0) {
        perror("measure: fork");
        exit(1);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp(argv[0], argv);
    perror(argv[0]);
    _exit(127);
}

static int start_all(char **argv)
{
    int n = 0;
    for (char **word = argv, **command = argv;; word++) {
        bool last = !*word;
        if (!last && strcmp(*word, "+") != 0) continue;
        *word = NULL;
        start(command);
        n++;
        if (last) return n;
        command = word + 1;
    }
}

static uint64_t microseconds(struct timeval tv) { return (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec; }

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: measure FD COMMAND [ARG…] [+ COMMAND [ARG…]]…\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = atoi(argv[1]), status = 0;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    warm_memory();
    uint64_t begun = now_ns();
    for (int n = start_all(argv + 2); n > 0; n--) {
        int ended;
        if (wait(&ended) < 0) break;
        int code = WIFSIGNALED(ended) ? 128 + WTERMSIG(ended) : WEXITSTATUS(ended);
        if (status == 0) status = code;
    }
    uint64_t wall = now_ns() - begun;
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    dprintf(fd, "%d %" PRIu64 " %" PRIu64 " %" PRIu64 " %ld\n", status, wall, microseconds(usage.ru_utime),
            microseconds(usage.ru_stime), usage.ru_maxrss);
    return 0;
}
