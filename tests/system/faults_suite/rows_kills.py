"""kill -9, and signals that ask more kindly."""
import os
import select
import signal

import invariants
from common import BATCH, CONSUME, RESUME, SIGKILL, judge_consumed, judge_load, judge_merge, judge_resumed, kill, load_argv, merge_argv
from invariants import demand
from machine import Program
from scene import SLACK_S
from strikes import strike, strike_in_time
from table import Missed, row

PROMPT_S = 1  # how soon a signal must end a program
POINTS = "points spread over it: at a command before, within and behind it, and in time"


def either(scene, point, argv_of, data, **how):
    """Two of three at a command, one in time."""
    if point.i % 3 < 2:
        return strike(scene, point, argv_of, data, kill, **how)
    return strike_in_time(scene, point, argv_of(scene.server.url), data, kill)


@row("worker-kill", "kill -9 of the worker", POINTS, "ready with every item, or nothing half-visible; the next load succeeds", 60, 4)
def worker_kill(scene, point):
    scene.reset()
    run = either(scene, point, load_argv(scene, scene.large), None)
    return judge_load(scene, run, scene.large, killed=SIGKILL)


@row("worker-kill-merger-waits", "kill -9 of one of four workers, a merger waiting",
     POINTS, "the merger ends with WorkerLost within two leases, or completes", 12)
def worker_kill_waited_for(scene, point):
    scene.reset(scene.large)
    merger = scene.start(scene.merger("-o", scene.out, "-w", 5, timeout="10s"))
    (scene.large.files[0].parent / "part-4").write_bytes(b"")
    run = either(scene, point, lambda url: scene.worker("-i", 0, "-n", scene.large.files[0], url=url), scene.large)
    fifth = scene.run(scene.worker("-i", 4, "-n", "/dev/null"))
    demand(fifth.code == 0, "the fifth worker failed" + invariants.shown(fifth))
    merged = merger.finish(10 + SLACK_S)
    invariants.ended(run, SIGKILL)
    invariants.merged(merged, scene.out, scene.large.merged)
    return invariants.ended(merged, (), ("WorkerLost",))


@row("merger-kill", "kill -9 of the merger", POINTS, "no output, or the whole; no trace; the lists untouched", 60, 3)
def merger_kill(scene, point):
    scene.reset(scene.small)
    scene.out.write_bytes(b"old\n")
    run = either(scene, point, merge_argv(scene), scene.small)
    word = judge_merge(scene, run, scene.small, SIGKILL, before=b"old\n")
    invariants.keys(scene)
    return word


def again_and_again(scene, point, options):
    """The same command, killed one to three times on its way."""
    scene.reset(scene.small)
    argv = merge_argv(scene, *options)(scene.server.url)
    run = either(scene, point, merge_argv(scene, *options), scene.small)
    words = {invariants.ended(run, SIGKILL): 1}
    for _ in range(point.i % 3):
        if run.code == 0:
            break
        invariants.merged(run, scene.out, scene.small.merged)
        scene.expire_leases()
        program = scene.start(argv)
        program.is_over(point.random.random() * 0.03)
        kill(program)
        run = program.finish(SLACK_S)
        word = invariants.ended(run, SIGKILL)
        words[word] = words.get(word, 0) + 1
    judge_resumed(scene, run, scene.small, argv, SIGKILL)
    return words


@row("merger-kill-resume", "kill -9 of the merger, --resume", POINTS + "; one to three times in one merge",
     "the same command completes, byte for byte", 60, 4, needs=("--resume",))
def merger_kill_resume(scene, point):
    return again_and_again(scene, point, RESUME)


@row("merger-kill-consume", "kill -9 of the merger, --consume", POINTS + "; one to three times in one merge",
     "the same command completes, byte for byte; each item once, the lists gone", 60, 4, needs=("--consume",))
def merger_kill_consume(scene, point):
    words = again_and_again(scene, point, CONSUME)
    judge_consumed(scene, scene.small)
    return words


CALLS = ("write", "fsync", "rename", "unlink", "ftruncate")


def between_calls(scene, point, options):
    scene.reset(scene.small)
    argv = merge_argv(scene, *options)(scene.server.url)
    call, when = point.choose(CALLS), ("kill", "after")[point.i // len(CALLS) % 2]
    plan = f"{call} {point.random.choice((1, 2, 3, 4, 5, 8, 12, 20, 40))} {when}"
    run = scene.run(argv, shim="shim_calls", plan=plan)
    if run.code == 0:
        raise Missed  # there were not so many such calls
    return judge_resumed(scene, run, scene.small, argv, SIGKILL)


@row("merger-kill-calls", "kill -9 between system calls, --resume", "before and behind the n-th write, fsync, rename, unlink (LD_PRELOAD)",
     "the same command completes, byte for byte", 80, 4, needs=("--resume",))
def merger_kill_calls(scene, point):
    return between_calls(scene, point, RESUME)


@row("merger-kill-calls-consume", "kill -9 between system calls, --consume", "before and behind the n-th write, fsync, rename, unlink (LD_PRELOAD)",
     "the same command completes, byte for byte; the lists gone", 80, 4, needs=("--consume",))
def merger_kill_calls_consume(scene, point):
    word = between_calls(scene, point, CONSUME)
    judge_consumed(scene, scene.small)
    return word


# ---- SIGTERM and SIGINT ----------------------------------------------------------------------------------------------

def asked_to_end(point, began):
    number = point.choose((signal.SIGTERM, signal.SIGINT))

    def act(program, gate=None):
        program.signal(number)
        began.append(program)
    return number, act


def signalled(scene, point, argv_of, data):
    number, act = asked_to_end(point, [])
    if point.i // 2 % 2:
        return number, strike_in_time(scene, point, argv_of(scene.server.url), data, act)
    return number, strike(scene, point, argv_of, data, act)


@row("worker-signal", "SIGTERM and SIGINT to the worker", POINTS, "state failed with Interrupted, or ready; the next load succeeds", 40, 2)
def worker_signal(scene, point):
    scene.reset()
    number, run = signalled(scene, point, load_argv(scene, scene.large), None)
    return judge_load(scene, run, scene.large, killed=(number,))


@row("merger-signal", "SIGTERM and SIGINT to the merger", POINTS, "no output, or the whole", 40, 2)
def merger_signal(scene, point):
    scene.reset(scene.small)
    number, run = signalled(scene, point, merge_argv(scene), scene.small)
    return judge_merge(scene, run, scene.small, (number,))


@row("merger-signal-resume", "SIGTERM and SIGINT to the merger, --resume", POINTS, "the same command completes, byte for byte", 40, 2,
     needs=("--resume",))
def merger_signal_resume(scene, point):
    scene.reset(scene.small)
    argv_of = merge_argv(scene, *RESUME)
    number, run = signalled(scene, point, argv_of, scene.small)
    return judge_resumed(scene, run, scene.small, argv_of(scene.server.url), (number,))


@row("merger-signal-consume", "SIGTERM and SIGINT to the merger, --consume", POINTS, "the same command completes, byte for byte", 40, 2,
     needs=("--consume",))
def merger_signal_consume(scene, point):
    scene.reset(scene.small)
    argv_of = merge_argv(scene, *CONSUME)
    number, run = signalled(scene, point, argv_of, scene.small)
    word = judge_resumed(scene, run, scene.small, argv_of(scene.server.url), (number,))
    judge_consumed(scene, scene.small)
    return word


@row("merger-signal-pipe", "SIGTERM and SIGINT, to a pipe that nobody reads", "at random times, its reader not reading",
     "it ends as soon as it can; what was written is a prefix", 12, 1)
def merger_signal_pipe(scene, point):
    scene.reset(scene.large)
    reader, writer = os.pipe()
    program = Program(scene.merger(*BATCH), scene.work, out=writer)
    os.close(writer)
    select.select([reader], [], [], SLACK_S)  # something was written
    program.is_over(point.random.random() * 0.2)
    number = point.choose((signal.SIGTERM, signal.SIGINT))
    program.signal(number)
    if not program.is_over(PROMPT_S + SLACK_S / 2):
        program.kill()
        program.finish(SLACK_S)
        raise invariants.Violation(f"signal {number} did not end it in {PROMPT_S + SLACK_S / 2:.0f} s")
    with open(reader, "rb") as rest:
        got = rest.read()
    run = program.finish(SLACK_S)
    demand(scene.large.merged.startswith(got), "no prefix of the result: " + invariants.difference(got, scene.large.merged))
    return invariants.ended(run, (number,))
