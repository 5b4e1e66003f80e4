"""What a worker does when memory or descriptors run out, before the kernel does worse.

Connections are taken as far as there are descriptors. Four times a second, and more often when it gets short, it
looks at how much memory is used: under pressure new calls of models are refused; under more, no connections are
taken. What runs goes on, and the admin listener is exempt: those who look after the process must get through.
"""

import asyncio
import resource
import sys
from collections.abc import Callable
from typing import Final, Literal

import structlog

from proxy.allocator import give_back
from proxy.bodies import COPIES, Bodies
from proxy.listener import Listener
from proxy.memory import Memory

log = structlog.get_logger("pointsman")

LOOK: Final = 0.25  # seconds between looks
# where memory is getting short: large bodies fill a tenth of a small limit in a quarter second
CLOSE_LOOK: Final = 0.025
GETTING_SHORT: Final = 0.75  # share of the memory
COSTS: Final = COPIES + 0.25  # bytes of memory for a byte of a large body: its copies, and what is in transit
LEAST: Final = 4 * 2**20  # bytes of bodies that are taken however small the memory is
TRIM: Final = 0.5  # seconds between attempts to give memory back, while it is short

Level = Literal["calm", "shedding", "full"]
SHED, CALM_AGAIN = 0.90, 0.85  # shares of the memory at which calls are refused, and taken again
FULL, TAKE_AGAIN = 0.95, 0.90  # the same for connections


def next_level(level: Level, share: float) -> Level:
    """The steps down are lower than those up, so that the level does not flutter."""
    if share >= FULL or (level == "full" and share >= TAKE_AGAIN):
        return "full"
    if share >= SHED or (level != "calm" and share >= CALM_AGAIN):
        return "shedding"
    return "calm"


def room_of(descriptors: int) -> tuple[int, int]:
    """Connections that a process with so many descriptors takes, and how many it refuses at once.

    Each may need a second one to a model. A tenth of the descriptors is for logs, the admin listener and refusals.
    """
    reserve = max(48, descriptors // 10)
    return max(8, (descriptors - reserve) // 2), max(4, descriptors // 20)


def room() -> tuple[int, int]:
    """`room_of` this process; asked for each connection, as the limit may be changed from outside."""
    return room_of(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


class Pressure:
    """Watches over one listener. `shed(True)` is called when calls are to be refused, `shed(False)` when not."""

    def __init__(
        self, listener: Listener, bodies: Bodies, shed: Callable[[bool], None], late: Callable[[float], None]
    ) -> None:
        self.level: Level = "calm"
        self.share = 0.0  # of the memory, when last looked at
        self._listener = listener
        self._bodies = bodies
        self._shed = shed
        self._late = late  # is told how late each look came, in seconds: how long the event loop was held up
        self._refused = 0
        self._trimmed = 0.0  # on the event loop's clock

    async def watch(self, limit: Callable[[], int | None], workers: int = 1) -> None:
        """Until cancelled. `limit`: bytes of memory that this process may use, as configured now. `workers` share
        the cgroup's."""
        loop = asyncio.get_running_loop()
        with Memory() as memory:
            allowed = limit()
            self._bodies.room = self._room(memory.left(allowed, workers, SHED))
            while True:
                pause = LOOK if self.share < GETTING_SHORT else CLOSE_LOOK
                due = loop.time() + pause
                await asyncio.sleep(pause)
                now = loop.time()
                self._late(max(0.0, now - due))
                self._say_refused()
                if limit() != allowed:  # after a reload
                    allowed = limit()
                    self._bodies.room = self._room(memory.left(allowed, workers, SHED))
                self.share = memory.share(allowed)
                await self.take(self.share)
                if self.level != "calm" and now > self._trimmed + TRIM:
                    self._trimmed = now
                    await asyncio.to_thread(give_back)

    async def take(self, share: float) -> None:
        """Act upon this share of the memory being used."""
        before, after = self.level, next_level(self.level, share)
        if after == before:
            return
        if before == "full":
            try:
                await self._listener.resume()
            except OSError:  # no descriptor is left for it, perhaps: it stays full, and the next look tries again
                return
        self.level = after
        self._shed(after != "calm")
        if before == "calm":  # they would take a multiple of what has come of them
            self._listener.refuse_unread()
        if after == "full":
            self._listener.pause()
        told = {"used": round(share, 3), "connections": self._listener.connections}
        match self.level:
            case "full":
                log.error("memory is almost used up: no connections are taken", **told)
            case "shedding":
                log.warning("memory is short: calls are refused", **told)
            case "calm":
                log.warning("memory is enough again: calls are taken", **told)

    def _room(self, left: int | None) -> int:
        """Bytes of bodies for which so many bytes of memory suffice, besides those that have their memory already."""
        return sys.maxsize if left is None else max(LEAST, int(left / COSTS) + self._bodies.held // COPIES)

    def _say_refused(self) -> None:
        new, self._refused = self._listener.refused - self._refused, self._listener.refused
        if new:  # told once in a while, however long it goes on
            log.warning("too many connections: new ones are refused", room=self._listener.room()[0], refused=new)
