"""When the waits of one attempt end: first content, idle, total. `connect` and `tls` are the upstream client's."""

import asyncio

from proxy.runtime import Timeouts
from proxy.upstreams.base import Failed
from routes import failure
from routes.route import Route

EARLY = 0.01  # seconds a wait may end before its deadline: clocks tick in milliseconds


class Deadlines:
    """As `loop.time()`: the route's own timeouts over the endpoint's."""

    __slots__ = ("_content_by", "_limits", "_loop", "_progress", "connect", "end", "first", "tls")

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
        self.tls = limits.tls
        # the first content of a whole answer is its end
        self.first = min(now + limits.first_content, self.end) if streamed else self.end

        self._progress = -1
        self._content_by = self.end

    def next(self, progress: int = 0) -> float:
        """When the next read must have brought something, once content flows.

        `progress`: the characters so far. While they stay the same only comments come, or nothing.
        """
        now, limits = self._loop.time(), self._limits
        if progress != self._progress:
            self._progress = progress
            self._content_by = min(now + limits.idle_content, self.end)
        idle = now + limits.idle
        return idle if idle < self._content_by else self._content_by

    @property
    def client(self) -> float:
        """Seconds in which the caller must take something of what waits for it."""
        return self._limits.client

    def explain(self, failed: Failed, content: bool) -> Failed:
        """Say which limit a timeout was."""
        if failed.failure != failure.TIMEOUT or failed.phase in ("connect", "tls"):
            return failed
        now = self._loop.time() + EARLY
        idle = "idle_content" if now >= self._content_by else "idle"
        phase = "total" if now >= self.end else idle if content else "first_content"
        seconds: float = getattr(self._limits, phase)
        return Failed(failure.TIMEOUT, f"{failed.message} ({phase} timeout of {seconds:g} s)", phase=phase)
