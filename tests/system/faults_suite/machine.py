"""What the suite runs on: private servers, the two programs under a bound, and the proxy that breaks connections."""
import contextlib
import ctypes
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import time

SOURCE = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("BUILD", "build")).resolve()
TOOLS = BUILD / "tests" / "system"
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
START_S = 30  # a server that takes longer to start is broken
CHILDREN_END = 2  # seconds; children end with their parent, but not in the same moment


class Broken(Exception):
    """The suite itself cannot go on: no server, no program."""


def environment(**more):
    """What every process gets: bytes order, and no setting of the user's."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NWM_") and k not in ("REDISCLI_AUTH", "LD_PRELOAD")}
    env.update(LC_ALL="C", NWM_CONFIG="/dev/null", ASAN_OPTIONS="verify_asan_link_order=0:" + env.get("ASAN_OPTIONS", ""))
    env.update(more)
    return env


def is_sanitized():
    """Sanitizers bring their own malloc, and need more descriptors and time."""
    with contextlib.suppress(OSError):
        return "-fsanitize" in (BUILD / "flags").read_text()
    return False


def spawn(command, limits=(), **how):
    """A process in a session of its own that dies with us. limits: pairs for setrlimit."""
    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for what, most in limits:
            resource.setrlimit(what, (most, most))
    how.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen([str(w) for w in command], preexec_fn=prepare, start_new_session=True, **how)


def wait_for(condition, seconds=10.0):
    """Looks again and again; False when the time is over."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return True


# ---- servers ---------------------------------------------------------------------------------------------------------

class ServerError(Exception):
    """The server answered with an error."""


class Resp:
    """One connection to a server, with just enough of the protocol."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(START_S)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        self.socket.sendall(encode(words))
        return self.reply()

    def ask_many(self, commands):
        """All at once; errors come back as values."""
        self.socket.sendall(b"".join(encode(c) for c in commands))
        return [self.reply(as_value=True) for _ in commands]

    def reply(self, as_value=False):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.reply(True) for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        if not line:
            raise ConnectionError("the server closed the connection")
        error = ServerError(rest.decode("utf-8", "replace"))
        if as_value:
            return error
        raise error

    def close(self):
        self.file.close()
        self.socket.close()


def encode(words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def server_binary():
    name = shutil.which("redis-server") or shutil.which("valkey-server")
    if not name:
        raise Broken("neither redis-server nor valkey-server is installed")
    return name


def server_version():
    text = subprocess.run([server_binary(), "--version"], capture_output=True, text=True).stdout
    return tuple(int(n) for n in re.search(r"v=(\d+)\.(\d+)", text).groups())


class Server:
    """A private redis-server on a unix socket. With aof, what it acknowledged survives kill()."""

    def __init__(self, directory, aof=False):
        self.directory, self.aof = directory, aof
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        directory.mkdir()
        self.process = self.resp = None
        self.start()

    def start(self):
        words = [server_binary(), SOURCE / "config/redis.conf", "--unixsocket", self.socket, "--dir", self.directory]
        if self.aof:
            words += ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        if server_version() >= (7, 0):
            words += ["--enable-debug-command", "yes"]
        with open(self.directory / "redis.log", "ab") as log:
            self.process = spawn(words, stdout=log, stderr=log, env=environment())
        if not wait_for(self._answers, START_S):
            raise Broken("redis-server did not start: " + (self.directory / "redis.log").read_text()[-500:])

    def _answers(self):
        if self.process.poll() is not None:
            raise Broken("redis-server ended: " + (self.directory / "redis.log").read_text()[-500:])
        try:
            resp = Resp(self.socket)
        except OSError:
            return False
        try:
            resp.ask("PING")
        except (ServerError, OSError):  # -LOADING
            resp.close()
            return False
        self.resp = resp
        return True

    def ask(self, *words):
        return self.resp.ask(*words)

    def kill(self):
        """As a power cut would: SIGKILL, nothing is flushed."""
        self.process.kill()
        self.process.wait()
        self.resp.close()
        with contextlib.suppress(OSError):
            self.socket.unlink()

    def restart(self):
        self.kill()
        self.start()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def is_quiet(self):
        """Nobody is connected but us: what others sent has been done."""
        return len(self.ask("CLIENT", "LIST").split(b"\n")) <= 2

    def settle(self):
        wait_for(self.is_quiet, 5)


class Proxy:
    """tests/system/tool_proxy in front of a server, with faults of its command line."""

    def __init__(self, directory, server, *faults):
        self.socket = directory / "proxy.sock"
        self.url = f"unix://{self.socket}"
        self.process = spawn([TOOLS / "tool_proxy", "--listen", f"unix:{self.socket}", "--to", f"unix:{server.socket}", *faults],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
        if self.process.stdout.readline() != "ready\n":
            raise Broken("tool_proxy did not start")

    def stop(self):
        """How many connections there were."""
        self.process.terminate()
        said = self.process.communicate()[0]
        with contextlib.suppress(OSError):
            self.socket.unlink()
        return int(said.split()[0]) if said else 0


# ---- the programs ----------------------------------------------------------------------------------------------------

FAULT = re.compile(r"^nwm-(?:worker|merger): (?:.*?: )?([A-Z][A-Za-z]+)(?:: |$)", re.M)


class Run:
    """How a program ended: its code (-N: by signal N), what it said, how long it took."""

    def __init__(self, argv, code, err, seconds, left_over):
        self.argv, self.code, self.err, self.seconds, self.left_over = argv, code, err, seconds, left_over
        self.early = False  # struck when main may not have begun yet

    def faults(self):
        return FAULT.findall(self.err)


class TooLong(Exception):
    """A program went on beyond its bound."""

    def __init__(self, argv, seconds):
        super().__init__(f"{argv[0].name} {' '.join(map(str, argv[1:]))} still ran after {seconds:.0f} s")


class Program:
    """nwm-worker or nwm-merger, running. env: more of the environment; shim and plan: what LD_PRELOAD breaks."""

    def __init__(self, argv, directory, out=None, stdin=subprocess.DEVNULL, limits=(), shim=None, plan="", **env):
        self.argv = argv
        if shim:
            env.update(LD_PRELOAD=str(TOOLS / f"{shim}.so"), NWM_SHIM=plan)
        self.err = directory / f"{argv[0].name}.err"
        with contextlib.ExitStack() as stack:
            err = stack.enter_context(open(self.err, "wb"))
            if out is None or isinstance(out, (str, pathlib.Path)):
                out = stack.enter_context(open(out or os.devnull, "wb"))
            self.began = time.monotonic()
            self.process = spawn(argv, limits, stdin=stdin, stdout=out, stderr=err, cwd=directory, env=environment(**env))
        self.pidfd = os.pidfd_open(self.process.pid)

    def signal(self, number):
        if self.process.returncode is None:
            self.process.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)

    def catches(self, number):
        """Has it got as far as handling this signal? On a busy machine main may not have begun."""
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
        return False

    def is_over(self, seconds=0.0):
        return bool(select.select([self.pidfd], [], [], seconds)[0])

    def finish(self, bound):
        """Waits; TooLong when it takes more than `bound` seconds."""
        over = self.is_over(max(0.0, bound - (time.monotonic() - self.began)))
        seconds = time.monotonic() - self.began
        if not over:
            self.kill()
        code = self.process.wait()
        os.close(self.pidfd)
        left_over = self._end_group()
        if not over:
            raise TooLong(self.argv, seconds)
        return Run(self.argv, code, self.err.read_text(errors="replace"), seconds, left_over)

    def _end_group(self):
        """True when it left children behind; they are ended. A leak checker's, that looked at it when it was killed, ends by itself."""
        until = time.monotonic() + CHILDREN_END
        while time.monotonic() < until:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return True
