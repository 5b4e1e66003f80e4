"""When the waits of one attempt end: first content, idle, total. `connect` is the upstream client's own."""

import asyncio

from proxy.runtime import Timeouts
from proxy.upstreams.base import Failed
from routes import failure
from routes.route import Route


class Deadlines:
    """As `loop.time()`: the route's own timeouts over the endpoint's."""

    __slots__ = ("_limits", "_loop", "connect", "end", "first")

    def __init__(
        self,
        route: Route,
        base: Timeouts,
        loop: asyncio.AbstractEventLoop,
        streamed: bool,
        end: float | None = None,  # of the attempt before it on this route: a retry has what is left of its time
    ) -> None:
        limits = base.under(route.timeouts) if route.timeouts else base
        now = loop.time()
        self._loop = loop
        self._limits = limits
        self.end = now + limits.total if end is None else min(now + limits.total, end)
        self.connect = limits.connect
        # the first content of a whole answer is its end
        self.first = min(now + limits.first_content, self.end) if streamed else self.end

    def next(self) -> float:
        """When the next read must have brought something, once content flows."""
        idle = self._loop.time() + self._limits.idle
        return idle if idle < self.end else self.end

    def explain(self, failed: Failed, content: bool) -> Failed:
        """Say which limit a timeout was."""
        if failed.failure != failure.TIMEOUT or failed.phase == "connect":
            return failed
        running = "idle" if content else "first_content"
        phase = "total" if self._loop.time() >= self.end else running
        seconds: float = getattr(self._limits, phase)
        return Failed(failure.TIMEOUT, f"{failed.message} ({phase} timeout of {seconds:g} s)", phase=phase)
