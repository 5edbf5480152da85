"""The workloads, each under its letter. A workload is given the bench and records cases in it."""
import shutil
import subprocess

import machine
import runner
from machine import BUILD, TOOLS, Failure, measure
from runner import Case, Contender, Series, drain, gnu_sort, merger, python, shell


class Sizes:
    def __init__(self, quick):
        self.quick = quick
        self.repeats = 3 if quick else 7
        self.slow = 1 if quick else 3          # repeats of peers that take many times as long
        self.tries = 1 if quick else 2         # of each setting, to find what suits the drain
        self.numbers = 1000000 if quick else 4000000
        self.lines = 500000 if quick else 2000000
        self.lists = (8, 64, 512, 4096)        # K
        self.scale = (1000000, 4000000) if quick else (1000000, 4000000, 16000000, 64000000)
        self.link = 4000000 if quick else 16000000
        self.rtts = (0, 10) if quick else (0, 1, 10, 50)
        self.short = (1000, 1000000 if quick else 10000000)   # H: lists, items
        self.need = (2 << 30) if quick else (9 << 30)         # bytes, of scratch and of memory


def compare(bench, letter, spec, others, variant="", repeats=None):
    """nwm-merger, the drain, and others, on one dataset."""
    dataset = bench.take(spec)
    dataset.load()
    setting = runner.best_drain(dataset, bench.directory, bench.sizes.tries)
    contenders = [merger(dataset), drain(dataset, setting)] + [make(dataset) for make in others]
    bench.note(f"drain asks for {setting[0]} items a request, {setting[1]} requests in flight")
    bench.run(Case(letter, variant, dataset, contenders), repeats)


def slowly(make, bench):
    return lambda dataset: make(dataset, repeats=bench.sizes.slow)


def all_peers(bench, letter, specs):
    compare(bench, letter, specs[0], [gnu_sort, shell, slowly(python, bench)])


def local_peers(bench, letter, specs):
    compare(bench, letter, specs[0], [gnu_sort])


def many_lists(bench, letter, specs):
    for spec in specs:
        compare(bench, letter, spec, [gnu_sort], f"{spec[2]} lists")


def scale(bench, letter, specs):
    for spec in specs:
        large = spec[1] > 20000000
        compare(bench, letter, spec, [] if large else [gnu_sort], f"{spec[1] // 1000000} M", repeats=3 if large else None)


def link(bench, letter, specs):
    """The same merge over links of several round-trip times, in turn; the drain shows what such a link lets through."""
    dataset = bench.take(specs[0])
    dataset.load()
    proxies = [(rtt, machine.Proxy(bench.directory, dataset.server, rtt)) for rtt in bench.sizes.rtts]
    contenders = []
    try:
        for rtt, proxy in proxies:
            contenders.append(merger(dataset, f"nwm-merger, {rtt} ms", proxy.socket))
        for rtt, proxy in proxies:
            # Few requests in flight never suit a long way, and would take minutes to be found out.
            setting = runner.best_drain(dataset, bench.directory, 1, proxy.socket, (32,) if rtt else runner.DRAIN_DEPTHS)
            contenders.append(drain(dataset, setting, f"drain, {rtt} ms", proxy.socket, repeats=1))
        bench.run(Case(letter, "", dataset, contenders), 3)
    finally:
        for _, proxy in proxies:
            proxy.stop()


# ---- H: the first few items ------------------------------------------------------------------------------------------

def items_asked_for(dataset, run):
    """Items that LRANGE commands asked for while run() ran, the most of any list: the server's slow log, set to log all."""
    ask = dataset.server.ask
    ask("CONFIG", "SET", "slowlog-max-len", 1000000)
    ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
    ask("SLOWLOG", "RESET")
    run()
    ask("CONFIG", "SET", "slowlog-log-slower-than", -1)
    counts = {}
    for entry in ask("SLOWLOG", "GET", 1000000):
        words = entry[3]
        if words[0].upper() == b"LRANGE":
            counts[words[1]] = counts.get(words[1], 0) + int(words[3]) - int(words[2]) + 1
    ask("SLOWLOG", "RESET")
    return counts


def first_few(bench, letter, specs):
    dataset = bench.take(specs[0])
    dataset.load()
    limit = ["--limit", "10"]
    direct = merger(dataset, "nwm-merger, direct", extra=limit)
    counts = items_asked_for(dataset, lambda: measure(direct.commands, None, bench.directory / "few.out"))
    proxy = machine.Proxy(bench.directory, dataset.server, 10)
    try:
        contenders = [direct, merger(dataset, "nwm-merger, 10 ms", proxy.socket, limit)]
        series = bench.run(Case(letter, "--limit 10", dataset, contenders, cut=10))
    finally:
        proxy.stop()
    most, total = max(counts.values()), sum(counts.values())
    series["nwm-merger, direct"].fetched = most
    bench.note(f"items fetched: {total} from {len(counts)} of {dataset.lists} lists, {most} at most from one")


# ---- W: loading ------------------------------------------------------------------------------------------------------

def keys_of(server, lists, by_worker):
    if not by_worker:
        return [f"list:{i}" for i in range(lists)]
    return [server.ask("HGET", "nwm:{bench:%d}" % i, "list").decode() for i in range(lists)]


def check_loaded(server, files, by_worker):
    for key, file in zip(keys_of(server, len(files), by_worker), files):
        script = f"redis-cli -s '{server.socket}' lrange '{key}' 0 -1 | cmp -s - '{file}'"
        if subprocess.run(["sh", "-c", script], env=machine.environment()).returncode != 0:
            raise Failure(f"W: {key} does not hold what {file} does")


def load_once(bench, commands_for, files, by_worker, is_check):
    """One load into a new, empty server."""
    server = machine.Server(bench.directory / "load-redis")
    try:
        sample = measure(commands_for(server.socket), server, bench.directory / "load.out")
        if is_check:
            check_loaded(server, files, by_worker)
        return sample
    finally:
        server.stop()


def worker_commands(files, order):
    def commands(socket):
        return [[BUILD / "nwm-worker", "-U", f"unix://{socket}", "-j", "bench", "-i", str(i), *order, file]
                for i, file in enumerate(files)]
    return commands


def pipe_commands(directory, files, per_push):
    made = []
    for i, file in enumerate(files):
        path = directory / f"protocol-{per_push}-{i}"
        with open(file, "rb") as text, open(path, "wb") as out:
            subprocess.run([TOOLS / "protocol", f"list:{i}", str(per_push)], stdin=text, stdout=out, check=True)
        made.append(path)

    def commands(socket):
        return [["sh", "-c", f"exec redis-cli -s '{socket}' --pipe <'{path}'"] for path in made]
    return commands


def loading(bench, letter, specs):
    for name, spec in zip("NL", specs):
        dataset = bench.take(spec)
        whole = bench.directory / "whole.out"
        measure([dataset.sort_command()], None, whole)
        compare_loads(bench, f"{name}, 1 worker", dataset, [str(whole)])
        whole.unlink()
        compare_loads(bench, f"{name}, {dataset.lists} workers", dataset, dataset.files)


def compare_loads(bench, variant, dataset, files):
    directory = bench.directory / "protocol"
    directory.mkdir()
    ways = [("nwm-worker", worker_commands(files, dataset.order), True, bench.sizes.repeats),
            ("redis-cli --pipe, 1000 a RPUSH", pipe_commands(directory, files, 1000), False, bench.sizes.repeats)]
    if len(files) == 1:
        ways.append(("redis-cli --pipe, 1 a RPUSH", pipe_commands(directory, files, 1), False, bench.sizes.slow))
    series = {}
    for name, commands, by_worker, _ in ways:
        load_once(bench, commands, files, by_worker, True)
        series[name] = Series(dataset.items)
    for i in range(bench.sizes.repeats):
        for name, commands, by_worker, repeats in ways:
            if i < repeats:
                series[name].samples.append(load_once(bench, commands, files, by_worker, False))
    shutil.rmtree(directory)
    bench.record("W", variant, series)


# ---- the heap alone --------------------------------------------------------------------------------------------------

def heap(bench, letter, specs):
    arguments = ["500000", "3"] if bench.sizes.quick else ["2000000", "5"]
    out = subprocess.run([TOOLS / "heap_bench", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    bench.record_heap([line.split(",") for line in out.split()[1:]])


# ---- all of them -----------------------------------------------------------------------------------------------------

class Workload:
    def __init__(self, letter, title, specs, run):
        self.letter, self.title, self.specs, self.run = letter, title, specs, run


def all_workloads(sizes):
    numbers, lines = ("numbers", sizes.numbers, 8), ("lines", sizes.lines, 8)
    return [
        Workload("N", "random 12-digit numbers, -n", [numbers], all_peers),
        Workload("L", "log lines of about 70 bytes, in the order of bytes", [lines], all_peers),
        Workload("F", "the same lines, on their third field, -k3,3n", [("fields", sizes.lines, 8)], all_peers),
        Workload("R", "log lines, each list a day of its own", [("days", sizes.lines, 8)], local_peers),
        Workload("D", "16 different numbers, -n", [("few", sizes.numbers, 8)], local_peers),
        Workload("K", "numbers over more and more lists", [("numbers", sizes.numbers, k) for k in sizes.lists], many_lists),
        Workload("W", "loading N and L into an empty server", [numbers, lines], loading),
        Workload("S", "more and more numbers over 8 lists", [("numbers", n, 8) for n in sizes.scale], scale),
        Workload("T", "numbers over a link with a round-trip time", [("numbers", sizes.link, 8)], link),
        Workload("H", "the first 10 items of 1,000 lists", [("numbers", sizes.short[1], sizes.short[0])], first_few),
        Workload("heap", "the heap alone, nanoseconds an item", [], heap),
    ]
