"""A rig of pools: a proxy with one model at three equal endpoints, a load at a fixed rate, and what became of each.

Whether a model server lives in a thread (`StandIn`) or in a process of its own (`Server`, to be killed or stopped) is
the scenario's choice. What each call was and when it began is read from the access log.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from proxy.standins.behaviour import Behaviour
from proxy.standins.standin import StandIn
from tests.faults import child
from tests.faults.client import Answer, Client, request
from tests.harness import ROOT, Proxy, until

NAMES = ("a", "b", "c")
CONFIG = """
version: 1
server: {{hold: 30s, drain: 2s}}
timeouts: {{connect: 2s, tls: 1s, first_content: {first}, idle: 15s, total: 60s}}
ejection: {{base: {base}, slow_start: {ramp}}}
upstreams:
{upstreams}
models:
  m: {{endpoints: [{endpoints}], price: {{input: 1, output: 1}}}}
{models}
policies:
  p: {{model: m}}
{policies}
"""
EVENTS = (75, 225)  # of a stream of the load, at least and at most
KEY = "sk-upstream-canary-0123456789"


@dataclass(frozen=True)
class Size:
    """Of a scenario: how much, and for how long. Seconds."""

    workers: int
    rate: float  # requests a second at most; in the long form at most 60 % of what was measured
    streams: int  # that are open all the time
    answer: float  # what an answer takes
    healthy: float  # before the fault
    fault: float
    after: float  # it
    base: str  # the first ejection
    ramp: str  # the slow start


SIZES = {
    "short": Size(1, 40.0, 1, 0.02, 0.3, 0.9, 0.5, "300ms", "500ms"),
    "long": Size(2, 300.0, 200, 0.2, 15.0, 30.0, 15.0, "5s", "10s"),
}


@dataclass
class Sent:
    """A request of the load."""

    number: int
    at: float  # Unix time
    took: float = 0.0  # seconds
    answer: Answer = field(default_factory=Answer)

    @property
    def good(self) -> bool:
        return self.answer.ending == "complete"


@dataclass(frozen=True)
class Try:
    """One call of an endpoint."""

    number: int  # of the request
    endpoint: str
    at: float  # Unix time, when it began
    took: float
    result: str


class Server:
    """A model server in a process of its own. `options`: more of `python -m proxy.standins`."""

    def __init__(self, *options: str) -> None:
        self.port = 0
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "proxy.standins",
            "tuned",
            "--instant",
            "--room=200000",
            "--until-stdin-closes",
        ]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        self.port = int(line.split(":")[2].split("/")[0])

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def journal(self) -> list[dict[str, Any]]:
        """Of the process that runs now, as `Entry.describe` has it."""
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/journal", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def misbehave(self, fault: str) -> None:
        """From now on, for as many requests as a scenario sends."""
        script = "\n".join([fault] * 20_000).encode()
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/script", script, timeout=10) as answer:
            answer.read()

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)


class Pool:
    """`servers`: those that are no stand-ins of this process, by name. `urls`: endpoints that are no servers of ours.

    `models`, `policies`: more lines of the config. `ca`: what is trusted at `urls`.
    `names`: the endpoints have names.
    """

    def __init__(
        self,
        size: Size,
        *,
        servers: Mapping[str, Server] | None = None,
        urls: Mapping[str, str] | None = None,
        first: str = "30s",
        policies: Sequence[str] = (),
        models: Sequence[str] = (),
        ca: Path | None = None,
        names: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.size = size
        self.sent: list[Sent] = []  # requests that are not streamed
        self.streams: list[Sent] = []  # that have begun
        self.standins = {name: StandIn("tuned", room=200_000) for name in NAMES
                         if name not in (servers or {}) and name not in (urls or {})}  # fmt: skip
        self._servers = servers or {}
        self._urls = urls or {}
        self._first = first
        self._more = (models, policies)
        self._ca = ca
        self._has_names = names
        self._env = env or {}
        self.times: dict[int, float] = {}  # seconds that each request took, says the proxy
        self._streaming: list[asyncio.Task[None]] = []
        self._idle: list[Client] = []
        self._numbers = itertools.count(1)
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            urls = dict(self._urls)
            for name, server in (*self.standins.items(), *self._servers.items()):
                urls[name] = opened.enter_context(server).base_url
            models, policies = self._more
            config = CONFIG.format(
                first=self._first,
                base=self.size.base,
                ramp=self.size.ramp,
                upstreams="\n".join(f"  {name}: {self._upstream(name, urls[name])}" for name in NAMES),
                endpoints=", ".join(f"{{at: {name}}}" for name in NAMES),
                models="\n".join(models),
                policies="\n".join(policies),
            )
            args = ("--workers", str(self.size.workers))
            self.proxy = opened.enter_context(Proxy(config, env=self._env, args=args, module="tests.faults.child"))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._opened.close()

    def _upstream(self, name: str, url: str) -> str:
        if self._has_names:
            url = url.replace("127.0.0.1", f"{name}.test")
        more = f", tls: {{ca: {self._ca}}}" if self._ca and name in self._urls else ""
        return f'{{base_url: "{url}", api_key: {KEY}{more}}}'

    def gauge(self, line: str) -> dict[str, Any]:
        """Tell the child something, and hear what it says: see `child.Gauge`."""
        data = b""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(self._env[child.GAUGE])
            sock.sendall(f"{line}\n".encode())
            while piece := sock.recv(65536):
                data += piece
        report: dict[str, Any] = json.loads(data)
        return report

    def misbehave(self, name: str, fault: str, every: int = 1) -> None:
        """From now on, at each so many-th request; with no fault, behave again."""
        self.standins[name].every = (every, Behaviour.parse(fault)) if fault else None

    # --- load

    async def ask(self, fault: str = "", *, policy: str = "p", stream: bool = False) -> Sent:
        """One request, on a connection that is free, or a new one."""
        client = self._idle.pop() if self._idle else await Client.open(self.proxy.url)
        begun = time.perf_counter()
        sent = self._send(client, fault or f"ttft={self.size.answer}", policy, stream)
        await client.answer(sent.answer)
        sent.took = time.perf_counter() - begun
        client.received.clear()
        if sent.answer.whole and not client.reader.at_eof():
            self._idle.append(client)
        else:
            client.close()
        return sent

    def _send(self, client: Client, fault: str, policy: str, stream: bool) -> Sent:
        sent = Sent(next(self._numbers), time.time())
        self.sent.append(sent)
        text = f"{sent.number} [[fault {fault}]]"
        body = {"model": policy, "messages": [{"role": "user", "content": text}], "stream": stream}
        client.send(request(json.dumps(body).encode(), f"x-request-id: {sent.number}"))
        return sent

    @asynccontextmanager
    async def load(self, rate: float) -> AsyncIterator[None]:
        """Requests at this rate, whatever becomes of them, and the streams beside; at the end all have ended."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        running: list[asyncio.Task[Sent]] = []

        async def main() -> None:
            begun = loop.time()
            while not stop.is_set():
                running.append(loop.create_task(self.ask()))
                await asyncio.sleep(max(0.0, begun + len(running) / rate - loop.time()))

        await self._open_streams()
        sending = loop.create_task(main())
        try:
            yield
        finally:
            stop.set()
            await sending
            await asyncio.gather(*running)
            left = set(self._streaming)
            while left:  # a cancel can be lost in `wait_for`, in the moment in which something comes
                for stream in left:
                    stream.cancel()
                _, left = await asyncio.wait(left, timeout=0.5)
            await self.close()

    async def _open_streams(self) -> None:
        if self._streaming:
            return
        loop = asyncio.get_running_loop()
        begun: set[int] = set()
        self._streaming = [loop.create_task(self._stream(number, begun)) for number in range(self.size.streams)]
        async with asyncio.timeout(60):
            while len(begun) < len(self._streaming):
                await asyncio.sleep(0.05)

    async def _stream(self, number: int, begun: set[int]) -> None:
        """One after the other, each of five events a second; the one that is cut off by our own end is forgotten.

        Of many lengths: 200 that end and begin at once would be a pause of our own. `begun`: whose first one has.
        """
        chance = random.Random(number)
        while True:
            length = chance.randint(*EVENTS)
            async with await Client.open(self.proxy.url) as client:
                stream = self._send(client, f"ttft={self.size.answer} pace=0.2 tokens={length}", "p", True)
                self.sent.remove(stream)
                await client.answer(stream.answer, events=1)
                self.streams.append(stream)
                begun.add(number)
                try:
                    await client.answer(stream.answer)
                except asyncio.CancelledError:
                    self.streams.remove(stream)
                    raise

    async def rate(self) -> float:
        """R: at most 60 % of what callers without a pause reach, beside the streams."""
        if self.size.workers == 1:
            return self.size.rate
        await self._open_streams()
        begun, number = time.perf_counter(), len(self.sent)

        async def caller() -> None:
            while time.perf_counter() - begun < 3.0:
                await self.ask()

        await asyncio.gather(*(caller() for _ in range(150)))
        return min(self.size.rate, 0.6 * (len(self.sent) - number) / (time.perf_counter() - begun))

    # --- what happened

    def tries(self, sent: Sequence[Sent]) -> dict[int, list[Try]]:
        """The calls made for each of these requests, in order, as the access log has them."""
        wanted = {each.number for each in sent}
        found: dict[int, list[Try]] = {}
        for _ in until(10.0, "the access log to have all requests"):
            lines = self._lines()
            found = {number: tries for number, tries in map(_tries, lines) if number in wanted}
            self.times = {int(line.get("client_id") or 0): line["ms"] / 1000 for line in lines}
            if len(found) == len(wanted):
                break
        return found

    def _lines(self) -> list[dict[str, Any]]:
        return [line for line in self.proxy.log if line.get("event") == "request"]

    def check(self) -> None:
        """What must hold whatever happened: one ending each, few attempts, all quiet, all calls in the books."""
        silent = [each for each in (*self.sent, *self.streams) if each.answer.ending.startswith("silent")]
        assert not silent, f"{len(silent)} ended in silence, as {silent[0].answer.ending}"
        tries = self.tries(self.sent)
        assert max(map(len, tries.values())) <= 3
        self.proxy.wait_for_metric("pointsman_inflight_requests", 0.0)
        called: dict[str, int] = {}
        for name, standin in self.standins.items():
            called[name] = sum(b'"stream":true' not in entry.body for entry in standin.journal)
        for name, server in self._servers.items():
            called[name] = sum(entry["body"].get("stream") is not True for entry in server.journal())
        for name, count in called.items():
            booked = sum(each.endpoint == name for calls in tries.values() for each in calls)
            assert count <= booked, f"{name} was called {count} times, {booked} are booked"
        assert b"Traceback" not in self.proxy.text.encode()

    async def close(self) -> None:
        """Let go of the idle connections."""
        for client in self._idle:
            client.close()
        self._idle.clear()


def _tries(line: Mapping[str, Any]) -> tuple[int, list[Try]]:
    number = int(line.get("client_id") or 0)
    at = datetime.fromisoformat(line["timestamp"]).timestamp() - line["ms"] / 1000
    tries = []
    for each in line["attempts"]:
        took = each["ms"] / 1000
        tries.append(Try(number, each["endpoint"], at, took, each["result"]))
        at += took
    return number, tries


def within(sent: Sequence[Sent], since: float, until: float = 1e12) -> list[Sent]:
    """Those begun in this time."""
    return [each for each in sent if since <= each.at < until]


def share(tries: Mapping[int, Sequence[Try]], endpoint: str, since: float = 0.0, until: float = 1e12) -> float:
    """Of the calls begun in this time, how many were of this endpoint."""
    counts = Counter(each.endpoint for calls in tries.values() for each in calls if since <= each.at < until)
    return counts[endpoint] / max(1, counts.total())


def extra(tries: Mapping[int, Sequence[Try]]) -> float:
    """Calls beyond one for each request."""
    return sum(map(len, tries.values())) / max(1, len(tries)) - 1


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else 0.0
