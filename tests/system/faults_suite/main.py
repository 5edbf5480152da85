"""The fault suite: a table of faults, each injected again and again, and what must hold after each.

Started by `make faults` (tests/system/faults), the quick part by the tests. A row is one kind of fault; its points are where it
strikes. What must hold is in invariants.py; the rows are in rows_*.py. Private servers only, in a temporary directory.
"""
import argparse
import collections
import concurrent.futures
import multiprocessing
import multiprocessing.util
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import invariants
import machine
import report
from scene import Scene
from table import ROWS, Missed, Point, Skip

import rows_kills  # noqa: F401 — the rows register themselves, in this order
import rows_network  # noqa: F401
import rows_server  # noqa: F401
import rows_edits  # noqa: F401
import rows_hostile  # noqa: F401
import rows_output  # noqa: F401
import rows_process  # noqa: F401
import rows_rivals  # noqa: F401

TRIES = 4  # when the program was faster than the fault
BY_NAME = {row.name: row for row in ROWS}


# ---- in a process of the pool ----------------------------------------------------------------------------------------

class Stage:
    """This process's scene; a new one after anything went wrong in it."""
    base = seed = scene = None

    @classmethod
    def open(cls, base, seed):
        cls.base, cls.seed = base, seed
        signal.signal(signal.SIGINT, lambda *_: None)  # ^C is for the suite; ignored, it would be so in what is started too
        multiprocessing.util.Finalize(None, cls.close, exitpriority=10)

    @classmethod
    def get(cls):
        if cls.scene is None:
            cls.scene = Scene(tempfile.mkdtemp(dir=cls.base), cls.seed)
        return cls.scene

    @classmethod
    def close(cls, keep_as=None):
        if cls.scene is None:
            return
        scene, cls.scene = cls.scene, None
        if keep_as:
            shutil.rmtree(keep_as, ignore_errors=True)
            shutil.copytree(scene.work, keep_as, ignore=lambda d, names: [n for n in names if n.endswith(".sock")])
        scene.close()
        shutil.rmtree(scene.directory, ignore_errors=True)


Outcome = collections.namedtuple("Outcome", "name i words violation kept missed skipped seconds")


def attempt(row, i, number):
    words = row.function(Stage.get(), Point(Stage.seed, row.name, i, row.points, number))
    return words if isinstance(words, dict) else {words: 1}


def inject(name, i):
    """One injection, in the pool."""
    row, began = BY_NAME[name], time.monotonic()
    words, violation, kept, missed, skipped = {}, None, None, True, None
    try:
        for number in range(TRIES):
            try:
                words = attempt(row, i, number)
                missed = False
                break
            except Missed:
                continue
    except Skip as why:
        skipped = str(why)
    except (invariants.Violation, machine.TooLong) as why:
        violation = str(why)
    except Exception:
        violation = "the suite itself stumbled: " + traceback.format_exc()
    if violation:
        kept = machine.BUILD / "faults" / f"{name}-{i}"
        Stage.close(keep_as=kept)
        (kept / "violation").write_text(violation)
    return Outcome(name, i, words, violation, kept, missed and not skipped, skipped, time.monotonic() - began)


# ---- the run ---------------------------------------------------------------------------------------------------------

def arguments():
    p = argparse.ArgumentParser(prog="faults", description=__doc__.split("\n", 1)[0])
    p.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or random.randrange(1, 1 << 31)), help="also SEED=…")
    p.add_argument("--jobs", type=int, default=int(os.environ.get("JOBS") or 2), help="injections at the same time (2, also JOBS=…)")
    p.add_argument("--row", action="append", help="only this row, or those that begin so; may be repeated")
    p.add_argument("--points", type=int, help="at most that many points a row")
    p.add_argument("--point", type=int, help="only this point: an injection again")
    p.add_argument("--quick", action="store_true", help="a few points of the rows that are quick")
    p.add_argument("--markdown", metavar="FILE", help="also write the table into FILE")
    p.add_argument("--list", action="store_true", help="name the rows")
    return p.parse_args()


PRIMES = (53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101)


def spread(points, most):
    """`most` of 0…points-1. In steps of a prime, so that what rows choose in turn, by i modulo something, is had evenly too."""
    if most >= points:
        return list(range(points))
    step = next(p for p in PRIMES if points % p)
    return sorted(k * step % points for k in range(most))


def chosen(args):
    """The rows asked for, each with its points."""
    rows = [r for r in ROWS if not args.row or any(r.name.startswith(name) for name in args.row)]
    if not rows:
        sys.exit(f"faults: no row is called {' '.join(args.row)}")
    for r in rows:
        most = min(r.points, args.points or r.points, r.quick if args.quick and not args.row else r.points)
        points = [args.point] if args.point is not None else spread(r.points, most)
        if points:
            yield r, points


def has_options(row, help_text):
    return [o for o in row.needs if f"{o} " not in help_text and f"{o}\n" not in help_text]


def collect(pool, todo, seed):
    """Everything into the pool; a row's line when its last point is done."""
    help_text = subprocess.run([machine.BUILD / "nwm-merger", "--help"], capture_output=True, text=True).stdout
    tallies, futures = {}, []
    for r, points in todo:
        t = tallies[r.name] = report.Tally(r, points)
        missing = has_options(r, help_text)
        if missing:
            t.skipped = "no " + " ".join(missing)
            report.print_row(t)
        else:
            futures += [pool.submit(inject, r.name, i) for i in points]
    for future in concurrent.futures.as_completed(futures):
        o = future.result()
        note(tallies[o.name], o, seed)
    return list(tallies.values())


def note(t, o, seed):
    t.add(o.words)
    t.done += 1
    t.seconds += o.seconds
    t.missed += o.missed
    t.skipped = t.skipped or o.skipped
    if o.violation:
        t.violations.append(o.i)
        report.print_violation(t.row, seed, o.i, o.violation, o.kept)
    if t.done == len(t.points):
        report.print_row(t)


def run(args, base):
    began = time.monotonic()
    shutil.rmtree(machine.BUILD / "faults", ignore_errors=True)
    (machine.BUILD / "faults").mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(args.jobs, context, Stage.open, (base, args.seed)) as pool:
        try:
            tallies = collect(pool, chosen(args), args.seed)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    report.print_end(tallies, began, args.seed)
    if args.markdown:
        pathlib.Path(args.markdown).write_text(report.markdown(tallies, args.seed))
    return 1 if any(t.violations for t in tallies) or not any(t.injected for t in tallies) else 0


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args = arguments()
    if args.list:
        for r in ROWS:
            print(f"{r.name:27} {r.points:4}  {r.fault}")
        return 0
    if not (machine.TOOLS / "tool_proxy").exists():
        sys.exit(f"faults: {machine.TOOLS} has no tools; make faults builds them")
    print(f"faults: seed {args.seed}, {args.jobs} at a time", flush=True)
    roomy = "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 1 << 29 else None
    base = tempfile.mkdtemp(prefix="nwm-faults.", dir=roomy)
    try:
        return run(args, base)
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except machine.Broken as broken:
        sys.exit(f"faults: {broken}")
