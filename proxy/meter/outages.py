"""Failing upstreams in the log: a line when one begins to fail, now and then while it fails, and when it recovers.

A dead upstream makes every request fail in the same words; the log says it once. Times come in as values.
"""

from dataclasses import dataclass

import structlog
from structlog.typing import FilteringBoundLogger

from proxy.settled import Attempt, Settled
from routes import failure

# The upstream's fault; the other classes are the request's.
FAULTS = frozenset(
    {
        failure.CONNECT,
        failure.TIMEOUT,
        failure.RATE_LIMITED,
        failure.UPSTREAM_5XX,
        failure.BAD_ANSWER,
        failure.AUTH,
    }
)
REPEAT = 30.0  # seconds between lines while it goes on
QUIET = 10.0  # seconds without a failure after which a good answer means recovery: one that flaps is still failing


@dataclass(slots=True)
class _Outage:
    since: float
    told: float
    last: float
    failures: int = 1
    untold: int = 0


class Outages:
    """A sink. Speaks of endpoints that config names, so it holds at most as many states."""

    def __init__(self, log: FilteringBoundLogger | None = None) -> None:
        self._log: FilteringBoundLogger = log or structlog.get_logger()
        self._failing: dict[tuple[str, str], _Outage] = {}

    def settled(self, settled: Settled) -> None:
        for attempt in settled.attempts:
            if attempt.result in FAULTS:
                self._failed(attempt)
            elif attempt.result == "ok" and self._failing:
                self._worked(attempt)

    def _failed(self, a: Attempt) -> None:
        now = a.started + a.duration
        outage = self._failing.get((a.model, a.endpoint))
        what = {"model": a.model, "endpoint": a.endpoint, "result": a.result, "status": a.status}
        if outage is None:
            self._failing[a.model, a.endpoint] = _Outage(now, now, now)
            self._log.warning("upstream fails", **what)
            return
        outage.failures += 1
        outage.untold += 1
        outage.last = max(outage.last, now)
        if now - outage.told >= REPEAT:
            self._log.warning(
                "upstream still fails", **what, failures=outage.untold, seconds=round(now - outage.since)
            )
            outage.told, outage.untold = now, 0

    def _worked(self, a: Attempt) -> None:
        now = a.started + a.duration
        outage = self._failing.get((a.model, a.endpoint))
        if outage is None or now - outage.last < QUIET:
            return
        del self._failing[a.model, a.endpoint]
        lasted = round(outage.last - outage.since)
        self._log.info(
            "upstream recovered", model=a.model, endpoint=a.endpoint, failures=outage.failures, seconds=lasted
        )
