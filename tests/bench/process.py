"""One process under measurement or around it: started on its core, read from the operating system, stopped by id."""

import contextlib
import os
import resource
import select
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from http.client import HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import NoReturn

ROOT = Path(__file__).parents[2]
_CORES = sorted(os.sched_getaffinity(0))
SUBJECT_CORE = _CORES[0]  # the proxy alone
OTHER_CORE = _CORES[-1]  # model servers and the load


class Broken(Exception):
    """A process did not start, or answers were wrong: there is nothing to measure."""


class LeftOut(Exception):
    """Nothing is wrong, but this is not measured here; the message says why."""


class Process:
    """A child and its children. What it prints is read line by line, or thrown away unread."""

    def __init__(
        self, argv: Sequence[str], core: int, *, talks: bool = False, env: dict[str, str] | None = None
    ) -> None:
        self.argv, self.core, self.env = list(argv), core, os.environ | (env or {})
        self.started = time.perf_counter()
        self.child = subprocess.Popen(
            self.argv,
            bufsize=0,  # so that select() sees all that is unread
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if talks else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def family(self) -> list[int]:
        """Process ids: ours, then its descendants'."""
        pids = [self.child.pid]
        for pid in pids:  # grows while we walk it
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    pids += map(int, (thread / "children").read_text().split())
        return pids

    def cpu_ns(self) -> int:
        return sum(map(cpu_ns, self.family()))

    def rss_mb(self) -> float:
        return sum(resident_bytes(Path(f"/proc/{pid}/statm").read_text()) for pid in self.family()) / 1e6

    def age_s(self) -> float:
        return time.perf_counter() - self.started

    def say(self, line: str = "") -> None:
        assert self.child.stdin
        self.child.stdin.write(f"{line}\n".encode())

    def hear(self, timeout_s: float) -> str:
        """The next line that the process prints."""
        assert self.child.stdout
        if not select.select([self.child.stdout], [], [], timeout_s)[0]:
            raise Broken(f"silent for {timeout_s:.0f} s")
        line = self.child.stdout.readline().decode()
        return line.strip() if line else self.blame()

    def wait_ready(self, url: str, timeout_s: float) -> float:
        """Ask until the first 200; returns the seconds since the start."""
        while self.age_s() < timeout_s and self.child.poll() is None:
            with contextlib.suppress(OSError), get(url):
                return self.age_s()
            time.sleep(0.01)
        return self.blame()

    def blame(self) -> NoReturn:
        """Run the same command once more with somebody listening, and raise with the last line it says."""
        self.stop()
        try:
            done = subprocess.run(
                self.argv,
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=5,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Broken("it runs, but does not answer") from None
        said = done.stderr.strip() or done.stdout.strip() or "nothing"
        raise Broken(f"it exits with {done.returncode} and says: {said.splitlines()[-1]}")

    def stop(self) -> None:
        """End the child, and what it leaves behind; returns when all are gone."""
        with contextlib.ExitStack() as handles:
            rest = []
            for pid in self.family()[1:]:
                with contextlib.suppress(OSError):
                    rest.append(os.pidfd_open(pid))
                    handles.callback(os.close, rest[-1])
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
            for handle in rest:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], 5)  # readable once it has ended
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe:
                pipe.close()


def cpu_ns(pid: int) -> int:
    """CPU time of a process, its ended threads included, from the clock that Linux keeps for each process."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def resident_bytes(statm: str) -> int:
    """What of a process is in memory, from its line in /proc."""
    return int(statm.split()[1]) * resource.getpagesize()


def core_busy_ns(stat: str, core: int) -> int:
    """How long a core has run processes or was taken by the host, from /proc/stat. Interrupts are left out: they are
    charged to no process."""
    line = next(line for line in stat.splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = map(int, line.split()[1:9])
    return (user + nice + system + steal) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def get(url: str) -> HTTPResponse:
    """GET from the loopback, whatever proxy the environment names. OSError unless the answer is good."""
    reply = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2)
    assert isinstance(reply, HTTPResponse)
    return reply


@contextlib.contextmanager
def many_files(wanted: int) -> Iterator[int]:
    """At least so many open files, or as many as are allowed, for this process and the children it starts; gives the
    limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(wanted, soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, OSError):  # only root may have more than its hard limit
        wanted = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield wanted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
