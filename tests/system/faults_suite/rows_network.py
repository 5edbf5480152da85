"""Connections: cut, halved, stalled, garbled, slow, and closed by the server."""
import invariants
from common import BATCH, RESUME, judge_load, judge_merge, judge_resumed, load_argv, merge_argv, must_complete
from machine import Proxy
from strikes import strike
from table import Missed, row

TIMEOUT = "2s"  # how long a program may wait for what does not come
TIMEOUT_S = 2
MAY_FAIL = ("Timeout", "Unreachable", "Lost", "Protocol", "Denied")


def position(point, whole):
    """Each of the first 100 bytes, then spread over all of them."""
    return point.i + 1 if point.i < 100 else 100 + int(point.place * whole)


def through(scene, argv_of, *faults, bound=TIMEOUT_S):
    """A run through the proxy, and how many connections it made."""
    proxy = Proxy(scene.work, scene.server, *faults)
    try:
        run = scene.run(argv_of(proxy.url), bound)
    finally:
        connections = proxy.stop()
    return run, connections


def cut_once(scene, point, argv_of, direction, whole):
    """The data connection is cut after n bytes, each later one is left alone. n is the row's point."""
    at = position(point, whole)
    run, connections = through(scene, argv_of, f"--cut-{direction}", at, "--first", 1, bound=TIMEOUT_S * 2)
    if connections < 2 and run.code == 0:
        raise Missed  # there were not so many bytes
    if at > 200:  # the very first connect and its greeting may fail at once
        must_complete(run)
    return run


DOWN, UP = 330_000, 30_000  # bytes of a merge of the small job
LOAD_DOWN, LOAD_UP = 300, 700_000


@row("cut-merger-down", "connection cut towards the merger", "after n bytes, n = 1…100 and spread over the merge",
     "it connects again; byte for byte", 400, 4)
def cut_merger_down(scene, point):
    scene.reset(scene.small)
    run = cut_once(scene, point, merge_argv(scene, timeout=TIMEOUT), "down", DOWN)
    return judge_merge(scene, run, scene.small)


@row("cut-merger-up", "connection cut from the merger", "after n bytes, n = 1…100 and spread over the merge",
     "it connects again; byte for byte", 200, 2)
def cut_merger_up(scene, point):
    scene.reset(scene.small)
    run = cut_once(scene, point, merge_argv(scene, timeout=TIMEOUT), "up", UP)
    return judge_merge(scene, run, scene.small)


@row("cut-worker-up", "connection cut from the worker", "after n bytes, n = 1…100 and spread over the load",
     "it connects again; each item once", 400, 4)
def cut_worker_up(scene, point):
    scene.reset()
    run = cut_once(scene, point, load_argv(scene, scene.large, timeout=TIMEOUT), "up", LOAD_UP)
    return judge_load(scene, run, scene.large)


@row("cut-worker-down", "connection cut towards the worker", "after n bytes of the replies",
     "it connects again; each item once", 200, 2)
def cut_worker_down(scene, point):
    scene.reset()
    run = cut_once(scene, point, load_argv(scene, scene.large, timeout=TIMEOUT), "down", LOAD_DOWN)
    return judge_load(scene, run, scene.large)


@row("cut-all-merger", "every connection of the merger cut", "each after the same n bytes, again and again",
     "it gets on from one to the next, or Timeout; never a part for the whole", 40)
def cut_all_merger(scene, point):
    scene.reset(scene.small)
    n = int(1000 * 1.15 ** (point.place * 40))
    run, connections = through(scene, merge_argv(scene, timeout=TIMEOUT), "--cut-down", n, bound=60)
    return {judge_merge(scene, run, scene.small, allowed=MAY_FAIL): max(1, connections - 1)}


@row("cut-all-worker", "every connection of the worker cut", "each after the same n bytes, again and again",
     "it gets on from one to the next, or Timeout; each item once", 40)
def cut_all_worker(scene, point):
    scene.reset()
    n = int(2000 * 1.15 ** (point.place * 40))
    run, connections = through(scene, load_argv(scene, scene.large, timeout=TIMEOUT), "--cut-up", n, bound=60)
    return {judge_load(scene, run, scene.large, allowed=MAY_FAIL): max(1, connections - 1)}


FAULTS = ("half-close-down", "half-close-up", "garbage-down", "garbage-up", "stall-down", "stall-up")


@row("proxy-merger", "half-close, garbage, silence; merger", "behind n bytes, either way, on the first connection",
     "byte for byte, or a fault within the bound", 120, 3)
def proxy_merger(scene, point):
    scene.reset(scene.small)
    fault = point.choose(FAULTS)
    at = int(point.random.random() ** 2 * (DOWN if fault.endswith("down") else UP))
    run, _ = through(scene, merge_argv(scene, timeout="1s"), f"--{fault}", at, "--first", 1, bound=5)
    return judge_merge(scene, run, scene.small, allowed=MAY_FAIL)


@row("proxy-worker", "half-close, garbage, silence; worker", "behind n bytes, either way, on the first connection",
     "each item once, or a fault within the bound", 120, 3)
def proxy_worker(scene, point):
    scene.reset()
    fault = point.choose(FAULTS)
    at = int(point.random.random() ** 2 * (LOAD_DOWN if fault.endswith("down") else LOAD_UP))
    run, _ = through(scene, load_argv(scene, scene.large, timeout="1s"), f"--{fault}", at, "--first", 1, bound=5)
    if fault == "garbage-up":
        garbled(scene)
    return judge_load(scene, run, scene.large, allowed=(*MAY_FAIL, "Changed"))


def garbled(scene):
    """What reached Redis as another key is none of the worker's doing."""
    scene.server.settle()
    for key in scene.server.ask("KEYS", "*"):
        if b"\a" in key:
            scene.server.ask("DEL", key)


@row("proxy-slow", "a slow and piecemeal network", "--delay 1…9 ms, pieces of 1…999 bytes", "byte for byte", 20, 1)
def proxy_slow(scene, point):
    scene.reset(scene.small)
    run, _ = through(scene, merge_argv(scene, "--batch", 500), "--delay", point.random.randint(1, 9), "--chunk",
                     point.random.randint(40, 999), bound=30)
    must_complete(run)
    return judge_merge(scene, run, scene.small)


# ---- CLIENT KILL -----------------------------------------------------------------------------------------------------

def kill_clients(scene):
    return lambda program, gate: scene.server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@row("client-kill-merger", "CLIENT KILL of the merger's connections", "at a command before, within and behind it",
     "it connects again; byte for byte", 60, 2)
def client_kill_merger(scene, point):
    scene.reset(scene.small)
    run = strike(scene, point, merge_argv(scene), scene.small, kill_clients(scene), bound=5)
    must_complete(run)
    return judge_merge(scene, run, scene.small)


@row("client-kill-resume", "CLIENT KILL, --resume", "at a command before, within and behind it", "it connects again; byte for byte", 30,
     needs=("--resume",))
def client_kill_resume(scene, point):
    scene.reset(scene.small)
    run = strike(scene, point, merge_argv(scene, *RESUME), scene.small, kill_clients(scene), bound=5)
    must_complete(run)
    return judge_resumed(scene, run, scene.small, merge_argv(scene, *RESUME)(None))


@row("client-kill-worker", "CLIENT KILL of the worker's connections", "at a command before, within and behind it",
     "it connects again; each item once", 60, 2)
def client_kill_worker(scene, point):
    scene.reset()
    run = strike(scene, point, load_argv(scene, scene.large), None, kill_clients(scene), bound=5)
    must_complete(run)
    return judge_load(scene, run, scene.large)


@row("client-kill-pipe", "CLIENT KILL, output to a pipe", "at a command before, within and behind it", "it connects again; byte for byte", 30)
def client_kill_pipe(scene, point):
    scene.reset(scene.small)
    out = scene.work / "stream"
    run = strike(scene, point, lambda url: scene.merger(*BATCH, url=url), scene.small, kill_clients(scene), bound=5, out=out)
    must_complete(run)
    invariants.streamed(run, out, scene.small.merged)
    return invariants.ended(run)
