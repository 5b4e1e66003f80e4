"""The C library's allocator, where it is glibc's: what becomes of memory that is freed."""

import contextlib
import ctypes
from typing import Final

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h's
LARGE: Final = 128 * 1024  # bytes; an object of this size, as a request's body, has pages of its own
SPARE: Final = 4 * 1024 * 1024  # bytes of freed memory that are kept for what comes next


def keep_large_apart() -> None:
    """Let what is large go back to the system as soon as it is freed.

    glibc stops doing so for the size of whatever large object was freed last. From then on bodies lie between small
    objects that stay: they took half as much again as they hold, and none of it came back when the load was over.
    """
    with contextlib.suppress(OSError, AttributeError):  # others' allocators
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, SPARE)


def give_back() -> None:
    """Give freed memory back: a process that has shrunk inside but not outside would refuse calls for ever."""
    with contextlib.suppress(OSError, AttributeError):  # glibc has it; others give back by themselves
        ctypes.CDLL(None).malloc_trim(0)
