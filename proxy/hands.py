"""A worker process: the supervisor's hand on it, and what runs at the other end of the line."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from dataclasses import replace
from typing import Any

import structlog

from proxy.channel import Channel, Message, Refused
from proxy.config.disk import Answers
from proxy.config.load import load
from proxy.errors import ConfigError
from proxy.life import Life
from proxy.listener import GOODBYE
from proxy.meter.cells import State
from proxy.meter.families import INFLIGHT
from proxy.process import run
from proxy.runtime import Snapshot
from proxy.settled import Sink
from proxy.tasks import Tasks
from proxy.worker import Worker

log = structlog.get_logger("pointsman")

READY = 60.0  # seconds a worker may take to be ready: importing LiteLLM takes ten on a slow machine
ANSWER = 5.0  # seconds a worker may take to report its counters
COLLECT = 1.0  # seconds between collections of them: what a killed worker may lose
LOOK = 0.25  # seconds between looks for their answer
HANGS = 14  # looks without an answer, each of them on time, after which a worker counts as stuck: 3.5 seconds
ORPHANED = 20.0  # seconds that requests may take to finish once the supervisor is gone

# As multiprocessing does it: the child finds the same code, whatever folder it was started in.
MAIN = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from proxy.hands import main; main(*sys.argv[2:])"


class Hand:
    """The supervisor's hand on one worker process."""

    def __init__(self, path: str, sock: socket.socket, tasks: Tasks, workers: int) -> None:
        self._path = path  # for messages, and what is relative to it
        self._workers = workers
        self._sock = sock
        self._tasks = tasks
        self._channel: Channel | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.falls = 0  # how often its predecessors ended early, one after the other
        self.leaving = False  # told to end: it will not be replaced
        self.is_stuck = False  # its event loop does not come round
        self.last: State = {}  # its counters when last asked

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def in_flight(self) -> int:
        """Requests that it was serving when last asked: what is lost with it, give or take those of a second."""
        return int(sum(value for _, value in self.last.get(INFLIGHT.name, ())))

    async def start(self, snapshot: Snapshot) -> None:
        """Start the process, wait until it serves this. Raises `Refused`, or OSError if it ends or takes too long."""
        ours, theirs = socket.socketpair()
        with theirs:
            fds = (self._sock.fileno(), theirs.fileno())
            isolation = "-I" if sys.flags.isolated else "-P"  # as we were started; never the folder it is run in
            # A session of its own: Ctrl-C in a terminal is for the supervisor alone.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, isolation, "-c", MAIN, json.dumps(sys.path), self._path, *map(str, fds)),
                pass_fds=fds,
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
            )
        self._channel = Channel(ours, _nothing, self._tasks)
        await self._channel.open()
        await self.ask("start", workers=self._workers, answers=snapshot.answers)

    async def prepare(self, snapshot: Snapshot) -> None:
        """Load it, to be swapped in by `swap`. Raises `Refused` or OSError."""
        await self.ask("prepare", answers=snapshot.answers)

    async def swap(self) -> None:
        await self.ask("swap")

    async def ask(self, do: str, seconds: float = READY, **values: object) -> Any:
        """Raises `Refused`, or OSError if it ends or says nothing for so long."""
        assert self._channel is not None
        return await asyncio.wait_for(self._channel.ask(do, **values), seconds)

    async def state(self) -> State:
        """Its counters; the last known ones when it cannot say."""
        assert self._channel is not None
        if not self._channel.closed.is_set():
            try:
                self.last = await self.ask("state", ANSWER)
            except (OSError, Refused):
                log.warning("a worker did not report its counters", pid=self.pid)
        return self.last

    async def watch(self) -> None:
        """Collect its counters each second until it is gone, or answers no more.

        Looks that come late do not count: on a machine that is merely busy we are late ourselves, as is the worker.
        """
        assert self._channel is not None
        loop = asyncio.get_running_loop()
        while not self._channel.closed.is_set():
            asking = self._tasks.spawn(self.state(), name=f"counters of worker {self.pid}")
            silent = 0
            while not asking.done():
                due = loop.time() + LOOK
                await asyncio.wait((asking,), timeout=LOOK)
                silent += loop.time() < due + LOOK
                if silent >= HANGS:
                    self.is_stuck = True
                    asking.cancel()
                    return
            await asyncio.sleep(COLLECT)

    async def drain(self, announce: float, limit: float) -> None:
        """Have it finish and end, and keep its last counters; killed if it takes much longer than it may."""
        longest = announce + limit + 3 * GOODBYE
        try:
            self.last = await self.ask("drain", longest, announce=announce, limit=limit)
            await asyncio.wait_for(self.ended(), GOODBYE)
        except (OSError, Refused) as error:
            log.error("a worker did not end well", pid=self.pid, error=str(error) or "it took too long")
            self.kill()
            await self.ended()

    async def hurry(self) -> None:
        """Cut short the drain that it was told of."""
        with contextlib.suppress(OSError, Refused):  # it has just ended, or hangs: whoever drains it sees to that
            await self.ask("hurry", ANSWER)

    async def ended(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


async def _nothing(_: Message) -> None:
    return None


def main(path: str, listener: str, line: str) -> None:
    """A worker process on inherited descriptors: the supervisor's command, not a person's."""
    sock, channel = socket.socket(fileno=int(listener)), socket.socket(fileno=int(line))
    sock.setblocking(False)
    sys.exit(run(lambda access: Process(path, sock, channel, access).run(), is_shared=True))


class Process:
    """A worker process from inside: does what the supervisor says until it says drain, or is gone.

    What it serves is what the supervisor has loaded and accepted: not what the files hold, which may have changed.
    """

    _worker: Worker
    _prepared: Snapshot | None = None

    def __init__(self, path: str, sock: socket.socket, line: socket.socket, access: Sink) -> None:
        self._path = path
        self._sock = sock
        self._access = access
        self._tasks = Tasks()
        self._channel = Channel(line, self._answer, self._tasks)
        self._drained = asyncio.Event()

    async def run(self) -> int:
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
            asyncio.get_running_loop().add_signal_handler(name, _leave_it_to_the_supervisor)
        await self._channel.open()
        ends = [self._tasks.spawn(event.wait(), name="end") for event in (self._channel.closed, self._drained)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._prepared is not None and not self._drained.is_set():
            log.warning("the supervisor is gone: finishing what runs")
            limit = min(ORPHANED, self._prepared.server.drain)
            drain = self._tasks.spawn(self._worker.drain(0.0, limit), name="drain")
            await asyncio.wait((drain,), timeout=limit + 3 * GOODBYE)
        await self._channel.close()
        await self._tasks.close()
        return 0

    async def _answer(self, message: Message) -> object:
        match message["do"]:
            case "start":
                self._prepared = await self._load(message["answers"])
                self._worker = Worker(self._prepared, self._sock, self._access, Life())
                await self._worker.start(message["workers"])
            case "prepare":
                snapshot = await self._load(message["answers"])
                await self._worker.prepare(snapshot)
                self._prepared = snapshot
            case "swap":
                assert self._prepared is not None
                self._worker.swap(self._prepared)
            case "state":
                return await self._worker.state()
            case "drain":
                await self._worker.drain(message["announce"], message["limit"])
                self._drained.set()
                return await self._worker.state()
            case "hurry":
                self._worker.hurry()
        return None

    async def _load(self, answers: Answers) -> Snapshot:
        loaded = await asyncio.to_thread(load, self._path, answers=answers)
        if loaded.snapshot is None:
            raise ConfigError("\n".join(map(str, loaded.problems)))
        return replace(loaded.snapshot, answers={})  # which only the supervisor passes on


def _leave_it_to_the_supervisor() -> None:
    """Signals reach whole groups of processes; what is to be done comes over the line."""
