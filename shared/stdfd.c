#include "shared/stdfd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* The way of gnulib's stdopen(): opened contrary to its use. open() gives the lowest number that is free, and the lower ones
 * are taken by then. */
static void hold(int fd)
{
    if (fcntl(fd, F_GETFD) >= 0) return;
    if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) _exit(EXIT_FAILURE);
}

void stdfd_hold(void)
{
    hold(STDIN_FILENO);
    hold(STDOUT_FILENO);
    hold(STDERR_FILENO);
}
