"""A model server on raw sockets that does what a test's script says: a framework would repair the faults."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Peer:
    """One connection as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: "RawServer"

    async def request(self) -> bytes | None:
        """Return the next request's body; its head goes to `server.heads`. None when the client has gone."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            self.server.heads.append(head)
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            return await self.reader.readexactly(int(length.partition(b":")[2]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def write(self, data: bytes) -> None:
        if self.writer.is_closing():  # uvloop raises RuntimeError for what the client has reset
            raise ConnectionResetError
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed or reset."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Close with RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class RawServer:
    script: Script
    tls: ssl.SSLContext | None = None
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://{'localhost' if self.tls else '127.0.0.1'}:{self.port}/v1"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["RawServer"]:
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            self.connections += 1
            self.open += 1
            try:
                await self.script(Peer(reader, writer, self))
            except (asyncio.CancelledError, ConnectionError):
                pass  # the test is over, or the client went: a script need not care
            finally:
                self.open -= 1
                tasks.discard(task)
                writer.close()
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await writer.wait_closed()

        listener = await asyncio.start_server(serve, "127.0.0.1", self.port, ssl=self.tls, backlog=512)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for task in tuple(tasks):
                task.cancel()
            if tasks:
                await asyncio.wait(tuple(tasks))


def answer(body: bytes = b"{}", status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    """A whole answer with a content-length; `headers` are lines with their ends."""
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body)


def always(*writes: bytes) -> Script:
    """Answer every request of a connection with these writes."""

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            for data in writes:
                await peer.write(data)

    return script


def once(*writes: bytes) -> Script:
    """Answer one request with these writes, then close."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for data in writes:
            await peer.write(data)

    return script
