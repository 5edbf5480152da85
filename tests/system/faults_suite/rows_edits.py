"""Somebody else changes lists and manifests while they are read or written, at every batch border."""
import invariants
from common import BATCH, RESUME, judge_load, load_argv, merge_argv
from machine import BUILD
from scene import DATASETS
from strikes import strike
from table import row

CHANGED = ("Vanished", "Changed", "Mismatch", "Unsorted", "WrongType", "NoDatasets", "Timeout", "BadItem", "Consumed", "WorkerLost",
           "BadContract", "Protocol", "OrderConflict", "NoMemory", "LeaseLost", "Lost", "Unknown")
OURS = b"suite:aside"


def edits(key, at, manifest):
    """What is done to the list `key`, at item `at` where that is asked for: lists of commands, by name."""
    return {
        "FLUSHALL": [("FLUSHALL",)],
        "DEL": [("DEL", key)],
        "UNLINK": [("UNLINK", key)],
        "LPOP": [("LPOP", key)],
        "RPOP": [("RPOP", key)],
        "LPUSH": [("LPUSH", key, "00000000 pushed")],
        "RPUSH": [("RPUSH", key, "99999999 pushed")],
        "LSET": [("LSET", key, at, "50000000 set")],
        "LSET in its place": [("EVAL", "local was = redis.call('LINDEX', KEYS[1], ARGV[1]); "
                               "return was and redis.call('LSET', KEYS[1], ARGV[1], string.sub(was, 1, -2) .. 'x')", 1, key, at)],
        "LSET another order": [("LSET", key, at, "00000000 set")],
        "LSET a newline": [("LSET", key, at, b"00000000 set\n00000000 twice")],
        "LREM": [("LREM", key, 1, "x"), ("EVAL", "return redis.call('LREM', KEYS[1], 1, redis.call('LINDEX', KEYS[1], ARGV[1]) or '')", 1, key, at)],
        "LPOP, RPUSH": [("LPOP", key), ("RPUSH", key, "99999999 pushed")],
        "RPOP, LPUSH": [("RPOP", key), ("LPUSH", key, "00000000 pushed")],
        "LTRIM": [("LTRIM", key, at, -1)],
        "LTRIM the end": [("LTRIM", key, 0, at)],
        "RENAME": [("RENAME", key, OURS)],
        "RENAME over it": [("RPUSH", OURS, *range(3000)), ("RENAME", OURS, key)],
        "EXPIRE": [("PEXPIRE", key, 1)],
        "SET": [("SET", key, "no list")],
        "HSET": [("DEL", key), ("HSET", key, "a", "b")],
        "DEL of the manifest": [("DEL", manifest)],
        "SET of the manifest": [("SET", manifest, "no hash")],
        "state failed": [("HSET", manifest, "state", "failed")],
        "state loading": [("HSET", manifest, "state", "loading")],
        "another token": [("HSET", manifest, "token", "other:1:0123456789ab")],
        "another list": [("HSET", manifest, "list", manifest + ":9.0123456789ab")],
    }


NAMES = tuple(edits("", 0, ""))


def edit(scene, point, kinds=NAMES):
    """Edits one dataset's list, where the point says."""
    name, i, at = point.choose(kinds), point.random.randrange(DATASETS), point.random.randrange(3000)

    def act(program, gate):
        manifest = f"nwm:{{job:{i}}}"
        key = scene.server.ask("HGET", manifest, "list") or b"suite:none"
        scene.server.resp.ask_many(edits(key, at, manifest)[name])
    return act


def edited_merge(scene, point, *options):
    scene.reset(scene.small)
    run = strike(scene, point, merge_argv(scene, *options, timeout="2s"), scene.small, edit(scene, point), phase="before", only="LRANGE", bound=10)
    word = invariants.ended(run, (), CHANGED)
    invariants.merged(run, scene.out, scene.small.merged)
    invariants.no_traces(scene, resumable=run.code != 0 and options)
    return word


@row("edit-merger", "edits of a list or manifest under a merge", ", ".join(NAMES) + ": before the n-th LRANGE, n over all of them",
     "a fault and no output, or the right one", 27 * 16, 13)
def edit_merger(scene, point):
    return edited_merge(scene, point)


@row("edit-resume", "edits under a merge, --resume", "the same", "a fault and no output, or the right one", 27 * 4, needs=("--resume",))
def edit_resume(scene, point):
    return edited_merge(scene, point, *RESUME)


@row("edit-consume", "edits under a merge, --consume", "the same", "a fault and no output, or the right one", 27 * 4, needs=("--consume",))
def edit_consume(scene, point):
    return edited_merge(scene, point, "--consume", "--checkpoint-every", "4K", "--lease", "1s")


@row("edit-pipe", "edits under a merge to a pipe", "the same", "not exit 0, unless the right output", 27 * 4)
def edit_pipe(scene, point):
    scene.reset(scene.small)
    out = scene.work / "stream"
    run = strike(scene, point, lambda url: scene.merger(*BATCH, url=url, timeout="2s"), scene.small, edit(scene, point), phase="before",
                 only="LRANGE", bound=10, out=out)
    invariants.streamed(run, out, scene.small.merged, edited=True)
    return invariants.ended(run, (), CHANGED)


@row("reload-merger", "a dataset is loaded anew under a merge", "before the n-th LRANGE", "the old run whole, or a fault; never both mixed", 40, 1)
def reload_merger(scene, point):
    scene.reset(scene.small)
    keep = point.choose(("0", "5s"))

    def act(program, gate):
        scene.run(scene.worker("-i", 1, "-n", "--keep", keep, scene.small.files[2], url=scene.server.url))
    run = strike(scene, point, merge_argv(scene, timeout="2s"), scene.small, act, phase="before", only="LRANGE", bound=10)
    word = invariants.ended(run, (), CHANGED)
    invariants.merged(run, scene.out, scene.small.merged)
    invariants.keys(scene)
    return word


@row("drop-merger", "a dataset or the job is dropped under a merge", "nwm-worker --drop before the n-th LRANGE", "Vanished, or byte for byte", 30)
def drop_merger(scene, point):
    scene.reset(scene.small)

    def act(program, gate):
        gone = scene.run([BUILD / "nwm-worker", "-U", scene.server.url, "-j", "job", "--drop", *point.choose((("-i", 1), ("--all",)))])
        invariants.demand(gone.code == 0, "it could not be dropped" + invariants.shown(gone))
    run = strike(scene, point, merge_argv(scene, timeout="2s"), scene.small, act, phase="before", only="LRANGE", bound=10)
    word = invariants.ended(run, (), CHANGED)
    invariants.merged(run, scene.out, scene.small.merged)
    invariants.keys(scene)
    return word


# ---- under a load ----------------------------------------------------------------------------------------------------

LOAD_KINDS = tuple(n for n in NAMES if n not in ("RENAME over it",))


@row("edit-worker", "edits of a list or manifest under its load", "before, within and behind the n-th command of the load",
     "the worker fails, or the merger does; never exit 0 of both with something else", 26 * 8, 6)
def edit_worker(scene, point):
    scene.reset()
    name = point.choose(LOAD_KINDS)

    def act(program, gate):
        manifest = "nwm:{job:0}"
        key = scene.server.ask("HGET", manifest, "list") or b"suite:none"
        scene.server.resp.ask_many(edits(key, point.random.randrange(4000), manifest)[name])
    run = strike(scene, point, load_argv(scene, scene.large, timeout="2s"), None, act, bound=10)
    words = [invariants.ended(run, (), CHANGED)]
    merger = scene.run(scene.merger("-o", scene.out, "0", timeout="1s"), 5)
    words.append(invariants.ended(merger))
    invariants.merged(merger, scene.out, scene.large.files[0].read_bytes())
    invariants.no_traces(scene)
    return " + ".join(words)


# ---- leases ----------------------------------------------------------------------------------------------------------

THEFTS = {
    "another's lease": [("SET", "nwm:{job:0}:lease", "other:1:0123456789ab", "PX", 3000)],
    "another's token": [("HSET", "nwm:{job:0}", "token", "other:1:0123456789ab")],
    "both": [("SET", "nwm:{job:0}:lease", "other:1:0123456789ab", "PX", 3000), ("HSET", "nwm:{job:0}", "token", "other:1:0123456789ab")],
    "the lease expired": [("DEL", "nwm:{job:0}:lease")],
}


@row("lease-stolen", "the lease is stolen or lost under a load", ", ".join(THEFTS) + ": at the n-th command of the load",
     "LeaseLost and not ready; an expired lease is taken again", 60, 2)
def lease_stolen(scene, point):
    scene.reset()
    name = point.choose(tuple(THEFTS))
    run = strike(scene, point, load_argv(scene, scene.large, timeout="2s"), None,
                 lambda program, gate: scene.server.resp.ask_many(THEFTS[name]), bound=10)
    if b"suite" not in scene.server.ask("TYPE", "nwm:{job:0}") and not scene.server.ask("HEXISTS", "nwm:{job:0}", "state"):
        scene.server.ask("FLUSHALL")  # the theft came before there was anything to steal from: the manifest is only that token
    return judge_load(scene, run, scene.large, allowed=("LeaseLost", "DuplicateWorker", "Lost"))


# ---- manifests -------------------------------------------------------------------------------------------------------

FIELDS = "contract state run list token lease order items bytes max_item max_window first last digest source started finished".split()
GARBLES = (None, b"", b"garbage", b"-1", b"0", b"1", b"99999999999999999999999", b"18446744073709551615", b"\xff\x00\x01\n", b"x" * 100_000,
           b"nwm:{job:1}", b"-n -n -n", b"ready", b"2")


@row("manifest", "a manifest's field missing or garbled", f"each of {len(FIELDS)} fields, {len(GARBLES)} ways, before the merge",
     "a fault, or the right output", len(FIELDS) * len(GARBLES), 8)
def manifest(scene, point):
    scene.reset(scene.small)
    field, garble = FIELDS[point.i // len(GARBLES)], GARBLES[point.i % len(GARBLES)]
    key = f"nwm:{{job:{point.random.randrange(DATASETS)}}}"
    if garble is None:
        scene.server.ask("HDEL", key, field)
    else:
        scene.server.ask("HSET", key, field, garble)
    run = scene.run(scene.merger("-o", scene.out, timeout="0.3s"), 3)
    word = invariants.ended(run, (), CHANGED)
    invariants.merged(run, scene.out, scene.small.merged)
    invariants.no_traces(scene)
    return word


@row("manifest-worker", "a garbled manifest under a new load", "each field of the run before", "the load gets through, or a fault", len(FIELDS) * 4)
def manifest_worker(scene, point):
    scene.reset(scene.small)
    field, garble = FIELDS[point.i // 4], point.random.choice(GARBLES)
    if garble is None:
        scene.server.ask("HDEL", "nwm:{job:0}", field)
    else:
        scene.server.ask("HSET", "nwm:{job:0}", field, garble)
    run = scene.run(load_argv(scene, scene.small)(None), 5)
    word = invariants.ended(run, (), ("BadContract", "DuplicateWorker", "Changed", "LeaseLost", "Protocol", "ServerFull"))
    if run.code == 0:
        invariants.loaded(scene, run, 0, scene.small)
    return word
