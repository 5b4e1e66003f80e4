"""The rig: a real proxy between raw clients and misbehaving model servers, and the record of what each was asked.

with Rig() as rig:
    asked = await rig.ask("alone", fault="cut after=3")
    assert asked.ending == "in-band error"
    rig.check()         # the invariants, over everything asked since the last check
"""

import asyncio
import itertools
import json
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from proxy.standins.journal import Entry
from proxy.standins.standin import StandIn
from tests.faults import child, invariants
from tests.faults.client import Answer, Client, request
from tests.faults.probe import has_open, sample
from tests.harness import Labels, Proxy, until

KEYS = {"acme": "sk-acme-canary-0123456789", "bolt": "sk-bolt-canary-9876543210"}
UPSTREAM_KEYS = {"strong": "sk-upstream-strong-canary-7", "tuned": "sk-upstream-tuned-canary-8"}
ADMIN_KEY = "sk-admin-canary-5555555555"
PROMPT_CANARY = "prompt-canary-quokka"
USER_CANARY = "user-canary-axolotl"
ORDERS = {"acme": "73100017", "bolt": "99200028"}  # each tenant's own number, which answers repeat

CONFIG = """
version: 1
server: {{hold: {hold}, keep_alive_comment: 100ms, max_body: {max_body}, drain: {drain}, announce: {announce},
         admin_key: sk-admin-canary-5555555555}}
keys:
  - {{name: acme, key: sk-acme-canary-0123456789, tenant: acme}}
  - {{name: bolt, key: sk-bolt-canary-9876543210, tenant: bolt}}
retries: {{pause: 0s}}
timeouts: {{connect: 2s, first_content: 20s, idle: {idle}, idle_content: {idle}, total: {total}}}
upstreams:
  strong: {{base_url: "{strong}", api_key: sk-upstream-strong-canary-7, dialect: openai{limits}}}
  tuned: {{base_url: "{tuned}", api_key: sk-upstream-tuned-canary-8{limits}}}
models:
  strong: {{at: strong, price: {{input: 2.5, cached_input: 1.25, output: 10}}}}
  tuned: {{at: tuned, price: {{input: 0.1, output: 0.4}}}}
  hasty: {{at: tuned, price: {{input: 0.1, output: 0.4}},
          timeouts: {{connect: 1s, first_content: {hasty_first}, idle: {hasty}, idle_content: {hasty},
                     total: {hasty_total}}}}}
prompts: {{support: prompts/support/}}
policies:
  pair:
    baseline: strong
    routes: {{tuned: {{model: tuned, fallback: strong}}, strong: {{model: strong, prompt: support@1}}}}
    default: tuned
  alone: {{routes: {{tuned: {{model: tuned}}}}, default: tuned}}
  strong: {{routes: {{strong: {{model: strong, prompt: support@1}}}}, default: strong}}
  hasty: {{routes: {{hasty: {{model: hasty}}}}, default: hasty}}
  switch: {{routes: {{hasty: {{model: hasty, fallback: strong}}, strong: {{model: strong}}}}, default: hasty}}
  chain:
    routes:
      a: {{model: tuned, fallback: b}}
      b: {{model: strong, fallback: c}}
      c: {{model: tuned, fallback: d}}
      d: {{model: strong, fallback: e}}
      e: {{model: tuned}}
    default: a
"""
PROMPT = json.dumps(
    {"messages": [{"system": f"Answer with the JSON intent only. Never repeat {PROMPT_CANARY}."}, "input"]}
)
BEHIND = 1.0  # seconds at most to wait for the log: some scenarios have it drop lines
DEFAULTS = {
    "max_body": "1MiB", "drain": "30s", "announce": "0s", "total": "120s", "limits": "", "hasty": "500ms",
    "hasty_first": "500ms", "hasty_total": "10s", "hold": "5s", "idle": "20s",
}  # fmt: skip


@dataclass
class Asked:
    """A request that was sent: what it asked, what came back, and when its client left if it did not wait."""

    number: int
    tenant: str
    policy: str
    stream: bool
    wants_usage: bool
    fault: str
    client: Client
    answer: Answer = field(default_factory=Answer)
    sent: float = field(default_factory=time.time)  # Unix time, as the journals have it
    left: float | None = None  # Unix time
    counts: bool = True  # it must be in the books
    silence: float = 0.0  # seconds between its last content and its end, where that was looked at

    @property
    def ending(self) -> str:
        return "left" if self.left is not None else self.answer.ending

    async def until(self, events: int) -> Self:
        """Read until so many content events have come, or the end."""
        await self.client.answer(self.answer, events=events)
        return self

    async def ended(self) -> Self:
        await self.client.answer(self.answer)
        return self

    def leave(self, how: str = "fin") -> None:
        self.left = time.time()
        self.client.leave(how)


class Rig:
    """`sabotage`: one of `tests.faults.sabotage`. `settings`: of DEFAULTS. `upstreams`: base URLs in place of the
    stand-ins' own, as of a `Lossy` before them."""

    def __init__(
        self,
        *,
        sabotage: str = "",
        workers: int = 1,
        settings: Mapping[str, str] | None = None,
        upstreams: Mapping[str, str] | None = None,
        gauge: bool = True,
        keep_alive: float | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.strong = StandIn("strong", key=UPSTREAM_KEYS["strong"], room=100_000)
        self.tuned = StandIn("tuned", key=UPSTREAM_KEYS["tuned"], room=100_000, keep_alive=keep_alive)
        self.patience = invariants.SOON  # seconds until all must be quiet
        self.asked: list[Asked] = []  # since the last check
        self.heard = bytearray()  # what clients received outside of `asked`
        self._numbers = itertools.count(1)
        self._sabotage = sabotage
        self._workers = workers
        self._settings = {**DEFAULTS, **(settings or {})}
        self._upstreams = upstreams
        self._has_gauge = gauge
        self._prefix = prefix  # a command that runs the proxy
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(self.strong)
            opened.enter_context(self.tuned)
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
            self._gauge = folder / "gauge"
            at = {"strong": self.strong.base_url, "tuned": self.tuned.base_url, **(self._upstreams or {})}
            env = {child.SABOTAGE: self._sabotage, **({child.GAUGE: str(self._gauge)} if self._has_gauge else {})}
            self.proxy = opened.enter_context(
                Proxy(
                    CONFIG.format(**at, **self._settings),
                    {"prompts/support/1.yaml": PROMPT},
                    env=env,
                    args=("--workers", str(self._workers)),
                    module="tests.faults.child",
                    prefix=self._prefix,
                )
            )
            self._log_file = opened.enter_context((self.proxy.folder / "stderr.log").open("rb"))
            self._lines: list[dict[str, Any]] = []
            self._partial = b""
            self.log_bytes = bytearray()  # since the last check
            self.baseline = self._steady()
            self.counted = self.proxy.metrics()
            if self._has_gauge:
                self.gauge(anew=True)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._opened.close()

    # --- asking

    def body(
        self,
        policy: str,
        tenant: str,
        *,
        stream: bool,
        usage: bool = False,
        fault: str = "",
        fields: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        text = f"{USER_CANARY} where is my order {ORDERS[tenant]}?"
        content = f"{text} [[fault {fault}]]" if fault else text
        body = {"model": policy, "messages": [{"role": "user", "content": content}], "stream": stream}
        body |= fields or {}
        return body | {"stream_options": {"include_usage": True}} if usage else body

    def wire(self, number: int, tenant: str, body: bytes, *headers: str) -> bytes:
        """A request that can be told apart everywhere: in the access log, and in the journals."""
        return request(
            body,
            f"authorization: Bearer {KEYS[tenant]}",
            f"x-request-id: {number}",
            f"traceparent: 00-{number:032x}-{1:016x}-01",
            *headers,
        )

    async def start(
        self,
        policy: str = "alone",
        *,
        tenant: str = "acme",
        stream: bool = True,
        usage: bool = False,
        fault: str = "",
        client: Client | None = None,
        receive_buffer: int | None = None,
        headers: Sequence[str] = (),
        fields: Mapping[str, Any] | None = None,
    ) -> Asked:
        """Send a request; who reads its answer is up to the caller, who also closes its client."""
        client = client or await Client.open(self.proxy.url, receive_buffer=receive_buffer)
        asked = Asked(next(self._numbers), tenant, policy, stream, usage, fault, client)
        self.asked.append(asked)
        body = self.body(policy, tenant, stream=stream, usage=usage, fault=fault, fields=fields)
        client.send(self.wire(asked.number, tenant, json.dumps(body).encode(), *headers))
        return asked

    async def ask(self, policy: str = "alone", **how: Any) -> Asked:
        """Send a request on a connection of its own and read its answer to the end."""
        asked = await self.start(policy, **how)
        async with asked.client:
            return await asked.ended()

    async def asks(self, count: int, policy: str = "alone", *, at_once: int = 20, **how: Any) -> list[Asked]:
        """So many requests, never more than `at_once` at a time."""
        gate = asyncio.Semaphore(at_once)

        async def one() -> Asked:
            async with gate:
                return await self.ask(policy, **how)

        return await asyncio.gather(*(one() for _ in range(count)))

    @asynccontextmanager
    async def streams(
        self, count: int, policy: str = "alone", *, events: int = 1, **how: Any
    ) -> AsyncIterator[list[Asked]]:
        """So many live streams that have had `events` content events."""
        opened = list(await asyncio.gather(*(self.start(policy, **how) for _ in range(count))))
        try:
            await asyncio.gather(*(asked.until(events) for asked in opened))
            yield opened
        finally:
            await asyncio.gather(*(asked.client.__aexit__(None, None, None) for asked in opened))

    # --- seeing

    @property
    def standins(self) -> tuple[StandIn, ...]:
        return (self.strong, self.tuned)

    def calls(self) -> dict[int, list[Entry]]:
        """What reached the models, by the number of the request that caused it, in order."""
        found: dict[int, list[Entry]] = {}
        for entry in sorted((e for s in self.standins for e in s.journal), key=lambda e: e.received):
            parent = entry.header("traceparent")
            if parent:
                found.setdefault(int(parent.split("-")[1], 16), []).append(entry)
        return found

    def records(self) -> list[dict[str, Any]]:
        """The access log since the last check."""
        data = self._log_file.read()
        self.log_bytes += data
        *whole, self._partial = (self._partial + data).split(b"\n")
        self._lines += [json.loads(line) for line in whole if b'"event":"request"' in line]
        return self._lines

    def gauge(self, *, anew: bool = False) -> dict[str, Any]:
        """What the child says of its event loop since it was last asked `anew`: see `child.Gauge`."""
        return self._say("!" if anew else "?")

    def garbage(self) -> int:
        """Objects in the child that only its collector has freed since this was asked last; the loop stands still
        meanwhile."""
        found: int = self._say("#")["garbage"]
        return found

    def sabotage(self, name: str) -> None:
        """Break the running proxy in this way; with no name, mend it."""
        self._say(f"+{name}")

    def _say(self, line: str) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self._gauge))
            sock.sendall(f"{line}\n".encode())
            data = b""
            while piece := sock.recv(65536):
                data += piece
        report: dict[str, Any] = json.loads(data)
        return report

    def resources(self) -> tuple[int, int]:
        """Descriptors without those to the models, and tasks."""
        descriptors = sample(self.proxy.pid).descriptors - sum(len(s.connections) for s in self.standins)
        return descriptors, self.gauge()["tasks"] if self._has_gauge else 0

    def _steady(self) -> tuple[int, int]:
        """The resources once the start is over: the watch of the config's files begins after it, sooner or later."""
        before = (0, 0)
        for _ in until(20.0, "the proxy to have opened all that it needs"):
            if not has_open(self.proxy.pid, "anon_inode:inotify"):
                continue
            found = self.resources()
            if found == before:
                break
            before = found
            time.sleep(0.15)
        return before

    def growth(self, metrics: Mapping[tuple[str, Labels], float], name: str) -> dict[Labels, float]:
        """How much each series of a counter has grown since the last check."""
        return {
            labels: value - self.counted.get((name, labels), 0.0)
            for (found, labels), value in metrics.items()
            if found == name and value != self.counted.get((name, labels), 0.0)
        }

    def check(self) -> None:
        """Hold all invariants against what happened since the last check, then begin anew. Raises `Violated`."""
        try:
            invariants.check(self)
        finally:
            self.forget()

    def forget(self) -> None:
        """Begin anew. What is counted already is in the log first, whose writer is a thread and may be behind."""
        counted = self.proxy.metrics()
        grown = sum(self.growth(counted, "pointsman_requests_total").values())
        end = time.monotonic() + BEHIND
        while len(self.records()) < grown and time.monotonic() < end:
            time.sleep(0.02)
        self.asked, self._lines = [], []
        self.heard.clear()
        self.log_bytes.clear()
        self.counted = counted
        for standin in self.standins:
            standin.journal.clear()

    def settled(self, count: int) -> list[dict[str, Any]]:
        """The access log, once it has so many lines and its writer has had the time for one more."""
        for _ in until(5.0, f"{count} lines in the access log"):
            if len(self.records()) >= count:
                break
        time.sleep(0.1)
        return self.records()
