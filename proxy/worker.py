"""One worker: the data listener and everything a request needs, in the supervisor's process or in one of its own."""

import asyncio
import contextlib
import socket

import structlog

from proxy import __version__
from proxy.app import App
from proxy.books import Books
from proxy.errors import ConfigError
from proxy.handler import Chat
from proxy.life import Life
from proxy.listener import Listener, ours
from proxy.means import Means
from proxy.meter import log as lines
from proxy.meter.baseline import Learned
from proxy.meter.cells import State
from proxy.meter.exposition import process
from proxy.meter.metrics import Meters
from proxy.meter.outages import Outages
from proxy.orphans import Orphans
from proxy.outbox import Outbox
from proxy.pressure import Pressure, room
from proxy.runtime import Holder, Snapshot
from proxy.settled import Settled, Sink
from proxy.tasks import Tasks
from proxy.upstreams.balance import Rotations
from proxy.upstreams.base import Target
from proxy.upstreams.registry import Upstreams

log = structlog.get_logger("pointsman")


class Worker:
    """Serves one snapshot after another on a listening socket."""

    def __init__(self, snapshot: Snapshot, sock: socket.socket, access: Sink, life: Life) -> None:
        self.life = life
        self.meters = Meters(__version__)
        self.holder = Holder(snapshot)
        outbox = Outbox()
        self.upstreams = Upstreams(outbox)
        self.rotations = Rotations(self.upstreams.pending, self._ejected)
        self._tasks = Tasks()
        self._access = access
        self._books = Books([self.meters.settled, self._log, Outages().settled])
        self._orphans = Orphans()
        self._learned = Learned()
        means = Means(self.upstreams, self.rotations, self._learned, self._orphans)
        chat = Chat(self.holder, means, self.meters, self._books)
        self._app = App(self.holder, chat, life, outbox)
        self._listener = Listener(ours(self._app), sock, self._tasks, room)
        self._pressure = Pressure(self._listener, self._app.bodies, self._app.shed, self.meters.late)
        self._watching: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()

    async def start(self, workers: int = 1) -> None:
        """Serve, as one of so many workers; returns once connections are taken. Raises ConfigError for a config that
        cannot be served here."""
        self._learned.workers = workers
        await self.use(self.holder.snapshot)
        await self._listener.start()
        watching = self._pressure.watch(lambda: self.holder.snapshot.server.max_memory, workers)
        self._watching = self._tasks.spawn(watching, name="watch memory and descriptors")
        self.life.serves(True)

    async def use(self, snapshot: Snapshot) -> None:
        """Serve this snapshot from the next request on. Raises ConfigError, and goes on with the old one."""
        await self.prepare(snapshot)
        self.swap(snapshot)

    async def prepare(self, snapshot: Snapshot) -> None:
        """Do what must not hold up requests: import LiteLLM (seconds), load CA bundles. Raises ConfigError."""
        try:
            if snapshot.needs_litellm:
                from proxy.upstreams import litellm_client

                await asyncio.to_thread(litellm_client.load)
            for target in targets(snapshot):
                self.upstreams.get(target)
                await asyncio.sleep(0)  # loading a CA bundle takes 20 ms: let requests through between two
        except ImportError as error:
            why = f"a `provider` needs LiteLLM, which cannot be imported ({error}): pip install 'pointsman[litellm]'"
            raise ConfigError(why, code="needs-litellm") from error
        except (ValueError, OSError) as error:
            raise ConfigError(f"an upstream cannot be called: {error}", code="bad-upstream") from error

    def swap(self, snapshot: Snapshot) -> None:
        self.meters.use(snapshot)
        self.holder.swap(snapshot)
        self.rotations.retire(snapshot.models)
        # in the background: replies of the old snapshot may still be closing
        self._tasks.spawn(self.upstreams.retire(targets(snapshot)), name="close unused upstreams")

    def _log(self, settled: Settled) -> None:
        if self.holder.snapshot.server.access_log:
            self._access(settled)

    def _ejected(self, model: str, endpoint: str, seconds: float) -> None:
        self.meters.ejected(model, endpoint)
        log.warning("endpoint ejected", model=model, endpoint=endpoint, seconds=round(seconds, 1))

    async def replace(self) -> None:
        log.warning("nothing to replace: the one worker runs in the supervisor's own process")

    async def state(self) -> State:
        """All counters, and what the operating system says of this process."""
        self._books.close()
        now = asyncio.get_running_loop().time()
        self.meters.endpoints(self.rotations.states(self.holder.snapshot.models.values(), now))
        unconnected = self._listener.refused + self.upstreams.descriptors.refused
        refused = {"connections": unconnected, "memory": self._app.bodies.refused}
        self.meters.burden(self._listener.connections, self._pressure.share, refused, lines.dropped())
        return {**self.meters.state(), **process()}

    async def drain(self, announce: float, limit: float) -> None:
        """Report not ready for `announce` seconds, stop listening, give what runs `limit` seconds; then end it."""
        self.life.drains()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), announce)
        if self._watching is not None:
            self._watching.cancel()
        await self._listener.stop(0.0 if self._hurried.is_set() else limit)
        await self._orphans.close()
        self._books.close()
        await self.upstreams.close()
        await self._tasks.close()

    def hurry(self) -> None:
        """End a running drain now: what runs is cut with a word, and booked."""
        self._hurried.set()
        self._listener.hurry()

    def kill(self) -> None:
        """It ends with its process."""


def targets(snapshot: Snapshot) -> set[Target]:
    return {endpoint.target for model in snapshot.models.values() for endpoint in model.endpoints}
