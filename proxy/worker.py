"""One worker: the data listener and everything a request needs, in the supervisor's process or its own."""

import asyncio
import socket
from dataclasses import dataclass
from typing import Any, cast

import structlog

from proxy import __version__
from proxy.app import App
from proxy.config.load import load
from proxy.config.problems import Problem
from proxy.handler import Chat
from proxy.life import Life
from proxy.meter.baseline import Learned
from proxy.meter.cells import State
from proxy.meter.exposition import process
from proxy.meter.metrics import Meters
from proxy.meter.outages import Outages
from proxy.runtime import Holder, Snapshot
from proxy.server import Protocol, Server, configure
from proxy.settled import Settled, Sink
from proxy.tasks import Tasks
from proxy.upstreams.base import Target
from proxy.upstreams.registry import Upstreams

log = structlog.get_logger("pointsman")

GOODBYE = 5.0  # seconds for the last events of streams that the drain limit cut


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a reload: the hash now served, and the problems that kept an old one."""

    hash: str
    problems: tuple[Problem, ...] = ()

    @property
    def is_ok(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)


class Worker:
    """Serves one snapshot after another on a listening socket."""

    def __init__(self, path: str, snapshot: Snapshot, listener: socket.socket, access: Sink) -> None:
        self.path = path
        self.listener = listener
        self.tasks = Tasks()
        self.life = Life()
        self.meters = Meters(__version__)
        self.holder = Holder(snapshot)
        self.upstreams = Upstreams()
        self.learned = Learned()
        self._access = access
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; returns once connections are taken. LiteLLM, if a model needs it, is imported before that."""
        snapshot = self.holder.snapshot
        await prepare(snapshot)
        self._warm(snapshot)
        self.meters.use(snapshot)
        chat = Chat(
            self.holder,
            self.upstreams,
            self.learned,
            self.meters,
            [self.meters.settled, self._log, Outages().settled],
        )
        self._server = Server(configure(App(self.holder, chat, self.life)))
        self._serving = self.tasks.spawn(self._server.serve(sockets=[self.listener]), name="data listener")
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
            await asyncio.sleep(0.005)
        self.life.state = "ready"

    def _log(self, settled: Settled) -> None:
        if self.holder.snapshot.server.access_log:
            self._access(settled)

    async def reload(self) -> Reloaded:
        """Read the config again; a bad one leaves the old one in place."""
        loaded = await asyncio.to_thread(load, self.path)
        problems = tuple(loaded.problems)
        if loaded.snapshot is None:
            return Reloaded(self.holder.snapshot.hash, problems)
        snapshot = loaded.snapshot
        await prepare(snapshot)
        targets = self._warm(snapshot)
        self.meters.use(snapshot)
        self.holder.swap(snapshot)
        await self.upstreams.retire(targets)
        return Reloaded(snapshot.hash, problems)

    def _warm(self, snapshot: Snapshot) -> set[Target]:
        """Make the clients before they are needed: loading a CA bundle would hold up a request."""
        targets = {endpoint.target for model in snapshot.models.values() for endpoint in model.endpoints}
        for target in targets:
            self.upstreams.get(target)
        return targets

    def state(self) -> State:
        return {**self.meters.state(), **process()}

    async def drain(self, announce: float, limit: float) -> None:
        """Announce, stop listening, let running requests finish until `limit`, then end them with a word; seconds."""
        self.life.state = "draining"
        if self._server is None or self._serving is None:
            return
        await asyncio.sleep(announce)
        self._server.config.timeout_graceful_shutdown = cast(Any, max(limit, 0.001))  # a float will do
        self._server.should_exit = True
        await self._serving
        tasks = list(self._server.server_state.tasks)
        if tasks:  # cancelled by the limit: they say goodbye in their streams
            await asyncio.wait(tasks, timeout=GOODBYE)
        for connection in list(self._server.server_state.connections):
            cast(Protocol, connection).transport.close()
        await asyncio.sleep(0)
        await self.upstreams.close()
        await self.tasks.close()


async def prepare(snapshot: Snapshot) -> None:
    """Do what must be done before a snapshot serves, off the event loop: importing LiteLLM costs seconds."""
    if snapshot.needs_litellm:
        from proxy.upstreams import litellm_client

        await asyncio.to_thread(litellm_client.load)


def listen(address: str) -> socket.socket:
    """Bind and listen on `HOST:PORT` (IPv6 in brackets); port 0 takes a free one. Raises OSError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"  # noqa: S104 -- an empty host means every address; config refuses it without keys
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, int(port)))
    sock.listen(2048)
    sock.setblocking(False)
    return sock


def address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
