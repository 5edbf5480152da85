"""The output: disks that are full or broken, renames that fail, readers that go away or read slowly."""
import contextlib
import os
import resource
import signal
import subprocess
import time

import invariants
from common import BATCH, CONSUME, RESUME, judge_consumed, judge_merge, judge_resumed, merge_argv
from invariants import demand
from machine import Program
from scene import SLACK_S
from table import Missed, Skip, row

OUTPUT = ("Output",)


def full(point, scene):
    """setrlimit for a file that may not grow beyond a part of the result."""
    return [(resource.RLIMIT_FSIZE, int(len(scene.small.merged) * point.place * 0.99))]


@row("full-merger", "the disk is full", "RLIMIT_FSIZE, from 0 to 99 % of the result", "Output; no file, no trace", 40, 2)
def full_merger(scene, point):
    scene.reset(scene.small)
    scene.out.write_bytes(b"")
    run = scene.run(merge_argv(scene)(None), limits=full(point, scene))
    return judge_merge(scene, run, scene.small, allowed=OUTPUT, before=b"")


@row("full-resume", "the disk is full, --resume", "RLIMIT_FSIZE, from 0 to 99 % of the result", "Output; the same command completes", 40, 2,
     needs=("--resume",))
def full_resume(scene, point):
    scene.reset(scene.small)
    argv = merge_argv(scene, *RESUME)(None)
    return judge_resumed(scene, scene.run(argv, limits=full(point, scene)), scene.small, argv, allowed=OUTPUT)


@row("full-consume", "the disk is full, --consume", "RLIMIT_FSIZE, from 0 to 99 % of the result",
     "Output; the same command completes, each item once", 40, 2, needs=("--consume",))
def full_consume(scene, point):
    scene.reset(scene.small)
    argv = merge_argv(scene, *CONSUME)(None)
    word = judge_resumed(scene, scene.run(argv, limits=full(point, scene)), scene.small, argv, allowed=OUTPUT)
    judge_consumed(scene, scene.small)
    return word


@contextlib.contextmanager
def small_disk(scene, size):
    where = scene.work / "disk"
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], capture_output=True)
    if made.returncode != 0:
        raise Skip("no tmpfs can be mounted here")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)
        where.rmdir()


@row("full-tmpfs", "a small disk that is full", "tmpfs of 16 to 256 KB, --resume in half of them; then it is made larger (root only)",
     "Output; the same command completes", 16, needs=("--resume",))
def full_tmpfs(scene, point):
    scene.reset(scene.small)
    with small_disk(scene, f"{16 + int(point.place * 240)}k") as where:
        scene_out, scene.out = scene.out, where / "out"
        try:
            argv = scene.merger("-o", scene.out, *BATCH, *(RESUME if point.i % 2 else ()))
            run = scene.run(argv)
            word = invariants.ended(run, (), OUTPUT)
            invariants.merged(run, scene.out, scene.small.merged)
            subprocess.run(["mount", "-o", "remount,size=4m", where], check=True)
            run = scene.run(argv)
            demand(run.code == 0, "with room it did not complete" + invariants.shown(run))
            invariants.merged(run, scene.out, scene.small.merged)
            demand([p.name for p in where.iterdir()] == ["out"], "left behind: " + " ".join(p.name for p in where.iterdir()))
        finally:
            scene.out = scene_out
    return word


CALLS = ("fsync", "write", "rename", "unlink", "ftruncate")


def broken(scene, point, *options):
    plan = f"{point.choose(CALLS)} {point.random.choice((1, 2, 3, 5, 8, 13, 21))} fail"
    run = scene.run(merge_argv(scene, *options)(None), shim="shim_calls", plan=plan)
    if run.code == 0:
        invariants.merged(run, scene.out, scene.small.merged)
        raise Missed
    return run


@row("eio-merger", "EIO: write, fsync, rename, unlink fail", "from the n-th call on (LD_PRELOAD)", "Output; no file", 40, 2)
def eio_merger(scene, point):
    scene.reset(scene.small)
    return judge_merge(scene, broken(scene, point), scene.small, allowed=OUTPUT)


@row("eio-resume", "EIO under --resume", "from the n-th call on (LD_PRELOAD)", "Output; the same command completes", 80, 3, needs=("--resume",))
def eio_resume(scene, point):
    scene.reset(scene.small)
    run = broken(scene, point, *RESUME)
    invariants.ended(run, (), OUTPUT)
    if scene.out.exists():  # what failed came behind the rename
        demand(scene.out.read_bytes() == scene.small.merged, "it left a wrong output" + invariants.shown(run))
    again = scene.run(merge_argv(scene, *RESUME)(None))
    demand(again.code == 0, "the same command did not complete" + invariants.shown(again))
    return judge_merge(scene, again, scene.small) and "Output"


@row("eio-consume", "EIO under --consume", "from the n-th call on (LD_PRELOAD)", "Output; the same command completes, each item once", 80, 3,
     needs=("--consume",))
def eio_consume(scene, point):
    scene.reset(scene.small)
    run = broken(scene, point, *CONSUME)
    invariants.ended(run, (), OUTPUT)
    scene.expire_leases()
    again = scene.run(merge_argv(scene, *CONSUME)(None))
    demand(again.code == 0, "the same command did not complete" + invariants.shown(again))
    judge_merge(scene, again, scene.small)
    judge_consumed(scene, scene.small)
    return "Output"


# ---- pipes -----------------------------------------------------------------------------------------------------------

@row("pipe-closed", "the reader of a pipe goes away", "after n bytes", "it ends quietly by SIGPIPE; what was read is a prefix", 30, 1)
def pipe_closed(scene, point):
    scene.reset(scene.large)
    most = int(len(scene.large.merged) * point.place * 0.9)
    reader, writer = os.pipe()
    program = Program(scene.merger(*BATCH), scene.work, out=writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        got = pipe.read(most)
    run = program.finish(SLACK_S)
    demand(scene.large.merged.startswith(got), "no prefix of the result: " + invariants.difference(got, scene.large.merged))
    demand(run.code == -signal.SIGPIPE and not run.err, "the reader had gone" + invariants.shown(run))
    return "SIGPIPE"


@row("pipe-slow", "a reader that sleeps longer than --timeout", "1.5 s in the middle, --timeout 1s", "byte for byte: no clock of a source runs", 8)
def pipe_slow(scene, point):
    scene.reset(scene.large)
    reader, writer = os.pipe()
    program = Program(scene.merger(timeout="1s"), scene.work, out=writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        got = pipe.read(int(len(scene.large.merged) * point.place * 0.8))
        time.sleep(1.5)
        got += pipe.read()
    run = program.finish(SLACK_S)
    demand(run.code == 0 and got == scene.large.merged, "the reader was slow" + invariants.shown(run))
    return "complete"


@row("dev-full", "standard output that takes nothing", "/dev/full", "Output", 4, 1)
def dev_full(scene, point):
    scene.reset(scene.small)
    return invariants.ended(scene.run(scene.merger(), out="/dev/full"), (), OUTPUT)
