"""The data of the benchmark: made once, loaded once through nwm-worker, used by every workload that names it."""
import concurrent.futures
import shutil
import subprocess

import machine

# The letters of an order, as both sort and nwmerge take them, and what the Python peer calls it.
ORDERS = {"numbers": (["-n"], "number"), "few": (["-n"], "number"), "lines": ([], "bytes"), "days": ([], "bytes"),
          "fields": (["-k3,3n"], "field3")}
# Bytes of an item, roughly: from them come the batches of the drain.
WEIGHT = {"numbers": 12, "few": 12, "lines": 69, "days": 69, "fields": 69}


class Dataset:
    """Lists of one kind: sorted text files, and the same in a private server of their own."""

    def __init__(self, directory, kind, items, lists, seed):
        self.kind, self.items, self.lists = kind, items, lists
        self.directory = directory / f"{kind}-{items}-{lists}"
        self.directory.mkdir()
        subprocess.run([machine.TOOLS / "gen", kind, str(seed), str(items), str(lists), self.directory], check=True)
        self.files = [str(self.directory / str(i)) for i in range(lists)]
        self.order, self.python_order = ORDERS[kind]
        self.server = None
        self.keys = []

    @property
    def url(self):
        return f"unix://{self.server.socket}"

    def load(self):
        """Two workers at a time: with thousands of lists it is their starting that takes the time."""
        if self.server:
            return
        self.server = machine.Server(self.directory.with_name(self.directory.name + "-redis"))
        env = machine.environment()

        def load_one(i):
            subprocess.run([machine.BUILD / "nwm-worker", "-q", "-U", self.url, "-j", "bench", "-i", str(i), *self.order,
                            self.files[i]], check=True, stdout=subprocess.DEVNULL, env=env)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(load_one, range(self.lists)))
        self.keys = [self.server.ask("HGET", "nwm:{bench:%d}" % i, "list").decode() for i in range(self.lists)]
        counts = [self.server.ask("LLEN", key) for key in self.keys]
        if sum(counts) != self.items:
            raise machine.Failure(f"{self.directory.name}: {sum(counts)} of {self.items} items were loaded")
        self.write_lists("lists", counts)
        # For finding out what suits the drain, 4 million items are enough.
        self.write_lists("sample", [min(n, 4000000 // self.lists) for n in counts])

    def write_lists(self, name, counts):
        text = "".join(f"{key} {n}\n" for key, n in zip(self.keys, counts))
        (self.directory / name).write_text(text)

    def sort_command(self):
        """GNU sort at its best. Up to 64 files in one pass; more at a time are slower, because it keeps the files in an
        array that is moved for each item: 4,096 in one pass took 200 s of CPU for a million items, in two passes 0.9 s."""
        return ["sort", "-m", "-s", f"--batch-size={min(64, max(16, self.lists))}", "-T", self.directory, *self.order, *self.files]

    def drop(self):
        if self.server:
            self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Shelf:
    """All datasets of a run. What no later workload needs is dropped, so that memory holds no more than it must."""

    def __init__(self, directory, seed):
        self.directory, self.seed = directory, seed
        self.datasets, self.uses = {}, {}

    def will_need(self, spec):
        self.uses[spec] = self.uses.get(spec, 0) + 1

    def take(self, spec):
        if spec not in self.datasets:
            self.datasets[spec] = Dataset(self.directory, *spec, self.seed)
        return self.datasets[spec]

    def put_back(self, spec):
        self.uses[spec] -= 1
        if self.uses[spec] == 0 and spec in self.datasets:
            self.datasets.pop(spec).drop()

    def close(self):
        for dataset in self.datasets.values():
            dataset.drop()
