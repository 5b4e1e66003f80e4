"""The supervisor: signals, reloads, the admin listener, and the workers.

One worker runs here, in this process. Several are a `Crew` in processes of their own; nothing else differs.
"""

import asyncio
import os
import signal
import socket
from dataclasses import dataclass
from typing import Protocol

import structlog

from proxy.admin import application
from proxy.config.load import Loaded, load
from proxy.config.problems import Problem, has_errors
from proxy.config.watch import changes
from proxy.crew import Crew
from proxy.errors import ConfigError
from proxy.life import Life
from proxy.listener import GOODBYE, Listener, asgi, is_loopback
from proxy.meter.cells import State
from proxy.meter.metrics import Meters
from proxy.runtime import Server, Snapshot
from proxy.settled import Sink
from proxy.tasks import Tasks
from proxy.worker import Worker

log = structlog.get_logger("pointsman")


class Serving(Protocol):
    """A worker, or several as one."""

    @property
    def meters(self) -> Meters: ...
    async def start(self) -> None: ...
    async def use(self, snapshot: Snapshot) -> None: ...
    async def replace(self) -> None: ...
    async def state(self) -> State: ...
    async def drain(self, announce: float, limit: float) -> None: ...
    def hurry(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a reload: the hash now served, and all that was said of the files."""

    is_ok: bool
    hash: str
    problems: tuple[Problem, ...]


class Supervisor:
    """Runs until a signal ends it; returns the process's exit code."""

    def __init__(
        self,
        path: str,
        loaded: Loaded,
        data: socket.socket,
        admin: socket.socket | None,
        workers: int,
        access: Sink,
    ) -> None:
        assert loaded.snapshot is not None
        self.snapshot = loaded.snapshot
        self.life = Life()
        self._path = path
        self._files = loaded.files
        self._changes = changes(lambda: self._files)  # against what was loaded, however long the start takes
        self._is_private = is_loopback(data)
        self._tasks = Tasks()
        self._admin = Listener(asgi(application(self)), admin, self._tasks) if admin is not None else None
        self._serving: Serving = (
            Worker(self.snapshot, data, access, self.life)
            if workers == 1
            else Crew(path, self.snapshot, data, workers, self.life)
        )
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._has_started = False
        self._announce: float | None = None
        self._changing = asyncio.Lock()  # one reload or replacement at a time

    # --- life

    async def run(self) -> int:
        self._handle_signals()
        if self._admin is not None:
            await self._admin.start()
        stopping = self._tasks.spawn(self._stop.wait(), name="stop")
        starting = self._tasks.spawn(self._start(), name="start")
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        code = 0
        if not starting.done():
            starting.cancel()  # stopped while it started: nothing runs that could finish
        elif (why := starting.result()) is not None:
            log.error("cannot serve", error=why)
            code = 1
        else:
            self._has_started = True
            log.info("ready", config=self.snapshot.hash)
            self._tasks.spawn(self._watch(), name="watch the config")
            await stopping
            code = await self._drain()
        self._serving.kill()
        if self._admin is not None:
            await self._admin.stop(0.0)
        await self._tasks.close()
        return code

    async def _start(self) -> str | None:
        """Returns once requests are served, or with the reason why they cannot be."""
        try:
            async with self._changing:  # a reload must wait for workers: only they can judge all of a config
                await self._serving.start()
        except ConfigError as error:
            return error.message
        return None

    async def _drain(self) -> int:
        """Returns the exit code: 1 if a second signal cut it short."""
        server = self.snapshot.server
        announce = server.announce if self._announce is None else self._announce
        log.info("draining", announce_s=announce, limit_s=server.drain)
        draining = self._tasks.spawn(self._serving.drain(announce, server.drain), name="drain")
        hurried = self._tasks.spawn(self._hurry.wait(), name="second signal")
        await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
        if draining.done():
            if draining.cancelled() or draining.exception() is not None:
                return 1  # a defect of ours, which is in the log
            log.info("drained")
            return 0
        log.warning("a second signal: what runs is cut and booked")
        self._serving.hurry()
        await asyncio.wait((draining,), timeout=2 * GOODBYE)
        return 1

    # --- signals

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop, 0.0)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._tasks.spawn(self.reload(), name="reload on SIGHUP"))
        loop.add_signal_handler(signal.SIGUSR2, lambda: self._tasks.spawn(self.replace(), name="replace on SIGUSR2"))

    def stop(self, announce: float | None = None) -> None:
        """Drain and end; a second word cuts what runs, a third ends at once. `announce`: seconds, for config's."""
        if not self._stop.is_set():
            self._announce = announce
            self._stop.set()
        elif not self._hurry.is_set() and self._has_started:
            self._hurry.set()
        else:  # once more, or while it only starts
            self._serving.kill()
            os.write(2, b"pointsman: ended at once by a further signal\n")
            os._exit(1)

    async def replace(self) -> None:
        """Replace the workers one by one; those that cannot be replaced go on."""
        async with self._changing:
            try:
                await self._serving.replace()
            except ConfigError as error:
                log.error("workers were not replaced", error=error.message)

    # --- config

    async def _watch(self) -> None:
        async for _ in self._changes:
            try:
                await self.reload()
            except Exception as error:  # a defect of ours in one reload must not end the watch for all later ones
                log.error("defect: the config was not reloaded", exc_info=error)

    async def reload(self) -> Reloaded:
        """Read the config; if it is good, swap it in everywhere. A bad one changes nothing but a metric."""
        async with self._changing:
            loaded = await asyncio.to_thread(load, self._path)
            self._files = loaded.files  # also of a bad one: any of them may be mended
            problems = [*loaded.problems]
            fresh = loaded.snapshot
            if fresh is not None:
                problems += await self._use(fresh)
            refused = has_errors(problems)
            self._serving.meters.reloaded(not refused)
            for problem in problems:
                (log.error if problem.severity == "error" else log.warning)("config", problem=str(problem))
            if refused:
                log.error("config refused, the last good one stays", hash=self.snapshot.hash)
            else:
                log.info("config reloaded", hash=self.snapshot.hash)
            return Reloaded(not refused, self.snapshot.hash, tuple(problems))

    async def _use(self, fresh: Snapshot) -> list[Problem]:
        """Serve the fresh snapshot, or say why not."""
        if not (self._is_private or fresh.keys.callers):
            why = "without `keys`, anyone who reaches this listener could spend your money"
            return [Problem(self._path, 1, 1, "error", "open-listener", why)]
        try:
            await self._serving.use(fresh)
        except ConfigError as error:
            return [Problem(self._path, 1, 1, "error", error.code or "config", error.message)]
        old, self.snapshot = self.snapshot, fresh
        if bound(old.server) != bound(fresh.server):
            why = "`listen`, `admin` and `workers` take effect when Pointsman is started again"
            return [Problem(self._path, 1, 1, "warning", "needs-restart", why)]
        return []

    # --- metrics

    async def state(self) -> State:
        """All counters of all workers."""
        return await self._serving.state()


def bound(server: Server) -> tuple[object, ...]:
    """What cannot change while the process lives."""
    return (server.listen, server.admin, server.workers)
