"""Work that is too long for one turn of the event loop: done in steps, and one piece of work at a time."""

import asyncio
from collections.abc import Generator
from typing import TypeVar

Found = TypeVar("Found")


class Long:
    """Runs generators that `yield` between their steps. The loop turns after each; others wait for their turn."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()  # without it, each of many at once would take a step in every turn

    async def run(self, steps: Generator[None, None, Found]) -> Found:
        """Returns what the generator returns; raises what it raises."""
        async with self._lock:
            while True:
                try:
                    next(steps)
                except StopIteration as done:
                    found: Found = done.value
                    return found
                await asyncio.sleep(0)
