"""The Python peer: redis-py with its C parser, LRANGE in batches, heapq.merge, to standard output.

    peer_python.py SOCKET bytes|number|field3 <lists          one "KEY ITEMS" a line, as for drain

Written as a careful user of Python would: a generator a list, whole batches, no work an item that the order does not
ask for, one buffered output.
"""
import heapq
import sys

import redis
from redis.connection import HiredisParser, UnixDomainSocketConnection

BATCH = 4096
KEYS = {"bytes": None, "number": int, "field3": lambda item: int(item.split(None, 3)[2])}


def items(client, key, count):
    for start in range(0, count, BATCH):
        yield from client.lrange(key, start, start + BATCH - 1)


def main():
    path, order = sys.argv[1:]
    lists = [line.split() for line in sys.stdin]
    pool = redis.ConnectionPool(connection_class=UnixDomainSocketConnection, path=path, parser_class=HiredisParser)
    client = redis.Redis(connection_pool=pool)
    streams = [items(client, key, int(count)) for key, count in lists]
    with open(1, "wb", buffering=1 << 20) as out:
        out.writelines(item + b"\n" for item in heapq.merge(*streams, key=KEYS[order]))


main()
