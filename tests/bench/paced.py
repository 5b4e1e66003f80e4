"""A model server that takes its time: an event each 20 ms on one port, one event and then silence on the other.

    python -m tests.bench.paced PACED_PORT IDLE_PORT

Each stream has its own phase, so that events arrive spread out, as they do from many generations at once.
"""

import asyncio
import sys
from itertools import count
from typing import cast

import httptools
import uvloop

from tests.bench import payloads

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
GOLDEN = 0.618034  # multiples of it, modulo 1, spread evenly whatever their number

_streams = count()


def _chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


EVENTS = [_chunk(event) for event in payloads.events(payloads.PACED_WORDS)]
END = b"0\r\n\r\n"


class Stream(asyncio.Protocol):
    """One connection; each request on it is answered by one stream."""

    def __init__(self, *, idle: bool) -> None:
        self.idle = idle
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self.idle:
            self.transport.write(HEAD + EVENTS[0] + EVENTS[1])
            return
        self.transport.write(HEAD + EVENTS[0])
        self.at = 1
        self.due = asyncio.get_running_loop().time() + payloads.PACE_S * (1 + next(_streams) * GOLDEN % 1)
        self.wait()

    def wait(self) -> None:
        self.timer = asyncio.get_running_loop().call_at(self.due, self.speak)

    def speak(self) -> None:
        """Say what is due: the next word, or, with the last one, how it ended."""
        self.due += payloads.PACE_S
        last = self.at == payloads.PACED_WORDS
        self.transport.write(b"".join(EVENTS[self.at :]) + END if last else EVENTS[self.at])
        self.at += 1
        if not last:
            self.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()


async def serve(paced_port: int, idle_port: int) -> None:
    loop = asyncio.get_running_loop()
    for port, idle in ((paced_port, False), (idle_port, True)):
        await loop.create_server(lambda idle=idle: Stream(idle=idle), "127.0.0.1", port, backlog=4096)  # type: ignore[misc]
    print("ready", flush=True)
    await loop.create_future()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
