"""Writes to sockets: at once; while the event loop is busy a few together, each after some requests' work.

Whoever writes to a peer on its own machine that has nothing to do wakes it, which takes longer than the write. A peer
that gets its bytes one request's work apart falls asleep between them, and is woken for each; one that gets some in a
row is woken once. At full load that saves a tenth of a request's CPU time (`make bench`). In a loop with little to do
nothing waits.
"""

import asyncio
from collections import deque
from typing import Final

BUSY: Final = 8  # writes in one turn of the loop, from which on the next turn's wait for each other
MOST: Final = 16  # that wait: the first of them for less than a millisecond
SMALL: Final = 16 * 1024  # bytes; more is never kept, so that whoever fills a slow peer's buffer hears of it at once


class Outbox:
    """One for all connections of an event loop. What one connection is given to send keeps its order.

    `flush` before a connection is closed or half-closed, where its transport will close by itself (`eof_received`),
    and before it is asked what it has not sent yet. What waits for one that was aborted is dropped.
    """

    __slots__ = ("_waiting", "_writes", "is_busy")

    def __init__(self) -> None:
        self._waiting: deque[tuple[asyncio.WriteTransport, bytes]] = deque()
        self._writes = 0  # of this turn
        self.is_busy = False  # this turn's writes wait for each other

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Send now, or with the others of this turn."""
        self._writes += 1
        if self._writes == 1:
            asyncio.get_running_loop().call_soon(self._turn)
        if self.is_busy and len(data) <= SMALL:
            self._waiting.append((transport, data))
            if len(self._waiting) >= MOST:
                self.flush()
        else:
            if self._waiting:
                self.flush()
            transport.write(data)

    def flush(self) -> None:
        """Send what waits."""
        waiting = self._waiting
        while waiting:
            transport, data = waiting.popleft()
            if not transport.is_closing():
                transport.write(data)

    def _turn(self) -> None:
        """The loop has come round: everybody who had something to do has done it."""
        self.is_busy = self._writes >= BUSY
        self._writes = 0
        self.flush()
