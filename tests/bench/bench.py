"""The benchmark: nwm-merger and nwm-worker beside their peers, on private servers, in one run.

Started by `make bench` (tests/bench/run). Settings come from the environment:
    QUICK=1        smaller sizes, fewer rounds, no 64 million: under 2 minutes instead of under 20
    ONLY=N,L       only these workloads (N L F R D K W S T H heap)
    REPEATS=n      rounds of each case            SEED=n      of the data, 1 unless said otherwise
Results: the table on standard output; results.csv (every run), figures.csv, heap.csv, stats/ (--stats json of the runs that
were checked, not of those that were timed) and plots (*.svg) in build/bench/.

How it measures. Before anything is timed, each contender's output is compared with GNU sort's, byte for byte; that run also
warms everything up. Then the contenders take turns, round after round; medians are reported, and ratios of the runs of one
round. Each writes through standard output over the same file in a memory-backed directory (the drain writes nothing). The
file's pages are there already: a virtual machine gives pages that were free for some seconds back to its host, and a new file
of 150 MB then took 0.38 s to write, a second after another one 0.05 s, and the same file again 0.03 s (measured). CPU and memory
are those of all processes of a contender (tests/bench/measure.c). Programs run with their defaults.
"""
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import time

import data
import machine
import plots
import report
import runner
import workloads


class Bench:
    """What a workload is given: data, a directory, and where results go."""

    def __init__(self, directory, sizes, shelf):
        self.directory, self.sizes, self.shelf = directory, sizes, shelf
        self.cases, self.heap = {}, []
        self.take = shelf.take

    def run(self, case, repeats=None):
        series = runner.run_case(case, self.directory, min(repeats or self.sizes.repeats, self.sizes.repeats))
        self.record(case.workload, case.variant, series)
        return series

    def record(self, letter, variant, series):
        self.cases[letter, variant] = series
        if variant:
            print(f"  {variant}")
        report.print_rows(report.case_rows(series))

    def record_heap(self, rows):
        self.heap = rows
        report.print_rows(report.heap_rows(rows))

    def note(self, text):
        print(f"  [{text}]", flush=True)


def first_line(command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.split("\n")[0]


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def describe(sizes):
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    print(f"{first_line([machine.BUILD / 'nwm-merger', '--version'])} · {first_line([server, '--version'])[:40]}")
    print(f"{first_line(['sort', '--version'])} · Python {platform.python_version()} · Linux {platform.release()} · "
          f"{os.cpu_count()} × {processor()}")
    if sizes.quick:
        print("QUICK: small sizes, where starting a process weighs more; the figures that count are those of a full run.")
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"WARNING: the load average is {load:.1f}: something else runs here, and these figures are not to be relied on.")


def chosen(sizes):
    every = workloads.all_workloads(sizes)
    only = [w for w in os.environ.get("ONLY", "").replace(",", " ").split()]
    known = {w.letter for w in every}
    for letter in only:
        if letter not in known:
            raise machine.Failure(f"ONLY={letter}: the workloads are {' '.join(w.letter for w in every)}")
    return [w for w in every if not only or w.letter in only]


def fit_memory(sizes):
    """Data, lists and outputs are all in memory; without room for 64 million items there, that size is left out."""
    if not sizes.quick and machine.memory_available() < sizes.need:
        print("less than 9 GB of memory are free: the 64 million of S are left out")
        sizes.scale = sizes.scale[:-1]
        sizes.need = 3 << 30


def run_all(bench, todo):
    for w in todo:
        for spec in w.specs:
            bench.shelf.will_need(spec)
    for w in todo:
        begun = time.monotonic()
        print(f"\n{w.letter}: {w.title}", flush=True)
        w.run(bench, w.letter, w.specs)
        for spec in w.specs:
            bench.shelf.put_back(spec)
        print(f"  [{time.monotonic() - begun:.0f} s]", flush=True)


def save(bench, rows, results):
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    report.write_csv(results / "results.csv", bench.cases)
    report.write_rows(results / "figures.csv", rows)
    if bench.heap:
        report.write_rows(results / "heap.csv", report.heap_rows(bench.heap))
    shutil.copytree(bench.directory / "stats", results / "stats")
    return plots.draw_all(bench.cases, bench.heap, bench.sizes, results)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sizes = workloads.Sizes(os.environ.get("QUICK", "0") not in ("", "0", "no"))
    sizes.repeats = int(os.environ.get("REPEATS", sizes.repeats))
    todo = chosen(sizes)
    begun = time.monotonic()
    fit_memory(sizes)
    describe(sizes)
    with machine.scratch(sizes.need) as directory:
        (directory / "stats").mkdir()
        shelf = data.Shelf(directory, int(os.environ.get("SEED", 1)))
        bench = Bench(directory, sizes, shelf)
        try:
            run_all(bench, todo)
        finally:
            shelf.close()
        print("\nWhat must be reached")
        rows = report.print_verdicts(bench.cases, sizes)
        results = machine.BUILD / "bench"
        drawn = save(bench, rows, results)
    print(f"\n{time.monotonic() - begun:.0f} s; results.csv, figures.csv and {', '.join(drawn) or 'no plots'} in {results}")


try:
    main()
except machine.Failure as failure:
    sys.exit(f"bench: {failure}")
except KeyboardInterrupt:
    sys.exit(130)
