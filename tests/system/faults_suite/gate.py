"""A gate between a program and its server that knows where commands begin and end.

It counts the commands that pass and, at the one a strike names, does something: before the command is passed on, with half of
it passed on, right behind it, or instead of it, with an answer of the gate's own. That is how "at every batch border" and
"at 50 points spread over a load" are exact on any machine, however fast or busy.
"""
import contextlib
import selectors
import socket
import time

PHASES = ("before", "half", "after")
DRAIN_S = 5
STUCK_S = 3  # a server that takes nothing for so long is given up


class Strike:
    """at: which command, from 1 (0: none). only: just commands with this name count. action is called once, or, with `answer`,
    that is sent back instead of passing the command on. again: the same from there on, for every command that counts."""

    def __init__(self, at=0, phase="before", action=None, only=None, answer=None, again=False):
        self.at, self.phase, self.action, self.only, self.answer, self.again = at, phase, action, only, answer, again


class Link:
    def __init__(self, client, server):
        self.client, self.server, self.buffer = client, server, bytearray()
        self.pending = bytearray()  # for the client, which may not read one connection while it waits for another
        self.ended = False  # the server has hung up; what is pending is still delivered


def command_end(data):
    """Where the command at the start of data ends, or 0 while it is not whole."""
    at = data.find(b"\r\n")
    if at < 0:
        return 0
    words = int(data[1:at])
    at += 2
    for _ in range(words):
        end = data.find(b"\r\n", at)
        if end < 0:
            return 0
        at = end + 2 + int(data[at + 1:end]) + 2
    return at if at <= len(data) else 0


def command_name(command):
    return bytes(command.split(b"\r\n", 3)[2]).upper().decode("latin-1")


class Gate:
    def __init__(self, directory, server, strike=None):
        self.path = directory / "gate.sock"
        self.url = f"unix://{self.path}"
        self.server, self.strike, self.seen, self.struck = server, strike or Strike(), 0, 0
        self.links = []
        self.selector = selectors.DefaultSelector()
        self.listener = None
        self.open()

    def open(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        self.selector.register(self.listener, selectors.EVENT_READ, None)

    def shut(self):
        """Nobody can connect, as while a server is down."""
        self.selector.unregister(self.listener)
        self.listener.close()
        self.path.unlink()

    def reopen(self):
        """Who was connected is cut off; new ones are let in again."""
        for link in list(self.links):
            self._end(link)
        self.open()

    def close(self):
        for link in list(self.links):
            self._end(link)
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.shut()
        self.selector.close()

    def serve(self, program, bound, then=None):
        """Passes everything on until the program has ended, calls then(), and passes on what the program still had sent."""
        self.selector.register(program.pidfd, selectors.EVENT_READ, program)
        deadline = program.began + bound
        while time.monotonic() < deadline and not self._turn(program, deadline - time.monotonic()):
            pass
        self.selector.unregister(program.pidfd)
        if then:
            then()
        self._drain()

    def _turn(self, program, seconds):
        over = False
        for key, events in self.selector.select(seconds):
            if key.data is program:
                over = True
            elif key.data is None:
                self._accept()
            elif key.data in self.links and events & selectors.EVENT_WRITE:
                self._deliver(key.data)
            elif key.data in self.links:
                self._pass(key.data, key.fileobj)
        return over

    def _accept(self):
        try:
            client = self.listener.accept()[0]
        except OSError:
            return
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self.server.socket))
        except OSError:
            client.close()
            return
        link = Link(client, server)
        self.links.append(link)
        server.settimeout(STUCK_S)
        client.setblocking(False)
        for s in (client, server):
            self.selector.register(s, selectors.EVENT_READ, link)

    def _pass(self, link, source):
        try:
            data = source.recv(1 << 18)
            if source is link.server:
                self._downward(link, data)
            elif data:
                self._upward(link, data)
            else:
                self._end(link)
        except OSError:
            self._end(link)

    def _downward(self, link, data):
        if not data:
            link.ended = True
            self.selector.unregister(link.server)
        link.pending += data
        self._deliver(link)

    def _deliver(self, link):
        """As much as the client takes now."""
        try:
            if link.pending:
                sent = link.client.send(link.pending, socket.MSG_NOSIGNAL)
                del link.pending[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._end(link)
            return
        if link.ended and not link.pending:
            self._end(link)
            return
        self.selector.modify(link.client, selectors.EVENT_READ | (selectors.EVENT_WRITE if link.pending else 0), link)

    def _upward(self, link, data):
        link.buffer += data
        while link in self.links:
            end = command_end(link.buffer)
            if not end:
                return
            command = bytes(link.buffer[:end])
            del link.buffer[:end]
            self._command(link, command)

    def _command(self, link, command):
        s = self.strike
        if s.only and command_name(command) != s.only:
            link.server.sendall(command)
            return
        self.seen += 1
        if self.seen != s.at and not (s.again and self.seen > s.at):
            link.server.sendall(command)
            return
        self.struck += 1
        if s.answer is not None:
            self._downward(link, s.answer)
            return
        cut = {"before": 0, "half": len(command) // 2, "after": len(command)}[s.phase]
        link.server.sendall(command[:cut])
        s.action()
        if link in self.links:
            link.server.sendall(command[cut:])

    def _drain(self):
        """What the program sent before it ended reaches the server, as it would without a gate; the server then hangs up."""
        for link in list(self.links):
            with contextlib.suppress(OSError):
                link.client.setblocking(False)
                while data := link.client.recv(1 << 18):
                    link.buffer += data
            with contextlib.suppress(OSError):
                link.server.settimeout(DRAIN_S)
                link.server.sendall(link.buffer)
                link.server.shutdown(socket.SHUT_WR)
                while link.server.recv(1 << 18):
                    pass
            self._end(link)

    def _end(self, link):
        if link not in self.links:
            return
        self.links.remove(link)
        for s in (link.client, link.server):
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(s)
            s.close()
