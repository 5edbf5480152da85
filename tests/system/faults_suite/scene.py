"""Where an injection takes place: a directory, a private server with a job in it, and what the merge of it must be."""
import pathlib
import random
import shutil

import machine
from machine import BUILD, Program, Server

DATASETS = 4
SMALL, LARGE = 3000, 30000  # items of each dataset
LEASE_S = 1
SLACK_S = 20  # on top of every bound: the machine may be busy


class Data:
    """A job's datasets as files in order -n. Every item is another one, and many are equal by key, within a dataset and across."""

    def __init__(self, directory, items, seed):
        self.items = items
        self.files = [directory / f"part-{i}" for i in range(DATASETS)]
        self.parts = [self._part(i, random.Random(f"{seed}/{items}/{i}")) for i in range(DATASETS)]
        for path, part in zip(self.files, self.parts):
            path.write_bytes(b"".join(part))
        every = [item for part in self.parts for item in part]
        self.merged = b"".join(sorted(every, key=lambda item: int(item[:8])))  # stable: as the datasets come

    def _part(self, i, rng):
        numbers = sorted(rng.randrange(self.items * 2) for _ in range(self.items))
        return [b"%08d %d.%d\n" % (number, i, n) for n, number in enumerate(numbers)]


class Scene:
    """One of each per process of the suite. Between two injections everything is put back by reset()."""

    def __init__(self, directory, seed):
        self.directory = pathlib.Path(directory)
        self.work = self.directory / "work"
        self.work.mkdir(parents=True)
        (self.directory / "small").mkdir()
        (self.directory / "large").mkdir()
        self.small = Data(self.directory / "small", SMALL, seed)
        self.large = Data(self.directory / "large", LARGE, seed)
        self.plain = Server(self.directory / "redis")
        self.server = self.plain
        self.safe = None
        self.dumps = {}
        self.counts = {}
        self.out = self.work / "out"

    def close(self):
        for server in (self.plain, self.safe):
            if server:
                server.stop()

    def durable(self):
        """The server is now one that keeps what it acknowledged (appendfsync always)."""
        if not self.safe:
            self.safe = Server(self.directory / "safe", aof=True)
        self.server = self.safe

    # ---- the state at the start of an injection

    def reset(self, data=None):
        """An empty directory, and a server with this job in it (or none). Back to the plain server."""
        shutil.rmtree(self.work)
        self.work.mkdir()
        self.server = self.plain
        if self.plain.process.poll() is not None:
            self.plain.start()
        self.fill(data)

    def fill(self, data=None):
        self.server.ask("FLUSHALL")
        if data:
            self.server.resp.ask_many([("RESTORE", key, 0, dump) for key, dump in self._dumps(data)])

    def _dumps(self, data):
        """The job's keys as they are after its load, made once."""
        if data not in self.dumps:
            for i, path in enumerate(data.files):
                run = self.start(self.worker("-i", i, "-n", path)).finish(SLACK_S * 3)
                if run.code != 0:
                    raise machine.Broken(f"the undisturbed load failed: {run.err}")
            keys = self.server.ask("KEYS", "*")
            self.dumps[data] = [(key, self.server.ask("DUMP", key)) for key in keys]
            self.server.ask("FLUSHALL")
            return self._dumps(data)
        return self.dumps[data]

    # ---- programs

    def worker(self, *words, url=None, timeout="5s"):
        return [BUILD / "nwm-worker", "-U", url or self.server.url, "-j", "job", "--lease", f"{LEASE_S}s", "--keep", "5s",
                "--timeout", timeout, *words]

    def merger(self, *words, url=None, timeout="5s"):
        return [BUILD / "nwm-merger", "-U", url or self.server.url, "-j", "job", "--timeout", timeout, "--wait", timeout, *words]

    def start(self, argv, **how):
        return Program(argv, self.work, **how)

    def run(self, argv, bound=0, **how):
        return self.start(argv, **how).finish(bound + SLACK_S)

    # ---- what is in the server

    def list_key(self, i):
        return self.server.ask("HGET", f"nwm:{{job:{i}}}", "list")

    def expire_leases(self):
        """As if a second had passed: what a dead worker or merger held is free."""
        for key in self.server.ask("KEYS", "nwm:{*}:*"):
            if key.endswith((b":lease", b":consumer")):
                self.server.ask("PEXPIRE", key, 1)
        machine.wait_for(lambda: not [k for k in self.server.ask("KEYS", "nwm:{*}:*") if k.endswith((b":lease", b":consumer"))], 2)
