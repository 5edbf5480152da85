/*
 * protocol - ready-made protocol for `redis-cli --pipe`: standard input, a line an item, as RPUSH commands.
 *
 *     protocol KEY ITEMS-PER-RPUSH <text >protocol
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"

static void put_push(struct buf *items, const char *key, uint64_t n)
{
    printf("*%" PRIu64 "\r\n$5\r\nRPUSH\r\n$%zu\r\n%s\r\n", n + 2, strlen(key), key);
    fwrite(items->data, 1, items->len, stdout);
    items->len = 0;
}

int main(int argc, char **argv)
{
    uint64_t most = argc == 3 ? strtoumax(argv[2], NULL, 10) : 0;
    if (most == 0) {
        fprintf(stderr, "usage: protocol KEY ITEMS-PER-RPUSH <text >protocol\n");
        return 2;
    }
    struct buf items = {0};
    char *line = NULL;
    size_t room = 0;
    uint64_t n = 0;
    for (ssize_t len; (len = getline(&line, &room, stdin)) > 0;) {
        if (line[len - 1] == '\n') len--;
        buf_printf(&items, "$%zd\r\n", len);
        buf_append(&items, line, (size_t)len);
        buf_append(&items, "\r\n", 2);
        if (++n < most) continue;
        put_push(&items, argv[1], n);
        n = 0;
    }
    if (n > 0) put_push(&items, argv[1], n);
    free(line);
    buf_free(&items);
    if (fflush(stdout) == 0 && !ferror(stdin)) return 0;
    perror("protocol");
    return 1;
}
