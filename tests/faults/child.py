"""`python -m tests.faults.child serve ...`: the product with a gauge inside, and with one sabotage if asked for.

It is how the rig runs the proxy. The product knows nothing of it: everything is patched in from here, in the child.
"""

import asyncio
import contextlib
import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from typing import Any, ClassVar

import blockbuster
from blockbuster import blockbuster as blocking

from proxy.supervisor import Supervisor
from tests.faults import nameserver

GAUGE = "POINTSMAN_TEST_GAUGE"  # the path of the gauge's socket
NAMES = "POINTSMAN_TEST_NAMES"  # set: names below .test are answered by tests.faults.nameserver
SABOTAGE = "POINTSMAN_TEST_SABOTAGE"  # a name in tests.faults.sabotage
TICK = 0.005  # seconds between looks at the event loop's lag
KEPT = 100_000  # lags: some eight minutes

# What blockbuster does not know and must not happen on the event loop's thread while it serves, by audit event.
# Opening /proc is the kernel's memory, not a disk; `exec` of any kind must not happen on any thread.
WAITS = ("open", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "os.chmod", "os.truncate")
STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.forkpty")


def detector() -> blockbuster.BlockBuster:
    """What may block, and why."""
    found = blockbuster.BlockBuster()
    for call in found.functions.values():  # /proc, on scrapes: it is the kernel's memory and no disk
        call.can_block_in("prometheus_client/process_collector.py", {"collect"})
    return found


class Blocked(blocking.BlockingError):
    """What a call that blocks the event loop's thread raises there; noted, as somebody might catch it."""

    calls: ClassVar[Counter[str]] = Counter()

    def __init__(self, call: str) -> None:
        super().__init__(call)
        here = sys._getframe(2)  # who called what blockbuster has wrapped
        self.calls[f"{call} at {here.f_code.co_filename}:{here.f_lineno}"] += 1


class Gauge:
    """Tells on a unix socket how many tasks there are, how late the loop was, and what held it up.

    A line `?` asks, `!` asks and begins anew, `+NAME` switches a sabotage on, `+` all off, `@MODE` the name server;
    `#` collects garbage, and tells how many objects nobody but the collector has freed since it last was told to.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lags: list[float] = []
        self._busiest = self._burnt = 0.0
        self._calls: Counter[str] = Counter()
        self._garbage = 0
        self._serving = False
        self._thread = threading.get_ident()
        self._blockbuster = detector()

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_unix_server(self._answer, self._path)
        self._burnt = time.thread_time()
        self._due = self._loop.time() + TICK
        self._timer = self._loop.call_at(self._due, self._tick)
        sys.addaudithook(self._audit)
        gc.callbacks.append(self._collected)

    async def __aexit__(self, *_: object) -> None:
        self._serving = False
        self._blockbuster.deactivate()
        gc.callbacks.remove(self._collected)
        self._timer.cancel()
        self._server.close()

    def _tick(self) -> None:
        now = self._loop.time()
        if len(self._lags) < KEPT:
            self._lags.append(max(0.0, now - self._due))
        burnt = time.thread_time()  # what neighbours on the machine take is not in it
        self._busiest = max(self._busiest, burnt - self._burnt)
        self._burnt = burnt
        self._due = now + TICK
        self._timer = self._loop.call_at(self._due, self._tick)

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            self._garbage += info["collected"]

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._serving:
            return
        if event in STARTS or (event in WAITS and threading.get_ident() == self._thread):
            what = str(args[0])[:80] if args else ""
            if not what.startswith("/proc/"):
                self._calls[f"{event} {what}"] += 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        word = (await reader.readline()).decode().strip()
        if word == "#":
            gc.collect()
        lags = sorted(self._lags)
        report = {
            "tasks": len(asyncio.all_tasks()) - 1,  # without this one
            "lag_p99": lags[int(len(lags) * 0.99)] if lags else 0.0,
            "lag_max": lags[-1] if lags else 0.0,
            "ticks": len(lags),
            "busiest": self._busiest,  # seconds of CPU between two ticks
            "calls": dict(self._calls),
            "garbage": self._garbage,
        }
        if word == "#":
            self._garbage = 0
        if word.startswith("+"):
            from tests.faults import sabotage

            sabotage.switch(word[1:])
        if word.startswith("@"):
            nameserver.switch(word[1:])
        if word == "!":
            self._lags, self._calls, self._busiest, self._serving = [], Counter(), 0.0, True
            Blocked.calls = self._calls
            blocking.BlockingError = Blocked  # type: ignore[misc]
            self._blockbuster.activate()
        writer.write(json.dumps(report).encode())
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def main() -> None:
    if os.environ.get(NAMES):
        nameserver.install()
    if name := os.environ.get(SABOTAGE):
        from tests.faults import sabotage

        sabotage.switch(name)
    if path := os.environ.get(GAUGE):
        run = Supervisor.run

        async def gauged(supervisor: Supervisor) -> int:
            async with Gauge(path):
                return await run(supervisor)

        Supervisor.run = gauged  # type: ignore[method-assign, assignment]
    from proxy.__main__ import main as product

    product()


if __name__ == "__main__":
    main()
