"""The demo's processes: two stand-in models and the proxy, started in order, ended together."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

READY = 60.0  # seconds a process may take to become ready; a cold start on a slow machine is one
STOP = 10.0  # seconds a process may take to end before it is killed
# The children run the code that runs here, whatever folder the demo was started in.
_HERE = str(Path(__file__).parents[2])


class NotReady(Exception):
    """A process did not start. The message holds what it said last."""


class Stage:
    """`async with Stage(config) as stage:` has everything running inside, nothing after it."""

    def __init__(self, config: Path, *, port: int = 8080, admin_port: int = 8081, seed: int = 0) -> None:
        self.config = config
        self.port = free_port(port)
        self.admin_port = free_port(admin_port, besides=self.port)
        self.seed = seed
        self.strong = ""  # base URLs of the stand-ins
        self.tuned = ""
        self._log: IO[bytes] | None = None
        self._running: list[asyncio.subprocess.Process] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def metrics_url(self) -> str:
        return f"{self.admin_url}/metrics"

    async def __aenter__(self) -> Self:
        self._log = tempfile.TemporaryFile(prefix="pointsman-demo-")  # noqa: SIM115 - closed by __aexit__
        try:
            self.strong, self.tuned = await asyncio.gather(self._standin("strong"), self._standin("tuned"))
            await self._proxy()
        except BaseException:  # also a cancellation: nothing may be left running
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._end()

    async def _standin(self, persona: str) -> str:
        arguments = [persona, "--seed", str(self.seed), "--until-stdin-closes"]
        process = await self._start("proxy.standins", *arguments, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(process.stdout.readline(), READY)
            if line:
                return line.decode().strip()
        raise NotReady(f"the stand-in {persona!r} did not start:\n{self._said()}")

    async def _proxy(self) -> None:
        arguments = ["serve", "-c", str(self.config), "--port", str(self.port), "--admin-port", str(self.admin_port)]
        process = await self._start("proxy", *arguments, env={"STRONG_URL": self.strong, "TUNED_URL": self.tuned})
        until = time.monotonic() + READY
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            while process.returncode is None and time.monotonic() < until:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{self.admin_url}/readyz")).status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(0.05)
        raise NotReady(f"the proxy did not become ready:\n{self._said()}")

    async def _start(
        self, module: str, *arguments: str, stdout: int | None = None, env: Mapping[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", module, *arguments,
            stdin=asyncio.subprocess.PIPE,  # closes when we die, however we die
            stdout=self._log if stdout is None else stdout,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": _HERE, **(env or {})},
            start_new_session=True,  # a Ctrl-C is ours to handle: the proxy must outlive the last scrape
        )  # fmt: skip
        self._running.append(process)
        return process

    def _said(self) -> str:
        """The last lines that the processes wrote."""
        assert self._log is not None
        self._log.seek(0)
        return "\n".join(self._log.read().decode("utf-8", "replace").splitlines()[-30:])

    async def _end(self) -> None:
        """End the proxy first, so that it finds its models until the last."""
        for process in reversed(self._running):
            await end(process)
        self._running.clear()
        if self._log is not None:
            self._log.close()


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, and see that it does."""
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), STOP)
        except TimeoutError:
            process.kill()
            await process.wait()


def free_port(preferred: int, besides: int = 0) -> int:
    """The preferred port, or another one if it is taken."""
    for port in (preferred, 0):
        if port and port == besides:
            continue
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(sock.getsockname()[1])
    raise NotReady("no free port on 127.0.0.1")
