"""What several rows do: the commands they run, and judging them."""
import signal

import invariants
from invariants import demand

RESUME = ("--resume", "--checkpoint-every", "4K")
CONSUME = ("--consume", "--checkpoint-every", "4K", "--lease", "1s")
BATCH = ("--batch", "50")


def load_argv(scene, data, i=0, **how):
    """For strike(): the load of dataset i through the gate at that url."""
    return lambda url: scene.worker("-i", i, "-n", data.files[i], url=url, **how)


def merge_argv(scene, *options, **how):
    return lambda url: scene.merger("-o", scene.out, *BATCH, *options, url=url, **how)


def again(scene, argv):
    """The same command, undisturbed. A consumer that died holds the job for its lease."""
    run = scene.run(argv)
    while "Busy" in run.faults() and "--consume" in argv:
        scene.expire_leases()
        run = scene.run(argv)
    return run


def judge_merge(scene, run, data, killed=(), allowed=None, before=None):
    """A merge with -o alone."""
    word = invariants.ended(run, killed, allowed)
    invariants.merged(run, scene.out, data.merged, before)
    invariants.no_traces(scene)
    return word


def judge_resumed(scene, run, data, argv, killed=(), allowed=None):
    """A merge with --resume or --consume, and the same command after it, which must complete."""
    word = invariants.ended(run, killed, allowed)
    invariants.merged(run, scene.out, data.merged)
    invariants.no_traces(scene, resumable=run.code != 0)
    if run.code == 0:
        return word
    # Killed behind its last step, there is nothing left to do or to tell it by; one more that was killed may leave an empty temporary.
    done = "--consume" in argv and scene.out.exists() and not (scene.work / "out.nwm-checkpoint").exists()
    run = again(scene, argv)
    if done and run.faults() and set(run.faults()) == {"Consumed"}:
        invariants.no_traces(scene)
        return word
    demand(run.code == 0, "the same command afterwards did not complete" + invariants.shown(run))
    invariants.merged(run, scene.out, data.merged)
    invariants.no_traces(scene)
    return word


def judge_consumed(scene, data):
    """Nothing is left of what was consumed."""
    lists = [k for k in scene.server.ask("KEYS", "nwm:{*}:*")]
    demand(not lists, f"consumed, and still there: {lists}")
    for i in range(len(data.files)):
        state = scene.server.ask("HGET", f"nwm:{{job:{i}}}", "state")
        demand(state == b"consumed", f"consumed, and in state {state}")


def judge_load(scene, run, data, i=0, killed=(), allowed=None):
    """A load; and that the next one gets through, after what a dead worker held has run out."""
    word = invariants.ended(run, killed, allowed)
    state = invariants.loaded(scene, run, i, data)
    invariants.keys(scene)
    if state != b"ready":
        scene.expire_leases()
        run = scene.run(load_argv(scene, data, i)(None))
        demand(run.code == 0, "the next load failed" + invariants.shown(run))
        invariants.loaded(scene, run, i, data)
        invariants.keys(scene)
    return word


def must_complete(run):
    """But the very first connection, its login included, is Unreachable at once when it fails."""
    first = "log in to" in run.err or (run.early and "cannot connect to" in run.err)
    demand(run.code == 0 or (run.code == 4 and run.faults()[:1] == ["Unreachable"] and first), "it had to go on, and did not" + invariants.shown(run))


def kill(program, gate=None):
    program.kill()


SIGKILL = (signal.SIGKILL,)
