"""A TCP proxy that misbehaves between any two parts: late, slow, cut off, reset, or a black hole.

    async with Lossy(standin.port, Trouble(cut_after=500, how="rst")) as lossy:
        ...talk to 127.0.0.1:lossy.port; change lossy.trouble at any time: a cut is for new connections only
        lossy.reset()       # of all that are open

And `black_hole`: an address where even a connect is never answered.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

PIECE = 16 * 1024
LOOK = 0.005  # seconds between looks at whether a hole has closed


@dataclass(frozen=True)
class Trouble:
    """What happens to what the server sends; `delay` and `jitter` also to what the client sends."""

    delay: float = 0.0  # seconds that each piece is held
    jitter: float = 0.0  # and up to so many more
    rate: float | None = None  # bytes a second
    cut_after: int | None = None  # bytes of the answer, then the end
    how: str = "fin"  # of a cut: fin or rst
    hole: bool = False  # nothing passes, either way; once it has closed, what was held does, as after a partition


class Lossy:
    def __init__(self, port: int, trouble: Trouble | None = None, *, seed: int = 0) -> None:
        self.trouble = trouble or Trouble()
        self.port = 0
        self.accepted = 0
        self._to = port
        self._random = random.Random(seed)
        self._running: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def reset(self) -> None:
        """Break every connection off."""
        for writer in self._clients:
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        self._clients.add(writer)
        try:
            await self._join(reader, writer)
        except asyncio.CancelledError:
            return  # by our own end
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        how, cut_after = self.trouble.how, self.trouble.cut_after
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            _reset(writer)
            return
        up = asyncio.get_running_loop().create_task(self._pass(reader, back, how, None))
        down = asyncio.get_running_loop().create_task(self._pass(there, writer, how, cut_after))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            back.close()  # before anything is awaited: we may be cancelled once more
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, how: str, limit: int | None
    ) -> None:
        passed = 0
        with contextlib.suppress(ConnectionError):
            while True:
                rate = self.trouble.rate
                data = await reader.read(PIECE if rate is None else max(1, int(rate / 20)))
                if self.trouble.delay or self.trouble.jitter:
                    await asyncio.sleep(self.trouble.delay + self._random.random() * self.trouble.jitter)
                while self.trouble.hole:
                    await asyncio.sleep(LOOK)
                if not data:
                    return
                if limit is not None and passed + len(data) >= limit:
                    writer.write(data[: limit - passed])
                    await writer.drain()
                    if how == "rst":
                        _reset(writer)
                    return
                writer.write(data)
                await writer.drain()
                passed += len(data)
                if rate is not None:
                    await asyncio.sleep(len(data) / rate)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port of the loopback whose SYNs are dropped: a listener that accepts nothing, with its backlog full."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):  # one more than the kernel queues
            filler = opened.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        yield port
