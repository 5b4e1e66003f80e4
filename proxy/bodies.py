"""What large request bodies may take of a worker, all together: memory, and time of the event loop."""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import Final

from proxy.errors import Overloaded, PointsmanError, TooLarge
from proxy.exchange import Exchange
from proxy.runtime import Limits

FREE: Final = 64 * 1024  # bytes of a body that come before it is counted, and the steps in which it then is
COPIES: Final = 2  # of a body at once: as it came and parsed, then parsed and as it is sent on
AT_ONCE: Final = 4  # connections that read on in one turn of the loop, a read each: 1 MiB at most


class Bodies:
    """One worker's. Bodies of up to `FREE` bytes are not counted: connections bound those."""

    __slots__ = ("_waiting", "held", "refused", "room")

    def __init__(self) -> None:
        self.held = 0  # bytes of memory
        self.room = sys.maxsize  # bytes of bodies that this worker's share of the memory suffices for
        self.refused = 0  # calls, for want of memory
        self._waiting: deque[Callable[[], None]] = deque()

    def refuse(self, size: int, limits: Limits) -> PointsmanError | None:
        """Why a body of `size` bytes more is not taken, if so.

        Whoever finds no room is told to come again. Waiting for room could be a deadlock: bodies half read, each of
        them waiting for the others.
        """
        if size > limits.max_body:
            return TooLarge(f"the request's body is larger than {limits.max_body} bytes")
        taken = self.held // COPIES + size
        if COPIES * taken > limits.body_memory or taken > max(self.room, limits.max_body):  # one alone always fits
            return self.overloaded("too many large requests at once: no memory is left for another")
        return None

    def overloaded(self, what: str = "no memory is left for more requests") -> Overloaded:
        """The refusal of one call for want of memory, counted. An error each: one for all would keep their frames."""
        self.refused += 1
        return Overloaded(what)

    def grow(self, exchange: Exchange, size: int, limits: Limits) -> PointsmanError | None:
        """The exchange's body has come to `size` bytes: set more aside for it. Returns why not, if so."""
        more = max(FREE, size - exchange.held)
        if exchange.length:
            more = min(more, exchange.length - exchange.held)  # no more than there will be
        refusal = self.refuse(size if size > limits.max_body else more, limits)
        if refusal is None:
            self.held += COPIES * more
            exchange.held += more
        return refusal

    def give_back(self, exchange: Exchange) -> None:
        self.held -= COPIES * exchange.held
        exchange.held = 0

    def queue(self, resume: Callable[[], None]) -> None:
        """Call `resume` in a later turn of the loop, behind those that wait already.

        A loop reads from each socket for as long as bytes come, megabytes in one turn; fifty uploads would hold up
        everybody else for a tenth of a second.
        """
        self._waiting.append(resume)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        for _ in range(min(AT_ONCE, len(self._waiting))):
            self._waiting.popleft()()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
