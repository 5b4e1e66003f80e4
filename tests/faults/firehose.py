"""A model server that answers everything with one long stream, as fast as it is read: for readers that are slow.

The stand-ins make their answers token by token, which takes a core of its own at hundreds of megabytes.
"""

import asyncio
import json
from types import TracebackType
from typing import Self

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BLOCK = 64 * 1024  # bytes written at a time


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


WORD = event({"content": " parcel"})
PIECE = framed(WORD * (BLOCK // len(WORD)))
END = framed(event({}, "stop") + b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Firehose:
    """`size`: bytes of each answer."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.port = 0
        self._running: set[asyncio.Task[None]] = set()

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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            while await self._asked(reader):
                writer.write(HEAD)
                for _ in range(self.size // len(PIECE)):
                    writer.write(PIECE)
                    await writer.drain()
                writer.write(END)
        except ConnectionError:
            return  # whoever asked has left
        finally:
            writer.close()

    async def _asked(self, reader: asyncio.StreamReader) -> bool:
        """Read one request; False once there is none."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        return True
