"""A connection above what the process has descriptors for: told to come again, and closed.

It costs a descriptor, too. So few are kept, each for a moment, and the oldest makes room for the newest.
"""

import asyncio
from typing import cast

import orjson

from proxy.account import new_id
from proxy.errors import Overloaded
from proxy.exchange import encode

PATIENCE = 1.0  # seconds until a client must have asked and read its answer

_TOLD = Overloaded("too many connections at once")
_BODY = orjson.dumps(_TOLD.body())


class Refusal(asyncio.Protocol):
    """Answers a client's first bytes with 503, reads on so that a reset does not overtake the answer, and closes.

    `all_of_them`: those that are open, in the order in which they came; at most `room` stay.
    """

    def __init__(self, all_of_them: "dict[Refusal, None]", room: int) -> None:
        self._all = all_of_them
        self._room = room
        self._is_told = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._all[self] = None
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self.end)
        if len(self._all) > self._room:
            next(iter(self._all)).end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._all.pop(self, None)

    def data_received(self, data: bytes) -> None:
        if not self._is_told:
            self._tell()
            self._transport.write_eof()

    def end(self) -> None:
        """Close now, with a word if none was said: a client that has not asked yet may still read it."""
        self._all.pop(self, None)
        if not self._is_told:
            self._tell()
        self._transport.close()

    def _tell(self) -> None:
        self._is_told = True
        if self._transport.is_closing():
            return
        lines = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(_BODY)).encode()),
            (b"x-request-id", new_id().encode()),
            (b"connection", b"close"),
            *_TOLD.headers(),
        ]
        self._transport.write(b"HTTP/1.1 503 Service Unavailable\r\n" + encode(lines) + b"\r\n" + _BODY)
