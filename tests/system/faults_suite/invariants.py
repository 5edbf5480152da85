"""What must hold after every injection, whatever it was."""
import re
import signal

from scene import LEASE_S

EXIT = {name: code for code, names in {
    1: "Unsorted BadItem Changed Vanished Mismatch Consumed",
    2: "Usage OrderConflict WrongCount NoMemory BadConfig BadContract",
    3: "Partial",
    4: "NoInput WorkerLost LeaseLost DuplicateWorker Busy Lost Interrupted Unreachable Denied NoDatasets WrongType Protocol ServerFull "
       "Unknown",  # what a manifest says that somebody else wrote
    5: "Output",
    6: "Timeout",
}.items() for name in names.split()}
LIST = re.compile(rb"(nwm:\{[^}]*\}):.*")
LIST_EXPIRY_S = LEASE_S * 10
KEPT = {"out.nwm-part", "out.nwm-checkpoint", "out.nwm-checkpoint-new"}


class Violation(Exception):
    """A promise that was broken."""


def demand(truth, what):
    if not truth:
        raise Violation(what)


def shown(run):
    command = " ".join(str(w) for w in [run.argv[0].name, *run.argv[1:]])
    return f"\n    {command}\n    exit {run.code}: " + run.err[-1500:].strip().replace("\n", "\n    ")


# ---- how a program ended ---------------------------------------------------------------------------------------------

def named(run, allowed=None):
    """A program that failed says why, with a name of the table and its exit code. Returns the name."""
    names = [n for n in run.faults() if n in EXIT]
    if "out of memory" in run.err:
        names.append("NoMemory")
    demand(names, "it failed without naming a fault" + shown(run))
    demand(run.code < 0 or any(EXIT[n] == run.code for n in names), "the exit code is not that of the fault named" + shown(run))
    demand(not allowed or names[0] in allowed, f"the fault named is none of {' '.join(allowed or ())}" + shown(run))
    return names[0]


def ended(run, killed=(), allowed=None):
    """The word for how a run ended: "complete", "killed", or the fault's name. killed: signals it was sent."""
    demand(not run.left_over, "it left processes behind" + shown(run))
    if run.code == 0:
        return "complete"
    if run.code == -signal.SIGKILL and signal.SIGKILL in killed:
        return "killed"
    demand(run.code > 0 or -run.code in killed, "it was ended by a signal" + shown(run))
    if run.early and run.code < 0 and not run.err:
        return "ended before it began"
    return named(run, allowed)


# ---- the output ------------------------------------------------------------------------------------------------------

def difference(got, expected):
    """Where two outputs part, in words."""
    lines, wanted = got.split(b"\n"), expected.split(b"\n")
    at = next((i for i, (a, b) in enumerate(zip(lines, wanted)) if a != b), min(len(lines), len(wanted)))
    return (f"{len(got)} bytes of {len(expected)}, different from item {at + 1}: {lines[at:at + 1]} where {wanted[at:at + 1]} "
            "was to be")


def is_prefix(got, expected, whole=True):
    return expected.startswith(got) and (not whole or not got or got.endswith(b"\n"))


def merged(run, out, expected, before=None):
    """-o FILE: exactly the result with exit 0, else as it was before (None: not there)."""
    now = out.read_bytes() if out.exists() else None
    if run.code == 0:
        demand(now is not None, "exit 0 and no output" + shown(run))
        demand(now == expected, "exit 0 and a wrong output: " + difference(now, expected) + shown(run))
    elif now != before:  # what failed came behind the rename
        demand(now == expected, "it failed and left an output that is neither the old nor the result" + shown(run))


def streamed(run, out, expected, edited=False):
    """A pipe's reader: the result with exit 0, else a prefix of it that ends with an item. edited: of what others edited."""
    got = out.read_bytes()
    if run.code == 0:
        demand(got == expected, "exit 0 and a wrong output: " + difference(got, expected) + shown(run))
    elif not edited:
        demand(is_prefix(got, expected, run.code != -signal.SIGKILL), "no prefix of the result: " + difference(got, expected) + shown(run))


def no_traces(scene, resumable=False, ours=()):
    """Only the output, and what --resume needs to go on, may stand in the directory."""
    allowed = {"out", "nwm-merger.err", "nwm-worker.err", *ours} | (KEPT if resumable else set())
    found = {p.name for p in scene.work.iterdir()} - allowed
    demand(not found, f"left behind: {' '.join(sorted(found))}")


# ---- the server ------------------------------------------------------------------------------------------------------

def keys(scene, theirs=()):
    """Every key is a part of the contract; a list that its manifest does not name, or whose load is not finished, expires; so
    does every lease. theirs: keys the suite made."""
    scene.server.settle()
    ask = scene.server.ask
    for key in ask("KEYS", "*"):
        if key in theirs or key == b"nwm:jobs" or key.endswith(b":datasets"):
            continue
        left = ask("PTTL", key)
        if key.endswith((b":lease", b":consumer")):
            demand(left != -1, f"{key.decode()} does not expire")
            continue
        match = LIST.fullmatch(key)
        if not match:
            demand(ask("TYPE", key) == b"hash", f"{key.decode()} is no key of the contract")
            continue
        name, state = ask("HMGET", match[1], "list", "state")
        if name == key and state in (b"ready", b"consumed"):
            demand(left == -1, f"the list of a {state.decode()} dataset, {key.decode()}, expires in {left} ms")
        else:
            demand(-1 < left <= LIST_EXPIRY_S * 1000 or left == -2, f"{key.decode()} is an orphan that stays (PTTL {left})")


def loaded(scene, run, i, data):
    """A dataset is ready with every item once, or it is not ready. Exit 0 is ready."""
    state, name = scene.server.ask("HMGET", f"nwm:{{job:{i}}}", "state", "list")
    demand(run.code != 0 or state == b"ready", f"exit 0, but the dataset is {state}" + shown(run))
    if state == b"ready":
        items = scene.server.ask("LRANGE", name, 0, -1)
        got = b"".join(item + b"\n" for item in items)
        wanted = data.files[i].read_bytes()
        demand(got == wanted, "ready, with wrong items: " + difference(got, wanted) + shown(run))
    return state
