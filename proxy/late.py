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


def turns(loop: asyncio.AbstractEventLoop, count: int, call: Callable[..., object], *args: Any) -> None:
    """Call it once the loop has turned so many times."""
    if count:
        loop.call_soon(turns, loop, count - 1, call, *args)
    else:
        call(*args)


@asynccontextmanager
async def until(deadline: float) -> AsyncIterator[None]:
    """As `asyncio.timeout_at`, for what other tasks or sockets bring."""
    loop = asyncio.get_running_loop()
    inside = True

    def give_up() -> None:
        if inside:
            limit.reschedule(loop.time())

    async with asyncio.timeout(None) as limit:
        timer = loop.call_at(deadline, turns, loop, TAKEN, give_up)
        try:
            yield
        finally:
            inside = False
            timer.cancel()
