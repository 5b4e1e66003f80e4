"""A cgroup with a memory limit, for the process that is started in it; where none can be made, it says why."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")
JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'  # a process joins, then becomes the command


class Cgroup:
    """`prefix` runs a command inside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = ("sh", "-c", JOIN, str(folder))

    @property
    def used(self) -> int:
        """Bytes."""
        return self._number("memory.current", "memory.usage_in_bytes")

    @property
    def peak(self) -> int:
        """Bytes."""
        return self._number("memory.peak", "memory.max_usage_in_bytes")

    def _number(self, *names: str) -> int:
        return int(next(file.read_text() for name in names if (file := self.folder / name).exists()))

    @property
    def kills(self) -> int:
        """How often the kernel has killed somebody inside for want of memory."""
        for name in ("memory.events", "memory.oom_control"):
            if (file := self.folder / name).exists():
                counts = dict(line.split() for line in file.read_text().splitlines())
                return int(counts["oom_kill"])
        raise AssertionError("no memory cgroup")


@contextlib.contextmanager
def limited(size: int) -> Iterator[Cgroup]:
    """A cgroup of either version with so many bytes. Skips the test, visibly, where it is not allowed."""
    is_v2 = (ROOT / "cgroup.controllers").exists()
    folder = (ROOT if is_v2 else ROOT / "memory") / f"pointsman-faults-{os.getpid()}"
    limits = {"memory.max": size, "memory.swap.max": 0} if is_v2 else {"memory.limit_in_bytes": size}
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here (it takes root and a writable {ROOT}): {error}")
    try:
        try:
            for name, value in limits.items():
                if name != "memory.swap.max" or (folder / name).exists():
                    (folder / name).write_text(str(value))
        except OSError as error:
            pytest.skip(f"the memory of a cgroup cannot be limited here: {error}")
        yield Cgroup(folder)
    finally:
        for _ in range(100):  # it is busy until the kernel has buried the last process
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.05)
