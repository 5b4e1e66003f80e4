"""One HTTP request and the writing of its answer: what the server protocol hands to the application.

Writes are synchronous: what is not sent yet lies in the outbox or the transport. `drain` waits while the client reads
slower than we write.
"""

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import PointsmanError

if TYPE_CHECKING:
    from proxy.server import Protocol

STATUS_LINES: Final = {s.value: b"HTTP/1.1 %d %s\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}

END: Final = 16 * 1024  # bytes of a large body's beginning and end that are kept

Headers = Iterable[tuple[bytes, bytes]]


def status_line(status: int) -> bytes:
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


def encode(headers: Headers) -> bytes:
    """Header lines, ready to send. The values must be ours or checked: nothing here looks for line ends."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


class Exchange:
    """A request that has come, and its answer while it goes."""

    __slots__ = (
        "_body_future",
        "_protocol",
        "body",
        "chunked",
        "complete",
        "disconnected",
        "expects_continue",
        "headers",
        "held",
        "is_begun",
        "keep_alive",
        "length",
        "method",
        "orphan",
        "path",
        "pieces",
        "received",
        "refused",
        "started",
        "status",
        "task",
        "watch",
    )

    def __init__(
        self,
        protocol: "Protocol",
        method: bytes,
        path: str,
        headers: dict[bytes, bytes],
        keep_alive: bool,
        chunked: bool = True,
    ) -> None:
        self._protocol = protocol
        self.method = method
        self.path = path
        self.headers = headers  # names in lower case; repeated ones joined by ", "
        self.body = b""  # of a large one, once it was read, only what tells it from others
        self.pieces: list[bytes] | None = None  # of a large one that has come
        self.keep_alive = keep_alive
        self.chunked = chunked  # the client knows chunks (HTTP/1.1); without them a stream ends with the connection
        self.expects_continue = False
        self.length = 0  # of the body, as its head says it; 0: none, or in chunks
        self.received = False  # the whole body has come
        self.refused: PointsmanError | None = None  # found while reading: too large, lying length
        self.started = False  # the status line is out
        self.complete = False  # the answer is out
        self.disconnected = False  # the client has gone
        self.status = 0  # sent to the client
        self.is_begun = False  # handed to the application, or queued for it
        self.task: asyncio.Task[None] | None = None
        self.orphan: asyncio.Task[Any] | None = None  # a call of a model that goes on although the client has gone
        self.held = 0  # bytes set aside for the body
        self.watch: Callable[[bytes], None] | None = (
            None  # for the pieces of a large body, from the first, as they come
        )
        self._body_future: asyncio.Future[None] | None = None

    async def read(self) -> list[bytes]:
        """Wait for the whole body, and take its pieces. Raises what was found wrong while it came (`refused`)."""
        if self.refused is not None:
            raise self.refused
        if not self.received:
            self._protocol.want_body(self)
            self._body_future = asyncio.get_running_loop().create_future()
            await self._body_future
            if self.refused is not None:
                raise self.refused
        pieces, self.pieces = self.pieces, None
        if pieces is None:
            return [self.body]
        self.body = b"%d:%b%b" % (sum(map(len, pieces)), pieces[0][:END], pieces[-1][-END:])
        return pieces

    def show(self, pieces: Iterable[bytes]) -> PointsmanError | None:
        """Let the application look at more of a large body. Returns why it wants no more, if so."""
        assert self.watch is not None
        try:
            for piece in pieces:
                self.watch(piece)
        except PointsmanError as refusal:
            return refusal.with_traceback(None)  # whose frames hold us, who are to hold it
        return None

    def body_ended(self) -> None:
        if self._body_future is not None and not self._body_future.done():
            self._body_future.set_result(None)

    def reply(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer. `headers` are encoded lines."""
        if self._begin(status):
            length = b"content-length: %d\r\n" % len(body)
            content = b"" if self.method == b"HEAD" else body
            self._protocol.send(b"".join((status_line(status), headers, self._hop(), length, b"\r\n", content)))
            self._finish()

    def start(self, status: int, headers: bytes) -> None:
        """Begin an answer whose parts are `write`n until `finish`."""
        if self._begin(status):
            framing = b"transfer-encoding: chunked\r\n\r\n" if self.chunked else b"\r\n"
            self._protocol.send(b"".join((status_line(status), headers, self._hop(), framing)))

    def write(self, data: bytes) -> None:
        if data and not self.complete and not self.disconnected:
            self._protocol.send(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def finish(self, data: bytes = b"") -> None:
        """End a started answer, with a last part if there is one."""
        if self.complete or self.disconnected:
            return
        if not self.chunked:
            self._protocol.send(data)
        else:
            self._protocol.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
        self._finish()

    def keep(self) -> None:
        """The answer is out, and what is left to do takes a while: it is not lost when the server stops meanwhile."""
        if self.task is not None:
            self._protocol.keep(self.task)

    def abort(self) -> None:
        """Break the connection off: the answer can be neither ended nor believed."""
        self._protocol.transport.abort()

    @property
    def is_congested(self) -> bool:
        return self._protocol.is_write_paused and not self.disconnected

    async def drain(self, patience: float) -> None:
        """Wait until the client has read enough, or has taken nothing for so many seconds and is let go."""
        await self._protocol.drain(patience)

    def _begin(self, status: int) -> bool:
        if self.started or self.disconnected:
            return False
        self.started = True
        self.status = status
        if not self.received:
            self.keep_alive = False  # what is left of its body will not be read, so no other request can follow it
        return True

    def _hop(self) -> bytes:
        close = b"" if self.keep_alive else b"connection: close\r\n"
        return self._protocol.date + close

    def _finish(self) -> None:
        self.complete = True
        self._protocol.answered(self)
