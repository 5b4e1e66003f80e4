"""The load: one process, many connections, raw HTTP/1.1. It looks at every answer and tells what was wrong with it.

    python -m tests.bench.load JOB

It prints `ready` once it is connected and warm, goes when a line arrives on stdin, and prints one `Outcome` as JSON.
"""

import asyncio
import dataclasses
import json
import selectors
import sys
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Literal, cast

import httptools
import uvloop

from tests.bench.figures import percentile
from tests.bench.payloads import Expect

FAULTS_KEPT = 5
CONNECTING_AT_ONCE = 200  # below every listener's backlog


@dataclass(frozen=True)
class Job:
    """What to send where. `closed`: each connection asks again once answered. `open`: requests start at a fixed rate,
    whatever the answers do. `hold`: ask once on each connection and keep the stream open after its first event."""

    kind: Literal["closed", "open", "hold"]
    port: int
    path: str
    body: str
    expect: Expect
    connections: int
    requests: int
    warm: int = 0  # unmeasured requests before
    rate: float = 0.0  # per second, of an open job
    headers: dict[str, str] = field(default_factory=dict)

    def wire(self) -> bytes:
        head = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(self.body))}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in (head | self.headers).items())]
        return "\r\n".join([*lines, "", self.body]).encode()

    @classmethod
    def read(cls, text: str) -> "Job":
        fields = json.loads(text)
        return cls(**fields | {"expect": Expect(**fields["expect"])})


@dataclass
class Outcome:
    answers: int = 0
    failed: int = 0
    faults: list[str] = field(default_factory=list)  # the first few
    seconds: float = 0.0
    p50_us: float = 0.0  # of an open job, as p99_us
    p99_us: float = 0.0

    def judge(self, expect: Expect, status: int, body: bytes) -> None:
        fault = expect.fault(status, body) or (None if self.answers else expect.deep_fault(body))
        self.count(fault)

    def count(self, fault: str | None) -> None:
        self.answers += 1
        if fault is None:
            return
        self.failed += 1
        if len(self.faults) < FAULTS_KEPT:
            self.faults.append(fault)


class Connection(asyncio.Protocol):
    """One keep-alive connection. Status 0 stands for a connection that was lost before its answer was whole."""

    def __init__(self) -> None:
        self.usable = True
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.begun: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return (await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port))[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, wire: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        loop = asyncio.get_running_loop()
        self.answer, self.begun = loop.create_future(), loop.create_future()
        self.pieces: list[bytes] = []
        self.parser = httptools.HttpResponseParser(self)
        self.transport.write(wire)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)
        if self.begun and not self.begun.done():
            self.begun.set_result(None)

    def on_message_complete(self) -> None:
        self.usable = self.parser.should_keep_alive()
        self._settle(self.parser.get_status_code(), b"".join(self.pieces))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._settle(0, b"connection lost")

    def _settle(self, status: int, body: bytes) -> None:
        if self.answer and not self.answer.done():
            self.answer.set_result((status, body))
        if self.begun and not self.begun.done():
            self.begun.set_result(None)


async def connect(job: Job) -> list[Connection]:
    made: list[Connection] = []
    while (left := job.connections - len(made)) > 0:
        batch = (Connection.open(job.port) for _ in range(min(left, CONNECTING_AT_ONCE)))
        made += await asyncio.gather(*batch)
    return made


async def closed(job: Job, connections: list[Connection], requests: int, outcome: Outcome) -> None:
    """Send so many requests over the connections, each asking again as soon as it is answered."""
    wire, turns = job.wire(), count()

    async def ask_on(connection: Connection) -> None:
        while next(turns) < requests:
            if not connection.usable:
                connection = await Connection.open(job.port)
            outcome.judge(job.expect, *await connection.ask(wire))

    await asyncio.gather(*map(ask_on, connections))


async def open_loop(job: Job, connections: list[Connection], outcome: Outcome) -> None:
    """Start a request each 1/rate s. One that had to wait for a free connection counts from when it was due."""
    wire, turns, start = job.wire(), count(), time.perf_counter() + 0.01
    latencies: list[float] = []

    async def ask_on(connection: Connection) -> None:
        while (turn := next(turns)) < job.requests:
            due = start + turn / job.rate
            waited = due < time.perf_counter()
            if not waited:
                await asyncio.sleep(due - time.perf_counter())
            begun = due if waited else time.perf_counter()
            if not connection.usable:
                connection = await Connection.open(job.port)
            status, body = await connection.ask(wire)
            latencies.append((time.perf_counter() - begun) * 1e6)
            outcome.judge(job.expect, status, body)

    await asyncio.gather(*map(ask_on, connections))
    outcome.p50_us, outcome.p99_us = percentile(latencies, 50), percentile(latencies, 99)


async def hold(job: Job, connections: list[Connection], outcome: Outcome) -> None:
    """Open a stream on each connection, a batch at a time, and wait for its first event."""
    wire = job.wire()
    for at in range(0, len(connections), CONNECTING_AT_ONCE):
        batch = connections[at : at + CONNECTING_AT_ONCE]
        for connection in batch:
            connection.ask(wire)
        async with asyncio.timeout(20):
            await asyncio.gather(*(connection.begun for connection in batch if connection.begun))
    await asyncio.sleep(0.5)  # what breaks at once must show
    for connection in connections:
        assert connection.answer
        outcome.count(f"ended early: {connection.answer.result()}" if connection.answer.done() else None)


async def stdin_line() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def run(job: Job) -> Outcome:
    connections, outcome = await connect(job), Outcome()
    if job.kind == "hold":
        await hold(job, connections, outcome)
    elif job.warm:
        await closed(job, connections, job.warm, outcome)
        if outcome.failed:
            return outcome
        outcome = Outcome()
    print("ready", flush=True)
    await stdin_line()
    begun = time.perf_counter()
    if job.kind == "closed":
        await closed(job, connections, job.requests, outcome)
    elif job.kind == "open":
        await open_loop(job, connections, outcome)
    outcome.seconds = time.perf_counter() - begun
    return outcome


def exact_timers() -> asyncio.AbstractEventLoop:
    """A loop that can sleep for microseconds: select() takes them, epoll and uvloop round up to milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    job = Job.read(sys.argv[1])
    with asyncio.Runner(loop_factory=exact_timers if job.kind == "open" else uvloop.new_event_loop) as runner:
        print(json.dumps(dataclasses.asdict(runner.run(run(job)))))


if __name__ == "__main__":
    main()
