"""The server: killed, started again with its data or without, stopped, asleep, full, and forbidding."""
import signal
import time

import invariants
from common import (BATCH, CONSUME, RESUME, judge_consumed, judge_load, judge_merge, judge_resumed, load_argv, merge_argv,
                    must_complete)
from machine import server_version
from scene import LEASE_S
from strikes import strike, strike_in_time
from table import Skip, row

POINTS = "at a command before, within and behind it, and in time; started again at once"
RESTART_S = 10
GONE = ("Vanished", "Changed", "Lost", "LeaseLost", "NoDatasets", "Timeout", "Unreachable", "Consumed", "WorkerLost", "Mismatch")


def restarts(scene):
    def act(program, gate=None):
        if gate:
            gate.shut()
        scene.server.restart()
        if gate:
            gate.reopen()
    return act


def killed(scene, point, argv_of, data, durable=True):
    """One run over which Redis is killed and started again; with a durable one it must complete."""
    scene.reset(None if durable else data)
    if durable:
        scene.durable()
        scene.fill(data)
    if point.i % 2:
        run = strike(scene, point, argv_of, data, restarts(scene), bound=RESTART_S)
    else:
        run = strike_in_time(scene, point, argv_of(scene.server.url), data, restarts(scene), bound=RESTART_S)
    if durable:
        must_complete(run)
    return run


def load_of(scene):
    return lambda url: load_argv(scene, scene.large)(url or scene.server.url)


@row("redis-kill-worker", "kill -9 of Redis under a load, appendfsync always", POINTS, "the load goes on; each item once", 24, 1)
def redis_kill_worker(scene, point):
    run = killed(scene, point, load_of(scene), None)
    return judge_load(scene, run, scene.large)


@row("redis-kill-merger", "kill -9 of Redis under a merge, appendfsync always", POINTS, "the merge goes on; byte for byte", 24, 1)
def redis_kill_merger(scene, point):
    run = killed(scene, point, merge_argv(scene), scene.small)
    return judge_merge(scene, run, scene.small)


@row("redis-kill-resume", "kill -9 of Redis, --resume", POINTS, "the merge goes on; byte for byte", 24, needs=("--resume",))
def redis_kill_resume(scene, point):
    run = killed(scene, point, merge_argv(scene, *RESUME), scene.small)
    return judge_resumed(scene, run, scene.small, merge_argv(scene, *RESUME)(scene.server.url))


@row("redis-kill-consume", "kill -9 of Redis, --consume", POINTS, "it goes on, or the same command completes; each item once", 24, 1,
     needs=("--consume",))
def redis_kill_consume(scene, point):
    scene.reset()
    scene.durable()
    scene.fill(scene.small)
    argv_of = merge_argv(scene, *CONSUME)
    if point.i % 2:
        run = strike(scene, point, argv_of, scene.small, restarts(scene), bound=RESTART_S)
    else:
        run = strike_in_time(scene, point, argv_of(scene.server.url), scene.small, restarts(scene), bound=RESTART_S)
    word = judge_resumed(scene, run, scene.small, argv_of(scene.server.url))
    judge_consumed(scene, scene.small)
    return word


@row("redis-forgets-worker", "kill -9 of Redis without persistence, under a load", POINTS, "a clear fault, or all of it again from the file", 24, 1)
def redis_forgets_worker(scene, point):
    run = killed(scene, point, load_of(scene), None, durable=False)
    if run.code == 0 and scene.server.ask("DBSIZE") == 0:
        return "forgotten when it was ready"
    return judge_load(scene, run, scene.large, allowed=GONE)


@row("redis-forgets-merger", "kill -9 of Redis without persistence, under a merge", POINTS, "a clear fault, no output", 24, 1)
def redis_forgets_merger(scene, point):
    run = killed(scene, point, merge_argv(scene), scene.small, durable=False)
    return judge_merge(scene, run, scene.small, allowed=GONE)


# ---- stopped and asleep ----------------------------------------------------------------------------------------------

def sleeps(scene, seconds):
    """The server does nothing for so long, while everything stays connected."""
    def act(program, gate=None):
        scene.server.pause()
        time.sleep(seconds)
        scene.server.go_on()
    return act


@row("redis-stop-merger", "SIGSTOP of Redis under a merge, then SIGCONT", "for 0.3 s at a command; shorter than --timeout",
     "byte for byte", 20, 1)
def redis_stop_merger(scene, point):
    scene.reset(scene.small)
    run = strike(scene, point, merge_argv(scene), scene.small, sleeps(scene, 0.3), bound=5)
    must_complete(run)
    return judge_merge(scene, run, scene.small)


@row("redis-stop-worker", "SIGSTOP of Redis under a load, then SIGCONT", "for 0.3 s at a command; shorter than --timeout",
     "each item once", 20, 1)
def redis_stop_worker(scene, point):
    scene.reset()
    run = strike(scene, point, load_argv(scene, scene.large), None, sleeps(scene, 0.3), bound=5)
    must_complete(run)
    return judge_load(scene, run, scene.large)


@row("redis-stays-stopped", "SIGSTOP of Redis, for good", "at a command; worker and merger in turn, --timeout 1s", "Timeout, within its bound", 24, 1)
def redis_stays_stopped(scene, point):
    loads = point.i % 2
    data = None if loads else scene.small
    scene.reset(data)
    argv_of = load_argv(scene, scene.large, timeout="1s") if loads else merge_argv(scene, timeout="1s")
    try:
        run = strike(scene, point, argv_of, data, lambda program, gate: scene.server.pause(), bound=5, then=scene.server.go_on)
    finally:
        scene.server.go_on()
    if loads:
        return judge_load(scene, run, scene.large, allowed=("Timeout",))
    return judge_merge(scene, run, scene.small, allowed=("Timeout",))


@row("debug-sleep", "DEBUG SLEEP", "0.3 s, at a command; worker and merger in turn", "it waits, and completes", 30, 1)
def debug_sleep(scene, point):
    loads = point.i % 2
    data = None if loads else scene.small
    scene.reset(data)

    def act(program, gate):
        scene.server.ask("DEBUG", "SLEEP", "0.3")
    argv_of = load_argv(scene, scene.large) if loads else merge_argv(scene)
    run = strike(scene, point, argv_of, data, act, bound=5)
    must_complete(run)
    return judge_load(scene, run, scene.large) if loads else judge_merge(scene, run, scene.small)


@row("worker-stop", "SIGSTOP of the worker, then SIGCONT", "for 0.2 s, within its lease", "each item once", 20, 1)
def worker_stop(scene, point):
    scene.reset()
    run = strike(scene, point, load_argv(scene, scene.large), None, stops(0.2), bound=5)
    must_complete(run)
    return judge_load(scene, run, scene.large)


@row("worker-stop-long", "SIGSTOP of the worker beyond its lease, while another loads", "at a command",
     "LeaseLost; what the other loaded is whole", 12)
def worker_stop_long(scene, point):
    scene.reset()
    rival, was = [], []

    def act(program, gate):
        program.signal(signal.SIGSTOP)
        time.sleep(LEASE_S + 0.3)
        scene.expire_leases()
        was.append(scene.server.ask("HGET", "nwm:{job:0}", "state"))
        rival.append(scene.run(scene.worker("-i", 0, "-n", scene.large.files[1], url=scene.server.url)))
        program.signal(signal.SIGCONT)
    run = strike(scene, point, load_argv(scene, scene.large), None, act, bound=LEASE_S + 5)
    return judge_rivals(scene, run, rival[0], was[0])


def judge_rivals(scene, run, rival, was):
    """Two loads of dataset 0, files 0 and 1: who came later and got through is what stands, whole. was: the state when the rival
    began: of a load that was under way only one can get through."""
    words = invariants.ended(run, (), ("LeaseLost", "Lost", "DuplicateWorker")), invariants.ended(rival, (), ("DuplicateWorker",))
    state, name = scene.server.ask("HMGET", "nwm:{job:0}", "state", "list")
    if words == ("complete", "complete"):
        invariants.demand(state == b"ready", f"both loads were complete, and the dataset is {state}")
        invariants.demand(was != b"loading", "a load that another took over says it is complete" + invariants.shown(run))
    if "complete" in words:
        got = b"".join(item + b"\n" for item in scene.server.ask("LRANGE", name, 0, -1))
        wholes = [f.read_bytes() for f, word in zip(scene.large.files, words) if word == "complete"]
        invariants.demand(got in wholes, "the list is that of no load that completed" + invariants.shown(run))
        merged = scene.run(scene.merger("-o", scene.out, "0"))
        invariants.demand(merged.code == 0, "what stands cannot be merged" + invariants.shown(merged))
        invariants.merged(merged, scene.out, got)
    invariants.keys(scene)
    return " + ".join(words)


@row("merger-stop", "SIGSTOP of the merger, then SIGCONT", "for 0.2 s at a command", "byte for byte", 20, 1)
def merger_stop(scene, point):
    scene.reset(scene.small)
    run = strike(scene, point, merge_argv(scene), scene.small, stops(0.2), bound=5)
    must_complete(run)
    return judge_merge(scene, run, scene.small)


def stops(seconds):
    def act(program, gate=None):
        program.signal(signal.SIGSTOP)
        time.sleep(seconds)
        program.signal(signal.SIGCONT)
    return act


# ---- full ------------------------------------------------------------------------------------------------------------

def fills_up(scene, policy, room):
    """From now on it is over its limit, or nearly so."""
    def act(program, gate=None):
        used = int(dict(line.split(":", 1) for line in scene.server.ask("INFO", "memory").decode().split("\r\n") if ":" in line)["used_memory"])
        scene.server.ask("CONFIG", "SET", "maxmemory-policy", policy)
        scene.server.ask("CONFIG", "SET", "maxmemory", max(1, used + room))
    return act


def has_room_again(scene):
    scene.server.ask("CONFIG", "SET", "maxmemory", 0)
    scene.server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


FULL = ("ServerFull", "Lost", "LeaseLost", "Changed")


@row("oom-worker", "maxmemory reached under a load, noeviction", "at a command, with 0 to 200 KB of room", "ServerFull; the list is given back", 40, 1)
def oom_worker(scene, point):
    scene.reset()
    try:
        run = strike(scene, point, load_argv(scene, scene.large), None,
                     fills_up(scene, "noeviction", point.random.randrange(-1 << 20, 200_000)), bound=10)
    finally:
        has_room_again(scene)
    return judge_load(scene, run, scene.large, allowed=FULL)


@row("oom-merger", "maxmemory reached under a merge, noeviction", "at a command", "byte for byte: reading needs no room", 20)
def oom_merger(scene, point):
    scene.reset(scene.small)
    try:
        run = strike(scene, point, merge_argv(scene), scene.small, fills_up(scene, "noeviction", -1 << 20), bound=10)
    finally:
        has_room_again(scene)
    return judge_merge(scene, run, scene.small, allowed=("ServerFull",))


@row("evicted-worker", "maxmemory reached under a load, allkeys-lru", "at a command; keys are evicted", "a fault, or each item once", 40, 1)
def evicted_worker(scene, point):
    scene.reset()
    try:
        run = strike(scene, point, load_argv(scene, scene.large), None,
                     fills_up(scene, "allkeys-lru", point.random.randrange(-1 << 19, 300_000)), bound=10)
        word = invariants.ended(run, (), FULL + ("Vanished", "WrongType"))
        if scene.server.ask("EXISTS", scene.list_key(0) or "none"):
            invariants.loaded(scene, run, 0, scene.large)  # else it was evicted after it was ready
    finally:
        has_room_again(scene)
    return word


@row("evicted-merger", "maxmemory reached under a merge, allkeys-lru", "at a command; keys are evicted", "Vanished, or byte for byte", 40, 1)
def evicted_merger(scene, point):
    scene.reset(scene.small)
    try:
        run = strike(scene, point, merge_argv(scene, timeout="1s"), scene.small, fills_up(scene, "allkeys-lru", -point.random.randrange(1 << 19)), bound=10)
    finally:
        has_room_again(scene)
    return judge_merge(scene, run, scene.small, allowed=GONE)


# ---- forbidding ------------------------------------------------------------------------------------------------------

WORKER_USES = "select multi exec eval rpush rpushx llen lindex unlink del pexpire persist pttl exists get set hset hmget sadd publish time".split()
MERGER_USES = "select multi exec watch lrange llen hgetall pttl smembers subscribe time ping".split()


def without(scene, commands):
    if server_version() < (6, 0):
        raise Skip("no ACLs before Redis 6")

    def act(program, gate=None):
        for command in commands:
            scene.server.ask("ACL", "SETUSER", "default", f"-{command}")
    return act


def allow_all(scene):
    scene.server.ask("ACL", "SETUSER", "default", "+@all")


@row("acl-worker", "an ACL that denies the worker a command", "one command after the other, from the start or from a command on",
     "Denied, or each item once", 2 * len(WORKER_USES), 2)
def acl_worker(scene, point):
    scene.reset()
    deny = without(scene, [point.choose(WORKER_USES)])
    try:
        if point.i < len(WORKER_USES):
            deny(None)
            run = scene.run(load_argv(scene, scene.large, timeout="2s")(None), 5)
        else:
            run = strike(scene, point, load_argv(scene, scene.large, timeout="2s"), None, deny, bound=5)
        word = invariants.ended(run, (), ("Denied",))
    finally:
        allow_all(scene)
    judge_load(scene, run, scene.large)
    return word


@row("acl-merger", "an ACL that denies the merger a command", "one command after the other, from the start or from a command on",
     "Denied, or byte for byte", 2 * len(MERGER_USES), 2)
def acl_merger(scene, point):
    scene.reset(scene.small)
    deny = without(scene, [point.choose(MERGER_USES)])
    try:
        if point.i < len(MERGER_USES):
            deny(None)
            run = scene.run(merge_argv(scene, timeout="2s")(None), 5)
        else:
            run = strike(scene, point, merge_argv(scene, timeout="2s"), scene.small, deny, bound=5)
    finally:
        allow_all(scene)
    return judge_merge(scene, run, scene.small, allowed=("Denied",))
