"""The process itself: few descriptors, allocations that fail, a wall clock that jumps."""
import resource
import signal

import invariants
from common import RESUME, judge_load, judge_merge, load_argv, merge_argv, must_complete
from machine import is_sanitized
from table import Skip, row

FEW = ("Unreachable", "Output", "NoInput", "NoMemory", "BadConfig", "Usage", "Lost", "Timeout")


def for_real():
    if is_sanitized():
        raise Skip("a sanitizer has its own malloc")


def few(point):
    """From hardly any to 64, which is enough."""
    return 64 - point.i % 62


@row("descriptors-merger", "few file descriptors; merger", "ulimit -n 64, 63 … 3", "64 are enough; else a fault", 62, 2)
def descriptors_merger(scene, point):
    for_real()
    scene.reset(scene.small)
    run = scene.run(merge_argv(scene, timeout="2s")(None), 5, limits=[(resource.RLIMIT_NOFILE, few(point))])
    if few(point) > 32:
        must_complete(run)
    return cannot_start(run) or judge_merge(scene, run, scene.small, allowed=FEW)


@row("descriptors-worker", "few file descriptors; worker", "ulimit -n 64, 63 … 3", "64 are enough; else a fault", 62, 2)
def descriptors_worker(scene, point):
    for_real()
    scene.reset()
    run = scene.run(load_argv(scene, scene.large, timeout="2s")(None), 5, limits=[(resource.RLIMIT_NOFILE, few(point))])
    if few(point) > 32:
        must_complete(run)
    return cannot_start(run) or judge_load(scene, run, scene.large, allowed=FEW)


def cannot_start(run):
    """The loader of programs said so, or libevent, or the program in its first lines: there it has no faults yet."""
    early = any(text in run.err for text in ("shared libraries", "cannot make a pipe for signals", "[err] evsig_init_"))
    invariants.demand(not early or run.code != 0, "it could not start, with exit 0" + invariants.shown(run))
    return "cannot start" if early else None


def allocations(scene, argv):
    """How many there are, counted once."""
    key = ("allocations", tuple(str(w) for w in argv))
    if key not in scene.counts:
        count = scene.work / "count"
        scene.run(argv, shim="shim_malloc", plan="0 once", NWM_SHIM_COUNT=str(count))
        scene.counts[key] = int(count.read_text())
        for path in scene.work.iterdir():
            path.unlink()
    return scene.counts[key]


# redisBufferWrite() of hiredis 0.14 reads through the NULL that it got for its next buffer; elsewhere that library aborts.
ABORTED = (signal.SIGABRT, signal.SIGSEGV)


def starved(scene, point, argv):
    plan = f"{point.of(allocations(scene, argv))} {('once', 'on')[point.i % 2]}"
    return plan, lambda: scene.run(argv, 5, shim="shim_malloc", plan=plan)


def after_starving(run):
    """The word. Where a library cannot go on, it may abort: then nothing needs to be said."""
    if -run.code in ABORTED:
        return "aborted"
    return cannot_start(run) or invariants.ended(run)


@row("malloc-merger", "an allocation of the merger fails", "the n-th, n spread over all; alone, and all behind it (LD_PRELOAD)",
     "an end that is not 0, or the right output; in libraries an abort is allowed", 300, 4)
def malloc_merger(scene, point):
    for_real()
    scene.reset(scene.small)
    _, go = starved(scene, point, merge_argv(scene, timeout="2s")(None))
    run = go()
    invariants.merged(run, scene.out, scene.small.merged)
    invariants.no_traces(scene)
    return after_starving(run)


@row("malloc-resume", "an allocation fails, --resume", "the n-th, n spread over all; alone, and all behind it (LD_PRELOAD)",
     "the same; the same command then completes", 100, needs=("--resume",))
def malloc_resume(scene, point):
    for_real()
    scene.reset(scene.small)
    argv = merge_argv(scene, *RESUME, timeout="2s")(None)
    _, go = starved(scene, point, argv)
    run = go()
    word = after_starving(run)
    if run.code != 0:
        run = scene.run(argv, 5)
        invariants.demand(run.code == 0, "the same command afterwards did not complete" + invariants.shown(run))
    judge_merge(scene, run, scene.small)
    return word


@row("malloc-worker", "an allocation of the worker fails", "the n-th, n spread over all; alone, and all behind it (LD_PRELOAD)",
     "an end that is not 0, or each item once", 200, 3)
def malloc_worker(scene, point):
    for_real()
    scene.reset()
    argv = load_argv(scene, scene.large, timeout="2s")(None)
    _, go = starved(scene, point, argv)
    scene.fill()
    run = go()
    word = after_starving(run)
    invariants.loaded(scene, run, 0, scene.large)
    invariants.keys(scene)
    return word


# ---- the wall clock --------------------------------------------------------------------------------------------------

JUMPS = (3600, -3600, 86400 * 365, -86400 * 365, 7, -7)


def jumping(point):
    return {"shim": "shim_clock", "plan": f"{1 + point.random.randrange(8)} {point.choose(JUMPS)}"}


@row("clock-merger", "the wall clock jumps under a merge", "by seconds, an hour, a year; forth and back, again and again (LD_PRELOAD)", "byte for byte", 24, 1)
def clock_merger(scene, point):
    scene.reset(scene.small)
    run = scene.run(merge_argv(scene, *(RESUME if point.i // 6 % 2 else ()))(None), **jumping(point))
    must_complete(run)
    return judge_merge(scene, run, scene.small)


@row("clock-worker", "the wall clock jumps under a load", "by seconds, an hour, a year; forth and back, again and again (LD_PRELOAD)", "each item once", 24, 1)
def clock_worker(scene, point):
    scene.reset()
    run = scene.run(load_argv(scene, scene.large)(None), **jumping(point))
    must_complete(run)
    return judge_load(scene, run, scene.large)
