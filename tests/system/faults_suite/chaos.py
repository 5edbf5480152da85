"""A minute of kill -9 in plain sight: of Redis, of workers and of the merger, while a job is loaded and merged.

Started by `make chaos` (tests/system/chaos). Redis keeps what it acknowledged (appendfsync always) and is started again at once; a
worker and the merger are the same command again. In the end the file is compared with what sort makes of the input.
"""
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import machine
from machine import BUILD, Program, Server

ITEMS, DATASETS = 150_000, 4


class Chaos:
    def __init__(self, directory, seed, seconds):
        self.directory, self.seconds = directory, seconds
        self.random = random.Random(seed)
        self.began = time.monotonic()
        self.counts = {"Redis": 0, "a worker": 0, "the merger": 0}
        self.work = directory / "work"
        self.work.mkdir()
        self.files = []
        self.server = None

    def tell(self, text):
        print(f"{time.monotonic() - self.began:6.2f} s  {text}", flush=True)

    def left(self):
        return self.seconds - (time.monotonic() - self.began)

    # ---- what is merged

    def make_data(self):
        for i in range(DATASETS):
            path = self.work / f"part-{i}"
            numbers = sorted(self.random.randrange(10**9) for _ in range(ITEMS))
            path.write_text("".join(f"{n:09d} {i}.{k}\n" for k, n in enumerate(numbers)))
            self.files.append(path)
        with open(self.work / "sorted", "wb") as out:
            subprocess.run(["sort", "-m", "-s", "-n", *self.files], stdout=out, check=True, env=machine.environment())
        self.began = time.monotonic()
        self.tell(f"{DATASETS} files of {ITEMS} items; sort(1) merged them for comparison")

    # ---- programs

    def start(self, argv, name):
        directory = self.work / name.replace(" ", "-")
        directory.mkdir(exist_ok=True)
        program = Program([BUILD / argv[0], "-U", self.server.url, "-j", "chaos", "--timeout", "20s", *argv[1:]], directory)
        program.name = name
        return program

    def worker(self, i):
        return self.start(["nwm-worker", "-n", "-i", i, "--lease", "1s", self.files[i]], f"worker {i}")

    def merger(self):
        return self.start(["nwm-merger", "-o", self.work / "merged", "--resume", "--checkpoint-every", "64K", "-w", DATASETS, "--batch",
                           "20", "--wait", "20s"], "merger")

    def kill_redis(self):
        self.counts["Redis"] += 1
        self.server.kill()
        self.tell("kill -9 Redis")
        self.server.start()
        self.tell("          Redis is back, with what it had acknowledged")

    def ended(self, program):
        """The run, told; None when it was killed or is to be tried again."""
        run = program.finish(120)
        said = [line for line in run.err.splitlines() if line]
        last = said[-1].split(": ", 1)[-1] if said else ""
        if run.code == 0:
            self.tell(f"          {program.name} is done" + (f": {last}" if last else ""))
            return run
        if run.code == -signal.SIGKILL:
            return None
        names = run.faults()
        if "DuplicateWorker" not in names and "Busy" not in names:
            self.tell(f"          {program.name} ended with {run.code}: {' '.join(names)}")
        return None

    # ---- the two halves

    def trouble(self, seconds, running, who):
        """Kills one thing or another for so long, or until everything in `running` is done. What was killed is started again."""
        until = time.monotonic() + seconds
        blow_at = time.monotonic() + 0.05
        while running:
            for key, program in list(running.items()):
                if not program.is_over(0.002):
                    continue
                if self.ended(program):
                    del running[key]
                else:
                    running[key] = self.start_again(key, who)
                    blow_at = max(blow_at, time.monotonic() + 0.1)
            if running and blow_at < time.monotonic() < until:
                self.blow(running, who)
                blow_at = time.monotonic() + 0.05 + self.random.random() * 0.25

    def start_again(self, key, who):
        """A dead worker's lease is waited out first: 1 s."""
        time.sleep(0.05)
        if who == "the merger":
            return self.merger()
        machine.wait_for(lambda: not self.server.ask("EXISTS", f"nwm:{{chaos:{key}}}:lease"), 3)
        return self.worker(key)

    def blow(self, running, who):
        if self.random.random() < 0.35:
            self.kill_redis()
            return
        key = self.random.choice(list(running))
        if running[key].is_over():
            return
        self.counts[who] += 1
        running[key].kill()
        self.tell(f"kill -9 {who}" + (f" ({key})" if who == "a worker" else ""))

    def play(self):
        self.make_data()
        self.server = Server(self.directory / "redis", aof=True)
        rounds = 0
        while self.left() > self.seconds * 0.2 or rounds == 0:
            rounds += 1
            self.server.ask("FLUSHALL")
            (self.work / "merged").unlink(missing_ok=True)
            self.tell(f"round {rounds}: {DATASETS} workers load; they and Redis are killed again and again")
            self.trouble(self.left() / 3, {i: self.worker(i) for i in range(DATASETS)}, "a worker")
            self.tell(f"round {rounds}: the merger merges (--resume); it and Redis are killed again and again")
            self.trouble(self.left() / 2, {0: self.merger()}, "the merger")
            if not self.same():
                return False
        return True

    def same(self):
        same = subprocess.run(["cmp", self.work / "sorted", self.work / "merged"]).returncode == 0
        self.tell("cmp: identical" if same else "cmp: DIFFERENT")
        return same


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = int(os.environ.get("SEED") or random.randrange(1, 1 << 31))
    seconds = float(os.environ.get("SECONDS_OF_CHAOS") or 60)
    print(f"chaos: seed {seed}, {seconds:.0f} s", flush=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="nwm-chaos."))
    chaos = Chaos(directory, seed, seconds)
    try:
        same = chaos.play()
    finally:
        if chaos.server:
            chaos.server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    counts = ", ".join(f"{name} {count} times" for name, count in chaos.counts.items())
    print(f"kill -9: {counts}, in {time.monotonic() - chaos.began:.0f} s\ncmp: {'identical' if same else 'DIFFERENT'}")
    return 0 if same else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (machine.Broken, machine.TooLong) as why:
        sys.exit(f"chaos: {why}")
