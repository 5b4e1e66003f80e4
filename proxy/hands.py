"""Workers as the supervisor sees them: in its own process, or in one of their own at the end of a line."""

import asyncio
import signal
import socket
import sys
from typing import Protocol

import structlog

from proxy.channel import Channel
from proxy.meter.cells import State
from proxy.runtime import Snapshot
from proxy.settled import Sink
from proxy.tasks import Tasks
from proxy.worker import Worker

log = structlog.get_logger("pointsman")

READY_TIMEOUT = 60.0  # seconds a worker may take to be ready: importing LiteLLM takes ten on a slow machine


class Hand(Protocol):
    """A worker as the supervisor sees it, wherever it runs."""

    async def start(self) -> None: ...
    async def reload(self) -> str: ...
    async def collect(self) -> State: ...
    async def drain(self, announce: float, limit: float) -> None: ...


class Local:
    """The one worker of this process."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    async def start(self) -> None:
        await self.worker.start()

    async def reload(self) -> str:
        return (await self.worker.reload()).hash

    async def collect(self) -> State:
        return self.worker.state()

    async def drain(self, announce: float, limit: float) -> None:
        await self.worker.drain(announce, limit)


class Remote:
    """A worker in a process of its own."""

    def __init__(self, path: str, listener: socket.socket, tasks: Tasks) -> None:
        self._path = path
        self._listener = listener
        self._tasks = tasks
        self._channel: Channel | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.last: State = {}  # its counters when last asked

    async def start(self) -> None:
        """Start the process and wait until it serves. Raises ConnectionError or TimeoutError if it does not."""
        ours, theirs = socket.socketpair()
        with theirs:
            fds = (self._listener.fileno(), theirs.fileno())
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "proxy", "worker", self._path, *map(str, fds)), pass_fds=fds
            )
        self._channel = Channel(ours, self._nothing)
        self._tasks.spawn(self._channel.run(), name=f"channel to worker {self.process.pid}")
        await asyncio.sleep(0)
        await asyncio.wait_for(self._channel.ask("start"), READY_TIMEOUT)

    async def _nothing(self, message: object) -> None:
        return None

    async def reload(self) -> str:
        assert self._channel is not None
        return str(await self._channel.ask("reload"))

    async def collect(self) -> State:
        if self._channel is not None and not self._channel.closed.is_set():
            try:
                self.last = await asyncio.wait_for(self._channel.ask("state"), 5.0)
            except (ConnectionError, TimeoutError):
                log.warning("a worker did not report its counters", pid=self.pid)
        return self.last

    async def drain(self, announce: float, limit: float) -> None:
        if self._channel is None or self.process is None:
            return
        try:
            self.last = await self._channel.ask("drain", announce=announce, limit=limit)
        except ConnectionError:
            log.warning("a worker ended before it had drained", pid=self.pid)
        await self.process.wait()

    async def ended(self) -> int:
        assert self.process is not None
        return await self.process.wait()

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None


async def serve_remote(
    path: str, snapshot: Snapshot, listener: socket.socket, line: socket.socket, access: Sink
) -> int:
    """A worker process's main: do what the supervisor says until it goes, or says drain."""
    worker = Worker(path, snapshot, listener, access)
    done = asyncio.Event()

    async def answer(message: dict[str, object]) -> object:
        match message["do"]:
            case "start":
                await worker.start()
                return snapshot.hash
            case "reload":
                return (await worker.reload()).hash
            case "state":
                return worker.state()
            case "drain":
                await worker.drain(float(str(message["announce"])), float(str(message["limit"])))
                asyncio.get_running_loop().call_later(0.05, done.set)
                return worker.state()
        return None

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        asyncio.get_running_loop().add_signal_handler(name, lambda: None)  # the supervisor decides, over the line
    channel = Channel(line, answer)
    running = worker.tasks.spawn(channel.run(), name="channel to the supervisor")
    await asyncio.wait(
        {running, worker.tasks.spawn(done.wait(), name="drained")}, return_when=asyncio.FIRST_COMPLETED
    )
    if not done.is_set():  # the supervisor is gone: nobody will ever say drain
        await worker.drain(0.0, snapshot.server.drain)
    return 0
