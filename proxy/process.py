"""Runs a server's main in this process: on the fast event loop, with logging set up."""

import asyncio
import contextlib
import gc
import resource
from collections.abc import Callable, Coroutine
from typing import Any, Final

from proxy.allocator import keep_large_apart
from proxy.meter import log
from proxy.settled import Sink

MOST_DESCRIPTORS: Final = 1_048_576
COLLECT_AFTER: Final = (20_000, 50, 100)  # garbage collector thresholds: requests make little cyclic garbage


def run(main: Callable[[Sink], Coroutine[Any, Any, int]], *, is_shared: bool = False) -> int:
    """Run to the end and return the exit code. `main` is given the access log.

    `is_shared`: other processes write to the same log.
    """
    loop_factory: Any = None
    with contextlib.suppress(ImportError):  # not on Windows
        from uvloop import new_event_loop as loop_factory
    gc.set_threshold(*COLLECT_AFTER)
    allow_descriptors()
    keep_large_apart()
    lines = log.configure(is_shared=is_shared)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main(log.access(lines)))
    finally:
        lines.close()


def allow_descriptors() -> None:
    """Raise the soft limit of descriptors to the hard one: the soft one is there for programs that use `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # not allowed to: then there are as many as there are
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
