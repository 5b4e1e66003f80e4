"""When the waits of one attempt end: first content, idle, total. `connect` is the upstream client's own."""

import asyncio
from collections.abc import Mapping

from proxy.runtime import Timeouts
from proxy.upstreams.base import Failed
from routes import failure
from routes.route import Route


class Deadlines:
    """When an attempt's waits end, as `loop.time()`: the route's own timeouts over the endpoint's."""

    __slots__ = ("_first", "_idle", "_now", "_seconds", "_streamed", "_total", "connect")

    def __init__(self, route: Route, base: Timeouts, now: float, streamed: bool) -> None:
        timeouts: Mapping[str, float] = route.timeouts
        self.connect = timeouts.get("connect", base.connect)
        self._idle = timeouts.get("idle", base.idle)
        total = timeouts.get("total", base.total)
        first = timeouts.get("first_content", base.first_content)
        self._total = now + total
        # the first content of a whole answer is its end
        self._first = min(now + first, self._total) if streamed else self._total
        self._seconds = {"first_content": first, "idle": self._idle, "total": total}
        self._now = asyncio.get_running_loop().time
        self._streamed = streamed

    def first(self) -> float:
        return self._first

    def next(self, content: bool) -> float:
        """When the next read must have brought something."""
        return min(self._now() + self._idle, self._total) if content else self._first

    def explain(self, failed: Failed, content: bool) -> Failed:
        """Say which limit a timeout was."""
        if failed.failure != failure.TIMEOUT or failed.phase == "connect":
            return failed
        running = "idle" if content else "first_content"
        phase = "total" if self._now() >= self._total else running
        return Failed(
            failure.TIMEOUT, f"{failed.message} ({phase} timeout of {self._seconds[phase]:g} s)", phase=phase
        )
