"""Runs a server's main in this process: on the fast event loop, with logging set up."""

import asyncio
import contextlib
import ctypes
import gc
import resource
from collections.abc import Callable, Coroutine
from typing import Any, Final

from proxy.meter import log
from proxy.settled import Sink

MOST_DESCRIPTORS: Final = 1_048_576
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h's
LARGE: Final = 128 * 1024  # bytes; an object of this size, as a request's body, has pages of its own
SPARE: Final = 4 * 1024 * 1024  # bytes of freed memory that are kept for what comes next
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


def keep_large_apart() -> None:
    """Let what is large go back to the system as soon as it is freed.

    glibc stops doing so for the size of whatever large object was freed last. From then on bodies lie between small
    objects that stay: they took half as much again as they hold, and none of it came back when the load was over.
    """
    with contextlib.suppress(OSError, AttributeError):  # others' allocators
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, SPARE)


def allow_descriptors() -> None:
    """Raise the soft limit of descriptors to the hard one: the soft one is there for programs that use `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # not allowed to: then there are as many as there are
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
