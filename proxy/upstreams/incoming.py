"""How an upstream connection's bytes come in: from the socket into a buffer of ours, or through a loop's TLS.

When the server closes, TLS layers lose what they still hold: asyncio's what does not fit into a buffer of ours,
uvloop's all of it while reading is paused. So they hand on all at once, and what is paused is the socket below.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Final, cast

from proxy.outbox import Outbox
from proxy.upstreams.connection import Connection

READ: Final = 16 * 1024  # bytes taken from the socket at a time: so many more there may be
POUR: Final = 32 * 1024  # the same of what is handed on at once: a read costs more than its bytes
HANDSHAKE: Final = 86_400.0  # seconds: so that the pool's own limit counts, and not the loop's of a minute


class _Room(threading.local):
    """Where a thread's connections are read into, one after the other: the parser copies what is body."""

    def __init__(self) -> None:
        self.large = memoryview(bytearray(POUR))
        self.small = self.large[:READ]


_room = _Room()


class Plain(Connection, asyncio.BufferedProtocol):
    """A connection without TLS."""

    def __init__(self, name: str, on_idle_loss: Callable[[Connection], None], outbox: Outbox) -> None:
        super().__init__(name, on_idle_loss, outbox)
        self._large, self._small = _room.large, _room.small
        self._room = self._small

    async def over(self, sock: socket.socket) -> None:
        """Take a connected socket."""
        await self._loop.create_connection(lambda: self, sock=sock)

    def get_buffer(self, sizehint: int) -> memoryview:
        self._room = self._large if self.is_poured else self._small
        return self._room

    def buffer_updated(self, size: int) -> None:
        self.received(self._room[:size], size == len(self._room))


class Encrypted(Connection, asyncio.Protocol):
    """A connection with TLS."""

    _is_early = False  # the server has sent something before it was asked, in one read with the handshake's end

    async def over(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """Take a connected socket. `host`: for SNI, and what the certificate must be for. Raises `OSError`."""
        source, _ = await self._loop.create_connection(asyncio.Protocol, sock=sock)
        try:
            check_open(source)  # a handshake would wait for what cannot come
            transport = await self._loop.start_tls(
                source, self, context, server_hostname=host, ssl_handshake_timeout=HANDSHAKE
            )
            await asyncio.sleep(0)  # uvloop hands on what came with the handshake's end in its next turn
            check_open(source)  # `connection_lost` has been called already
            if self._is_early:
                raise ConnectionResetError("the server answered before it was asked")
        except BaseException:  # also a cancellation: nobody else knows this transport
            source.abort()
            raise
        self.connection_made(cast("asyncio.Transport", transport))
        self._source = source

    def data_received(self, data: bytes) -> None:
        if self.lost:  # not made yet: see `over`
            self._is_early = True
            return
        self.received(data, len(data) >= POUR)


def check_open(source: asyncio.Transport) -> None:
    """Raises ConnectionResetError where the server has gone while nobody was listening."""
    if source.is_closing():
        raise ConnectionResetError("the server hung up at the TLS handshake")
