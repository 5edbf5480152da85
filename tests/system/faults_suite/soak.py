"""Half an hour of faults at random: what runs for long must neither grow nor hold on to anything, and must end right.

Started by `make soak` (tests/system/soak). Two things go on side by side. Rows of the fault suite are drawn by chance, one injection
after another against the same servers: loads, reloads, merges of all kinds, each judged as in the suite. And a merger and a worker
live as long as the soak, on a server of their own that is killed, stopped, put to sleep and cuts them off all the while; the
merger's output is read and the worker's input comes so slowly that they last. Their memory and descriptors are looked at throughout.
"""
import collections
import concurrent.futures
import hashlib
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import invariants
import machine
import main as suite
from machine import BUILD, Program, Server
from table import ROWS

DATASETS = 4
ITEMS_A_MINUTE = 40_000  # of each dataset: 3 MB a minute go through the merger, several times what it reads ahead
MEMORY = "2M"
LINES_A_SECOND = 200     # into the worker
TURN_S = 0.02
LOOK_EVERY_S = 1.0
STRIKE_S = (2.0, 8.0)    # between two strikes at the long-lived ones
GRACE_S = 120            # for the rest of the work when the time is over
MOST_KIB = 1024          # growth from the first third to the last: 10 KB a lost connection would be more, in half an hour
MOST_DESCRIPTORS = 1     # a look may come while one connects again
MOST_KEYS = 2            # a lease, and a list that was renamed, come and go


# ---- the rows of the suite, in a process of their own ----------------------------------------------------------------

def injection(name, i):
    """One injection, and who is still connected to the server when it is over: nobody but us."""
    outcome = suite.inject(name, i)
    scene = suite.Stage.scene
    servers = [s for s in (scene.plain, scene.safe) if s and s.process.poll() is None] if scene else []
    return outcome, max((others(s) for s in servers), default=0)


def others(server):
    server.settle()
    return len(server.ask("CLIENT", "LIST").split(b"\n")) - 2


class Rows:
    """Injections drawn by chance, one at a time."""

    def __init__(self, base, seed):
        context = multiprocessing.get_context("fork")
        self.pool = concurrent.futures.ProcessPoolExecutor(1, context, suite.Stage.open, (base, seed))
        self.random = random.Random(f"{seed}/rows")
        self.counts, self.words = collections.Counter(), collections.Counter()
        self.violations, self.clients = [], []
        self.running = None

    def turn(self, may_begin):
        if self.running and self.running.done():
            self._take(*self.running.result())
            self.running = None
        if may_begin and not self.running:
            row = self.random.choice(ROWS)
            self.running = self.pool.submit(injection, row.name, self.random.randrange(row.points))

    def _take(self, o, clients):
        injected = sum(o.words.values()) + bool(o.violation)
        self.counts[suite.BY_NAME[o.name].group.removeprefix("rows_")] += injected
        self.words.update(o.words)
        self.clients.append(clients)
        if o.violation:
            self.violations.append(f"{o.name}, point {o.i}: {o.violation}\n    kept: {o.kept}")
            print("VIOLATION in " + self.violations[-1], flush=True)

    def close(self, in_order):
        self.pool.shutdown(wait=in_order, cancel_futures=True)


# ---- what lives as long as the soak ----------------------------------------------------------------------------------

RECONNECTS = {"merger": re.compile(r'"reconnects":(\d+)'), "worker": re.compile("connected again")}


class Looks:
    """Memory and descriptors of one process, over time."""

    def __init__(self, name, program):
        self.name, self.program = name, program
        self.kib, self.descriptors = [], []

    def look(self):
        """Nothing is added when it ends in this moment."""
        home = pathlib.Path(f"/proc/{self.program.process.pid}")
        try:
            status, descriptors = (home / "status").read_text(), len(os.listdir(home / "fd"))
        except OSError:
            return
        resident = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        if resident:
            self.kib.append(int(resident[0].split()[1]))
            self.descriptors.append(descriptors)


def thirds(values):
    """The most of each third."""
    n = max(1, len(values) // 3)
    return [max(part, default=0) for part in (values[:n], values[n:2 * n], values[2 * n:])]


class Lives:
    """The long-lived merger and worker, what they read and write, and what happens to their server."""

    def __init__(self, directory, seed, seconds):
        self.directory, self.seconds = directory, seconds
        directory.mkdir()
        self.random = random.Random(f"{seed}/lives")
        self.server = Server(directory / "redis", aof=True)
        self.strikes = collections.Counter()
        self.began = self.next_strike = self.next_look = 0.0
        self.problems, self.reconnects, self.keys = [], {}, []

    def begin(self):
        self._load()
        read, write = os.pipe()
        self.merger = self._start("merger", ["nwm-merger", "-j", "long", "--memory", MEMORY, "--stats", "json"], out=write)
        os.close(write)
        os.set_blocking(read, False)
        self.output, self.got, self.seen = read, 0, hashlib.sha256()
        read, write = os.pipe()
        self.worker = self._start("worker", ["nwm-worker", "-j", "fed", "-i", "0", "-n", "--lease", "5s"], stdin=read)
        os.close(read)
        os.set_blocking(write, False)
        self.input, self.fed, self.line = write, 0, b""
        self.looks = [Looks("merger", self.merger), Looks("worker", self.worker)]
        self.began = time.monotonic()
        self.next_strike = self.began + 1

    def _start(self, name, argv, **how):
        work = self.directory / name
        work.mkdir()
        return Program([BUILD / argv[0], "-U", self.server.url, "--timeout", f"{GRACE_S}s", *argv[1:]], work, **how)

    def _load(self):
        """The job of the long merge, and what sort(1) makes of it."""
        files, work = [], self.directory / "data"
        work.mkdir()
        for i in range(DATASETS):
            items = int(max(1, self.seconds / 60) * ITEMS_A_MINUTE)
            numbers = sorted(self.random.randrange(10**9) for _ in range(items))
            files.append(work / str(i))
            files[-1].write_text("".join(f"{n:09d} {i}.{k}\n" for k, n in enumerate(numbers)))
            argv = [BUILD / "nwm-worker", "-q", "-U", self.server.url, "-j", "long", "-i", str(i), "-n", files[-1]]
            run = Program(argv, work).finish(GRACE_S)
            if run.code != 0:
                raise machine.Broken(f"the load of the long merge failed: {run.err}")
        whole = subprocess.run(["sort", "-m", "-s", "-n", *files], stdout=subprocess.PIPE, check=True, env=machine.environment()).stdout
        self.total, self.right = len(whole), hashlib.sha256(whole).hexdigest()
        shutil.rmtree(work)

    # ---- slowly

    def passed(self):
        return time.monotonic() - self.began

    def read_some(self, most):
        """False at the end."""
        try:
            data = os.read(self.output, most) if most > 0 else b" "
        except BlockingIOError:
            return True
        if most > 0:
            self.seen.update(data)
            self.got += len(data)
        return bool(data)

    def feed_some(self, lines):
        """Rising numbers, as many as the pipe takes."""
        while self.fed < lines or self.line:
            if not self.line:
                self.line = b"%09d fed\n" % self.fed
                self.fed += 1
            try:
                self.line = self.line[os.write(self.input, self.line):]
            except (BlockingIOError, BrokenPipeError):  # a worker that ended too soon is judged at the end
                return

    def turn(self):
        part = min(1.0, self.passed() / self.seconds)
        self.read_some(int(self.total * part * 0.98) - self.got)
        self.feed_some(int(part * self.seconds * LINES_A_SECOND))
        now = time.monotonic()
        if now >= self.next_look:
            self.next_look = now + LOOK_EVERY_S
            for looks in self.looks:
                looks.look()
            self.keys.append(self.server.ask("DBSIZE"))
        if now >= self.next_strike:
            self.next_strike = now + self.random.uniform(*STRIKE_S)
            self.strike()

    # ---- struck

    def strike(self):
        name, blow = self.random.choice([("kill -9 of Redis", self.server.restart), ("CLIENT KILL", self.cut_off),
                                         ("SIGSTOP of Redis", self.stop_for_a_while), ("DEBUG SLEEP", self.put_to_sleep)])
        self.strikes[name] += 1
        blow()

    def cut_off(self):
        self.server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def stop_for_a_while(self):
        self.server.pause()
        time.sleep(self.random.uniform(0.05, 0.5))
        self.server.go_on()

    def put_to_sleep(self):
        self.server.ask("DEBUG", "SLEEP", "%.2f" % self.random.uniform(0.05, 0.5))

    # ---- the end

    def end(self):
        """Nothing disturbs them any more: both must come to their end, and it must be right."""
        deadline = time.monotonic() + GRACE_S
        lines = int(self.seconds * LINES_A_SECOND)
        while (self.fed < lines or self.line) and time.monotonic() < deadline and not self.worker.is_over(TURN_S):
            self.feed_some(lines)
        os.close(self.input)
        while self.read_some(1 << 20) and time.monotonic() < deadline:
            self.merger.is_over(0.001)
        os.close(self.output)
        self._judge("merger", self.merger, self.got == self.total and self.seen.hexdigest() == self.right,
                    f"{self.got} bytes of {self.total}")
        worker_ok = self._is_loaded(lines)
        self._judge("worker", self.worker, worker_ok, "its list does not hold what it was given")

    def _is_loaded(self, lines):
        self.worker.is_over(GRACE_S)
        state, key = self.server.ask("HMGET", "nwm:{fed:0}", "state", "list")
        if state != b"ready":
            return False
        items = self.server.ask("LRANGE", key, 0, -1)
        return items == [b"%09d fed" % n for n in range(lines)]

    def _judge(self, name, program, is_right, what):
        try:
            run = program.finish(time.monotonic() - program.began + GRACE_S)
        except machine.TooLong as why:
            self.problems.append(str(why))
            return
        lost = RECONNECTS[name].findall(run.err)
        self.reconnects[name] = sum(int(n) if n.isdigit() else 1 for n in lost)
        if run.code != 0:
            self.problems.append(f"the long-lived {name} ended with {run.code}" + invariants.shown(run))
        elif not self.reconnects[name]:
            self.problems.append(f"the long-lived {name} was never disturbed: that proves nothing")
        elif not is_right:
            self.problems.append(f"the long-lived {name} ended with 0 and is wrong: {what}")

    def stop(self):
        for program in (getattr(self, "merger", None), getattr(self, "worker", None)):
            if program:
                program.kill()
        self.server.stop()


# ---- the soak --------------------------------------------------------------------------------------------------------

def tell(rows, lives):
    merger, worker = (f"{looks.kib[-1] / 1024:.1f} MiB, {looks.descriptors[-1]} descriptors" for looks in lives.looks)
    print(f"{lives.passed() / 60:5.1f} min  {sum(rows.counts.values())} faults injected, {len(rows.violations)} violations; "
          f"{sum(lives.strikes.values())} strikes at the long-lived: merger {merger}, worker {worker}", flush=True)


def soak(rows, lives):
    lives.begin()
    minute = 0
    while lives.passed() < lives.seconds:
        lives.turn()
        rows.turn(True)
        time.sleep(TURN_S)
        if lives.passed() >= 60 * (minute + 1):
            minute += 1
            tell(rows, lives)
    if not machine.wait_for(lambda: rows.turn(False) or not rows.running, GRACE_S):
        raise machine.Broken("an injection does not end")
    lives.end()


def flat_lines(rows, lives):
    """What must be flat: its most in each third, and whether it is."""
    for looks in lives.looks:
        yield f"{looks.name}: resident memory, KiB", thirds(looks.kib), MOST_KIB
        yield f"{looks.name}: descriptors", thirds(looks.descriptors), MOST_DESCRIPTORS
    yield "keys of their Redis", thirds(lives.keys), MOST_KEYS
    yield "connections left on the rows' Redis", thirds(rows.clients), 0


def report(rows, lives):
    """Returns how much was wrong."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in rows.counts.most_common())
    words = ", ".join(f"{n} {word}" for word, n in rows.words.most_common(8))
    strikes = ", ".join(f"{n} {name}" for name, n in lives.strikes.most_common())
    print(f"\n{sum(rows.counts.values())} faults injected ({kinds}), {len(rows.violations)} violations\n    ended: {words}, …\n"
          f"{sum(lives.strikes.values())} strikes at the long-lived ({strikes})\n    merged {lives.got} bytes, loaded {lives.fed} items, "
          f"connected again {' and '.join(f'{n} times (the {name})' for name, n in lives.reconnects.items())}\n\n"
          f"{'the most in each third':38} {'first':>8} {'second':>8} {'last':>8}")
    wrong = len(rows.violations) + len(lives.problems)
    for name, (first, second, last), most in flat_lines(rows, lives):
        flat = max(second, last) <= first + most
        wrong += not flat
        print(f"{name:38} {first:8} {second:8} {last:8}  {'flat' if flat else 'GROWS'}")
    for problem in lives.problems:
        print("VIOLATION: " + problem)
    return wrong


def left_behind(base):
    """Processes whose command line names our directory, once all is over."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(base).encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def play(base, seed, seconds):
    (BUILD / "faults").mkdir(parents=True, exist_ok=True)
    rows = Rows(str(base), seed)
    rows.turn(True)  # the pool forks now, while this process has nothing else open
    lives = Lives(base / "long", seed, seconds)
    in_order = False
    try:
        soak(rows, lives)
        in_order = True
    finally:
        rows.close(in_order)
        lives.stop()
    wrong = report(rows, lives)
    if not machine.wait_for(lambda: not left_behind(base), 10):
        print(f"VIOLATION: processes were left behind: {' '.join(left_behind(base))}")
        wrong += 1
    return wrong


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = int(os.environ.get("SEED") or random.randrange(1, 1 << 31))
    minutes = float(os.environ.get("MINUTES") or 30)
    print(f"soak: seed {seed}, {minutes:g} minutes", flush=True)
    roomy = "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 4 << 30 else None
    base = pathlib.Path(tempfile.mkdtemp(prefix="nwm-soak.", dir=roomy))
    try:
        wrong = play(base, seed, minutes * 60)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(f"\n{wrong} violations" if wrong else "\nno violation, and flat")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (machine.Broken, machine.TooLong) as why:
        sys.exit(f"soak: {why}")
