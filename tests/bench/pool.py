"""CPU time of the upstream pool alone: `python -m tests.bench.pool`. A trivial server answers in its own process.

CPU time of this process from the operating system, so a noisy neighbour shifts it little; a bare `asyncio.Protocol`
that writes the same bytes and counts what comes back stands beside it as the floor.
"""

import argparse
import asyncio
import cProfile
import multiprocessing
import pstats
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from proxy.outbox import Outbox
from proxy.upstreams.base import Call, Target
from proxy.upstreams.descriptors import Descriptors
from proxy.upstreams.pool import Pool

BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 272 + b'"}]}'
ANSWER = b'{"id":"chatcmpl-1","choices":[{"message":{"content":"' + b"y" * 783 + b'"}}]}'
HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 12:00:00 GMT\r\nserver: standin\r\ncontent-type: application/json\r\n"
    b"x-request-id: req-0123456789\r\nopenai-processing-ms: 12\r\n"
)
JSON = HEAD + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
EVENT = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{"content":"hello"}}]}\n\n'
EVENTS = 200


class Server(asyncio.Protocol):
    """Answers by path: `/json` at once, `/paced` event by event."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"POST /paced"):
            self.transport.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
            self.event(EVENTS)
        else:
            self.transport.write(JSON)

    def event(self, left: int) -> None:
        if left:
            self.transport.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            asyncio.get_running_loop().call_later(0.002, self.event, left - 1)
        else:
            self.transport.write(b"0\r\n\r\n")


def serve(ports: Any) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        ports.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


class Bare(asyncio.Protocol):
    """The floor: the same bytes through the same loop, nothing parsed."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.waiter: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self.waiter:
            self.waiter.set_result(None)
            self.waiter = None

    async def send(self, request: bytes) -> None:
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self.waiter


async def measure(work: Callable[[], Awaitable[object]], times: int, at_once: int) -> float:
    """Return CPU microseconds per call of `work`."""

    async def some() -> None:
        for _ in range(times // at_once):
            await work()

    await asyncio.gather(*(work() for _ in range(at_once)))
    before = time.process_time()
    await asyncio.gather(*(some() for _ in range(at_once)))
    return (time.process_time() - before) / (times // at_once * at_once) * 1e6


async def main(port: int, args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    target = Target("bench", f"http://127.0.0.1:{port}", headers=((b"authorization", b"Bearer sk-bench"),))
    pool = Pool(target, Descriptors(), Outbox())

    async def exchange(path: bytes) -> None:
        reply = await pool.send(Call(path, BODY), loop.time() + 60)
        while await reply.read(loop.time() + 60):
            pass
        reply.close()

    bare: list[Any] = [(await loop.create_connection(Bare, "127.0.0.1", port))[1] for _ in range(args.at_once)]
    request = b"POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY

    async def floor() -> None:
        protocol = bare.pop()
        await protocol.send(request)
        bare.append(protocol)

    for _ in range(args.rounds):
        least = await measure(floor, args.times, args.at_once)
        json = await measure(lambda: exchange(b"/json"), args.times, args.at_once)
        print(f"JSON request: pool {json:5.1f} us, bare protocol {least:5.1f} us, so ours {json - least:5.1f} us")
    paced = await measure(lambda: exchange(b"/paced"), args.at_once * 2, args.at_once)
    print(f"paced event:  pool {paced / EVENTS:5.1f} us")
    if args.profile:
        with cProfile.Profile() as profile:
            await measure(lambda: exchange(b"/json"), args.times, args.at_once)
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)
    await pool.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20_000)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        uvloop.run(main(here.recv(), args))
    finally:
        server.terminate()
        server.join()
