"""Figures of a running process, from the operating system and from its own `/metrics`; nothing is asked of it twice.

with Watch(pid) as watch: ...load...
watch.peak.rss - watch.first.rss
"""

import contextlib
import os
import resource
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PAGE = resource.getpagesize()
EACH = 0.25  # seconds between samples


@dataclass(frozen=True)
class Sample:
    rss: int  # bytes
    descriptors: int
    threads: int
    cpu: float  # seconds


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    pids = [pid]
    for each in pids:  # grows while we walk it
        try:
            for thread in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
        except OSError:
            continue  # it has just ended
    return pids


def sample(pid: int) -> Sample:
    """Of the whole family. Raises OSError once the process is gone."""
    rss = descriptors = threads = 0
    cpu = 0.0
    for each in family(pid):
        try:
            stat = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            descriptors += len(os.listdir(f"/proc/{each}/fd"))
        except OSError:
            if each == pid:
                raise
            continue
        cpu += (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        threads += int(stat[17])
        rss += int(stat[21]) * PAGE
    return Sample(rss, descriptors, threads, cpu)


def has_open(pid: int, what: str) -> bool:
    """Whether one of the family has a descriptor of this, as /proc calls it: `anon_inode:inotify`."""
    for each in family(pid):
        for descriptor in Path(f"/proc/{each}/fd").iterdir():
            with contextlib.suppress(OSError):  # just closed
                if os.readlink(descriptor) == what:
                    return True
    return False


class Watch:
    """Samples a process four times a second, in a thread of its own."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.first = self.last = sample(pid)
        self.samples = [self.first]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._take()
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EACH):
            self._take()

    def _take(self) -> None:
        try:
            self.last = sample(self.pid)
        except OSError:
            return  # it has ended: the last sample stays
        self.samples.append(self.last)

    @property
    def rss_growth(self) -> int:
        """Bytes between the first sample and the highest."""
        return max(each.rss for each in self.samples) - self.first.rss


@dataclass(frozen=True)
class Scrape:
    seconds: float
    series: int
    size: int  # bytes


def scrape(admin: str) -> Scrape:
    begun = time.perf_counter()
    with urllib.request.urlopen(f"{admin}/metrics", timeout=10) as answer:
        text = answer.read()
    seconds = time.perf_counter() - begun
    return Scrape(seconds, sum(not line.startswith(b"#") for line in text.splitlines()), len(text))
