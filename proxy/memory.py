"""How much of the memory that may be used is used: by the cgroups that this process is in (v1 or v2), or by itself.

The kernel's files stay open and are read again from their start: nothing is opened while requests are served.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, Self

CLOSER: Final = 0.7  # of the limit: above it, reading how much could be given back is worth its time
UNLIMITED: Final = 2**60  # bytes; cgroup v1 says "none" with a number near 2**63

# limit, usage, and what of `memory.stat` the kernel takes back before it kills anybody
_V2: Final = ("memory.max", "memory.current", b"inactive_file ")
_V1: Final = ("memory.limit_in_bytes", "memory.usage_in_bytes", b"total_inactive_file ")


class Memory:
    """`with Memory() as memory: memory.share(None)`. Where nothing can be read, nothing is limited."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        self._own = self._open(self._root / "proc/self/statm")
        self._cgroups = [_Cgroup(*files) for files in self._find()]
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def share(self, limit: int | None) -> float:
        """Used of what may be, 1.0 is all of it: in the fullest of the cgroups, or of this process's own `limit` in
        bytes."""
        return max((used / allowed for used, allowed in self._bounds(limit)), default=0.0)

    def left(self, limit: int | None, workers: int = 1, until: float = 1.0) -> int | None:
        """Bytes until this share of a limit is used; None where there is none. So many `workers` share the
        cgroups'."""
        shared = [int(until * allowed - used) // workers for used, allowed in self._shared()]
        own = [int(until * allowed - used) for used, allowed in self._private(limit)]
        return min((max(0, each) for each in (*shared, *own)), default=None)

    def _bounds(self, limit: int | None) -> list[tuple[int, int]]:
        """Used and allowed bytes of everything that is limited."""
        return [*self._shared(), *self._private(limit)]

    def _shared(self) -> list[tuple[int, int]]:
        """The cgroups'."""
        return [bound for cgroup in self._cgroups if (bound := cgroup.bound()) is not None]

    def _private(self, limit: int | None) -> list[tuple[int, int]]:
        """This process's own."""
        if limit is None or self._own is None:
            return []
        return [(int(_read(self._own).split()[1]) * resource.getpagesize(), limit)]

    def _open(self, path: Path) -> BinaryIO | None:
        try:
            return self._opened.enter_context(path.open("rb", buffering=0))
        except OSError:
            return None

    def _find(self) -> Iterator[tuple[BinaryIO, BinaryIO, BinaryIO, bytes]]:
        """The files of our cgroups and of those around them; in a container its own is what is mounted."""
        for mount, inside, (limit, usage, inactive) in self._places():
            for path in (inside, *inside.parents):
                folder = mount / path.relative_to("/")
                files = [self._open(folder / name) for name in (limit, usage, "memory.stat")]
                if files[0] is not None and files[1] is not None and files[2] is not None:
                    yield files[0], files[1], files[2], inactive

    def _places(self) -> Iterator[tuple[Path, Path, tuple[str, str, bytes]]]:
        cgroups = self._root / "sys/fs/cgroup"
        try:
            lines = (self._root / "proc/self/cgroup").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield cgroups, Path(path), _V2
            elif "memory" in controllers.split(","):
                yield cgroups / "memory", Path(path), _V1


class _Cgroup:
    def __init__(self, limit: BinaryIO, usage: BinaryIO, stat: BinaryIO, inactive: bytes) -> None:
        self._limit, self._usage, self._stat, self._inactive = limit, usage, stat, inactive

    def bound(self) -> tuple[int, int] | None:
        """Used and allowed bytes; None without a limit, and once the cgroup is gone. What the kernel would drop of
        files does not count."""
        try:
            written = _read(self._limit)
            limit = int(written) if written[:1].isdigit() else UNLIMITED
            if not 0 < limit < UNLIMITED:
                return None
            used = int(_read(self._usage))
            if used > CLOSER * limit:
                for line in _read(self._stat).splitlines():
                    if line.startswith(self._inactive):
                        used -= int(line.removeprefix(self._inactive))
        except OSError:
            return None
        return max(0, used), limit


def _read(file: BinaryIO) -> bytes:
    return os.pread(file.fileno(), 16384, 0)
