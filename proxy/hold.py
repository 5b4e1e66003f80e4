"""Holding a stream's status until the first content event, and what is sent when that takes long."""

import asyncio
from collections.abc import Callable

WAITING = b": waiting for the model\n\n"


class Hold:
    """Holds a stream's status for the first content event, but not for ever: clients and balancers give up.

    After `wait` seconds it sends 200 and a comment, then one every `interval`; a fallback stays possible.
    """

    def __init__(self, wait: float, interval: float, comment: Callable[[], None]) -> None:
        self._interval = interval
        self._comment = comment
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(wait, self._fire)

    def _fire(self) -> None:
        self._comment()
        self._timer = self._loop.call_later(self._interval, self._fire)

    def end(self) -> None:
        self._timer.cancel()
        self._comment = nothing  # whoever gave it holds us: a cycle would keep the request until the collector comes


def nothing() -> None:
    """Nothing is said any more."""
