"""Calls whose clients have left, read to their end because the vendor bills them to their end anyway.

So the bill is the reported one and not an estimate. There may be `MOST` of them; each ends by the timeouts of its
model. Whoever is not taken in is cancelled, and billed as estimated.
"""

import asyncio
from typing import Any, Final

import structlog

from proxy.errors import PointsmanError

log = structlog.get_logger("pointsman")

MOST: Final = 64  # at once, per worker: each holds a connection and what its answer needs


class Orphans:
    """The calls of one worker that nobody waits for."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._running: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._running)

    def adopt(self, call: asyncio.Task[Any]) -> bool:
        """Let this call go on to its end; False where there are too many, or the worker stops."""
        if self._is_closed or len(self._running) >= self._most:
            return False
        self._running.add(call)
        call.add_done_callback(self._ended)
        return True

    def _ended(self, call: asyncio.Task[Any]) -> None:
        self._running.discard(call)
        if call.cancelled() or (error := call.exception()) is None:
            return
        if not isinstance(error, PointsmanError):  # one that found no descriptor was refused: nobody is left to tell
            log.error("defect: a call whose client had left", exc_info=error)

    async def close(self) -> None:
        """Cancel them all, and wait until they are booked."""
        self._is_closed = True
        running = tuple(self._running)
        for call in running:
            call.cancel()
        if running:
            await asyncio.wait(running)
