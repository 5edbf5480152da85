"""What the benchmark runs on: a scratch directory, private servers, the delaying proxy, and measured commands."""
import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", "build")).resolve()
TOOLS = BUILD / "tests" / "bench"
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Failure(Exception):
    """Something that makes figures meaningless; ends the run."""


def environment():
    """What every command gets: bytes order, and no setting of the user's."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NWM_") and k != "REDISCLI_AUTH"}
    env.update(LC_ALL="C", NWM_CONFIG="/dev/null")
    return env


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def scratch(need):
    """A directory for data, outputs and sockets, in memory where there is room: then no disk is measured."""
    for base in ("/dev/shm", os.environ.get("TMPDIR", "/tmp")):
        if os.access(base, os.W_OK) and shutil.disk_usage(base).free >= need:
            break
    else:
        raise Failure(f"no {need >> 20} MB free in /dev/shm or {base} (TMPDIR)")
    path = pathlib.Path(tempfile.mkdtemp(prefix="nwm-bench.", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def memory_available():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


# ---- servers ---------------------------------------------------------------------------------------------------------

class Resp:
    """One connection to a server: just enough of the protocol to ask it about itself."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        words = [str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"-" or not line:
            raise Failure(f"the private server answered {rest.decode() or 'nothing'}")
        return rest

    def close(self):
        self.file.close()
        self.socket.close()


class Process:
    """Something in the background that ends with us."""

    def __init__(self, command, log, ready):
        with open(log, "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment(),
                                            preexec_fn=die_with_parent)
        deadline = time.monotonic() + 20
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Failure(f"{command[0]} did not start: {pathlib.Path(log).read_text()[-500:]}")
            time.sleep(0.01)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def listens(path):
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(path))
        return True
    except OSError:
        return False


class Server(Process):
    """A private redis-server on a unix socket, as the demo and the tests use it."""

    def __init__(self, directory):
        directory.mkdir()
        self.directory = directory
        self.socket = directory / "redis.sock"
        name = shutil.which("redis-server") or shutil.which("valkey-server")
        super().__init__([name, SOURCE / "config/redis.conf", "--unixsocket", self.socket, "--dir", directory],
                         directory / "redis.log", lambda: listens(self.socket))
        self.resp = Resp(self.socket)

    def stop(self):
        super().stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, *words):
        return self.resp.ask(*words)

    def cpu(self):
        """Seconds this server has worked, in all its threads."""
        info = dict(line.split(":", 1) for line in self.ask("INFO", "cpu").decode().split("\r\n") if ":" in line)
        return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])

    def forget_peak(self):
        with contextlib.suppress(OSError):
            pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        return 0


class Proxy(Process):
    """The delaying proxy in front of a server."""

    def __init__(self, directory, server, rtt_ms):
        self.socket = directory / f"proxy-{rtt_ms}.sock"
        super().__init__([TOOLS / "delay_proxy", self.socket, server.socket, str(int(rtt_ms * 1000))],
                         directory / f"proxy-{rtt_ms}.log", lambda: listens(self.socket))

    def stop(self):
        super().stop()
        self.socket.unlink(missing_ok=True)


# ---- measured commands -----------------------------------------------------------------------------------------------

class Sample:
    """One run: seconds, and the peak resident memory of the largest process of the client and of the server in KiB."""

    def __init__(self, wall, cpu, rss, server_cpu, server_rss):
        self.wall, self.cpu, self.rss, self.server_cpu, self.server_rss = wall, cpu, rss, server_cpu, server_rss


def measure(commands, server, output, stdin=None):
    """Runs commands side by side, standard output into a file; a Failure unless all of them end with 0. A file that exists is
    written over and not cut: its pages are there already."""
    words = [str(w) for i, c in enumerate(commands) for w in (["+"] if i else []) + list(c)]
    output = pathlib.Path(output)
    output.touch()
    errors = output.with_suffix(".err")
    if server:
        server.forget_peak()
    cpu = server.cpu() if server else 0
    report, tell = os.pipe()
    with open(stdin or os.devnull, "rb") as given, open(output, "r+b") as out, open(errors, "wb") as err:
        process = subprocess.Popen([TOOLS / "measure", str(tell), *words], stdin=given, stdout=out, stderr=err,
                                   env=environment(), pass_fds=[tell], cwd=output.parent)
        os.close(tell)
        with open(report, "rb") as said:
            line = said.read().split()
        process.wait()
    if len(line) != 5 or line[0] != b"0":
        raise Failure(f"{' '.join(words[:12])} … ended with {line[0].decode() if line else 'nothing'}:\n"
                      + errors.read_text(errors="replace")[-1000:])
    _, wall, user, system, rss = map(int, line)
    return Sample(wall / 1e9, (user + system) / 1e6, rss, server.cpu() - cpu if server else 0, server.peak() if server else 0)


def same(a, b):
    return subprocess.run(["cmp", "-s", a, b]).returncode == 0


def median(values):
    return statistics.median(values)
