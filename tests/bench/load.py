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
AT_ONCE = 200  # below every listener's backlog


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
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self.begun: asyncio.Future[None] = loop.create_future()  # the first piece of the body

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
        if self.transport.is_closing():
            self._settle(0, b"connection lost")
        else:
            self.transport.write(wire)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)
        if not self.begun.done():
            self.begun.set_result(None)

    def on_message_complete(self) -> None:
        self.usable = self.parser.should_keep_alive()
        self._settle(self.parser.get_status_code(), b"".join(self.pieces))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._settle(0, b"connection lost")

    def _settle(self, status: int, body: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result((status, body))
        if not self.begun.done():
            self.begun.set_result(None)


async def connect(port: int, wanted: int) -> list[Connection]:
    made: list[Connection] = []
    while (left := wanted - len(made)) > 0:
        made += await asyncio.gather(*(Connection.open(port) for _ in range(min(left, AT_ONCE))))
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


async def on_time(job: Job, connections: list[Connection], outcome: Outcome) -> None:
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


async def hold(job: Job, outcome: Outcome) -> list[Connection]:
    """Open streams, a batch at a time, and wait for the first event of each; returns what keeps them open."""
    wire, held = job.wire(), list[Connection]()
    while len(held) < job.connections:
        batch = await connect(job.port, min(AT_ONCE, job.connections - len(held)))
        for connection in batch:
            connection.ask(wire)
        async with asyncio.timeout(20):
            await asyncio.gather(*(connection.begun for connection in batch))
        held += batch
    await asyncio.sleep(0.5)  # what breaks at once must show
    for connection in held:
        outcome.count(f"ended early: {connection.answer.result()}" if connection.answer.done() else None)
    return held


async def stdin_line() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def run(job: Job) -> Outcome:
    outcome = Outcome()
    connections = await (hold(job, outcome) if job.kind == "hold" else connect(job.port, job.connections))
    if job.warm:
        await closed(job, connections, job.warm, outcome)
    if outcome.failed:
        return outcome
    print("ready", flush=True)
    await stdin_line()
    if job.kind == "hold":
        return outcome
    outcome, begun = Outcome(), time.perf_counter()
    await (
        closed(job, connections, job.requests, outcome)
        if job.kind == "closed"
        else on_time(job, connections, outcome)
    )
    outcome.seconds = time.perf_counter() - begun
    return outcome


def exact_timers() -> asyncio.AbstractEventLoop:
    """A loop that can sleep for microseconds: select() takes them, epoll and uvloop round up to milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    job = Job.read(sys.argv[1])
    with asyncio.Runner(loop_factory=exact_timers if job.kind == "open" else uvloop.new_event_loop) as runner:
        try:
            outcome = runner.run(run(job))
        except (OSError, TimeoutError, httptools.HttpParserError) as failure:
            outcome = Outcome(answers=1, failed=1, faults=[repr(failure)])
    print(json.dumps(dataclasses.asdict(outcome)))


if __name__ == "__main__":
    main()
