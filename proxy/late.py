"""Deadlines that pass while the event loop is held up: what came in time may still lie in a socket, unread.

A loop runs timers whether or not it has looked at its sockets since they fell due: libuv's does, when one of many
sockets' bytes took long. So whoever is about to give up lets the loop turn first, and then judges by what it read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

READ: Final = 2  # turns: the first may come before the loop looks at its sockets; then protocols have had the bytes
TAKEN: Final = 10  # turns, until also what waits on a protocol has them: a task, or a library's tasks one by one
READS: Final = 3  # after a deadline, that may still bring what came in time; what a server goes on sending is late


class Timer:
    """As `loop.call_at`, but what lay in sockets then is read first. `cancel` holds until the call."""

    __slots__ = ("_args", "_call", "_handle", "_loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, when: float, turns: int, call: Callable[..., object], *args: Any
    ) -> None:
        self._loop, self._call, self._args = loop, call, args
        self._handle: asyncio.Handle | None = loop.call_at(when, self._turn, turns)

    def _turn(self, left: int) -> None:
        if left:
            self._handle = self._loop.call_soon(self._turn, left - 1)
        else:
            self._handle = None  # it holds what it called, which is us: only the garbage collector would free both
            self._call(*self._args)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


@asynccontextmanager
async def until(deadline: float) -> AsyncIterator[None]:
    """As `asyncio.timeout_at`, for what other tasks or sockets bring."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = Timer(loop, deadline, TAKEN, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            timer.cancel()
