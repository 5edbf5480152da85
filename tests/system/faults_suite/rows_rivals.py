"""Two of a kind at once."""
import signal

import invariants
from common import BATCH, CONSUME, RESUME, judge_consumed, judge_merge, load_argv, merge_argv
from invariants import demand
from rows_server import judge_rivals
from scene import SLACK_S
from strikes import strike
from table import row


@row("two-mergers", "two mergers into one file", "at the same time, the second beginning at a command of the first", "both complete; the file is the result", 20, 1)
def two_mergers(scene, point):
    scene.reset(scene.small)
    second = []

    def act(program, gate):
        second.append(scene.run(scene.merger("-o", scene.out, *BATCH)))
    run = strike(scene, point, merge_argv(scene), scene.small, act)
    invariants.ended(second[0])
    demand(run.code == 0 and second[0].code == 0, "one of two mergers failed" + invariants.shown(run) + invariants.shown(second[0]))
    return judge_merge(scene, run, scene.small)


def one_is_busy(scene, point, options):
    """The first holds the output from before it asks anything to its end; the second comes in between."""
    scene.reset(scene.small)
    second = []

    def act(program, gate):
        second.append(scene.run(merge_argv(scene, *options)(scene.server.url)))
    run = strike(scene, point, merge_argv(scene, *options), scene.small, act, phase="before")
    demand(run.code == 0, "the first of two mergers failed" + invariants.shown(run))
    demand(second[0].code == 4 and "Busy" in second[0].faults(), "the second of two mergers was not refused" + invariants.shown(second[0]))
    judge_merge(scene, run, scene.small)
    return "Busy"


@row("two-resume", "two mergers with --resume", "the second beginning at a command of the first", "the second is Busy; the first completes", 30, 2,
     needs=("--resume",))
def two_resume(scene, point):
    return one_is_busy(scene, point, RESUME)


@row("two-consume", "two mergers with --consume", "the second beginning at a command of the first", "the second is Busy; the first completes", 30, 2,
     needs=("--consume",))
def two_consume(scene, point):
    word = one_is_busy(scene, point, CONSUME)
    judge_consumed(scene, scene.small)
    return word


@row("two-consumers", "two consumers into two files", "the second beginning at a command of the first", "one is Busy or finds it Consumed; the other completes",
     30, 2, needs=("--consume",))
def two_consumers(scene, point):
    scene.reset(scene.small)
    second, other = [], scene.work / "other"

    def act(program, gate):
        second.append(scene.run(scene.merger("-o", other, *BATCH, *CONSUME, timeout="1s"), 5))
    run = strike(scene, point, merge_argv(scene, *CONSUME), scene.small, act, phase="before")
    words = [invariants.ended(run, (), ("Busy", "Consumed", "Vanished")), invariants.ended(second[0], (), ("Busy", "Consumed", "Vanished"))]
    demand("complete" in words, "neither of two consumers completed" + invariants.shown(run) + invariants.shown(second[0]))
    demand(words.count("complete") == 1, "both of two consumers completed" + invariants.shown(run) + invariants.shown(second[0]))
    invariants.merged(run, scene.out, scene.small.merged)
    invariants.merged(second[0], other, scene.small.merged)
    return " + ".join(words)


@row("two-workers", "two workers for one dataset", "the second beginning at a command of the first", "DuplicateWorker; what stands is whole", 40, 1)
def two_workers(scene, point):
    scene.reset()
    second, was = [], []

    def act(program, gate):
        scene.server.ask("PING")  # behind this, what was passed on before has been done
        was.append(scene.server.ask("HGET", "nwm:{job:0}", "state"))
        second.append(scene.run(load_argv(scene, scene.large)(scene.server.url)[:-1] + [scene.large.files[1]]))
    run = strike(scene, point, load_argv(scene, scene.large), None, act)
    return judge_rivals(scene, run, second[0], was[0])


@row("merger-and-signals", "a storm of signals that mean nothing", "SIGWINCH, SIGCONT, SIGCHLD and SIGURG, again and again", "byte for byte", 8)
def storm(scene, point):
    scene.reset(scene.large)
    program = scene.start(scene.merger("-o", scene.out))
    while not program.is_over(0.001):
        for number in (signal.SIGWINCH, signal.SIGCONT, signal.SIGCHLD, signal.SIGURG):
            program.signal(number)
    run = program.finish(SLACK_S)
    demand(run.code == 0, "signals that mean nothing ended it" + invariants.shown(run))
    return judge_merge(scene, run, scene.large)
