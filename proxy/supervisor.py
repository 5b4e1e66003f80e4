"""The supervisor: binds, keeps workers alive, owns the admin listener, signals and reloads.

One worker is the same code without the spawn: it runs here, in this process. Several run in processes of their own
on one inherited listening socket (a socket per worker would strand a dying worker's queue).
"""

import asyncio
import itertools
import os
import signal
import socket

import structlog

from proxy import __version__
from proxy.admin import Admin
from proxy.config.load import load
from proxy.config.watch import changes
from proxy.hands import Hand, Local, Remote
from proxy.life import Life
from proxy.meter import families
from proxy.meter.cells import State, merge, retire
from proxy.meter.exposition import process
from proxy.meter.metrics import Meters
from proxy.runtime import Snapshot
from proxy.settled import Sink
from proxy.tasks import Tasks
from proxy.worker import Reloaded, Worker, prepare

log = structlog.get_logger("pointsman")

COLLECT_EVERY = 1.0  # seconds between collections of the workers' counters: what a killed worker may lose
RESPAWN_WAIT = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds before a worker that keeps dying is started again


class Supervisor:
    """Runs until a signal ends it; returns the process's exit code."""

    def __init__(
        self,
        path: str,
        snapshot: Snapshot,
        data: socket.socket,
        admin: socket.socket | None,
        workers: int,
        access: Sink,
    ) -> None:
        self.path = path
        self.snapshot = snapshot
        self.workers = workers
        self._access = access
        self.tasks = Tasks()
        self.life = Life()
        self._data = data
        self._admin_socket = admin
        self._hands: list[Hand] = []
        self._dead: State = {}  # the sums of workers that have ended
        self._own: Meters | None = None  # config metrics, where the workers are elsewhere
        self._local: Worker | None = None
        self._stop = asyncio.Event()
        self._announce: float | None = None
        self._reloading = asyncio.Lock()
        self._expected: set[int] = set()  # pids whose end is ours

    # --- life

    async def run(self) -> int:
        self._handle_signals()
        admin = Admin(self) if self._admin_socket is not None else None
        if admin is not None and self._admin_socket is not None:
            await admin.start(self._admin_socket)
        try:
            await self._start_workers()
            self.life.state = "ready"
            self.tasks.spawn(self._watch(), name="config watch")
            await self._stop.wait()
            await self._drain()
        finally:
            if admin is not None:
                await admin.stop()
            await self.tasks.close()
        return 0

    async def _start_workers(self) -> None:
        if self.workers == 1:
            self._local = Worker(self.path, self.snapshot, self._data, self._access)
            self._hands = [Local(self._local)]
            await self._hands[0].start()
            return
        self._own = Meters(__version__)
        self._own.use(self.snapshot)
        remotes = [Remote(self.path, self._data, self.tasks) for _ in range(self.workers)]
        await asyncio.gather(*(remote.start() for remote in remotes))
        for remote in remotes:
            self._adopt(remote)
        self.tasks.spawn(self._collect(), name="collect counters")

    def _adopt(self, remote: Remote) -> None:
        self._hands.append(remote)
        self.tasks.spawn(self._keep(remote), name=f"keep worker {remote.pid}")

    async def _keep(self, remote: Remote) -> None:
        """Replace a worker that ends without having been told to."""
        code = await remote.ended()
        if remote.pid in self._expected:
            return
        log.error("a worker ended", pid=remote.pid, code=code)
        self._bury(remote)
        for wait in itertools.chain(RESPAWN_WAIT, itertools.repeat(RESPAWN_WAIT[-1])):
            await asyncio.sleep(wait)
            successor = Remote(self.path, self._data, self.tasks)
            try:
                await successor.start()
            except (ConnectionError, TimeoutError, OSError) as error:
                log.error("a worker could not be started", error=str(error))
                continue
            self._adopt(successor)
            log.info("a worker was replaced", pid=successor.pid)
            return

    def _bury(self, remote: Remote) -> None:
        if remote in self._hands:
            self._hands.remove(remote)
            self._dead = merge([self._dead, retire(remote.last, families.FAMILIES)], families.FAMILIES)

    async def replace(self) -> None:
        """Replace the workers one by one: a new one serves before the old one drains."""
        for old in [hand for hand in self._hands if isinstance(hand, Remote)]:
            successor = Remote(self.path, self._data, self.tasks)
            await successor.start()
            self._adopt(successor)
            await self._retire(old)
            log.info("a worker was replaced", old=old.pid, new=successor.pid)

    async def _retire(self, old: Remote) -> None:
        if old.pid is not None:
            self._expected.add(old.pid)
        await old.drain(0.0, self.snapshot.server.drain)
        self._bury(old)

    async def _drain(self) -> None:
        self.life.state = "draining"
        server = self.snapshot.server
        announce = server.announce if self._announce is None else self._announce
        log.info("draining", announce_s=announce, limit_s=server.drain)
        self._expected |= {hand.pid for hand in self._hands if isinstance(hand, Remote) and hand.pid is not None}
        self._data.close()
        await asyncio.gather(*(hand.drain(announce, server.drain) for hand in self._hands))

    # --- signals

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop, None)
        loop.add_signal_handler(signal.SIGINT, self.stop, 0.0)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.tasks.spawn(self.reload(), name="reload on SIGHUP"))
        loop.add_signal_handler(signal.SIGUSR2, lambda: self.tasks.spawn(self.replace(), name="replace on SIGUSR2"))

    def stop(self, announce: float | None = None) -> None:
        """Drain and end; a second word ends at once. `announce`: seconds instead of config's."""
        if self._stop.is_set():
            log.warning("stopped at once by a second signal")
            os._exit(1)
        self._announce = announce
        self._stop.set()

    # --- config

    async def _watch(self) -> None:
        async for _ in changes(lambda: self.snapshot.files):
            await self.reload()

    async def reload(self) -> Reloaded:
        """Read the config; if it is good, swap it in everywhere. A bad one changes nothing but a metric."""
        async with self._reloading:
            loaded = await asyncio.to_thread(load, self.path)
            problems = tuple(loaded.problems)
            fresh = loaded.snapshot
            meters = self._own or (self._local.meters if self._local is not None else None)
            if meters is not None:
                meters.reloaded(fresh is not None)
            if fresh is None:
                for problem in problems:
                    log.error("config refused, the last good one stays", problem=str(problem))
                return Reloaded(self.snapshot.hash, problems)
            if fresh.needs_litellm and not self.snapshot.needs_litellm and self._local is None:
                self._swap(fresh)
                await self.replace()
            else:
                await prepare(fresh) if self._local is not None else None
                self._swap(fresh)
                await asyncio.gather(*(hand.reload() for hand in self._hands))
            log.info("config reloaded", hash=fresh.hash)
            return Reloaded(fresh.hash, problems)

    def _swap(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        if self._own is not None:
            self._own.use(snapshot)

    # --- metrics

    async def _collect(self) -> None:
        while True:
            await asyncio.sleep(COLLECT_EVERY)
            await asyncio.gather(*(hand.collect() for hand in self._hands))

    async def state(self) -> State:
        """All counters: the living workers' and the sums of the dead."""
        states = await asyncio.gather(*(hand.collect() for hand in list(self._hands)))
        own = [{**self._own.state(), **process()}] if self._own is not None else []
        return merge([self._dead, *states, *own], families.FAMILIES)
