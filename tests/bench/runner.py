"""Cases: several contenders do the same work, are checked against each other, and then run in turn."""
import os
import sys

import machine
from machine import BUILD, TOOLS, Failure, measure, median

import data

# What the merger itself uses and allows itself: batches up to 256 KB, 8 MB of replies under way.
DRAIN_BYTES = (16 << 10, 64 << 10, 256 << 10)
DRAIN_DEPTHS = (1, 2, 8, 32)
INDEX = 5  # bytes the merger counts for an item beside its own


class Contender:
    """One side of a comparison. commands: argv lists that run side by side. writes: its output is the merged list."""

    def __init__(self, name, commands, stdin=None, writes=True, repeats=None):
        self.name, self.commands, self.stdin, self.writes, self.repeats = name, commands, stdin, writes, repeats


class Series:
    """The runs of one contender in one case."""

    def __init__(self, items):
        self.items = items
        self.samples = []
        self.note = ""

    def values(self, figure):
        return [getattr(s, figure) for s in self.samples]

    def median(self, figure):
        return median(self.values(figure))

    def per_item(self, figure):
        return self.median(figure) * 1e9 / self.items


def ratios(a, b, figure="wall"):
    """a / b, round by round: what the two did one after the other on the same machine at nearly the same time."""
    return [x / y for x, y in zip(a.values(figure), b.values(figure))]


# ---- the peers -------------------------------------------------------------------------------------------------------

def merger(dataset, name="nwm-merger", socket=None, extra=(), repeats=None):
    url = f"unix://{socket}" if socket else dataset.url
    return Contender(name, [[BUILD / "nwm-merger", "-U", url, "-j", "bench", *extra]], repeats=repeats)


def gnu_sort(dataset, repeats=None):
    return Contender("GNU sort -m", [dataset.sort_command()], repeats=repeats)


def shell(dataset, repeats=None):
    """redis-cli through named pipes into sort: as many processes as lists, and one."""
    fifos = dataset.directory / "fifos"
    if not fifos.exists():
        fifos.mkdir()
        for i in range(dataset.lists):
            os.mkfifo(fifos / str(i))
    fetches = "".join(f"redis-cli -s '{dataset.server.socket}' lrange '{key}' 0 -1 >'{fifos}/{i}' & "
                      for i, key in enumerate(dataset.keys))
    pipes = " ".join(f"'{fifos}/{i}'" for i in range(dataset.lists))
    return Contender("redis-cli | sort -m", [["sh", "-c", f"{fetches} sort -m -s {' '.join(dataset.order)} {pipes}; wait"]],
                     repeats=repeats)


def python(dataset, repeats=None):
    command = [sys.executable, SOURCE_OF_PYTHON, dataset.server.socket, dataset.python_order]
    return Contender("redis-py, heapq", [command], stdin=dataset.directory / "lists", repeats=repeats)


SOURCE_OF_PYTHON = machine.SOURCE / "tests/bench/peer_python.py"


def drain(dataset, setting, name="drain", socket=None, repeats=None):
    batch, depth = setting
    return Contender(name, [[TOOLS / "drain", socket or dataset.server.socket, str(batch), str(depth)]],
                     stdin=dataset.directory / "lists", writes=False, repeats=repeats)


def best_drain(dataset, directory, tries, socket=None, depths=DRAIN_DEPTHS):
    """The floor is to be as low as it goes: the fastest of all combinations."""
    weight = data.WEIGHT[dataset.kind] + INDEX
    settings = [(max(1, size // weight), depth) for size in DRAIN_BYTES for depth in depths]
    best = {}
    for _ in range(tries):
        for setting in settings:
            c = drain(dataset, setting, socket=socket)
            wall = measure(c.commands, None, directory / "drain.out", dataset.directory / "sample").wall
            best[setting] = min(wall, best.get(setting, wall))
    return min(best, key=best.get)


# ---- a case ----------------------------------------------------------------------------------------------------------

class Case:
    """contenders: all at once on one dataset. cut: only that many items are put out (--limit)."""

    def __init__(self, workload, variant, dataset, contenders, cut=None):
        self.workload, self.variant, self.dataset, self.contenders, self.cut = workload, variant, dataset, contenders, cut
        self.items = cut or dataset.items


def check(case, directory):
    """Nobody's time counts who does not put out, byte for byte, what GNU sort makes of the files. Also warms everything up.
    Returns GNU sort's output, which the timed runs write over."""
    command = case.dataset.sort_command()
    if case.cut:
        command = ["sh", "-c", f'"$@" | head -n {case.cut}', "sh", *command]
    reference = directory / "reference.out"
    measure([command], None, reference)
    for c in case.contenders:
        output = directory / "checked.out"
        commands = c.commands
        if commands[0][0] == BUILD / "nwm-merger":
            stats = directory / "stats" / f"{case.workload}-{case.variant or 'all'}-{c.name}.json".replace(" ", "_")
            commands = [[*commands[0], "--stats", "json", "--stats-file", stats]]
        output.unlink(missing_ok=True)
        measure(commands, None, output, c.stdin)
        if c.writes and not machine.same(reference, output):
            raise Failure(f"{case.workload} {case.variant}: {c.name} puts out something else than GNU sort")
    output.unlink()
    return reference


def run_case(case, directory, repeats):
    """All contenders in turn, again and again. Returns {name: Series}."""
    output = check(case, directory)
    series = {c.name: Series(case.items) for c in case.contenders}
    for i in range(repeats):
        for c in case.contenders:
            if c.repeats and i >= c.repeats:
                continue
            series[c.name].samples.append(measure(c.commands, case.dataset.server, output, c.stdin))
    output.unlink()
    return series
