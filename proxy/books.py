"""The books: where finished requests are settled, a few at a time.

Settling is the same work for each request, and in a row it runs from warm caches: a third of the CPU time that it
takes between a request's other steps. The reply never waits for it. Whoever reads the books (`/metrics`, a stop)
closes them first; nothing waits longer than `LATEST`.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from proxy.account import Account
from proxy.settled import Settled, Sink

log = structlog.get_logger("pointsman")

BATCH = 8  # requests settled in a row: under a fifth of a millisecond of the event loop
LATEST = 0.01  # seconds until a finished request is in the books


class Lease(Protocol):
    """What was set aside for one request; settling returns the rest. Never waits."""

    def settle(self, settled: Settled) -> None: ...


class Books:
    """`enter` what has finished; sinks are told in the order in which requests ended, each request once."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._open: list[tuple[Account, Lease | None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, account: Account, lease: Lease | None) -> None:
        """Take a finished request (`Account.finish` has been called)."""
        self._open.append((account, lease))
        if len(self._open) >= BATCH:
            self.close()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LATEST, self.close)

    def close(self) -> None:
        """Settle all that is open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        finished, self._open = self._open, []
        for account, lease in finished:
            try:
                settled = account.settle()
            except Exception as error:  # one request's defect must not cost those behind it their records
                log.error("defect: a request was not settled", id=account.id, exc_info=error)
                continue
            if lease is not None:
                lease.settle(settled)
            for sink in self._sinks:
                try:
                    sink(settled)
                except Exception as error:  # one sink's defect must not cost the others, or the next requests, theirs
                    log.error("defect: a settled request was not taken", sink=repr(sink), exc_info=error)
