"""A Redis of our own that misbehaves on demand: a real server, a child on a port of the loopback.

    with RedisServer() as redis:
        ...talk to redis.url...
        redis.pause(30)                 # or sleep: it ends by itself
        redis.freeze(); redis.thaw()    # or kill and start, which is empty as after flush
        with redis.read_only(): ...     # or full: well again after the block

A `Lossy` before its port makes the way to it late, broken or a black hole.
"""

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness import until
from tests.ports import free_port

NOWHERE = 1  # a port where no Redis listens
PATIENCE = 20.0  # seconds for a start, or for the answer to a control


class RedisServer:
    """Keeps nothing on disk, so it comes back empty; it comes back at the same port."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._unanswered: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self.port = free_port()
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once it answers."""
        log = Path(self._folder.name) / "log"
        options = {
            "bind": "127.0.0.1", "port": self.port, "dir": self._folder.name, "logfile": log, "save": "",
            "appendonly": "no", "enable-debug-command": "local",
        }  # fmt: skip
        argv = ["redis-server", *(str(word) for name, value in options.items() for word in (f"--{name}", value))]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in until(PATIENCE, "Redis to answer"):
            assert self._process.poll() is None, log.read_text()
            try:
                if self.tell("PING") == "+PONG":
                    return
            except ConnectionError:
                continue

    def kill(self) -> None:
        """As by the kernel: no farewell, everything forgotten. Safe to repeat, and in every state."""
        for sock in self._unanswered:
            sock.close()
        self._unanswered.clear()
        if self._process is not None:
            self._process.kill()  # which a stopped process obeys, too
            self._process.wait()

    # --- silence

    def pause(self, seconds: float) -> None:
        """No command of anybody is answered for so long; not even one that ends it."""
        assert self.tell("CLIENT", "PAUSE", f"{seconds * 1000:.0f}", "ALL") == "+OK"

    def sleep(self, seconds: float) -> None:
        """Its only thread does nothing else for so long, as in a slow command."""
        self._unanswered.append(self._send("DEBUG", "SLEEP", str(seconds)))

    def freeze(self) -> None:
        """Stopped by a signal: the kernel still accepts connections, and bytes, for it."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    # --- loss and refusal

    def flush(self) -> None:
        assert self.tell("FLUSHALL") == "+OK"

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """A replica whose master is nowhere, as after a failover that chose another: it answers what is read."""
        assert self.tell("REPLICAOF", "127.0.0.1", str(NOWHERE)) == "+OK"
        try:
            yield
        finally:
            assert self.tell("REPLICAOF", "NO", "ONE") == "+OK"

    @contextmanager
    def full(self) -> Iterator[None]:
        """Its memory is used up, and it may throw nothing away."""
        assert self.tell("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1") == "+OK"
        try:
            yield
        finally:
            assert self.tell("CONFIG", "SET", "maxmemory", "0") == "+OK"

    # --- its protocol, as far as a control needs it: not by the client under test

    def tell(self, *words: str) -> str:
        """The first line of its answer."""
        with self._send(*words) as sock, sock.makefile("rb") as lines:
            line = lines.readline()
        if not line:
            raise ConnectionResetError("Redis closed the connection")
        return line.decode().rstrip()

    def _send(self, *words: str) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        parts = [f"*{len(words)}", *(part for word in words for part in (f"${len(word.encode())}", word)), ""]
        sock.sendall("\r\n".join(parts).encode())
        return sock
