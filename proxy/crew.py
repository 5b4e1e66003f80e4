"""Several workers in processes of their own: kept alive, kept on one config, counted together.

They share one inherited listening socket: with a socket each, a dying worker's queue would be stranded.
"""

import asyncio
import itertools
import socket
import time
from collections.abc import Awaitable, Callable

import structlog

from proxy import __version__
from proxy.channel import Refused
from proxy.errors import ConfigError
from proxy.hands import Hand
from proxy.life import Life
from proxy.meter.cells import State, merge, retire
from proxy.meter.exposition import process
from proxy.meter.families import FAMILIES
from proxy.meter.metrics import Meters
from proxy.runtime import Snapshot
from proxy.tasks import Tasks

log = structlog.get_logger("pointsman")

WAITS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a worker that keeps ending is started again
STEADY = 60.0  # seconds that a worker lives to count as one that does not keep ending


class Crew:
    """The workers, as one: what the supervisor asks of a `Worker`, it asks of a crew."""

    def __init__(self, path: str, snapshot: Snapshot, sock: socket.socket, size: int, life: Life) -> None:
        self.meters = Meters(__version__)  # the config's: the workers count requests
        self._path = path
        self._snapshot = snapshot
        self._sock = sock
        self._size = size
        self._life = life
        self._tasks = Tasks()
        self._starting: set[Hand] = set()
        self._hands: list[Hand] = []  # those that serve, or finish what they have
        self._dead: State = {}  # the sums of those that have ended
        self._version = 0  # of the config, to tell a worker that was started with an older one

    async def start(self) -> None:
        """Returns once all serve. Raises ConfigError if one cannot."""
        self.meters.use(self._snapshot)
        try:
            await asyncio.gather(*(self._hire() for _ in range(self._size)))
        except BaseException:  # one could not, or a cancellation: those that have started must not stay
            self.kill()
            raise
        self._life.serves(True)

    # --- hands

    async def _hire(self, falls: int = 0) -> Hand:
        """Start a worker and keep it alive. Raises ConfigError."""
        hand = Hand(self._path, self._sock, self._tasks, self._size)
        hand.falls = falls
        self._starting.add(hand)
        try:
            version = self._version
            await hand.start(self._snapshot)
            while version != self._version:  # the config was changed meanwhile
                version = self._version
                await hand.prepare(self._snapshot)
                await hand.swap()
        except BaseException as error:  # also a cancellation: nobody else knows of this process
            hand.kill()
            if isinstance(error, OSError | Refused):
                raise ConfigError(f"a worker could not be started: {str(error) or 'it took too long'}") from error
            raise
        finally:
            self._starting.discard(hand)
        self._hands.append(hand)
        self._tasks.spawn(self._keep(hand, time.monotonic()), name=f"keep worker {hand.pid}")
        self._tasks.spawn(self._watch(hand), name=f"watch worker {hand.pid}")
        return hand

    async def _watch(self, hand: Hand) -> None:
        """End a worker that is stuck, so that it is replaced: its callers wait for nothing."""
        await hand.watch()
        if hand.is_stuck:
            log.error("a worker is stuck, and is ended", pid=hand.pid)
            hand.kill()

    async def _keep(self, hand: Hand, since: float) -> None:
        """Replace a worker that ends without having been told to, after a wait that grows when that goes on."""
        code = await hand.ended()
        if hand.leaving:
            return  # who let it go buries it
        log.error("a worker ended", pid=hand.pid, code=code, lost_requests=hand.in_flight)
        self.meters.lost("stuck" if hand.is_stuck else "ended")
        self._bury(hand)
        self._life.serves(any(not other.leaving for other in self._hands))
        falls = 0 if time.monotonic() - since > STEADY else hand.falls
        for fall in itertools.count(falls):
            wait = WAITS[min(fall, len(WAITS) - 1)]
            await asyncio.sleep(wait)
            if self._life.is_draining:
                return
            try:
                successor = await self._hire(fall + 1)
            except ConfigError as error:
                log.error("a worker could not be started", error=error.message)
                continue
            self._life.serves(True)
            log.info("a worker was started", pid=successor.pid, waited_s=wait)
            return

    def _bury(self, hand: Hand) -> None:
        self._hands.remove(hand)
        self._dead = merge([self._dead, retire(hand.last, FAMILIES)], FAMILIES)

    async def _let_go(self, hand: Hand, announce: float, limit: float) -> None:
        await hand.drain(announce, limit)
        self._bury(hand)

    # --- config

    async def use(self, snapshot: Snapshot) -> None:
        """Have all workers load what the supervisor has loaded, then swap. Raises ConfigError: then none has."""
        old, self._snapshot = self._snapshot, snapshot  # also for those that are started meanwhile
        self._version += 1
        try:
            if snapshot.needs_litellm and not old.needs_litellm:
                await self.replace()  # seconds of import: rather in processes that do not serve yet
            else:
                await self._switch(snapshot)
        except BaseException as error:  # also a cancellation: who is started from now on must begin with the old one
            self._snapshot = old
            self._version += 1
            if isinstance(error, ConfigError):  # those that are cancelled end with us
                await self._go_back(old)
            raise
        self.meters.use(snapshot)

    async def _switch(self, snapshot: Snapshot) -> None:
        await self._tell(lambda hand: hand.prepare(snapshot))
        await self._tell(lambda hand: hand.swap())

    async def _go_back(self, old: Snapshot) -> None:
        """Have those serve the old config again that have the new one already; to the others it changes nothing."""
        try:
            await self._switch(old)
        except ConfigError as error:
            log.error("a worker may serve a config that was refused", error=error.message)

    async def _tell(self, tell: Callable[[Hand], Awaitable[None]]) -> None:
        """Raises ConfigError if one refuses, or if none is left: what ends or holds up each of them is not served."""
        hands = [hand for hand in self._hands if not hand.leaving]
        answers = await asyncio.gather(*(tell(hand) for hand in hands), return_exceptions=True)
        for hand, answer in zip(hands, answers, strict=True):
            if isinstance(answer, Refused):
                raise ConfigError(f"a worker refused the config: {answer}")
            if isinstance(answer, OSError):  # it ended, or hangs; its successor begins with the new config
                log.error("a worker did not answer", pid=hand.pid, error=str(answer) or "it took too long")
                hand.kill()
            elif isinstance(answer, BaseException):
                raise answer
        if hands and all(isinstance(answer, OSError) for answer in answers):
            raise ConfigError("no worker came through it: they ended or hung, and start again with the last good one")

    async def replace(self) -> None:
        """Replace all workers one by one, each once its successor serves. Raises ConfigError: then the rest stay."""
        for old in [hand for hand in self._hands if not hand.leaving]:
            successor = await self._hire()
            if old not in self._hands:  # it ended meanwhile, and is being replaced already
                old = successor
            old.leaving = True
            self._tasks.spawn(self._let_go(old, 0.0, self._snapshot.server.drain), name=f"let worker {old.pid} go")
            log.info("a worker was replaced", old=old.pid, new=successor.pid)

    # --- metrics

    async def state(self) -> State:
        """All counters: the living workers' and the sums of the dead."""
        dead = self._dead  # as of now: one that dies while others answer must not count twice
        states = await asyncio.gather(*(hand.state() for hand in self._hands))
        return merge([dead, *states, {**self.meters.state(), **process()}], FAMILIES)

    # --- the end

    async def drain(self, announce: float, limit: float) -> None:
        """As a worker's: all of them at once."""
        self._life.drains()
        self._sock.close()  # the workers have it open for as long as they listen
        starting = [hand for hand in self._starting if hand.pid]
        for hand in starting:
            hand.kill()
        for hand in starting:  # else one that is killed could be the last to have the socket, and its queue be reset
            await hand.ended()  # (one that is just being forked still can)
        ending = [self._tasks.spawn(hand.ended(), name="end") for hand in self._hands if hand.leaving]
        for hand in [hand for hand in self._hands if not hand.leaving]:
            hand.leaving = True
            ending.append(self._tasks.spawn(self._let_go(hand, announce, limit), name=f"drain worker {hand.pid}"))
        await asyncio.gather(*ending)
        await self._tasks.close()

    def hurry(self) -> None:
        for hand in self._hands:
            self._tasks.spawn(hand.hurry(), name=f"hurry worker {hand.pid}")

    def kill(self) -> None:
        self._life.drains()  # nobody is replaced any more
        for hand in (*self._starting, *self._hands):
            hand.kill()
