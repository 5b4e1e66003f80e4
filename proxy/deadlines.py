"""When the waits of one attempt end: first content, idle, total. `connect` is the upstream client's own."""

import asyncio

from proxy.runtime import Timeouts
from proxy.upstreams.base import Failed
from routes import failure
from routes.route import Route


class Deadlines:
    """As `loop.time()`: the route's own timeouts over the endpoint's."""

    __slots__ = ("_limits", "_loop", "_total", "connect", "first")

    def __init__(self, route: Route, base: Timeouts, loop: asyncio.AbstractEventLoop, streamed: bool) -> None:
        limits = base.under(route.timeouts) if route.timeouts else base
        now = loop.time()
        self._loop = loop
        self._limits = limits
        self._total = now + limits.total
        self.connect = limits.connect
        # the first content of a whole answer is its end
        self.first = min(now + limits.first_content, self._total) if streamed else self._total

    def next(self) -> float:
        """When the next read must have brought something, once content flows."""
        idle = self._loop.time() + self._limits.idle
        return idle if idle < self._total else self._total

    def explain(self, failed: Failed, content: bool) -> Failed:
        """Say which limit a timeout was."""
        if failed.failure != failure.TIMEOUT or failed.phase == "connect":
            return failed
        running = "idle" if content else "first_content"
        phase = "total" if self._loop.time() >= self._total else running
        seconds: float = getattr(self._limits, phase)
        return Failed(failure.TIMEOUT, f"{failed.message} ({phase} timeout of {seconds:g} s)", phase=phase)
