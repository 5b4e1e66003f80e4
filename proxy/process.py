"""Runs a server's main in this process: on the fast event loop, with logging set up."""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine
from typing import Any, Final

from proxy.meter import log
from proxy.settled import Sink

COLLECT_AFTER: Final = (20_000, 50, 100)  # garbage collector thresholds: requests make little cyclic garbage


def run(main: Callable[[Sink], Coroutine[Any, Any, int]], *, is_shared: bool = False) -> int:
    """Run to the end and return the exit code. `main` is given the access log.

    `is_shared`: other processes write to the same log.
    """
    loop_factory: Any = None
    with contextlib.suppress(ImportError):  # not on Windows
        from uvloop import new_event_loop as loop_factory
    gc.set_threshold(*COLLECT_AFTER)
    lines = log.configure(is_shared=is_shared)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main(log.access(lines)))
    finally:
        lines.close()
